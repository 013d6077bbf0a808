"""What inference needs of a training run: weights without optimisers, discriminator or history.

The config is copied in the words of its run: the reader of checkpoints knows those of earlier versions.
"""

from pathlib import Path

from torch import Tensor

from modules.audio.whisper import DEFAULT_WHISPER
from modules.rendering.superresolution import as_upscaling, is_untrained, is_upscaling
from modules.system.assets import shipped
from modules.system.checkpoint import find_checkpoint, load_state, read_config, save_checkpoint
from modules.system.errors import UserError

WEIGHT_FILES = {
    "portrait": ("image_to_plane", "tri_grid", "motion_adapter", "renderer", "superresolution", "htbsr"),
    "audio2motion": ("audio2motion",),
    "syncnet": ("syncnet",),
}
DECODER = "superresolution"  # of stages 1 and 2
_SPEECH_KEYS = ("model", "features", "face_model")
CONFIG_KEYS = {"portrait": ("model",), "audio2motion": _SPEECH_KEYS, "syncnet": _SPEECH_KEYS}
LATER_KEYS = ("pitch",)  # which runs of earlier versions lack


def export(
    run: Path, kind: str, output: Path, half: bool = True, whisper: Path = Path(DEFAULT_WHISPER)
) -> tuple[str, ...]:
    """Write OUTPUT/KIND from the checkpoint that a run's config selects.

    Of a run whose losses are of the raw render alone, which leave super-resolution at its random first values, the
    checkpoint shows what was trained: the raw render, upscaled (`shows_raw_render`).

    Args:
        run: folder of a run or a checkpoint, or one such as checkpoints/demo, which has a folder KIND.
        kind: "portrait", "audio2motion" or "syncnet".
        output: folder of the new checkpoint.
        half: whether weights are stored in float16.
        whisper: the Whisper layers of the run's features, which are copied beside it if it has such.
    Returns:
        Names of the exported modules.
    Raises:
        UserError: the run is of another kind, or there is no checkpoint.
    """
    folder = find_checkpoint(run, (kind,))
    config = read_config(folder)
    names = tuple(name for name in WEIGHT_FILES[kind] if (folder / f"{name}.safetensors").is_file())
    absent = [key for key in CONFIG_KEYS[kind] if key not in config]
    if not names or absent:
        raise UserError(f"{folder} is no {kind} checkpoint: it has no {', '.join(absent) or 'weights of that kind'}")
    states = {name: _ready(name, load_state(folder, name)) for name in names}
    keys = (*CONFIG_KEYS[kind], *(key for key in LATER_KEYS if key in config))
    if config.get("features") == "whisper":
        copy_whisper(whisper, output)
    save_checkpoint(output / kind, {key: config[key] for key in keys}, states, half=half)
    return names


def shows_raw_render(checkpoint: Path) -> bool:
    """Whether the pictures of a checkpoint that `export` wrote are its raw renders, upscaled."""
    folder = checkpoint / "portrait"
    return (folder / f"{DECODER}.safetensors").is_file() and is_upscaling(load_state(folder, DECODER))


def _ready(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return as_upscaling(state) if name == DECODER and is_untrained(state) else state


def copy_whisper(source: Path, output: Path) -> None:
    """Put the Whisper layers that a model of speech listens through beside it: OUTPUT/whisper.

    Raises:
        UserError: they are not in `source`.
    """
    source, target = shipped(source), output / "whisper"
    if target.exists() and target.samefile(source):
        return
    save_checkpoint(target, read_config(source), {"whisper": load_state(source, "whisper")}, half=True)
