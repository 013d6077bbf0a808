from pathlib import Path

import numpy as np
import pytest
import torch

from modules.metrics import networks
from modules.metrics.networks import NAMES, Missing, load
from modules.metrics.published_syncnet import PublishedSyncNet
from modules.metrics.sync import SyncScore
from modules.system.assets import manifest
from modules.system.errors import UserError
from tests.metric_clips import series_of
from tests.modules.metrics.onnx_file import pooling_network

OPTIONAL = "pip install -r requirements-metrics.txt"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of assets."""
    monkeypatch.setenv("REAL3D_ASSETS", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", [name for name in NAMES if name != "csim_dlib"])
def test_a_network_without_its_file_is_missing_by_name_with_what_to_do(name: str, folder: Path):
    missing = load(name)
    assert isinstance(missing, Missing) and missing.name == name and "\n" not in missing.how_to_get
    assert (
        "scripts.assets fetch" in missing.how_to_get
        or "buffalo_l.zip" in missing.how_to_get
        or "pip" in (missing.how_to_get)
    )


@pytest.mark.parametrize("name, package", [("lpips_alex", "lpips"), ("csim_dlib", "dlib-bin"), ("inception", "torch")])
def test_a_network_without_its_package_is_missing_too(
    name: str, package: str, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        networks.importlib.util, "find_spec", lambda module: object() if module == "face_recognition_models" else None
    )
    missing = load(name)
    assert (
        isinstance(missing, Missing) and package in missing.how_to_get and networks.REQUIREMENTS in missing.how_to_get
    )


def test_every_file_is_listed_with_licence_and_source():
    for file in (
        networks.ARCFACE_FILE,
        *networks.TRUNK_FILES.values(),
        networks.INCEPTION_FILE,
        networks.FACE_ALIGNMENT_FILE,
        networks.SYNCNET_FILE,
    ):
        assert manifest()[file].optional and "tasks.evaluate" in manifest()[file].needed_by[0]


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="no network 'csim'; known: csim_arcface"):
        load("csim")


@pytest.mark.parametrize("name", ["lpips_alex", "face_alignment", "syncnet", "inception"])
def test_other_weights_under_the_right_name_are_refused(name: str, folder: Path):
    file = {"lpips_alex": networks.TRUNK_FILES["alex"], "face_alignment": networks.FACE_ALIGNMENT_FILE}
    file |= {"syncnet": networks.SYNCNET_FILE, "inception": networks.INCEPTION_FILE}
    torch.save({"features.0.weight": torch.zeros(2)}, folder / file[name])
    with pytest.raises(UserError, match="holds other weights"):
        if isinstance(load(name), Missing):
            pytest.skip(OPTIONAL)


def test_arcface_of_a_file_gives_vectors(folder: Path):
    (folder / networks.ARCFACE_FILE).write_bytes(pooling_network(np.ones((5, 3), np.float32)))
    vectors = load("csim_arcface")(torch.zeros(1, 64, 64, 3, dtype=torch.uint8), series_of(1, 64).landmarks)
    torch.testing.assert_close(vectors, torch.full((1, 5), -3.0))


def test_lpips_of_a_trunk_file_grows_with_the_change(folder: Path, generator: torch.Generator):
    pytest.importorskip("lpips", reason=OPTIONAL)
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    torch.save(models.alexnet().state_dict(), folder / networks.TRUNK_FILES["alex"])
    network = load("lpips_alex")
    truth, noise = torch.rand(2, 1, 3, 64, 64, generator=generator)
    little, much = (float(network((truth + share * noise).clamp(0, 1), truth)) for share in (0.05, 0.5))
    assert float(network(truth, truth)) == pytest.approx(0, abs=1e-7) and 0 < little < much
    assert float(network(truth, truth, torch.ones(1, 1, 64, 64))) == pytest.approx(0, abs=1e-7)


def test_inception_of_a_file_gives_2048_numbers_of_8_bit_pictures(folder: Path, generator: torch.Generator):
    package = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason=OPTIONAL)
    torch.save({}, folder / "empty.pth")

    class Random(package.FeatureExtractorInceptionV3):
        def load_state_dict(self, *_: object) -> None:
            """Keep the random weights."""

    torch.manual_seed(0)
    made = Random("inception-v3-compat", ["2048"], str(folder / "empty.pth"))
    torch.save(made.state_dict(), folder / networks.INCEPTION_FILE)
    network, images = load("inception"), torch.rand(2, 3, 40, 40, generator=generator)
    features = network(images)
    assert features.shape == (2, 2048) and not torch.allclose(features[0], features[1])
    expected = made((images * 255).round().to(torch.uint8))[0]
    torch.testing.assert_close(features, expected)
    torch.testing.assert_close(network(images * 1.0005)[0], features[0], rtol=0.05, atol=0.05)


@pytest.mark.slow  # the package compiles for long
def test_face_alignment_finds_what_the_package_finds_in_the_same_box(
    folder: Path, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
):
    package = pytest.importorskip("face_alignment", reason=OPTIONAL)
    from face_alignment.models import FAN

    torch.manual_seed(0)
    monkeypatch.setattr(networks, "_STACKS", 1)  # of four, for speed
    fan = FAN(1).eval()
    torch.save(fan.state_dict(), folder / networks.FACE_ALIGNMENT_FILE)
    frames = torch.randint(0, 255, (2, 96, 96, 3), dtype=torch.uint8, generator=generator)
    landmarks = series_of(frames=2, size=96).landmarks.clone()
    landmarks[1] = torch.nan
    found = load("face_alignment")(frames, landmarks)
    assert found.shape == (2, 68, 2) and found[1].isnan().all()

    own = object.__new__(package.FaceAlignment)  # the package's way, but for its downloads
    own.__dict__.update(device="cpu", dtype=torch.float32, flip_input=True, max_batch_size=1, face_alignment_net=fan)
    own.landmarks_type = package.LandmarksType.TWO_D
    own.face_detector = type("Box", (), {"reference_scale": 195})()
    box = [*landmarks[0].amin(0).tolist(), *landmarks[0].amax(0).tolist()]
    expected = own.get_landmarks_from_image(frames[0].numpy(), detected_faces=[np.array(box)])[0]
    torch.testing.assert_close(found[0], torch.from_numpy(expected).float(), rtol=0, atol=1e-3)


def test_syncnet_of_a_file_scores_a_video(folder: Path, generator: torch.Generator):
    torch.manual_seed(0)
    torch.save(PublishedSyncNet().state_dict(), folder / networks.SYNCNET_FILE)
    frames = torch.randint(0, 255, (7, 64, 64, 3), dtype=torch.uint8, generator=generator)
    score = load("syncnet")(frames, series_of(frames=7, size=64).landmarks, torch.zeros(7 * 640))
    assert isinstance(score, SyncScore) and np.isfinite([score.distance, score.confidence]).all()


def test_dlib_is_ready_with_its_packages_alone(folder: Path):
    pytest.importorskip("dlib", reason=OPTIONAL)
    pytest.importorskip("face_recognition_models", reason=OPTIONAL)
    assert load("csim_dlib").size == 128
