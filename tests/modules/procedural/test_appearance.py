from modules.procedural import appearance


def test_a_person_can_be_drawn_with_these_names_alone():
    assert isinstance(appearance.sample_person(3), appearance.Person)
    assert appearance.render.__annotations__["return"] is appearance.Rendering
    assert len(appearance.sample_people([1, 2])) == 2 and appearance.FIRST_HELD_OUT_SEED > 100_000
