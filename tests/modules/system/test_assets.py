import hashlib
import re
from pathlib import Path

import pytest

from modules.system import assets
from modules.system.assets import (
    ANALYSIS,
    FILE_GROUPS,
    Asset,
    checksum_is_right,
    find_asset,
    group_files,
    locate,
    manifest,
    require_assets,
    shipped,
)
from modules.system.errors import UserError
from tasks.engine.settings import read_settings

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


def test_what_photos_need_comes_with_the_repository_as_its_page_says():
    folder = ROOT / "checkpoints" / "assets"
    page = (folder / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\S+)` \| (\d+) \|.* `([0-9a-f]{64})` \|$", page, flags=re.MULTILINE)
    assert sorted(name for name, *_ in rows) == sorted([*ANALYSIS, "ict_mp468.npz"])
    for name, size, digest in rows:
        content = (folder / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (int(size), digest), name
        assert manifest()[name].licence.split(",")[0] in page
    assert "Version 2.0, January 2004" in (folder / "LICENSE-Apache-2.0.txt").read_text(encoding="utf-8")


def test_every_group_has_files_and_a_stage_needs_nothing_beyond_its_group():
    assert all(group_files(group) for group in FILE_GROUPS)
    assert {asset.name for asset in group_files("photo")} == set(ANALYSIS)
    for group, config in {"stage1": "i2p", "stage2": "motion_adapter", "stage3": "htbsr", "speech": "a2m"}.items():
        settings = read_settings(ROOT / "configs" / f"{config}.yaml", ["init_from=runs/none"][: config != "a2m"])
        asked = {names[0] for names in settings.task.files(settings.task_config, fresh=True)}
        assert asked and asked <= {asset.name for asset in group_files(group)}, group


def test_every_command_that_an_entry_names_exists():
    commands = {command for asset in manifest().values() for command in asset.needed_by} | set(FILE_GROUPS.values())
    for command in commands:
        module, *words = re.sub(r"[(:].*", "", command).split()
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), command
        assert all((ROOT / word).is_file() for word in words if word.startswith("configs/")), command
        options = [word for word in words if word.startswith("--")]
        assert not options or options[0] in inference_options(), command
    names = {found for asset in manifest().values() for found in re.findall(r"python -m ([\w.]+)", asset.how or "")}
    assert names and all((ROOT / f"{name.replace('.', '/')}.py").is_file() for name in names)


def inference_options() -> set[str]:
    from inference.run import parser

    return {option for action in parser()._actions for option in action.option_strings}


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
    with pytest.raises(UserError, match="fetch stage1$"):  # all of a group, whatever else the command has
        require_assets((asset.name,) for asset in group_files("stage1"))
    (folders[0] / "mit_b0.pth").touch()  # will do instead
    with pytest.raises(UserError, match="2 files are missing"):
        require_assets(needed)
    (folders[1] / "BFM_model_front.mat").touch()
    require_assets(needed)  # one alone is reported by its reader


def test_files_of_the_repository_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    name = Path("checkpoints/demo/whisper")
    monkeypatch.chdir(tmp_path)
    assert shipped(name) == ROOT / name and shipped(tmp_path / "gone") == tmp_path / "gone"
    name.mkdir(parents=True)
    assert shipped(name) == name
