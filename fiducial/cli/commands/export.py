"""`fiducial export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(model: Annotated[Path, typer.Argument(help="A run folder or an exported file.")]) -> None:
    """Export a model to one file that runs without PyTorch."""
    raise NotImplementedError
