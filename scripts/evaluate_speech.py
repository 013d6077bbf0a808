"""Measure how a checkpoint's lips follow speech that no training heard, and whether they rest without any.

    python -m scripts.evaluate_speech --checkpoint checkpoints/demo --sentences 60

Prints the share of p, b and m on which the lips meet and of frames in which they meet falsely, on sentences as flite
speaks them (without flite: of formant speech) and on the same recorded anew (other room, microphone, level, and noise);
and how far the mouth is open in silence and in sounds without speech. With real clips: python -m tasks.evaluate.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_gen import flite
from data_gen.synthetic_speech import Talk, spoken_sentences
from inference.speech import USUAL_STYLE, SpeechStyle, SpeechToMotion
from modules.face3d.morphable_model import MorphableModel
from modules.face_models import load_face_model
from modules.media.rates import FRAME_RATE, SAMPLE_RATE
from modules.metrics.lips import Closure, lip_closure
from modules.metrics.series import mouth_opening
from modules.procedural.mouth import BILABIALS, PAUSE, mouth_track
from modules.procedural.person import HELD_OUT_SEED
from modules.procedural.speech import rerecord, synthesize
from modules.system.errors import UserError, run_command
from modules.system.files import named_file

SECONDS = 8.0  # of a piece of speech, or of a sound without speech
EDGE = FRAME_RATE  # frames at the start of a sound without speech in which the mouth may still find its rest

Lips = Callable[[Tensor], Tensor]  # waveform [N] at 16 kHz -> expression coefficients [T, 64]


def held_out_talk(number: int) -> Talk:
    """Piece `number` of speech that no training heard, as it is spoken."""
    random = np.random.default_rng([HELD_OUT_SEED + number, 0x5A1D])
    samples = round(SECONDS * SAMPLE_RATE)
    if flite.available():
        return spoken_sentences(SECONDS, random).cut(samples)
    speech = synthesize(HELD_OUT_SEED + number, SECONDS, 1.0)
    names, ends = zip(*((phoneme.name, phoneme.end) for phoneme in speech.phonemes))
    return Talk(speech.audio.double().numpy(), names, np.array(ends))


def opening_of(face: MorphableModel, expression: Tensor) -> Tensor:
    """Opening of the mean person's mouth [T] for expressions [T, 64]."""
    return mouth_opening(face.landmarks(torch.zeros(1, face.identity_basis.shape[-1]), expression, 478)[..., :2])


def closures(openings: list[Tensor], talks: list[Talk]) -> Closure:
    """`lip_closure` of pieces of speech laid end to end, so that one opening counts as closed in all of them.

    Args:
        openings: [T] of each piece.
        talks: their sounds.
    """
    spans: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    start = 0
    for opening, talk in zip(openings, talks):
        ends = np.minimum(talk.ends * FRAME_RATE, len(opening))
        for name, first, last in zip(talk.names, np.concatenate([[0.0], ends]), ends):
            if name != PAUSE and last > first:
                spans[name in BILABIALS].append((start + first, start + last))
        start += len(opening)
    return lip_closure(torch.cat(openings), *(torch.tensor(spans[kind]).reshape(-1, 2) for kind in (True, False)))


def sounds_without_speech() -> dict[str, Tensor]:
    """Waveforms [N] at 16 kHz by name."""
    samples = round(SECONDS * SAMPLE_RATE)
    random = np.random.default_rng(HELD_OUT_SEED)
    time = np.arange(samples) / SAMPLE_RATE
    pink = np.fft.rfft(random.standard_normal(samples))
    pink /= np.sqrt(np.maximum(np.arange(len(pink)), 20))
    notes = 220 * 2 ** (random.choice([0, 2, 4, 7, 9, 12], round(4 * SECONDS)) / 12)  # four a second
    since = time % 0.25
    phase = 2 * np.pi * notes[np.minimum((4 * time).astype(int), len(notes) - 1)] * since
    melody = np.exp(-6 * since) * sum(np.sin(k * phase) / k for k in range(1, 6))
    sounds: dict[str, NDArray[np.float64]] = {
        "digital silence": np.zeros(samples),
        "a quiet room": 0.0003 * random.standard_normal(samples),
        "white noise": 0.1 * random.standard_normal(samples),
        "pink noise": np.fft.irfft(pink, samples) / np.fft.irfft(pink, samples).std() * 0.1,
        "hum of 50 Hz": 0.1 * np.sign(np.sin(2 * np.pi * 50 * time)),
        "a melody": 0.2 * melody,
    }
    return {name: torch.from_numpy(sound.astype(np.float32)) for name, sound in sounds.items()}


