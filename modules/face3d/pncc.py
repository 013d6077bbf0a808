"""PNCC: a face in the canonical pose, coloured by its coordinates on the mean shape (paper, motion adapter).

See docs/spec/face3d.md#3.
"""

from torch import Tensor

from modules.face3d.coefficients import camera_points
from modules.face3d.morphable_model import MorphableModel
from modules.face3d.rasterizer import interpolate, rasterize
from modules.layers.precision import full_precision


def render_pncc(model: MorphableModel, identity: Tensor, expression: Tensor, size: int) -> Tensor:
    """Draw faces without pose: head movement reaches the portrait through the camera alone.

    Args:
        model: on the device of the coefficients.
        identity: [B, 80] or [1, 80].
        expression: [B, 64]; zeros give the canonical PNCC.
        size: pixels a side.
    Returns:
        [B, 3, size, size] float32 in [-1, 1]; -1 where no skin is (background, eye holes, open mouth).
    """
    skin = model.skin
    return render_coordinates(camera_points(skin.vertices(identity, expression)), skin.triangles, skin.ncc, size)


@full_precision()
def render_coordinates(points: Tensor, triangles: Tensor, ncc: Tensor, size: int) -> Tensor:
    """Draw the coordinates on the mean shape for a face in any pose.

    Args:
        points: [B, V, 3] vertices (x', y', depth) in dm, as `camera_points` makes them.
        triangles: [F, 3], the skin.
        ncc: [V, 3] in [0, 1], the coordinates.
        size: pixels a side.
    Returns:
        [B, 3, size, size] float32 in [-1, 1]; -1 where no skin is.
    """
    return 2 * interpolate(rasterize(points, triangles, size), ncc, triangles) - 1
