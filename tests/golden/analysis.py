"""Crops, landmark sets, part images, torso and background inpainting against the original's numbers.

See docs/spec/data_gen.md#10.
"""

import numpy as np

from modules.analysis.crop import FACE_AREA
from modules.analysis.inpainting import fill_torso, inpaint_background, inpaint_torso
from modules.analysis.landmarks import combine
from modules.analysis.segmentation import part_image, shows_part
from modules.face3d.landmark_sets import LANDMARKS_68
from tests.golden.file import Golden, checks
from tests.golden.reference import class_colours, lip_box, official_crop, official_crop_box

PARTS = {
    "head": "head",
    "torso": "torso",
    "person": "person",
    "torso_with_bg": "torso_with_background",
    "bg": "background",
}
GREY_LEVEL = 1  # other versions of OpenCV resize and blur a little differently
EQUALLY_FAR = 2  # background pixels that are equally far from the person in two frames
NOT_COMPARED = {
    "crop": {
        r"out\.face_rect": "the face box of an older project's packer; nothing here needs it",
        r"out\.window-?\d+\.(zero|edge)": "a window helper of the same packer",
    }
}


@checks("crop")
def official_boxes(g: Golden) -> None:
    landmarks = g.npz["in.landmarks"]
    boxes = [official_crop_box(points) for points in landmarks]
    g.equal(
        [[-1] * 4 if box is None else [box.left, box.right, box.top, box.bottom] for box in boxes], "out.box_x0x1y0y1"
    )
    # The area is the largest share that a face may be asked to fill without being cropped.
    for points, area in zip(landmarks, g.npz["out.area"], strict=True):
        assert official_crop_box(points, area * (1 - 1e-9)) is None
        assert area >= FACE_AREA or official_crop_box(points, area * (1 + 1e-9)) is not None


@checks("crop")
def official_crops(g: Golden) -> None:
    for number in g.names(r"out\.image(\d+)"):
        height, width = g.npz["in.sizes_hw"][int(number)]
        y, x = np.mgrid[:height, :width]
        picture = np.stack([x * 255 // (width - 1), y * 255 // (height - 1), (x // 16 + y // 16) % 2 * 200], axis=-1)
        crop = official_crop(picture.astype(np.uint8), official_crop_box(g.npz["in.landmarks"][int(number)]))
        g.close(crop[::8, ::8], f"out.image{number}.8x8x1", GREY_LEVEL)


@checks("crop")
def lip_boxes_and_combined_landmarks(g: Golden) -> None:
    boxes = [lip_box(points[list(LANDMARKS_68)], (512, 512)) for points in g.npz["in.landmarks"]]
    g.equal([[box.left, box.right, box.top, box.bottom] for box in boxes], "out.lip_rect")
    image, video = (g.input(f"crop.{mode}_mode", g.shape("out.combined478")).numpy() for mode in ("image", "video"))
    combined = combine(image, video)
    g.equal(combined, "out.combined478")
    g.equal(combined[:, list(LANDMARKS_68)], "out.combined68")


@checks("inpaint")
def part_images_and_class_colours(g: Golden) -> None:
    picture, classes = g.npz["in.frames"][2], g.npz["in.classes"][2]
    g.equal(class_colours(classes), "out.encoded_map")
    for name in g.names(r"out\.part\.(\w+)"):
        g.equal(shows_part(classes, PARTS[name]), f"out.part_mask.{name}")
        g.equal(part_image(picture, classes, PARTS[name]), f"out.part.{name}")


@checks("inpaint")
def torsos(g: Golden) -> None:
    for number in g.names(r"out\.torso(\d+)\.image_with_bg"):
        picture, classes = g.npz["in.frames"][int(number)], g.npz["in.classes"][int(number)]
        torso, mask = inpaint_torso(picture, classes, scale=1.0)
        filled, _ = fill_torso(picture, classes, scale=1.0)
        key = f"out.torso{number}"
        g.equal(mask, f"{key}.mask")
        g.equal(mask | (classes == 0), f"{key}.mask_with_bg")
        g.close(torso, f"{key}.image", GREY_LEVEL)
        g.close(filled, f"{key}.image_with_bg", GREY_LEVEL)


@checks("inpaint")
def torsos_without_hair_and_at_another_size(g: Golden) -> None:
    torso, mask = inpaint_torso(g.npz["in.frames"][2], g.npz["in.classes_nohair"], scale=1.0)
    g.equal(mask, "out.torso_nohair.mask")
    g.close(torso, "out.torso_nohair.image", GREY_LEVEL)
    for size in g.names(r"in\.image(\d+)"):
        torso, mask = inpaint_torso(g.npz[f"in.image{size}"], g.npz[f"in.classes{size}"], scale=1.0)
        g.equal(np.packbits(mask, axis=-1), f"out.torso{size}.mask.bits")
        g.close(torso, f"out.torso{size}.image", GREY_LEVEL)


@checks("inpaint")
def backgrounds(g: Golden) -> None:
    for count in g.names(r"out\.background(\d+)"):
        frames = slice(3, 4) if count == "1" else slice(int(count))
        background = inpaint_background(g.npz["in.frames"][frames], g.npz["in.classes"][frames], "nearest", scale=1.0)
        ambiguous = np.unpackbits(g.npz[f"out.background{count}.ambiguous"], axis=-1)[:, : background.shape[1]]
        different = (background != g.npz[f"out.background{count}"]).any(-1)
        assert (different & (ambiguous == 0)).sum() <= EQUALLY_FAR
