"""Broken inputs by the thousand: every command ends with 0, or with 2 and one line, and leaves nothing behind.

    python -m scripts.fuzz --output fuzz                        # 50 cases of each kind; again: goes on where it stopped
    python -m scripts.fuzz --output fuzz --kinds sound clip --count 1000
    python -m scripts.fuzz --output fuzz --kinds sound --first 137 --count 1    # one case once more

Case `number` of a kind is a function of seed, kind and number alone. Each runs in a process of its own, forked from one
that has imported everything, with limits of time and memory. OUTPUT/results.tsv has a line for every case, and
OUTPUT/KIND_NUMBER the input and what the command said where the verdict is not "ok".
"""

import argparse
import contextlib
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import cv2
import numpy as np
import torch
import yaml
from hypothesis import strategies as st
from tqdm import tqdm

import data_gen.run
import inference.run
import tasks.run
from inference.motion import Motion
from inference.portrait import Portrait
from inference.video import DEMO_PERSON
from modules.face_models import load_face_model
from modules.media.pixels import to_pixels
from modules.portrait.build import build_portrait
from modules.portrait.config import Real3DPortraitConfig
from modules.system.assets import DEMO_CHECKPOINT
from modules.system.checkpoint import save_checkpoint
from modules.system.config import to_dict
from modules.system.errors import UserError, run_command
from modules.system.progress import with_progress
from scripts import fuzz_cases as cases

ROOT = Path(__file__).resolve().parents[1]
SECONDS, GIB = 60, 1 << 30
Command = Callable[[list[str]], int]


@dataclass(frozen=True)
class Case:
    """A command, its arguments, and the files that a run of it may write (relative to the folder it runs in)."""

    command: Command
    arguments: list[str]
    outputs: tuple[str, ...] = ("o.mp4",)


# ---- valid inputs, made once


@dataclass(frozen=True)
class Material:
    """What the cases are made from: a folder with portrait, still motion, prepared clip and models; the rest in memory.

    The models have random weights and 128 pixels, so that a case costs a second; the speech part is the demo's.
    """

    folder: Path
    picture: np.ndarray
    frames: list[np.ndarray]
    sound: np.ndarray

    @classmethod
    def make(cls, folder: Path) -> "Material":
        folder.mkdir(parents=True, exist_ok=True)
        portrait = Portrait.from_procedural(DEMO_PERSON, load_face_model("procedural"), 256)
        portrait.save(folder / "portrait.safetensors")
        for name in ("still.json", "still.npz"):
            Motion(*(torch.zeros(1, width) for width in (64, 3, 3, 1)), face_model="procedural").save(folder / name)
        for name, seed in (("clips", 0), ("held_out", 900_000)):
            settings = ["people=1", f"first_seed={seed}", "frames=4", "size=128", "pncc_size=64", "workers=1"]
            with contextlib.redirect_stdout(sys.stderr):
                data_gen.run.main([str(ROOT / "configs/data/procedural.yaml"), f"folder={folder / name}", *settings])
        if not (folder / "model").is_dir():
            for name, stage in (("model/portrait", 3), ("stage1", 1)):
                size = Real3DPortraitConfig.demo(stage, picture_size=128)
                torch.manual_seed(0)  # for layers that initialise themselves
                states = {part: module.state_dict() for part, module in build_portrait(size).named_children()}
                save_checkpoint(folder / name, {"model": to_dict(size)}, states, half=True)
            shutil.copytree(DEMO_CHECKPOINT / "audio2motion", folder / "model/audio2motion")
        picture = to_pixels(portrait.picture)[0]
        moved = [np.roll(picture, 2 * number, axis=1) for number in range(6)]
        seconds = np.arange(4000) / 16_000
        sound = 0.4 * np.sin(2 * np.pi * 150 * seconds) * np.sin(2 * np.pi * 4 * seconds)
        return cls(folder, picture, moved, sound)


# ---- one kind of input each: writes its files into the folder where the command will run


