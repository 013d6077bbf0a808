"""Lazy regularisation: loss terms that are computed every few steps only, because they are dear."""


def is_due(step: int, every: int) -> bool:
    """Whether a term of every `every`-th step is computed at `step`, counted from 0."""
    return (step + 1) % every == 0


def lazy_weight(weight: float, every: int, compensated: bool) -> float:
    """Weight of a term in the steps in which it is computed.

    A compensated weight is multiplied by the interval, so that the term counts as much as if it were computed in every
    step. Stage 2 does this for its density and its Laplacian, and the discriminator for R1; stage 1 does not do it for
    its density (docs/spec/training.md#1-2 and #1-3: "every 4, not multiplied by 4" and "0.25 · 4").
    """
    return weight * every if compensated else weight
