import pytest
import torch

from modules.losses.perceptual import VGG19_FILE, PerceptualLoss, PerceptualLossConfig, VGGFeaturesConfig
from modules.system.errors import UserError


@pytest.fixture
def loss():
    torch.manual_seed(0)
    small = {"widths": (4, 4, 4, 4, 4)}
    return PerceptualLoss(
        PerceptualLossConfig(
            size=128, vgg19=VGGFeaturesConfig(**small), vggface=VGGFeaturesConfig(convolutions=(2, 2, 3, 3, 3), **small)
        )
    )


def test_equal_pictures_have_no_loss_and_different_ones_have(loss, generator):
    picture = torch.rand(1, 3, 64, 64, generator=generator)
    assert loss(picture, picture) == 0 < loss(picture, 1 - picture)


def test_gradients_reach_the_prediction_only(loss, generator):
    prediction, target = (torch.rand(1, 3, 64, 64, generator=generator, requires_grad=True) for _ in range(2))
    loss(prediction, target).backward()
    assert prediction.grad.abs().sum() > 0 and target.grad is None
    assert not any(p.requires_grad for p in loss.parameters())


def test_thirteen_terms(loss):
    assert loss.terms(torch.zeros(1, 3, 128, 128), torch.ones(1, 3, 128, 128)).shape == (13,)


def test_missing_weights_are_explained(tmp_path, monkeypatch):
    monkeypatch.setenv("REAL3D_ASSETS", str(tmp_path))
    with pytest.raises(UserError, match="vgg19"):
        PerceptualLoss.from_assets()


def test_damaged_weights_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("REAL3D_ASSETS", str(tmp_path))
    (tmp_path / VGG19_FILE).write_bytes(b"PK\3\4 not a whole archive")
    with pytest.raises(UserError, match=f"{VGG19_FILE} cannot be read as weights .*; get it again"):
        PerceptualLoss.from_assets()


def test_a_size_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="100"):
        PerceptualLossConfig(size=100)


def test_the_loss_is_a_mean_over_the_batch(loss, generator):
    prediction, target = (torch.rand(2, 3, 128, 128, generator=generator) for _ in range(2))
    terms = [loss.terms(a[None], b[None]) for a, b in zip(prediction, target)]
    torch.testing.assert_close(loss.terms(prediction, target), (terms[0] + terms[1]) / 2)
    torch.testing.assert_close(
        loss.terms(prediction.repeat(2, 1, 1, 1), target.repeat(2, 1, 1, 1)), loss.terms(prediction, target)
    )


def test_a_term_that_is_not_a_number_counts_nothing(loss):
    terms = torch.ones(13)
    whole = loss.combine(terms)
    terms[-1] = torch.nan
    assert loss.combine(terms) == loss.combine(terms.nan_to_num(0.0)) < whole
