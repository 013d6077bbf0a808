"""The runs of a set of ablations, measured by the project's evaluation (docs/evaluation.md) on the same clips.

The result of each run in each clip is kept in the output folder, as by `tasks.evaluate`, and only what is missing is
made. What cannot be measured is named and stops nothing.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modules.audio.audio2motion import Audio2MotionConfig
from modules.face3d.coefficients import EXPRESSION_SIZE
from modules.portrait.config import Real3DPortraitConfig
from modules.procedural.person import HELD_OUT_SEED
from modules.system.errors import UserError
from tasks.evaluation.cases import list_cases
from tasks.evaluation.lineup import check_methods
from tasks.evaluation.outputs import about_run, remarks, write_outputs
from tasks.evaluation.procedural_clips import write_procedural_clips
from tasks.evaluation.run import Progress, score_all
from tasks.evaluation.scoring import pending
from tasks.evaluation.settings import Entry, EvaluationConfig, Protocol, read_evaluation
from tasks.evaluation.tables import Results, table_of
from tasks.export import export, shows_raw_render

CONFIGS = Path("configs/evaluate")
PEOPLE = range(HELD_OUT_SEED + 100, HELD_OUT_SEED + 103)  # of the clips of --demo: two seconds of each, as large as
OWN_FRAMES, OWN_SIZE = 50, 256  #                           what the demo's networks draw
TAKEN = ("output", "checkpoint", "methods", "device")  # keys that are the set's
OF_PICTURES = ("protocol", "without", "sources", "pairs")  # keys that say nothing about speech
# Columns of the table: measures of tasks/evaluation/measures.py; all others are in the evaluation's own report.
# fmt: off
TABLE_COLUMNS = {
    "portrait": ("psnr_head", "ssim_head", "lpips_head", "csim", "csim_dlib", "fid", "aed_fit", "apd_fit",
                 "lip_correlation", "jitter"),
    "audio2motion": ("lip_correlation", "width_correlation", "lip_range", "aed_fit", "pbm_closed", "sync_own_c",
                     "sync_own_d"),
}
# fmt: on


def kind_of(model: object) -> str | None:
    """Which part of a checkpoint a stage trains, by the settings of its model; None for what makes neither."""
    kinds = {Real3DPortraitConfig: "portrait", Audio2MotionConfig: "audio2motion"}
    return kinds.get(type(model))


def why_not(model: object) -> str:
    """Why inference, and so the evaluation, cannot use a variant of a model; empty if it can."""
    if isinstance(model, Audio2MotionConfig) and model.motion_size > EXPRESSION_SIZE:
        return "its motion has an identity, which inference does not use"
    torso = getattr(getattr(model, "htbsr", None), "torso", None)
    if torso is not None and torso.keypoint_source == "learned":
        return "its key points are found on true frames, which inference has not"
    return ""


@dataclass
class AblationEvaluation:
    """What `--evaluate` asks for.

    Attributes:
        output: folder of the results, one inside of it for each protocol.
        settings: key=value of an `EvaluationConfig`, for all runs.
        device: as of `tasks.run`.
        own_clips: whether clips of procedural people are made where the settings name no `videos`.
        judged: kind -> run -> its exported checkpoint.
        notes: what could not be evaluated, and why.
    """

    output: Path
    settings: tuple[str, ...]
    device: str = "auto"
    own_clips: bool = False
    judged: dict[str, dict[str, Path]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def prepare(self, models: list[object]) -> None:
        """Find wrong settings before anything is trained, and make the clips if they are ours.

        Args:
            models: settings of the models of all runs.
        Raises:
            UserError: a wrong key or value, or no clips.
        """
        for text in self.settings:
            if text.partition("=")[0] in TAKEN:
                raise UserError(f"--evaluate {text}: tasks.ablate sets {', '.join(TAKEN)}; leave it out")
        for kind in dict.fromkeys(filter(None, map(kind_of, models))):
            config = self.config(kind)
            if config.videos == self.clips:
                write_procedural_clips(self.clips, PEOPLE, OWN_FRAMES, OWN_SIZE)
            check_methods(config, list_cases(config)[0])

    def judge(self, run: Path, model: object, progress: Progress) -> None:
        """Measure a finished run, as far as that was not done before."""
        kind = kind_of(model)
        if kind is None:
            return
        try:
            if reason := why_not(model):
                raise UserError(reason)
            if not (exported(run) / kind).is_dir():
                export(run, kind, exported(run))
            score_all(self.config(kind, {run.name: exported(run)}), 1, progress)
            self.judged.setdefault(kind, {})[run.name] = exported(run)
            if shows_raw_render(exported(run)):
                self.notes.append(f"{run.name} was trained on its raw render alone: that is measured, upscaled")
        except UserError as error:  # what was trained is worth more than what cannot be measured of it
            self.notes.append(f"{run.name} is not evaluated: {error}")

    def figures(self, run: Path, model: object) -> dict[str, float]:
        """The columns of a run that were measured with these settings; empty if any clip is missing."""
        kind = kind_of(model)
        if kind is None or not (exported(run) / kind).is_dir() or why_not(model):
            return {}
        config = self.config(kind, {run.name: exported(run)})
        cases, _ = list_cases(config)
        if any(run.name in pending(case, config, keep=False) for case in cases):
            return {}
        means = table_of(Results.read(config, cases)).get(run.name, {})
        return {name: means[name].mean for name in TABLE_COLUMNS[kind] if name in means}

    def report(self) -> str:
        """Write the evaluation's own reports of all runs; where they are, and what a reader must know besides."""
        lines = []
        for kind, runs in self.judged.items():
            config = self.config(kind, runs)
            cases, notes = list_cases(config)
            write_outputs(config, cases, notes)
            results = Results.read(config, cases)
            said = remarks(about_run(results, table_of(results), notes))
            where = f"{config.protocol}, {len(cases)} clips of {config.videos}: {config.output / 'report.html'}"
            lines += ["", where, "", *said.splitlines()]
        return "\n".join(["### evaluation", *lines, *(f"- {note}" for note in self.notes)]) + "\n"

    def config(self, kind: str, runs: dict[str, Path] | None = None) -> EvaluationConfig:
        """The settings for runs of a kind: name -> checkpoint."""
        pictures = kind == "portrait"
        protocol: Protocol = "same_identity" if pictures else "speech_to_motion"
        given = [text for text in self.settings if pictures or text.partition("=")[0] not in OF_PICTURES]
        if not any(text.startswith("videos=") for text in given):
            if not self.own_clips:
                raise UserError("--evaluate needs videos=FOLDER with clips of faces; only --demo makes some by itself")
            given = [f"videos={json.dumps(str(self.clips))}", f"size={OWN_SIZE}", *given]
        config = read_evaluation(CONFIGS / f"{protocol}.yaml", ["keep=0", *given])
        if pictures and config.protocol not in ("same_identity", "cross_identity"):
            raise UserError(
                f"protocol={config.protocol} is driven by sound; same_identity or cross_identity suit pictures"
            )
        methods = {name: Entry(folder=folder) for name, folder in (runs or {}).items()}
        return replace(config, methods=methods, output=self.output / config.protocol, device=self.device)

    @property
    def clips(self) -> Path:
        """The folder of our own clips."""
        return self.output / "clips"


def exported(run: Path) -> Path:
    """The checkpoint that is taken out of a run, inside of its folder."""
    return run / "exported"


def with_figures(result: dict[str, Any], figures: dict[str, float]) -> dict[str, Any]:
    """The result of a run with what was measured of it; `evaluated` names that."""
    return result | {"metrics": result["metrics"] | figures, "evaluated": list(figures)} if figures else result
