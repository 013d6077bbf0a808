"""Prepare a data set: python -m data_gen.run configs/data/NAME.yaml [key=value ...]

    python -m data_gen.run configs/data/procedural.yaml
    python -m data_gen.run configs/data/videos.yaml videos=FOLDER folder=data/own
    python -m data_gen.run configs/data/videos.yaml folder=data/own --add mouth_opening
    python -m data_gen.run configs/data/videos.yaml folder=data/own --engine ray
    python -m data_gen.run configs/data/videos.yaml --keys

The file names its `source`; the other keys are the settings of that source. A run that was stopped continues where it
stopped, and several runs may work on the same folder.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from data_gen import procedural, synthetic_speech, videos
from data_gen.audio_track import FeatureSources
from data_gen.sources.celebv_hq import CelebVHQConfig
from data_gen.sources.folder import VideoDataConfig
from data_gen.sources.hdtf import HDTFConfig
from data_gen.sources.voxceleb2 import VoxCeleb2Config
from data_gen.speech import add_features
from modules.audio.features import FeatureKind
from modules.audio.hubert import DEFAULT_HUBERT
from modules.audio.whisper import DEFAULT_WHISPER
from modules.clips.fields import FIELDS, add_field
from modules.clips.format import list_clips
from modules.system.cluster import run_on_cluster
from modules.system.config import from_dict, load_yaml
from modules.system.config_keys import keys_of, table_of_keys
from modules.system.errors import UserError, run_command
from modules.system.interrupts import Interrupts
from modules.system.processes import Engine, run_all
from modules.system.progress import with_progress


@dataclass(frozen=True)
class Source:
    """A kind of data set.

    Attributes:
        config: the class of its settings.
        prepare: makes the missing items; yields their number first, then each item when done.
        summary: one line about what is there.
        unit: what an item is called in the progress bar.
        cost: seconds of one core that an item took; None: it does not say.
    """

    config: type
    prepare: Callable[[Any, Engine], Iterator[object]]
    summary: Callable[[Any], str]
    unit: str
    cost: Callable[[Any], float] | None = None


SOURCES = {
    "procedural": Source(procedural.ProceduralDataConfig, procedural.prepare, procedural.summary, "clip"),
    "synthetic_speech": Source(
        synthetic_speech.SyntheticSpeechConfig, synthetic_speech.prepare, synthetic_speech.summary, "clip"
    ),
    "videos": Source(VideoDataConfig, videos.prepare, videos.summary, "video", videos.cost),
    "celebv_hq": Source(CelebVHQConfig, videos.prepare, videos.summary, "clip", videos.cost),
    "hdtf": Source(HDTFConfig, videos.prepare, videos.summary, "clip", videos.cost),
    "voxceleb2": Source(VoxCeleb2Config, videos.prepare, videos.summary, "video", videos.cost),
}

ENGINES: dict[str, Engine] = {"processes": run_all, "ray": run_on_cluster}


def read(path: Path, overrides: list[str]) -> tuple[Source, Any]:
    """The kind of data set that the file at `path` names, and its settings.

    Raises:
        UserError: unknown source or setting.
    """
    settings = load_yaml(path, overrides)
    name = settings.pop("source", None)
    if name not in SOURCES:
        raise UserError(f"{path}: source is {name}; use one of {', '.join(SOURCES)}")
    return SOURCES[name], from_dict(SOURCES[name].config, settings)


def run(path: Path, overrides: list[str], engine: Engine = run_all) -> str:
    """Prepare the data set that the file at `path` describes; returns what the folder then holds, in one line.

    Raises:
        UserError: unknown source or setting, or nothing to prepare.
    """
    source, config = read(path, overrides)
    items = source.prepare(config, engine)
    with Interrupts() as interrupts:
        for _ in with_progress(items, next(items), source.unit, cost=source.cost):
            interrupts.check()
    return source.summary(config)


def add(path: Path, overrides: list[str], name: str) -> str:
    """Add a field, or speech features, to the finished clips of the folder that the file at `path` describes.

    Raises:
        UserError: there are no clips, or one is damaged.
    """
    settings = load_yaml(path, overrides)
    clips = list_clips(Path(str(settings.get("folder", ""))))
    if name in get_args(FeatureKind):
        sources = FeatureSources(
            hubert=str(settings.get("hubert", DEFAULT_HUBERT)), whisper=str(settings.get("whisper", DEFAULT_WHISPER))
        )
        added = add_features(clips, name, sources)
    else:
        added = (add_field(clip, name) for clip in clips)
    with Interrupts() as interrupts:
        count = 0
        for new in with_progress(added, len(clips), "clip"):
            count += new
            interrupts.check()
    have = "have it now" if name in get_args(FeatureKind) else "were without it"
    return f"{settings['folder']}: {name}; {count} of {len(clips)} clips {have}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m data_gen.run", description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace those of the file")
    choices = (*FIELDS, *get_args(FeatureKind))
    parser.add_argument("--add", choices=choices, help="fill this into the finished clips of the folder, no more")
    parser.add_argument(
        "--engine", choices=ENGINES, default="processes", help="processes of this machine, or a running Ray cluster"
    )
    parser.add_argument(
        "--keys", action="store_true", help="list every key with type, value and meaning, prepare nothing"
    )
    options = parser.parse_intermixed_args(arguments)

    def body() -> None:
        config, overrides = options.config, options.overrides
        if options.keys:
            print(table_of_keys(keys_of(read(config, overrides)[1])))
            return
        print(add(config, overrides, options.add) if options.add else run(config, overrides, ENGINES[options.engine]))

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
