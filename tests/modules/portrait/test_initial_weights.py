import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close
from transformers import SegformerConfig, SegformerForImageClassification

from modules.layers.segformer import MiTConfig
from modules.portrait.image_to_plane import INPUT_MODES, ImageToPlane, ImageToPlaneConfig
from modules.portrait.initial_weights import RESNET, load_imagenet, load_mit, load_resnet, spread_channels
from modules.portrait.motion_adapter import MotionAdapter, MotionAdapterConfig
from modules.system import assets
from modules.system.checkpoint import read_weights
from modules.system.errors import UserError

# fmt: off
SMALL = ImageToPlaneConfig(                                    # all but the ResNet, which has its full size
    input_size=32, plane_channels=4, pyramid_channels=8, pyramid_dilations=(1, 1, 1), vit_width=16, vit_blocks=1,
    vit_heads=2, vit_channels=8, low_channels=8, high_first=8, high_channels=8, high_layers=1,
    predictor_channels=(8, 8), predictor_width=16, predictor_heads=2)
# fmt: on


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of assets, empty."""
    monkeypatch.setenv("REAL3D_ASSETS", str(tmp_path / "assets"))
    monkeypatch.setattr(assets, "DEFAULT_FOLDER", tmp_path / "nothing")
    (tmp_path / "assets").mkdir()
    return tmp_path / "assets"


def network(**changes: object) -> ImageToPlane:
    return ImageToPlane(replace(SMALL, **changes)).eval()


def adapter(scale: str = "b0") -> MotionAdapter:
    return MotionAdapter(
        MotionAdapterConfig(input_size=64, plane_channels=4, fuse_channels=8, encoder=MiTConfig.scale(scale))
    ).eval()


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    keys = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{key}": (width,) for key in keys} | {f"{name}.num_batches_tracked": ()}


def resnet34_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision's file."""
    shapes = {"conv1.weight": (64, 3, 7, 7), **norm("bn1", 64), "fc.weight": (1000, 512), "fc.bias": (1000,)}
    before = 64
    for layer, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 1):
        for block in range(blocks):
            name = f"layer{layer}.{block}"
            if before != width:
                shapes |= {f"{name}.downsample.0.weight": (width, before, 1, 1), **norm(f"{name}.downsample.1", width)}
            shapes |= {
                f"{name}.conv1.weight": (width, before, 3, 3),
                **norm(f"{name}.bn1", width),
                f"{name}.conv2.weight": (width, width, 3, 3),
                **norm(f"{name}.bn2", width),
            }
            before = width
    return shapes


def resnet34_state(generator: torch.Generator) -> dict[str, torch.Tensor]:
    return {
        key: torch.rand(shape, generator=generator) if shape else torch.tensor(7)
        for key, shape in resnet34_shapes().items()
    }


@pytest.fixture
def published(generator: torch.Generator) -> SegformerForImageClassification:
    """Hugging Face's MiT-b0 with random numbers everywhere."""
    model = SegformerForImageClassification(SegformerConfig(num_labels=10)).eval()
    for parameter in model.parameters():
        parameter.data.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


# ---- ResNet-34


@pytest.mark.parametrize("mode, channels", INPUT_MODES.items())
def test_the_first_convolution_takes_channel_i_from_i_mod_3_times_3_over_n(mode, channels, generator):
    weight = torch.randn(8, 3, 7, 7, generator=generator)
    spread = spread_channels(weight, channels)
    assert spread.shape == (8, channels, 7, 7), mode
    for i in range(channels):
        assert torch.equal(spread[:, i], weight[:, i % 3] * (3 / channels))


