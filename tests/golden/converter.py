"""Names and shapes of the original's checkpoints: there and back through the rename tables."""

import torch

from modules.official.names import LOSS_SCALARS, identify, to_official, to_ours
from tests.golden.file import Golden, checks

NETWORKS = {
    "portrait": "portrait",
    "head_grid3": "head",
    "a2m": "audio2motion",
    "syncnet": "syncnet",
    "eg3d": "eg3d",
    "dual_discriminator": "discriminator",
}


@checks(*NETWORKS)
def every_key_of_the_manifest_comes_back(g: Golden) -> None:
    network = NETWORKS[g.name]
    official = {
        name: torch.empty(row["shape"], dtype=getattr(torch, row["dtype"]), device="meta")
        for name, row in g.rows().items()
    }
    assert identify(official) == network
    back = to_official(to_ours(official, network), network)
    assert back.keys() == official.keys()
    for key, value in official.items():
        assert back[key].shape == value.shape and back[key].dtype == value.dtype
        assert back[key] is value or key.endswith("resample_filter") or key in LOSS_SCALARS
