import pytest
import torch

from modules.metrics.perceptual import PerceptualDistance

lpips = pytest.importorskip("lpips", reason="pip install -r requirements-metrics.txt")


@pytest.fixture(scope="module")
def distance() -> PerceptualDistance:
    torch.manual_seed(0)
    return PerceptualDistance(lpips, "alex")


@pytest.fixture
def pictures(generator: torch.Generator) -> torch.Tensor:
    return torch.rand(2, 3, 64, 64, generator=generator)


def test_equal_pictures_have_no_distance_and_each_pair_has_its_own(distance, pictures):
    made = pictures.clone()
    made[1] = 1 - made[1]
    same, other = distance(made, pictures).tolist()
    assert same == pytest.approx(0, abs=1e-7) and other > 1e-3
    torch.testing.assert_close(distance(made[1:], pictures[1:])[0], distance(made, pictures)[1])


def test_it_is_the_packages_own_number_over_the_same_trunk(distance, pictures):
    plain = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    plain.load_state_dict(distance.network.state_dict())
    made = pictures.flip(3)
    expected = plain(2 * made - 1, 2 * pictures - 1).flatten()
    torch.testing.assert_close(distance(made, pictures), expected, rtol=0.05, atol=1e-4)  # enlarged maps, then the mean


def test_a_mask_keeps_out_what_is_far_from_it(distance, generator):
    truth = torch.rand(1, 3, 256, 256, generator=generator)
    made = truth.clone()
    made[..., 224:] = 0
    left, right = torch.zeros(2, 1, 1, 256, 256)
    left[..., :32], right[..., 224:] = 1, 1
    near, far = float(distance(made, truth, right)), float(distance(made, truth, left))
    assert far < 0.05 * near and near > float(distance(made, truth))


def test_a_trunk_of_torchvision_is_loaded_and_another_one_named(distance):
    models = pytest.importorskip("torchvision.models")
    state = models.alexnet().state_dict()
    fresh = PerceptualDistance(lpips, "alex")
    assert fresh.load_trunk(state) == ""
    assert torch.equal(fresh.network.net.state_dict()["slice3.6.weight"], state["features.6.weight"])
    wrong = {**state, "features.6.weight": torch.zeros(3)}
    assert "shape of slice3.6.weight [3]" in fresh.load_trunk(wrong)
    assert "missing" in fresh.load_trunk({})
