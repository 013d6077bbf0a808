"""Stage 1: pre-training of the image-to-plane network, which distils the views of a teacher.

    python -m tasks.run configs/i2p.yaml

See the paper, image-to-plane model, and docs/spec/training.md#1-2. Each step has two updates of the generator, for the
reference view (rarely at first) and for the target view, and one of the discriminator.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from modules.losses import image as losses
from modules.losses.perceptual import PERCEPTUAL_FILES, PerceptualLoss
from modules.metrics.image import psnr
from modules.portrait.build import build_portrait
from modules.portrait.config import Real3DPortraitConfig
from modules.portrait.discriminator import DualView
from modules.portrait.driving import Driving
from modules.portrait.initial_weights import InitialWeights, imagenet_files, load_imagenet
from modules.portrait.photo import Photo
from modules.portrait.real3d_portrait import PortraitOutput
from tasks.data.eg3d_views import EG3DTeacher, EG3DViewsConfig
from tasks.data.procedural_views import ProceduralTeacher, ViewsConfig
from tasks.data.teacher import TeacherBatch, TeacherViews
from tasks.engine.registry import register
from tasks.engine.seeds import seeded
from tasks.engine.sheet import captioned
from tasks.engine.task import Metric, OptimizerSpec, StepState, Task
from tasks.stages.adversary import ADVERSARIAL, Adversary, AdversaryConfig
from tasks.stages.image_terms import (
    ImageError,
    best_image_metric,
    density_loss,
    image_error,
    image_stage_optimizers,
    mean_l1,
    perceptual_loss,
)
from tasks.stages.learning_rates import ImageLearningRates, Unfreezing
from tasks.stages.previews import depth_picture
from tasks.stages.sizes import adversary_of_model
from tasks.stages.terms import (
    NEAR_PICTURES,
    NETWORK,
    PICTURE_SHAPE,
    RAW_SHAPE,
    Input,
    Inputs,
    Term,
    Weights,
    check_weights,
    reads,
    weighted_terms,
)
from tasks.stages.warm_start import warm_start

TRAINED = ("image_to_plane", "tri_grid", "renderer", "superresolution")
TERMS = {
    "image": Term(image_error, ("error", "image", "target")),
    "image_raw": Term(image_error, ("error", "image_raw", "target_raw")),
    "edges": Term(losses.edge_l1, ("image", "target")),
    "mask": Term(losses.weights_mask, ("ray_weights", "head_raw")),
    "perceptual": Term(perceptual_loss, ("network", "image", "target")),
    "perceptual_raw": Term(perceptual_loss, ("network", "image_raw", "target_raw")),
}
INPUTS = {
    "error": Input("", "", "the function `image_error` of the config: images, targets -> their mean error"),
    "image": Input(PICTURE_SHAPE, NEAR_PICTURES, "the final picture of the view"),
    "target": Input(PICTURE_SHAPE, "in [-1, 1]", "the teacher's view"),
    "image_raw": Input(RAW_SHAPE, NEAR_PICTURES, "the raw render, before super-resolution"),
    "target_raw": Input(RAW_SHAPE, "in [-1, 1]", "the teacher's, of that size"),
    "ray_weights": Input("[B, 1, R, R]", "in [0, 1]", "how much of each ray the head of the raw render stops"),
    "head_raw": Input("[B, 1, R, R]", "bool", "the head of `target_raw`; teacher=procedural alone knows it"),
    "network": NETWORK,
}
IMAGE_ERRORS: Mapping[str, ImageError] = {"l1": mean_l1, "squared": F.mse_loss}
VIEWS = ("reference", "target")  # of the two turns of a step
VIEWS_LOGGED = {f"{view}_NAME": f"NAME of the {view} view." for view in VIEWS}
FURTHER_LOSSES = {  # computed outside the table
    "adversarial_reference": "The adversary's, of the reference view.",
    "adversarial_target": "The adversary's, of the target view.",
    "density": "Difference of the densities of neighbouring points.",
}


@dataclass(frozen=True, kw_only=True)
class I2PConfig:
    """The keys of stage 1."""

    model: Real3DPortraitConfig = field(default_factory=partial(Real3DPortraitConfig.full, 1))
    adversary: AdversaryConfig = AdversaryConfig()
    teacher: Literal["eg3d", "procedural"] = "eg3d"  # who gives the views
    eg3d: EG3DViewsConfig = EG3DViewsConfig()
    views: ViewsConfig = ViewsConfig()  # of the procedural teacher
    loss: Weights = field(default_factory=dict)
    image_error: Literal["l1", "squared"] = "l1"  # in the losses image and image_raw; the paper's formula has squares
    density_every: int = 4  # steps; lazy regularisation
    density_step: float = 0.005  # distance of the two points whose densities are compared, world units
    learning_rates: ImageLearningRates = ImageLearningRates()
    unfreeze: Unfreezing = Unfreezing()
    start_adversarial: int = 30_000  # steps; from here on the reference view is frequent (`reference_runs`)
    held_out_people: int = 8  # for validation
    init_from: str = ""  # checkpoint or run to start from (tasks/stages/warm_start.py)
    initial_weights: InitialWeights = "imagenet"  # of the ResNet, without init_from

    def __post_init__(self) -> None:
        if self.model.stage != 1:
            raise ValueError("model: stage 1 has a superresolution and no motion_adapter")
        if self.adversarial:
            object.__setattr__(self, "adversary", adversary_of_model(self.adversary, self.model))
        self.check_losses()

    def check_losses(self) -> None:
        """Refuse weights without an effect.

        Raises:
            ValueError: there is one.
        """
        unknown = () if self.teacher == "procedural" else ("head_raw",)
        check_weights(self.loss, TERMS, [name for name in INPUTS if name not in unknown], FURTHER_LOSSES)

    @property
    def adversarial(self) -> bool:
        """Whether a weight asks for a discriminator."""
        return max(self.loss.get(name, 0.0) for name in ("adversarial_reference", "adversarial_target")) > 0


TEACHERS = {
    "eg3d": lambda config: EG3DTeacher.from_snapshot(config.eg3d, config.model.driving.focal_length),
    "procedural": lambda config: ProceduralTeacher(config.views, config.model.driving.focal_length),
}


def reference_runs(step: int, start_adversarial: int) -> bool:
    """Whether the reference view is trained at `step`: every 5th step at first, then every 2nd, then always.

    See docs/spec/training.md#1-2.
    """
    if step + 1 < start_adversarial:
        return (step + 1) % 5 == 0
    return step >= start_adversarial + 5000 or (step + 1) % 2 == 0


@register("i2p")
class I2PTask(Task):
    """Train image-to-plane network, decoder and super-resolution on the teacher's views."""

    config_class = I2PConfig
    terms = TERMS
    term_inputs = INPUTS
    other_losses = FURTHER_LOSSES
    logged = {**VIEWS_LOGGED, **ADVERSARIAL, "density": FURTHER_LOSSES["density"]}  # noqa: RUF012
    best_metric = "psnr_turned"
    metrics = {  # noqa: RUF012
        "psnr": Metric("PSNR of the view that is the photo, dB (of the demo's raw render)", "higher"),
        "psnr_turned": Metric("the same of the other views, to which the head is turned", "higher"),
        "psnr_raw": Metric("PSNR of the raw render of the photo's view, before super-resolution, dB", "higher"),
        "weights": Metric("how much of a ray the head stops, mean over the picture; near 0: it has no density", ""),
        "planes": Metric("standard deviation of the planes; far above 1: saturated colours", ""),
        "perceptual_turned": Metric("perceptual loss of the other views, which stands in for LPIPS"),
    }
    order: tuple[str, ...] = ("generator", "generator")  # the reference view, then the target view

    def __init__(self, config: I2PConfig, generator: torch.Generator) -> None:
        super().__init__(config, generator)
        with seeded(generator):
            self.model = build_portrait(config.model)
            self.adversary = Adversary(config.adversary) if config.adversarial else None
        self.modules = dict(self.model.named_children())
        if self.adversary is not None:
            self.modules["discriminator"] = self.adversary.discriminator
            self.order = (*self.order, "discriminator")
        if reads("network", config.loss, TERMS):
            self.frozen["perceptual"] = PerceptualLoss.from_assets()
        self.best_metric = best_image_metric("psnr_turned", self, "perceptual_turned")
        self.teacher: TeacherViews = TEACHERS[config.teacher](config)
        self.frozen["teacher"] = self.teacher

    def begin(self) -> None:
        if self.config.init_from:
            warm_start(self.config.init_from, self.modules, tuple(self.modules))
            return
        if self.config.initial_weights == "imagenet":
            load_imagenet(self.modules)
        self.teacher.init_student(self.modules)

    @classmethod
    def files(cls, config: I2PConfig, fresh: bool) -> list[tuple[str, ...]]:
        names = [config.eg3d.snapshot] if config.teacher == "eg3d" else []
        if reads("network", config.loss, TERMS):
            names += PERCEPTUAL_FILES
        files: list[tuple[str, ...]] = [(name,) for name in names]
        if fresh and config.initial_weights == "imagenet" and not config.init_from:
            files += imagenet_files(config.model)
        return files

    @property
    def warm(self) -> bool:
        """Also with a head prior, whose planes begin as the photo itself."""
        return super().warm or self.config.model.head_prior is not None

    def optimizers(self) -> list[OptimizerSpec]:
        return image_stage_optimizers(self.modules, TRAINED, self.config.learning_rates, self.config.unfreeze.share)

    def train_dataset(self) -> Dataset:
        return self.teacher.train_dataset()

    def validation_dataset(self) -> Dataset:
        return self.teacher.validation_dataset(self.config.held_out_people)

    def training_step(self, batch: dict[str, Tensor], step: int, optimizer: str, state: StepState) -> dict[str, Tensor]:
        if "teacher" not in state.cache:
            state.cache |= {"teacher": self.teacher_batch(batch), "fakes": [], "turn": 0}
        teacher: TeacherBatch = state.cache["teacher"]
        if self.adversary is not None and optimizer == "discriminator":
            return self.adversary.discriminator_losses(state.cache["fakes"], teacher.views, step, state)
        turn = state.cache["turn"]  # 0: reference view, 1: target view
        state.cache["turn"] += 1
        if turn == 0 and not reference_runs(step, self.config.start_adversarial):
            return {}
        output = self.rendered(teacher.views[0], teacher.views[turn], state.generator)
        prefix = f"{VIEWS[turn]}_"
        terms = weighted_terms(TERMS, self.config.loss, self.inputs(output, teacher, turn), state, prefix)
        if self.adversary is not None:
            view = DualView(output.image, output.image_raw, teacher.views[turn].camera)
            state.cache["fakes"].append(view.detach())
            terms |= self.adversarial_losses(self.adversary, view, turn, step, state)
        density = self.config.loss.get("density", 0.0)
        if turn == 1 and density > 0 and (step + 1) % self.config.density_every == 0:
            planes = self.model.canonical_planes(photo_of(teacher.views[1]))
            loss = density_loss(self.model, planes, self.config.density_step, state.generator)
            terms |= state.weigh(
                f"{prefix}density", density, loss
            )  # not times the interval (docs/spec/training.md#1-2)
        return terms

    def teacher_batch(self, batch: Mapping[str, Tensor]) -> TeacherBatch:
        """The teacher's views of a batch, image_raw at the model's neural resolution."""
        return self.teacher(batch, self.config.model.neural_resolution)

    def rendered(self, reference: DualView, view: DualView, generator: torch.Generator | None = None) -> PortraitOutput:
        """Render the head of the reference view from the camera of another view."""
        return self.model(self.model.encode(photo_of(reference)), Driving(view.camera), generator)

    def inputs(self, output: PortraitOutput, teacher: TeacherBatch, turn: int) -> Inputs:
        """The inputs of the losses of the reference view (turn 0) or the target view (turn 1)."""
        target = teacher.views[turn]
        return {
            "error": lambda: IMAGE_ERRORS[self.config.image_error],
            "image": lambda: output.image,
            "target": lambda: target.image,
            "image_raw": lambda: output.image_raw,
            "target_raw": lambda: target.image_raw,
            "ray_weights": lambda: output.rendered.weights,
            "head_raw": lambda: losses.resize_mask(teacher.masks[turn], self.config.model.neural_resolution),
            "network": lambda: self.frozen["perceptual"],
        }

    def adversarial_losses(
        self, adversary: Adversary, view: DualView, turn: int, step: int, state: StepState
    ) -> dict[str, Tensor]:
        """The generator's weighted adversarial loss of a view; empty before `start_adversarial`."""
        weight = self.config.loss.get(f"adversarial_{VIEWS[turn]}", 0.0)
        if step < self.config.start_adversarial or weight == 0:
            return {}
        return state.weigh(f"{VIEWS[turn]}_adversarial", weight, adversary.generator_loss(view, state.generator))

    def validation_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        views = self.teacher_batch(batch).views
        source = self.model.encode(photo_of(views[0]))
        outputs = [self.model(source, Driving(view.camera)) for view in views]
        same, *turned = (self.view_psnr(output, view) for output, view in zip(outputs, views))
        measured = {}
        if "perceptual" in self.frozen:
            pairs = [(output.image, view.image) for output, view in zip(outputs[1:], views[1:])]
            turned_losses = [perceptual_loss(self.frozen["perceptual"], *pair) for pair in pairs]
            measured = {"perceptual_turned": sum(turned_losses) / len(turned_losses)}
        return {
            **measured,
            "psnr": same,
            "psnr_turned": sum(turned) / len(turned),
            "weights": outputs[0].rendered.weights.mean(),
            "psnr_raw": psnr(outputs[0].image_raw, views[0].image_raw),
            "planes": source.planes.float().std(),
        }

    def view_psnr(self, output: PortraitOutput, view: DualView) -> Tensor:
        """PSNR of the final image against the teacher's view."""
        return psnr(output.image, view.image)

    def pictures(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        views = self.teacher_batch(batch).views
        source, rows = self.model.encode(photo_of(views[0])), {}
        for number, view in enumerate(views):
            output = self.model(source, Driving(view.camera))
            name = f"turned view {number}" if number else "photo"
            rows |= {
                f"{name}, truth": view.image,
                **self.shown(name, output, view),
                f"{name}, depth (near is bright)": depth_picture(output.rendered.depth, output.rendered.weights),
            }
        return {"source_and_turned": captioned(rows)}

    def shown(self, name: str, output: PortraitOutput, view: DualView) -> dict[str, Tensor]:
        """Pictures of the networks that are trained, by caption."""
        return {
            f"{name}, output, PSNR {float(psnr(output.image, view.image)):.1f} dB": output.image,
            f"{name}, raw render": output.image_raw,
        }


def photo_of(view: DualView) -> Photo:
    """A teacher's view as the photo that the model encodes."""
    return Photo(view.image, view.camera)
