"""Prepare a data set: python -m data_gen.run configs/data/NAME.yaml [key=value ...]

The file names its `source`; the other keys are the settings of that source. A run that was stopped continues where it
stopped, and several runs may work on the same folder.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_gen import procedural
from modules.config import from_dict, load_yaml
from modules.errors import UserError, run_command

# source -> its settings, and the function that prepares: it yields the number of items to make, then each when done
SOURCES: dict[str, tuple[type, Callable[[Any], Iterator[object]]]] = {
    "procedural": (procedural.ProceduralDataConfig, procedural.prepare),
}


def run(path: Path, overrides: list[str]) -> None:
    """Prepare the data set that the file at `path` describes.

    Raises:
        UserError: unknown source or setting.
    """
    settings = load_yaml(path, overrides)
    source = settings.pop("source", None)
    if source not in SOURCES:
        raise UserError(f"{path}: source is {source}; use one of {', '.join(SOURCES)}")
    config_type, prepare = SOURCES[source]
    items = prepare(from_dict(config_type, settings))
    for _ in tqdm(items, total=next(items), desc=source, unit="clip"):
        pass


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m data_gen.run", description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace those of the file")
    options = parser.parse_args(arguments)
    return run_command(lambda: run(options.config, options.overrides))


if __name__ == "__main__":
    sys.exit(main())
