from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from modules.audio.syncnet import KEYPOINT_SIZES, SyncNet, SyncNetConfig, windows

TINY = SyncNetConfig(audio_size=6, keypoints="lip", base=4, mouth_base=4, layers_per_block=2, embedding=8)


@pytest.fixture(params=["cosine", "logit"])
def sync(request) -> SyncNet:
    torch.manual_seed(0)
    return SyncNet(replace(TINY, score=request.param)).eval()


def test_embeddings_are_unit_vectors_and_official_ones_not_negative(sync):
    audio = sync.embed_audio(torch.randn(3, 10, 6))
    assert_close(audio.norm(dim=-1), torch.ones(3))
    assert sync.embed_mouth(torch.randn(3, 5, 60)).shape == (3, 8)
    assert (audio.min() >= 0) == (sync.config.score == "cosine")


def test_the_loss_falls_as_the_cosine_of_a_true_pair_rises(sync):
    cosine = torch.tensor([0.1, 0.5, 0.9])
    assert (sync.loss(cosine, torch.ones(3)).diff() < 0).all()
    assert (sync.loss(cosine, torch.zeros(3)).diff() > 0).all()


def test_gradients_reach_the_landmarks_even_at_the_ends_of_the_scale(sync):
    cosine = torch.tensor([0.0, 1.0, 1.0000002], requires_grad=True)
    sync.loss(cosine, torch.tensor([1.0, 0.0, 1.0])).sum().backward()
    assert torch.isfinite(cosine.grad).all()
    landmarks = torch.randn(2, 5, 60, requires_grad=True)
    sync.train().loss(sync(torch.randn(2, 10, 6), landmarks), torch.ones(2)).sum().backward()
    assert landmarks.grad.abs().max() > 0


def test_windows_are_cut_from_every_clip():
    sequence = torch.arange(20.0).view(2, 10, 1)
    pieces = windows(sequence, torch.tensor([0, 4]), 3)[..., 0]
    assert pieces.tolist() == [[0, 1, 2], [10, 11, 12], [4, 5, 6], [14, 15, 16]]


def test_sizes_of_the_presets_and_of_the_official_keys():
    with torch.device("meta"):
        full, demo = SyncNet(SyncNetConfig.full()), SyncNet(SyncNetConfig.demo())
    assert sum(p.numel() for p in full.parameters()) == 10_746_144  # docs/spec/audio2motion.md#5
    assert sum(p.numel() for p in demo.parameters()) < 1_500_000
    assert {k.split(".")[0] for k in full.state_dict()} == {"hubert_encoder", "mouth_encoder"}
    assert "mouth_encoder.13.conv_block.1.running_var" in full.state_dict()


def test_unknown_keypoints_are_refused():
    with pytest.raises(ValueError, match=f"nose.*{next(iter(KEYPOINT_SIZES))}"):
        replace(TINY, keypoints="nose")
