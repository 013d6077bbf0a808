import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import HubertConfig, HubertForCTC, HubertModel, Wav2Vec2Config, Wav2Vec2Model

from modules.audio.hubert import HubertFeatures, load_hubert
from modules.system.errors import UserError

SIZES = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "conv_dim": (4,) * 7,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
}


def tiny() -> HubertModel:
    torch.manual_seed(0)
    return HubertModel(HubertConfig(**SIZES))


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


def test_a_network_with_a_head_of_its_own_is_loaded_without_it_and_without_noise(tmp_path, capfd):
    HubertForCTC(HubertConfig(**SIZES, vocab_size=9)).save_pretrained(tmp_path)
    capfd.readouterr()
    assert load_hubert(str(tmp_path)).size == 8
    assert capfd.readouterr() == ("", "")


def test_the_assets_are_asked_before_the_hub(tmp_path, monkeypatch):
    tiny().save_pretrained(tmp_path / "hubert-large-ls960-ft")
    monkeypatch.setenv("REAL3D_ASSETS", str(tmp_path))
    assert load_hubert().size == 8


def test_a_hubert_that_is_nowhere_says_how_to_get_it(tmp_path, monkeypatch):
    def unreachable(*arguments, **options):
        raise OSError("no connection")

    monkeypatch.setenv("REAL3D_ASSETS", str(tmp_path))
    monkeypatch.setattr("transformers.PretrainedConfig.get_config_dict", unreachable)
    with pytest.raises(UserError, match=r"no HuBERT facebook/.*no connection.*scripts\.assets fetch hubert-large"):
        load_hubert()


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"config\.json"):
        load_hubert(str(tmp_path))


def bad_folder(folder: Path, case: str) -> None:
    tiny().save_pretrained(folder)
    weights = folder / "model.safetensors"
    if case == "half downloaded":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif case == "no weights":
        weights.unlink()
    elif case == "another network":
        Wav2Vec2Model(Wav2Vec2Config(**SIZES)).save_pretrained(folder)
    elif case == "another size":
        HubertModel(HubertConfig(**SIZES | {"intermediate_size": 12})).save_pretrained(folder / "other")
        shutil.copy(folder / "other" / "model.safetensors", weights)
    elif case == "a tensor is missing":
        state = load_file(weights)
        state.pop("encoder.layer_norm.bias")
        save_file(state, weights, metadata={"format": "pt"})


@pytest.mark.parametrize(
    "case, words",
    [
        ("half downloaded", "cannot be read"),
        ("no weights", "no file named"),
        ("another network", "wav2vec2"),
        ("another size", "cannot be read"),
        ("a tensor is missing", "encoder.layer_norm.bias"),
    ],
)
def test_a_damaged_or_foreign_folder_is_one_line_that_names_it(tmp_path, case, words):
    bad_folder(tmp_path / "Mein HuBERT", case)
    with pytest.raises(UserError, match=words) as refusal:
        load_hubert(str(tmp_path / "Mein HuBERT"))
    assert "Mein HuBERT" in str(refusal.value) and "\n" not in str(refusal.value)
