"""CelebV-HQ as it is published: a JSON of clips (YouTube id, seconds, box), and videos that you downloaded.

    python -m data_gen.run configs/data/celebv_hq.yaml annotations=celebvhq_info.json videos=FOLDER

A clip is cut out of its video and cropped to its box. Nothing is downloaded; what is not there is in missing.tsv. The
data set names no people: whoever is in one video is taken for one person.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_gen.sources.base import Found, Video, Window
from data_gen.sources.published import AnnotatedConfig, check_name, videos_by_id
from modules.system.errors import UserError


@dataclass(frozen=True, kw_only=True)
class CelebVHQConfig(AnnotatedConfig):
    """celebvhq_info.json, and videos whose names hold the YouTube id."""

    def find(self) -> Found:
        """The clips whose video is there, each as a part of it."""
        path = Path(self.annotations)
        by_id = videos_by_id(self.videos)
        videos, missing = [], []
        for name, entry in sorted(_clips(path).items()):
            clip = _clip(check_name(name, path), entry, path)
            file = by_id.get(clip.person)
            if file is None:
                missing.append((name, f"no video of {clip.person} in {self.videos}"))
            else:
                videos.append(clip.video(name, file, self.margin))
        return Found(videos, missing)


@dataclass(frozen=True)
class _ListedClip:
    """An entry of the list; `person` is the YouTube id."""

    person: str
    start: float
    stop: float
    window: Window

    def video(self, name: str, path: Path, margin: float) -> Video:
        return Video(
            name=name,
            path=path,
            size=path.stat().st_size,
            start=self.start,
            stop=self.stop,
            window=self.window,
            margin=margin,
            person=self.person,
            origin=f"CelebV-HQ {name}, YouTube {self.person}",
        )


def _clips(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read ({reason}); set annotations= to celebvhq_info.json") from error
    clips = content.get("clips") if isinstance(content, dict) else None
    if not isinstance(clips, dict) or not clips:
        raise UserError(f"{path} has no 'clips'; set annotations= to celebvhq_info.json as it was published")
    return clips


def _clip(name: str, entry: Any, path: Path) -> _ListedClip:
    try:
        seconds, box = entry["duration"], entry["bbox"]
        sides = [float(box[side]) for side in ("left", "top", "right", "bottom")]
        start, stop = float(seconds["start_sec"]), float(seconds["end_sec"])
        person = str(entry["ytb_id"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: clip {name} lacks a number ({error}); take the list as it was published") from error
    if not (0 <= start < stop and 0 <= sides[0] < sides[2] <= 1 and 0 <= sides[1] < sides[3] <= 1):
        raise UserError(f"{path}: clip {name} has seconds {start} to {stop} and box {sides}; take the published list")
    return _ListedClip(check_name(person, path), start, stop, Window(*sides))
