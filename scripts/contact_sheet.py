"""Contact sheets, one PNG each: of the procedural world, or of videos.

python -m scripts.contact_sheet people                            infer_out/people_sheet.png
python -m scripts.contact_sheet expressions --seed 5              infer_out/expressions_5_sheet.png
python -m scripts.contact_sheet turntable --seed 5 --output turntable.png
python -m scripts.contact_sheet views                             (what stage 1 of the demo trains on)
python -m scripts.contact_sheet video a.mp4 b.mp4                 (frames, whole rows for each video)
"""

import argparse
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from inference.options import LONGEST_NAME, OUTPUT_FOLDER
from modules.face3d.coefficients import FaceCoefficients
from modules.media.pixels import to_float, to_tensor, to_uint8
from modules.media.video_reader import of_one_size, open_video
from modules.procedural.clips import named_expression
from modules.procedural.head import EXPRESSIONS, procedural_model
from modules.procedural.person import Person, sample_person
from modules.procedural.render import render
from modules.system.errors import UserError, run_command
from modules.system.files import keep_inputs, named_file
from tasks.data.procedural_views import ViewsConfig, render_views
from tasks.engine.settings import read_settings

STAGE_1 = Path(__file__).resolve().parents[1] / "configs" / "demo" / "i2p.yaml"
FRAMING = (0.0, 0.1, -5.0)  # translation of the heads, decimetres
STEPS = (0.0, 0.5, 1.0)  # of each action
DEFAULTS = {  # default, and the sheets for which the option is
    "seed": (0, ("people", "expressions", "turntable", "views")),
    "count": (20, ("people", "views", "video")),
    "size": (256, ("people", "expressions", "turntable", "views")),
}
WIDEST = 8  # pictures of a video in a row
TURNS = tuple((pitch, yaw) for pitch in (-20, 0, 20) for yaw in (-38, -19, 0, 19, 38))  # degrees


def sheet(pictures: Tensor, columns: int) -> np.ndarray:
    """Pictures [N, 3, H, W] in [-1, 1] in rows of `columns`: uint8 [rows * H, columns * W, 3], the rest black."""
    missing = -len(pictures) % columns
    pictures = torch.cat([pictures, pictures.new_full((missing, *pictures.shape[1:]), -1.0)])
    grid = pictures.unflatten(0, (-1, columns)).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    return to_uint8(grid).numpy()


def people(first: int, count: int, size: int) -> Tensor:
    """Neutral portraits of the seeds from `first` on: [count, 3, size, size]."""
    return torch.cat(
        [_views(sample_person(seed), named_expression(1), [(0, 0)], size) for seed in range(first, first + count)]
    )


def expressions(seed: int, size: int) -> Tensor:
    """Every named action at `STEPS`: [len(EXPRESSIONS) * len(STEPS), 3, size, size]."""
    person = sample_person(seed)
    steps = torch.tensor(STEPS)
    return torch.cat(
        [
            _views(person, named_expression(len(STEPS), **{name: steps}), [(0, 0)] * len(STEPS), size)
            for name in EXPRESSIONS
        ]
    )


def turntable(seed: int, size: int) -> Tensor:
    """The head at `TURNS`: [len(TURNS), 3, size, size]."""
    return _views(sample_person(seed), named_expression(len(TURNS)), list(TURNS), size)


