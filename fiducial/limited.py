"""A function of strangers' bytes, at work in a process with limits of memory and of CPU time.

    with Limited("my_module:shrink", megabytes=500, cpu_seconds=2) as shrink:
        answer, smaller = shrink({"factor": 3}, data)

calls `my_module.shrink({"factor": 3}, data)` there, which returns plain JSON and bytes. What a decoder really allocates and
does decides, not what a file says about itself. A process that ran into a limit or crashed is replaced by a new one."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fiducial.errors import Failure, UserError, of_json, to_json
from fiducial.worker import Worker

TASK = f"{__name__}:obey"
KEPT_BYTES = 1 << 22  # of the exchange file between calls


class TooMuch(UserError):
    """Input that took more memory or time than the limits, or crashed its decoder."""


class Limited:
    """Calls a function "module:name" of (plain JSON, bytes) in a process of its own; one call at a time.

    `megabytes` may be allocated above what the process has after its imports (on Linux; other systems have no such
    limit), `cpu_seconds` may be used by one call, which takes `wall_seconds` at most. `environment` is put on top of this
    process's. `niceness` is how far it steps back when others need the cores."""

    def __init__(
        self,
        function: str,
        *,
        megabytes: int,
        cpu_seconds: float,
        wall_seconds: float = 60.0,
        environment: Mapping[str, str] | None = None,
        niceness: int = 0,
    ) -> None:
        self._task = {"function": function, "megabytes": megabytes, "cpu": cpu_seconds, "niceness": niceness}
        self._environment, self._worker = environment, None
        self._cpu_seconds, self._wall_seconds = cpu_seconds, wall_seconds
        self._file = -1

    def __enter__(self) -> Limited:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(self) -> None:
        """Starts the process now, so that the first call need not wait for it."""
        if self._worker is None:
            self._file, path = tempfile.mkstemp(prefix="fiducial-")
            try:
                self._worker = Worker(TASK, {**self._task, "path": path}, environment=self._environment).__enter__()
            finally:
                os.unlink(path)  # both have opened it

    def end(self) -> None:
        """Ends the process and gives everything back; a later call starts another."""
        if self._worker is not None:
            self._worker.end()
            self._worker = None
            os.close(self._file)

    def __call__(self, question: Any, data: bytes) -> tuple[Any, bytearray]:
        """Gives what the function returned. Raises the UserError that it raised, TooMuch where it ran into a limit."""
        self.start()
        assert self._worker is not None
        try:
            _write(self._file, data)
            reply = self._worker.ask({"question": question, "bytes": len(data)}, self._wall_seconds)
        except Failure as failure:
            self.end()
            late = "SIGPROF" in str(failure) or "no answer" in str(failure)
            why = f"takes more than {self._cpu_seconds:g} s" if late else f"its decoder ended: {failure}"
            raise TooMuch(why) from failure
        except BaseException:  # Ctrl-C: an answer may be on its way
            self.end()
            raise
        if reply["memory"]:
            raise TooMuch(f"takes more than {self._task['megabytes']} MB of memory")
        if reply["error"] is not None:
            raise of_json(reply["error"])
        answer = _read(self._file, reply["bytes"])
        if max(len(data), len(answer)) > KEPT_BYTES:
            os.ftruncate(self._file, 0)
        return reply["answer"], answer


def obey(task: dict[str, Any]) -> Generator[Any, Any, None]:
    """Is the process: answers questions until it is ended."""
    with suppress(AttributeError, OSError):
        os.nice(task["niceness"])
    module, _, name = task["function"].partition(":")
    function = getattr(importlib.import_module(module), name)
    file = os.open(task["path"], os.O_RDWR)
    _limit_memory(task["megabytes"])
    question = yield None
    while True:
        reply: dict[str, Any] = {"error": None, "memory": False, "answer": None, "bytes": 0}
        _limit_time(task["cpu"])
        try:
            reply["answer"], data = function(question["question"], bytes(_read(file, question["bytes"])))
            _write(file, data)
            reply["bytes"] = memoryview(data).nbytes
            del data
        except MemoryError:
            reply["memory"] = True
        except Exception as error:
            reply["error"] = to_json(error)
        _limit_time(0)
        question = yield reply


def _limit_time(seconds: float) -> None:
    """SIGPROF, which nobody hears, ends the process after so much CPU time, whatever library is at work."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _limit_memory(megabytes: int) -> None:
    if sys.platform != "linux":
        return
    import resource

    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = held + megabytes * 2**20
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _write(file: int, data: Any) -> None:
    view, place = memoryview(data), 0
    if not view.nbytes:
        return
    view = view.cast("B")
    while place < len(view):
        place += os.pwrite(file, view[place:], place)


def _read(file: int, count: int) -> bytearray:
    data = bytearray(count)
    view, place = memoryview(data), 0
    while place < count:
        place += os.preadv(file, [view[place:]], place)
    return data
