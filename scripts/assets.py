"""Outside files: which there are, how to get them, and what is missing on this machine.

python -m scripts.assets list                      # what each command needs, then every file
python -m scripts.assets fetch stage1              # all that one of them needs
python -m scripts.assets fetch mit-b0              # or single files
python -m scripts.assets check
"""

import argparse
import importlib.util
import platform
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from modules.system.assets import (
    DEFAULT_FOLDER,
    DEMO_CHECKPOINT,
    FILE_GROUPS,
    Asset,
    asset_folders,
    checksum_is_right,
    group_files,
    locate,
    manifest,
)
from modules.system.errors import UserError, run_command

PYTHON = ((3, 11), (3, 13))
PACKAGES = ("torch", "numpy", "scipy", "cv2", "PIL", "mediapipe", "av", "soxr", "safetensors", "einops")


@dataclass(frozen=True)
class Finding:
    """One line of `check`: "ok", "note" (something optional is missing) or "stop" (a command cannot run)."""

    state: str
    text: str


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.assets", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--assets",
        type=Path,
        help=f"folder of outside files "
        f"(default: $REAL3D_ASSETS, or {DEFAULT_FOLDER.parent.name}/{DEFAULT_FOLDER.name})",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every outside file with size, licence, and whether it is here")
    fetching = commands.add_parser("fetch", help="download the files of a group, or files by name")
    fetching.add_argument("names", nargs="+", metavar="NAME", help=f"{', '.join(FILE_GROUPS)}, or names of the list")
    commands.add_parser("check", help="what would stop which command on this machine")
    return parser.parse_args(arguments)


def list_assets(folder: Path | None) -> Iterator[str]:
    """Lines that describe the groups, then every asset."""
    yield "groups: python -m scripts.assets fetch GROUP"
    for group, command in FILE_GROUPS.items():
        yield f"{group:12}{_state_of(group, folder):24}{command}"
    yield ""
    for asset in manifest().values():
        here = locate(asset.name, folder)
        state = "here" if here else "by hand" if not asset.fetchable else "missing"
        yield f"{asset.name:34}{readable(asset.size):>9}  {state:8} {asset.what}"
        yield f"    licence: {asset.licence}; for: {', '.join(asset.needed_by)}"
        if not here:
            yield from textwrap.wrap(
                asset.advice,
                110,
                initial_indent="    get: ",
                subsequent_indent="         ",
                break_long_words=False,
                break_on_hyphens=False,
            )


def _state_of(group: str, folder: Path | None) -> str:
    """What of a group is missing, in a word or two."""
    missing = [asset for asset in group_files(group) if not locate(asset.name, folder)]
    by_hand = sum(not asset.fetchable for asset in missing)
    if not missing:
        return "here"
    return f"{len(missing)} missing" + (f" ({by_hand} by hand)" if by_hand else "")


def fetch_assets(names: list[str], folder: Path | None) -> Iterator[str]:
    """Download assets one after the other; yields a line before and after each.

    Of a group, what is here is left alone, and what must be got by hand is explained at the end.

    Raises:
        UserError: a name is unknown, see `fetch`; or something of a group must be got by hand.
    """
    from modules.system.download import fetch  # needs packages whose absence `check` should be able to report

    members = {asset.name: asset for given in names if given in FILE_GROUPS for asset in group_files(given)}
    missing = [asset for asset in members.values() if not locate(asset.name, folder)]
    chosen = [lookup(given) for given in names if given not in FILE_GROUPS]
    yield from (f"{name}: here" for name, asset in members.items() if asset not in missing)
    for asset in [*(asset for asset in missing if asset.fetchable), *chosen]:
        yield f"{asset.name}: {asset.what}, {readable(asset.size)}, licence: {asset.licence}"
        yield f"  -> {fetch(asset, asset_folders(folder)[0])}"
    by_hand = [f"{asset.name}: {asset.how}" for asset in missing if not asset.fetchable]
    if by_hand:
        raise UserError(f"to be got by hand: {'; '.join(by_hand)}")


