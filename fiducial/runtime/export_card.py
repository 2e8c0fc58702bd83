"""What travels in an exported file: the detector's card and what was done to it, as a block of metadata.

The block is two texts, `fiducial` (JSON) and `fiducial_sha256` (of that JSON), so that a file of others, one that a newer
version wrote, and one that was altered are told apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fiducial import config
from fiducial.card import Card, DetectorSpec
from fiducial.errors import BadAnswer, UserError
from fiducial.types import Keypoints

EXPORT_VERSION = 1
KEY, DIGEST = "fiducial", "fiducial_sha256"
Precision = Literal["fp32", "fp16", "bf16", "int8"]
Where = Literal["inside", "outside"]
Decode = Literal["own", "matmul"]


@dataclass(frozen=True)
class ExportCard:
    """A detector in another runtime's file."""

    card: Card
    runtime: str
    # Of Keypoints, in the order in which the file gives them: xy, score, sigma, jacobian, correlation.
    outputs: tuple[str, ...]
    crop: Where = "inside"  # outside: the file takes uint8 crops of the card's size, and the runtime package cuts them
    decode: Decode = "own"  # matmul: by softmax and products alone, for delegates
    precision: Precision = "fp32"
    export_version: int = EXPORT_VERSION
    finder: DetectorSpec | None = None  # of the instances in a whole image, in the same file; None = none is


@dataclass(frozen=True)
class Made:
    """What an exporter wrote: the file that is loaded, its card, and what people should know about it."""

    file: Path
    card: ExportCard
    notes: tuple[str, ...] = ()


def to_metadata(card: ExportCard) -> dict[str, str]:
    """Turns a card into the entries that are stored in an exported file: its JSON and that JSON's digest."""
    text = json.dumps(config.to_dict(card), allow_nan=False)  # in its own order: that of kinds counts
    return {KEY: text, DIGEST: _digest(text)}


def of_metadata(block: Mapping[str, Any], path: Path, runtime: str) -> ExportCard:
    """Reads the block of the file `path`, which is to be of `runtime`; UserError says what is wrong with it."""
    text, digest = block.get(KEY), block.get(DIGEST)
    if not isinstance(text, str):
        raise UserError(f"{path}: not exported by Fiducial (its metadata has no {KEY!r}). Make it by `fiducial export`")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: its metadata {KEY!r} are no JSON: {error}. Export the model anew") from error
    version = values.get("export_version") if isinstance(values, dict) else None
    if isinstance(version, int) and version > EXPORT_VERSION:
        raise UserError(f"{path}: export version {version}; this Fiducial reads up to {EXPORT_VERSION}. Update it")
    if digest != _digest(text):
        raise UserError(f"{path}: its metadata were altered after the export (their digest differs). Export it anew")
    card = config.from_dict(ExportCard, values, str(path))
    if card.runtime != runtime:
        raise UserError(f"{path}: its metadata are those of a file of {card.runtime}, not of {runtime}. Export it anew")
    return card


def no_points(card: ExportCard) -> Keypoints:
    """The answer to no box at all: arrays with zero rows."""
    k = len(card.card.spec.skeleton.points)
    shapes = {"xy": (0, k, 2), "score": (0, k), "sigma": (0, k, 2), "jacobian": (0, k, 2, 2), "correlation": (0, k)}
    columns: dict[str, Any] = {name: np.zeros(shapes[name], np.float32) for name in card.outputs}
    return Keypoints(**columns, spread=card.card.spec.spread)


def points_of(card: ExportCard, columns: Sequence[np.ndarray], count: int, path: Path) -> Keypoints:
    """Makes Keypoints of what a file gave for `count` crops. Raises UserError where that is not `count` rows of finite
    numbers for the card's points: the file is damaged then, or its card is another's."""
    none = no_points(card)
    named: dict[str, Any] = dict(zip(card.outputs, columns, strict=False))
    for name in card.outputs:
        expected = (count, *getattr(none, name).shape[1:])
        column = named.get(name)
        if column is None or column.shape != expected:
            shape = "nothing" if column is None else list(column.shape)
            raise UserError(path, f"gives {shape} for {name}, expected {list(expected)}: damaged. Export it anew")
        if not np.isfinite(column).all():
            raise BadAnswer(
                path, f"gives numbers that are not finite for {name}: its weights are damaged. Export it anew"
            )
    return Keypoints(**named, spread=card.card.spec.spread)


def points_of_each(
    card: ExportCard, ask: Callable[[np.ndarray], Sequence[np.ndarray]], crops: np.ndarray, path: Path
) -> Keypoints:
    """Asks about crops [n, h, w, 3] one after the other and makes Keypoints of all answers; `ask` gives the columns of one,
    in arrays that the next does not write to. Raises UserError as `points_of` does."""
    if len(crops) == 0:
        return no_points(card)
    each = [ask(crops[i : i + 1]) for i in range(len(crops))]
    return points_of(card, [np.concatenate(parts) for parts in zip(*each, strict=True)], len(crops), path)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
