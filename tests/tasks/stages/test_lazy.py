from tasks.stages.lazy import is_due, lazy_weight


def test_a_lazy_term_comes_at_the_end_of_each_interval():
    assert [step for step in range(12) if is_due(step, 4)] == [3, 7, 11]
    assert all(is_due(step, 1) for step in range(3))


def test_a_compensated_term_counts_as_if_it_were_computed_in_every_step():
    steps = range(40)
    assert sum(lazy_weight(0.25, 4, compensated=True) for step in steps if is_due(step, 4)) == 0.25 * len(steps)
    assert lazy_weight(0.25, 4, compensated=False) == 0.25
