"""C2PA manifests ("content credentials"): put into finished files and signed, and read from any file."""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

from PIL import Image

from modules.media.signing_key import PROVENANCE_REQUIREMENTS, SigningKey
from modules.system.errors import UserError
from modules.system.files import whole_file
from modules.system.packages import optional_package

SIGNABLE = {  # what can hold a manifest, of what is written here
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
}
# A photo that moves is put together of the photo and of what networks made of it and of speech.
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
_MAKER = "Real3D-Portrait"
_MANIFEST = {
    "claim_generator_info": [{"name": _MAKER}],
    "assertions": [
        {
            "label": "c2pa.actions.v2",
            "data": {
                "actions": [
                    {"action": "c2pa.created", "digitalSourceType": SOURCE_TYPE, "softwareAgent": {"name": _MAKER}}
                ]
            },
        }
    ],
}
_START = b"jumdc2pa" + bytes.fromhex("00110010800000aa00389b71")  # of a store of manifests, in any kind of file
_BLOCK = 1 << 20  # bytes that are searched at once
Seal = Callable[[Path, str], None]  # rewrites a finished file in place, whose ending is that


class Signature(Enum):
    """What became of a manifest's signature."""

    VALID = "valid: the file is as it was signed"
    FILE_CHANGED = "broken: the file was changed after it was signed"
    MANIFEST_CHANGED = "broken: the manifest was changed, or was not signed with its certificate"
    REFUSED = "not valid"


@dataclass(frozen=True)
class Manifest:
    """What a file's latest manifest says; texts are those of the file, which may say anything.

    Attributes:
        maker: the program that made the claim.
        source_types: last words of the digital source types of its actions, such as trainedAlgorithmicMedia.
        signature: whether it holds.
        signer: name and organisation of the certificate.
        trusted: whether one of the certificates that were given vouches for the signer.
        problems: codes of C2PA of all that is wrong, but for a signer that nobody vouches for.
    """

    maker: str
    source_types: tuple[str, ...]
    signature: Signature
    signer: str
    trusted: bool
    problems: tuple[str, ...] = field(default=())


class Sealer:
    """Puts a signed manifest into files; `seal` is what writers take.

    Raises:
        UserError: the package is missing, or refuses the certificate.
    """

    def __init__(self, key: SigningKey) -> None:
        self._c2pa = _package()
        c2pa = self._c2pa
        try:
            self._signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(key.algorithm, key.chain, key.private, None))
            tried = io.BytesIO()
            Image.new("RGB", (1, 1)).save(tried, "PNG")
            self._sign(SIGNABLE[".png"], tried, io.BytesIO())
        except c2pa.C2paError as error:
            raise UserError(
                f"this certificate cannot sign a manifest ({_line(error)}); it must be one for digital "
                "signatures, whose extended usage is emailProtection, documentSigning or c2pa-kp-claimSigning"
            ) from error

    def seal(self, path: Path, suffix: str) -> None:
        """Sign a finished file, which is replaced when that is done.

        Args:
            suffix: a key of `SIGNABLE`, whatever the file is called.
        Raises:
            OSError: the disk is full, or the file is gone.
            UserError: it cannot be signed.
        """
        with whole_file(path) as part, path.open("rb") as source, part.open("r+b") as file:
            target = _Target(file)
            try:
                self._sign(SIGNABLE[suffix.lower()], source, target)
                file.flush()
            except self._c2pa.C2paError as error:
                if target.fault is not None:
                    raise target.fault from error
                raise UserError(f"{path.name} cannot be signed ({_line(error)}); leave --sign out") from error

    def _sign(self, kind: str, source: BinaryIO, target: object) -> None:
        context = self._c2pa.Context.from_dict(_settings(None))
        with self._c2pa.Builder(_MANIFEST, context) as builder:
            builder.sign(self._signer, kind, source, target)


