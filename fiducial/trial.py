"""Files from strangers are tried once in a process that may crash, hang or run out of memory without harm.

A model is a program for its runtime, and a pickle one for Python: what they will allocate and do, only running them
tells. What passed is known by its digest afterwards (an empty file in `folder`), so a file costs this once; what this
package made and compared itself is known from the start. It protects from damaged files and from strangers', not from
one that was written to behave well until it sees a certain image."""

from __future__ import annotations

import hashlib
import json
import os
import select
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from fiducial import worker
from fiducial.errors import Failure, UserError, of_json, to_json
from fiducial.version import __version__
from fiducial.worker import Limits

OFF = "FIDUCIAL_TRIAL"  # "off" in the environment: all files are trusted
MEMORY_BYTES, MEMORY_TIMES = 600 << 20, 8  # that a file may need, and times its own size on top
CPU_SECONDS, BYTES_A_SECOND = 4, 20 << 20  # that it may take, and one more for so many bytes of it
WALL_FACTOR = 15  # of these on the clock, where other programs want the machine too
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}

Task = Callable[[Any], Iterator[Any]]


def passes(function: str, task: Any, files: Sequence[Path], start_seconds: int = 0) -> None:
    """Runs the generator function "module:function" up to its first answer, in a process with limits by the size of
    `files`, and `start_seconds` of CPU that its library takes to start on top; nothing where they are known. Raises
    UserError that names the first of them where that fails."""
    marker = _marker(files)
    if marker is None:
        return
    limits = limits_of(files)
    limits = replace(limits, cpu_seconds=limits.cpu_seconds + start_seconds)
    with _explained(files[0], limits):
        worker.call(function, task, WALL_FACTOR * limits.cpu_seconds, limits=limits, environment=ONE_THREAD)
    _keep(marker)


def passes_in_a_fork(function: Task, task: Any, files: Sequence[Path]) -> None:
    """Does the same in a copy of this process, for what takes seconds to import; `function` must start no threads."""
    marker = _marker(files)
    if marker is None:
        return
    limits = limits_of(files)
    with _explained(files[0], limits):
        if hasattr(os, "fork"):
            _forked(function, task, limits)
        else:
            name = f"{function.__module__}:{function.__name__}"
            worker.call(name, task, WALL_FACTOR * limits.cpu_seconds, limits=limits, environment=ONE_THREAD)
    _keep(marker)


def remember(files: Sequence[Path]) -> None:
    """Makes files known that this package has made and run in a process of their own."""
    if (marker := _marker(files)) is not None:
        _keep(marker)


def limits_of(files: Sequence[Path]) -> Limits:
    """What reading and running files of this size may take."""
    size = sum(file.stat().st_size for file in files)
    return Limits(MEMORY_BYTES + MEMORY_TIMES * size, CPU_SECONDS + size // BYTES_A_SECOND)


def folder() -> Path | None:
    """Where known files are written down: $XDG_CACHE_HOME/fiducial/tried, or what is usual; None without a home."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    with suppress(RuntimeError):
        return (Path(base) if base else Path.home() / ".cache") / "fiducial" / "tried"
    return None


def _marker(files: Sequence[Path]) -> Path | None:
    """The file whose being there makes `files` known; None where they need no trial."""
    if os.environ.get(OFF, "").lower() in ("off", "0", "no"):
        return None
    total = hashlib.sha256(__version__.encode())
    for path in filter(Path.is_file, files):  # what is none, its reader says
        try:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    total.update(block)
        except OSError as error:
            raise UserError(path, f"can't be read: {error.strerror}") from error
        total.update(b"|")
    marker = (folder() or Path(os.devnull)) / total.hexdigest()
    return None if marker.exists() else marker


def _keep(marker: Path) -> None:
    with suppress(OSError):  # a cache that can't be written costs time alone
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()


@contextmanager
def _explained(file: Path, limits: Limits) -> Iterator[None]:
    """Says of a trial's failure what it means for the file."""
    try:
        yield
    except UserError as error:
        if not is_about_memory(error.what):
            raise
        raise UserError(file, _meaning(error.what, limits)) from error
    except Failure as error:
        raise UserError(file, _meaning(str(error), limits)) from error


def _meaning(said: str, limits: Limits) -> str:
    trust = f"If you trust it, set {OFF}=off"
    if any(word in said for word in ("SIGXCPU", "no answer within")):
        return f"takes more than {limits.cpu_seconds} s to read and run once. {trust}"
    if is_about_memory(said) or "SIGKILL" in said:
        return f"needs more than {limits.memory_bytes >> 20} MB to read and run once. {trust}"
    if said.startswith("killed by"):
        return f"damaged: what reads it crashed ({said.removeprefix('killed by ')}). Get or export it anew"
    return f"damaged, or no model that runs: {said}. Get or export it anew"


def is_about_memory(said: str) -> bool:
    """Tells by an error's words whether it is for want of memory: libraries have no common kind of it."""
    return any(word in said.lower() for word in ("memoryerror", "bad_alloc", "bad allocation", "allocate"))


@contextmanager
def bounded(file: Path, size: int) -> Iterator[None]:
    """Lets this process have no more memory than a file of `size` bytes may need, for a moment: UserError that names
    `file` where it wants more. On Linux; elsewhere what is wanted is had."""
    limits = Limits(MEMORY_BYTES + MEMORY_TIMES * size, 0)
    with limits.of_memory():
        try:
            yield
        except UserError:
            raise
        except (MemoryError, RuntimeError) as error:  # RuntimeError: torch's own
            if not (isinstance(error, MemoryError) or is_about_memory(str(error))):
                raise
            raise UserError(
                file, f"describes a network of more than {limits.memory_bytes >> 20} MB: damaged"
            ) from error


def _forked(function: Task, task: Any, limits: Limits) -> None:
    """Raises what `function` raises, or a Failure for a crash or lateness, as `worker.call` does."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, none of which the copy needs
        child = os.fork()
    if child == 0:
        _answer_and_exit(function, task, limits, writing)
    os.close(writing)
    ready, _, _ = select.select([reading], [], [], WALL_FACTOR * limits.cpu_seconds)
    if not ready:
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not ready:
        raise Failure("no answer within the time")
    if not said:
        raise Failure(worker.how_it_ended(status, []))
    error = json.loads(said)
    if error is not None:
        raise of_json(error)


def _answer_and_exit(function: Task, task: Any, limits: Limits, writing: int) -> None:
    """Is the copy: an error's description, or null, and the end without any of the parent's clean-up."""
    error = None
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        limits.apply()
        next(function(task))
    except BaseException as failure:
        error = to_json(failure)
    finally:
        os.write(writing, json.dumps(error).encode())
        os._exit(0)
