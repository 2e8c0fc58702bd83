"""What must be known about a detector besides its weights: how to build it, what its points are, where it came from.

It travels as JSON, beside the weights in a run folder and inside exported files; reading it needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fiducial import config, files
from fiducial.errors import UserError, expect
from fiducial.geometry import Size
from fiducial.types import Skeleton, Spread
from fiducial.version import __version__

FORMAT_VERSION = 1
MOST_SIDE = 4096  # px of the network's input
MOST_PADDING = 100.0
NOT_STATED = "not stated"
FINDER = "finder"  # of a run's folder: the run of its finder
MAP = ".map.json"  # beside a network's file: what makes the points of one's own labels of its points (`runtime.point_map`)
USABLE = "usable"  # in `Card.metrics` of a finder: False = it found so little on val that it is not used
PADDING = 1.25  # boxes are enlarged by this, and widened to the crop's aspect, before they are cut out
BOX_SHARE = "train_box_share"  # in `Card.metrics`: the median box of the training data over its image's area


@dataclass(frozen=True)
class Normalization:
    """Says how images are normalised: (image - mean) / std per RGB channel, for images in 0..255."""

    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)  # ImageNet
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class DetectorSpec:
    """Holds what must be known to build the network anew."""

    backbone: str
    method: str
    head: dict[str, Any]  # fields of the method's Spec, complete
    size: Size
    skeleton: Skeleton
    normalization: Normalization | None = None  # None = the backbone's own, written out when it is built
    padding: float = PADDING
    spread: Spread | None = None  # how far its points may be off; None = not measured
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        expect(all(1 <= side <= MOST_SIDE for side in self.size), "size", self.size, f"sides of 1 to {MOST_SIDE} px")
        expect(0 < self.padding <= MOST_PADDING, "padding", self.padding, f"more than 0, at most {MOST_PADDING}")
        count = len(self.skeleton.points)
        if self.spread is not None:
            expect(len(self.spread.scale) == count, "spread.scale", len(self.spread.scale), f"{count} numbers")
        # Older cards tell points that were learnt without labels by the skeleton's name alone.
        numbered = tuple(f"point_{i}" for i in range(count))
        if self.skeleton.name == f"motion{count}" and self.skeleton.points == numbered:
            object.__setattr__(self, "skeleton", replace(self.skeleton, named=False))


@dataclass(frozen=True)
class Card:
    """Holds what travels with the weights: the network's spec, where it came from and what it scored."""

    spec: DetectorSpec
    licence: str = NOT_STATED  # of the weights: what whoever trained them states, else what their data do
    initialization: str = "random"  # where the backbone's weights came from before training
    metrics: dict[str, Any] = field(default_factory=dict)
    # Of a head or backbone from outside of the package: its name -> file and digest (`models/outside.py`).
    sources: dict[str, str] = field(default_factory=dict)
    fiducial_version: str = __version__
    # What went into the weights -> its licence: data, weights to start from, a teacher, and what went into those.
    derived_from: dict[str, str] | None = None

    def __post_init__(self) -> None:
        if self.derived_from is None:  # older cards name the licence of the network's code as that of the weights
            derived_from = {} if self.licence == NOT_STATED else {"network": self.licence}
            object.__setattr__(self, "licence", NOT_STATED)
            object.__setattr__(self, "derived_from", derived_from)

    @property
    def title(self) -> str:
        """Says in a few words what it finds, and how."""
        return f"{self.spec.skeleton.name} by {self.spec.method} on {self.spec.backbone}"

    @property
    def terms(self) -> str:
        """Says in a line under what licence the weights are, and under what licences that from which they were made."""
        parts = [f"{name} ({licence})" for name, licence in (self.derived_from or {}).items()]
        return f"{self.licence}{'; derived from ' if parts else ''}{', '.join(parts)}"


def read(path: Path) -> Card:
    """Reads a model.json. Raises UserError where it is none, or was written by a newer version."""
    values = files.read_object(path, "spec")
    spec = values["spec"]
    version = spec.get("format_version") if isinstance(spec, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise UserError(path, f"format version {version}; this Fiducial reads up to {FORMAT_VERSION}. Update it")
    return config.from_dict(Card, values, str(path))
