"""The original's PNCC pictures, its rasteriser, and its eyes that close.

See docs/spec/face3d.md#10 and docs/spec/audio2motion.md#12.
"""

import math

import numpy as np
import torch
from torch import Tensor

from modules.face3d.blink import blink_curve, close_eyes
from modules.face3d.coefficients import FaceCoefficients, camera_points, pose_points
from modules.face3d.morphable_model import MorphableModel
from modules.face3d.pncc import render_coordinates
from modules.face3d.rasterizer import Fragments, interpolate, rasterize
from modules.geometry.camera import FITTING_FOCAL_LENGTH
from tests.golden.face3d import EXACT, coefficients, model_beside
from tests.golden.file import Golden, checks

COLOURS = 1e-4  # absolute, where the masks agree
MISSING = 6  # pixels of triangle 0, which the original leaves out in the first sample of a batch
ON_EDGES = 1e-4  # share of pixels whose centre is so close to an edge that it may fall either way
CURVES = 1e-12


def unpacked(g: Golden, key: str, size: int) -> Tensor:
    """Stored bits [..., size / 8] -> [..., size] bool."""
    return torch.from_numpy(np.unpackbits(g.npz[key], axis=-1)[..., :size].astype(bool))


# ----------------------------------------------------------------------------------------------------- pictures


def posed_faces(g: Golden, canonical: bool = False) -> Tensor:
    """Vertices in front of the camera, [B, V, 3]."""
    face, bfm = coefficients(g, "secc", g.shape("out.btc64.secc")[0]), g.once(model_beside)
    translation = torch.cat([face.translation[:, :2], face.translation[:, 2:].clamp(-0.5, 0.5)], 1)
    if canonical:
        still = torch.zeros_like(translation)
        face = FaceCoefficients(face.identity, face.expression, still, still)
    else:
        face = face.replace(translation=translation)
    return camera_points(pose_points(bfm.vertices(face.identity, face.expression), face.euler, face.translation))


def check_masked(g: Golden, actual: Tensor, agree: Tensor, key: str) -> None:
    """Every stored part of `key` [B, C, H, W] where `agree` [B, H, W]; crops and statistics aside."""
    for step in g.names(rf"{key}\.(\d+)x\1") or ["1"]:
        name = key if step == "1" else f"{key}.{step}x{step}"
        rows = slice(None, None, int(step))
        difference = (actual[..., rows, rows] - g[name]).abs() * agree[:, None, rows, rows]
        g.note(name, float(difference.max() / g[name].abs().max()), COLOURS / float(g[name].abs().max()))


def coloured(bfm: MorphableModel, points: torch.Tensor, size: int) -> torch.Tensor:
    """Their PNCCs [B, 3, size, size]."""
    return render_coordinates(points, bfm.pncc_triangles, bfm.ncc, size)


@checks("secc")
def pictures_in_both_poses(g: Golden) -> None:
    bfm: MorphableModel = g.once(model_beside)
    for pose, name in g.names(r"out\.(canonical|posed)(\d+)\.mask\.bits"):
        size, key = int(name), f"out.{pose}{name}"
        points = posed_faces(g, pose == "canonical")
        fragments, colours = rasterize(points, bfm.pncc_triangles, size), coloured(bfm, points, size)
        agree = fragments.mask == unpacked(g, f"{key}.mask.bits", size)
        assert (~agree).sum() <= MISSING + ON_EDGES * agree.numel()
        assert (~agree & (fragments.triangle != 0)).sum() <= ON_EDGES * agree.numel()
        check_masked(g, colours, agree, f"{key}.secc")
        if g.names(rf"({key}\.depth)"):
            check_masked(g, fragments.depth[:, None], agree, f"{key}.depth")
        if f"{key}.secc.crop" in g.npz:
            g.close(colours[:, :, 180:244, 150:214], f"{key}.secc.crop", COLOURS)
        stats = torch.stack([colours.mean(), colours.std(correction=0), colours.abs().max()])
        g.close(stats, f"{key}.secc.stats", COLOURS)


