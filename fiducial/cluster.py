"""A Ray cluster: machines that work is shared out to, which see the same files under the same paths."""

from __future__ import annotations

import logging
import socket
from typing import Any

from fiducial import files
from fiducial.errors import UserError, one_line

LOCAL, FOUND = "local", "auto"  # for --ray: on this machine, and a cluster that this machine is one of
TRIES = 3  # of work that was lost with its machine or process
CONNECT_SECONDS = 5.0


def connected(address: str, cores: int | None = None) -> Any:
    """Connects with a cluster and gives Ray. cores: how many "local" may use [all]. UserError where no cluster answers."""
    _refuse_deaf(address)
    import ray  # pyright: ignore[reportMissingImports]

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "include_dashboard": False}
    if ray.is_initialized():
        return ray
    try:
        if address == LOCAL:
            ray.init(num_cpus=cores or files.cores(), **options)
        else:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"--ray {address}", f"no cluster answers there: {one_line(str(error), 200)}") from error
    return ray


def _refuse_deaf(address: str) -> None:
    """Raises UserError where nothing listens at HOST:PORT, for which Ray itself waits minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address in (LOCAL, FOUND):
        return
    if not host or not port.isdecimal():
        raise UserError(f"--ray {address}", "expected local, auto, or HOST:PORT of a cluster's head")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise UserError(f"--ray {address}", f"no cluster answers there: {error.strerror or error}") from error
