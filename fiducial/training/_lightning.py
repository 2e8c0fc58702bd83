"""All that is used of Lightning. Imported by what the engine is made of alone, as a run begins: importing Lightning takes
seconds, and may first have to mend torchvision's import."""

from __future__ import annotations

from fiducial.models.torchvision_shim import ensure_torchvision

ensure_torchvision()

import lightning as L  # noqa: E402
from lightning.fabric.plugins import TorchCheckpointIO  # noqa: E402
from lightning.pytorch.callbacks import Checkpoint, RichProgressBar, WeightAveraging  # noqa: E402
from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger  # noqa: E402
from lightning.pytorch.tuner.tuning import Tuner  # noqa: E402

__all__ = [
    "Checkpoint",
    "L",
    "MLFlowLogger",
    "RichProgressBar",
    "TensorBoardLogger",
    "TorchCheckpointIO",
    "Tuner",
    "WeightAveraging",
]
