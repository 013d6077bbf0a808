"""Names and shapes of the original's checkpoints: there and back through the rename tables."""

import json

import pytest
import torch

from modules.convert import LOSS_SCALARS, identify, to_official, to_ours

FILES = {"portrait": "portrait", "head_grid3": "head", "a2m": "audio2motion", "syncnet": "syncnet", "eg3d": "eg3d",
         "dual_discriminator": "discriminator"}


@pytest.mark.parametrize("name", FILES)
def test_every_key_of_a_manifest_comes_back(golden_dir, name):
    path = golden_dir / f"{name}.manifest.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    rows = json.loads(path.read_text())["tensors"]
    official = {row["name"]: torch.empty(row["shape"], dtype=getattr(torch, row["dtype"]), device="meta")
                for row in rows}
    assert identify(official) == FILES[name]
    back = to_official(to_ours(official, FILES[name]), FILES[name])
    assert back.keys() == official.keys()
    for key, value in official.items():
        assert back[key].shape == value.shape and back[key].dtype == value.dtype
        assert back[key] is value or key.endswith("resample_filter") or key in LOSS_SCALARS
