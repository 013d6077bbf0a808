import hashlib
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.testing import assert_close

from modules.audio.whisper import load_whisper
from modules.system.checkpoint import read_config
from scripts.convert_whisper import convert, first_layers, main, read_published

WIDTH, LAYERS = 64, 3


def hub_names() -> dict[str, Tensor]:
    """A tiny encoder in the names of the Hugging Face hub, and a tensor of the decoder beside it."""
    random = torch.Generator().manual_seed(5)

    def numbers(*shape: int) -> Tensor:
        return (0.1 * torch.randn(shape, generator=random)).half().float()

    tensors = {"model.decoder.layers.0.fc1.weight": numbers(4, 4)}
    for i, size in ((1, 80), (2, WIDTH)):
        tensors |= {
            f"model.encoder.conv{i}.weight": numbers(WIDTH, size, 3),
            f"model.encoder.conv{i}.bias": numbers(WIDTH),
        }
    for layer in range(LAYERS):
        part = f"model.encoder.layers.{layer}"
        for name in "qkv":
            tensors[f"{part}.self_attn.{name}_proj.weight"] = numbers(WIDTH, WIDTH)
        tensors |= {f"{part}.self_attn.{name}_proj.bias": numbers(WIDTH) for name in ("q", "v", "out")}
        tensors[f"{part}.self_attn.out_proj.weight"] = numbers(WIDTH, WIDTH)
        for name in ("self_attn_layer_norm", "final_layer_norm"):
            tensors |= {
                f"{part}.{name}.weight": (1 + numbers(WIDTH)).half().float(),
                f"{part}.{name}.bias": numbers(WIDTH),
            }
        tensors |= {f"{part}.fc1.weight": numbers(4 * WIDTH, WIDTH), f"{part}.fc1.bias": numbers(4 * WIDTH)}
        tensors |= {f"{part}.fc2.weight": numbers(WIDTH, 4 * WIDTH), f"{part}.fc2.bias": numbers(WIDTH)}
    return tensors


def openai_names(hub: dict[str, Tensor]) -> dict[str, Tensor]:
    changes = {"model.": "", "layers": "blocks", "self_attn_layer_norm": "attn_ln", "final_layer_norm": "mlp_ln",
               "self_attn.q_proj": "attn.query", "self_attn.k_proj": "attn.key", "self_attn.v_proj": "attn.value",
               "self_attn.out_proj": "attn.out", "fc1": "mlp.0", "fc2": "mlp.2"}  # fmt: skip
    result = {}
    for name, value in hub.items():
        for old, new in changes.items():
            name = name.replace(old, new)
        result[name] = value
    return result


def ctranslate_bytes(hub: dict[str, Tensor]) -> bytes:
    tensors = {
        f"encoder/conv{i}/{kind}": hub[f"model.encoder.conv{i}.{kind}"] for i in (1, 2) for kind in ("weight", "bias")
    }
    for layer in range(LAYERS):
        theirs, ours = f"model.encoder.layers.{layer}", f"encoder/layer_{layer}"
        attention = f"{theirs}.self_attn"
        weights = [hub[f"{attention}.{name}_proj.weight"] for name in "qkv"]
        biases = [hub[f"{attention}.q_proj.bias"], torch.zeros(WIDTH), hub[f"{attention}.v_proj.bias"]]
        tensors |= {f"{ours}/self_attention/linear_0/weight": torch.cat(weights)}
        tensors |= {f"{ours}/self_attention/linear_0/bias": torch.cat(biases)}
        for kind, greek in (("weight", "gamma"), ("bias", "beta")):
            tensors[f"{ours}/self_attention/linear_1/{kind}"] = hub[f"{attention}.out_proj.{kind}"]
            tensors[f"{ours}/self_attention/layer_norm/{greek}"] = hub[f"{theirs}.self_attn_layer_norm.{kind}"]
            tensors[f"{ours}/ffn/layer_norm/{greek}"] = hub[f"{theirs}.final_layer_norm.{kind}"]
            for i in (0, 1):
                tensors[f"{ours}/ffn/linear_{i}/{kind}"] = hub[f"{theirs}.fc{i + 1}.{kind}"]
    tensors["decoder/x"] = torch.zeros(3)

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    data = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(tensors))
    for name, tensor in tensors.items():
        array = tensor.numpy().astype(np.float16)
        shape = struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        data += text(name) + shape + struct.pack("<BI", 4, array.nbytes) + array.tobytes()
    return data


