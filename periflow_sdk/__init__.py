"""PeriFlow: step metrics, safe checkpoints and resumable training in three lines."""

from ._dataset import dataset
from ._training import (
    current_step,
    deadline,
    end_step,
    finish,
    init,
    is_emergency_save,
    latest_checkpoint,
    metric,
    save_checkpoint,
    should_stop,
    start_step,
    status,
    train_step,
    upload_checkpoint,
)
from ._upload import Upload
from .errors import PeriFlowError

__version__ = "0.2.0"

__all__ = [
    "PeriFlowError",
    "Upload",
    "__version__",
    "current_step",
    "dataset",
    "deadline",
    "end_step",
    "finish",
    "init",
    "is_emergency_save",
    "latest_checkpoint",
    "metric",
    "save_checkpoint",
    "should_stop",
    "start_step",
    "status",
    "train_step",
    "upload_checkpoint",
]