@pytest.mark.parametrize("mode", ["rgb", "rgb_alpha_camera"])
def test_every_tensor_of_the_resnet_arrives(folder, generator, mode):
    state = resnet34_state(generator)
    torch.save(state, folder / RESNET)
    model = network(input_mode=mode)
    others = {key: value.clone() for key, value in model.state_dict().items() if "low_reso_encoder.encoder." not in key}
    load_resnet(model)
    loaded = model.low_reso_encoder.encoder.state_dict()
    assert loaded.keys() == {key for key in state if not key.startswith("fc.")}
    for key, value in loaded.items():
        assert torch.equal(
            value, state[key] if key != "conv1.weight" else spread_channels(state[key], INPUT_MODES[mode])
        ), key
    assert all(torch.equal(model.state_dict()[key], value) for key, value in others.items())


def test_torchvision_computes_the_same_where_nothing_dilates(folder, generator):
    torchvision = pytest.importorskip("torchvision")
    theirs = torchvision.models.resnet34(weights=None).eval()
    assert {key: tuple(value.shape) for key, value in theirs.state_dict().items()} == resnet34_shapes()
    for name, value in theirs.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
    torch.save(theirs.state_dict(), folder / RESNET)
    model = network()
    load_resnet(model)
    ours = model.low_reso_encoder.encoder
    picture = torch.randn(1, 3, 64, 64, generator=generator)
    shares = 5 / 3 / torch.tensor([2.0, 2.0, 1.0])[:, None, None]  # five channels: r g b r g
    with torch.no_grad():
        actual = ours.bn1(ours.conv1((picture * shares)[:, [0, 1, 2, 0, 1]]))
        expected = theirs.bn1(theirs.conv1(picture))
        assert_close(actual, expected, atol=1e-5, rtol=1e-4)
        for name in ("layer1", "layer2"):
            expected = theirs.get_submodule(name)(expected)
            actual = ours.get_submodule(name)(actual)
    assert_close(actual, expected, atol=1e-4, rtol=1e-4)


def test_old_files_without_counters_of_batch_norm_do(folder, generator):
    state = {key: value for key, value in resnet34_state(generator).items() if "num_batches" not in key}
    torch.save(state, folder / RESNET)
    model = network()
    load_resnet(model)
    assert torch.equal(model.low_reso_encoder.encoder.bn1.running_mean, state["bn1.running_mean"])


# ---- MiT


def test_every_tensor_of_segformers_own_file_arrives(folder, generator):
    model = adapter()
    state = {key: torch.rand(value.shape, generator=generator) for key, value in model.mix_vit.state_dict().items()}
    assert state["block2.1.attn.kv.weight"].shape == (128, 64) and state["norm4.weight"].shape == (256,)
    torch.save(state | {"head.weight": torch.zeros(1000, 256), "head.bias": torch.zeros(1000)}, folder / "mit_b0.pth")
    before = model.prenet.weight.clone()
    load_mit(model)
    assert all(torch.equal(value, state[key]) for key, value in model.mix_vit.state_dict().items())
    assert torch.equal(model.prenet.weight, before)


@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin", "in memory"])
def test_hugging_faces_weights_give_its_numbers(folder, published, generator, kind):
    hub = folder / "mit-b0"
    hub.mkdir()
    if kind == "in memory":  # with the names of this version of the library
        torch.save(published.state_dict(), hub / "pytorch_model.bin")
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            published.save_pretrained(hub)
    if kind == "pytorch_model.bin":
        state = read_weights(hub / "model.safetensors")
        (hub / "model.safetensors").unlink()
        assert "segformer.encoder.block.0.0.attention.self.key.weight" in state
        torch.save(state, hub / "pytorch_model.bin")
    model = adapter()
    load_mit(model)
    pictures = torch.randn(1, 3, 64, 64, generator=generator)
    with torch.no_grad():
        expected = published(pictures, output_hidden_states=True).hidden_states
        actual = model.mix_vit(pictures)
    assert len(expected) == len(actual) == 4
    for ours, theirs in zip(actual, expected):
        assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


def test_every_scale_has_its_own_file(folder):
    with pytest.raises(UserError, match="mit-b1 .*python -m scripts.assets fetch mit-b1"):
        load_mit(adapter("b1"))


