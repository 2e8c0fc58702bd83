"""Which files are images and which are videos: by their names, and by what the libraries find in them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from fiducial.data import images, video
from fiducial.errors import UserError
from fiducial.log import logger

Kind = Literal["image", "video"]
VIDEOS = (
    *(
        ".mp4",
        ".mov",
        ".m4v",
        ".avi",
        ".mkv",
        ".webm",
        ".gif",
        ".apng",
        ".mpg",
        ".mpeg",
        ".m2v",
        ".vob",
        ".wmv",
        ".asf",
    ),
    *(".ts", ".mts", ".m2ts", ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".mxf", ".dv", ".ivf", ".mjpeg", ".mjpg"),
    *(".h264", ".264", ".h265", ".265", ".hevc"),
)
NAMED = 5  # files that a line names at most


def kind_by_name(path: Path) -> Kind | None:
    """Tells by the ending of its name what a file is; None where that says neither."""
    ending = path.suffix.lower()
    return "video" if ending in VIDEOS else "image" if ending in images.ENDINGS else None


def kind_of(path: Path) -> Kind:
    """Tells what a file is, whose name may say nothing or be wrong: a video where OpenCV finds no image in it and
    FFmpeg a video. What can't be read at all is what its name says, or an image; whoever reads it says why not."""
    named = kind_by_name(path)
    if named == "video" or not path.is_file() or images.is_one(path):
        return named or "image"
    try:
        return "video" if video.is_one(path) else "image"
    except UserError:  # no PyAV
        return "image"


def among(files: Iterable[Path], folder: Path) -> list[Path]:
    """Picks the images and videos of a folder's files by their names. How many others there are, and which, is said."""
    chosen: list[Path] = []
    others: list[Path] = []
    for file in files:
        (others if kind_by_name(file) is None else chosen).append(file)
    if others:
        names = ", ".join(file.relative_to(folder).as_posix() for file in others[:NAMED])
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        count = "1 file is" if len(others) == 1 else f"{len(others)} files are"
        logger.warning(f"{folder}: {count} by name neither image nor video and left out: {names}{more}")
    return chosen
