"""Keys with their certificates, which sign files: one that was given, or one that this computer makes for itself.

A certificate that was made here says nothing of who made it: it tells that two files were signed on the same computer,
and that they were not changed since.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from modules.system.errors import UserError
from modules.system.packages import optional_package

PROVENANCE_REQUIREMENTS = "requirements-provenance.txt"
SIGNING_FILE, CERTIFICATE_FILE = "signing.pem", "certificate.pem"  # private; what others may have
_FOLDER = "real3d-portrait"
_NAME, _ROOT_NAME = "Real3D-Portrait, self-made certificate", "Real3D-Portrait, root of a self-made certificate"
_DAYS = 3650
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
_SMALLEST_RSA = 2048  # bits


@dataclass(frozen=True)
class SigningKey:
    """A private key and the certificates that go with it.

    Attributes:
        algorithm: how C2PA calls the way of signing: es256, es384, es512, ps256 or ed25519.
        private: PEM of the key, PKCS 8, not encrypted.
        chain: PEM of its certificate and of those that vouch for that, in order.
    """

    algorithm: str
    private: bytes
    chain: bytes


def config_folder() -> Path:
    """Where this program keeps what is the user's: below ~/.config on Linux."""
    return Path(_package("platformdirs").user_config_dir(_FOLDER, appauthor=False))


def own_signing_key(folder: Path) -> tuple[SigningKey, bool]:
    """The key of this computer, and whether it was made just now.

    Args:
        folder: where it lies; the key is readable for its owner alone.
    Raises:
        UserError: it cannot be read or written, or has run out.
    """
    path = folder / SIGNING_FILE
    try:
        made = not path.exists() and _put(path, _new_key())
        key = _signing_key(path.read_bytes(), path.read_bytes(), path, path)
        public = folder / CERTIFICATE_FILE
        if not public.exists():
            public.write_bytes(_certificates(key.chain)[-1])
    except OSError as error:
        raise UserError(
            f"the key of this computer, {path}, cannot be used ({error.strerror or error}); mend it, or give another "
            "with --sign-key and --sign-cert"
        ) from error
    return key, made


def own_certificate(folder: Path) -> bytes | None:
    """PEM of what vouches for the key of this computer, or None if it has none."""
    try:
        return (folder / CERTIFICATE_FILE).read_bytes()
    except OSError:
        return None


def read_signing_key(private: Path, chain: Path) -> SigningKey:
    """A key and its certificates from PEM files, the key's own certificate first.

    Raises:
        UserError: naming the file, and what is wrong with it.
    """
    contents = []
    for path in (private, chain):
        try:
            contents.append(path.read_bytes())
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror or error}); give a PEM file") from error
    return _signing_key(*contents, private, chain)


def _signing_key(private: bytes, chain: bytes, private_path: Path, chain_path: Path) -> SigningKey:
    serialization = _package("cryptography.hazmat.primitives.serialization")
    x509 = _package("cryptography.x509")
    try:
        key = serialization.load_pem_private_key(private, None)
    except TypeError as error:
        raise UserError(f"{private_path} asks for a passphrase; give a key without one") from error
    except Exception as error:  # of several kinds, some of them the library's own
        raise UserError(
            f"{private_path} holds no private key; give a PEM file (-----BEGIN PRIVATE KEY-----)"
        ) from error
    try:
        certificates = x509.load_pem_x509_certificates(chain)
    except ValueError as error:
        raise UserError(f"{chain_path} holds no certificate; give a PEM file (-----BEGIN CERTIFICATE-----)") from error
    encoding = serialization.Encoding.PEM
    plain = serialization.PublicFormat.SubjectPublicKeyInfo
    if certificates[0].public_key().public_bytes(encoding, plain) != key.public_key().public_bytes(encoding, plain):
        raise UserError(
            f"the first certificate of {chain_path} is not that of the key {private_path}; give those that belong "
            "together"
        )
    first, last = certificates[0].not_valid_before_utc, certificates[0].not_valid_after_utc
    if not first <= datetime.now(UTC) <= last:
        raise UserError(
            f"the certificate of {chain_path} is for {first:%Y-%m-%d} to {last:%Y-%m-%d}; use another"
            + (" (delete this one, and a new one is made)" if chain_path.name == SIGNING_FILE else "")
        )
    return SigningKey(
        _algorithm(key, private_path),
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        b"".join(certificate.public_bytes(encoding) for certificate in certificates),
    )


def _algorithm(key: object, path: Path) -> str:
    """What C2PA calls the way in which such a key signs."""
    curve = getattr(getattr(key, "curve", None), "name", "")
    if curve in _CURVES:
        return _CURVES[curve]
    kind = type(key).__name__.lower()
    if "ed25519" in kind:
        return "ed25519"
    if "rsa" in kind and key.key_size >= _SMALLEST_RSA:
        return "ps256"
    raise UserError(
        f"{path}: no key of this kind signs manifests; give one of the curve P-256, P-384 or P-521, Ed25519, or RSA of "
        f"at least {_SMALLEST_RSA} bits"
    )


def _new_key() -> bytes:
    """PEM of a new key, its certificate, and the one that vouches for it and for nothing else, ever."""
    serialization = _package("cryptography.hazmat.primitives.serialization")
    ec = _package("cryptography.hazmat.primitives.asymmetric.ec")
    key, root = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    certificates = [_certificate(key, root, False), _certificate(root, root, True)]
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)


def _certificate(key: object, signer: object, root: bool) -> object:
    """A certificate as C2PA asks for: of a root that may sign others, or of a key that may sign files."""
    x509 = _package("cryptography.x509")
    hashes = _package("cryptography.hazmat.primitives.hashes")

    def named(text: str) -> object:
        kinds = (x509.NameOID.COMMON_NAME, x509.NameOID.ORGANIZATION_NAME)
        return x509.Name([x509.NameAttribute(kind, text) for kind in kinds])

    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only",
         "decipher_only", "crl_sign"), False,
    )  # fmt: skip
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .issuer_name(named(_ROOT_NAME))
        .subject_name(named(_ROOT_NAME if root else _NAME))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(x509.BasicConstraints(root, 0 if root else None), True)
        .add_extension(x509.KeyUsage(digital_signature=not root, key_cert_sign=root, **usage), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False)
    )
    if not root:
        purpose = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.EMAIL_PROTECTION])
        certificate = certificate.add_extension(purpose, False)
    return certificate.sign(signer, hashes.SHA256())


def _certificates(chain: bytes) -> list[bytes]:
    """The PEM texts of a chain."""
    end = b"-----END CERTIFICATE-----\n"
    return [part + end for part in chain.split(end) if part.strip()]


def _put(path: Path, content: bytes) -> bool:
    """Write a private file whole; whether this call did it, and not another process before it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with suppress(FileNotFoundError):
            part.unlink()
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        os.link(part, path)  # unlike a rename, it never replaces the key of another process
    except FileExistsError:
        return False
    finally:
        part.unlink(missing_ok=True)
    return True


def _package(name: str) -> object:
    return optional_package(name, "signing", "leave --sign out", PROVENANCE_REQUIREMENTS)
