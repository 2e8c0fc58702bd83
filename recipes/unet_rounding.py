"""Faces: a U-Net with Gaussian heatmaps at the input's own grid, against HRNet18 with randomised rounding (H3R: Yu & Tao,
TPAMI 2021).

fiducial fit DATA --out RUN --recipe recipes/unet_rounding.py:unet
fiducial fit DATA --out RUN --recipe recipes/unet_rounding.py:hrnet18_rounding
"""

from fiducial.data.augment import AugmentSpec
from fiducial.geometry import Size
from fiducial.training.recipe import OptimizerSpec, Recipe


def unet() -> Recipe:
    """ResNet18 U-Net (31.1 M), maps of 256x256 with sigma 10 under MSE, from random weights.

    Meant for a GPU. Published runs of such networks fine-tune at 8e-5 after an epoch on a frozen encoder; from random
    weights maps may sink to zeros at 1e-3. Here the rate rises for a tenth of the run, gradients are clipped, and positions are
    read between the cells (the plain argmax is `--set head.decoder=argmax`). Peak rate: on faces68 at 64x64, 160
    images, 3 epochs, val NME is 14.4 % at 3e-4, 11.8 % at 1e-3, 13.3 % at 3e-3, 18.0 % at 1e-2; with
    320 images and 6 epochs 7.8 % (the mean shape: 20.9 %), by `benchmarks/unet_from_random.py`."""
    return Recipe(
        method="heatmap",
        backbone="unet_resnet18",
        head={"stride": 1, "sigma_cells": 10.0, "loss": "mse", "decoder": "soft"},
        size=Size(256, 256),
        pretrained="no",
        padding=1.15,
        epochs=10,
        batch_size=16,
        optimizer=OptimizerSpec(lr=1e-3, weight_decay=0.01),
        augment=AugmentSpec(flip=0.0),
    )


def hrnet18_rounding() -> Recipe:
    """HRNet18 with H3R's 270 channels and head (9,637,050 parameters at 5 points), 256x256, 10 epochs one-cycle at 5e-3
    from random weights. Meant for a GPU; one run of it on faces68 gave a test NME of 5.33 %."""
    return Recipe(
        method="rounding",
        backbone="hrnet_w18_concat",
        head={"upsampling": "mixing", "decoder": "softmax"},
        size=Size(256, 256),
        pretrained="no",
        padding=1.15,
        epochs=10,
        batch_size=64,
        optimizer=OptimizerSpec(lr=5e-3, weight_decay=0.01),
        augment=AugmentSpec(flip=0.0),
    )