def picture(material: Material, folder: Path, random: Random) -> Case:
    valid = [cases.picture_bytes(material.picture, kind, random) for kind in random.sample(cases.PICTURES, 2)]
    path = cases.write(
        folder / f"in.{random.choice(('png', 'jpg', 'webp', 'gif'))}", cases.broken(valid[0], valid, random)
    )
    if random.random() < 0.3:
        return _render(material, "--background", str(path))
    return _render(material, source=str(path))


def sound(material: Material, folder: Path, random: Random) -> Case:
    valid = [cases.media_bytes(name, material.sound, codec) for name, codec in random.sample(cases.SOUNDS, 2)]
    path = cases.write(
        folder / f"in.{random.choice(('wav', 'mp3', 'm4a', 'ogg', 'bin'))}", cases.broken(valid[0], valid, random)
    )
    return _render(material, motion=("--audio", str(path)))


def clip(material: Material, folder: Path, random: Random) -> Case:
    valid = []
    for name, video in random.sample(cases.CLIPS, 2):
        track = {"webm": "libopus", "avi": "pcm_s16le"}.get(name, "aac")
        heard = random.random() < 0.7
        valid.append(cases.media_bytes(name, material.sound if heard else None, track, material.frames, video))
    path = cases.write(
        folder / f"in.{random.choice(('mp4', 'mov', 'webm', 'mkv', 'ts'))}", cases.broken(valid[0], valid, random)
    )
    if random.random() < 0.3:
        settings = [
            "face_model=procedural",
            "size=64",
            "limits.smallest_face=20",
            "workers=1",
            "shortest=0.1",
            "folder=d",
        ]
        return Case(data_gen.run.main, [str(ROOT / "configs/data/videos.yaml"), f"videos={path}", *settings], ("d",))
    return _render(material, motion=("--driving", str(path)))


def motion(material: Material, folder: Path, random: Random) -> Case:
    if random.random() < 0.6:
        content = json.loads((material.folder / "still.json").read_text())
        data: bytes | str = cases.as_json(cases.broken_tree(content, random))
        path = folder / "in.json"
    else:
        path = folder / random.choice(("in.json", "in.npz", "in.npy"))
        valid = [(material.folder / name).read_bytes() for name in ("still.npz", "still.json")]
        data = cases.broken(valid[path.suffix == ".json"], valid, random)
    return _render(material, motion=("--motion", str(cases.write(path, data))))


def portrait(material: Material, folder: Path, random: Random) -> Case:
    valid = (material.folder / "portrait.safetensors").read_bytes()
    return _render(
        material, source=str(cases.write(folder / "in.safetensors", cases.broken_safetensors(valid, random)))
    )


def checkpoint(material: Material, folder: Path, random: Random) -> Case:
    shutil.copytree(material.folder / "model", folder / "model")
    file = random.choice(
        sorted(path for path in (folder / "model").rglob("*.*") if path.suffix in (".yaml", ".safetensors"))
    )
    if file.suffix == ".yaml":
        cases.write(file, cases.as_yaml(cases.broken_tree(yaml.safe_load(file.read_text()), random)))
    elif random.random() < 0.2:
        file.unlink()
    else:
        cases.write(file, cases.broken_safetensors(file.read_bytes(), random))
    return _render(material, "--checkpoint", str(folder / "model"))


def clips(material: Material, folder: Path, random: Random) -> Case:
    shutil.copytree(material.folder / "clips", folder / "clips")
    file = random.choice(sorted(path for path in (folder / "clips").rglob("*") if path.is_file()))
    if random.random() < 0.2:
        file.unlink()
    else:
        data = file.read_bytes()
        cases.write(file, cases.broken(data, [data], random))
    return _train(
        str(ROOT / "configs/demo/motion_adapter.yaml"), "data.folder=clips",
        f"data.validation_folder={material.folder / 'held_out'}",
        f"init_from={material.folder / 'stage1'}", "data.cache=cache", "model.picture_size=128",
        "patches={rays: 4, count: 1, side_range: [8, 16], mouth_side: 8}",
    )  # fmt: skip


