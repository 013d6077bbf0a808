from pathlib import Path

import yaml

from modules.portrait.build import read_portrait_config
from modules.portrait.config import Real3DPortraitConfig
from modules.portrait.old_configs import update_model_config
from modules.system.config import from_dict, to_dict

OLD = """
model:
  preset: demo
  motion_adapter: {pictures: 2}
  htbsr:
    fusion: v3
    torso: {version: v1, adds_picture: true}
  rectification: {face_share: 0.5}
  focal_length: 4.5
  face_model: ict
  torso_points: exact
  source_pncc: first_driving
"""


def test_a_checkpoint_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(OLD, encoding="utf-8")
    config = read_portrait_config(tmp_path)
    assert config.motion_adapter.pncc_inputs == ("canonical", "driving")
    assert config.htbsr.fusion == "predicted_alpha" and config.htbsr.torso.steering == "keypoints_only"
    assert config.head_prior.torso_photo and config.head_prior.face_share == 0.5
    driving = config.driving
    assert (driving.focal_length, driving.face_model, driving.source_pncc) == (4.5, "ict", "first_driving")


def test_a_torso_without_its_photo_stays_so() -> None:
    values = yaml.safe_load(OLD)["model"]
    del values["htbsr"]["torso"]["adds_picture"]
    assert not from_dict(Real3DPortraitConfig, update_model_config(values)).head_prior.torso_photo
    assert update_model_config({"rectification": None}) == {"head_prior": None}


def test_today_s_configs_stay_as_they_are() -> None:
    for config in (Real3DPortraitConfig.full(), Real3DPortraitConfig.demo(2), Real3DPortraitConfig.released()):
        assert from_dict(Real3DPortraitConfig, update_model_config(to_dict(config))) == config
