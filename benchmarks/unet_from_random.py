"""ResNet18's U-Net with wide heatmaps from random weights: it trains here, and where it sinks to empty maps the run stops and says so.

    python benchmarks/unet_from_random.py DATA [--size 64] [--images 320] [--epochs 6] [--batch-size 8] [--lr X] [--json]

DATA as for `fiducial fit`; `--images` are spread evenly over train, half as many over val. Runs on the same crops,
sigma in proportion to the size (10 cells at 256): `recipes/unet_rounding.py` as it is, and one for each of `--held-lr`
without what keeps it alive: the rate held from the first step to the last, no clipping, no averaged weights, no decay.
Such a network may sink at 1e-3; this one, with BatchNorm after each convolution, rises again from there and sinks
at 1e-2, within three epochs. Printed by epoch: the mean height of the highest cell at labelled points (1 is wanted, 0
is an empty map) and val NME; before them the NME of the mean shape, which is what a network gets that does not look."""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fiducial import geometry
from fiducial.data import augment
from fiducial.evaluation import metrics
from fiducial.geometry import Size
from fiducial.training import fit as fitting
from fiducial.training import history
from fiducial.training.failure import TrainingFailure
from fiducial.training.recipe import OptimizerSpec, Recipe
from fiducial.types import Instances

RECIPES = Path(__file__).resolve().parent.parent / "recipes" / "unet_rounding.py"


def recipe_at(size: int, epochs: int, batch_size: int) -> Recipe:
    """`unet()` of the recipe file at another size."""
    spec = importlib.util.spec_from_file_location("unet_rounding", RECIPES)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    recipe: Recipe = module.unet()
    head = {**recipe.head, "sigma_cells": recipe.head["sigma_cells"] * size / recipe.size.w}
    return replace(
        recipe,
        size=Size(size, size),
        head=head,
        epochs=epochs,
        batch_size=batch_size,
        workers=0,
        precision="fp32",
        memory_format="channels_last",
        preflight=False,
    )


def plain(optimizer: OptimizerSpec) -> OptimizerSpec:
    """The rate held from the first step to the last; neither clipping nor averaging nor decay."""
    return replace(optimizer, warmup=0.0, final_lr=1.0, clip_norm=0.0, ema_decay=0.0, weight_decay=0.0)


def some(instances: Instances, count: int) -> Instances:
    """`count` instances, spread evenly."""
    return instances.select(np.linspace(0, len(instances) - 1, min(count, len(instances))).round().astype(int))


def mean_shape_nme(train: Instances, validation: Instances, recipe: Recipe) -> float:
    """NME of the mean of train's points in crops, whatever the picture."""

    def maps(instances: Instances) -> np.ndarray:
        return np.stack([augment.crop_map(box, recipe.size, recipe.padding) for box in instances.box_xywh])

    mean = np.nanmean(geometry.transform(maps(train), np.where(train.labelled[..., None], train.xy, np.nan)), 0)
    xy = geometry.transform(geometry.invert(maps(validation)), np.tile(mean, (len(validation), 1, 1)))
    size = validation.image_size[validation.image_row]
    return metrics.measure(
        xy,
        validation.xy,
        validation.labelled,
        box_xywh=validation.box_xywh,
        image_size=size,
        skeleton=validation.skeleton,
    ).nme


def train(data: fitting.Data, recipe: Recipe) -> dict[str, Any]:
    """One run: its rows by epoch, and why it stopped early if it did."""
    stopped = None
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        try:
            fitting.fit(data, out, recipe)
        except TrainingFailure as failure:
            stopped = str(failure)
        rows = history.read(out / "history.csv")
    epochs = [
        {"mean_peak": row["train/mean_peak"], "val_nme": row["val/nme"], "seconds": row["seconds"]} for row in rows
    ]
    return {"epochs": epochs, "stopped": stopped}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--lr", type=float, help="peak of the recipe's run [the recipe's]")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--held-lr", type=float, nargs="*", default=[1e-3, 1e-2])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = recipe_at(options.size, options.epochs, options.batch_size)
    if options.lr is not None:
        recipe = replace(recipe, optimizer=replace(recipe.optimizer, lr=options.lr))
    whole = fitting.load_data(options.data, recipe)
    data = fitting.Data(some(whole.train, options.images), some(whole.validation, options.images // 2), [])
    result: dict[str, Any] = {"mean_shape_nme": mean_shape_nme(data.train, data.validation, recipe)}
    print(f"mean shape: val NME {result['mean_shape_nme']:.4f}", flush=True)
    runs = {"recipe": recipe}
    for lr in options.held_lr:
        runs[f"held {lr:g}"] = replace(recipe, optimizer=plain(replace(recipe.optimizer, lr=lr)))
    for name, chosen in runs.items():
        print(f"{name}: lr {chosen.optimizer.lr:g}, {len(data.train)} images of {chosen.size}", flush=True)
        result[name] = train(data, chosen)
        for epoch, row in enumerate(result[name]["epochs"]):
            print(
                f"  epoch {epoch + 1}: mean peak {row['mean_peak']:.3f}, val NME {row['val_nme']:.4f}, {row['seconds']:.0f} s"
            )
        print(f"  stopped: {result[name]['stopped']}" if result[name]["stopped"] else "  went to its end", flush=True)
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