def config(material: Material, folder: Path, random: Random) -> Case:
    names = sorted((ROOT / "configs").rglob("*.yaml"))
    name = random.choice(names)
    content = yaml.safe_load(name.read_text())
    if "base" in content:
        content["base"] = str(name.parent / content["base"])
    if random.random() < 0.5:
        text: bytes | str = cases.as_yaml(cases.broken_tree(content, random))
    else:
        data = cases.as_yaml(content).encode()
        text = cases.broken(data, [data], random)
    cases.write(folder / "in.yaml", text)
    views = ["views.people=2", "views.views=1"] if content.get("task") == "i2p_patches" else []  # they take minutes
    if "source" in content:
        few = ["people=1", "frames=2"] if content["source"] == "procedural" else [f"videos={folder}"]
        return Case(data_gen.run.main, ["in.yaml", "folder=d", "workers=1", *few], ("d",))
    return _train("in.yaml", *views)


def words(material: Material, folder: Path, random: Random) -> Case:
    """A command line: options of inference.run with the values of a user in a hurry."""
    files = {"p.safetensors": "portrait.safetensors", "m.json": "still.json"}
    for name, original in files.items():
        shutil.copy(material.folder / original, folder / name)
    plausible = st.sampled_from(
        (*files, "0", "1", "0.5", "photo", "period", "still", "cpu", "float32", "x.mp4", "x.json")
    )
    value = st.one_of(plausible, st.sampled_from(cases.WORDS), st.text(max_size=6), st.integers().map(str))
    option = st.sampled_from([action for action in inference.run.parser()._actions if action.dest != "help"])
    line = cases.drawn(st.lists(st.tuples(option, value), max_size=4), random)
    arguments = []
    for action, text in line:  # type: ignore[attr-defined]
        arguments += (
            [action.option_strings[0]] if action.nargs == 0 else [action.option_strings[0], text.replace("\0", "")]
        )
    model = ["--checkpoint", str(material.folder / "model"), "--source", "p.safetensors"]
    return Case(inference.run.main, [*model, "--motion", "m.json", "--output", "o.mp4", *arguments], ("*",))


KINDS: dict[str, Callable[[Material, Path, Random], Case]] = {
    kind.__name__: kind for kind in (picture, sound, clip, motion, portrait, checkpoint, clips, config, words)
}


def _render(material: Material, *more: str, source: str = "", motion: tuple[str, str] = ("", "")) -> Case:
    source = source or str(material.folder / "portrait.safetensors")
    motion = motion if motion[0] else ("--motion", str(material.folder / "still.json"))
    model = str(material.folder / "model")
    return Case(inference.run.main, ["--checkpoint", model, "--source", source, *motion, "--output", "o.mp4", *more])


def _train(file: str, *more: str) -> Case:
    settings = [
        "steps=1",
        "max_minutes=0.05",
        "log.validate_every=0",
        "precision=32-true",
        "loader.batch=1",
        "loader.workers=0",
        *more,
    ]
    return Case(tasks.run.main, [file, *settings, "--output", "run", "--device", "cpu"], ("run", "cache"))


# ---- one case in a process of its own


def run_case(material: Material, kind: str, number: int, random_seed: int, output: Path) -> tuple[str, float]:
    """Run case `number`; returns the verdict ("ok 0", "ok 2", or what is wrong) and seconds.

    The folder OUTPUT/KIND_NUMBER stays if something is wrong.
    """
    folder = output / f"{kind}_{number:05d}"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "tmp").mkdir(parents=True)
    case = KINDS[kind](material, folder, Random(f"{random_seed}/{kind}/{number}"))  # noqa: S311
    (folder / "command.txt").write_text(f"{case.command.__module__} {' '.join(map(repr, case.arguments))}\n")
    before = set(folder.rglob("*"))
    start = time.monotonic()
    code = _forked(case, folder)
    seconds = time.monotonic() - start
    said = (folder / "said.txt").read_text(errors="replace")
    left = [path.relative_to(folder) for path in set(folder.rglob("*")) - before if path.name != "said.txt"]
    verdict = judge(code, said, left, case.outputs)
    if verdict.startswith("ok"):
        shutil.rmtree(folder)
    return verdict, seconds


