"""Looks at labelled data, checks and mends them, and measures their labels; each function is imported when it is first used."""

from __future__ import annotations

from fiducial import lazy

_WHERE: dict[str, str] = {
    "align": "aligning.align",
    "check": "faults.check",
    "convert": "converting.convert",
    "next_curve": "choosing_curve.next_curve",
    "next_images": "choosing_images.next_images",
    "review": "reviews.run.review",
    "show": "showing.show",
    "sigmas": "measuring.sigmas",
}

__getattr__, __dir__ = lazy.door(__name__, _WHERE)
