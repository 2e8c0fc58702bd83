"""A finder of faces, learnt from drawn faces alone: near and far ones, several in an image or none.

python recipes/face_finder.py --out runs/face_finder --scenes 1300 --photographs DATA ..

Scenes are drawn once and kept in memory (370 KB each). No photograph is learnt from; those of `--photographs` (any labelled
set, its val split) are only scored. What comes out is OUT/model.finder.onnx:

    fiducial predict face photo.jpg --finder runs/face_finder/model.finder.onnx"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from dataclasses import replace
from functools import partial
from pathlib import Path

from fiducial.data import annotations
from fiducial.data.arrays import GivenImages
from fiducial.drawnfaces import procedural_crowds
from fiducial.evaluation.found import scored
from fiducial.exporting import finder_export
from fiducial.finding import fit
from fiducial.finding.recipe import FinderRecipe
from fiducial.geometry import Size
from fiducial.models import detector as detectors
from fiducial.training import run
from fiducial.training.fit import Data
from fiducial.types import Instances

DRAWN = Size(384, 320)
VALIDATION = 100  # scenes


def recipe(epochs: int) -> FinderRecipe:
    """Gives what the finder is trained by: half the width of the usual backbone, random weights."""
    return FinderRecipe(
        backbone="mobilenetv3_small_050",
        pretrained="no",
        size=Size(384, 384),
        head={"channels": 48},
        epochs=epochs,
        precision="fp32",
        licence="Apache-2.0",
    )


def drawn(count: int, seed: int, processes: int) -> Instances:
    """Draws scenes, each once, by so many processes."""
    scenes = procedural_crowds(count, seed, DRAWN)
    with multiprocessing.Pool(processes) as pool:
        return replace(scenes, images=GivenImages(pool.map(scenes.images.read, range(count), chunksize=8)))


def main() -> None:
    """Draws, trains, scores and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=1300)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--photographs", type=Path, nargs="*", default=[])
    asked = parser.parse_args()
    processes = multiprocessing.cpu_count()
    data = Data(drawn(asked.scenes, 21, processes), drawn(VALIDATION, 22, processes), [])
    work = partial(fit.planned_work, data, source="drawn scenes", given=None)
    run.run(work, asked.out, recipe(asked.epochs))
    finder, card = detectors.load(asked.out)
    finder_export.write_alone(finder, card, asked.out / "model.finder.onnx")
    for path in asked.photographs:
        truth, _ = annotations.load(path, "val", ignored=True)
        seen = fit.observed(finder, truth)
        print(path, json.dumps(scored(seen.truth, seen.boxes(), float(finder.spec.head["threshold"]))))


if __name__ == "__main__":
    main()
