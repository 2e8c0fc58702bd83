"""Runs a function on many hostile inputs in a process with limits of memory and time, and says how each ended.

    outcomes = limits.run("hostile.test_annotations:read_one", paths)
    assert not limits.faults(outcomes), limits.table(outcomes)

`command` does the same for one call of the command line. The function is named, `module:name`, since it is called in another process: `name(value)` with a value that JSON can hold.
What it returns is kept as what was said; a UserError is a refusal; anything else that it raises is a fault."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
FINE = ("answered", "refused")
WALL_FACTOR = 4  # of the limit of computing, on the clock
LONGEST_LINE = 1500  # characters: more is no line for a person


@dataclass(frozen=True)
class Outcome:
    value: Any  # the input
    kind: str  # answered, refused, exception, hang, memory, died
    said: str = ""
    seconds: float = 0.0


def run(
    function: str, values: Sequence[Any], *, seconds: float = 10, megabytes: int = 1024, warm: Sequence[Any] = ()
) -> list[Outcome]:
    """Calls `function` with each value in one child process, a new one after a hang or a death.

    `megabytes` is what may be allocated above what the process has after its imports and calls with the values of `warm`. A call that computes for more than `seconds` is interrupted by an alarm. One that takes `WALL_FACTOR` times as
    many on the clock, which others on the machine may slow down, has its process killed (a loop inside a library, or a
    wait without end)."""
    outcomes: list[Outcome] = []
    while len(outcomes) < len(values):
        outcomes += _one_process(function, values[len(outcomes) :], seconds, megabytes, warm)
    return outcomes


def command(*words: object, folder: Path, seconds: float = 60, megabytes: int | None = None) -> Outcome:
    """Obeys `fiducial WORDS` in `folder`: exit 0 is an answer, 2 a refusal whose line is the last on stderr; else a fault.

    `megabytes` limits all that the process may allocate, libraries included; without it only the time is limited."""

    def limit() -> None:
        if megabytes is not None:
            resource.setrlimit(resource.RLIMIT_AS, (megabytes * 2**20,) * 2)

    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    begun = time.monotonic()
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "fiducial.cli", *map(str, words)],
            check=False,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            preexec_fn=limit,
        )
    except subprocess.TimeoutExpired:
        return Outcome(words, "hang", seconds=seconds)
    kind = {0: "answered", 2: "refused"}.get(ended.returncode, "died" if ended.returncode < 0 else "exception")
    last = next(reversed(ended.stderr.strip().splitlines()), "")
    said = ended.stderr if "Traceback" in ended.stderr else last
    return Outcome(words, kind, said, time.monotonic() - begun)


def faults(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Picks the outcomes that no input may have: no answer and no refusal, or one that isn't one line."""
    return [outcome for outcome in outcomes if outcome.kind not in FINE or not is_line(outcome.said, outcome.kind)]


def is_line(said: str, kind: str = "refused") -> bool:
    """Says whether a refusal is one line of decent length without control characters. An answer may say nothing."""
    if kind == "answered" and not said:
        return True
    return 0 < len(said) <= LONGEST_LINE and said.isprintable() and "Traceback" not in said


def table(outcomes: Sequence[Outcome], shown: int = 12) -> str:
    """Counts the kinds, and shows the first faults: for messages."""
    counts = ", ".join(f"{kind} {count}" for kind, count in Counter(item.kind for item in outcomes).most_common())
    slowest = max((item.seconds for item in outcomes), default=0)
    lines = [f"{item.kind} {item.seconds:.1f} s: {item.value!s:.200}: {item.said[:300]!r}" for item in faults(outcomes)]
    return "\n".join([f"{len(outcomes)} inputs: {counts}; slowest {slowest:.1f} s", *lines[:shown]])


def _one_process(
    function: str, values: Sequence[Any], seconds: float, megabytes: int, warm: Sequence[Any]
) -> Iterator[Outcome]:
    """The outcomes of the first values, until the process ends."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    # Each thread that ever ran holds 64 MB of addresses else, which count although nothing is there.
    environment = {**os.environ, "PYTHONPATH": path, "MALLOC_ARENA_MAX": "2"}
    command = [sys.executable, str(Path(__file__)), function, str(seconds), str(megabytes), json.dumps(list(warm))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        selector = selectors.DefaultSelector()
        selector.register(child.stdout, selectors.EVENT_READ)
        if not child.stdout.readline():
            raise RuntimeError(f"{function}: its process ended before its first input; see its stderr")
        for value in values:
            begun = time.monotonic()
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(json.dumps(value) + "\n")
                child.stdin.flush()
            answer = child.stdout.readline() if selector.select(WALL_FACTOR * seconds + 3) else None
            took = time.monotonic() - begun
            if answer:
                yield Outcome(value, **json.loads(answer), seconds=took)
                continue
            child.kill()
            code = child.wait()
            yield Outcome(value, "hang" if answer is None else "died", f"exit code {code}", took)
            return
        child.stdin.close()
        child.wait()


class _Hang(BaseException):
    pass


def _interrupt(*_: object) -> None:
    raise _Hang


def _outcome(function: Any, value: Any, seconds: float) -> tuple[str, str]:
    from fiducial.errors import UserError

    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            said = function(value)
        library = [item for item in warned if issubclass(item.category, RuntimeWarning)]
        return ("exception", f"RuntimeWarning: {library[0].message}") if library else ("answered", str(said or ""))
    except UserError as error:
        return "refused", str(error)
    except MemoryError as error:
        return "memory", repr(error)
    except _Hang:
        return "hang", "interrupted"
    except Exception as error:
        return "exception", f"{type(error).__name__}: {error}"[:2000]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _serve(name: str, seconds: float, megabytes: int, warm: Sequence[Any]) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the function prints is no answer
    module, _, function_name = name.partition(":")
    function = getattr(importlib.import_module(module), function_name)
    signal.signal(signal.SIGPROF, _interrupt)
    for value in warm:
        _outcome(function, value, 600)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + megabytes * 2**20,) * 2)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        kind, said = _outcome(function, json.loads(line), seconds)
        print(json.dumps({"kind": kind, "said": said}), file=answers, flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4]))
