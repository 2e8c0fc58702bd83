"""Several processes behind one port: each has the model, and takes what connects while it has time.

The one that starts them keeps no model. It starts one anew that ends without being told to, and hands signals on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from fiducial.errors import Failure, UserError
from fiducial.log import logger
from fiducial.serve.limits import Limits

TOO_OFTEN, WITHIN_SECONDS = 5, 60.0  # ends of processes by themselves, after which the server gives up


@dataclass(frozen=True)
class Task:
    """What each process serves, and the function that does: it calls the last one when it takes requests."""

    model: Path
    limits: Limits
    threads: int | None
    token: str
    run: Callable[[Task, socket.socket, Callable[[], None]], None]


@dataclass
class Started:
    """A process and what it says: True when it takes requests."""

    process: BaseProcess
    said: Connection


def serve(task: Task, workers: int, bound: socket.socket, told: Callable[[], None]) -> None:
    """Serves on a bound socket until a signal ends it; `told` is called when all processes take requests. Raises UserError
    where they can't begin, Failure where they end too often."""
    signals, halves = [signal.SIGTERM, signal.SIGINT], socket.socketpair()
    before = {number: signal.getsignal(number) for number in signals}
    running, ends, draining = [_started(task, bound) for _ in range(workers)], list[float](), False
    for number in signals:
        signal.signal(number, lambda *_: halves[1].send(b"!"))
    try:
        for each in running:
            if not _began(each):
                raise UserError(task.model, "no process could begin to serve it; the reason stands above")
        told()
        while running:
            for ready in wait([halves[0], *(each.process.sentinel for each in running)]):
                if ready is halves[0]:
                    halves[0].recv(1)
                    draining = True
                    _end(running)
                    continue
                ended = next(each for each in running if each.process.sentinel == ready)
                running.remove(ended)
                if draining:
                    continue
                ended.process.join()  # Its end of the pipe is closed a moment before its code is known.
                code = ended.process.exitcode
                logger.error(
                    f"process {ended.process.pid} of the server ended by itself (code {code}); another is started"
                )
                ends = [*(at for at in ends if time.monotonic() - at < WITHIN_SECONDS), time.monotonic()]
                if len(ends) >= TOO_OFTEN:
                    raise Failure(
                        f"{len(ends)} processes of the server ended by themselves within {WITHIN_SECONDS:.0f} s"
                    )
                running.append(_started(task, bound))
    finally:
        _end(running)
        for each in running:
            each.process.join()
        for number, handler in before.items():
            signal.signal(number, handler)
        for half in halves:
            half.close()


def _started(task: Task, bound: socket.socket) -> Started:
    context = multiprocessing.get_context("spawn")
    said, saying = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(task, bound, saying), name="fiducial-serve")
    process.start()
    saying.close()
    return Started(process, said)


def _began(each: Started) -> bool:
    """Waits until a process takes requests, or has ended."""
    try:
        return bool(each.said.recv())
    except EOFError:
        return False


def _end(running: list[Started]) -> None:
    for each in running:
        each.process.terminate()


def _work(task: Task, bound: socket.socket, saying: Connection) -> None:
    """One process: it ends with the one that started it, whatever ended that."""
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C comes from the one that started it, once
    parent = multiprocessing.parent_process()
    assert parent is not None
    ends = threading.Thread(target=lambda: (wait([parent.sentinel]), os.kill(os.getpid(), signal.SIGTERM)), daemon=True)
    ends.start()
    try:
        task.run(task, bound, lambda: saying.send(True))
    except UserError as error:
        logger.error(str(error))
        raise SystemExit(2) from None
