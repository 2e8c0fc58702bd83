"""Models that come with the package and go by a name: `face`, 68 points of each face in an image.

Each is a file of `fiducial export` in `fiducial/bundled`, which the base install runs, with a finder beside it or without.
What lies in the current folder under such a name is meant before them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from fiducial.log import logger
from fiducial.runtime import finder_file

FOLDER = Path(__file__).parents[1] / "bundled"


def names() -> list[str]:
    """Lists the names of the models that come with the package."""
    return sorted(file.stem for file in FOLDER.glob("*.onnx") if not file.name.endswith(finder_file.ENDING))


def file_of(model: Path) -> Path | None:
    """Finds the file of a model that comes with the package, by its name; None where the name is another, or something of
    that name lies in the current folder, which is said."""
    name = str(model)
    if name not in names():
        return None
    if model.exists():
        _tell(name)
        return None
    return FOLDER / f"{name}.onnx"


def is_ours(path: Path) -> bool:
    """Tells whether a path is that of a file that came with the package."""
    return path.parent == FOLDER


@cache
def _tell(name: str) -> None:
    """Says it once a process: a command asks many times what its model is."""
    logger.warning(
        f"{name}: taken for what lies in this folder, not for the model of that name that comes with Fiducial"
    )
