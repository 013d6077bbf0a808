"""Spoken sentences with known phoneme times by flite, a small synthesiser (Debian: apt-get install flite).

The sentences are random words: they are for training lips, which need all sounds in all neighbourhoods, not sense.
"""

import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shutil import which

import numpy as np
from numpy.typing import NDArray

from modules.media.audio import read_mono
from modules.media.rates import SAMPLE_RATE
from modules.procedural.mouth import MOUTH_SHAPES, PAUSE
from modules.system.errors import UserError

VOICES = ("slt", "rms", "awb", "kal16")  # those that say any text; others of flite know the time of day alone
_TIMEOUT = 60  # seconds
_OTHER_NAMES = {  # of flite's phones, where ours differ
    **dict.fromkeys(("pau", "h#", "ssil", "brth"), PAUSE),
    **{"uh": "U", "ah": "uh", "y": "j", "el": "l", "em": "m", "en": "n", "q": "t"},
}
_WORDS = """
a about above across after again air all alone along always amber among an and animal another any apple arm around at
baby back bad bag ball bamboo banana bank basket bath beam bean bear beautiful because bed been before begin behind
bell below bench best better between beyond big bird black blue board boat body bone book both bottom box boy brave
bread bridge bright bring brother brown bubble build bump busy but button by cabin camp can captain car careful castle
cat chair change cheap cheese child choose church city clear climb clock close cloud coat coffee cold come company
cook copper could country couple cover cow crowd cup daily dance dark daughter day deep desk did different dinner do
dog door double down dream drive drop during each early earth east easy edge eight empty enjoy enough even evening
ever every eye fable face fall family far farm father feel few field fifty film find finger fire first fish five flame
floor flower fly follow food foot for forest forget form found four fresh friend from full funny future game garden
gave gentle give glass go goes gold good grape great green group grow guess habit hair half hammer hand happy harbour
hard has have he head hear heavy help her here high hill him his home honey hope horse hot hour house how hundred huge
ice if imagine important in inside into island it jam job join journey joy judge juice jump just keep kept kind
kitchen knife know lamp language large last late laugh law lead leaf learn leave left lemon less letter life light
like limb line lion listen little live long look loud love low lucky machine magic make man many map march market may
maybe me meadow measure meet member memory metal middle might mile milk million mind mirror moment money month moon
more morning most mother mountain mouse mouth move much museum music must my name near neighbour never new next nice
night nine no nobody noise north nose not nothing now number of often oil old on once one only open or orange other
our out outside over own oyster page paint pair palm pancake paper park part party pass people pepper perhaps person
piano picture piece pilot place plan plant play please pleasure plenty pocket point pool poor possible pot potato
power practice prepare press problem proud pub pull pump purple push put quality question quick quiet rabbit rain read
ready really red remember rest rice rich ride right ring river road rock room rope rose rough round row rubber rule
run sad safe said same sand save saw say school sea see seem seven shadow shape sharp she ship shirt shoe shop short
should show silver simple sing sister sit six skin sleep slow small smile smooth snow so soap some something song soon
sound soup south space speak spoon spring stamp stand star station stay stem step still stone stop story street strong
such sugar summer sun sure swim table take talk tall tea teach tell temple ten than thank that the their them then
there these they thick thin thing think this those though thought thousand three through thumb time to today together
tomorrow too took top touch towards town toy train travel treasure tree true try turn twelve two umbrella uncle under
until up upon us use usual valley very view village visit voice voyage wait walk wall want warm was wash watch water
wave way we wear weather week well went were west what wheel when where which while white who whole why wide wild will
wind window winter wish with woman wonder wood word work world worm would write wrong year yellow yes yesterday yet
you young your zebra zero zone zoo
""".split()


@dataclass(frozen=True)
class Spoken:
    """A spoken sentence.

    Args:
        wave: [N] in [-1, 1] at 16 kHz.
        names: S sounds, keys of modules/procedural/mouth.py's MOUTH_SHAPES.
        ends: [S] seconds, rising; the last one is the end of the wave.
    """

    wave: NDArray[np.float64]
    names: tuple[str, ...]
    ends: NDArray[np.float64]


@cache
def available() -> bool:
    """Whether flite is installed."""
    return which("flite") is not None


def random_sentence(random: np.random.Generator) -> str:
    """3 to 10 random words, with commas here and there."""
    words = [str(word) for word in random.choice(_WORDS, random.integers(3, 11))]
    marked = [word + "," * bool(random.random() < 0.08) for word in words[:-1]]
    return " ".join([*marked, words[-1]]) + str(random.choice([".", "?", "!"], p=[0.8, 0.15, 0.05]))


def speak(text: str, voice: str, stretch: float) -> Spoken:
    """A text spoken by one of VOICES.

    Args:
        stretch: of all lengths, 1 = normal.
    Raises:
        UserError: flite fails or says something that is no list of sounds.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spoken.wav"
        command = ["flite", "-voice", voice, "--setf", f"duration_stretch={stretch:.3f}", "-psdur"]
        try:
            run = subprocess.run(  # noqa: S603 - a fixed program, no shell; the text is one argument
                [*command, "-t", text, "-o", str(path)], capture_output=True, text=True, timeout=_TIMEOUT, check=True
            )
            sounds = [sound.rsplit(":", 1) for sound in run.stdout.split()]
            names = tuple(_OTHER_NAMES.get(name, name) for name, _ in sounds)
            ends = np.array([float(end) for _, end in sounds])
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            raise UserError(f"flite cannot speak ({error}); install it again or set voices=formant") from error
        if not names or (unknown := set(names) - MOUTH_SHAPES.keys()):
            raise UserError(
                f"flite names sounds that are not known ({', '.join(sorted(unknown)) if names else 'none'})"
            )
        wave = read_mono(path, SAMPLE_RATE).astype(np.float64)
    ends[-1] = max(ends[-1], len(wave) / SAMPLE_RATE)
    return Spoken(np.pad(wave, (0, max(0, round(ends[-1] * SAMPLE_RATE) - len(wave)))), names, ends)
