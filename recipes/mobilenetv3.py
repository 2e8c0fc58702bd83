"""Which method on MobileNetV3: one recipe for all of them, on faces, persons and COCO.

fiducial compare DATA --out OUT --recipe recipes/mobilenetv3.py:faces --seeds 3 --methods deeppose,rle,heatmap
fiducial fit DATA --out RUN --recipe recipes/mobilenetv3.py:faces --method rle

The methods in the words of `--methods`, and their figures: docs/results.md."""

from dataclasses import replace

from fiducial.data.augment import AugmentSpec
from fiducial.geometry import Size
from fiducial.training.recipe import OptimizerSpec, Recipe


def faces() -> Recipe:
    """300-W photographs with 68 points (1,062 to train on): 128x128, random weights, 40 epochs; minutes on a core."""
    return Recipe(
        backbone="mobilenetv3_small_100",
        size=Size(128, 128),
        pretrained="no",
        padding=1.15,
        epochs=40,
        batch_size=16,
        optimizer=OptimizerSpec(lr=3e-3),
        precision="fp32",
        preflight=False,
    )


def persons() -> Recipe:
    """Single persons with 17 points (698 to train on): 96x128, random weights, 40 epochs; minutes on a core."""
    return replace(faces(), size=Size(96, 128), padding=1.25)


def coco() -> Recipe:
    """COCO's persons at 192x256, ImageNet weights, 210 epochs, for a GPU; not run yet.

    What is reported elsewhere for MobileNetV3 and these methods: AP 41.3 (deeppose), 67.5 (heatmap), 67.3 (rle); at
    256x256 (`--size 256x256`) 70.2 and 71.0 (integral with rle, dsnt and sharpness 16, without and with debias)."""
    return Recipe(
        backbone="mobilenetv3_large_100",
        size=Size(192, 256),
        epochs=210,
        batch_size=128,
        optimizer=OptimizerSpec(lr=4e-3),
        augment=AugmentSpec(),
    )
