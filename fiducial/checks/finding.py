"""What a check found: one fault of an instance, an image or a whole split, and what would mend it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fiducial.types import Instances

KINDS = (
    *("left_right", "moved_point", "duplicate", "leak", "point_order", "flip_pairs", "unit_coordinates", "corner_box"),
    *("box_misses_points", "missing_as_label", "outside", "category", "size", "unlabelled_image", "unlabelled_point"),
)
CERTAIN = 0.95  # confidence from which a proposal is taken without being asked for


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Tells one thing that is likely wrong.

    `proposal` is what would mend it, or nothing where that is not known: {"swap": [[a, b], ..]} exchanges points by their
    names, {"order": [..]} names for each point the one whose coordinates it should have, {"xy": {name: [x, y]}} gives px,
    {"missing": [..]} unlabels points, {"box": [x, y, w, h]}, {"box": "corners"} of corners, {"flip_indices": [..]},
    {"scale": [sx, sy]} multiplies all x and y, {"times": "image_size"} by the image's sides, {"transpose": true} exchanges x
    and y, {"leave_out": true} removes the image or the annotation from its split. `mend` puts them into effect."""

    kind: str  # of KINDS
    split: str
    image: str = ""  # its path as the data name it; "" where the finding is about a whole split
    annotation_id: Any = None
    points: tuple[str, ...] = ()  # their names
    confidence: float  # 0 to 1: how likely it is a fault
    what: str  # a sentence
    proposal: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """Gives the entry of `findings` in the JSON of `fiducial data check`."""
        number = self.annotation_id
        return {
            "kind": self.kind,
            "split": self.split,
            "image": self.image,
            "annotation_id": number.item() if isinstance(number, np.generic) else number,
            "points": list(self.points),
            "confidence": round(float(self.confidence), 3),
            "what": self.what,
            "proposal": None if self.proposal is None else dict(self.proposal),
        }


@dataclass(frozen=True)
class Labelled:
    """Holds the splits of a set, the first of which is what is learnt from."""

    splits: Mapping[str, Instances]

    @property
    def instances(self) -> Iterator[tuple[str, Instances]]:
        """Gives the name and the instances of each split."""
        return iter(self.splits.items())

    @property
    def first(self) -> Instances:
        """Gives the split that is learnt from."""
        return next(iter(self.splits.values()))

    def replaced(self, **splits: Instances) -> Labelled:
        """Takes other instances for some of the splits."""
        return replace(self, splits={**self.splits, **splits})

    def where(self, row: int) -> tuple[str, Instances, int]:
        """Finds a row of all splits, one after the other, as (split, its instances, row in them)."""
        for name, part in self.splits.items():
            if row < len(part):
                return name, part, row
            row -= len(part)
        raise IndexError(row)

    def finding(self, row: int, kind: str, points: Sequence[int], **about: Any) -> Finding:
        """Makes the finding about one instance, by its row of all splits and its points' numbers."""
        split, part, own = self.where(row)
        return Finding(
            kind=kind,
            split=split,
            image=part.images.name(int(part.image_row[own])),
            annotation_id=part.annotation_id[own],
            points=tuple(part.skeleton.points[point] for point in points),
            **about,
        )
