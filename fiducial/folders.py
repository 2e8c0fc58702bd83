"""One command at a time in an output folder: a lock that says who has it, and goes with its owner.

`.lock` in the folder holds who works there, and an advisory lock of the system (`flock`) on it ends with the process,
however that ends. Where the system's lock can't tell (Windows, file systems without, another host on some network file
systems), a thread renews the file's time, and a file that was not renewed for a minute belongs to nobody."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path

from fiducial.errors import UserError
from fiducial.files import command_line, unwritable
from fiducial.log import logger

NAME = ".lock"
RENEW_SECONDS = 10
STALE_SECONDS = 60

# The locks of the command that is being obeyed: what it calls may ask for them once more.
_own: ContextVar[frozenset[Path]] = ContextVar("_own", default=frozenset())


@dataclass(frozen=True)
class Owner:
    """Who works in a folder."""

    command: str
    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"`{self.command}` (process {self.pid} on {self.host}, since {self.since})"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keeps other commands out of an output folder, which is made where it is not there; the same command comes in again.

    Raises UserError that names the other one where another is at work there. Where its owner has died it is taken over,
    with a warning. At the end the lock is gone, and so is a folder that was made and into which nothing was written."""
    with _held(folder, folder / NAME):
        yield


@contextmanager
def alone_at(file: Path | None) -> Iterator[None]:
    """Keeps other commands from writing the same file, as `alone` does from a folder. None: there is none."""
    with nullcontext() if file is None else _held(file, file.parent / f".{file.name}{NAME}"):
        yield


@contextmanager
def _held(told: Path, lock: Path) -> Iterator[None]:
    place = lock.parent.resolve() / lock.name
    if place in _own.get():
        yield
        return
    made = _make(lock.parent)
    try:
        handle = _take(told, lock)
    except BaseException:
        _remove_empty(made)
        raise
    before, ended = _own.set(_own.get() | {place}), threading.Event()
    threading.Thread(target=_renew, args=(lock, ended), daemon=True).start()
    _open_here.add(handle)
    owner = os.getpid()
    try:
        yield
    finally:
        _own.reset(before)
        ended.set()
        if os.getpid() == owner:  # a fork that comes out here too has not worked there
            _release(lock, handle)
            _remove_empty(made)


def _take(told: Path, path: Path) -> int:
    """Opens the lock and writes who has it now: the open file, on which the system's lock is. `told`: what it is for."""
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise unwritable(told, error, UserError) from error
        try:
            is_sure = _flock(handle)
            other = _owner(handle)
            if is_sure is False or (other is not None and not _is_dead(path.parent, handle, other, bool(is_sure))):
                who = "another command" if other is None else str(other)
                raise UserError(told, f"{who} is at work there. Wait until it ends, end it, or choose another place")
            if not _is_still(path, handle):  # its owner ended in between, and took the file along
                os.close(handle)
                continue
            if other is not None:
                logger.warning(f"{told}: {other} ended there without a word; going on in its place")
            _write(handle)
        except OSError as error:
            os.close(handle)
            raise unwritable(told, error, UserError) from error
        except BaseException:
            os.close(handle)
            raise
        return handle


def _flock(handle: int) -> bool | None:
    """Asks the system for the lock: whether it is ours; None where the system has no such locks."""
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_dead(folder: Path, handle: int, owner: Owner, is_sure: bool) -> bool:
    """Whether the one who wrote the file is gone. Times are those of the folder's file system, not of this clock."""
    if is_sure and owner.host == socket.gethostname():
        return True
    with tempfile.TemporaryFile(dir=folder) as now:
        return os.fstat(now.fileno()).st_mtime - os.fstat(handle).st_mtime > STALE_SECONDS


def _owner(handle: int) -> Owner | None:
    """Reads who has the lock; None where nobody wrote."""
    os.lseek(handle, 0, os.SEEK_SET)
    try:
        return Owner(**json.loads(os.read(handle, 2**16)))
    except (ValueError, TypeError):
        return None


def _write(handle: int) -> None:
    """Writes who has the lock: this process."""
    command = command_line.get() or "a Python program"
    owner = Owner(command, os.getpid(), socket.gethostname(), time.strftime("%Y-%m-%d %H:%M:%S"))
    os.ftruncate(handle, 0)
    os.lseek(handle, 0, os.SEEK_SET)
    os.write(handle, json.dumps(asdict(owner)).encode())


def _is_still(path: Path, handle: int) -> bool:
    """Whether the name still means the file that was opened."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def _renew(path: Path, ended: threading.Event) -> None:
    while not ended.wait(RENEW_SECONDS):
        with contextlib.suppress(OSError):  # the folder may have vanished, which those will say who write there
            os.utime(path)


def _release(path: Path, handle: int) -> None:
    """Removes the file, unless it is another's by now, and then gives the lock up."""
    _open_here.discard(handle)
    is_ours = _is_still(path, handle)
    if os.name == "nt":  # where an open file can't be removed
        os.close(handle)
    with contextlib.suppress(OSError):
        if is_ours:
            path.unlink()
    if os.name != "nt":
        os.close(handle)


def _make(folder: Path) -> list[Path]:
    """Makes a folder: those that were not there, the innermost first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error, UserError) from error
    return missing


def _remove_empty(folders: list[Path]) -> None:
    with contextlib.suppress(OSError):  # not empty
        for folder in folders:
            folder.rmdir()


# A fork, such as a loader process, must not keep the lock of a parent that was killed.
_open_here: set[int] = set()


def _forget() -> None:
    for handle in _open_here:
        with contextlib.suppress(OSError):
            os.close(handle)
    _open_here.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
