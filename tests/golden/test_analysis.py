"""Crops, landmark sets, part images, torso and background inpainting against the original's numbers."""

import numpy as np
import pytest

from modules.analysis.crop import LANDMARKS_68, lip_box, official_crop, official_crop_box
from modules.analysis.inpainting import fill_torso, inpaint_background, inpaint_torso
from modules.analysis.landmarks import combine
from modules.analysis.segmentation import class_colours, part_image, part_mask

PARTS = {"head": "head", "torso": "torso", "person": "person", "torso_with_bg": "torso_with_background",
         "bg": "background"}


def test_official_crop_boxes(golden):
    npz = golden("crop").npz
    for landmarks, expected in zip(npz["in.landmarks"], npz["out.box_x0x1y0y1"], strict=True):
        box = official_crop_box(landmarks)
        found = [-1] * 4 if box is None else [box.left, box.right, box.top, box.bottom]
        assert found == expected.tolist()


def test_official_crops(golden):
    npz = golden("crop").npz
    keys = [key for key in npz if key.startswith("out.image")]
    assert keys
    for key in keys:
        number = int(key.removeprefix("out.image").split(".")[0])
        height, width = npz["in.sizes_hw"][number]
        y, x = np.mgrid[:height, :width]
        picture = np.stack([x * 255 // (width - 1), y * 255 // (height - 1), (x // 16 + y // 16) % 2 * 200], axis=-1)
        crop = official_crop(picture.astype(np.uint8), official_crop_box(npz["in.landmarks"][number]))
        assert np.abs(crop[::8, ::8].astype(int) - npz[key]).max() <= 1


def test_lip_boxes(golden):
    npz = golden("crop").npz
    for landmarks, expected in zip(npz["in.landmarks"], npz["out.lip_rect"], strict=True):
        box = lip_box(landmarks[list(LANDMARKS_68)], (512, 512))
        assert [box.left, box.right, box.top, box.bottom] == expected.tolist()


def test_combined_landmarks(golden):
    crop = golden("crop")
    image, video = (crop.input(f"crop.{mode}_mode", (2, 478, 2)).numpy() for mode in ("image", "video"))
    combined = combine(image, video)
    np.testing.assert_array_equal(combined, crop.npz["out.combined478"])
    np.testing.assert_array_equal(combined[:, list(LANDMARKS_68)], crop.npz["out.combined68"])


@pytest.mark.parametrize("name", PARTS)
def test_part_images(golden, name: str):
    npz = golden("inpaint").npz
    picture, classes = npz["in.frames"][2], npz["in.classes"][2]
    np.testing.assert_array_equal(part_mask(classes, PARTS[name]), npz[f"out.part_mask.{name}"])
    np.testing.assert_array_equal(part_image(picture, classes, PARTS[name]), npz[f"out.part.{name}"])


def test_class_colours(golden):
    npz = golden("inpaint").npz
    np.testing.assert_array_equal(class_colours(npz["in.classes"][2]), npz["out.encoded_map"])


@pytest.mark.parametrize("number", [0, 2, 7])
def test_torso(golden, number: int):
    npz = golden("inpaint").npz
    picture, classes = npz["in.frames"][number], npz["in.classes"][number]
    torso, mask = inpaint_torso(picture, classes, scale=1.0)
    filled, _ = fill_torso(picture, classes, scale=1.0)
    key = f"out.torso{number}"
    np.testing.assert_array_equal(mask, npz[f"{key}.mask"])
    np.testing.assert_array_equal(mask | (classes == 0), npz[f"{key}.mask_with_bg"])
    assert np.abs(torso.astype(int) - npz[f"{key}.image"]).max() <= 1
    assert np.abs(filled.astype(int) - npz[f"{key}.image_with_bg"]).max() <= 1


def test_torso_without_hair_and_at_another_size(golden):
    npz = golden("inpaint").npz
    torso, mask = inpaint_torso(npz["in.frames"][2], npz["in.classes_nohair"], scale=1.0)
    np.testing.assert_array_equal(mask, npz["out.torso_nohair.mask"])
    assert np.abs(torso.astype(int) - npz["out.torso_nohair.image"]).max() <= 1
    torso, mask = inpaint_torso(npz["in.image256"], npz["in.classes256"], scale=1.0)
    np.testing.assert_array_equal(np.packbits(mask, axis=-1), npz["out.torso256.mask.bits"])
    assert np.abs(torso.astype(int) - npz["out.torso256.image"]).max() <= 1


@pytest.mark.parametrize("name, frames", [("background12", slice(0, 12)), ("background4", slice(0, 4)),
                                          ("background1", slice(3, 4))])
def test_background(golden, name: str, frames: slice):
    npz = golden("inpaint").npz
    background = inpaint_background(npz["in.frames"][frames], npz["in.classes"][frames], "nearest", scale=1.0)
    ambiguous = np.unpackbits(npz[f"out.{name}.ambiguous"], axis=-1)[:, :background.shape[1]].astype(bool)
    different = (background != npz[f"out.{name}"]).any(-1)
    assert (different & ~ambiguous).sum() <= 2
