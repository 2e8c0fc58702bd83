"""`fiducial profile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def profile(model: Annotated[Path, typer.Argument(help="A run folder or an exported file.")]) -> None:
    """Say where the time goes."""
    raise NotImplementedError
