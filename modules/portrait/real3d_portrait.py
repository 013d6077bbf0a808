"""Real3DPortrait: where image-to-plane, motion adapter, renderer and HTB-SR meet (paper, figure of the whole model).

    head picture -> ImageToPlane -> P_cano -+-> VolumeRenderer -> feature image -> HTB-SR (torso, background) -> picture
            PNCC -> MotionAdapter -> P_diff -+

Stage 1 of the training has no motion adapter and stages 1 and 2 end in the plain super-resolution: those parts are
None in the config.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from modules.face_models import check_face_model
from modules.geometry.camera import Camera
from modules.layers.resample import resize
from modules.portrait.demo.head_prior import (
    LAID,
    RectificationConfig,
    carry_face,
    lay_head,
    place_motion,
    read_laid,
    rectify_photo,
    rectify_pncc,
)
from modules.portrait.htbsr.fusion import HTBSR, HTBSRConfig, HTBSROutput, SourceFeatures, sharpen
from modules.portrait.image_to_plane import ImageToPlane, ImageToPlaneConfig
from modules.portrait.motion_adapter import MotionAdapter, MotionAdapterConfig
from modules.portrait.tri_grid import TriGridRefiner, TriGridRefinerConfig
from modules.rendering.renderer import RendererConfig, RenderOutput, VolumeRenderer
from modules.rendering.superresolution import Superresolution, SuperresolutionConfig

STAGES = (1, 2, 3)


@dataclass(frozen=True, kw_only=True)
class Real3DPortraitConfig:
    """The whole model; the defaults are the released one's sizes with well-behaved rendering (see `released`)."""

    image_to_plane: ImageToPlaneConfig = field(default_factory=ImageToPlaneConfig)
    tri_grid: TriGridRefinerConfig | None = None                 # refines the canonical planes of a tri-grid
    motion_adapter: MotionAdapterConfig | None = field(default_factory=MotionAdapterConfig)
    renderer: RendererConfig = field(default_factory=RendererConfig)
    superresolution: SuperresolutionConfig | None = None         # stages 1 and 2
    htbsr: HTBSRConfig | None = field(default_factory=HTBSRConfig)    # stage 3
    rectification: RectificationConfig | None = None    # of photo and PNCC before the networks; None: as the paper
    plane_fusion: str = "add"            # P_cano with P_diff: add or mul
    neural_resolution: int = 128         # n, rays a side
    focal_length: float = 2985.29 / 700  # of the cameras, picture widths (for the code that makes them)
    face_model: str = "bfm"              # whose PNCC the motion adapter reads: of modules/face_models.py
    torso_points: str = "exact"          # 68 landmarks that move the torso; "official": one vertex of the BFM too far
    source_pncc: str = "source"          # expression of the source PNCC: the photo's, or "first_driving" frame's

    def __post_init__(self) -> None:
        if (self.superresolution is None) == (self.htbsr is None):
            raise ValueError("give either superresolution (stages 1 and 2) or htbsr (stage 3), not both or none")
        if self.plane_fusion not in ("add", "mul"):
            raise ValueError(f"plane_fusion must be add or mul, not {self.plane_fusion!r}")
        if self.source_pncc not in ("source", "first_driving"):
            raise ValueError(f"source_pncc must be source or first_driving, not {self.source_pncc!r}")
        check_face_model(self.face_model)
        if self.torso_points not in (("exact", "official") if self.face_model == "bfm" else ("exact",)):
            raise ValueError(f"torso_points must be exact, or official with face_model bfm, not {self.torso_points!r}")
        if self.neural_resolution < 4 or self.focal_length <= 0:
            raise ValueError(f"neural_resolution {self.neural_resolution} must be at least 4, focal_length "
                             f"{self.focal_length} positive")
        parts = {"image_to_plane": self.image_to_plane, "renderer": self.renderer,
                 "motion_adapter": self.motion_adapter, "tri_grid": self.tri_grid}
        sizes = {name: (part.plane_channels, part.plane_depth) for name, part in parts.items() if part is not None}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"plane_channels and plane_depth differ between the parts: {sizes}")
        if self.decoder.feature_channels != self.renderer.plane_channels:
            raise ValueError(f"super-resolution reads {self.decoder.feature_channels} channels, the renderer gives "
                             f"{self.renderer.plane_channels}")
        adapter = self.motion_adapter
        if self.rectification is not None:
            if self.renderer.plane_depth > 1:
                raise ValueError(f"rectification with a plane_depth of {self.renderer.plane_depth}; it must be 1")
            if self.renderer.plane_channels < LAID or self.renderer.hidden_channels < 2 * LAID:
                raise ValueError(f"rectification with {self.renderer.plane_channels} plane_channels and "
                                 f"{self.renderer.hidden_channels} hidden_channels; use at least {LAID} and {2 * LAID}")
            if adapter is not None:
                self.rectification.motion_size(adapter.input_size // 2)
        elif adapter is not None and adapter.input_size != self.image_to_plane.input_size:
            raise ValueError(f"input_size of motion_adapter ({adapter.input_size}) and image_to_plane "
                             f"({self.image_to_plane.input_size}) must be equal: planes have half that size")

    @property
    def decoder(self) -> SuperresolutionConfig:
        """The super-resolution in use, HTB-SR's or the plain one."""
        return self.htbsr.superresolution if self.htbsr is not None else self.superresolution

    @property
    def resolution(self) -> int:
        """Pixels a side of the final picture."""
        return self.decoder.resolution * self.decoder.scale

    @classmethod
    def full(cls, stage: int = 3, i2p_scale: str = "standard") -> "Real3DPortraitConfig":
        """The original's sizes (512-pixel pictures); stage 1: image to plane, 2: motion adapter, 3: HTB-SR."""
        _check_stage(stage)
        return cls(image_to_plane=ImageToPlaneConfig.full(i2p_scale),
                   motion_adapter=MotionAdapterConfig.full() if stage > 1 else None,
                   superresolution=SuperresolutionConfig.full() if stage < 3 else None,
                   htbsr=HTBSRConfig.full() if stage == 3 else None)

    @classmethod
    def released(cls) -> "Real3DPortraitConfig":
        """The released checkpoint's model with all its rules, for equal numbers."""
        return cls(renderer=RendererConfig(missing_rays="official"), source_pncc="first_driving",
                   torso_points="official")

    @classmethod
    def demo(cls, stage: int = 3, i2p_scale: str = "standard") -> "Real3DPortraitConfig":
        """256-pixel pictures of the procedural world, trainable on a CPU."""
        _check_stage(stage)
        return cls(image_to_plane=ImageToPlaneConfig.demo(i2p_scale), renderer=RendererConfig.demo(),
                   motion_adapter=MotionAdapterConfig.demo() if stage > 1 else None,
                   superresolution=SuperresolutionConfig.demo() if stage < 3 else None,
                   htbsr=HTBSRConfig.demo() if stage == 3 else None,
                   rectification=RectificationConfig(), neural_resolution=96, focal_length=1015 / 224,
                   face_model="procedural")


def _check_stage(stage: int) -> None:
    if stage not in STAGES:
        raise ValueError(f"stage {stage} is not one of {STAGES}")


@dataclass(frozen=True)
class PortraitOutput:
    """Pictures of B frames; n = neural resolution, S = picture size (4n). World units are those of the planes."""

    image: Tensor               # [B, 3, S, S] in [-1, 1], clamped (HTB-SR's own output before that is in `htbsr`)
    image_raw: Tensor           # [B, 3, n, n] in [-1, 1], clamped: the volume render's colours, head alone
    feature: Tensor             # [B, C, n, n], not clamped; the first three are the colours
    depth: Tensor               # [B, 1, n, n], distance along the rays, world units
    weights: Tensor             # [B, 1, n, n] in [0, 1], how much of the ray met the head
    planes: Tensor              # [B, 3, C*D, H, W], what was rendered
    motion_planes: Tensor | None    # P_diff, [B, 3, C*D, H, W]; None without a motion adapter or PNCC
    alpha: Tensor               # [B, 1, S, S] in [0, 1], where the person covers the background
    camera: Camera              # of the frames
    htbsr: HTBSROutput | None   # torso picture, occlusions, deformation; None in stages 1 and 2


class Real3DPortrait(nn.Module):
    """One photo -> pictures of that person from any camera, with any expression.

    Compute what depends on the photo alone once (`canonical_planes`, `encode_source`), then call the model per batch of
    frames. Modules may be float32 or bfloat16; rays, depths and the rendered feature image are always float32.
    """

    def __init__(self, config: Real3DPortraitConfig) -> None:
        super().__init__()
        self.config = config
        self.image_to_plane = ImageToPlane(config.image_to_plane)
        self.tri_grid = None if config.tri_grid is None else TriGridRefiner(config.tri_grid)
        self.motion_adapter = None if config.motion_adapter is None else MotionAdapter(config.motion_adapter)
        if config.plane_fusion == "mul" and self.motion_adapter is not None:
            nn.init.ones_(self.motion_adapter.to_plane_cnn[-1].bias)             # start near P_cano alone
        self.renderer = VolumeRenderer(config.renderer)
        if config.rectification is not None:
            read_laid(self.renderer.decoder)
        self.superresolution = None if config.superresolution is None else Superresolution(config.superresolution)
        self.htbsr = None if config.htbsr is None else HTBSR(config.htbsr)

    @property
    def pncc_size(self) -> int:
        """Pixels a side at which the motion adapter reads its PNCC pictures."""
        return (self.config.motion_adapter or self.config.image_to_plane).input_size

    def canonical_planes(self, head_image: Tensor, camera: Camera | None = None) -> Tensor:
        """P_cano of pictures of a head.

        Args:
            head_image: [B, 3, any, any] in [-1, 1], everything but the head -1.
            camera: that saw them; needed where the config has a rectification, else not read.
        Returns:
            [B, 3, C*D, H, W]; where the motion planes of a rectified face are finer, of their size.
        """
        config, size = self.config.rectification, self.config.image_to_plane.input_size
        if config is None:
            image = resize(head_image, size)
        elif camera is None:
            raise ValueError("this model rectifies its photo (see `rectification`); give the photo's camera")
        else:
            image = rectify_photo(head_image, camera, self.config.renderer.box_size, size, config)
        planes = self.image_to_plane(image.to(_dtype(self.image_to_plane)))
        planes = planes if self.tri_grid is None else self.tri_grid(planes)
        if config is None:
            return planes
        if self.motion_adapter is not None:
            size = config.motion_size(self.pncc_size // 2)                         # once a photo, not in every frame
            planes = resize(planes.flatten(0, 1), size).unflatten(0, planes.shape[:2])
        return lay_head(planes, image, self.config.renderer.box_size, config)

    def motion_planes(self, pncc: Tensor) -> Tensor:
        """P_diff [B, 3, C*D, H, W] of PNCC pictures [B, K, 3, any, any] (canonical, source, driving) in [-1, 1]."""
        if self.motion_adapter is None:
            raise ValueError("this model has no motion adapter (stage 1); it cannot read PNCC")
        config, box_size, pictures = self.config.rectification, self.config.renderer.box_size, pncc.flatten(0, 1)
        if config is None:
            pictures = resize(pictures, self.pncc_size)
        else:
            pictures = rectify_pncc(pictures, box_size, self.pncc_size, config)
        planes = self.motion_adapter(pictures.unflatten(0, pncc.shape[:2]).to(_dtype(self.motion_adapter)))
        if config is None:
            return planes
        return place_motion(planes, box_size, config, outside=float(self.config.plane_fusion == "mul"))

    def fuse_planes(self, canonical: Tensor, motion: Tensor) -> Tensor:
        """P_cano with P_diff. A batch of 1 serves all frames."""
        return canonical + motion if self.config.plane_fusion == "add" else canonical * motion

    def drive(self, canonical: Tensor, pncc: Tensor) -> tuple[Tensor, Tensor]:
        """The planes to render, and P_diff.

        Args:
            canonical: P_cano, [B or 1, 3, C*D, H, W].
            pncc: as in `motion_planes`; the picture before the last has the expression of P_cano.
        """
        motion, config = self.motion_planes(pncc), self.config.rectification
        if config is not None:
            canonical = carry_face(canonical, pncc[:, -2], pncc[:, -1], self.config.renderer.box_size, config)
        return self.fuse_planes(canonical, motion), motion

    def render(self, planes: Tensor, camera: Camera, generator: torch.Generator | None = None) -> RenderOutput:
        """Feature image, depth and weights at the neural resolution; see `VolumeRenderer.forward`."""
        return self.renderer(planes, camera, self.config.neural_resolution, generator)

    def encode_source(self, torso: Tensor, classes: Tensor, background: Tensor) -> SourceFeatures | None:
        """Everything of HTB-SR that depends on the photo alone; None in stages 1 and 2.

        Args:
            torso: [B, 3, any, any] in [-1, 1], the torso without the head, in-painted.
            classes: [B, 6, any, any], one-hot classes of the photo.
            background: [B, 3, any, any] in [-1, 1], in-painted.
        """
        if self.htbsr is None:
            return None
        size, dtype = self.config.resolution, _dtype(self.htbsr)
        if classes.shape[-1] != size:
            classes = nn.functional.interpolate(classes.float(), (size, size), mode="nearest-exact")
        return self.htbsr.encode_source(resize(torso, size).to(dtype), classes.to(dtype),
                                        resize(background, size).to(dtype))

    def torso_keypoints(self, landmarks: Tensor, frame: Tensor) -> Tensor:
        """What `forward` takes as key points of a frame.

        Args:
            landmarks: [B, 68, 3] in [-1, 1] (x right, y down, z 0).
            frame: [B, 3, any, any] in [-1, 1], the whole picture.
        Returns:
            `landmarks`, or what the detector finds on the frame [B, K, 3] if the torso's key points are learned.
        """
        detector = None if self.htbsr is None else self.htbsr.torso_model.keypoint_detector
        return landmarks if detector is None else detector(frame.to(_dtype(self.htbsr)))

    def forward(self, planes: Tensor, camera: Camera, pncc: Tensor | None = None,
                source: SourceFeatures | None = None, source_keypoints: Tensor | None = None,
                keypoints: Tensor | None = None, generator: torch.Generator | None = None) -> PortraitOutput:
        """Pictures of B frames.

        Args:
            planes: [B or 1, 3, C*D, H, W] from `canonical_planes`.
            camera: of batch B.
            pncc: [B, K, 3, any, any], for `motion_planes`; None: P_cano alone is rendered.
            source: from `encode_source`, of batch B or 1; needed with HTB-SR, as are the key points.
            source_keypoints: [B or 1, 68, 3], landmarks of the photo in [-1, 1] (x right, y down, z 0); where they are
                learned [B or 1, K, 3] from `torso_keypoints`.
            keypoints: [B, 68 or K, 3], those of the frames.
            generator: on the CPU, for the ray samples; None: the same samples every time.
        """
        planes, motion = (planes, None) if pncc is None else self.drive(planes, pncc)
        rendered = self.render(planes, camera, generator)
        if self.htbsr is None:
            feature = rendered.feature.to(_dtype(self.superresolution))
            image, htbsr = self.superresolution(feature[:, :3], feature), None
        else:
            htbsr = self._fuse_torso(rendered, source, source_keypoints, keypoints)
            image = htbsr.image
        return PortraitOutput(
            image=image.float().clamp(-1, 1), image_raw=rendered.feature[:, :3].clamp(-1, 1),
            feature=rendered.feature, depth=rendered.depth, weights=rendered.weights, planes=planes,
            motion_planes=motion, alpha=self._alpha(rendered.weights, htbsr), camera=camera, htbsr=htbsr)

    def _fuse_torso(self, rendered: RenderOutput, source: SourceFeatures | None, source_keypoints: Tensor | None,
                    keypoints: Tensor | None) -> HTBSROutput:
        if source is None or source_keypoints is None or keypoints is None:
            raise ValueError("HTB-SR needs source (see encode_source), source_keypoints and keypoints")
        dtype = _dtype(self.htbsr)
        feature = rendered.feature.to(dtype)
        return self.htbsr(feature[:, :3], feature, rendered.weights.to(dtype), source, source_keypoints.to(dtype),
                          keypoints.to(dtype))

    def _alpha(self, weights: Tensor, htbsr: HTBSROutput | None) -> Tensor:
        """Cover of the background at picture size: the head's weights, and the torso's occlusion where there is one."""
        if htbsr is not None:
            occlusion = htbsr.occlusion_2.float()
            head = sharpen(resize(weights, occlusion.shape[-1]), self.config.htbsr.threshold)
            weights = occlusion + head
        return resize(weights.clamp(0, 1), self.config.resolution)


def _dtype(module: nn.Module) -> torch.dtype:
    return next(module.parameters()).dtype