def views(seed: int, count: int, size: int) -> Tensor:
    """The first `count` teacher views of the people from `seed` on: [count, 3, size, size]."""
    config = replace(stage_1_views(), size=size)
    seeds = range(seed, seed - (-count // config.views))
    images = [render_views(config, person, procedural_model())["images"] for person in seeds]
    return to_float(torch.from_numpy(np.concatenate(images)))[:count]


def stage_1_views() -> ViewsConfig:
    """The views on which the first stage of the demo is trained."""
    return read_settings(STAGE_1).task_config.views


def video(path: Path, count: int) -> Tensor:
    """`count` frames from the first to the last, repeated where it has fewer: [count, 3, H, W]."""
    length = sum(1 for _ in open_video(path)[1])
    numbers = [round(i * (length - 1) / max(count - 1, 1)) for i in range(count)]
    frames = {i: to_tensor(frame) for i, frame in enumerate(of_one_size(open_video(path)[1])) if i in numbers}
    return torch.cat([frames[i] for i in numbers])


def videos(paths: list[Path], count: int) -> Tensor:
    """`count` frames of each: [len(paths) * count, 3, H, W].

    Raises:
        UserError: none, one that cannot be read, or videos of several sizes.
    """
    if not paths:
        raise UserError("name the videos that the sheet should show")
    rows = [video(path, count) for path in paths]
    for path, row in zip(paths, rows):
        if row.shape != rows[0].shape:
            raise UserError(
                f"{path.name} is {row.shape[3]} x {row.shape[2]} pixels, {paths[0].name} "
                f"{rows[0].shape[3]} x {rows[0].shape[2]}; a sheet shows videos of one size"
            )
    return torch.cat(rows)


def _views(person: Person, expression: Tensor, turns: list[tuple[float, float]], size: int) -> Tensor:
    euler = torch.deg2rad(torch.tensor([[pitch, yaw, 0.0] for pitch, yaw in turns]))
    face = FaceCoefficients(person.identity[None], expression, euler, torch.tensor([FRAMING]).repeat(len(turns), 1))
    return render(procedural_model(), person, face, size).image


def chosen(options: argparse.Namespace) -> tuple[Tensor, int]:
    """The pictures that the options ask for, and how many stand in a row by default."""
    if options.what == "people":
        return people(options.seed, options.count, options.size), 5
    if options.what == "expressions":
        return expressions(options.seed, options.size), 4 * len(STEPS)
    if options.what == "turntable":
        return turntable(options.seed, options.size), 5
    if options.what == "views":
        return views(options.seed, options.count, options.size), stage_1_views().views
    return videos(options.files, options.count), columns_of_videos(len(options.files), options.count)


def columns_of_videos(files: int, count: int) -> int:
    """Pictures in a row: a square of one video; of several, rows that each begin and end with a video's."""
    if files == 1 or count <= WIDEST:
        return count if count <= WIDEST else math.ceil(math.sqrt(count))
    return next((columns for columns in range(WIDEST, 1, -1) if count % columns == 0), count)


def default_output(options: argparse.Namespace) -> Path:
    """The name of the sheet, made from what it shows: infer_out/talk_sheet.png, infer_out/turntable_5_sheet.png."""
    names = [path.stem[:LONGEST_NAME] for path in options.files[:1]] or [options.what]
    if len(options.files) > 1:
        names.append(f"and_{len(options.files) - 1}_more")
    if options.seed is not None:
        names.append(str(options.seed))
    return OUTPUT_FOLDER / f"{'_'.join(names)}_sheet.png"


def check(options: argparse.Namespace) -> None:
    """Fill in the defaults, and refuse what cannot be or is not used."""
    if options.output is None:
        options.output = default_output(options)
    for name, (default, sheets) in DEFAULTS.items():
        if getattr(options, name) is None:
            setattr(options, name, default)
        elif options.what not in sheets:
            raise UserError(f"--{name} is not used for {options.what}, only for {', '.join(sheets)}; leave it out")
    if min(options.size, options.count) < 1 or not 0 <= options.seed < 2**31:
        raise UserError("--size and --count must be positive, --seed from 0 to 2147483647")
    if options.columns is not None and options.columns < 1:
        raise UserError(f"--columns is {options.columns}; use at least 1")
    if options.output.suffix.lower() != ".png":
        raise UserError(f"--output {options.output.name}: a sheet is written as .png")
    keep_inputs({"--output": options.output}, {f"the video {path}": path for path in options.files})
    if options.files and options.what != "video":
        raise UserError(f"{options.what} takes no files ({options.files[0]}); only video does")


def write(picture: np.ndarray, path: Path) -> None:
    """uint8 [H, W, 3] as a PNG, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    with named_file(path) as part:
        Image.fromarray(picture).save(part, "PNG")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.contact_sheet", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("people", "expressions", "turntable", "views", "video"))
    parser.add_argument("files", type=Path, nargs="*", help="videos of one size, for `video`")
    parser.add_argument("--output", type=Path, help="PNG file; default: infer_out/ and the name of what it shows")
    parser.add_argument("--seed", type=int, help="the person, or the first of them (default 0)")
    parser.add_argument("--count", type=int, help="people or views on the sheet, or frames of each video (default 20)")
    parser.add_argument("--size", type=int, help="pixels of each picture (default 256)")
    parser.add_argument("--columns", type=int, default=None)
    options = parser.parse_intermixed_args(arguments)

    def body() -> None:
        check(options)
        pictures, columns = chosen(options)
        write(sheet(pictures, options.columns or columns), options.output)
        print(options.output)

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
