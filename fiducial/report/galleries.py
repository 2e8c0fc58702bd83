"""Shows instances with truth and prediction: the worst, a fair sample, and what heatmaps look like."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np

from fiducial import geometry
from fiducial.card import PADDING
from fiducial.data import sampling
from fiducial.data.instance_crops import all_crops
from fiducial.evaluation.mistakes import KINDS, Mistakes, ranked
from fiducial.geometry import Size
from fiducial.report import pictures
from fiducial.report.charts import number_text
from fiducial.report.page import Gallery, Picture
from fiducial.types import Batch, Instances, Keypoints

if TYPE_CHECKING:
    from fiducial.models.detector import Detector

TILE, LARGE_TILE = Size(256, 256), Size(400, 400)  # px, of few points and of more than `MANY`
MANY = 40
MOST_NAMED = 4  # points in a caption
LEGEND = {"truth": pictures.TRUTH, "prediction": pictures.PREDICTION, "error": pictures.ERROR}


def evaluation_galleries(
    instances: Instances, keypoints: Keypoints, errors: np.ndarray, *, worst: int = 24, random: int = 12, seed: int = 0
) -> list[Gallery]:
    """Shows the instances with the largest NME, worst first, and a fair sample of all; or all, where they are few.

    Each is cut out by its box with truth and prediction drawn, fewer and larger where there are many points. keypoints
    [n, k] in px of the images; errors [n], NaN = not measured, not shown. Galleries without an image are left out.
    Raises UserError for an image that can't be read."""
    errors = np.asarray(errors, float)
    ranked = descending(errors)
    count, points = len(ranked), len(instances.skeleton.points)
    if points > MANY:
        worst, random = worst // 2, random // 2
    sample = np.random.default_rng(seed).permutation(np.sort(ranked))[:random]
    predicted = np.asarray(keypoints.numpy().xy, np.float64)

    def picture(row: int) -> Picture:
        caption = (
            f"NME {number_text(errors[row])}, {instance_name(instances, row)}{farthest(instances, row, predicted[row])}"
        )
        tile = instance_tile(instances, row, predicted[row], LARGE_TILE if points > MANY else TILE)
        return Picture(tile, caption, f"Truth and prediction: {caption}")

    chosen = [("All instances", ranked, f"All {count} that were measured, the largest error first.")]
    if count > worst + random:
        chosen = [
            ("Worst first", ranked[:worst], f"The largest errors of {count} instances."),
            ("A random sample", sample, f"Drawn by lot from all {count} instances: what to expect."),
        ]
    few = "" if points <= pictures.FEW else f" Lines show the error of the {pictures.MARKED} points farthest off."
    return [
        Gallery(title, [picture(int(row)) for row in rows], note + few, LEGEND) for title, rows, note in chosen if count
    ]


def mistake_galleries(instances: Instances, keypoints: Keypoints, found: Mistakes, *, most: int = 6) -> list[Gallery]:
    """Shows for each kind of error the instances whose point of that kind is farthest off, and names these points.

    `found` is of the instances in their order. Raises UserError for an image that can't be read."""
    predicted = np.asarray(keypoints.numpy().xy, np.float64)
    shown = []
    for kind, meaning in KINDS.items():
        rows = list(dict.fromkeys(row for row, _ in ranked(found, kind)))[:most] if kind != "good" else []
        tiles = []
        for row in rows:
            which = np.flatnonzero(found.of(kind)[row])
            names = ", ".join(instances.skeleton.points[i] for i in which[:MOST_NAMED]) + ", .." * (
                len(which) > MOST_NAMED
            )
            caption = f"{kind}: {names}; {instance_name(instances, row)}"
            one = replace(
                instances.select(np.array([row])), visibility=instances.visibility[[row]] * found.of(kind)[[row]]
            )
            tiles.append(Picture(instance_tile(one, 0, predicted[row], TILE), caption))
        count = int(found.of(kind).sum())
        shown.append(Gallery(f"Worst {kind}", tiles, f"{count} points: {meaning}.", LEGEND))
    return [gallery for gallery in shown if gallery]


def descending(errors: np.ndarray) -> np.ndarray:
    """Gives the rows of the largest errors first; those that are NaN are left out."""
    measured = np.flatnonzero(~np.isnan(errors))
    return measured[np.argsort(-errors[measured], kind="stable")]


