"""Stage 1: distil a teacher's views into the image-to-plane network (spec/training.md, 1.2).

    python -m tasks.run configs/i2p.yaml

Each step has two updates of the generator, for the reference view (rarely at first) and for the target view, and one
of the discriminator.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from modules.geometry.camera import pose_camera
from modules.layers.resample import resize
from modules.losses import image as losses
from modules.losses.perceptual import PerceptualLoss
from modules.media.pixels import to_float
from modules.metrics.image import psnr
from modules.official.eg3d_snapshot import read_snapshot
from modules.portrait.initial_weights import InitialWeights, load_imagenet
from modules.portrait.real3d_portrait import PortraitOutput, Real3DPortrait, Real3DPortraitConfig
from modules.procedural.person import HELD_OUT_SEED
from modules.system.assets import find_asset
from tasks.data.eg3d_views import EG3DSeeds, EG3DViews, EG3DViewsConfig, copy_matching
from tasks.data.procedural_views import CachedViews, ViewsConfig
from tasks.demo.patches import WindowConfig, sample_windows, window_losses
from tasks.engine.registry import register
from tasks.engine.task import OptimizerSpec, StepState, Task, grid
from tasks.stages.adversary import Adversary, AdversaryConfig, View
from tasks.stages.image_terms import density_loss, image_stage_optimizers, perceptual_loss, seeded, warm_start, weighted
from tasks.stages.learning_rates import RateConfig, i2p_rates
from tasks.stages.previews import depth_picture

TRAINED = ("image_to_plane", "tri_grid", "renderer", "superresolution")


@dataclass(frozen=True, kw_only=True)
class I2PLossConfig:
    """Weights; a part whose weights are all 0 is not built."""

    image: float = 1.0
    image_raw: float = 1.0
    edges: float = 0.0                    # differences of neighbouring pixels of the image
    mask: float = 0.0                     # ray weights against the head mask
    perceptual: float = 0.1
    perceptual_raw: float = 0.1
    adversarial_reference: float = 0.1
    adversarial_target: float = 0.025
    density: float = 0.25
    density_every: int = 4
    density_step: float = 0.005
    edges_raw: float = 0.0                # as edges, of image_raw; with windows alone
    planes: float = 0.0                   # mean square of the planes; with windows alone

    @property
    def adversarial(self) -> bool:
        return max(self.adversarial_reference, self.adversarial_target) > 0

    @property
    def needs_perceptual(self) -> bool:
        return max(self.perceptual, self.perceptual_raw) > 0


@dataclass(frozen=True, kw_only=True)
class I2PConfig:
    """Stage 1."""

    model: Real3DPortraitConfig = field(default_factory=partial(Real3DPortraitConfig.full, 1))
    adversary: AdversaryConfig = AdversaryConfig()
    teacher: Literal["eg3d", "procedural"] = "eg3d"
    eg3d: EG3DViewsConfig = EG3DViewsConfig()
    views: ViewsConfig = ViewsConfig()    # of the procedural teacher
    loss: I2PLossConfig = I2PLossConfig()
    rates: RateConfig = RateConfig()
    start_adversarial: int = 30_000       # steps; also ends the rarity of the reference view (`reference_runs`)
    held_out_people: int = 8              # for validation
    windows: WindowConfig | None = None   # train on windows of image_raw alone, with the losses of `window_losses`
    init_from: str = ""                   # checkpoint to start from
    initial_weights: InitialWeights = "imagenet"       # of the ResNet, without init_from

    def __post_init__(self) -> None:
        if self.model.motion_adapter is not None or self.model.superresolution is None:
            raise ValueError("model: stage 1 has a superresolution and no motion_adapter")
        if self.teacher == "eg3d" and self.loss.mask > 0:
            raise ValueError(f"loss.mask is {self.loss.mask}; the eg3d teacher has no masks, set it to 0")
        if self.windows is not None and (self.teacher == "eg3d" or self.loss.adversarial):
            raise ValueError("windows need the head masks of the procedural teacher and no adversary; "
                             "set windows to null")


def reference_runs(step: int, start_adversarial: int) -> bool:
    """Whether the reference view is trained at `step`: every 5th step at first, then every 2nd, then always (1.2)."""
    if step + 1 < start_adversarial:
        return (step + 1) % 5 == 0
    return step >= start_adversarial + 5000 or (step + 1) % 2 == 0


@register("i2p")
class I2PTask(Task):
    """Teacher views -> image-to-plane network, decoder and super-resolution."""

    config_class = I2PConfig
    best_metric, best_is_lowest = "psnr_turned", False

    def __init__(self, config: I2PConfig, generator: torch.Generator) -> None:
        super().__init__(config, generator)
        with seeded(generator):
            self.model = Real3DPortrait(config.model)
            self.adversary = Adversary(config.adversary) if config.loss.adversarial else None
        self.modules = dict(self.model.named_children())
        self.order = ("generator",) if config.windows is not None else ("generator", "generator")
        if self.adversary is not None:
            self.modules["discriminator"] = self.adversary.discriminator
            self.order += ("discriminator",)
        if config.loss.needs_perceptual:
            self.frozen["perceptual"] = PerceptualLoss.from_assets()
        if config.teacher == "eg3d":
            teacher = read_snapshot(find_asset(config.eg3d.snapshot)).build()
            self.frozen["teacher"] = EG3DViews(teacher, config.eg3d.truncation)
            for name in ("renderer", "superresolution"):
                copy_matching(getattr(teacher, name), self.modules[name])
        if config.init_from:
            warm_start(config.init_from, self.modules, tuple(self.modules))

    def begin(self) -> None:
        if self.config.initial_weights == "imagenet" and not self.config.init_from:
            load_imagenet(self.modules)

    def optimizers(self) -> list[OptimizerSpec]:
        rates = partial(i2p_rates, self.config.rates, start_adversarial=self.config.start_adversarial)
        return image_stage_optimizers(self.modules, TRAINED, self.config.rates, rates)

    def train_dataset(self) -> Dataset:
        if self.config.teacher == "eg3d":
            return EG3DSeeds(self.config.eg3d, self.config.model.focal_length)
        return CachedViews(self.config.views)

    def validation_dataset(self) -> Dataset:
        if self.config.teacher == "eg3d":
            return EG3DSeeds(self.config.eg3d, self.config.model.focal_length, self.config.held_out_people)
        views = replace(self.config.views, people=self.config.held_out_people, first_seed=HELD_OUT_SEED, poses="fan",
                        views=3)
        return CachedViews(views, pairs_per_person=1, every_view=True)

    def training_step(self, batch: dict[str, Tensor], step: int, optimizer: str,
                      state: StepState) -> dict[str, Tensor]:
        if self.config.windows is not None:
            return self.window_step(batch, state.generator)
        if "truth" not in state.cache:
            state.cache |= {"truth": self.truth(batch), "fakes": [], "turn": 0}
        truth: list[View] = state.cache["truth"]
        if optimizer == "discriminator":
            return self.adversary.discriminator_losses(state.cache["fakes"], truth, step, state.generator)
        turn = state.cache["turn"]                     # 0: reference view, 1: target view
        state.cache["turn"] += 1
        if turn == 0 and not reference_runs(step, self.config.start_adversarial):
            return {}
        planes = self.model.canonical_planes(truth[0].image, truth[0].camera)
        mask = batch["masks"][:, turn, None] if "masks" in batch else None
        output = self.model(planes, truth[turn].camera, generator=state.generator)
        found = self.view_losses(output, truth[turn], mask)
        if self.adversary is not None:
            state.cache["fakes"].append(View(output.image.detach(), output.image_raw.detach(), truth[turn].camera))
            found |= self.adversarial_losses(output, turn, step, state.generator)
        if turn == 1 and self.config.loss.density > 0 and (step + 1) % self.config.loss.density_every == 0:
            planes = self.model.canonical_planes(truth[1].image, truth[1].camera)
            found["density"] = self.config.loss.density * density_loss(
                self.model, planes, self.config.loss.density_step, state.generator)
        return {f"{('reference', 'target')[turn]}_{name}": loss for name, loss in found.items()}

    def window_step(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of random windows of the reference and the target view, from the same planes: they cost the most."""
        views = self.truth(batch)
        planes, found = self.model.canonical_planes(views[0].image, views[0].camera), {}
        for name, view, mask in zip(("reference", "target"), views, batch["masks"][:, :, None].unbind(dim=1)):
            windows = sample_windows(self.config.windows, mask, generator)
            losses_of_view = window_losses(self.config.loss, windows, self.model, planes, view, mask, generator)
            found |= {f"{name}_{key}": loss for key, loss in losses_of_view.items()}
        return found

    def truth(self, batch: dict[str, Tensor]) -> list[View]:
        """The views of a batch, with their pictures at the neural resolution."""
        size = self.config.model.neural_resolution
        if self.config.teacher == "eg3d":
            return self.frozen["teacher"](batch, size)
        found = []
        for k, pictures in enumerate(batch["images"].unbind(dim=1)):
            image = to_float(pictures)
            camera = pose_camera(batch["euler"][:, k], batch["translation"][:, k], self.config.model.focal_length)
            found.append(View(image, resize(image, size), camera))
        return found

    def view_losses(self, output: PortraitOutput, truth: View, mask: Tensor | None) -> dict[str, Tensor]:
        """Weighted reconstruction losses; mask: bool [B, 1, H, W], the head, if known."""
        perceptual = partial(perceptual_loss, self.frozen.get("perceptual"))
        terms = {"image": lambda: (output.image - truth.image).abs().mean(),
                 "image_raw": lambda: (output.image_raw - truth.image_raw).abs().mean(),
                 "edges": lambda: losses.edge_l1(output.image, truth.image),
                 "mask": lambda: losses.weights_mask(
                     output.weights, losses.resize_mask(mask, self.config.model.neural_resolution)),
                 "perceptual": lambda: perceptual(output.image, truth.image),
                 "perceptual_raw": lambda: perceptual(output.image_raw, truth.image_raw)}
        return weighted(terms, self.config.loss)

    def adversarial_losses(self, output: PortraitOutput, turn: int, step: int,
                           generator: torch.Generator) -> dict[str, Tensor]:
        """Nothing before `start_adversarial`."""
        weight = (self.config.loss.adversarial_reference, self.config.loss.adversarial_target)[turn]
        if step < self.config.start_adversarial or weight == 0:
            return {}
        view = View(output.image, output.image_raw, output.camera)
        return {"adversarial": weight * self.adversary.generator_loss(view, generator)}

    def validation_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        truth = self.truth(batch)
        planes = self.model.canonical_planes(truth[0].image, truth[0].camera)
        outputs = [self.model(planes, view.camera) for view in truth]
        kind = "image" if self.config.windows is None else "image_raw"         # what is trained
        same, *turned = (psnr(getattr(o, kind), getattr(v, kind)) for o, v in zip(outputs, truth))
        return {"psnr": same, "psnr_turned": sum(turned) / len(turned), "weights": outputs[0].weights.mean(),
                "psnr_raw": psnr(outputs[0].image_raw, truth[0].image_raw), "planes": planes.float().std()}

    def pictures(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        truth = self.truth(batch)
        planes = self.model.canonical_planes(truth[0].image, truth[0].camera)
        rows = []
        for view in truth:
            output = self.model(planes, view.camera)
            rows += [view.image, output.image, output.image_raw, depth_picture(output.depth, output.weights)]
        return {"source_and_turned": grid(rows)}
