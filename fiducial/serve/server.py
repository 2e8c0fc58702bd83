"""A model behind a port. SIGTERM or Ctrl-C ends it: what was accepted is answered, what comes then gets 503."""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import cv2

from fiducial import files
from fiducial.errors import UserError
from fiducial.log import logger
from fiducial.runtime import runtime
from fiducial.serve import workers as workers_
from fiducial.serve.limits import Limits, check_token

if TYPE_CHECKING:
    from fastapi import FastAPI
    from uvicorn import Server

BACKLOG = 2048  # connections that wait to be taken


def serve(
    model: Path,
    host: str,
    port: int,
    limits: Limits,
    threads: int | None = None,
    token: str = "",
    workers: int = 1,
) -> None:
    """Serves a model until a signal ends it.

    `port` 0 takes a free one; the address is said when requests are taken. `threads` are the network's, in each of so many
    `workers`, which are processes that share the limits and the cores; with a `token` only clients that send it are
    answered. UserError where the port can't be taken or the extra `serve` is not installed."""
    try:
        import python_multipart  # noqa: F401  which Starlette would ask for at the first form
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: pip install 'fiducial[serve]'") from error
    check_token(token)
    bound = _bound(host, port)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{bound.getsockname()[1]}"

    def told() -> None:
        by = f" by {workers} processes" if workers > 1 else ""
        logger.info(f"serving {model}{by} on {address}/ (for clients: {address}/docs); Ctrl-C ends")

    try:
        if workers > 1:
            threads = threads or max(1, files.cores() // workers)
            each = workers_.Task(model, limits.shared_by(workers), threads, token, _run)
            workers_.serve(each, workers, bound, told)
        else:
            _run(workers_.Task(model, limits, threads, token, _run), bound, told)
    finally:
        bound.close()


def application(model: Path, limits: Limits, threads: int | None, token: str) -> FastAPI:
    """Loads a model and makes its application."""
    from fiducial.serve import app

    made = app.create(runtime.load(model, threads=threads), limits, token)
    gc.freeze()  # what lives as long as the server is not looked through again and again
    cv2.setNumThreads(1)  # requests are what runs side by side
    return made


def _run(task: workers_.Task, bound: socket.socket, told: Callable[[], None]) -> None:
    """Serves in this process."""
    app = application(task.model, task.limits, task.threads, task.token)
    bound.listen(BACKLOG)
    told()
    uvicorn_of(app, task.limits).run(sockets=[bound])


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise UserError(f"--host {host} --port {port}: can't be taken: {error}. Try --port 0 for a free one") from error
    return bound


def uvicorn_of(app: FastAPI, limits: Limits) -> Server:
    """Makes the server of an application, with its limits of connections."""
    import uvicorn

    from fiducial.serve.connections import Patient

    service = app.state.service

    class Draining(uvicorn.Server):
        """Listens on, to say 503, until the last request is answered; a second signal ends at once."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if service.draining:
                self.should_exit = self.force_exit = True
            service.draining = True

        async def on_tick(self, counter: int) -> bool:
            return await super().on_tick(counter) or (service.draining and service.in_flight == 0)

    return Draining(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            http=Patient.within(limits),
            limit_concurrency=limits.max_connections,
            timeout_keep_alive=limits.idle_s,
            timeout_graceful_shutdown=int(limits.timeout_s) + 1,
        )
    )
