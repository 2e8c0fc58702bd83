"""A model behind a port, until SIGTERM or Ctrl-C: then accepted requests are finished and no new ones are taken."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from pathlib import Path

from fiducial.deploy import runtime
from fiducial.deploy.serving.pictures import Limits
from fiducial.errors import UserError


def serve(
    model: Path, host: str, port: int, limits: Limits, threads: int | None = None, echo: Callable[[str], None] = print
) -> None:
    """Blocks. `port` 0 takes a free one; the address is printed when requests are taken."""
    try:
        import uvicorn

        from fiducial.deploy.serving import app as application
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: pip install 'fiducial[serve]'") from error
    app = application.create(runtime.load(model, threads=threads), limits)
    bound = _bound(host, port)
    settings = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=int(limits.timeout_s) + 1,
        timeout_keep_alive=30, backlog=2048, server_header=False, date_header=False,
    )  # fmt: skip
    server = uvicorn.Server(settings)
    address = f"http://{host}:{bound.getsockname()[1]}"
    echo(f"serving {model} on {address} (page: {address}/, interface: {address}/docs); Ctrl-C ends")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # uvicorn drains and raises the signal once more, which ends well then
    server.run(sockets=[bound])


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
        made.listen(2048)  # connections wait from now on
    except (OSError, OverflowError) as error:
        made.close()
        raise UserError(f"--host {host} --port {port}: can't be taken: {error}. Try --port 0 for a free one") from error
    return made