class _Target:
    """A file for the library, which would not say why it could not write.

    Attributes:
        fault: what it was.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.fault: OSError | None = None
        self.read, self.seek, self.tell, self._file = file.read, file.seek, file.tell, file

    def write(self, data: bytes) -> int:
        return self._noting(self._file.write, data)

    def flush(self) -> None:
        self._noting(self._file.flush)

    def _noting(self, step: Callable[..., int | None], *arguments: bytes) -> int | None:
        try:
            return step(*arguments)
        except OSError as error:
            self.fault = error
            raise


def holds_manifest(path: Path) -> bool:
    """Whether a file seems to hold a manifest; needs no package."""
    before = b""
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            if _START in before + block:
                return True
            before = block[-len(_START) :]
    return False


def read_manifest(path: Path, trusted: bytes | None = None) -> Manifest | None:
    """The latest manifest of a file, checked; nothing is fetched from anywhere.

    Args:
        trusted: PEM of certificates that may vouch for the signer.
    Returns:
        None if the file holds none.
    Raises:
        UserError: the package is missing, or the manifest is damaged beyond reading or kept elsewhere.
    """
    c2pa = _package()
    try:
        with path.open("rb") as file, c2pa.Context.from_dict(_settings(trusted)) as context:
            reader = c2pa.Reader.try_create(None, file, context=context)
            if reader is None:
                return None
            with reader:
                return _manifest(json.loads(reader.json()))
    except c2pa.C2paError.NotSupported:
        return None  # a kind of file that holds no manifest
    except (c2pa.C2paError, ValueError, KeyError, TypeError) as error:
        if str(error).startswith("Remote:"):
            raise UserError(
                f"the manifest of {path.name} is not in the file but at an address, which is not asked here "
                f"({_line(error)}); use a tool that may"
            ) from error
        raise UserError(f"the manifest of {path.name} cannot be read ({_line(error)}); it is damaged") from error


def _manifest(store: Mapping[str, object]) -> Manifest:
    latest = store["manifests"][store["active_manifest"]]
    results = store.get("validation_results") or {}
    failures = [failure["code"] for failure in (results.get("activeManifest") or {}).get("failure", [])]
    for ingredient in results.get("ingredientDeltas") or []:
        failures += [failure["code"] for failure in ingredient.get("validationDeltas", {}).get("failure", [])]
    problems = tuple(code for code in failures if code != "signingCredential.untrusted")
    state = store.get("validation_state")
    about = latest.get("signature_info") or {}
    maker = [info.get("name", "") for info in latest.get("claim_generator_info") or []]
    types = []
    for assertion in latest.get("assertions") or []:
        if assertion.get("label", "").startswith("c2pa.actions"):
            types += [action.get("digitalSourceType", "") for action in assertion["data"].get("actions", [])]
    return Manifest(
        maker=", ".join(filter(None, maker)) or str(latest.get("claim_generator", "")),
        source_types=tuple(dict.fromkeys(kind.rpartition("/")[2] for kind in types if kind)),
        signature=_signature(state, problems),
        signer=", ".join(dict.fromkeys(filter(None, (about.get("common_name"), about.get("issuer"))))),
        trusted=state == "Trusted",
        problems=problems,
    )


def _signature(state: object, problems: tuple[str, ...]) -> Signature:
    if state in ("Valid", "Trusted"):
        return Signature.VALID
    if any(code.startswith(("claimSignature", "assertion.hashedURI", "assertion.missing")) for code in problems):
        return Signature.MANIFEST_CHANGED
    if any(code.startswith("assertion") and code.endswith("Hash.mismatch") for code in problems):
        return Signature.FILE_CHANGED
    return Signature.REFUSED


def _settings(trusted: bytes | None) -> dict[str, object]:
    """No second picture inside the file, no request to any network."""
    settings = {
        "builder": {"thumbnail": {"enabled": False}},
        "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    }
    return settings if trusted is None else settings | {"trust": {"user_anchors": trusted.decode("ascii", "replace")}}


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _package() -> ModuleType:
    return optional_package("c2pa", "a C2PA manifest", "leave --sign out", PROVENANCE_REQUIREMENTS)
