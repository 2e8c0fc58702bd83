"""Fiducial: from annotated images to the best keypoint detector for a device, with proof.

    import fiducial

    run = fiducial.fit("faces/", "runs/faces", epochs=60)
    points = run.model()(image)          # uint8 RGB [h, w, 3] -> Keypoints, px of the image
    points["nose"], points.draw(image)

Every command is one call of a function named here (docs/python.md); each is imported when it is first used. What was
guessed, left out or repaired is a warning of the logger `fiducial`; `logging.basicConfig(level="INFO")` shows progress."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fiducial import lazy
from fiducial.version import __version__ as __version__

# Threads of GNU OpenMP, torch's on Linux, wait for each other by counting to 300,000, after each of a network's operators.
# Where another program has one of the cores, they keep it from the thread that they wait for: a step of training took 15
# times as long beside one busy process, and 2 times as long with this (`python benchmarks/beside_others.py`). libgomp
# reads it when it is loaded, so torch comes after it.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

if TYPE_CHECKING:
    from fiducial import labels as labels
    from fiducial.api.adapt import adapt as adapt
    from fiducial.api.bench import bench as bench
    from fiducial.api.compare import compare as compare
    from fiducial.api.distill import distill as distill
    from fiducial.api.evaluate import evaluate as evaluate
    from fiducial.api.export import export as export
    from fiducial.api.fit import fit as fit
    from fiducial.api.predict import predict as predict
    from fiducial.api.predict import predict_corpus as predict_corpus
    from fiducial.api.runs import runs as runs
    from fiducial.api.search import search as search
    from fiducial.errors import UserError as UserError
    from fiducial.geometry import Size as Size
    from fiducial.models.contracts import Head as Head
    from fiducial.runtime.runtime import load as load
    from fiducial.training.recipe import Recipe as Recipe
    from fiducial.types import Instances as Instances
    from fiducial.types import Keypoints as Keypoints
    from fiducial.types import Skeleton as Skeleton

_WHERE = {
    "Head": "models.contracts.Head",
    "Instances": "types.Instances",
    "Keypoints": "types.Keypoints",
    "Recipe": "training.recipe.Recipe",
    "Size": "geometry.Size",
    "Skeleton": "types.Skeleton",
    "UserError": "errors.UserError",
    "adapt": "api.adapt.adapt",
    "bench": "api.bench.bench",
    "compare": "api.compare.compare",
    "distill": "api.distill.distill",
    "evaluate": "api.evaluate.evaluate",
    "export": "api.export.export",
    "fit": "api.fit.fit",
    "labels": "",
    "load": "runtime.runtime.load",
    "predict": "api.predict.predict",
    "predict_corpus": "api.predict.predict_corpus",
    "runs": "api.runs.runs",
    "search": "api.search.search",
}

__all__ = [
    "Head",
    "Instances",
    "Keypoints",
    "Recipe",
    "Size",
    "Skeleton",
    "UserError",
    "adapt",
    "bench",
    "compare",
    "distill",
    "evaluate",
    "export",
    "fit",
    "labels",
    "load",
    "predict",
    "predict_corpus",
    "runs",
    "search",
]

__getattr__, __dir__ = lazy.door(__name__, _WHERE)
