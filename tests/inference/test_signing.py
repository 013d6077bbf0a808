"""The options that sign: through the command, and what they refuse before anything is made."""

import argparse

import pytest

from inference.run import main, parse
from inference.signing import add_signing, check_signing, seal_of
from modules.system.errors import UserError

pytest.importorskip("c2pa", reason="pip install -c constraints.txt -r requirements-provenance.txt")
from modules.media.content_credentials import Signature, read_manifest
from modules.media.signing_key import CERTIFICATE_FILE, SIGNING_FILE
from tests.certificates import write_pair


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The folder of the user's own key, empty."""
    monkeypatch.setattr("inference.signing.config_folder", lambda: tmp_path / "config")
    return tmp_path / "config"


@pytest.fixture
def make(checkpoint, speech, tmp_path, capfd):
    """make("--sign", name="a.mp4") -> exit code, the path, what stood on stderr."""

    def call(*options: object, name: str = "a.mp4"):
        inputs = ["--checkpoint", checkpoint, "--audio", speech, "--seconds", 0.1, "--output", tmp_path / "out" / name]
        code = main([str(argument) for argument in (*inputs, *options)])
        return code, tmp_path / "out" / name, capfd.readouterr().err

    return call


def test_the_first_signature_makes_a_key_and_the_second_takes_it(make, home):
    code, path, error = make("--sign")
    assert code == 0 and "made a key and a certificate for itself" in error
    assert read_manifest(path, (home / CERTIFICATE_FILE).read_bytes()).trusted
    key = (home / SIGNING_FILE).read_bytes()
    code, path, error = make("--sign", name="b.gif")
    assert code == 0 and "made a key" not in error and (home / SIGNING_FILE).read_bytes() == key
    assert read_manifest(path).signature is Signature.VALID
    assert sorted(path.name for path in path.parent.iterdir()) == ["a.mp4", "b.gif"]


def test_a_key_that_is_given_signs_and_leaves_the_computers_own_alone(make, home, tmp_path):
    private, chain = write_pair(tmp_path)
    code, path, _ = make("--sign-key", private, "--sign-cert", chain)
    assert code == 0 and read_manifest(path, chain.read_bytes()).trusted and not home.exists()


def test_without_the_option_nothing_is_signed(make, home):
    code, path, _ = make()
    assert code == 0 and read_manifest(path) is None and not home.exists()


def test_every_line_of_a_table_is_signed(checkpoint, speech, tmp_path, home):
    table = tmp_path / "jobs.csv"
    table.write_text(f"output,sign\n{tmp_path}/a.mp4,yes\n{tmp_path}/b.mp4,no\n")
    common = ["--checkpoint", checkpoint, "--audio", speech, "--seconds", "0.1", "--batch-file", table]
    assert main([str(argument) for argument in common]) == 0
    assert read_manifest(tmp_path / "a.mp4") is not None and read_manifest(tmp_path / "b.mp4") is None


@pytest.mark.parametrize(
    "options, words",
    [
        (["--sign-key", "key.pem"], "--sign-cert is missing"),
        (["--sign-cert", "cert.pem"], "--sign-key is missing"),
        (["--sign-key", "gone.pem", "--sign-cert", "cert.pem"], "--sign-key gone.pem: there is no such file"),
        (["--sign", "--background", "transparent"], "--sign: .webm files hold no C2PA manifest"),
        (["--sign-key", "cert.pem", "--sign-cert", "key.pem"], "cert.pem holds no private key"),
    ],
)
def test_what_cannot_sign_is_refused_before_anything_is_made(make, tmp_path, monkeypatch, options, words):
    write_pair(tmp_path)
    monkeypatch.chdir(tmp_path)
    name = "a.webm" if "transparent" in options else "a.mp4"
    code, path, error = make(*options, name=name)
    assert code == 2 and words in error and error.count("\n") == 1 and not path.parent.exists()


def test_a_key_is_no_output(make, tmp_path):
    private, chain = write_pair(tmp_path)
    code, _, error = make("--sign-key", private, "--sign-cert", chain, "--save-motion", private)
    assert code == 2 and b"PRIVATE" in private.read_bytes() and error.startswith("error: ")


def test_a_missing_package_is_one_line(make, monkeypatch):
    monkeypatch.setattr("modules.system.packages.is_installed", lambda name: name != "c2pa")
    code, _, error = make("--sign")
    assert code == 2 and "-r requirements-provenance.txt, or leave it out" in error


def test_the_server_takes_the_same_options(home, tmp_path):
    parser = argparse.ArgumentParser()
    add_signing(parser)
    options = parser.parse_args(["--sign"])
    check_signing(options, tmp_path / "talk.mp4")
    assert seal_of(options) is not None and (home / SIGNING_FILE).exists()
    options = parser.parse_args([])
    check_signing(options, tmp_path / "talk.webm")
    assert seal_of(options) is None
    with pytest.raises(UserError, match="webm files hold no"):
        check_signing(parser.parse_args(["--sign"]), tmp_path / "talk.webm")
    assert parse(["--sign"]).sign
