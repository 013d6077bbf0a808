import os
import sys
from pathlib import Path

import numpy as np
import pytest

from data_gen import flite
from modules.procedural.mouth import MOUTH_SHAPES, PAUSE
from modules.system.errors import UserError

PROGRAM = """#!{python}
import sys, wave
arguments = sys.argv[1:]
if "{sounds}" == "fail":
    sys.exit("no such voice")
with wave.open(arguments[arguments.index("-o") + 1], "wb") as file:
    file.setnchannels(1), file.setsampwidth(2), file.setframerate(8000)
    file.writeframes(bytes(2 * 8000))
print("{sounds}")
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that puts a program named flite before all others; it writes a second of silence and says sounds."""

    def install(sounds: str) -> None:
        program = tmp_path / "bin" / "flite"
        program.parent.mkdir(exist_ok=True)
        program.write_text(PROGRAM.format(python=sys.executable, sounds=sounds))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    return install


def test_sounds_come_with_their_times_in_our_names(stand_in) -> None:
    stand_in("pau:0.2 y:0.3 uh:0.5 ah:0.6 m:0.8 pau:0.95 ")
    spoken = flite.speak("you", "slt", 1.0)
    assert spoken.names == (PAUSE, "j", "U", "uh", "m", PAUSE)
    assert spoken.ends.tolist() == [0.2, 0.3, 0.5, 0.6, 0.8, 1.0]
    assert len(spoken.wave) == 16_000  # resampled


@pytest.mark.parametrize("sounds", ["fail", "pau:0.2 xyz:0.3", "no times", ""])
def test_a_program_that_fails_is_one_line(stand_in, sounds: str) -> None:
    stand_in(sounds)
    with pytest.raises(UserError, match="flite") as caught:
        flite.speak("hello", "slt", 1.0)
    assert "\n" not in str(caught.value)


def test_sentences_are_random_words() -> None:
    random = np.random.default_rng(0)
    sentences = [flite.random_sentence(random) for _ in range(200)]
    assert len(set(sentences)) > 190 and all(s[-1] in ".?!" and 3 <= len(s.split()) <= 10 for s in sentences)
    assert sum(letter in "pbm" for s in sentences for letter in s) > 200


@pytest.mark.skipif(not flite.available(), reason="flite is not installed")
@pytest.mark.parametrize("voice", flite.VOICES)
def test_the_voices_of_flite_say_what_they_are_told(voice: str) -> None:
    spoken = flite.speak("A big map, maybe.", voice, 1.0)
    assert {"b", "m", "p"} <= set(spoken.names) <= MOUTH_SHAPES.keys() and spoken.names[0] == PAUSE
    assert np.all(np.diff(spoken.ends) > 0) and abs(spoken.ends[-1] - len(spoken.wave) / 16_000) < 0.01
    assert np.abs(spoken.wave[: int(0.1 * 16_000)]).max() < 0.1 < np.abs(spoken.wave).max()
    slow = flite.speak("A big map, maybe.", voice, 1.2)
    assert 1.1 < slow.ends[-1] / spoken.ends[-1] < 1.3
