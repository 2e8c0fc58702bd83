"""A network's tensors as points in px of its input, and a score for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fiducial import geometry
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.runtime.foreign.network_card import NetworkCard, PointsSpec


class Found(NamedTuple):
    """Holds the points of some crops."""

    xy: np.ndarray  # [n, k, 2] px of the crops
    score: np.ndarray  # [n, k] 0..1


def points_of(outputs: Mapping[str, np.ndarray], card: NetworkCard, count: int) -> Found:
    """Reads the points of `count` crops from a network's outputs. Raises UserError for outputs of other shapes than the card
    says."""
    spec, size = card.points, card.input.size
    name = spec.output or next(iter(outputs))
    values = _output(outputs, name)
    if spec.kind == "heatmaps":
        found = _of_heatmaps(_rows(values, name, count), spec, size)
    elif spec.kind == "simcc":
        name_y = str(spec.output_y)
        found = _of_bins(_rows(values, name, count), _rows(_output(outputs, name_y), name_y, count), size)
    else:
        found = _of_numbers(_rows(values, name, count), spec, name, size)
    score = _sigmoid(found.score) if spec.logit else found.score
    if card.presence is not None:
        presence = _rows(_output(outputs, card.presence.output), card.presence.output, count).reshape(count, -1)
        if presence.shape[1] != 1:
            raise UserError(f"output {card.presence.output} has {presence.shape[1]} numbers a crop, expected one")
        score = score * (_sigmoid(presence) if card.presence.logit else presence)
    return Found(found.xy, np.clip(score, 0, 1))


def _of_numbers(values: np.ndarray, spec: PointsSpec, name: str, size: Size) -> Found:
    flat, width = values.reshape(len(values), -1), len(spec.columns)
    if flat.shape[1] == 0 or flat.shape[1] % width:
        raise UserError(
            f"output {name} has {flat.shape[1]} numbers a crop, expected {width} a point, by columns {spec.columns!r}"
        )
    of_points = flat.reshape(len(flat), -1, width)
    xy = of_points[..., [spec.columns.index("x"), spec.columns.index("y")]]
    if spec.frame == "edge":
        xy = geometry.unit_to_px(geometry.px_to_share(xy, size), size)
    elif spec.frame == "unit":
        xy = geometry.unit_to_px(xy, size)
    elif spec.frame == "corner":
        xy = geometry.corner_to_px(xy, size)
    place = spec.columns.find("s")
    return Found(xy, np.ones(xy.shape[:2]) if place < 0 else of_points[..., place])


def _of_heatmaps(maps: np.ndarray, spec: PointsSpec, size: Size) -> Found:
    """The highest cell, a quarter of a cell towards the higher of its neighbours (Newell et al., ECCV 2016)."""
    if maps.ndim != 4:
        raise UserError(f"a heatmap output of shape {list(maps.shape)}, expected four axes")
    maps = maps if spec.layout == "nchw" else np.moveaxis(maps, -1, 1)
    count, points, height, width = maps.shape
    flat = maps.reshape(count, points, -1)
    best = flat.argmax(-1)
    xy = np.stack([best % width, best // width], -1).astype(np.float64)
    padded = np.pad(maps, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    row, point = np.ogrid[:count, :points]
    x, y = best % width + 1, best // width + 1
    for axis, (dx, dy) in enumerate(((1, 0), (0, 1))):
        after, before = padded[row, point, y + dy, x + dx], padded[row, point, y - dy, x - dx]
        inside = np.isfinite(after) & np.isfinite(before)
        xy[..., axis] += 0.25 * np.where(inside, np.sign(np.where(inside, after, 0) - np.where(inside, before, 0)), 0)
    return Found(geometry.grid_to_px(xy, size, Size(width, height), spec.align), flat.max(-1))


def _of_bins(bins_x: np.ndarray, bins_y: np.ndarray, size: Size) -> Found:
    """The highest bins; their number over the input's side is how many a px has (Li et al., SimCC, ECCV 2022)."""
    if bins_x.ndim != 3 or bins_y.ndim != 3 or bins_x.shape[:2] != bins_y.shape[:2]:
        raise UserError(
            f"outputs of shapes {list(bins_x.shape)} and {list(bins_y.shape)}, expected [crops, points, bins] twice"
        )
    best = np.stack([bins_x.argmax(-1), bins_y.argmax(-1)], -1).astype(np.float64)
    grid = Size(bins_x.shape[2], bins_y.shape[2])
    return Found(
        geometry.grid_to_px(best, size, grid, "stride"), np.minimum(bins_x.max(-1), bins_y.max(-1)).astype(np.float64)
    )


def _output(outputs: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in outputs:
        raise UserError(f"the network has no output {name!r}; it has {', '.join(outputs)}")
    return outputs[name]


def _rows(values: np.ndarray, name: str, count: int) -> np.ndarray:
    if values.ndim == 0 or len(values) != count:
        raise UserError(f"output {name} has the shape {list(values.shape)} for {count} crops, expected one row a crop")
    return values.astype(np.float64)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * values))
