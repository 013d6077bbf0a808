"""The options that sign what is written: who signs, what can be signed, and the seal that the writers take."""

import argparse
import os
from pathlib import Path

from modules.media.content_credentials import SIGNABLE, Seal, Sealer
from modules.media.endings import FOLDER
from modules.media.signing_key import (
    PROVENANCE_REQUIREMENTS,
    SIGNING_FILE,
    config_folder,
    own_signing_key,
    read_signing_key,
)
from modules.system.errors import UserError, note
from modules.system.packages import check_package


def add_signing(parser: argparse.ArgumentParser, kind: type[Path] = Path) -> None:
    """Who signs.

    Args:
        kind: makes a path of an option's text.
    """
    parser.add_argument(
        "--sign",
        action="store_true",
        help="put a signed C2PA manifest into the output, with a certificate that this computer makes for itself "
        "(docs/provenance.md)",
    )
    parser.add_argument("--sign-key", type=kind, help="sign with this private key (.pem) instead of the computer's own")
    parser.add_argument("--sign-cert", type=kind, help="its certificate and those that vouch for it (.pem), in order")


def check_signing(options: argparse.Namespace, output: Path) -> None:
    """Refuse what cannot be signed; a key that is given means that it signs.

    Raises:
        UserError: naming the option, or the package that is missing.
    """
    given = {"--sign-key": options.sign_key, "--sign-cert": options.sign_cert}
    missing = [name for name, path in given.items() if path is None]
    if len(missing) == 1:
        raise UserError(f"{missing[0]} is missing: a key signs with its certificate; give both, or --sign alone")
    for name, path in given.items():
        if path is not None and not os.path.isfile(path):
            raise UserError(f"{name} {path}: there is no such file")
    options.sign = options.sign or options.sign_key is not None
    if not options.sign:
        return
    for package in ("c2pa", "cryptography", "platformdirs"):
        check_package(package, "--sign", "leave it out", PROVENANCE_REQUIREMENTS)
    if output.suffix.lower() not in (FOLDER, *SIGNABLE):
        raise UserError(
            f"--sign: {output.suffix} files hold no C2PA manifest; use {', '.join(SIGNABLE)} or leave --sign out"
        )


def seal_of(options: argparse.Namespace) -> Seal | None:
    """What signs, after `check_signing`; None: nobody does.

    Raises:
        UserError: the key or its certificate cannot be used.
    """
    if not options.sign:
        return None
    if options.sign_key is not None:
        return Sealer(read_signing_key(options.sign_key, options.sign_cert)).seal
    key, made = own_signing_key(config_folder())
    if made:
        note(f"this computer made a key and a certificate for itself: {config_folder() / SIGNING_FILE}")
    return Sealer(key).seal
