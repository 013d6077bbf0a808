"""Times of speech sounds that lie beside a clip, for what the lips do on p, b and m: NAME.phones.tsv for NAME.mp4."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from modules.media.rates import FRAME_RATE
from modules.procedural.mouth import BILABIALS, PAUSE
from modules.system.errors import UserError

ENDING = ".phones.tsv"
PAUSES = ("", PAUSE, "pau", "sil", "sp", "spn", "h#", "ssil", "brth", "<eps>")  # names of silence in common phone sets
_SYLLABIC = {"em": "m"}  # of flite
_MARKS = re.compile(r"[^a-z]")  # stress digits, and IPA's marks of breath, length and place


@dataclass(frozen=True)
class Phones:
    """Spans of sounds.

    Attributes:
        bilabials: [N, 2] first and last moment of each p, b and m, in frames of 25 a second.
        others: [M, 2] of the other sounds, without pauses.
    """

    bilabials: Tensor
    others: Tensor

    def moved(self, frames: float, count: int) -> "Phones":
        """The same `frames` later, those that lie in a clip of `count` frames."""
        spans = (x + frames for x in (self.bilabials, self.others))
        return Phones(*(x[(x[:, 0] >= 0) & (x[:, 1] <= count)] for x in spans))


def phones_path(clip: Path) -> Path:
    """The file of a clip's sounds, whether it is there or not."""
    return clip.with_name(clip.stem + ENDING)


def read_phones(clip: Path) -> Phones | None:
    """The sounds of a clip; None without a file.

    Its lines are NAME, START, END with tabs between, seconds from the start of the clip's sound; names of any phone set
    in which p, b and m are called so.

    Raises:
        UserError: a line is none of that.
    """
    path = phones_path(clip)
    if not path.is_file():
        return None
    spans: tuple[list, list] = ([], [])
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); write it as text, or take it away") from error
    for number, line in enumerate(lines, start=1):
        try:
            name, *times = line.split("\t")
            start, end = (FRAME_RATE * float(time) for time in times)
        except ValueError:
            start, end, name = 1.0, 0.0, line
        if not 0 <= start <= end < float("inf"):
            raise UserError(f"{path}, line {number}: {line!r} is not NAME, START, END in seconds with tabs between")
        sound = name.strip().lower()
        if sound not in PAUSES:
            plain = _MARKS.sub("", sound)
            spans[_SYLLABIC.get(plain, plain) not in BILABIALS].append((start, end))
    return Phones(*(torch.tensor(rows, dtype=torch.float32).reshape(-1, 2) for rows in spans))
