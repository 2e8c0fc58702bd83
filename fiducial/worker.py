"""A process that answers: it is given a task, is asked in lines of JSON, and ends with whoever started it.

    with Worker("my_module:count", {"from": 3}) as worker:
        worker.first           # what `count` says before it is asked: 3
        worker.ask("next", 5)  # its answer, which must come within 5 seconds

runs the generator `my_module.count({"from": 3})` in a process of its own: `question = yield answer`, both plain JSON. An
error comes out as the same kind of error (`errors.to_json`), a crash as a Failure that names the signal; the memory
that the work took is free again when the process has ended. What libraries print goes to stderr, not into answers."""

from __future__ import annotations

import importlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fiducial.errors import Failure, of_json, to_json

PATIENCE_SECONDS = 3600.0  # for an answer: what hangs must not make us hang
Ended = object()  # in the queue of answers: there will be no more
# Looks for modules where this process does: not in the current folder, which Python puts first, unless it does too.
START = "import sys; del sys.path[0]; sys.path += [path for path in {path!r} if path not in sys.path]; from {module} import main; main()"


@dataclass(frozen=True)
class Limits:
    """What a process may take on top of what it has; it is ended where it takes more. Windows and macOS have no such
    limits of memory."""

    memory_bytes: int
    cpu_seconds: int

    def apply(self) -> None:
        """Limits this process from now on. No dump of its memory is written where it crashes."""
        with suppress(ImportError):  # Windows
            import resource

            spent = resource.getrusage(resource.RUSAGE_SELF)
            seconds = self.cpu_seconds + int(spent.ru_utime + spent.ru_stime) + 1
            _lower(resource.RLIMIT_CPU, seconds)
            _lower(resource.RLIMIT_CORE, 0)
            _lower(resource.RLIMIT_DATA, _data_bytes() + self.memory_bytes)

    @contextmanager
    def of_memory(self) -> Iterator[None]:
        """Limits the memory of this process for a moment."""
        try:
            import resource
        except ImportError:  # Windows
            yield
            return
        before = resource.getrlimit(resource.RLIMIT_DATA)
        _lower(resource.RLIMIT_DATA, _data_bytes() + self.memory_bytes)
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, before)


def _data_bytes() -> int:
    """How much memory of its own this process has, by Linux's count, which its limit is held against."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[5]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


def _lower(kind: int, limit: int) -> None:
    import resource

    now, most = resource.getrlimit(kind)
    if now == resource.RLIM_INFINITY or limit < now:
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (limit, most))


class Worker:
    """A generator function, "module:function", at work in a process of its own. Started by entering, ended by leaving.

    `environment` is put on top of this process's. `log`: a file that what it prints is appended to. `detached`: Ctrl-C
    reaches it by `interrupt` alone. `limits` hold from its start."""

    def __init__(
        self,
        function: str,
        task: Any,
        *,
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
        detached: bool = False,
        limits: Limits | None = None,
    ) -> None:
        self.first: Any = None
        self._log: IO[bytes] = tempfile.TemporaryFile("w+b") if log is None else log.open("a+b")  # noqa: SIM115
        self._log_start = self._log.seek(0, os.SEEK_END)
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        limited = [] if limits is None else [str(limits.memory_bytes), str(limits.cpu_seconds)]
        self._process = subprocess.Popen(
            [sys.executable, "-c", START.format(path=sys.path, module=__name__), function, *limited],
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=detached,
        )
        threading.Thread(target=self._listen, daemon=True).start()
        self.send(task)

    def __enter__(self) -> Worker:
        try:
            self.first = self.answer()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def ask(self, question: Any, seconds: float = PATIENCE_SECONDS) -> Any:
        """Sends a question and waits for its answer, at most `seconds`. Raises what the worker raised, or Failure where
        it crashed or is late; it has ended then."""
        self.send(question)
        return self.answer(seconds)

    def answer(self, seconds: float = PATIENCE_SECONDS) -> Any:
        """Waits for the next answer; None where the function has returned. Raises as `ask` does."""
        try:
            line = self._answers.get(timeout=seconds)
        except queue.Empty:
            self.end()
            raise Failure(f"no answer within {seconds:g} seconds") from None
        if line is Ended:
            code = self._process.wait()
            if code == 0:
                return None
            raise Failure(how_it_ended(code, self.said()))
        message = json.loads(line)
        if "error" in message:
            self._process.wait()
            raise of_json(message["error"])
        return message["answer"]

    def has_answered(self) -> bool:
        """Tells whether `answer` would give or raise something at once."""
        return not self._answers.empty()

    def said(self) -> list[str]:
        """Reads the lines that the process has printed so far, without empty ones."""
        self._log.seek(self._log_start)
        lines = self._log.read().decode("utf-8", "replace").splitlines()
        return [line.strip() for line in lines if line.strip()]

    def interrupt(self) -> None:
        """Sends Ctrl-C."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)

    def wait(self, seconds: float) -> bool:
        """Waits for its end; False where it is still going after `seconds`."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self) -> None:
        """Kills the process if it is still there, and gives everything back."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._log):
            with suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]

    def send(self, message: Any) -> None:
        """Sends a question without waiting for its answer, which `answer` gives."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended: there is no answer either, and that says why
            self._process.stdin.write(json.dumps(message, allow_nan=False).encode() + b"\n")
            self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._answers.put(line)
        self._answers.put(Ended)


def call(function: str, task: Any, seconds: float = PATIENCE_SECONDS, **options: Any) -> Any:
    """Runs a generator function in a process of its own up to its first answer, and gives that. `options` as of
    `Worker`."""
    worker = Worker(function, task, **options)
    try:
        return worker.answer(seconds)
    finally:
        worker.end()


def how_it_ended(code: int, lines: list[str]) -> str:
    """Says in one line why a process has ended: its last words, or the signal that killed it."""
    if code < 0:  # its last words are not the reason then
        name = signal.Signals(-code).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return lines[-1] if lines else f"it ended with code {code}"


def main() -> None:
    """Is the process: the function's name is the argument, the task the first line of stdin."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it asks the net
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # answers alone are in the pipe, whatever libraries print
    questions: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_hear, args=(questions,), daemon=True).start()
    module, _, name = sys.argv[1].partition(":")
    limits, sys.argv = sys.argv[2:], sys.argv[:1]
    if limits:
        Limits(*map(int, limits)).apply()
    try:
        generator = getattr(importlib.import_module(module), name)(json.loads(questions.get()))
        answer = next(generator)
        while True:
            print(json.dumps({"answer": answer}, allow_nan=False), file=answers, flush=True)
            answer = generator.send(json.loads(questions.get()))
    except StopIteration:
        return
    except Exception as error:
        if not isinstance(error, Failure):
            traceback.print_exc()
        print(json.dumps({"error": to_json(error)}), file=answers, flush=True)
        sys.exit(1)


def _hear(questions: queue.SimpleQueue[str]) -> None:
    """Hands on the lines of stdin. Its end is that of whoever asked, however that came: then this process ends too, so
    that no work goes on that nobody waits for. Files are renamed into place, so it may be killed at any time."""
    rest = b""
    while block := os.read(0, 1 << 16):  # not sys.stdin: the interpreter can't end while a thread holds its lock
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            questions.put(line.decode())
    time.sleep(0.1)  # one that is about to end by itself may
    os.kill(os.getpid(), signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
