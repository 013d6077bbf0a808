"""Configs of portrait models that earlier versions wrote, in today's words."""

from collections.abc import Mapping
from typing import Any

STEERING = {"v1": "keypoints_only", "v2": "head_guided"}
FUSION = {"v1": "blend", "v2": "head_weights", "v3": "predicted_alpha"}
DRIVING = ("focal_length", "face_model", "torso_points", "source_pncc")


def update_model_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """The group `model` of a checkpoint's config.yaml; what is in today's words already stays as it is."""
    values = dict(values)
    moved = {name: values.pop(name) for name in DRIVING if name in values}
    if moved:
        values["driving"] = {**moved, **values.get("driving", {})}
    htbsr, photo_torso = values.get("htbsr"), None
    if isinstance(htbsr, Mapping):
        htbsr = values["htbsr"] = dict(htbsr)
        if htbsr.get("fusion") in FUSION:
            htbsr["fusion"] = FUSION[htbsr["fusion"]]
        if isinstance(htbsr.get("torso"), Mapping):
            torso = htbsr["torso"] = dict(htbsr["torso"])
            photo_torso = torso.pop("adds_picture", None)
            if "version" in torso:
                torso["steering"] = STEERING.get(torso["version"], torso["version"])
                del torso["version"]
    adapter = values.get("motion_adapter")
    if isinstance(adapter, Mapping) and "pictures" in adapter:
        adapter = values["motion_adapter"] = dict(adapter)
        names = ["canonical", "source", "driving"]
        adapter["pncc_inputs"] = names if adapter.pop("pictures") == 3 else [names[0], names[2]]
    if "rectification" in values:
        prior = values.pop("rectification")
        values["head_prior"] = prior if prior is None else {**prior, "torso_photo": bool(photo_torso)}
    return values
