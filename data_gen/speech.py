"""Speech features of clips that were prepared without them: python -m data_gen.speech FOLDER --features hubert

    python -m data_gen.speech data/voxceleb2 --features hubert

HuBERT and Whisper run on a GPU if there is one. The features are stored beside each clip's sound, for the speech
stages. Clips that have them are left alone, so that the same command resumes a stopped run, and several may work on
one folder. Where only the pitch is of another tracker than `--pitch`, it alone is computed anew.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

from data_gen.audio_track import FeatureSources, speech_features
from modules.audio.features import AudioFeatures, FeatureKind, PitchKind, pitch_frames
from modules.audio.hubert import DEFAULT_HUBERT
from modules.audio.whisper import DEFAULT_WHISPER
from modules.clips.format import CannotWrite, Clip, list_clips, speech_file, write_speech
from modules.clips.shards import has_file
from modules.system.errors import run_command
from modules.system.progress import with_progress


def add_features(clips: list[Path], kind: FeatureKind, sources: FeatureSources) -> Iterator[bool]:
    """Compute what is missing; yields for each clip whether it has the features now, which a silent one has not.

    Raises:
        UserError: the network cannot be loaded, a clip is damaged or cannot be written.
    """
    for folder in clips:
        clip = Clip(folder)
        stored = clip.stored_speech(kind)
        if stored is None or stored[1] != sources.pitch:
            try:
                for features in _new_features(clip, kind, sources):
                    write_speech(folder, kind, features)
            except OSError as error:
                raise CannotWrite(f"{folder} cannot be written ({error.strerror}); free some space") from error
        yield has_file(speech_file(folder, kind))


def _new_features(clip: Clip, kind: FeatureKind, sources: FeatureSources) -> Iterator[AudioFeatures]:
    """Features and pitch of a clip, or stored features with new pitch; nothing for a silent clip."""
    wave, stored = clip.audio(), clip.speech(kind)
    if stored is not None and wave is not None:
        f0 = pitch_frames(wave, len(stored), sources.pitch)
        yield replace(stored, f0=f0, pitch=sources.pitch)
    elif stored is None:
        yield from speech_features(wave, (kind,), sources).values()


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code is 0, 2 after a user's error."""
    parser = argparse.ArgumentParser(prog="python -m data_gen.speech", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of prepared clips")
    parser.add_argument("--features", choices=get_args(FeatureKind), default="hubert")
    parser.add_argument("--hubert", default=DEFAULT_HUBERT, help="folder or hub name (default: %(default)s)")
    parser.add_argument(
        "--whisper", default=DEFAULT_WHISPER, help="folder of scripts.convert_whisper (default: %(default)s)"
    )
    parser.add_argument("--pitch", choices=get_args(PitchKind), default="praat", help="tracker of the pitch")
    options = parser.parse_args(arguments)

    def body() -> None:
        clips = list_clips(options.folder)
        sources = FeatureSources(hubert=options.hubert, whisper=options.whisper, pitch=options.pitch)
        sources.check(())
        added = add_features(clips, options.features, sources)
        count = sum(with_progress(added, len(clips), "clip"))
        print(f"{options.folder}: {count} of {len(clips)} clips have {options.features} features, the others no sound")

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