def instance_name(instances: Instances, row: int) -> str:
    """Names an instance by its image's file and its annotation."""
    image = PurePath(instances.images.name(int(instances.image_row[row]))).name
    return f"{image}, annotation {instances.annotation_id[row]}"


def farthest(instances: Instances, row: int, predicted: np.ndarray) -> str:
    """Names the points that are numbered on an instance's tile, "; farthest: 1 nose, 2 ear"."""
    far_off = pictures.farthest(instances.xy[row], instances.labelled[row], predicted)[: pictures.NUMBERED]
    names = ", ".join(f"{number}\u00a0{instances.skeleton.points[i]}" for number, i in enumerate(far_off, 1))
    return f"; farthest: {names}" if names else ""


def instance_tile(
    instances: Instances, row: int, predicted: np.ndarray, size: Size = TILE, *, numbered: bool = True
) -> np.ndarray:
    """Cuts one instance out by its box, with some surroundings, onto a tile of `size`, truth and prediction drawn.

    Where the box is of no use, its labelled points or else the whole image take its place. predicted [k, 2] px of the
    image."""
    image = instances.images.read(int(instances.image_row[row]))
    box = instances.box_xywh[row].astype(np.float64)
    if not (np.isfinite(box).all() and min(box[2:]) > 0):
        box = geometry.box_of_points(instances.xy[row].astype(np.float64), instances.labelled[row], margin=0.2)
    if math.isnan(box[0]):
        box = geometry.whole_image_box(Size(image.shape[1], image.shape[0]))
    matrix = geometry.crop(geometry.fit_aspect(box, size, PADDING), size)
    truth = geometry.transform(matrix, instances.xy[row].astype(np.float64))
    predicted = geometry.transform(matrix, np.asarray(predicted, np.float64))
    tile = pictures.cut_out(image, matrix, size)
    return pictures.truth_and_prediction(
        tile, truth, instances.labelled[row], predicted, instances.skeleton, numbered=numbered
    )


def heatmap_gallery(
    detector: Detector, instances: Instances, keypoints: Keypoints, errors: np.ndarray, *, count: int = 3
) -> list[Gallery]:
    """Shows image, truth's heatmaps merged, the prediction's merged, and single ones, from the best instance to the worst.

    Single ones are of the points farthest off. Nothing for methods without heatmaps. keypoints [n, k] in px of the
    images; errors [n], NaN = not measured, not shown."""
    import torch

    from fiducial.models.detector import full_precision

    best_first = descending(errors)[::-1]
    chosen = best_first[sampling.places(len(best_first), count)]
    if not len(chosen):
        return []
    selected = instances.select(chosen)
    spec = detector.spec
    crops = all_crops(selected, spec)
    xy, labelled = selected.xy[crops.row].astype(np.float64), selected.labelled[crops.row]
    xy = np.where(labelled[..., None], geometry.transform(crops.image_to_crop, xy), 0)
    single = (array.astype(np.float32) for array in (xy, labelled, crops.image_to_crop))
    batch = Batch(*(torch.from_numpy(array) for array in (crops.image, *single, crops.row)))
    batch = Batch(*(column.to(detector.mean.device) for column in batch))
    with torch.inference_mode():
        predicted = detector.head.heatmaps(full_precision(detector(batch.image)))
        truth = detector.head.heatmaps(detector.head.encode(batch))
    if predicted is None or truth is None:
        return []
    truth = truth * batch.labelled[..., None, None]
    found = keypoints.select(chosen).numpy().xy
    panels = []
    for i, row in enumerate(batch.row.tolist()):
        name = PurePath(selected.images.name(int(selected.image_row[row]))).name
        far_off = pictures.farthest(selected.xy[row], selected.labelled[row], found[row])[: pictures.FEW]
        panel = pictures.heatmap_panel(
            batch.image[i].cpu().numpy(),
            truth[i].cpu().numpy(),
            predicted[i].cpu().numpy(),
            selected.skeleton.points,
            colours=pictures.point_colours(selected.skeleton),
            chosen=np.sort(far_off).tolist(),
        )
        panels.append(Picture(panel, f"NME {number_text(errors[chosen[row]])}, {name}"))
    points = len(spec.skeleton.points)
    below = "each point's own map" if points <= pictures.FEW else f"those of the {pictures.FEW} points farthest off"
    note = f"From the best instance to the worst. Above: image, truth, prediction; below: {below}."
    return [Gallery("Heatmaps", panels, note, wide=True)]
