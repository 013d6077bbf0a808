from pathlib import Path

import numpy as np
import pytest
import torch

from modules.metrics.face_recognition import CROP, ArcFace, DlibFace, align
from modules.metrics.identity import csim
from modules.system.errors import UserError
from tests.metric_clips import series_of
from tests.modules.metrics.onnx_file import pooling_network


def test_alignment_lays_pupils_nose_and_mouth_on_the_template():
    points = series_of(frames=1, size=300).landmarks[0].numpy()
    frame = np.zeros((300, 300, 3), np.uint8)
    x, y = np.round(points[468]).astype(int)
    frame[y - 1 : y + 2, x - 1 : x + 2] = 255
    turned = align(np.rot90(frame).copy(), np.stack([points[:, 1], 299 - points[:, 0]], axis=1))
    for face in (align(frame, points), turned):  # a picture lying on its side gives the same crop
        assert face.shape == (CROP, CROP, 3)
        rows, columns = np.nonzero(face[..., 0] > 100)
        assert abs(rows.mean() - 51.7) < 6 and abs(columns.mean() - 38.3) < 6


def test_arcface_gets_rgb_around_zero(tmp_path: Path):
    """A network that is the mean of each colour, then the difference of red and blue."""
    path = tmp_path / "tiny.onnx"
    path.write_bytes(pooling_network(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, -1]], np.float32)))
    network = ArcFace(path)
    assert network.size == 4
    frames = torch.zeros(2, 64, 64, 3, dtype=torch.uint8)
    frames[..., 0], frames[..., 1] = 255, 51
    points = series_of(frames=2, size=64).landmarks.clone()
    points = 16 + (points - points.amin()) * 0.5  # wholly inside, so that the crop has little black
    points[1] = torch.nan
    vectors = network(frames, points)
    red, green, blue, difference = vectors[0].tolist()
    assert red > 0 > green > blue and difference == pytest.approx(red - blue, abs=1e-4)
    share = (red + 1) / 2  # of the crop that is inside the picture
    assert green == pytest.approx(share * 0.4 - 1, abs=0.02) and blue == pytest.approx(-1, abs=1e-3)
    assert vectors[1].isnan().all()


def test_a_file_that_is_no_network_is_one_line(tmp_path: Path):
    path = tmp_path / "w600k_r50.onnx"
    path.write_bytes(b"not a network")
    with pytest.raises(UserError, match="w600k_r50.onnx is no ArcFace network") as caught:
        ArcFace(path)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def dlib_face() -> DlibFace:
    models = pytest.importorskip("face_recognition_models", reason="pip install -r requirements-metrics.txt")
    return DlibFace(pytest.importorskip("dlib"), Path(models.face_recognition_model_location()))


def test_dlib_knows_a_procedural_face_again_and_has_no_number_without_one(dlib_face: DlibFace, generator):
    series = series_of(frames=2, size=128)
    frames = torch.randint(0, 255, (1, 128, 128, 3), dtype=torch.uint8, generator=generator).repeat(2, 1, 1, 1)
    points = series.landmarks[:1].repeat(2, 1, 1)
    vectors = dlib_face(frames, points)
    assert vectors.shape == (2, 128) and vectors.dtype == torch.float32
    torch.testing.assert_close(vectors[0], vectors[1])
    points[1] = torch.nan
    assert dlib_face(frames, points)[1].isnan().all()


def test_dlib_tells_real_people_apart(dlib_face: DlibFace, media: Path, assets: Path):
    """Two frames of one clip are nearer than any two people here."""
    from modules.analysis.landmarks import find_faces
    from modules.media.images import read_picture
    from modules.media.video_reader import open_video

    clip = [frame for number, frame in enumerate(open_video(media / "driving/talk_woman_25fps.mp4")[1]) if number < 60]
    names = ("front_suit_man.png", "long_hair_woman_outdoor.jpg", "boy_outdoor.jpg")
    pictures = [clip[0], clip[59], *(read_picture(media / "portraits" / name) for name in names)]
    vectors = []
    for picture in pictures:
        height, width = picture.shape[:2]
        points = torch.from_numpy(find_faces(picture, 1)) * torch.tensor([width, height])
        vectors.append(dlib_face(torch.from_numpy(np.ascontiguousarray(picture))[None], points.float()))
    vectors = torch.cat(vectors)
    others = torch.cat([csim(vectors[:1], vectors[2:]), csim(vectors[2:3].expand(2, -1), vectors[3:])])
    assert csim(vectors[1:2], vectors[0]) > 0.95 > 0.92 > others.max()