# ---- what is asked for, and what is refused


def test_parts_that_have_their_weights_need_no_file(folder):
    modules = {"image_to_plane": network(), "motion_adapter": adapter(), "renderer": torch.nn.Linear(1, 1)}
    load_imagenet(modules, ("image_to_plane", "motion_adapter"))
    load_imagenet({"renderer": modules["renderer"]})
    with pytest.raises(UserError, match=RESNET):
        load_imagenet(modules, ("motion_adapter",))
    with pytest.raises(UserError, match="mit-b0"):
        load_imagenet(modules, ("image_to_plane",))


@pytest.mark.parametrize(
    "load, build, words",
    [
        (load_resnet, network, (RESNET, "BSD-3-Clause", f"python -m scripts.assets fetch {RESNET}")),
        (load_mit, adapter, ("mit-b0", "non-commercial", "python -m scripts.assets fetch mit-b0", "mit_b0.pth")),
    ],
)
def test_a_missing_file_is_named_with_licence_source_and_the_way_without(folder, load, build, words):
    with pytest.raises(UserError) as caught:
        load(build())
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in (*words, "initial_weights=none")), message


def wrong_files() -> dict[str, object]:
    """What a file may hold instead, by the words of the refusal."""
    few = {"conv1.weight": torch.zeros(64, 3, 7, 7), "bn1.weight": torch.zeros(64)}
    return {
        "does not fit the encoder: missing bn1.bias": few,
        "unknown features.0.weight": {"features.0.weight": torch.zeros(1)},
        "shape of conv1.weight [64, 1, 7, 7] instead of [64, 5, 7, 7]": {
            key: torch.zeros(()).expand((64, 1, 7, 7) if key == "conv1.weight" else shape)
            for key, shape in resnet34_shapes().items()
        },
        "cannot be read as weights (damaged, incomplete, or not of tensors alone)": b"<html>not found</html>",
        "cannot be read as weights": Path("code"),  # an object, which is not built
        "holds no tensors with names": [torch.zeros(1)],
    }


@pytest.mark.parametrize("words, content", wrong_files().items(), ids=range(len(wrong_files())))
def test_a_wrong_file_gives_one_line(folder, words, content):
    if isinstance(content, bytes):
        (folder / RESNET).write_bytes(content)
    else:
        torch.save(content, folder / RESNET)
    with pytest.raises(UserError) as caught:
        load_resnet(network())
    message = str(caught.value)
    assert "\n" not in message and str(folder / RESNET) in message and "initial_weights=none" in message
    assert words in message


def test_a_hub_folder_without_weights_or_of_another_scale_is_refused(folder):
    (folder / "mit-b0").mkdir()
    with pytest.raises(UserError, match="model.safetensors cannot be read as weights .no such file"):
        load_mit(adapter())
    save_file(
        {f"patch_embed1.{key}": torch.zeros(64) for key in ("norm.weight", "norm.bias")},
        folder / "mit-b0/model.safetensors",
    )
    with pytest.raises(UserError, match=r"does not fit the encoder.*patch_embed1.norm.bias \[64\] instead of \[32\]"):
        load_mit(adapter())


def test_encoders_of_other_sizes_are_reported_before_a_file_is_asked_for(folder):
    with pytest.raises(UserError, match=r"encoder_widths \[8, 8, 8, 8\].*not those of ResNet-34.*initial_weights=none"):
        load_resnet(network(encoder_widths=(8, 8, 8, 8)))
    other = MotionAdapter(MotionAdapterConfig.demo())
    with pytest.raises(UserError, match=r"widths \[16, 32, 64, 96\].*not one of the scales b0, b1"):
        load_mit(other)


def test_weights_below_state_dict_are_found(tmp_path):
    torch.save({"state_dict": {"a": torch.ones(2)}, "epoch": 3}, tmp_path / "a.pth")
    assert torch.equal(read_weights(tmp_path / "a.pth")["a"], torch.ones(2))
