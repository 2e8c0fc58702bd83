"""Finds places for the names of dots, where they cover neither dots nor each other."""

from __future__ import annotations

from collections.abc import Sequence

LETTER_WIDTH = 7.2  # of text of 12 units, in wide fonts
TEXT_HEIGHT = 13.0
DOT = 6.0  # half the side of the square that a dot takes


def label_places(
    dots: Sequence[tuple[float, float]],
    names: Sequence[str],
    *,
    left: float,
    right: float,
    top: float,
    bottom: float,
) -> list[tuple[float, float, str] | None]:
    """Gives x, y (of the base line) and text-anchor of each name; those that come first choose first.

    A name stands beside its dot at the first of several places where it covers no other name or dot and stays in the
    plot; None where there is no such place."""
    taken = [(x - DOT, y - DOT, x + DOT, y + DOT) for x, y in dots]
    chosen_places: list[tuple[float, float, str] | None] = []
    for (x, y), name in zip(dots, names, strict=True):
        candidates = _candidates(x, y)
        boxes = [_box(candidate, LETTER_WIDTH * len(name)) for candidate in candidates]
        free = (
            i
            for i, box in enumerate(boxes)
            if box[0] >= left
            and box[2] <= right
            and box[1] >= top - 4
            and box[3] <= bottom
            and not any(_overlap(box, other) for other in taken)
        )
        chosen = next(free, None)
        if chosen is not None:
            taken.append(boxes[chosen])
        chosen_places.append(None if chosen is None else candidates[chosen])
    return chosen_places


def _candidates(x: float, y: float) -> list[tuple[float, float, str]]:
    """Right and left of the dot, then line by line further above and below it."""
    candidates = [(x + 9, y + 4, "start"), (x - 9, y + 4, "end")]
    for step in (1, 2, 3, 4):
        for row in (y + 4 - TEXT_HEIGHT * step, y + 4 + TEXT_HEIGHT * step):
            candidates += [(x, row, "middle"), (x + 4, row, "start"), (x - 4, row, "end")]
    return candidates


def _box(place: tuple[float, float, str], width: float) -> tuple[float, float, float, float]:
    x, y, anchor = place
    left = {"start": x, "middle": x - width / 2, "end": x - width}[anchor]
    return left, y - TEXT_HEIGHT + 3, left + width, y + 3


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
