"""Outside files: the list of them (assets.yaml), the groups that commands need, and their paths on this machine."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from modules.system.errors import UserError

FOLDER_VARIABLE = "REAL3D_ASSETS"
CHECKPOINTS = Path(__file__).resolve().parents[2] / "checkpoints"
DEFAULT_FOLDER = CHECKPOINTS / "assets"
DEMO_CHECKPOINT = CHECKPOINTS / "demo"  # the embedded one
MANIFEST = Path(__file__).with_suffix(".yaml")
FILE_GROUPS = {  # what a command needs together, with the settings of its YAML
    "photo": "inference.run: photos and clips of people (comes with the repository)",
    "own-clips": "data_gen.run configs/data/videos.yaml face_model=ict, and training on such clips",
    "stage1": "tasks.run configs/i2p.yaml",
    "stage2": "tasks.run configs/motion_adapter.yaml",
    "stage3": "tasks.run configs/htbsr.yaml",
    "speech": "tasks.run configs/syncnet.yaml and configs/a2m.yaml",
    "evaluation": "tasks.evaluate: the networks of its measures, each of which is left out without its own",
    "official": "scripts.convert_checkpoint and the released weights",
}
ANALYSIS = ("face_landmarker.task", "selfie_segmenter.tflite", "hair_segmenter.tflite")  # of photos and clips


def shipped(path: Path) -> Path:
    """A relative path that is not there counts from the repository, so that its own files are found from any folder."""
    return path if path.exists() else CHECKPOINTS.parent / path  # an absolute one stays


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One outside file or folder.

    Attributes:
        name: its file or folder name inside the assets folder.
        what: what it is, one line.
        licence: its licence or terms.
        needed_by: what cannot be done without it.
        source: the page of its publishers.
        address: the URL from which `fetch` downloads it; None if it cannot be fetched automatically.
        hub: name of a repository on the Hugging Face hub, instead of an address.
        size: bytes, where known (of the whole folder for hub entries).
        sha256: the checksum, or its published beginning, where known.
        how: what to do to get it by hand (gated, converted or unknown addresses).
        optional: True if there is something to use instead.
        groups: names in `FILE_GROUPS`.
    """

    name: str
    what: str
    licence: str
    needed_by: tuple[str, ...]
    source: str
    address: str | None = None
    hub: str | None = None
    size: int | None = None
    sha256: str | None = None
    how: str | None = None
    optional: bool = False
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.address and self.hub:
            raise ValueError(f"{self.name}: give an address or a hub name, not both")
        if not (self.address or self.hub or self.how):
            raise ValueError(f"{self.name}: without an address it must say how to get it")
        if not set(self.groups) <= FILE_GROUPS.keys():
            raise ValueError(f"{self.name}: groups are {', '.join(FILE_GROUPS)}")

    @property
    def fetchable(self) -> bool:
        """Whether `python -m scripts.assets fetch` can download it."""
        return bool(self.address or self.hub)

    @property
    def advice(self) -> str:
        """What a user can do when it is missing: a command, or the words of `how`."""
        if self.fetchable:
            return f"python -m scripts.assets fetch {self.name}"
        return self.how


@cache
def manifest() -> dict[str, Asset]:
    """All outside files by name, in the order of assets.yaml."""
    entries = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
    lists = ("needed_by", "groups")
    assets = [Asset(**entry | {key: tuple(entry.get(key, ())) for key in lists}) for entry in entries]
    return {asset.name: asset for asset in assets}


def group_files(group: str) -> list[Asset]:
    """The files of a group of `FILE_GROUPS`."""
    return [asset for asset in manifest().values() if group in asset.groups]


def asset_folders(folder: Path | None = None) -> list[Path]:
    """The folders that are searched for assets, in order: `folder`, or $REAL3D_ASSETS and then checkpoints/assets."""
    if folder is not None:
        return [Path(folder)]
    variable = os.environ.get(FOLDER_VARIABLE)
    return ([Path(variable)] if variable else []) + [DEFAULT_FOLDER]


def locate(name: str, folder: Path | None = None) -> Path | None:
    """Path of an asset in the first of `asset_folders(folder)` that has it; None when none has."""
    for candidate in asset_folders(folder):
        if (candidate / name).exists():
            return candidate / name
    return None


def find_asset(name: str, folder: Path | None = None) -> Path:
    """Path of an asset that is needed now.

    Raises:
        UserError: it is not here; the message names the file, its licence and how to get it.
    """
    path = locate(name, folder)
    if path is not None:
        return path
    searched = " or ".join(str(candidate) for candidate in asset_folders(folder))
    asset = manifest().get(name)
    if asset is None:
        raise UserError(f"{name} is missing in {searched}")
    if asset.fetchable:
        raise UserError(f"{name} ({asset.what}; {asset.licence}) is missing in {searched}; get it with: {asset.advice}")
    raise UserError(f"{name} ({asset.what}; {asset.licence}) is missing in {searched}; {asset.how}")


def require_assets(needed: Iterable[tuple[str, ...]]) -> None:
    """Name all missing files at once; a single one is left to its reader, which says more about it.

    Args:
        needed: of each file its name and those that will do instead.
    Raises:
        UserError: two or more are missing; the message says how to get all of them.
    """
    missing = list(dict.fromkeys(names[0] for names in needed if not any(locate(name) for name in names)))
    if len(missing) < 2:
        return
    known = [manifest()[name] for name in missing if name in manifest()]
    fetchable = [asset.name for asset in known if asset.fetchable]
    ways = [f"get them with: python -m scripts.assets fetch {_shortest(fetchable)}"] if fetchable else []
    ways += [f"{asset.name}: {asset.how}" for asset in known if not asset.fetchable]
    searched = " or ".join(str(folder) for folder in asset_folders())
    raise UserError("; ".join([f"{len(missing)} files are missing in {searched}: {', '.join(missing)}", *ways]))


def _shortest(names: list[str]) -> str:
    """The name of the group of which these files are all that is missing and can be fetched, or else their names."""
    for group in FILE_GROUPS:
        lacking = [asset.name for asset in group_files(group) if asset.fetchable and not locate(asset.name)]
        if sorted(lacking) == sorted(names):
            return group
    return " ".join(names)


def checksum_is_right(path: Path, sha256: str | None) -> bool:
    """Whether a file's SHA-256 begins with `sha256`; True if none is known."""
    if sha256 is None:
        return True
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest().startswith(sha256)
