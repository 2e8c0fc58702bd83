"""What came of the trial: which precision was chosen and why, and the figures behind it."""

from __future__ import annotations

from dataclasses import dataclass

from fiducial.runtime.export_card import Precision


@dataclass(frozen=True)
class Candidate:
    """A file that was tried."""

    precision: Precision
    kept: tuple[str, ...]  # groups of layers that stayed fp32 although the rest is int8
    nme: float
    drop: float  # relative: (nme - nme of fp32) / nme of fp32
    speedup: float | None  # how many times as fast as fp32, CPU time of one thread; None = was not timed
    cpu_ms: float | None  # median of one crop
    bytes: int


@dataclass(frozen=True)
class Sensitivity:
    """What int8 in one group of layers alone does to the points."""

    group: str  # the module
    operators: int
    mean_px: float  # mean distance in x or y from fp32's points, px of the crop


@dataclass(frozen=True)
class Verdict:
    """Written beside the file as model.int8.json."""

    runtime: str
    data: str
    max_drop: float
    calibration_crops: int
    scored: int  # instances of the val split
    precision: Precision  # what was chosen
    accepted: bool  # whether that is int8
    reason: str  # in one line
    candidates: tuple[Candidate, ...]  # fp32 first
    sensitivity: tuple[Sensitivity, ...]  # the most harmful first; empty where int8 was not faster anyway