def judge(code: int, said: str, left: list[Path], outputs: tuple[str, ...]) -> str:
    """The verdict on a command: its exit code (negative: killed by that signal), what it said, which files are new."""
    errors = [line for line in said.splitlines() if line.startswith(("error: ", "python -m")) and "error: " in line]
    if code < 0:
        return "no end in time" if code == -signal.SIGALRM else f"killed by {signal.Signals(-code).name}"
    if "Traceback (most recent call last)" in said:
        return "traceback: " + said.strip().splitlines()[-1][:200]
    if code not in (0, 2):
        return f"exit code {code}"
    if code == 2 and len(errors) != 1:
        return f"{len(errors)} error lines"
    allowed = outputs if code == 0 or outputs[0] != "o.mp4" else ()
    strangers = [path for path in left if path.parts[0] not in allowed and "*" not in allowed or path.suffix == ".part"]
    if strangers:
        return f"left behind: {strangers[0]}"
    return f"ok {code}"


def _forked(case: Case, folder: Path) -> int:
    child = os.fork()
    if child == 0:
        code = 70
        try:
            log = os.open(folder / "said.txt", os.O_WRONLY | os.O_CREAT, 0o644)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
            os.setsid()
            os.environ["TMPDIR"] = str(folder / "tmp")
            resource.setrlimit(resource.RLIMIT_DATA, (8 * GIB, 8 * GIB))
            resource.setrlimit(resource.RLIMIT_FSIZE, (GIB, GIB))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.alarm(SECONDS)  # ends also what the parent does not see
            code = _called(case, folder)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _called(case: Case, folder: Path) -> int:
    try:
        os.chdir(folder)
        return case.command(case.arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return 1


# ---- the command


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", choices=tuple(KINDS), default=tuple(KINDS), help="default: all")
    parser.add_argument("--count", type=int, default=50, help="cases of each kind (default: 50)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case (default: 0)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other cases (default: 0)")
    parser.add_argument("--output", type=Path, default=Path("fuzz"), help="folder of results and findings")
    return parser.parse_args(arguments)


def fuzz(kinds: tuple[str, ...], numbers: range, random_seed: int, output: Path) -> Iterator[tuple[str, int, str]]:
    """Run the cases that OUTPUT/results.tsv does not have; yields kind, number and verdict of each one run."""
    output.mkdir(parents=True, exist_ok=True)
    results = output / "results.tsv"
    lines = results.read_text().splitlines() if results.is_file() else []
    done = {tuple(line.split("\t")[:3]) for line in lines}
    torch.set_num_threads(1)  # a process with threads must not fork
    cv2.setNumThreads(1)
    material = Material.make(output.resolve() / "material")
    with results.open("a") as table:
        for kind in kinds:
            for number in numbers:
                if (str(random_seed), kind, str(number)) not in done:
                    verdict, seconds = run_case(material, kind, number, random_seed, output.resolve())
                    table.write(f"{random_seed}\t{kind}\t{number}\t{verdict}\t{seconds:.2f}\n")
                    table.flush()
                    yield kind, number, verdict


def summary(results: Path) -> str:
    """A table of all cases in the file: kind, ended with 0, refused with 2, wrong."""
    rows = [line.split("\t") for line in results.read_text().splitlines()]
    counts = Counter((row[1], row[3] if row[3].startswith("ok") else "wrong") for row in rows)
    table = ["| input | cases | done | refused | wrong |", "| --- | --- | --- | --- | --- |"]
    for kind in dict.fromkeys(row[1] for row in rows):
        done, refused, wrong = (counts[kind, verdict] for verdict in ("ok 0", "ok 2", "wrong"))
        table.append(f"| {kind} | {done + refused + wrong} | {done} | {refused} | {wrong} |")
    return "\n".join(table)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)

    def body() -> None:
        numbers = range(options.first, options.first + options.count)
        wrong = 0
        results = fuzz(tuple(options.kinds), numbers, options.seed, options.output)
        for kind, number, verdict in with_progress(results, len(options.kinds) * len(numbers), "case"):
            if not verdict.startswith("ok"):
                wrong += 1
                tqdm.write(f"{kind} {number}: {verdict}", file=sys.stderr)
        print(summary(options.output / "results.tsv"))
        if wrong:
            raise UserError(f"{wrong} cases are wrong; their files lie in {options.output}")

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
