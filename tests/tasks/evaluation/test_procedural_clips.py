from pathlib import Path

import numpy as np

from modules.media.audio import read_sound
from modules.media.video_reader import open_video
from tasks.evaluation.phones import phones_path, read_phones
from tasks.evaluation.procedural_clips import write_procedural_clips


def test_people_speak_and_the_times_of_their_sounds_are_known(tmp_path: Path) -> None:
    write_procedural_clips(tmp_path, range(900_100, 900_102), frames=10, size=64)
    paths = sorted(tmp_path.glob("*.mp4"))
    assert [path.stem for path in paths] == ["person_900100", "person_900101"]
    info, frames = open_video(paths[0])
    pictures = np.stack(list(frames))
    assert pictures.shape == (10, 64, 64, 3) and (info.width, info.height) == (64, 64)
    assert np.abs(pictures[-1].astype(float) - pictures[0]).mean() > 1
    assert np.sqrt((read_sound(paths[0]).samples() ** 2).mean()) > 1e-3
    phones = read_phones(paths[0])
    assert len(phones.others) and phones.others.min() >= 0 and phones.others[:, 0].max() <= 10


def test_clips_that_are_there_stay(tmp_path: Path) -> None:
    path = tmp_path / "person_900100.mp4"
    path.write_bytes(b"kept")
    write_procedural_clips(tmp_path, range(900_100, 900_101), frames=2, size=64)
    assert path.read_bytes() == b"kept" and not phones_path(path).exists()
