"""What is said of a file, in words and by the exit code; also where the package of manifests is missing."""

import numpy as np
import pytest
from PIL import Image

from inference import verify
from inference.verify import main
from modules.media.picture_writer import open_output
from modules.media.signing_key import CERTIFICATE_FILE, SIGNING_FILE
from modules.media.video_writer import PROVENANCE


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The folder of the user's own key, empty."""
    folder = tmp_path / "config" / "real3d-portrait"
    for place in ("inference.verify", "inference.signing"):
        monkeypatch.setattr(f"{place}.config_folder", lambda: folder)
    return folder


@pytest.fixture
def say(capsys):
    """say(path, ...) -> exit code, lines on stdout, what stood on stderr."""

    def call(*arguments: object):
        code = main([str(argument) for argument in arguments])
        output = capsys.readouterr()
        return code, output.out.splitlines(), output.err

    return call


def signed(path, home):
    pytest.importorskip("c2pa", reason="pip install -c constraints.txt -r requirements-provenance.txt")
    from modules.media.content_credentials import Sealer
    from modules.media.signing_key import own_signing_key

    return write(path, Sealer(own_signing_key(home)[0]).seal)


def write(path, seal=None):
    with open_output(path, (64, 48), seal=seal) as output:
        for shade in range(3):
            output.write(np.random.default_rng(shade).integers(0, 256, (48, 64, 3), np.uint8))
    return path


def test_a_marked_file_is_found_without_the_package(say, tmp_path, monkeypatch):
    monkeypatch.setattr("inference.verify.is_installed", lambda name: False)
    code, lines, _ = say(write(tmp_path / "a.mp4"))
    assert code == 0 and lines[0].startswith(f"mark: {PROVENANCE}") and lines[1:] == ["manifest: none"]


def test_a_manifest_is_told_of_without_the_package(say, tmp_path, monkeypatch, home):
    path = signed(tmp_path / "a.mp4", home)
    monkeypatch.setattr("inference.verify.is_installed", lambda name: False)
    code, lines, _ = say(path)
    assert code == 0 and "not checked, as the package c2pa-python is missing" in lines[1]
    assert "requirements-provenance.txt" in lines[1] and len(lines) == 2


def test_what_says_nothing_is_1(say, tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    assert say(tmp_path / "a.png")[:2] == (1, ["mark: none of this program", "manifest: none"])


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp", ".png", ".jpg"])
def test_a_signed_file_is_valid_on_this_computer_and_elsewhere_not_trusted(say, tmp_path, home, suffix):
    path = signed(tmp_path / f"a{suffix}", home)
    code, lines, _ = say(path)
    assert code == 0 and [line.split(":")[0] for line in lines] == ["mark", "manifest", "signature", "signer"]
    assert lines[1].endswith("of Real3D-Portrait; it says compositeWithTrainedAlgorithmicMedia")
    assert "valid: the file is as it was signed" in lines[2] and "this computer made for itself" in lines[3]
    certificate = (home / CERTIFICATE_FILE).rename(tmp_path / "of another computer.pem")
    code, lines, _ = say(path)
    assert code == 0 and "not trusted: who that is was not checked" in lines[3]
    code, lines, _ = say(path, "--trust", certificate)
    assert code == 0 and lines[3].endswith("trusted, by --trust")


def test_a_signer_for_whom_nobody_vouches_is_2_if_somebody_was_asked(say, tmp_path, home):
    pytest.importorskip("c2pa", reason="pip install -c constraints.txt -r requirements-provenance.txt")
    from tests.certificates import write_pair

    path, (_, stranger) = signed(tmp_path / "a.png", home), write_pair(tmp_path)
    code, lines, _ = say(path, "--trust", stranger)
    assert code == 2 and "signature: valid" in lines[2] and "nobody in --trust vouches" in lines[3]


@pytest.mark.parametrize("suffix, at", [(".mp4", 0.9), (".gif", 0.9), (".webp", 0.25), (".png", 0.9)])
def test_a_changed_byte_is_2(say, tmp_path, home, suffix, at):
    path = signed(tmp_path / f"a{suffix}", home)
    content = bytearray(path.read_bytes())
    content[round(len(content) * at)] ^= 1
    path.write_bytes(content)
    code, lines, _ = say(path)
    assert code == 2 and lines[-1] == "signature: broken: the file was changed after it was signed"


def test_a_changed_manifest_is_2_with_what_the_library_says(say, tmp_path, home):
    path = signed(tmp_path / "a.mp4", home)
    path.write_bytes(path.read_bytes().replace(b"compositeWithTrained", b"compositeWithoutAny_"))
    code, lines, _ = say(path)
    assert code == 2 and "the manifest was changed" in lines[-1] and "assertion.hashedURI.mismatch" in lines[-1]


def test_a_stripped_manifest_leaves_the_mark_and_a_stripped_mark_nothing(say, tmp_path, home):
    path = signed(tmp_path / "a.png", home)
    with Image.open(path) as picture:
        comment = picture.info["Comment"]
        stripped, bare = tmp_path / "stripped.png", tmp_path / "bare.png"
        from PIL import PngImagePlugin

        info = PngImagePlugin.PngInfo()
        info.add_text("Comment", comment)
        picture.save(stripped, pnginfo=info)
        picture.save(bare)
    assert say(stripped)[0] == 0 and say(stripped)[1][1] == "manifest: none"
    assert say(bare)[0] == 1


def test_texts_of_a_file_steer_no_terminal(say, tmp_path):
    from modules.media.video_writer import PROVENANCE as text

    Image.new("RGB", (64, 64)).save(tmp_path / "a.gif", comment=f"{text}\x1b[2J\n{'x' * 500}".encode())
    code, lines, _ = say(tmp_path / "a.gif")
    assert code == 0 and "\x1b" not in lines[0] and len(lines) == 2 and len(lines[0]) < 300


@pytest.mark.parametrize("name", ["gone.mp4", "text.mp4", "cut.mp4"])
def test_bad_input_is_one_line_and_2(say, tmp_path, name):
    (tmp_path / "text.mp4").write_text("hello")
    (tmp_path / "cut.mp4").write_bytes(write(tmp_path / "a.mp4").read_bytes()[:200])
    code, lines, error = say(tmp_path / name)
    assert code == 2 and not lines and error.startswith("error: ") and error.count("\n") == 1


def test_a_trust_file_without_certificates_is_refused(say, tmp_path):
    path = write(tmp_path / "a.png")
    assert "--trust" in say(path, "--trust", path)[2] and say(path, "--trust", tmp_path / "gone.pem")[0] == 2


def test_no_key_is_made_by_looking(say, tmp_path, home):
    say(write(tmp_path / "a.png"))
    assert not (home / SIGNING_FILE).exists() and verify.NOTHING_FOUND == 1
