"""Python processes that begin with the libraries in memory: copies of one that has imported them, and nothing of ours.

    done = warmed.run("import fiducial; print(fiducial.__file__)", cwd=folder)

is `subprocess.run([sys.executable, "-c", CODE])` without the seconds that torch, timm and Lightning take to import. For
tests of what a process of its own does with our code, files and settings; not for those of what is imported when, of
what a start costs, or of a command line as the system starts it."""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "timm", "lightning.pytorch", "onnx", "onnxscript", "cv2")
SECONDS = 600  # that a copy may take
SERVE = f"import sys; sys.path[:1] = [{str(Path(__file__).parent)!r}]; import warmed; warmed.serve()"


@dataclass(frozen=True)
class Process:
    """One copy at work. Whoever has its pid may send it signals."""

    pid: int
    folder: Path  # of its stdin, stdout and stderr

    def wait(self) -> subprocess.CompletedProcess[str]:
        """Waits for its end, and gives how it ended."""
        code = _asked({"pid": self.pid})
        out, err = (self.folder.joinpath(name).read_text() for name in ("out", "err"))
        return subprocess.CompletedProcess([], code, out, err)


def start(
    code: str,
    *arguments: object,
    text: str = "",
    cwd: Path | None = None,
    path: Sequence[Path] = (),
    environment: Mapping[str, str] | None = None,
) -> Process:
    """Begins a process that runs `code` with `arguments`.

    text: its stdin. cwd: a folder of its own, if not given. path: where it looks for modules first. environment: is put
    on top of this process's."""
    folder = Path(tempfile.mkdtemp())
    folder.joinpath("in").write_text(text)
    places = os.pathsep.join([*map(str, path), *filter(None, [os.environ.get("PYTHONPATH")])])
    order = {
        "code": code,
        "arguments": list(map(str, arguments)),
        "folder": str(folder),
        "cwd": str(cwd or folder),
        "environment": {**os.environ, "PYTHONPATH": places, **(environment or {})},
    }
    return Process(_asked(order), folder)


def run(code: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs `code` to its end. `options` as of `start`."""
    return start(code, *arguments, **options).wait()


_servers: list[subprocess.Popen[str]] = []  # one, from the first time on; it ends with this process


def _asked(question: Mapping[str, Any]) -> int:
    if not _servers:
        environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
        command, pipes = [sys.executable, "-c", SERVE], {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        _servers.append(subprocess.Popen(command, env=environment, text=True, **pipes))
    [server] = _servers
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps(question) + "\n")
    server.stdin.flush()
    return int(server.stdout.readline())


# ---------------------------------------------------------------------------------------- inside the process that forks


def serve() -> None:
    """Is the process that is copied."""
    for library in LIBRARIES:
        with contextlib.suppress(ImportError, RuntimeError):
            importlib.import_module(library)
    del sys.path[0]
    gc.collect()
    gc.freeze()
    questions, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    for line in questions:
        question = json.loads(line)
        answer = question.get("pid")
        if answer is None:
            answer = os.fork()
            if answer == 0:
                questions.close()
                answers.close()
                os._exit(_obeyed(question))  # without what C++ would do about threads that a copy does not have
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(answer, 0)[1])
        print(answer, file=answers, flush=True)


def _obeyed(order: Mapping[str, Any]) -> int:
    """Is a copy: runs its code to the end, as Python does, and gives its exit code."""
    signal.alarm(SECONDS)
    os.chdir(order["cwd"])
    for stream, (name, mode) in enumerate((("in", os.O_RDONLY), ("out", os.O_WRONLY), ("err", os.O_WRONLY))):
        file = os.open(Path(order["folder"]) / name, mode | os.O_CREAT, 0o644)
        os.dup2(file, stream)
        os.close(file)
    os.environ.clear()
    os.environ.update(order["environment"])
    tempfile.tempdir = None  # by the environment
    sys.path[:0] = filter(None, os.environ["PYTHONPATH"].split(os.pathsep))
    sys.argv = ["-c", *order["arguments"]]
    del sys.modules["warmed"]
    code = 0
    try:
        exec(compile(order["code"], "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        print(end.code if isinstance(end.code, str) else "", end="", file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads of the code
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code
