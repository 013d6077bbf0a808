import pytest
import torch
from torch.testing import assert_close
from transformers import HubertConfig, HubertModel

from modules.audio.hubert import HubertFeatures, load_hubert
from modules.errors import UserError


def tiny() -> HubertModel:
    torch.manual_seed(0)
    return HubertModel(HubertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
                                    conv_dim=(4,) * 7, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
                                    feat_extract_norm="layer", do_stable_layer_norm=True))


def test_one_frame_for_every_20_ms_and_none_without_a_window():
    hubert = HubertFeatures(tiny())
    for samples in (399, 400, 5000, 8079, 8080):
        assert len(hubert(torch.randn(samples))) == max(0, (samples - 80) // 320)


def test_volume_and_offset_do_not_matter():
    hubert, wave = HubertFeatures(tiny()), torch.randn(4000)
    assert_close(hubert(wave), hubert(5 * wave + 2), rtol=1e-3, atol=1e-4)


def test_the_weights_are_frozen():
    assert not any(p.requires_grad for p in HubertFeatures(tiny()).parameters())


def test_a_local_folder_is_loaded(tmp_path):
    network = tiny()
    network.save_pretrained(tmp_path)
    wave = torch.randn(4000)
    assert_close(load_hubert(str(tmp_path))(wave), HubertFeatures(network)(wave))


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"config\.json"):
        load_hubert(str(tmp_path))
