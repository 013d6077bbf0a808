"""The interface of all morphable models (modules/face_models.py names them): vertices, NCC colours, landmarks.

All models use 80 identity and 64 expression coefficients, decimetres, x to the right of a frontal picture, y
up, z towards the viewer; the origin is about the middle of the face's skin, 0.5 dm behind the tip of the nose
(docs/spec/face3d.md#1).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modules.face3d.coefficients import EXPRESSION_SIZE, IDENTITY_SIZE
from modules.face3d.fit_config import FitPrior
from modules.layers.precision import full_precision


@dataclass(frozen=True)
class LandmarkEmbedding:
    """L points on the mesh: point = sum of 3 weights times 3 vertices.

    Args:
        vertices: [L, 3] int64, 0-based.
        weights: [L, 3], sum 1.
        valid: [L] bool; False for landmarks that this mesh does not have (ignored in fits).
    """

    vertices: Tensor
    weights: Tensor
    valid: Tensor

    def __post_init__(self) -> None:
        if self.vertices.shape != self.weights.shape or self.vertices.shape[1:] != (3,):
            raise ValueError(
                f"vertices {tuple(self.vertices.shape)} and weights {tuple(self.weights.shape)} must both be [L, 3]"
            )

    @staticmethod
    def of_vertices(indices: Tensor) -> "LandmarkEmbedding":
        """Landmarks that are vertices: [L] 0-based; negative for a landmark that has no vertex."""
        indices = indices.long()
        vertices = indices.clamp(min=0)[:, None].repeat(1, 3)
        weights = torch.tensor([1.0, 0.0, 0.0]).repeat(len(indices), 1)
        return LandmarkEmbedding(vertices, weights, indices >= 0)


@dataclass(frozen=True, kw_only=True)
class FaceModelData:
    """The arrays of a morphable model, centred.

    Args:
        name: its name in the table of modules/face_models.py.
        mean: [V, 3] dm.
        identity_basis: [V, 3, 80] dm per unit of the coefficient.
        expression_basis: [V, 3, 64] dm per unit of the coefficient.
        triangles: [F, 3] int64, all of the mesh, counter-clockwise seen from outside.
        pncc_triangles: [F2, 3] int64, the skin of the face: no eyeballs, no hair, no teeth.
        landmarks: {number of points: their embedding in the mesh}, at least 68 and 468 or 478.
        fit_prior: how fits weigh its landmarks and coefficients.
        ncc: [V, 3] in [0, 1], or None to compute it from the mean shape.
        expression_names: names of the modes that mean something, in order; () if none does.
        expression_range: [64, 2] least and greatest sensible value of each expression coefficient, which fits
            keep to; None if coefficients are standard deviations without limits.
    """

    name: str
    mean: Tensor
    identity_basis: Tensor
    expression_basis: Tensor
    triangles: Tensor
    pncc_triangles: Tensor
    landmarks: dict[int, LandmarkEmbedding]
    fit_prior: FitPrior
    ncc: Tensor | None = None
    expression_names: tuple[str, ...] = ()
    expression_range: Tensor | None = None

    def __post_init__(self) -> None:
        count = self.mean.shape[0]
        expected = {
            "mean": (count, 3),
            "identity_basis": (count, 3, IDENTITY_SIZE),
            "expression_basis": (count, 3, EXPRESSION_SIZE),
        }
        for name, shape in expected.items():
            actual = tuple(getattr(self, name).shape)
            if actual != shape:
                raise ValueError(f"{name} has shape {actual}; expected {shape}")
        for name in ("triangles", "pncc_triangles"):
            array = getattr(self, name)
            if array.numel() and not 0 <= int(array.min()) <= int(array.max()) < count:
                raise ValueError(f"{name} names vertices {int(array.min())}..{int(array.max())} of {count}")


class Skin(nn.Module):
    """The vertices of a face model that PNCCs show, a third of them or all: V2 of V.

    See `MorphableModel` for what the buffers are; nothing of them is saved.
    """

    mean: Tensor  # [V2, 3]
    identity_basis: Tensor  # [V2, 3, 80]
    expression_basis: Tensor  # [V2, 3, 64]
    ncc: Tensor  # [V2, 3]
    triangles: Tensor  # [F2, 3], rows of these

    def __init__(self, data: FaceModelData, ncc: Tensor) -> None:
        super().__init__()
        used, triangles = torch.unique(data.pncc_triangles.long(), return_inverse=True)
        parts = {"mean": data.mean, "identity_basis": data.identity_basis, "expression_basis": data.expression_basis}
        for name, values in {**parts, "ncc": ncc}.items():
            self.register_buffer(name, values.float()[used], persistent=False)
        self.register_buffer("triangles", triangles, persistent=False)

    def vertices(self, identity: Tensor, expression: Tensor) -> Tensor:
        """As `MorphableModel.vertices`, [B, V2, 3] dm."""
        return _moved(self.mean, self.identity_basis, self.expression_basis, identity, expression)


@full_precision()
def _moved(
    mean: Tensor, identity_basis: Tensor, expression_basis: Tensor, identity: Tensor, expression: Tensor
) -> Tensor:
    """Vertices [B, V, 3] of bases [V, 3, K] and coefficients [B or 1, K]."""
    of_identity = identity @ identity_basis.flatten(0, 1).T.to(identity.dtype)  # [B, 3V]
    of_expression = expression @ expression_basis.flatten(0, 1).T.to(expression.dtype)
    return (of_identity + of_expression).unflatten(1, (-1, 3)) + mean


class MorphableModel(nn.Module):
    """A mesh that is linear in its coefficients: S = mean + identity_basis identity + expression_basis expression.

    See docs/spec/face3d.md#1-2.
    """

    mean: Tensor  # [V, 3] dm
    identity_basis: Tensor  # [V, 3, 80] dm per unit of the coefficient
    expression_basis: Tensor  # [V, 3, 64] dm per unit of the coefficient
    triangles: Tensor  # [F, 3]
    pncc_triangles: Tensor  # [F2, 3]
    ncc: Tensor  # [V, 3] in [0, 1]
    expression_range: Tensor  # [64, 2]

    def __init__(self, data: FaceModelData) -> None:
        super().__init__()
        self.name = data.name
        self.expression_names = data.expression_names
        self.fit_prior = data.fit_prior
        self.counts = tuple(sorted(data.landmarks))
        self.register_buffer("mean", data.mean.float())
        self.register_buffer("identity_basis", data.identity_basis.float().contiguous())
        self.register_buffer("expression_basis", data.expression_basis.float().contiguous())
        self.register_buffer("triangles", data.triangles.long())
        self.register_buffer("pncc_triangles", data.pncc_triangles.long())
        ncc = normalised_coordinates(self.mean, data.pncc_triangles) if data.ncc is None else data.ncc.float()
        self.register_buffer("ncc", ncc)
        self.skin = Skin(data, ncc)
        unlimited = torch.tensor([-torch.inf, torch.inf]).repeat(EXPRESSION_SIZE, 1)
        limits = unlimited if data.expression_range is None else data.expression_range.float()
        self.register_buffer("expression_range", limits)
        for count, embedding in data.landmarks.items():
            self.register_buffer(f"landmark_vertices_{count}", embedding.vertices.long())
            self.register_buffer(f"landmark_weights_{count}", embedding.weights.float())
            self.register_buffer(f"landmark_valid_{count}", embedding.valid)

    @property
    def blink_modes(self) -> list[int]:
        """Indices of the expression modes that close the eyes; [] if the model has none of its own."""
        return [i for i, name in enumerate(self.expression_names) if "blink" in name.lower()]

    def vertices(self, identity: Tensor, expression: Tensor) -> Tensor:
        """Vertices without pose.

        Args:
            identity: [B, 80] (1 row broadcasts).
            expression: [B, 64].
        Returns:
            [B, V, 3] dm.
        """
        return _moved(self.mean, self.identity_basis, self.expression_basis, identity, expression)

    def embedding(self, count: int) -> LandmarkEmbedding:
        """The first `count` points of the smallest stored set that has as many; ValueError if there is none."""
        stored = next((c for c in self.counts if c >= count and (count == 68) == (c == 68)), None)
        if stored is None:
            raise ValueError(f"the {self.name} face model has {self.counts} landmarks, not {count}")
        names = (f"landmark_{part}_{stored}" for part in ("vertices", "weights", "valid"))
        return LandmarkEmbedding(*(getattr(self, name)[:count] for name in names))

    @full_precision()
    def landmark_basis(self, count: int = 68) -> tuple[Tensor, Tensor, Tensor]:
        """The model at its first L = `count` landmarks: mean [L, 3], identity [L, 3, 80], expression [L, 3, 64], dm."""
        where = self.embedding(count)
        tables = (self.mean, self.identity_basis, self.expression_basis)
        return tuple(torch.einsum("lk,lk...->l...", where.weights, table[where.vertices]) for table in tables)

    @full_precision()
    def landmarks(self, identity: Tensor, expression: Tensor, count: int = 68) -> Tensor:
        """Landmarks without pose: identity [B, 80] (or 1 row), expression [B, 64] -> [B, count, 3] dm."""
        mean, identity_basis, expression_basis = self.landmark_basis(count)
        return (
            mean
            + torch.einsum("bk,lck->blc", identity, identity_basis)
            + torch.einsum("bk,lck->blc", expression, expression_basis)
        )


def normalised_coordinates(mean: Tensor, triangles: Tensor) -> Tensor:
    """NCC colours: the mean shape scaled to [0, 1] per axis over the vertices of `triangles`.

    See docs/spec/face3d.md#3-1.

    Args:
        mean: [V, 3], any unit of length.
        triangles: [F, 3] int64.
    Returns:
        [V, 3] in [0, 1]; vertices outside `triangles` are clamped.
    """
    used = mean[triangles.unique()] if triangles.numel() else mean
    low, high = used.amin(dim=0), used.amax(dim=0)
    return ((mean - low) / (high - low)).clamp(0, 1)
