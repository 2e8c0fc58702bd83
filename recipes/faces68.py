"""Faces with 68 points on a CPU: MobileNetV3-small at 128x128 from random weights.

fiducial fit DATA --out RUN --recipe recipes/faces68.py:heatmap
"""

from fiducial.geometry import Size
from fiducial.training.recipe import OptimizerSpec, Recipe


def heatmap() -> Recipe:
    """The separable heatmap head under cross-entropy."""
    return Recipe(
        method="heatmap",
        backbone="mobilenetv3_small_100",
        size=Size(128, 128),
        pretrained="no",
        padding=1.15,
        epochs=60,
        batch_size=32,
        optimizer=OptimizerSpec(lr=4e-3),
    )


def deeppose() -> Recipe:
    """Regression: more epochs, as each costs less and the head learns more slowly."""
    return Recipe(
        method="deeppose",
        backbone="mobilenetv3_small_100",
        size=Size(128, 128),
        pretrained="no",
        padding=1.15,
        epochs=100,
        batch_size=32,
        optimizer=OptimizerSpec(lr=6e-3),
    )
