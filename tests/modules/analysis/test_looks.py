import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from modules.analysis.landmarks import find_faces
from modules.analysis.looks import Looks, measure_looks
from modules.face3d.landmark_sets import CHIN, FACE_OVAL, FOREHEAD, LEFT_SIDE, LIPS, RIGHT_SIDE
from modules.media.images import read_picture

LOWER = (234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 323, 454, 195)
BROWS = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)
HAIRLINE = (21, 54, 103, 67, 109, 10, 338, 297, 332, 284, 251)
BEARD = (132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 425, 2, 205)
BLUE, WHITE, BLACK, BROWN = (140, 180, 220), (235, 235, 232), (22, 22, 25), (60, 42, 30)
FACES = ("front_suit_man.png", "boy_outdoor.jpg", "long_hair_woman_outdoor.jpg", "dark_skin_woman_hand.jpg")


def inside(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    mask = np.zeros(picture.shape[:2], np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(points).astype(np.int32)), 1)
    return mask.astype(bool)


def painted(picture: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Cloth or hair: lit from above, a little uneven, with soft edges."""
    noise = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 20, picture.shape[:2]), (0, 0), 3)
    light = np.linspace(1.08, 0.85, len(picture))[:, None]
    cloth = np.array(colour) * light[..., None] + noise[..., None]
    share = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1)[..., None]
    return np.clip(np.rint(picture * (1 - share) + cloth * share), 0, 255).astype(np.uint8)


def mask(picture: np.ndarray, points: np.ndarray, colour: tuple[int, int, int] = BLUE) -> np.ndarray:
    return painted(picture, inside(picture, points[list(LOWER)]), colour)


def hood(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    oval, down = points[list(FACE_OVAL)], points[CHIN] - points[FOREHEAD]
    middle = oval.mean(0)
    outer = inside(picture, middle + 1.9 * (oval - middle) - 0.1 * down)
    face = inside(picture, middle + 0.97 * (oval - middle) + 0.12 * down)
    return painted(picture, outer & ~face, (45, 48, 55))


def sunglasses(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    width, glass = np.linalg.norm(points[LEFT_SIDE] - points[RIGHT_SIDE]), np.zeros(picture.shape[:2], np.uint8)
    for outer, inner in ((33, 133), (263, 362)):
        middle = np.rint((points[outer] + points[inner]) / 2).astype(int)
        cv2.ellipse(glass, tuple(map(int, middle)), (int(0.18 * width), int(0.14 * width)), 0, 0, 360, 1, -1)
    left, right = (tuple(map(int, np.rint(points[i]))) for i in (133, 362))
    cv2.line(glass, left, right, 1, max(2, int(0.04 * width)))
    return painted(picture, glass.astype(bool), BLACK)


def balaclava(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    oval = points[list(FACE_OVAL)]
    outer = inside(picture, oval.mean(0) + 1.35 * (oval - oval.mean(0)))
    eyes = inside(picture, points[[70, 105, 334, 300, 117, 6, 346, 226, 446]])
    return painted(picture, outer & ~eyes, (150, 40, 45))


def fringe(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    up = points[FOREHEAD] - points[CHIN]
    corners = np.vstack([points[list(HAIRLINE)] + 0.12 * up, points[list(BROWS)] - 0.03 * up])
    return painted(picture, inside(picture, corners), BROWN)


def beard(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    return painted(picture, inside(picture, points[list(BEARD)]) & ~inside(picture, points[list(LIPS)]), BROWN)


def grey(picture: np.ndarray) -> np.ndarray:
    return np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=-1)


COVERED = {
    "blue mask": mask,
    "white mask": lambda picture, points: mask(picture, points, WHITE),
    "black mask": lambda picture, points: mask(picture, points, BLACK),
    "mask and sunglasses": lambda picture, points: sunglasses(mask(picture, points), points),
    "mask, sunglasses and hood": lambda picture, points: sunglasses(mask(hood(picture, points), points), points),
    "balaclava": balaclava,
    "grey picture of a mask": lambda picture, points: grey(mask(picture, points)),
}
FREE = {
    "as it is": lambda picture, points: picture,
    "sunglasses": sunglasses,
    "hood": hood,
    "fringe": fringe,
    "beard": beard,
    "grey picture": lambda picture, points: grey(picture),
}


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest, media: Path, assets: Path) -> tuple[np.ndarray, np.ndarray]:
    """A photo and the landmarks of its one face; cloth may hide a face so well that none is found in the result."""
    picture = read_picture(media / "portraits" / request.param)
    return picture, find_faces(picture)[0]


@pytest.mark.parametrize("kind", COVERED)
def test_a_face_without_a_visible_mouth_is_objected_to(face: tuple[np.ndarray, np.ndarray], kind: str):
    picture, landmarks = face
    looks = measure_looks(COVERED[kind](picture, landmarks * picture.shape[1::-1]), landmarks)
    complaint = looks.complaint("anna.jpg")
    assert complaint is not None and "covered" in complaint and "anna.jpg" in complaint
    assert f"{looks.lips:.1f}" in complaint and f"limit {looks.min_lips:g}" in complaint


@pytest.mark.parametrize("kind", FREE)
def test_a_visible_face_is_accepted_whatever_it_wears(face: tuple[np.ndarray, np.ndarray], kind: str):
    picture, landmarks = face
    assert measure_looks(FREE[kind](picture, landmarks * picture.shape[1::-1]), landmarks).complaint("x") is None


def test_no_photo_is_near_a_limit(media: Path, assets: Path):
    for path in sorted((media / "portraits").iterdir()):
        picture = read_picture(path)
        faces = find_faces(picture)
        if len(faces):  # the others are found in tiles
            looks = measure_looks(picture, faces[0])
            assert looks.lips > 1.4 * looks.min_lips and looks.cover < 10 and looks.person > 0.9, path.name
            assert looks.hair_in_the_middle < 0.3


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"person": 0.28}, "not seem to be a person's .probability 0.28, limit 0.6."),
        ({"lips": 4.0, "cover": 20.0}, "mouth.*covered.*4.0.*limit 5"),
        ({"hair_in_the_middle": 0.6}, "hair or fur .share 0.60, limit 0.45."),
        ({"hair": 0.2, "cover": 20.0}, "hair, fur or cloth .share 0.20, limit 0.125"),
        ({"lips": 4.0}, None),
        ({"hair": 0.2}, None),
    ],
)
def test_an_objection_says_value_and_limit(changes: dict, words: str | None):
    plain = {"person": 1.0, "hair": 0.0, "hair_in_the_middle": 0.0, "lips": 15.0, "cover": 3.0}
    complaint = Looks(**(plain | changes)).complaint("x.jpg")
    assert complaint is None if words is None else re.search(words, complaint or "") is not None
