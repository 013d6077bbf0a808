"""The table of a stage's losses: each loss is declared once, with the inputs that it reads.

A stage names the inputs that it has. The weight of a loss that reads another input is refused when the config is read,
so that no weight is ignored (docs/extending.md says how to add a loss).
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from modules.clips.fields import FIELDS
from modules.system.config import nearest
from tasks.engine.task import StepState

Weights = dict[str, float]  # name of a loss -> weight; losses that are not named have 0
Inputs = Mapping[str, Callable[[], Any]]  # name of an input -> function that computes it if needed


@dataclass(frozen=True)
class Term:
    """One loss.

    Attributes:
        function: takes the inputs in their order and returns a scalar.
        inputs: names of the inputs.
    """

    function: Callable[..., Tensor]
    inputs: tuple[str, ...]

    @property
    def meaning(self) -> str:
        """The first line of the function's docstring."""
        function = getattr(self.function, "func", self.function)  # of a partial
        return (function.__doc__ or "").strip().partition("\n")[0]


@dataclass(frozen=True)
class Input:
    """What an input of the losses is; a table of them says which inputs a stage has.

    Attributes:
        shape: of the tensor, `[B, 3, S, S]` with S pixels a side of a picture and R of a raw render; empty: no tensor.
        values: of its numbers: `bool`, `int64`, or their range, `in [0, 1]`; empty: any.
        meaning: in a line.
    """

    shape: str
    values: str
    meaning: str

    def __str__(self) -> str:
        numbers = " ".join(filter(None, (self.shape, self.values)))
        return f"{numbers}: {self.meaning}" if numbers else self.meaning


PICTURE_SHAPE, RAW_SHAPE = "[B, 3, S, S]", "[B, 3, R, R]"  # shapes that many inputs have
NEAR_PICTURES = "near [-1, 1]"  # of networks, which no limit holds
LIP_BOXES = Input("[B, 4]", "int64", "x0, x1, y0, y1 of a square around the lips of `target`, pixels, ends exclusive")
NETWORK = Input("", "", "the perceptual loss of images, targets, each [B, 3, H, W] in [0, 1]; needs its weight files")
Terms = Mapping[str, Term]


def check_weights(
    weights: Mapping[str, float],
    terms: Terms,
    available: Collection[str],
    others: Collection[str] = (),
    fields: Collection[str] | None = None,
) -> None:
    """Refuse weights that would have no effect.

    Args:
        weights: the group `loss` of a config.
        terms: the stage's table.
        available: inputs that the stage has as it is configured.
        others: losses that the stage computes outside the table.
        fields: those of the clips that `data.fields` names, which are inputs too; None: the stage reads no clips.
    Raises:
        ValueError: there is no weight, or one is unknown, negative, or of a loss that lacks an input; it is named.
    """
    if not any(weights.values()):
        raise ValueError("no loss has a weight; the paper's weights are in the YAML of the full stage")
    possible = {name for name, term in terms.items() if {*available, *FIELDS}.issuperset(term.inputs)}
    for name, weight in weights.items():
        if name not in terms and name not in others:
            choices = nearest(name, {*possible, *others})
            raise ValueError(f"loss.{name} is no loss of this stage{choices} (to add one: docs/extending.md#a-loss)")
        if weight < 0:
            raise ValueError(f"loss.{name} is {weight}; a weight is at least 0")
        given = (*available, *(fields or ()))
        missing = [i for i in terms[name].inputs if i not in given] if name in terms else []
        if weight > 0 and missing:
            raise ValueError(f"loss.{name} is {weight}, but needs {', '.join(missing)}, {_advice(missing, fields)}")


def _advice(missing: Collection[str], fields: Collection[str] | None) -> str:
    if fields is not None and set(missing) <= FIELDS.keys():
        return f"read from the clips; add data.fields=[{','.join((*fields, *missing))}]"
    return "which this stage does not have as it is configured; set it to 0"


def reads(name: str, weights: Mapping[str, float], terms: Terms) -> bool:
    """Whether a loss with a weight above 0 reads the input `name`."""
    return any(weight > 0 and key in terms and name in terms[key].inputs for key, weight in weights.items())


def weighted_terms(
    terms: Terms, weights: Mapping[str, float], inputs: Inputs, state: StepState, prefix: str = ""
) -> dict[str, Tensor]:
    """Weight times loss of every term whose weight is above 0; each input is computed once.

    Args:
        state: logs the losses without their weights too.
        prefix: of their names in the log.
    """
    computed: dict[str, Any] = {}

    def value(name: str) -> Any:
        if name not in computed:
            computed[name] = inputs[name]()
        return computed[name]

    losses: dict[str, Tensor] = {}
    for name, term in terms.items():
        if weights.get(name, 0.0) > 0:
            losses |= state.weigh(f"{prefix}{name}", weights[name], term.function(*map(value, term.inputs)))
    return losses