def lookup(name: str) -> Asset:
    """The manifest's entry.

    Raises:
        UserError: there is none; the message names the nearest.
    """
    known = manifest()
    if name not in known:
        near = get_close_matches(name, [*FILE_GROUPS, *known], 1, 0.3)
        raise UserError(
            f"there is no asset or group {name}; "
            + (f"did you mean {near[0]}? " if near else "")
            + "All names: python -m scripts.assets list"
        )
    return known[name]


def readable(size: int | None) -> str:
    """Bytes in words: 3.8 MB."""
    if size is None:
        return "? MB"
    unit, digits, name = (1e9, 2, "GB") if size >= 1e9 else (1e6, 1, "MB") if size >= 1e5 else (1e3, 0, "kB")
    return f"{size / unit:.{digits}f} {name}"


def findings(folder: Path | None) -> Iterator[Finding]:
    """Everything that `check` looks at."""
    yield from _check_python()
    yield from _check_torch()
    yield from _check_encoders()
    yield from _check_demo()
    for asset in manifest().values():
        path = locate(asset.name, folder)
        users = ", ".join(asset.needed_by)
        if path is None:
            state = "note" if asset.optional else "stop"
            yield Finding(state, f"{asset.name} is missing; for: {users}; {asset.advice}")
        elif path.is_file() and not checksum_is_right(path, asset.sha256):
            yield Finding("note", f"{path} has another checksum; delete it and: {asset.advice}")
        else:
            yield Finding("ok", str(path))


def _check_python() -> Iterator[Finding]:
    inside = PYTHON[0] <= sys.version_info[:2] <= PYTHON[1]
    yield Finding(
        "ok" if inside else "stop",
        f"Python {platform.python_version()}" + ("" if inside else "; every command needs 3.11 to 3.13"),
    )
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        yield Finding("stop", f"packages missing: {', '.join(missing)}; for every command; run: bash scripts/setup.sh")


def _check_torch() -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        name = torch.cuda.get_device_name(0)
        yield Finding("ok", f"PyTorch {torch.__version__}, {name} with {memory:.0f} GiB")
    else:
        yield Finding("ok", f"PyTorch {torch.__version__}, no CUDA: the CPU is used (full-size training needs a GPU)")


def _check_encoders() -> Iterator[Finding]:
    if importlib.util.find_spec("av") is None:
        return
    from modules.media.video_writer import alpha_encoders, video_encoder

    try:
        yield Finding("ok", f"video encoder {video_encoder()}")
    except UserError as error:
        yield Finding("stop", f"inference.run: {error}")
    missing = [suffix for suffix, encoder in alpha_encoders().items() if encoder is None]
    if missing:
        yield Finding("note", f"inference.run --background transparent cannot write {', '.join(missing)}")


def _check_demo() -> Iterator[Finding]:
    for name in ("portrait", "audio2motion", "whisper"):
        config = DEMO_CHECKPOINT / name / "config.yaml"
        yield (
            Finding("ok", str(config.parent))
            if config.is_file()
            else Finding(
                "stop",
                f"{config} is missing; for: inference.run without --checkpoint; "
                "restore the file with git, or make it with: bash scripts/train_demo.sh",
            )
        )


def main(arguments: list[str] | None = None) -> int:
    """Command line: exit code 0; 2 when something is wrong; `check` gives 2 if it found a "stop"."""
    options = parse(arguments)

    def body() -> None:
        if options.command == "list":
            print("\n".join(list_assets(options.assets)))
        elif options.command == "fetch":
            for line in fetch_assets(options.names, options.assets):
                print(line, flush=True)
        else:
            stops = 0
            for finding in findings(options.assets):
                stops += finding.state == "stop"
                print(f"{finding.state:4}  {finding.text}", flush=True)
            if stops:
                raise UserError(f"{stops} line(s) above say what stops a command")

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
