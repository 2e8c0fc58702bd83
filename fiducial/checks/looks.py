"""What the images say of sides: whether an instance whose left and right seem exchanged is only seen from behind.

Somebody who turns their back to the camera has exchanged sides in the image and right labels. What most instances look like
is learnt from small patches around the middles of their pairs, which an exchange of labels leaves where they are: a ridge
regression in closed form says from the image alone which way round its sides lie, for instances that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from fiducial import geometry
from fiducial.checks import sides
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.types import Instances

PATCH = Size(12, 12)
REACH = 0.18  # side of a patch, as a share of the shape's size
CELLS, DIRECTIONS = 3, 8  # of a patch each way; of gradients
RIDGE = 30000.0
FOLDS = 5
MOST = 800  # instances that are looked at, besides those in question
UNUSUAL = 0.06  # share of the others that look less usual than one that is told of


def seen_from_behind(instances: Instances, rows: Sequence[int]) -> np.ndarray:
    """Gives for all instances [n] how likely the image shows the other side than most; 0 but for `rows`, the ones whose
    sides look exchanged as a whole. Images that can't be read say nothing."""
    result = np.zeros(len(instances))
    if len(rows) == 0:
        return result
    others = np.setdiff1d(np.arange(len(instances)), rows)
    if len(others) > MOST:
        others = others[np.linspace(0, len(others) - 1, MOST).astype(int)]
    looked = np.concatenate([np.asarray(rows), others])
    centres, known = sides.middles(instances)
    _, _, maps = sides.across(instances)
    looks = [_look(instances, row, centres[row], known[row], maps[row]) for row in looked.tolist()]
    seen = np.array([look is not None for look in looks])
    if seen[len(rows) :].sum() < 2 * FOLDS or not seen[: len(rows)].any():
        return result
    usual = _usual(np.array([look for look in looks if look is not None]), (np.arange(len(looks)) >= len(rows))[seen])
    asked = int(seen[: len(rows)].sum())
    result[looked[: len(rows)][seen[: len(rows)]]] = behind(usual[:asked], usual[asked:])
    return result


def behind(asked: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Gives how likely those asked [n] show the other side, by how much they and others [m] look like the usual ones.

    One that looks less usual than nearly all others is likely seen from behind, unless so many are asked that chance alone
    puts some of them there: what tells is how many more of them than by chance lie within half and twice its rank."""
    rank = (np.searchsorted(np.sort(others), asked) + 1) / (len(others) + 1)
    alike = ((rank >= rank[:, None] / 2) & (rank <= rank[:, None] * 2)).sum(1)
    by_chance = len(asked) * 1.5 * rank
    return np.where(rank < UNUSUAL, np.maximum(1 - by_chance / alike, 0), 0.0)


def _usual(looks: np.ndarray, is_usual: np.ndarray) -> np.ndarray:
    """How much each looks like the usual ones, out of fold."""
    looks = (looks - looks.mean(0)) / (looks.std(0) + 1e-6)
    target = np.where(is_usual, 1.0, -1.0)
    weight = np.where(is_usual, 0.5 / is_usual.sum(), 0.5 / (~is_usual).sum()) * len(looks)
    fold = np.random.default_rng(0).permutation(len(looks)) % FOLDS
    result = np.zeros(len(looks))
    for number in range(FOLDS):
        held = fold == number
        learnt = looks[~held]
        kernel = learnt @ learnt.T + RIDGE * np.diag(1 / weight[~held])
        result[held] = looks[held] @ (learnt.T @ np.linalg.solve(kernel, target[~held]))
    return result


def _look(
    instances: Instances, row: int, centres: np.ndarray, known: np.ndarray, to_shape: np.ndarray
) -> np.ndarray | None:
    """Describes the image around the middles of one instance: directions of gradients, and colours."""
    if not np.isfinite(to_shape).all():
        return None
    try:
        image = instances.images.read(int(instances.image_row[row]))
    except UserError:
        return None
    scale = float(geometry.scale_of(to_shape)) * PATCH.w / REACH
    turn = geometry.rotation(float(geometry.turn_of(to_shape)))
    middle = geometry.translation((PATCH.w - 1) / 2, (PATCH.h - 1) / 2)
    found = []
    for (x, y), is_known in zip(centres, known, strict=True):
        patch = np.zeros((PATCH.h, PATCH.w, 3), np.uint8)
        if is_known:
            to_patch = geometry.compose(geometry.translation(-x, -y), turn, geometry.scaling(scale, scale), middle)
            patch = geometry.warp(image, to_patch, PATCH)
        found.append(_described(patch))
    return np.concatenate(found)


def _described(patch: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY).astype(np.float32)
    dx, dy = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    strength = np.hypot(dx, dy)
    direction = ((np.arctan2(dy, dx) / (2 * np.pi) + 0.5) * DIRECTIONS).astype(int) % DIRECTIONS
    row, column = np.indices(grey.shape) * CELLS // PATCH.w
    place = (row * CELLS + column) * DIRECTIONS + direction
    edges = np.bincount(place.ravel(), strength.ravel(), CELLS * CELLS * DIRECTIONS)
    colours = cv2.resize(cv2.cvtColor(patch, cv2.COLOR_RGB2LAB), (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    return np.concatenate([edges / (np.linalg.norm(edges) + 1e-3), colours.ravel() / 255])
