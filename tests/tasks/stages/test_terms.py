import pytest
import torch

from tasks.engine.task import StepState
from tasks.stages.terms import Term, check_weights, reads, weighted_terms

TERMS = {
    "near": Term(lambda a, b: (a - b).abs().mean(), ("image", "target")),
    "small": Term(lambda a: a.square().mean(), ("image",)),
    "lips": Term(lambda a: a.sum(), ("lip_boxes",)),
}


def test_only_terms_with_a_weight_are_computed_and_inputs_are_computed_once() -> None:
    computed: list[str] = []

    def compute(name: str, value: float) -> torch.Tensor:
        computed.append(name)
        return torch.tensor([value])

    inputs = {
        "image": lambda: compute("image", 3.0),
        "target": lambda: compute("target", 1.0),
        "lip_boxes": lambda: compute("lip_boxes", 0.0),
    }
    state = StepState(progress=0.0, generator=torch.Generator())
    losses = weighted_terms(TERMS, {"near": 0.5, "small": 2.0, "lips": 0.0}, inputs, state, prefix="source_")
    assert {name: float(value) for name, value in losses.items()} == {"source_near": 1.0, "source_small": 18.0}
    assert {name: float(value) for name, value in state.unweighted.items()} == {"source_near": 2.0, "source_small": 9.0}
    assert computed == ["image", "target"]


@pytest.mark.parametrize(
    "weights, words",
    [
        ({"neer": 1.0}, "loss.neer is no loss of this stage; did you mean near"),
        ({"near": -0.1}, "loss.near is -0.1"),
        ({"lips": 5.0}, "loss.lips is 5.0, but needs lip_boxes, which this stage does not have"),
    ],
)
def test_weights_that_would_do_nothing_are_refused_by_name(weights: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_weights(weights, TERMS, ("image", "target"))


def test_a_field_of_the_clips_that_is_not_loaded_is_asked_for() -> None:
    terms = {"light": Term(lambda a, b: a, ("image", "brightness"))}
    check_weights({"light": 1.0}, terms, ("image",), fields=("brightness",))
    with pytest.raises(ValueError, match=r"loss.light is 1.0, but needs brightness, read from the clips; add data.f"):
        check_weights({"light": 1.0}, terms, ("image",), fields=())
    with pytest.raises(ValueError, match=r"add data.fields=\[mouth_opening,brightness\]$"):
        check_weights({"light": 1.0}, terms, ("image",), fields=("mouth_opening",))
    with pytest.raises(ValueError, match="needs brightness, which this stage does not have"):
        check_weights({"light": 1.0}, terms, ("image",))  # a stage without clips


def test_a_weight_of_zero_and_losses_outside_the_table_are_fine() -> None:
    check_weights({"lips": 0.0, "near": 1.0, "adversarial": 0.1}, TERMS, ("image", "target"), ("adversarial",))


def test_a_network_is_needed_where_a_weighted_term_reads_it() -> None:
    assert reads("target", {"near": 0.1}, TERMS) and not reads("target", {"near": 0.0, "small": 1.0}, TERMS)
    assert not reads("target", {"adversarial": 1.0}, TERMS)
