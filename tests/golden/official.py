"""The released files with made-up contents: real names, shapes and layouts, weights of the golden manifests.

    python -m tests.golden.official FOLDER [--hubert tiny|large]

writes checkpoints of the original (secc2plane_torso_orig, audio2secc_vae), a HuBERT and a Basel face model, converts
the checkpoints into FOLDER/converted, and prints how to make a video with them. Its pictures are noise; its path, size,
speed and memory are those of the released weights.
"""

import argparse
import shutil
import sys
from pathlib import Path

import torch

from modules.procedural.head import procedural_model
from modules.system.assets import ANALYSIS, locate
from modules.system.errors import UserError, run_command
from scripts.convert_checkpoint import convert
from tests.conftest import golden_folder
from tests.golden.file import Golden
from tests.modules.face3d.bfm_files import write_procedural_bfm

PORTRAIT, SPEECH, HUBERT = "secc2plane_torso_orig", "audio2secc_vae", "hubert-large-ls960-ft"
STEPS = {"portrait": 100_000, "a2m": 400_000}


def write_official(folder: Path, golden_dir: Path, name: str) -> Path:
    """A folder as the original's training leaves it: config.yaml and a checkpoint in PyTorch's legacy format."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("# The original's settings would stand here; they are not read.\n")
    content = {
        "epoch": 1,
        "global_step": STEPS[name],
        "checkpoint_callback_best": 1e9,
        "optimizer_states": [],
        "state_dict": {"model": Golden(golden_dir, name).weights(), "disc": {}},
    }
    path = folder / f"model_ckpt_steps_{STEPS[name]}.ckpt"
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


def write_hubert(folder: Path, size: str = "tiny") -> Path:
    """Random weights as `transformers` saves them: "large" as facebook/hubert-large-ls960-ft, "tiny" with its width."""
    from transformers import HubertConfig, HubertModel

    small = (
        {"num_hidden_layers": 1, "intermediate_size": 64, "conv_dim": (16,) * 7}
        if size == "tiny"
        else {"num_hidden_layers": 24, "intermediate_size": 4096}
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = HubertModel(
            HubertConfig(
                hidden_size=1024,
                num_attention_heads=16,
                feat_extract_norm="layer",
                conv_bias=True,
                do_stable_layer_norm=True,
                **small,
            )
        )
    network.save_pretrained(folder)
    return folder


def write_assets(folder: Path, hubert: str = "tiny") -> Path:
    """What $REAL3D_ASSETS holds for a user of the released weights; the MediaPipe files only if they are here."""
    write_hubert(folder / HUBERT, hubert)
    write_procedural_bfm(folder, procedural_model())
    for path in filter(None, map(locate, ANALYSIS)):
        shutil.copy(path, folder)
    return folder


def write_all(folder: Path, golden_dir: Path, hubert: str = "tiny") -> Path:
    """FOLDER/converted for --checkpoint and FOLDER/assets for $REAL3D_ASSETS; returns FOLDER."""
    write_assets(folder / "assets", hubert)
    for name, place in (("portrait", PORTRAIT), ("a2m", SPEECH)):
        write_official(folder / place, golden_dir, name)
        convert(folder / place, folder / "converted")
    return folder


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.golden.official", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a new folder; about 2.6 GB with the large HuBERT")
    parser.add_argument("--golden", type=Path, default=golden_folder())
    parser.add_argument("--hubert", choices=("tiny", "large"), default="tiny")
    options = parser.parse_args(arguments)

    def body() -> None:
        if options.folder.exists():
            raise UserError(f"{options.folder} exists; give the name of a new folder")
        folder = write_all(options.folder.absolute(), options.golden, options.hubert)
        print(
            f"REAL3D_ASSETS={folder / 'assets'} python -m inference.run --checkpoint {folder / 'converted'} "
            "--source face.jpg --audio speech.wav --output talk.mp4"
        )

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
