"""`fiducial serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(model: Annotated[Path, typer.Argument(help="A run folder or an exported file.")]) -> None:
    """Serve a model over HTTP."""
    raise NotImplementedError
