import pytest
import torch
from torch.testing import assert_close

from modules.geometry.camera import pose_camera
from modules.portrait.discriminator import DualDiscriminatorConfig, DualView
from tasks.engine.task import StepState
from tasks.stages.adversary import Adversary, AdversaryConfig


@pytest.fixture
def adversary():
    torch.manual_seed(0)
    return Adversary(
        AdversaryConfig(
            discriminator=DualDiscriminatorConfig(resolution=32, base_channels=256, max_channels=8, mapping_layers=1)
        )
    )


@pytest.fixture
def view(generator):
    camera = pose_camera(0.3 * torch.randn(2, 3, generator=generator), torch.zeros(2, 3))
    return DualView(torch.rand(2, 3, 32, 32, generator=generator), torch.rand(2, 3, 8, 8, generator=generator), camera)


@pytest.fixture
def state(generator):
    return StepState(progress=0.0, generator=generator)


def test_the_penalty_comes_every_sixteen_steps(adversary, view, state):
    with_penalty = [
        s for s in range(32) if "gradient_penalty_0" in adversary.discriminator_losses([view], [view], s, state)
    ]
    assert with_penalty == [15, 31]


def test_the_discriminator_learns_to_tell_two_pictures_apart(adversary, view, state):
    fake = DualView(-view.image, -view.image_raw, view.camera)
    optimizer = torch.optim.Adam(adversary.parameters(), lr=1e-2)
    losses = []
    for step in range(12):
        total = sum(adversary.discriminator_losses([fake], [view], step, state).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(float(total.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_the_generator_gets_gradients_and_the_discriminators_losses_give_none(adversary, view, state):
    image = view.image.clone().requires_grad_()
    own = DualView(image, view.image_raw, view.camera)
    (gradient,) = torch.autograd.grad(adversary.generator_loss(own, state.generator), image)
    assert gradient.abs().sum() > 0
    sum(adversary.discriminator_losses([own], [], 0, state).values()).backward()
    assert image.grad is None


def penalty(adversary, view, automatic):
    """Losses and gradients of a pass over a real view with its penalty, under autocast or not."""
    adversary.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=automatic):
        state = StepState(progress=0.0, generator=torch.Generator().manual_seed(0))
        terms = adversary.discriminator_losses([], [view], 15, state)
    sum(terms.values()).backward()
    return terms, {name: part.grad for name, part in adversary.named_parameters() if part.grad is not None}


def test_the_penalty_is_float32_under_autocast(adversary, view, monkeypatch):
    types = set()
    convolve = torch.nn.functional.conv2d

    def watched(x, weight, *rest, **named):
        result = convolve(x, weight, *rest, **named)
        types.add(result.dtype)
        return result

    monkeypatch.setattr(torch.nn.functional, "conv2d", watched)
    (exact, gradients), (automatic, under_autocast) = (penalty(adversary, view, on) for on in (False, True))
    assert types == {torch.float32}
    assert automatic.keys() == {"real_0", "gradient_penalty_0"}
    for name, value in exact.items():
        assert_close(automatic[name], value, rtol=1e-5, atol=0)
    for name, gradient in gradients.items():
        assert_close(under_autocast[name], gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max()))


def test_half_precision_pictures_are_penalised_in_float32(adversary, view):
    half = DualView(view.image.bfloat16(), view.image_raw.bfloat16(), view.camera)
    rounded = DualView(half.image.float(), half.image_raw.float(), view.camera)
    assert_close(penalty(adversary, half, True)[0], penalty(adversary, rounded, False)[0], rtol=1e-5, atol=0)
