"""`fiducial demo`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fiducial.cli.output import print_run

ORDER = 10


def demo(
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder of everything that comes out.")] = Path("demo"),
    epochs: Annotated[int | None, typer.Option(min=1, help="Fewer are quicker.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
) -> None:
    """The main job in minutes, without downloads: drawn faces, training on the CPU, evaluation, a report, an exported file.

    fiducial demo --out demo
    """
    from fiducial.exporting import certificate, export
    from fiducial.training import demo as demos

    summary = demos.demo(out, epochs=epochs, seed=seed, progress=sys.stderr.isatty())
    assert summary is not None  # one process
    print_run(summary)
    file, proof = export.export_model(out, "onnx", out / "shipped")
    for line in certificate.lines(proof):
        typer.echo(line)
    for name, path in {**summary["files"], "exported": file}.items():
        typer.echo(f"{name}: {path}")