def test_all_formats_give_the_same_network(tmp_path: Path) -> None:
    hub = hub_names()
    save_file(hub, tmp_path / "a.safetensors")
    torch.save({"dims": {"n_mels": 80}, "model_state_dict": openai_names(hub)}, tmp_path / "b.pt")
    (tmp_path / "model.bin").write_bytes(ctranslate_bytes(hub))
    with zipfile.ZipFile(tmp_path / "c.whl", "w") as archive:
        archive.write(tmp_path / "model.bin", "some/model/model.bin")
    config, expected = first_layers(read_published(tmp_path / "a.safetensors"), 2)
    assert (config.width, config.heads, config.layers) == (WIDTH, 1, 2)
    for name in ("b.pt", "model.bin", "c.whl"):
        _, state = first_layers(read_published(tmp_path / name), 2)
        assert state.keys() == expected.keys()
        for key in expected:
            assert_close(state[key], expected[key], rtol=0, atol=0)


def test_the_folder_loads_and_its_channels_are_standardised(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    save_file(hub_names(), tmp_path / "a.safetensors")
    assert main([str(tmp_path / "a.safetensors"), "--output", str(tmp_path / "w")]) == 0
    assert "2 layers of 64 channels" in capsys.readouterr().out
    from modules.procedural.speech import synthesize

    heard = load_whisper(tmp_path / "w")(synthesize(5, 20.0).audio)
    assert float(heard.mean(0).abs().max()) < 1.5 and 0.3 < float(heard.std()) < 2


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "ends too early"), (b"\x09\0\0\0", "version 9"), (b"\x06\0\0\0\xff", "ends too early")]
)
def test_other_files_are_refused_in_one_line(content: bytes, words: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "model.bin").write_bytes(content)
    assert main([str(tmp_path / "model.bin"), "--output", str(tmp_path / "w")]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1 and not (tmp_path / "w").exists()


def test_too_many_layers_and_other_networks_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    save_file(hub_names(), tmp_path / "a.safetensors")
    assert main([str(tmp_path / "a.safetensors"), "--layers", "4", "--output", str(tmp_path / "w")]) == 2
    save_file({"x": torch.zeros(1)}, tmp_path / "b.safetensors")
    assert main([str(tmp_path / "b.safetensors"), "--output", str(tmp_path / "w")]) == 2
    assert main([str(tmp_path / "none.bin"), "--output", str(tmp_path / "w")]) == 2
    said = capsys.readouterr().err
    assert "no layer 4" in said and "no Whisper encoder" in said and "no file" in said


def test_the_source_is_named_in_the_config(tmp_path: Path) -> None:
    save_file(hub_names(), tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", 1, tmp_path / "w")
    assert "a.safetensors" in (tmp_path / "w/config.yaml").read_text()


def test_the_hash_is_that_of_the_model_in_a_wheel(tmp_path: Path) -> None:
    model = ctranslate_bytes(hub_names())
    (tmp_path / "model.bin").write_bytes(model)
    with zipfile.ZipFile(tmp_path / "c.whl", "w") as archive:
        archive.writestr("some/model/model.bin", model)
    for name in ("model.bin", "c.whl"):
        convert(tmp_path / name, 1, tmp_path / name.replace(".", "_"))
        source = read_config(tmp_path / name.replace(".", "_"))["source"]
        assert source["model_sha256"] == hashlib.sha256(model).hexdigest() and source["file"] == name