@dataclass(frozen=True, kw_only=True)
class Rest:
    """The mouth without speech: 0 is its 2 % quantile in speech, 1 its 95 % quantile.

    Args:
        opening: mean.
        range: from the least to the largest opening.
    """

    opening: float
    range: float


def rest_figures(lips: Lips, face: MorphableModel, spoken: Tensor) -> dict[str, Rest]:
    """How the mouth rests in `sounds_without_speech`, after their first second.

    Args:
        spoken: [T] openings in speech.
    """
    low, high = spoken.quantile(torch.tensor([0.02, 0.95])).tolist()
    result = {}
    for name, wave in sounds_without_speech().items():
        opening = (opening_of(face, lips(wave))[EDGE:] - low) / (high - low)
        result[name] = Rest(opening=float(opening.mean()), range=float(opening.max() - opening.min()))
    return result


def measure(lips: Lips, face: MorphableModel, pieces: int) -> tuple[dict[str, Closure], dict[str, Rest]]:
    """Closures by the kind of recording, with those of the training's own targets; and rest."""
    talks = [held_out_talk(number) for number in range(pieces)]
    clean = [torch.from_numpy(talk.wave.astype(np.float32)) for talk in talks]
    waves = {"clean": clean, "recorded anew": [rerecord(wave, HELD_OUT_SEED + i) for i, wave in enumerate(clean)]}
    openings = {kind: [opening_of(face, lips(wave)) for wave in each] for kind, each in waves.items()}
    frames = int(SECONDS * FRAME_RATE)
    openings["targets"] = [opening_of(face, mouth_track(talk.names, talk.ends, frames)) for talk in talks]
    return {kind: closures(each, talks) for kind, each in openings.items()}, rest_figures(
        lips, face, torch.cat(openings["clean"])
    )


def show(kept: Mapping[str, Closure], rests: Mapping[str, Rest]) -> None:
    """Print the figures."""
    voices = "flite's voices" if flite.available() else "formant speech (flite is not installed)"
    for kind, closure in kept.items():
        print(f"{voices}, {kind}: lips meet on {closure.kept:.1%} of p b m, falsely in {closure.false:.1%} of frames")
    for name, rest in rests.items():
        print(f"{name}: open by {rest.opening:.2f}, range {rest.range:.2f} of speech")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.evaluate_speech", description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoints/demo"))
    parser.add_argument("--pieces", type=int, default=40, help=f"of speech, {SECONDS:.0f} s each (default: 40)")
    parser.add_argument("--temperature", type=float, default=USUAL_STYLE.temperature)
    parser.add_argument("--json", type=Path, help="also write all figures here")
    options = parser.parse_args(arguments)

    def body() -> None:
        if options.pieces < 1:
            raise UserError(f"--pieces is {options.pieces}; give at least 1")
        speech = SpeechToMotion.load(options.checkpoint / "audio2motion", torch.device("cpu"))
        generator, style = torch.Generator().manual_seed(0), SpeechStyle(temperature=options.temperature)
        kept, rests = measure(
            lambda wave: speech.expression(wave.numpy(), generator, style),
            load_face_model(speech.face_model),
            options.pieces,
        )
        show(kept, rests)
        if options.json:
            figures = {
                kind: {name: asdict(f) for name, f in each.items()}
                for kind, each in (("closures", kept), ("rest", rests))
            }
            with named_file(options.json) as part:
                part.write_text(json.dumps(figures, indent=1))

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
