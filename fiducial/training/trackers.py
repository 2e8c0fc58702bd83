"""Where the figures of a run go besides its history: TensorBoard's files in its folder; and MLflow, where the environment names a
server or folder for it (MLFLOW_TRACKING_URI) and the package is installed. MLflow never ends a run: what it can't be told is
said once, and not tried again."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fiducial import config, files
from fiducial.errors import first_line
from fiducial.log import logger
from fiducial.training._lightning import MLFlowLogger, TensorBoardLogger
from fiducial.training.recipe import Recipe

PLACE, EXPERIMENT = "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"  # as MLflow's own programs read them
RUN = "mlflow.json"  # in a run's folder: which run of MLflow it is, so that a resumed one goes on in it
# A server that is gone is given up after seconds, not minutes.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


def trackers_of(recipe: Recipe, out: Path) -> list[Any]:
    """Makes Lightning's loggers of a run."""
    own: list[Any] = [TensorBoardLogger(out, "tensorboard", version="")]
    if os.environ.get(PLACE) and (mlflow := _mlflow(recipe, out)) is not None:
        own.append(mlflow)
    return own


def _mlflow(recipe: Recipe, out: Path) -> Any:
    """MLflow's logger; None where it can't be had, which is said."""
    if importlib.util.find_spec("mlflow") is None:
        logger.warning(
            f"{PLACE} is set, but mlflow is not installed (pip install mlflow): MLflow is not told of this run"
        )
        return None
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    kept = out / RUN
    run_id = str(files.read_object(kept, "run_id")["run_id"]) if kept.is_file() else None
    experiment = os.environ.get(EXPERIMENT, "fiducial")
    made = MLFlowLogger(experiment_name=experiment, run_name=out.name, tracking_uri=os.environ[PLACE], run_id=run_id)
    settings = {name: str(value)[:250] for name, value in config.flat(config.to_dict(recipe)).items()}
    tell = Guarded(made, "MLflow")
    tell("log_hyperparams", settings)
    if tell.works and made.run_id is not None:
        config.write_json(kept, {"run_id": made.run_id})
    if not tell.works:
        return None
    for name in ("log_metrics", "log_hyperparams", "after_save_checkpoint", "save", "finalize"):
        setattr(made, name, tell.guarded(name))
    return made


class Guarded:
    """Calls a logger's functions until one fails; that is said, and none is called any more."""

    def __init__(self, told: Any, name: str) -> None:
        self.told, self.name, self.works = told, name, True
        self._functions: dict[str, Callable[..., Any]] = {}

    def __call__(self, function: str, *words: Any, **named: Any) -> None:
        """Calls one function by its name."""
        if not self.works:
            return
        try:
            call: Callable[..., Any] = self._functions.get(function) or getattr(self.told, function)
            call(*words, **named)
        except Exception as error:
            self.works = False
            logger.warning(f"{self.name} can't be told of this run any more: {first_line(error)}")

    def guarded(self, function: str) -> Callable[..., None]:
        """Gives a function of the logger that never fails."""
        self._functions[function] = getattr(self.told, function)
        return lambda *words, **named: self(function, *words, **named)
