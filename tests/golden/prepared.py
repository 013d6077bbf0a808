"""The original's numbers from networks that are prepared for inference, as `inference` runs them."""

import torch

from modules.official.names import load_official
from modules.portrait.motion_adapter import MotionAdapter, MotionAdapterConfig
from modules.portrait.prepared import prepare
from modules.rendering.superresolution import Superresolution, SuperresolutionConfig
from tests.golden.file import Golden, checks
from tests.golden.head import image_to_plane_of, photo, pncc_stack
from tests.golden.portrait import check_frames, check_tri_grids, released_model, tri_grid_model
from tests.golden.sr import render_inputs, run_fusion, run_torso

PREPARED = 1e-4


@checks("i2p")
@torch.no_grad()
def a_prepared_image_to_plane(g: Golden) -> None:
    model = prepare(image_to_plane_of(g))
    image = photo(g, "i2p.small_image", g.shape("in.small_image")[0], 128)
    g.check(model(image), "rgb128.planes", PREPARED)


@checks("motion_adapter")
@torch.no_grad()
def a_prepared_motion_adapter(g: Golden) -> None:
    model = prepare(load_official(MotionAdapter(MotionAdapterConfig.full()), g.weights()))
    stack = pncc_stack(g, "adapter.small_pncc", ("cano", "src", "tgt"), g.shape("cano_src_tgt128.planes")[0], 128)
    g.check(model(stack), "cano_src_tgt128.planes", PREPARED)


@checks("sr")
@torch.no_grad()
def a_prepared_superresolution(g: Golden) -> None:
    model = prepare(load_official(Superresolution(SuperresolutionConfig.full()), g.weights()))
    g.check(model(*render_inputs(g, g.shape("ones.image")[0], 128)), "ones.image", PREPARED)


@checks("torso", "torso_v1")
def a_prepared_torso_model(g: Golden) -> None:
    for key, value in run_torso(g, prepare).items():
        g.check(value, key, PREPARED)


@checks("sr_fusion", slow=True)
def prepared_fusions(g: Golden) -> None:
    for mode in g.names(r"(v\d|none)\.image"):
        for key, value in run_fusion(g, mode, prepare).items():
            g.check(value, key, PREPARED)


@checks("portrait", slow=True)
def the_released_model_is_prepared(g: Golden) -> None:
    check_frames(g, prepare(released_model(g)), PREPARED)


@checks("head_grid3", slow=True)
def a_stage_2_model_with_tri_grids_is_prepared(g: Golden) -> None:
    check_tri_grids(g, prepare(tri_grid_model(g)), PREPARED)
