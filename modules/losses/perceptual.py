"""Perceptual loss on the features of VGG19 (ImageNet) and VGGFace (docs/spec/training.md#3).

The weights are files of others: torchvision's `vgg19-dcbb9e9d.pth` and Oxford's `vgg_face_dag.pth`, read
from the assets folder. Nothing is downloaded here.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.system.assets import find_asset
from modules.system.checkpoint import read_weights

LAYER_WEIGHTS = {"relu_1_1": 1 / 32, "relu_2_1": 1 / 16, "relu_3_1": 1 / 8, "relu_4_1": 1 / 4, "relu_5_1": 1.0}
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
VGGFACE_MEAN = (129.186279296875, 104.76238250732422, 93.59396362304688)  # of 255, RGB
VGG19_FILE = "vgg19-dcbb9e9d.pth"
VGGFACE_FILE = "vgg_face_dag.pth"
PERCEPTUAL_FILES = (VGG19_FILE, VGGFACE_FILE)


@dataclass(frozen=True, kw_only=True)
class VGGFeaturesConfig:
    """Convolutions before each max pooling; (2, 2, 4, 4, 4) is VGG19, (2, 2, 3, 3, 3) the VGG16 of VGGFace."""

    convolutions: tuple[int, ...] = (2, 2, 4, 4, 4)
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)

    def __post_init__(self) -> None:
        if len(self.convolutions) != len(self.widths) or len(self.widths) > len(LAYER_WEIGHTS):
            raise ValueError(
                f"{len(self.convolutions)} blocks but {len(self.widths)} widths; at most {len(LAYER_WEIGHTS)} of each"
            )


class VGGFeatures(nn.Module):
    """The first activation of each VGG block; weights in torchvision's order and names `features.N.*`."""

    def __init__(self, config: VGGFeaturesConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.taps: list[int] = []  # numbers of the ReLUs that are returned
        channels = 3
        for block, (count, width) in enumerate(zip(config.convolutions, config.widths)):
            layers += [nn.MaxPool2d(2)] if block else []
            self.taps.append(len(layers) + 1)
            for _ in range(count):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
        self.features = nn.Sequential(*layers[: self.taps[-1] + 1])

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Normalised images [B, 3, H, W] -> {"relu_k_1": [B, C_k, H / 2^(k-1), W / 2^(k-1)]}."""
        activations = {}
        for number, layer in enumerate(self.features):
            image = layer(image)
            if number in self.taps:
                activations[f"relu_{len(activations) + 1}_1"] = image
        return activations

    def load_vgg19(self, state: dict[str, Tensor]) -> None:
        """Load the weights of torchvision's VGG19, but for layers behind relu_5_1 and the classifier."""
        own = self.state_dict()
        self.load_state_dict({name: value for name, value in state.items() if name in own})

    def load_vggface(self, state: dict[str, Tensor]) -> None:
        """Load the weights of the Oxford file, whose names are `conv1_1.weight` ..."""
        names = [key for key in self.state_dict() if key.endswith("weight")]
        blocks = [(block, layer) for block, count in enumerate((2, 2, 3, 3, 3), 1) for layer in range(1, count + 1)]
        renamed = {}
        for name, (block, layer) in zip(names, blocks):
            renamed[name] = state[f"conv{block}_{layer}.weight"]
            renamed[name.replace("weight", "bias")] = state[f"conv{block}_{layer}.bias"]
        self.load_state_dict(renamed)


@dataclass(frozen=True, kw_only=True)
class PerceptualLossConfig:
    """Settings of the loss of all image stages (docs/spec/training.md#3-1)."""

    size: int = 512  # pixels a side to which other images are resized
    extra_scales: int = 3  # halvings of which only relu_5_1 of VGG19 counts
    vgg19: VGGFeaturesConfig = VGGFeaturesConfig()
    vggface: VGGFeaturesConfig = VGGFeaturesConfig(convolutions=(2, 2, 3, 3, 3))

    def __post_init__(self) -> None:
        if self.size % (16 * 2**self.extra_scales):
            raise ValueError(f"size {self.size} is not a multiple of {16 * 2**self.extra_scales}")


class PerceptualLoss(nn.Module):
    """Weighted L1 distance of VGG19 and VGGFace features; frozen, no gradient to the target."""

    def __init__(self, config: PerceptualLossConfig) -> None:
        super().__init__()
        self.config = config
        self.vgg19, self.vggface = VGGFeatures(config.vgg19), VGGFeatures(config.vggface)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)
        self.register_buffer("face_mean", torch.tensor(VGGFACE_MEAN)[:, None, None], persistent=False)
        self.eval().requires_grad_(False)

    @classmethod
    def from_assets(cls, config: PerceptualLossConfig | None = None) -> "PerceptualLoss":
        """The loss with the published weights of VGG19 and VGGFace.

        Raises:
            UserError: a weight file is missing or is another one.
        """
        loss = cls(config or PerceptualLossConfig())
        loss.vgg19.load_vgg19(read_weights(find_asset(VGG19_FILE)))
        loss.vggface.load_vggface(read_weights(find_asset(VGGFACE_FILE)))
        return loss

    def terms(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Mean differences [13] before weighting: VGGFace and VGG19 layer by layer, then the extra scales.

        Args:
            prediction, target: [B, 3, H, W] in [0, 1].
        """
        size = (self.config.size, self.config.size)
        x, y = (
            image
            if image.shape[-1] == size[1]
            else F.interpolate(image, size, mode="bilinear", antialias=True, align_corners=False)
            for image in (prediction, target.detach())
        )
        terms = []
        face = self.differences(self.vggface, 255 * x - self.face_mean, 255 * y - self.face_mean)
        x, y = (x - self.mean) / self.std, (y - self.mean) / self.std
        for pair in zip(face, self.differences(self.vgg19, x, y)):
            terms += pair
        for _ in range(self.config.extra_scales):
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
            terms.append(self.differences(self.vgg19, x, y)[-1])
        return torch.stack(terms)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Perceptual loss of images [B, 3, H, W] in [0, 1] -> scalar."""
        return self.combine(self.terms(prediction, target))

    def combine(self, terms: Tensor) -> Tensor:
        """Weighted sum of `terms` [13] -> scalar; a term that is not a number counts 0 (docs/spec/training.md#3-1)."""
        weights = []
        for weight in list(LAYER_WEIGHTS.values())[: len(self.config.vgg19.widths)]:
            weights += [weight / 255, weight]
        weights += [1.0] * self.config.extra_scales
        return (terms.nan_to_num(0.0) * torch.tensor(weights, device=terms.device, dtype=terms.dtype)).sum()

    @staticmethod
    def differences(network: VGGFeatures, x: Tensor, y: Tensor) -> list[Tensor]:
        """Mean absolute differences of a network's layers for two batches of its inputs [B, 3, H, W]."""
        with torch.no_grad():
            target = network(y)
        return [(value - target[name]).abs().mean() for name, value in network(x).items()]
