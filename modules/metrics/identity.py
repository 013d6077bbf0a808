"""Identity metrics from the vectors of a face-recognition network."""

import torch.nn.functional as F
from torch import Tensor


def csim(made: Tensor, reference: Tensor) -> Tensor:
    """Cosine similarity of identity: cos(v(made), v(reference)), frame by frame.

    From -1 to 1, higher is better. The usual v is of ArcFace on 112 x 112 crops aligned by 5 points
    (`networks.load("csim_arcface")`); with another network (`csim_dlib`) it is another number, to be named so.

    Args:
        made: [T, D].
        reference: [D] or [1, D] of the source photo, or [T, D] of the true frames.
    Returns:
        [T]; NaN where a vector is NaN.
    """
    return F.cosine_similarity(made.float(), reference.float(), dim=-1)


def identity_drift(vectors: Tensor) -> float:
    """How far a person turns into another one over a video: 1 - cos(mean v of its first, of its last quarter).

    From 0 to 2, lower is better; short of 0 only by noise of single frames, which the means take out.

    Args:
        vectors: [T, D] in the order of time, T at least 2; NaN rows do not count.
    """
    vectors = F.normalize(vectors[vectors.isfinite().all(dim=1)].float(), dim=1)
    quarter = max(len(vectors) // 4, 1)
    if len(vectors) < 2:
        return float("nan")
    return float(1 - F.cosine_similarity(vectors[:quarter].mean(dim=0), vectors[-quarter:].mean(dim=0), dim=0))
