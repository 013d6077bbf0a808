"""Old checkpoints of a run are deleted, the newest and the milestones stay."""

import shutil
from pathlib import Path

from modules.system.checkpoint import checkpoint_step, list_checkpoints
from tasks.engine.trainer_config import CheckpointConfig


def remove_old(run: Path, config: CheckpointConfig) -> None:
    """Delete all but the newest `keep` checkpoints and the milestones."""
    for folder in list_checkpoints(run)[: -config.keep]:
        if not config.milestone or checkpoint_step(folder) % config.milestone:
            shutil.rmtree(folder)
