"""What a folder of prepared clips holds: python -m data_gen.inspect FOLDER

    python -m data_gen.inspect data/own
    python -m data_gen.inspect s3://bucket/shards
    python -m data_gen.inspect data/own --output own.html --shown 48

Prints counts, hours and people, and writes a page that opens from disk: distributions of pose, expression, face size
and loudness, a contact sheet with the worst fits first, and the reasons for which videos were refused.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from data_gen.clip_facts import ClipFacts, read_facts
from data_gen.inspection_page import inspection_page
from data_gen.progress import PreparationLog, RefusedKind
from modules.clips.format import list_clips
from modules.clips.store import StoreConfig, clip_folder, is_address
from modules.system.errors import UserError, run_command
from modules.system.files import named_file
from modules.system.interrupts import Interrupts
from modules.system.progress import with_progress

INSPECTION = "inspection.html"  # in the folder, of an address in this one, unless --output says otherwise


def inspect(folder: str, output: Path, shown: int) -> list[tuple[str, str]]:
    """Measure the clips of a folder, or of an address of shards, and write the page; returns the counts.

    Raises:
        UserError: there are no clips, one is damaged, the store does not answer, or the page cannot be written.
    """
    here = clip_folder(folder, StoreConfig())
    clips = list_clips(here)
    log = PreparationLog(here, {})
    facts = []
    with Interrupts() as interrupts:
        for clip in with_progress(map(read_facts, clips), len(clips), "clip"):
            facts.append(clip)
            interrupts.check()
    refused = log.refused_kinds()
    counts = count(facts, refused, log.missing_count)
    with named_file(output) as part:
        part.write_text(inspection_page(folder, facts, counts, refused, shown), encoding="utf-8")
    return counts


def count(facts: Sequence[ClipFacts], refused: Sequence[RefusedKind], missing: int) -> list[tuple[str, str]]:
    """What there is, by name."""
    heard = [clip for clip in facts if clip.loudness == clip.loudness]
    return [
        ("clips", str(len(facts))),
        ("people", str(len({clip.person for clip in facts}))),
        ("hours", hours(facts)),
        ("hours with sound", hours(heard)),
        ("clips without pictures", str(sum(not clip.has_pictures for clip in facts))),
        ("face models", most_common([clip.face_model for clip in facts])),
        ("licences", most_common([clip.licence or "none noted" for clip in facts])),
        ("parts refused", str(sum(kind.count for kind in refused))),
        ("missing", str(missing)),
    ]


def hours(facts: Sequence[ClipFacts]) -> str:
    """Their length together."""
    return f"{sum(clip.seconds for clip in facts) / 3600:.2f}"


def most_common(names: Sequence[str], most: int = 5) -> str:
    """The most frequent names with their numbers."""
    counted = Counter(names).most_common()
    rest = f", {len(counted) - most} more" if len(counted) > most else ""
    return ", ".join(f"{name} ({number})" for name, number in counted[:most]) + rest


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code is 0, 2 after a user's error."""
    parser = argparse.ArgumentParser(prog="python -m data_gen.inspect", description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="of prepared clips, or an address of shards such as s3://bucket/shards")
    parser.add_argument(
        "--output", type=Path, help=f"the page (default: {INSPECTION} in the folder, of an address in the current one)"
    )
    parser.add_argument("--shown", type=int, default=32, help="clips on the contact sheet (default: %(default)s)")
    options = parser.parse_args(arguments)

    def body() -> None:
        if options.shown < 0:
            raise UserError(f"--shown is {options.shown}; give 0 or more")
        output = options.output or Path("" if is_address(options.folder) else options.folder) / INSPECTION
        for name, value in inspect(options.folder, output, options.shown):
            print(f"{name}: {value}")
        print(f"page: {output}")

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
