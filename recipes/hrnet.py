"""HRNet on a GPU. Written for one H200-class card; not measured yet where this was written (no GPU there).

fiducial fit DATA --out RUN --recipe recipes/hrnet.py:w18_faces
fiducial fit COCO --out RUN --recipe recipes/hrnet.py:w32_coco
"""

from fiducial.geometry import Size
from fiducial.training.recipe import OptimizerSpec, Recipe


def w18_faces() -> Recipe:
    """HRNet-W18 with H3R's 270 channels at 256x256 from random weights, 10 epochs: `unet_rounding.hrnet18_rounding` with heatmaps."""
    return Recipe(
        method="heatmap",
        backbone="hrnet_w18_concat",
        size=Size(256, 256),
        pretrained="no",
        padding=1.15,
        epochs=10,
        batch_size=64,
        optimizer=OptimizerSpec(lr=3e-3),
        head={"sigma_cells": 1.5},
        precision="bf16",
        memory_format="channels_last",
    )


def w32_coco() -> Recipe:
    """HRNet-W32 (Sun et al., CVPR 2019) on single persons cut from COCO, Gaussian sigma 1 on 64x64, MSE, cosine 1e-3, 80 epochs."""
    return Recipe(
        method="heatmap",
        backbone="hrnet_w32",
        size=Size(256, 256),
        epochs=80,
        batch_size=128,
        optimizer=OptimizerSpec(lr=1e-3, schedule="cosine", warmup=0.01, final_lr=0.1, weight_decay=0.0),
        head={"loss": "mse", "sigma_cells": 1.0},
    )
