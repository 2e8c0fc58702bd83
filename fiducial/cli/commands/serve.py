"""`fiducial serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fiducial.cli.options import PartOption, a_model

ORDER = 100
IS_SERVICE = True  # its silence is no sign of long work


def serve(
    model: Annotated[
        Path,
        typer.Argument(callback=a_model, help="A folder or file of `fiducial export`, a run folder, or `face`."),
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option(help="0.0.0.0 lets other machines in.")] = "127.0.0.1",
    threads: Annotated[int | None, typer.Option(min=1, help="Of the network [one a core].")] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes behind the port, which share cores, limits and what comes.")
    ] = 1,
    max_batch: Annotated[int, typer.Option(min=1, help="Crops that go through the network together.")] = 32,
    max_bytes: Annotated[int, typer.Option(min=1024, help="Of a request.")] = 20 * 2**20,
    max_pixels: Annotated[int, typer.Option(min=1, help="Of an image, as its decoder counts them.")] = 50_000_000,
    max_boxes: Annotated[int, typer.Option(min=1, help="Of a request.")] = 64,
    max_in_flight: Annotated[int, typer.Option(min=1, help="Requests at a time; more get 503.")] = 64,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for a request; later it gets 503.")] = 30.0,
    max_connections: Annotated[int, typer.Option(min=1, help="At a time, silent ones included; more get 503.")] = 500,
    token: Annotated[
        str, typer.Option(envvar="FIDUCIAL_TOKEN", help="Only clients that send it are answered [all are].")
    ] = "",
    part: PartOption = None,
) -> None:
    """Serve a model over HTTP, with a page to try it on.

    fiducial serve shipped/model.onnx --port 8000

    curl --data-binary @photo.jpg 'http://127.0.0.1:8000/predict?boxes=[[10,20,200,200]]'
    """
    from fiducial.serve import server
    from fiducial.serve.limits import Limits

    limits = Limits(
        max_bytes=max_bytes,
        max_pixels=max_pixels,
        max_boxes=max_boxes,
        max_in_flight=max_in_flight,
        timeout_s=timeout,
        max_batch=max_batch,
        max_connections=max_connections,
    )
    server.serve(model, host, port, limits, threads, token, workers)
