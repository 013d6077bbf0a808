"""Speech features of clips that were prepared without them: python -m data_gen.speech FOLDER --features hubert

    python -m data_gen.speech data/voxceleb2 --features hubert

HuBERT and Whisper run on a GPU if there is one. The features are stored beside each clip's sound, for the speech
stages. Clips that have them are left alone, so that the same command resumes a stopped run, and several may work on
one folder.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from tqdm import tqdm

from data_gen.audio_track import FeatureSources, speech_features
from modules.audio.features import FeatureKind
from modules.audio.hubert import DEFAULT_HUBERT
from modules.audio.whisper import DEFAULT_WHISPER
from modules.clips.format import CannotWrite, Clip, list_clips, speech_file, write_speech
from modules.system.errors import run_command


def add_features(clips: list[Path], kind: FeatureKind, sources: FeatureSources) -> Iterator[bool]:
    """Compute what is missing; yields for each clip whether it has the features now, which a silent one has not.

    Raises:
        UserError: the network cannot be loaded, a clip is damaged or cannot be written.
    """
    for folder in clips:
        if not speech_file(folder, kind).is_file():
            wave = Clip(folder).audio()
            try:
                for name, features in speech_features(wave, (kind,), sources).items():
                    write_speech(folder, name, features)
            except OSError as error:
                raise CannotWrite(f"{folder} cannot be written ({error.strerror}); free some space") from error
        yield speech_file(folder, kind).is_file()


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code is 0, 2 after a user's error."""
    parser = argparse.ArgumentParser(prog="python -m data_gen.speech", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of prepared clips")
    parser.add_argument("--features", choices=get_args(FeatureKind), default="hubert")
    parser.add_argument("--hubert", default=DEFAULT_HUBERT, help="folder or hub name (default: %(default)s)")
    parser.add_argument(
        "--whisper", default=DEFAULT_WHISPER, help="folder of scripts.convert_whisper (default: %(default)s)"
    )
    options = parser.parse_args(arguments)

    def body() -> None:
        clips = list_clips(options.folder)
        added = add_features(clips, options.features, FeatureSources(hubert=options.hubert, whisper=options.whisper))
        count = sum(tqdm(added, total=len(clips), desc=options.features, unit="clip"))
        print(f"{options.folder}: {count} of {len(clips)} clips have {options.features} features, the others no sound")

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
