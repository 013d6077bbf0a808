import torch

from modules.face3d.bfm import load_bfm
from modules.official.bfm import load_official_bfm
from tests.modules.face3d.bfm_files import write_small_bfm


def test_the_68_landmarks_lie_one_vertex_further_and_the_others_where_they_are(tmp_path):
    path = write_small_bfm(tmp_path)
    right, official = load_bfm(path), load_official_bfm(path)
    assert torch.equal(official.embedding(68).vertices, right.embedding(68).vertices + 1)
    assert torch.equal(official.embedding(468).vertices, right.embedding(468).vertices)
