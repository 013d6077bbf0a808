"""One case: its methods walk through it side by side, a frame at a time, and are compared with the true clip."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from modules.analysis.mediapipe_models import FaceFinder
from modules.face_models import load_face_model
from modules.media.audio import read_sound
from modules.media.video_writer import VideoWriter
from modules.metrics.series import ClipSeries
from modules.system.errors import UserError
from tasks.evaluation.cases import Case
from tasks.evaluation.clips import PHOTOS, open_clip, open_photo, write_sound
from tasks.evaluation.facts import ClipFacts, find_facts, is_compared
from tasks.evaluation.figures import PictureFigures, Speech, series_figures, small, sync_figures
from tasks.evaluation.lineup import line_up
from tasks.evaluation.methods import Method, Scene
from tasks.evaluation.networks import Networks, load_networks
from tasks.evaluation.results import Result, curves_of, stamp_of, video_path
from tasks.evaluation.settings import SOUND_DRIVEN, EvaluationConfig
from tasks.evaluation.tracing import Tracer

T = TypeVar("T")


def stamps_of(case: Case, config: EvaluationConfig) -> dict[str, str]:
    """The stamp of each method's result of a case."""
    networks = sorted(load_networks(config.protocol, config.device).loaded)
    facts = [networks, config.sound_late.get(case.driver.stem, 0.0)]
    stamps = {}
    for name, folder in line_up(config).items():
        own = [] if folder is None else _files_of(folder, case)
        stamps[name] = stamp_of(config, facts, [case.source, case.driver, *own])
    return stamps


def pending(case: Case, config: EvaluationConfig, keep: bool) -> dict[str, str]:
    """The methods that lack a result of a case (or its video, if it is to be kept), with their stamps."""
    waiting = {}
    for name, stamp in stamps_of(case, config).items():
        result = Result.load(config.output, name, case.name)
        video = result is None or bool(result.error) or video_path(config.output, name, case.name).is_file()
        if result is None or result.stamp != stamp or (keep and config.protocol != "speech_to_motion" and not video):
            waiting[name] = stamp
    return waiting


def score_case(case: Case, config: EvaluationConfig, keep: bool) -> int:
    """Make the results of a case that are missing; how many were made.

    Args:
        keep: whether the videos of this case are kept.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the figures are the same to the last digit, whatever the number of workers
    try:
        waiting = pending(case, config, keep)
        if waiting:
            _score(case, config, keep, waiting)
        return len(waiting)
    finally:
        torch.set_num_threads(threads)


def _score(case: Case, config: EvaluationConfig, keep: bool, waiting: dict[str, str]) -> None:
    methods = [method for method in build_methods(config, list(waiting))]
    results = {method.name: Result(case.name, method.name, method.origin, waiting[method.name]) for method in methods}
    with tempfile.TemporaryDirectory() as folder:
        try:
            scene = read_scene(case, config, Path(folder))
            speech = Speech.read(scene.sound, config.sound_late.get(case.driver.stem, 0.0))
        except UserError as error:
            for result in results.values():
                replace(result, error=f"the case is left out: {error}").save(config.output)
            return
        if config.protocol == "speech_to_motion":
            score_motion(scene, methods, results, speech, config)
        else:
            score_pictures(scene, methods, results, speech, keep, config)
