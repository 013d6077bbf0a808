"""Keys: made once, kept private, and what cannot sign is refused in a line that names the file."""

import stat
import sys
from concurrent.futures import ProcessPoolExecutor

import pytest

pytest.importorskip("c2pa", reason="pip install -c constraints.txt -r requirements-provenance.txt")
pytest.importorskip("cryptography", reason="pip install -c constraints.txt -r requirements-provenance.txt")
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from modules.media.content_credentials import Sealer
from modules.media.signing_key import (
    CERTIFICATE_FILE,
    SIGNING_FILE,
    config_folder,
    own_certificate,
    own_signing_key,
    read_signing_key,
)
from modules.system.errors import UserError
from tests.certificates import write_pair


def test_a_key_is_made_once_and_kept_private(tmp_path):
    folder = tmp_path / "config"
    assert own_certificate(folder) is None
    key, made = own_signing_key(folder)
    again, made_again = own_signing_key(folder)
    assert made and not made_again and key == again and key.algorithm == "es256"
    assert sorted(path.name for path in folder.iterdir()) == [CERTIFICATE_FILE, SIGNING_FILE]
    if sys.platform != "win32":
        assert stat.S_IMODE((folder / SIGNING_FILE).stat().st_mode) == 0o600
    leaf, root = x509.load_pem_x509_certificates(key.chain)
    leaf.verify_directly_issued_by(root)
    assert x509.load_pem_x509_certificate(own_certificate(folder)) == root
    assert b"PRIVATE" not in own_certificate(folder) and b"PRIVATE" in key.private


def test_processes_that_make_it_at_once_have_the_same(tmp_path):
    with ProcessPoolExecutor(4) as pool:
        keys = list(pool.map(own_signing_key, [tmp_path / "config"] * 4))
    assert len({key.chain for key, _ in keys}) == 1 and sum(made for _, made in keys) == 1


def test_it_lies_with_what_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = config_folder()
    assert folder.name == "real3d-portrait" and (sys.platform != "linux" or folder.parent == tmp_path)


@pytest.mark.parametrize(
    "make, algorithm",
    [
        (lambda: ec.generate_private_key(ec.SECP256R1()), "es256"),
        (lambda: ec.generate_private_key(ec.SECP384R1()), "es384"),
        (lambda: ec.generate_private_key(ec.SECP521R1()), "es512"),
        (lambda: rsa.generate_private_key(65537, 2048), "ps256"),
        (ed25519.Ed25519PrivateKey.generate, "ed25519"),
    ],
)
def test_keys_of_all_kinds_of_c2pa_sign(tmp_path, make, algorithm):
    key = read_signing_key(*write_pair(tmp_path, make()))
    assert key.algorithm == algorithm
    Sealer(key)  # tries it


@pytest.mark.parametrize("name", ["key.pem", "cert.pem"])
def test_what_is_no_pem_is_refused_by_its_name(tmp_path, name):
    pair = write_pair(tmp_path)
    (tmp_path / name).write_text("nothing of that kind")
    with pytest.raises(UserError, match=f"{name} holds no (private key|certificate)"):
        read_signing_key(*pair)
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=f"{name} cannot be read"):
        read_signing_key(*pair)


def test_what_does_not_belong_together_is_refused(tmp_path):
    private, _ = write_pair(tmp_path)
    (tmp_path / "other").mkdir()
    _, chain = write_pair(tmp_path / "other")
    with pytest.raises(UserError, match="is not that of the key"):
        read_signing_key(private, chain)


def test_what_has_run_out_or_is_not_yet_is_refused(tmp_path):
    for days in ((-30, -1), (1, 30)):
        with pytest.raises(UserError, match="is for 20"):
            read_signing_key(*write_pair(tmp_path, days=days))


def test_a_key_with_a_passphrase_is_refused(tmp_path):
    with pytest.raises(UserError, match="asks for a passphrase"):
        read_signing_key(*write_pair(tmp_path, passphrase=b"secret"))


def test_keys_that_c2pa_does_not_know_are_refused(tmp_path):
    with pytest.raises(UserError, match="no key of this kind signs manifests"):
        read_signing_key(*write_pair(tmp_path, ec.generate_private_key(ec.SECP256K1())))


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="the key of this computer, .* cannot be used"):
        own_signing_key(tmp_path / "file" / "config")


def test_a_key_of_this_computer_that_was_damaged_is_named(tmp_path):
    own_signing_key(tmp_path)
    (tmp_path / SIGNING_FILE).write_text("lost")
    with pytest.raises(UserError, match=f"{SIGNING_FILE} holds no private key"):
        own_signing_key(tmp_path)
