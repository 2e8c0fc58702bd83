"""Labels of one format written in another, for programs."""

from __future__ import annotations

from pathlib import Path

from fiducial.api.results import Result
from fiducial.data import conversion
from fiducial.data.source import Source
from fiducial.errors import counted


def convert(
    data: Source | Path | str,
    out: Path | str,
    *,
    to: str | None = None,
    split: str | None = None,
    copy_images: bool = False,
    strict: bool = False,
) -> Result:
    """Writes labels of any format that is read in another, with what that loses in `figures["lost"]`.

    Args:
        data: a folder or file of any format, or a Source with `images` and `category`.
        out: a folder that is empty or not there, or, for one split, a file whose ending tells the format.
        to: the format's name, such as coco, yolo, deeplabcut; a wrong one lists all [told by the ending of out].
        split: the only split that is written [all].
        copy_images: copies images where the format could refer to them, too.
        strict: broken instances are an error instead of being left out and listed.

    Raises UserError where nothing can be read, or something is at `out`; nothing is half-written."""
    made = conversion.convert(data, Path(out), to, split=split, copies=copy_images, strict=strict)
    figures = {
        "format": made.format,
        "splits": {name: dict(counts) for name, counts in made.splits.items()},
        "lost": list(made.lost),
        "problems": [str(problem) for problem in made.problems if not problem.is_note],
        "notes": [str(problem) for problem in made.problems if problem.is_note],
        "files": {"labels": str(made.path)},
    }
    lines = [
        f"{name}: {counted(counts['instances'], 'instance')} on {counted(counts['images'], 'image')}, {counted(counts['points'], 'point')}"
        for name, counts in made.splits.items()
    ]
    return Result(figures=figures, lines=lines)
