"""The settings of the whole model, in the sizes of the paper and of the demo."""

from dataclasses import dataclass, field, replace
from typing import Literal

from modules.portrait.demo.head_prior import HeadPriorConfig
from modules.portrait.driving import DrivingConfig
from modules.portrait.htbsr.fusion import HTBSRConfig
from modules.portrait.htbsr.torso import TorsoConfig
from modules.portrait.image_to_plane import ImageToPlaneConfig
from modules.portrait.motion_adapter import MotionAdapterConfig
from modules.portrait.tri_grid import TriGridRefinerConfig
from modules.rendering.renderer import RendererConfig
from modules.rendering.superresolution import SuperresolutionConfig

STAGES = (1, 2, 3)


@dataclass(frozen=True, kw_only=True)
class Real3DPortraitConfig:
    """The whole model; the defaults are the released one's sizes with well-behaved rendering (see `released`)."""

    image_to_plane: ImageToPlaneConfig = field(default_factory=ImageToPlaneConfig)
    tri_grid: TriGridRefinerConfig | None = None  # refines the canonical planes of a tri-grid
    motion_adapter: MotionAdapterConfig | None = field(default_factory=MotionAdapterConfig)  # stages 2 and 3
    renderer: RendererConfig = field(default_factory=RendererConfig)
    superresolution: SuperresolutionConfig | None = None  # stages 1 and 2
    htbsr: HTBSRConfig | None = field(default_factory=HTBSRConfig)  # stage 3
    plane_fusion: Literal["add", "mul"] = "add"  # P_cano with P_diff
    neural_resolution: int = 128  # n, rays a side
    driving: DrivingConfig = field(default_factory=DrivingConfig)
    head_prior: HeadPriorConfig | None = None  # of the demo; None: as the paper

    def __post_init__(self) -> None:
        decoder = self.decoder  # refuses both and none
        if self.plane_fusion not in ("add", "mul"):
            raise ValueError(f"plane_fusion must be add or mul, not {self.plane_fusion!r}")
        if self.neural_resolution < 4:
            raise ValueError(f"neural_resolution is {self.neural_resolution}; it must be at least 4")
        parts: dict[str, ImageToPlaneConfig | RendererConfig | MotionAdapterConfig | TriGridRefinerConfig | None] = {
            "image_to_plane": self.image_to_plane,
            "renderer": self.renderer,
            "motion_adapter": self.motion_adapter,
            "tri_grid": self.tri_grid,
        }
        sizes = {name: (part.plane_channels, part.plane_depth) for name, part in parts.items() if part is not None}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"plane_channels and plane_depth differ between the parts: {sizes}")
        if decoder.feature_channels != self.renderer.plane_channels:
            raise ValueError(
                f"super-resolution reads {decoder.feature_channels} channels, the renderer gives "
                f"{self.renderer.plane_channels}"
            )
        if self.head_prior is not None:
            self.head_prior.check(self.renderer, self.motion_adapter)
        elif self.pncc_size != self.image_to_plane.input_size:
            raise ValueError(
                f"input_size of motion_adapter ({self.pncc_size}) and image_to_plane "
                f"({self.image_to_plane.input_size}) must be equal: planes have half that size"
            )

    @property
    def decoder(self) -> SuperresolutionConfig:
        """The super-resolution in use, HTB-SR's or the plain one."""
        if self.htbsr is not None and self.superresolution is None:
            return self.htbsr.superresolution
        if self.htbsr is None and self.superresolution is not None:
            return self.superresolution
        raise ValueError("give either superresolution (stages 1 and 2) or htbsr (stage 3), not both or none")

    @property
    def stage(self) -> int:
        """The stage of the training that makes this model, 1 to 3."""
        return 3 if self.htbsr is not None else 1 if self.motion_adapter is None else 2

    @property
    def resolution(self) -> int:
        """Pixels a side of the final image."""
        return self.decoder.resolution * self.decoder.scale

    @property
    def pncc_size(self) -> int:
        """Pixels a side at which the motion adapter reads PNCCs; that of the photo in stage 1, which has none."""
        return (self.motion_adapter or self.image_to_plane).input_size

    @classmethod
    def full(cls, stage: int = 3, i2p_scale: str = "standard", picture_size: int = 512) -> "Real3DPortraitConfig":
        """The original's sizes.

        Args:
            stage: 1 image to plane, 2 motion adapter, 3 HTB-SR.
            i2p_scale: small, standard, large, paper_small or paper_large; see `ImageToPlaneConfig.full`.
            picture_size: S of the final image, a multiple of 128; photo and PNCCs are read at S, planes have S/2,
                torso and background meet at S/2, S/4 rays a side are rendered.
        """
        _check_stage(stage)
        decoder = SuperresolutionConfig(resolution=picture_size // 4)
        torso = TorsoConfig(image_size=picture_size // 2)
        return cls(
            image_to_plane=replace(ImageToPlaneConfig.full(i2p_scale), input_size=picture_size),
            motion_adapter=replace(MotionAdapterConfig.full(), input_size=picture_size) if stage > 1 else None,
            superresolution=decoder if stage < 3 else None,
            htbsr=HTBSRConfig(superresolution=decoder, torso=torso) if stage == 3 else None,
            neural_resolution=picture_size // 4,
        )

    @classmethod
    def released(cls) -> "Real3DPortraitConfig":
        """The released checkpoint's model with all its rules, for equal numbers."""
        return cls(renderer=RendererConfig(missing_rays="official"), driving=DrivingConfig.released())

    @classmethod
    def demo(cls, stage: int = 3, i2p_scale: str = "standard", picture_size: int = 256) -> "Real3DPortraitConfig":
        """The procedural world at a size that a CPU can train; arguments as in `full`.

        The photo is read at 3/4 S, PNCCs at S/2, 3/8 S rays a side are rendered; torso and background meet at S/2.
        """
        _check_stage(stage)
        half = picture_size // 2
        decoder = replace(SuperresolutionConfig.demo(), resolution=half)
        htbsr = replace(HTBSRConfig.demo(), superresolution=decoder, torso=replace(TorsoConfig.demo(), image_size=half))
        return cls(
            image_to_plane=replace(ImageToPlaneConfig.demo(i2p_scale), input_size=3 * picture_size // 4),
            renderer=RendererConfig.demo(),
            motion_adapter=replace(MotionAdapterConfig.demo(), input_size=half) if stage > 1 else None,
            superresolution=decoder if stage < 3 else None,
            htbsr=htbsr if stage == 3 else None,
            neural_resolution=3 * picture_size // 8,
            driving=DrivingConfig.demo(),
            head_prior=HeadPriorConfig(),
        )


def _check_stage(stage: int) -> None:
    if stage not in STAGES:
        raise ValueError(f"stage {stage} is not one of {STAGES}")
