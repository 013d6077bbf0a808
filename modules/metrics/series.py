"""What is measured of a video frame by frame, before any metric: landmarks, fitted coefficients, identity, openings.

A metric of motion, lips or identity is a function of one or two such series; who makes them (detector, fit, recognition
network) is the caller's to say in the table, for AED of one fit and AED of another are different numbers.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from modules.face3d.coefficients import EXPRESSION_SIZE, IDENTITY_SIZE, FaceCoefficients
from modules.face3d.landmark_sets import EYE_CORNERS, INNER_LIP_MIDDLES, LID_MIDDLES, MOUTH_CORNERS

_LANDMARKS = 478  # of MediaPipe


@dataclass(frozen=True, kw_only=True)
class ClipSeries:
    """Facts of the T frames of one video, 25 a second. A frame without a face is NaN in all but `faces`.

    Args:
        landmarks: [T, 478, 2] float32 MediaPipe points in pixels of the S x S picture, x right, y down.
        faces: [T] int64, faces that the detector found.
        expression: [T, 64], fitted with one face model; `euler` [T, 3] radians and `translation` [T, 3] dm too.
        identity: [80] of the same fit.
        identity_vectors: [T', D] of a face-recognition network for the frames it was asked about; None without one.
        mouth_opening: [T] gap of the inner lips over the distance of the outer eye corners.
        mouth_width: [T] distance of the mouth corners over the same.
        eye_opening: [T, 2] gap of the lids over the same; the eye at the left of the picture first.
        size: S, pixels.
    """

    landmarks: Tensor
    faces: Tensor
    expression: Tensor
    euler: Tensor
    translation: Tensor
    identity: Tensor
    identity_vectors: Tensor | None = None
    mouth_opening: Tensor
    mouth_width: Tensor
    eye_opening: Tensor
    size: int

    def __post_init__(self) -> None:
        frames = len(self.landmarks)
        shapes = {
            "landmarks": (frames, _LANDMARKS, 2),
            "faces": (frames,),
            "expression": (frames, EXPRESSION_SIZE),
            "euler": (frames, 3),
            "translation": (frames, 3),
            "identity": (IDENTITY_SIZE,),
            "mouth_opening": (frames,),
            "mouth_width": (frames,),
            "eye_opening": (frames, 2),
        }
        for name, shape in shapes.items():
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(f"{name} has shape {tuple(getattr(self, name).shape)}; expected {list(shape)}")
        if self.identity_vectors is not None and self.identity_vectors.ndim != 2:
            raise ValueError(f"identity_vectors have shape {tuple(self.identity_vectors.shape)}; expected [T', D]")

    def __len__(self) -> int:
        return len(self.landmarks)

    @property
    def seen(self) -> Tensor:
        """[T] bool: frames with landmarks."""
        return self.landmarks.isfinite().flatten(1).all(dim=1)

    def __getitem__(self, part: slice) -> "ClipSeries":
        """Some of the frames; identity and its vectors stay as they are."""
        whole = ("identity", "identity_vectors", "size")
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return ClipSeries(**{name: value if name in whole else value[part] for name, value in values.items()})

    @staticmethod
    def of(
        landmarks: Tensor,
        size: int,
        face: FaceCoefficients,
        faces: Tensor | None = None,
        identity_vectors: Tensor | None = None,
    ) -> "ClipSeries":
        """A series from landmarks and a fit; the openings are computed here.

        Args:
            landmarks: [T, 478, 2] pixels, NaN rows where there is no face.
            size: S, pixels.
            face: T rows, or one row for every frame with a face (a fit takes no others).
            faces: [T]; default: 1 where there are landmarks.
            identity_vectors: [T', D].
        """
        seen = landmarks.isfinite().flatten(1).all(dim=1)
        if len(face) not in (len(seen), int(seen.sum())):
            raise ValueError(f"the fit has {len(face)} rows for {int(seen.sum())} faces in {len(seen)} frames")
        landmarks = torch.where(seen[:, None, None], landmarks.float(), torch.nan)

        def every_frame(values: Tensor) -> Tensor:
            rows = values[seen] if len(values) == len(seen) else values
            whole = torch.full((len(seen), values.shape[1]), torch.nan)
            whole[seen] = rows.detach().cpu().float()
            return whole

        return ClipSeries(
            landmarks=landmarks,
            faces=seen.long() if faces is None else faces,
            expression=every_frame(face.expression),
            euler=every_frame(face.euler),
            translation=every_frame(face.translation),
            identity=face.identity[0].detach().cpu().float(),
            identity_vectors=identity_vectors,
            mouth_opening=mouth_opening(landmarks),
            mouth_width=mouth_width(landmarks),
            eye_opening=eye_opening(landmarks),
            size=size,
        )


def mouth_width(landmarks: Tensor) -> Tensor:
    """Distance of the mouth corners over that of the outer eye corners; [..., 478, 2] -> [...]."""
    return distance(landmarks, MOUTH_CORNERS) / distance(landmarks, EYE_CORNERS)


def eye_opening(landmarks: Tensor) -> Tensor:
    """Gap of the lids over the distance of the outer eye corners, about 0.12 open; [..., 478, 2] -> [..., 2]."""
    gaps = torch.stack([distance(landmarks, pair) for pair in LID_MIDDLES], dim=-1)
    return gaps / distance(landmarks, EYE_CORNERS)[..., None]


def mouth_opening(landmarks: Tensor) -> Tensor:
    """Distance of the inner lips over the distance of the outer eye corners: 0 closed, about 0.7 wide open.

    Args:
        landmarks: [..., 478, 2 or more], in any unit that is the same along x and y.
    Returns:
        [...]; NaN where the landmarks are NaN.
    """
    return distance(landmarks, INNER_LIP_MIDDLES) / distance(landmarks, EYE_CORNERS)


def distance(landmarks: Tensor, pair: tuple[int, int]) -> Tensor:
    """[..., L, C] -> Euclidean distance of two of the landmarks [...]."""
    return torch.linalg.vector_norm(landmarks[..., pair[0], :] - landmarks[..., pair[1], :], dim=-1)
