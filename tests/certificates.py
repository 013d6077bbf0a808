"""Keys and certificates for the tests of signing, of every kind."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

EMAIL = x509.ExtendedKeyUsageOID.EMAIL_PROTECTION


def write_pair(
    folder: Path,
    key: object | None = None,
    *,
    days: tuple[int, int] = (-1, 30),
    purpose: object = EMAIL,
    passphrase: bytes | None = None,
) -> tuple[Path, Path]:
    """A key and its own certificate, which no other vouches for; `days` from now are those of its life."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [x509.NameAttribute(kind, "Test") for kind in (x509.NameOID.COMMON_NAME, x509.NameOID.ORGANIZATION_NAME)]
    )
    now = datetime.now(UTC)
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only",
         "decipher_only", "crl_sign", "key_cert_sign"), False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder(name, name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(False, None), True)
        .add_extension(x509.KeyUsage(digital_signature=True, **usage), True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), False)
        .sign(key, None if "Ed25519" in type(key).__name__ else hashes.SHA256())
    )
    lock = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    private, public = folder / "key.pem", folder / "cert.pem"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, lock)
        if hasattr(key, "curve") or hasattr(key, "key_size")
        else key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
    )
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return private, public
