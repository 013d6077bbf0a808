import hashlib
import re
from pathlib import Path

import pytest

from modules.system import assets
from modules.system.assets import Asset, checksum_is_right, find_asset, locate, manifest, require_assets
from modules.system.errors import UserError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """$REAL3D_ASSETS and checkpoints/assets, both empty."""
    first, second = tmp_path / "variable", tmp_path / "default"
    first.mkdir()
    second.mkdir()
    monkeypatch.setenv("REAL3D_ASSETS", str(first))
    monkeypatch.setattr(assets, "DEFAULT_FOLDER", second)
    return first, second


def test_the_variable_comes_before_the_default_folder(folders: tuple[Path, Path]):
    first, second = folders
    assert locate("face_landmarker.task") is None
    (second / "face_landmarker.task").touch()
    assert find_asset("face_landmarker.task") == second / "face_landmarker.task"
    (first / "face_landmarker.task").touch()
    assert find_asset("face_landmarker.task") == first / "face_landmarker.task"
    assert locate("face_landmarker.task", second) == second / "face_landmarker.task"


@pytest.mark.parametrize(
    "name, words",
    [
        ("face_landmarker.task", ("Apache-2.0", "python -m scripts.assets fetch face_landmarker.task")),
        ("BFM_model_front.mat", ("non-commercial", "register at https://faces.dmi.unibas.ch/bfm/")),
        ("something_else.bin", ("something_else.bin is missing",)),
    ],
)
def test_a_missing_file_is_named_with_licence_and_remedy(folders: tuple[Path, Path], name: str, words: tuple[str, ...]):
    with pytest.raises(UserError) as caught:
        find_asset(name)
    message = str(caught.value)
    assert name in message and str(folders[0]) in message and "\n" not in message
    assert all(word in message for word in words)


def test_every_entry_has_a_source_a_licence_and_a_user():
    for asset in manifest().values():
        assert asset.licence and asset.needed_by and asset.what, asset.name
        assert asset.source.startswith("https://") or asset.source == "this project"
        assert asset.address is None or asset.address.startswith("https://")
        assert asset.sha256 is None or re.fullmatch(r"[0-9a-f]{8,64}", asset.sha256), asset.name
        assert asset.fetchable or asset.how, asset.name


def test_every_asset_that_the_code_asks_for_by_name_is_listed():
    asked = set()
    for path in [*ROOT.glob("modules/**/*.py"), *ROOT.glob("tasks/*.py"), *ROOT.glob("inference/*.py")]:
        asked |= set(re.findall(r'(?:find_asset|locate)\("([^"]+)"', path.read_text(encoding="utf-8")))
    assert "face_landmarker.task" in asked
    assert asked <= set(manifest())


def test_the_files_here_have_the_listed_checksums(assets: Path):
    for asset in manifest().values():
        path = locate(asset.name)
        if path is not None and path.is_file():
            assert checksum_is_right(path, asset.sha256), asset.name
            assert asset.size is None or abs(asset.size - path.stat().st_size) <= 1


def test_the_beginning_of_a_checksum_is_enough(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"content")
    digest = hashlib.sha256(b"content").hexdigest()
    assert checksum_is_right(tmp_path / "a", digest[:8]) and checksum_is_right(tmp_path / "a", None)
    assert not checksum_is_right(tmp_path / "a", "0" * 64)


def test_an_entry_without_address_must_say_how_to_get_it():
    with pytest.raises(ValueError, match="how to get it"):
        Asset(name="a", what="b", licence="c", needed_by=("d",), source="https://e")


def test_all_missing_files_are_named_at_once(folders: tuple[Path, Path]):
    needed = [("vgg19-dcbb9e9d.pth",), ("BFM_model_front.mat",), ("mit-b0", "mit_b0.pth"), ("mit-b0", "mit_b0.pth")]
    with pytest.raises(UserError) as caught:
        require_assets(needed)
    message = str(caught.value)
    assert message.startswith("3 files are missing in ") and "\n" not in message
    assert (
        "get them with: python -m scripts.assets fetch vgg19-dcbb9e9d.pth mit-b0; BFM_model_front.mat: gated" in message
    )
    (folders[0] / "mit_b0.pth").touch()  # will do instead
    with pytest.raises(UserError, match="2 files are missing"):
        require_assets(needed)
    (folders[1] / "BFM_model_front.mat").touch()
    require_assets(needed)  # one alone is reported by its reader
