import torch

from modules.procedural.person import sample_person


def test_a_seed_is_always_the_same_person():
    one, two = sample_person(12), sample_person(12)
    assert torch.equal(one.identity, two.identity) and torch.equal(one.hair_points, two.hair_points)
    assert one.shade == two.shade and one.hair_style == two.hair_style


def test_identities_are_standard_normal():
    identity = torch.stack([person.identity for person in map(sample_person, range(60))])
    assert abs(identity.mean()) < 0.05 and 0.9 < identity.std() < 1.05


def test_people_differ():
    people = [sample_person(seed) for seed in range(30)]
    assert len({person.hair_style.name for person in people}) >= 6
    assert torch.stack([person.skin for person in people]).std(dim=0).min() > 0.08
    for person in people:
        for colour in (person.skin, person.lips, person.iris, person.hair, person.brows, person.clothes):
            assert colour.shape == (3,) and 0 <= colour.min() and colour.max() <= 1.05
