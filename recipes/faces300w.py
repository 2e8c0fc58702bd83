"""Article C's question on faces: every method on MobileNetV3-small, one recipe, 300-W photographs with 68 points.

fiducial compare DATA --out OUT --recipe recipes/faces300w.py:common --methods deeppose,rle,heatmap --seeds 3
fiducial fit DATA --out RUN --recipe recipes/faces300w.py:rle

Data: 1,062 training faces, 145 to choose by. Meant for a CPU of two cores; the figures are in docs/results.md."""

from dataclasses import replace

from fiducial.geometry import Size
from fiducial.training.recipe import OptimizerSpec, Recipe


def common() -> Recipe:
    """What all of them share: 128x128, random weights, 40 epochs in batches of 16, AdamW one-cycle."""
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


def deeppose() -> Recipe:
    """Regression under Smooth-L1."""
    return replace(common(), method="deeppose")


def rle() -> Recipe:
    """Regression under a learnt likelihood."""
    return replace(common(), method="rle")


def heatmap() -> Recipe:
    """A map a point by the separable head, cross-entropy, soft-argmax."""
    return replace(common(), method="heatmap")


def deconvolution() -> Recipe:
    """The same maps by SimpleBaseline's three deconvolutions of 256 channels, about twelve times the price."""
    return replace(common(), method="heatmap", head={"upsampling": "deconvolution", "channels": 256})


def integral() -> Recipe:
    """The mean of a map, trained by its error alone."""
    return replace(common(), method="integral")


def integral_dsnt() -> Recipe:
    """The same with the Jensen-Shannon divergence to a Gaussian."""
    return replace(common(), method="integral", head={"dsnt": "js"})


def integral_debias() -> Recipe:
    """The same, the map's background taken out."""
    return replace(common(), method="integral", head={"dsnt": "js", "debias": "background"})


def integral_rle() -> Recipe:
    """Article C's best: mean of a map, DSNT, debias, and a learnt likelihood."""
    return replace(common(), method="integral", head={"dsnt": "js", "debias": "background", "loss": "rle"})


def simcc() -> Recipe:
    """x and y as choices between bins of half a pixel."""
    return replace(common(), method="simcc")


def rtmcc() -> Recipe:
    """The same by RTMPose's head."""
    return replace(common(), method="simcc", head={"network": "rtmcc", "kernel": 7, "beta": 10.0})


def rounding() -> Recipe:
    """H3R's targets of one cell, drawn at random."""
    return replace(common(), method="rounding")
