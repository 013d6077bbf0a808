"""The log of a run: lines or a progress bar on the terminal, metrics.jsonl, TensorBoard, pictures, short videos."""

import io
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TextIO, cast

import torch
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor
from torch.utils.tensorboard import FileWriter, SummaryWriter
from tqdm import tqdm

from modules.system.errors import UserError
from tasks.engine.sheet import text_line

LINE_LOSSES = 4  # losses on the progress line
FRAME_MILLISECONDS = 40


class Means:
    """Means of scalars since the last reading; they stay on their device until then."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, value: Tensor | float) -> None:
        """Add one value."""
        value = value.detach().float() if isinstance(value, Tensor) else torch.tensor(float(value))
        self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._counts[name] = self._counts.get(name, 0) + 1

    def read(self) -> dict[str, Tensor]:
        """Means by name; the sums start anew."""
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means


class RunLog:
    """The log of rank 0.

    Args:
        folder: of the run.
        step: where the run starts; what an interrupted run wrote beyond it is dropped.
        steps: where it ends.
        tensorboard: whether to write event files.
        stream: of the progress, stderr by default; a bar if it is a terminal, else lines.
    """

    def __init__(
        self, folder: Path, step: int, steps: int, tensorboard: bool = True, stream: TextIO | None = None
    ) -> None:
        self.folder, self.steps = folder, steps
        self._stream = stream or sys.stderr
        self._path = folder / "metrics.jsonl"
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            _cut(self._path, step)
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step) if tensorboard else None
        self._bar = None
        if self._stream.isatty():
            self._bar = tqdm(total=steps, initial=step, unit="step", file=self._stream, dynamic_ncols=True)

    def line(self, text: str) -> None:
        """Write one line to the terminal."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            self._stream.write(f"{text}\n")
            self._stream.flush()

    def advance(self) -> None:
        """Move the bar on by one step."""
        if self._bar is not None:
            self._bar.update()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write numbers of step `step` (counted from 1; 0: before the first) into metrics.jsonl and TensorBoard."""
        line = json.dumps({"step": step, **{name: _round(value) for name, value in values.items()}})
        with writing(self.folder):
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            if self._board is not None:
                for name, value in values.items():
                    self._board.add_scalar(name, value, step)

    def text(self, name: str, text: str) -> None:
        """Write a text, in Markdown, into TensorBoard."""
        if self._board is not None:
            with writing(self.folder):
                self._board.add_text(name, text, 0)

    def progress(self, step: int, values: Mapping[str, float], speed: float, seconds_left: float) -> None:
        """Write the losses of the interval as a line, or at the end of the bar."""
        losses = {name.partition("/")[2]: v for name, v in values.items() if name.startswith("loss/")}
        largest = sorted(losses, key=lambda name: -abs(losses[name]))[:LINE_LOSSES]
        text = "  ".join(f"{name} {losses[name]:.4g}" for name in sorted(largest))
        if len(losses) > LINE_LOSSES:
            text += f"  and {len(losses) - LINE_LOSSES} smaller losses"
        if self._bar is not None:
            self._bar.set_postfix_str(f"{text}  {speed:.3g} images/s")
        else:
            left = timedelta(seconds=round(seconds_left))
            self.line(f"step {step}/{self.steps}  {text}  {speed:.3g} images/s  {left} left")

    def pictures(self, step: int, pictures: Mapping[str, Tensor]) -> None:
        """Write pictures, uint8 [H, W, 3] each, under a line with the step, into pictures/ and TensorBoard."""
        for name, sheet in pictures.items():
            picture = torch.cat([text_line(f"step {step}", sheet.shape[1]), sheet.cpu()])
            with writing(self.folder):
                Image.fromarray(picture.cpu().numpy()).save(self._path_of(step, name, "png"))
                if self._board is not None:
                    self._board.add_image(name, picture, step, dataformats="HWC")

    def videos(self, step: int, videos: Mapping[str, Tensor]) -> None:
        """Write videos, uint8 [T, H, W, 3] each, as GIFs of 25 frames a second into pictures/ and TensorBoard."""
        for name, video in videos.items():
            animation, (height, width) = animated(video), video.shape[1:3]
            with writing(self.folder):
                self._path_of(step, name, "gif").write_bytes(animation)
                if self._board is not None:
                    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=animation)
                    writer = cast(FileWriter, self._board.file_writer)  # None by its type; open until `close`
                    writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)

    def close(self) -> None:
        """Write all that is waiting."""
        if self._bar is not None:
            self._bar.close()
        if self._board is not None:
            with writing(self.folder):
                self._board.close()

    def _path_of(self, step: int, name: str, kind: str) -> Path:
        path = self.folder / "pictures" / f"{step:08d}_{name.replace('/', '_')}.{kind}"
        path.parent.mkdir(exist_ok=True)
        return path


class NullLog(RunLog):
    """A log that writes nothing; used on every rank but 0."""

    def __init__(self) -> None:
        self._bar = self._board = None

    def line(self, text: str) -> None:
        """Write nothing."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write nothing."""

    def text(self, name: str, text: str) -> None:
        """Write nothing."""

    def progress(self, step: int, values: Mapping[str, float], speed: float, seconds_left: float) -> None:
        """Write nothing."""

    def pictures(self, step: int, pictures: Mapping[str, Tensor]) -> None:
        """Write nothing."""

    def videos(self, step: int, videos: Mapping[str, Tensor]) -> None:
        """Write nothing."""


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Report in one line what cannot be written inside the `with`: the disk is full, or `folder` is forbidden.

    Raises:
        UserError: naming the folder.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror or error}; free some space or choose another "
            "--output (checkpoints in it are untouched)"
        ) from error


def animated(video: Tensor) -> bytes:
    """uint8 [T, H, W, 3] -> a GIF that repeats, 25 frames a second; browsers and TensorBoard play it."""
    first, *others = (Image.fromarray(frame) for frame in video.cpu().numpy())
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=others, duration=FRAME_MILLISECONDS, loop=0)
    return file.getvalue()


def _round(value: float) -> float:
    return float(f"{value:.9g}")


def _cut(path: Path, step: int) -> None:
    """Drop the lines of steps after `step`, and a last line that was not finished."""
    if not path.is_file():
        return
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                lines.append(line + "\n")
        except (ValueError, KeyError):
            continue
    path.write_text("".join(lines), encoding="utf-8")
