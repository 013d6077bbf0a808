"""Download outside files: resumed after a break, tried again, checked before they get their name."""

import sys
import time
from pathlib import Path

import pooch
import requests

from modules.system.assets import Asset, checksum_is_right
from modules.system.errors import UserError

ATTEMPTS = 5
TIMEOUT = 20.0  # seconds without a byte
HUB_FILES = ("config.json", "preprocessor_config.json", "*.safetensors", "pytorch_model.bin")


def fetch(asset: Asset, folder: Path, timeout: float = TIMEOUT, pause: float = 2.0) -> Path:
    """Download an asset into `folder`; nothing is done if it is there and its checksum is right.

    Args:
        asset: an entry of the manifest.
        folder: the assets folder; created if need be.
        timeout: seconds without a byte after which a try fails.
        pause: seconds before the second try; doubles from try to try.
    Returns:
        Path of the file or folder.
    Raises:
        UserError: it cannot be fetched automatically, the server fails five times in a row, the checksum
            is wrong, or the folder cannot be written.
    """
    if not asset.fetchable:
        raise UserError(f"{asset.name} cannot be fetched automatically; {asset.how}")
    target = folder / asset.name
    if target.is_dir() or (target.is_file() and checksum_is_right(target, asset.sha256)):
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if asset.hub:
            return _fetch_from_hub(asset, target)
        part = target.with_name(target.name + ".part")
        _download(asset, part, timeout, pause)
        if not checksum_is_right(part, asset.sha256):
            part.unlink()
            raise UserError(
                f"{asset.name} arrived with a wrong checksum and was deleted; try again, or "
                f"compare {asset.address} with {asset.source}"
            )
        part.replace(target)
    except OSError as error:
        raise UserError(
            f"{target} cannot be written ({error.strerror or error}); choose another folder with --assets"
        ) from error
    return target


def _download(asset: Asset, part: Path, timeout: float, pause: float) -> None:
    """Fill `part`, continuing where it ends; a failed try that brought new bytes does not count."""
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _continue(asset, part, before, timeout)
            return
        except requests.RequestException as error:
            status = error.response.status_code if error.response is not None else None
            if status == requests.codes.requested_range_not_satisfiable and before:
                if asset.sha256 and checksum_is_right(part, asset.sha256):
                    return
                part.unlink()  # longer than the file, or another edition
            elif status is not None and 400 <= status < 500 and status not in (408, 429):
                raise UserError(
                    f"{asset.name}: {asset.address} answers {status}; look for it at {asset.source}"
                ) from error
            failures = 0 if part.exists() and part.stat().st_size > before else failures + 1
            if failures == ATTEMPTS:
                raise UserError(
                    f"{asset.name} could not be fetched from {asset.address} "
                    f"({type(error).__name__}); check the connection and run the command again, "
                    "it continues where it stopped"
                ) from error
            time.sleep(pause * 2 ** max(failures - 1, 0))


def _continue(asset: Asset, part: Path, start: int, timeout: float) -> None:
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with part.open("ab") as file:

        def restart_if_whole(response: requests.Response, *_: object, **__: object) -> None:
            if response.status_code == requests.codes.ok:  # the server ignores ranges
                file.truncate(0)

        pooch.HTTPDownloader(
            progressbar=sys.stderr.isatty(), timeout=timeout, headers=headers, hooks={"response": restart_if_whole}
        )(asset.address, file, None)


def _fetch_from_hub(asset: Asset, target: Path) -> Path:
    from huggingface_hub import snapshot_download  # slow to import, used for few assets

    part = target.with_name(target.name + ".part")
    try:
        snapshot_download(asset.hub, local_dir=part, allow_patterns=list(HUB_FILES))
    except Exception as error:  # its errors have no common class
        raise UserError(
            f"{asset.name} could not be fetched from {asset.source} ({type(error).__name__}); "
            "check the connection and run the command again"
        ) from error
    part.replace(target)
    return target
