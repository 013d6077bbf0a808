"""Manifests: put in without touching what is seen, read back, and broken by any change."""

import errno
import io

import av
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("c2pa", reason="pip install -c constraints.txt -r requirements-provenance.txt")
from cryptography.x509 import ExtendedKeyUsageOID

from modules.media import content_credentials
from modules.media.content_credentials import (
    SIGNABLE,
    Sealer,
    Signature,
    holds_manifest,
    read_manifest,
)
from modules.media.picture_writer import open_output
from modules.media.signing_key import own_certificate, own_signing_key, read_signing_key
from modules.system.errors import UserError
from tests.certificates import write_pair


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """The folder of a key of this computer's own."""
    folder = tmp_path_factory.mktemp("config")
    own_signing_key(folder)
    return folder


@pytest.fixture(scope="module")
def sealer(keys):
    return Sealer(own_signing_key(keys)[0])


def write(path, seal=None):
    """Three frames of noise."""
    rng = np.random.default_rng(0)
    alpha = path.suffix == ".mov"
    with open_output(path, (64, 48), alpha, seal=seal) as output:
        for _ in range(3):
            output.write(rng.integers(0, 256, (48, 64, 4 if alpha else 3), np.uint8))
    return path


def pixels(path) -> np.ndarray:
    if path.suffix in (".mp4", ".mov"):
        with av.open(str(path)) as container:
            return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    with Image.open(path) as image:
        return np.stack(
            [np.asarray(image.seek(n) or image.convert("RGB")) for n in range(getattr(image, "n_frames", 1))]
        )


@pytest.mark.parametrize("suffix", SIGNABLE)
def test_a_signed_file_shows_the_same_and_says_what_it_is(tmp_path, sealer, keys, suffix):
    plain, signed = write(tmp_path / f"plain{suffix}"), write(tmp_path / f"signed{suffix}", sealer.seal)
    assert np.array_equal(pixels(plain), pixels(signed))
    assert 0 < signed.stat().st_size - plain.stat().st_size < 10_000
    assert holds_manifest(signed) and not holds_manifest(plain) and read_manifest(plain) is None
    found = read_manifest(signed)
    assert found.signature is Signature.VALID and found.maker == "Real3D-Portrait" and not found.problems
    assert found.source_types == ("compositeWithTrainedAlgorithmicMedia",)
    assert not found.trusted and "self-made" in found.signer
    assert read_manifest(signed, own_certificate(keys)).trusted
    assert sorted(path.name for path in tmp_path.iterdir()) == [plain.name, signed.name]


def test_every_picture_of_a_folder_is_signed(tmp_path, sealer):
    folder = write(tmp_path / "frames", sealer.seal)
    assert [read_manifest(path).signature for path in sorted(folder.iterdir())] == [Signature.VALID] * 3


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp", ".png", ".jpg"])
def test_one_changed_byte_of_the_picture_breaks_it(tmp_path, sealer, suffix):
    path = write(tmp_path / f"signed{suffix}", sealer.seal)
    content = bytearray(path.read_bytes())
    content[len(content) // 4 if suffix == ".webp" else len(content) * 9 // 10] ^= 1  # its manifest is the end
    path.write_bytes(content)
    assert read_manifest(path).signature is Signature.FILE_CHANGED


def test_a_changed_word_of_the_manifest_breaks_it(tmp_path, sealer):
    path = write(tmp_path / "signed.mp4", sealer.seal)
    content = path.read_bytes()
    assert b"compositeWithTrained" in content
    path.write_bytes(content.replace(b"compositeWithTrained", b"compositeWithoutAny_"))
    found = read_manifest(path)
    assert found.signature is Signature.MANIFEST_CHANGED and found.problems


def test_the_manifest_of_another_file_does_not_hold(tmp_path, sealer):
    """Cut out of a signed PNG and put into one that shows something else."""
    signed = write(tmp_path / "signed.png", sealer.seal).read_bytes()
    start = signed.index(b"caBX") - 4
    chunk = signed[start : start + 12 + int.from_bytes(signed[start : start + 4], "big")]
    other = tmp_path / "other.png"
    Image.new("RGB", (64, 48), "red").save(other)
    content = other.read_bytes()
    other.write_bytes(content[:33] + chunk + content[33:])
    assert read_manifest(other).signature is Signature.FILE_CHANGED


def test_only_those_who_vouch_for_the_signer_are_trusted(tmp_path, sealer, keys):
    path = write(tmp_path / "signed.png", sealer.seal)
    _, stranger = write_pair(tmp_path)
    assert not read_manifest(path, stranger.read_bytes()).trusted
    assert read_manifest(path, stranger.read_bytes() + own_certificate(keys)).trusted


def test_a_given_certificate_signs(tmp_path):
    private, chain = write_pair(tmp_path)
    path = write(tmp_path / "signed.png", Sealer(read_signing_key(private, chain)).seal)
    found = read_manifest(path, chain.read_bytes())
    assert found.trusted and found.signer == "Test"


def test_a_certificate_for_something_else_is_refused_before_any_work(tmp_path):
    key = read_signing_key(*write_pair(tmp_path, purpose=ExtendedKeyUsageOID.CODE_SIGNING))
    with pytest.raises(UserError, match="this certificate cannot sign a manifest"):
        Sealer(key)


def test_a_manifest_that_is_cut_off_is_an_error_of_one_line(tmp_path, sealer):
    path = write(tmp_path / "signed.jpg", sealer.seal)
    content = path.read_bytes()
    start = content.index(b"jumd") + 40
    path.write_bytes(content[:start] + bytes(300) + content[start + 300 :])
    with pytest.raises(UserError, match="the manifest of signed.jpg cannot be read .* damaged") as error:
        read_manifest(path)
    assert "\n" not in str(error.value)


def test_a_full_disk_is_told_as_such_and_leaves_the_file(tmp_path, sealer, monkeypatch):
    path = write(tmp_path / "plain.png")
    before = path.read_bytes()

    class Full(io.RawIOBase):
        def __init__(self, file):
            self.read, self.seek, self.tell = file.read, file.seek, file.tell

        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    target = content_credentials._Target
    monkeypatch.setattr(content_credentials, "_Target", lambda file: target(Full(file)))
    with pytest.raises(OSError, match="No space left"):
        sealer.seal(path, ".png")
    assert path.read_bytes() == before and [*tmp_path.iterdir()] == [path]


def test_reading_asks_no_network(tmp_path, monkeypatch):
    """A manifest that is elsewhere is not fetched."""
    import c2pa

    builder = c2pa.Builder(content_credentials._MANIFEST)
    builder.set_no_embed()
    builder.set_remote_url("http://127.0.0.1:9/manifest")
    private, chain = write_pair(tmp_path)
    key = read_signing_key(private, chain)
    signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(key.algorithm, key.chain, key.private, None))
    plain, away = write(tmp_path / "plain.jpg"), tmp_path / "away.jpg"
    builder.sign(signer, "image/jpeg", plain.open("rb"), away.open("w+b"))
    with pytest.raises(UserError, match="not in the file but at an address, which is not asked here"):
        read_manifest(away)