@checks("secc")
def triangles_colours_and_field_of_view(g: Golden) -> None:
    bfm: MorphableModel = g.once(model_beside)
    g.equal([len(bfm.pncc_triangles)], "out.faces_kept")
    g.equal(bfm.pncc_triangles[::11], "out.faces_kept.11x1")
    g.check(bfm.ncc, "out.ncc", EXACT)
    g.check(torch.tensor(math.degrees(2 * math.atan(1 / (2 * FITTING_FOCAL_LENGTH)))), "out.fov", EXACT)


@checks("secc")
def time_series(g: Golden) -> None:
    bfm: MorphableModel = g.once(model_beside)
    for size in g.names(r"out\.btc(\d+)\.secc"):
        frames = coloured(bfm, posed_faces(g), int(size))  # [B, 3, R, R]
        actual = torch.stack([frames, frames.flip(0)]).transpose(1, 2)  # [2, 3, T, R, R]
        off = ((actual - g[f"out.btc{size}.secc"]).abs() > COLOURS).any(dim=1)
        assert off.sum() <= MISSING


@checks("secc")
def two_spheres(g: Golden) -> None:
    points, faces = g["in.spheres.vertices"], g["in.spheres.faces"].long()
    triangle = g["out.spheres.triangle"]
    fragments: Fragments = rasterize(points[None], faces, triangle.shape[-1])
    image = interpolate(fragments, g.input("secc.feat", (len(points), 3), 0.5, 0.2), faces)[0]
    agree = fragments.triangle[0] == triangle
    assert (~agree).sum() <= MISSING
    assert (fragments.mask[0] != g["out.spheres.mask"].bool()).sum() <= MISSING
    seen = agree & (triangle >= 0)
    for key, actual, where in (
        ("depth", fragments.depth[0], seen),
        ("image", image, seen),
        ("bary", fragments.barycentric[0], seen[..., None]),
    ):
        g.note(f"out.spheres.{key}", float(((actual - g[f"out.spheres.{key}"]).abs() * where).max()), COLOURS)


# ------------------------------------------------------------------------------------------------- closing eyes


@checks("blink")
def closing_the_eyes(g: Golden) -> None:
    picture = torch.from_numpy((g.npz["in.secc_uint8"].astype(np.float32) + 0.5) / 127.5 - 1)
    opened = as_bytes(close_eyes(picture, 0.0, scale_distances=False))[:, 128:256, 128:384]
    for amount in g.names(r"out\.percent([\d.]+)\.crop"):
        key = f"out.percent{amount}"
        closed = as_bytes(close_eyes(picture, float(amount), scale_distances=False))[:, 128:256, 128:384]
        different = (closed != g[f"{key}.crop"]).any(dim=0)
        if float(amount) > 0:
            different &= ~unpacked(g, f"{key}.ambiguous", 256)
            filled, changed = unpacked(g, f"{key}.filled", 256), (closed != opened).any(dim=0)
            hole = (opened == 0).any(dim=0)
            assert not (changed & ~filled).any() and not (filled & hole & ~changed).any()
        assert not different.any()


def as_bytes(picture: Tensor) -> Tensor:
    return ((picture + 1) * 127.5).round().to(torch.uint8)


@checks("blink_secc")
def closing_the_eyes_of_a_small_picture(g: Golden) -> None:
    picture = torch.from_numpy(g.npz["in.secc"].transpose(2, 0, 1).astype(np.float32) / np.float32(127.5) - 1)
    for amount in g.names(r"out\.blink([\d.]+)"):
        closed = as_bytes(close_eyes(picture, float(amount), scale_distances=False))[:, 60:150].permute(1, 2, 0)
        different = (closed != g[f"out.blink{amount}"]).any(dim=-1)
        if float(amount) > 0:
            different &= ~g[f"tie.blink{amount}"]
        assert not different.any()


@checks("blink", "blink_secc")
def blink_curves(g: Golden) -> None:
    for key in g.names(r"(out\.percent_curve\d+|out\.weights_T\d+)"):
        g.check(blink_curve(len(g.npz[key])), key, CURVES)
