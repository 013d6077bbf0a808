"""Say what a picture or video tells of where it comes from: the mark of this program, and a signed C2PA manifest.

python -m inference.verify talk.mp4
python -m inference.verify talk.mp4 --trust certificate.pem     # and whether one of these vouches for the signer

The exit code is 0 if a mark or a manifest is there and nothing is wrong with it, 1 if there is none, 2 if the file
cannot be read, the signature does not hold, or --trust is given and nobody in it vouches for the signer.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from inference.marks import read_mark
from modules.media.content_credentials import Manifest, Signature, holds_manifest, read_manifest
from modules.media.signing_key import PROVENANCE_REQUIREMENTS, config_folder, own_certificate
from modules.system.errors import UserError, run_command
from modules.system.packages import is_installed

NOTHING_FOUND, NOT_VALID = 1, 2
_LONGEST = 200  # characters of a text of a file
_ANYBODY = "plain text, which anybody can write or take out"


@dataclass(frozen=True)
class Finding:
    """What is found in a file.

    Attributes:
        lines: in words, one each.
        code: of the exit.
    """

    lines: tuple[str, ...]
    code: int


def verify(path: Path, trusted: bytes | None = None) -> Finding:
    """What a file tells of where it comes from.

    Args:
        trusted: PEM of certificates that may vouch for a signer; None: nobody is asked.
    Raises:
        UserError: the file is no picture or video, or its manifest is damaged beyond reading.
    """
    mark = read_mark(path)
    lines = [f"mark: {_plain(mark)} ({_ANYBODY})" if mark else "mark: none of this program"]
    unread = not is_installed("c2pa")
    if unread and (trusted is not None or holds_manifest(path)):
        lines.append(
            "manifest: not checked, as the package c2pa-python is missing; pip install -c constraints.txt "
            f"-r {PROVENANCE_REQUIREMENTS}"
        )
    manifest = None if unread else read_manifest(path, trusted)
    if manifest is None:
        if not unread or len(lines) == 1:
            lines.append("manifest: none")
        return Finding(tuple(lines), 0 if mark else NOTHING_FOUND)
    types = ", ".join(manifest.source_types) or "nothing of its source"
    lines.append(f"manifest: C2PA, of {_plain(manifest.maker) or 'an unnamed program'}; it says {_plain(types)}")
    problems = "" if manifest.signature in (Signature.VALID, Signature.FILE_CHANGED) else f" ({_problems(manifest)})"
    lines.append(f"signature: {manifest.signature.value}{problems}")
    if manifest.signature is not Signature.VALID:
        return Finding(tuple(lines), NOT_VALID)
    lines.append(f"signer: {_plain(manifest.signer) or 'unnamed'}; {_trust(path, manifest, trusted)}")
    return Finding(tuple(lines), NOT_VALID if trusted is not None and not manifest.trusted else 0)


def _trust(path: Path, manifest: Manifest, trusted: bytes | None) -> str:
    """Who vouches for a signer, in words."""
    if trusted is not None:
        return "trusted, by --trust" if manifest.trusted else "not trusted: nobody in --trust vouches for this name"
    own = own_certificate(config_folder()) if is_installed("platformdirs") else None
    if own is not None and read_manifest(path, own).trusted:
        return "the certificate that this computer made for itself"
    return "not trusted: who that is was not checked, as --trust names nobody who vouches for it"


def _problems(manifest: Manifest) -> str:
    return _plain(", ".join(dict.fromkeys(manifest.problems))) or "the library does not say why"


def _plain(text: str) -> str:
    """A text of a stranger's file for a terminal: nothing that steers it, and not too long."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m inference.verify", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="a picture, video or mesh")
    parser.add_argument(
        "--trust", type=Path, help="certificates (.pem) that may vouch for a signer; without it nobody is asked"
    )
    return parser.parse_args(arguments)


def _read_trust(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"--trust {path} cannot be read ({error.strerror or error}); give a PEM file") from error
    if b"-----BEGIN CERTIFICATE-----" not in content:
        raise UserError(f"--trust {path} holds no certificate; give a PEM file (-----BEGIN CERTIFICATE-----)")
    return content


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code is 0, 1 or 2 as this file's first lines say."""
    found: list[int] = []

    def body() -> None:
        options = parse(arguments)
        finding = verify(options.file, None if options.trust is None else _read_trust(options.trust))
        print("\n".join(finding.lines))
        found.append(finding.code)

    return run_command(body) or found[0]


if __name__ == "__main__":
    sys.exit(main())
