"""A review: findings beside the labels that they are about, the answers to them, and the labels that come of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fiducial.checks import mend
from fiducial.checks.finding import Finding, Labelled
from fiducial.errors import UserError
from fiducial.labels.reviews.answers import KEEP, MOVED, SKIP, TAKE, Answer, Log, key_of
from fiducial.report import pictures
from fiducial.types import Instances

LOG = "answers.jsonl"


class Review:
    """Holds the findings of a set in the order of the check, and writes the answers and the mended set into a folder."""

    def __init__(self, labelled: Labelled, findings: Sequence[Finding], folder: Path) -> None:
        self.labelled, self.findings, self.folder = labelled, findings, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.log = Log(folder / LOG)
        self.keys = [key_of(finding.as_json()) for finding in findings]
        self.answers: dict[str, Answer] = self.log.read()
        self._places = _places(labelled)
        self._lock = threading.Lock()
        self.on_answer: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self.findings)

    @property
    def open(self) -> int:
        """Counts the findings that wait for an answer."""
        return sum(self._answer(number) in ("", SKIP) for number in range(len(self)))

    def items(self) -> dict[str, Any]:
        """Gives what the page shows."""
        skeleton = self.labelled.first.skeleton
        return {
            "points": list(skeleton.points),
            "edges": [list(edge) for edge in skeleton.edges],
            "colours": pictures.point_colours(skeleton).tolist(),
            "findings": [self._item(number) for number in range(len(self))],
        }

    def image(self, number: int) -> bytes:
        """Gives the image that a finding is about, as JPEG. UserError where it can't be read."""
        finding = self.findings[number]
        place = self._place(finding)
        if place is None:
            raise UserError(finding.image or finding.split, "the finding is about no image of the set")
        part, image_row, _ = place
        return pictures.jpeg_bytes(part.images.read(image_row))

    def answer(self, number: int, answer: str, xy: Mapping[str, Sequence[float]]) -> dict[str, Any]:
        """Takes an answer: into the log first, then into memory. UserError for what is none."""
        if answer not in (KEEP, TAKE, MOVED, SKIP):
            raise UserError(f"answer {answer!r}: expected {KEEP}, {TAKE}, {MOVED} or {SKIP}")
        finding = self.findings[number]
        if answer == TAKE and finding.proposal is None:
            raise UserError("there is no proposal to take")
        points = self.labelled.first.skeleton.points
        moved = {name: (float(x), float(y)) for name, (x, y) in xy.items() if name in points}
        if (answer == MOVED) != bool(moved) or not np.isfinite(list(moved.values())).all():
            raise UserError("points that were moved are expected with their places, and with nothing else")
        with self._lock:
            self.answers[self.keys[number]] = self.log.add(self.keys[number], answer, moved)
        self.on_answer()
        return self._item(number)

    def mended(self) -> tuple[Labelled, list[str]]:
        """Gives the set with all answers put into effect, and a line on each change."""
        taken = []
        for number, finding in enumerate(self.findings):
            given = self.answers.get(self.keys[number])
            if given is not None and given.answer == TAKE:
                taken.append(finding)
            elif given is not None and given.answer == MOVED:
                taken.append(replace(finding, proposal={"xy": {name: list(xy) for name, xy in given.xy.items()}}))
        return mend.mended(self.labelled, taken)

    def _answer(self, number: int) -> str:
        given = self.answers.get(self.keys[number])
        return "" if given is None else given.answer

    def _item(self, number: int) -> dict[str, Any]:
        finding = self.findings[number]
        item: dict[str, Any] = {**finding.as_json(), "answer": self._answer(number), "has_image": False}
        place = self._place(finding)
        if place is None:
            return item
        part, _, row = place
        item["has_image"] = True
        if row is None:
            return item
        item["box"] = part.box_xywh[row].tolist()
        item["xy"] = _points(part, row)
        item["proposed"] = self._proposed(finding, part, row)
        given = self.answers.get(self.keys[number])
        if given is not None and given.answer == MOVED:
            item["moved"] = {part.skeleton.points.index(name): list(xy) for name, xy in given.xy.items()}
        return item

    def _proposed(self, finding: Finding, part: Instances, row: int) -> list[list[float] | None] | None:
        """The points as the proposal has them; None where there is none, or it is not about the points."""
        if finding.proposal is None:
            return None
        one = Labelled({finding.split: part.select(np.array([row]))})
        then = mend.mended(one, [finding])[0].splits[finding.split]
        if not len(then):
            return None
        points = _points(then, 0)
        return None if points == _points(part, row) else points

    def _place(self, finding: Finding) -> tuple[Instances, int, int | None] | None:
        """The split, the row of the image and that of the instance that a finding is about."""
        return self._places.get((finding.split, finding.image, finding.annotation_id)) or self._places.get(
            (finding.split, finding.image, None)
        )


def _places(labelled: Labelled) -> dict[tuple[str, str, Any], tuple[Instances, int, int | None]]:
    """Where (split, image, annotation id) is; with None for the image as a whole."""
    places: dict[tuple[str, str, Any], tuple[Instances, int, int | None]] = {}
    for split, part in labelled.instances:
        for image_row in range(len(part.images)):
            places[split, part.images.name(image_row), None] = part, image_row, None
        for row, (image_row, annotation_id) in enumerate(
            zip(part.image_row.tolist(), part.annotation_id.tolist(), strict=True)
        ):
            places[split, part.images.name(image_row), annotation_id] = part, image_row, row
    return places


def _points(part: Instances, row: int) -> list[list[float] | None]:
    """[k] x, y px and visibility of the labelled points, None of others."""
    return [
        [round(float(x), 2), round(float(y), 2), int(v)] if v else None
        for (x, y), v in zip(part.xy[row], part.visibility[row], strict=True)
    ]
