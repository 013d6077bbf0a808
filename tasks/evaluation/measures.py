"""Every number of the tables: its name, unit, direction and definition. The table of docs/evaluation.md is this one."""

from dataclasses import dataclass
from typing import Literal

from tasks.evaluation.settings import Protocol

SAME, CROSS, AUDIO, SPEECH = "same_identity", "cross_identity", "audio_driven", "speech_to_motion"
OWN_SYNCNET = "syncnet_own"  # the one network that no file of modules/system/assets.yaml brings: the key `syncnet`


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A column.

    Attributes:
        name: its key in the results.
        better: "higher", "lower", "one" (as the truth is best), or "" (says nothing by itself).
        definition: what is computed, with its unit.
        protocols: the tables that show it.
        network: name in modules/metrics/networks.py of the network that it needs, or `OWN_SYNCNET`; empty for none.
    """

    name: str
    better: Literal["higher", "lower", "one", ""]
    definition: str
    protocols: tuple[Protocol, ...]
    network: str = ""


def _regions(name: str, better: Literal["higher", "lower", "one"], definition: str, network: str = "") -> list[Measure]:
    """A picture metric of the whole picture, the head (hair, face, others) and the torso (neck, clothes)."""
    ends = {"": "whole picture", "_head": "head of the true frame", "_torso": "torso of the true frame"}
    return [
        Measure(name=name + end, better=better, definition=f"{definition}; {where}", protocols=(SAME,), network=network)
        for end, where in ends.items()
    ]


_ALL, _VIDEO = (SAME, CROSS, AUDIO, SPEECH), (SAME, CROSS, AUDIO)
_LIPS = (AUDIO, SPEECH)

MEASURES = (
    *_regions("psnr", "higher", "dB, -10 log10 of a frame's mean squared error of values in [0, 1], mean over frames"),
    *_regions("ssim", "higher", "Gaussian window 11, sigma 1.5, K 0.01 and 0.03, each colour, mean"),
    *_regions("l1", "lower", "mean |difference| of values in [0, 1]"),
    *_regions("detail", "one", "root mean square of the Laplacian over that of the true frame; 1 is best, not more"),
    *_regions("lpips", "lower", "LPIPS with AlexNet, inputs in [-1, 1]", network="lpips_alex"),
    Measure(
        name="seam",
        better="lower",
        definition="mean |difference| in a band of 8 px (of 512) along the border of head and torso over that of the "
        "rest of the person",
        protocols=(SAME,),
    ),
    Measure(
        name="fid",
        better="lower",
        definition="Frechet distance of Inception-v3 pool features of the compared frames to those of the true frames "
        "(cross identity: of all clips); too high below 2048 frames; one number for a method, without interval",
        protocols=_VIDEO,
        network="inception",
    ),
    Measure(
        name="csim",
        better="higher",
        definition="cosine of ArcFace vectors of a compared frame and the photo, mean over frames",
        protocols=_VIDEO,
        network="csim_arcface",
    ),
    Measure(
        name="csim_dlib",
        better="higher",
        definition="`csim` with dlib's network",
        protocols=_VIDEO,
        network="csim_dlib",
    ),
    Measure(
        name="drift",
        better="lower",
        definition="1 - cosine of the mean ArcFace vectors of the first and the last quarter",
        protocols=_VIDEO,
        network="csim_arcface",
    ),
    Measure(
        name="drift_dlib",
        better="lower",
        definition="`drift` with dlib's network",
        protocols=_VIDEO,
        network="csim_dlib",
    ),
    Measure(
        name="aed_fit",
        better="lower",
        definition="mean |difference| of the 64 expression coefficients of this project's own fit (`face_model`) to "
        "the driver's; not the scale of the paper's AED, which is of Deep3DFaceRecon",
        protocols=_ALL,
    ),
    Measure(
        name="apd_fit",
        better="lower",
        definition="mean |difference| of 3 angles (radians) and 3 translations (dm) of the same fit to the driver's",
        protocols=(SAME, CROSS),
    ),
    Measure(
        name="akd",
        better="lower",
        definition="mean |difference| of the 68 points of face-alignment, px at 256",
        protocols=(SAME,),
        network="face_alignment",
    ),
    Measure(
        name="akd_mediapipe",
        better="lower",
        definition="the same with the nearest 68 of MediaPipe's points, in every frame",
        protocols=(SAME,),
    ),
    Measure(
        name="landmarks",
        better="lower",
        definition="mean distance of MediaPipe's 468 points to those of the true frame, px at 512",
        protocols=(SAME,),
    ),
    Measure(
        name="lip_shape",
        better="lower",
        definition="the same of the 40 lip points after their centres are laid upon each other",
        protocols=(SAME, AUDIO),
    ),
    Measure(
        name="mouth_gap",
        better="lower",
        definition="mean |difference| of the inner lips' gap, px at 512",
        protocols=(SAME,),
    ),
    Measure(
        name="eye_gap", better="lower", definition="the same of the lids' gap, mean of both eyes", protocols=(SAME,)
    ),
    Measure(
        name="lip_correlation",
        better="higher",
        definition="Pearson correlation over time of the mouth's opening (inner lips over outer eye corners) with the "
        "true one; of sound-driven methods at the clip's own sound offset (`sound_late`)",
        protocols=_ALL,
    ),
    Measure(
        name="width_correlation",
        better="higher",
        definition="the same of the mouth's width (mouth corners over outer eye corners)",
        protocols=_ALL,
    ),
    Measure(
        name="loudness_correlation",
        better="",
        definition="correlation over time of the mouth's opening with the root mean square of the sound in each frame, "
        "at the clip's sound offset; a mouth that only follows loudness has much more than the true one",
        protocols=_LIPS,
    ),
    Measure(
        name="lip_range",
        better="one",
        definition="standard deviation of the mouth's opening over that of the driver's; 1 is best",
        protocols=_ALL,
    ),
    Measure(
        name="silence_motion",
        better="lower",
        definition="mean |change of opening| in silence (0.2 s at 30 dB below speech) over that in speech",
        protocols=_LIPS,
    ),
    Measure(
        name="silence_opening",
        better="lower",
        definition="mean opening in silence, 0 is the clip's 2 % and 1 its 90 % quantile",
        protocols=_LIPS,
    ),
    Measure(
        name="sync_c",
        better="higher",
        definition="LSE-C: confidence of the published SyncNet, the paper's Sync",
        protocols=(AUDIO,),
        network="syncnet",
    ),
    Measure(
        name="sync_d", better="lower", definition="LSE-D: its distance", protocols=(AUDIO,), network="syncnet"
    ),
    Measure(
        name="sync_own_c",
        better="higher",
        definition="confidence of this project's own SyncNet, trained on synthetic speech, which sees the fit and not "
        "the picture: another scale than LSE-C",
        protocols=_LIPS,
        network=OWN_SYNCNET,
    ),
    Measure(
        name="sync_own_d",
        better="lower",
        definition="its distance at the best offset, 0 to 2",
        protocols=_LIPS,
        network=OWN_SYNCNET,
    ),
    Measure(
        name="sync_own_late",
        better="",
        definition="frames by which the sound is late at that offset: what the clip is said to be (`sound_late`) for "
        "the truth, 0 for what is made from the sound",
        protocols=_LIPS,
        network=OWN_SYNCNET,
    ),
    Measure(
        name="pbm_closed",
        better="higher",
        definition="share of the sounds p, b and m at which the lips close (below 15 % of the 95 % quantile of the "
        "opening, a frame to either side), where a file says when they are",
        protocols=_LIPS,
    ),
    Measure(
        name="pbm_false",
        better="lower",
        definition="how often they are closed in other sounds, without pauses, as `lip_closure` counts",
        protocols=_LIPS,
    ),
    Measure(
        name="jitter",
        better="one",
        definition="mean length of the landmarks' second difference in time over that of the driver; 1 is best",
        protocols=_VIDEO,
    ),
    Measure(
        name="blink_pose",
        better="lower",
        definition="largest |correlation| of changes of the eyes' opening and of the pose; about 1.3 / sqrt(frames) "
        "by chance",
        protocols=_VIDEO,
    ),
    Measure(
        name="eyes_left_open",
        better="lower",
        definition="least opening of an eye at each blink of the driver over the method's own open eye",
        protocols=(SAME, CROSS),
    ),
    Measure(
        name="lost_at_rest",
        better="lower",
        definition="share of the photo's person (hair on shoulders, shoulders) that is background in the first frame, "
        "in which the photo is at rest; both by the same segmentation",
        protocols=(SAME, AUDIO),
    ),
    Measure(
        name="one_face",
        better="higher",
        definition="share of frames in which exactly one face is found",
        protocols=_VIDEO,
    ),
)  # fmt: skip


def measures_of(protocol: Protocol) -> tuple[Measure, ...]:
    """The columns of a protocol, in order."""
    return tuple(measure for measure in MEASURES if protocol in measure.protocols)
