"""Settings of a fit of a face model: weights of the landmarks, priors and smoothness, for a photo and for a clip."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Weights of the objective. The defaults are the released system's for a photo.

    Later landmark weights win: all points 1, oval, eyes, upper lids, lips; points that the mesh does not have 0.
    """

    oval: float = 1.0  # weight of the 36 points of the face oval, which follow the contour
    eyes: float = 5.0
    upper_lids: float = 5.0
    lips: float = 2.0
    identity_prior: float = 0.3  # times the mean of the squared coefficients
    expression_prior: float = 0.05
    expression_smoothness: float = 0.0  # times the Laplacian term of the expression
    pose_smoothness: float = 0.0  # times the Laplacian terms of euler and of translation
    range_penalty: float = 0.0  # times the sum of squared excess over the model's expression range
    iterations: int = 50  # at most; a photo needs about 5
    tolerance: float = 1e-5  # relative decrease of the objective at which a fit ends

    def __post_init__(self) -> None:
        for name in (
            "oval",
            "eyes",
            "upper_lids",
            "lips",
            "identity_prior",
            "expression_prior",
            "expression_smoothness",
            "pose_smoothness",
            "range_penalty",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")
        if self.iterations < 1:
            raise ValueError(f"iterations is {self.iterations}; at least 1 is needed")


@dataclass(frozen=True)
class FitPrior:
    """How a face model is fitted to one picture and to a clip of one person."""

    photo: FitConfig
    clip: FitConfig


# For models whose expressions are named actions from 0 to 1.
# fmt: off
NAMED_ACTIONS = FitPrior(
    photo=FitConfig(oval=0.1, lips=3.0, expression_prior=0.5, range_penalty=1.0),
    clip=FitConfig(oval=0.1, eyes=3.0, upper_lids=10.0, lips=5.0, expression_prior=0.5, expression_smoothness=2.0,
                   pose_smoothness=0.3, range_penalty=1.0))
# fmt: on
