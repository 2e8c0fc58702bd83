"""A process that answers: what it is asked, what it raises, how it dies, and that it ends with whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fiducial import worker
from fiducial.errors import Failure, UserError
from fiducial.worker import Worker

TASKS = """
import os, signal, sys, time
from fiducial.errors import UserError

def count(task):
    print("chatter")
    number = task["from"]
    while True:
        number += yield {"number": number, "pid": os.getpid(), "limit": os.environ.get("LIMIT")}

def once(task):
    yield task

def fail(task):
    if task == "user":
        raise UserError("/a/b.png", "damaged; export it again")
    if task == "bug":
        raise MemoryError("no room for 7 bytes")
    if task == "missing":
        import no_such_package
    if task == "killed":
        print("last words", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "exit":
        sys.exit("I give up")
    yield "first"
    if task == "late":
        time.sleep(600)
    raise UserError("not twice")
"""


@pytest.fixture(autouse=True)
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "worker_tasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(str(tmp_path))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_answers_until_it_is_left() -> None:
    with Worker("worker_tasks:count", {"from": 3}, environment={"LIMIT": "2"}) as work:
        pid = work.first["pid"]
        assert work.first == {"number": 3, "pid": pid, "limit": "2"}
        assert [work.ask(2)["number"], work.ask(5, 60)["number"]] == [5, 10]
        assert work.said() == ["chatter"], "what is printed is no answer"
        assert is_alive(pid)
    assert not is_alive(pid)
    assert worker.call("worker_tasks:once", [1, None, "ä"]) == [1, None, "ä"]


def test_a_function_that_returns_has_no_further_answer() -> None:
    with Worker("worker_tasks:once", 1) as work:
        assert work.ask(2) is None
        assert work.wait(30)


@pytest.mark.parametrize(
    ("task", "kind", "words"),
    [
        ("user", UserError, "/a/b.png: damaged; export it again"),
        ("bug", Failure, "MemoryError: no room for 7 bytes"),
        ("missing", ModuleNotFoundError, "No module named 'no_such_package'"),
        ("killed", Failure, "killed by SIGKILL (out of memory?)"),
        ("exit", Failure, "I give up"),
    ],
)
def test_what_went_wrong_comes_out_as_it_was(task: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as caught, Worker("worker_tasks:fail", task):
        pass
    assert (type(caught.value), str(caught.value)) == (kind, words)


def test_a_later_error_and_a_missing_function() -> None:
    with Worker("worker_tasks:fail", "") as work:
        assert work.first == "first"
        with pytest.raises(UserError, match="not twice"):
            work.ask(1)
        with pytest.raises(Failure):
            work.ask(1)
    with pytest.raises(Failure, match="AttributeError"):
        worker.call("worker_tasks:nothing", None)


def test_what_hangs_is_ended() -> None:
    with Worker("worker_tasks:fail", "late") as work:
        began = time.monotonic()
        with pytest.raises(Failure, match=r"no answer within 0\.3 seconds"):
            work.ask(1, seconds=0.3)
        assert work.wait(0)
        assert time.monotonic() - began < 30


def test_it_ends_with_whoever_started_it(tmp_path: Path) -> None:
    """Killed at once, and in the middle of its work."""
    code = (
        "import sys, time; from fiducial.worker import Worker\n"
        "work = Worker('worker_tasks:count', {'from': 0}).__enter__()\n"
        "print(work.first['pid'], flush=True); time.sleep(600)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(tmp_path)])}
    starter = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert starter.stdout is not None
    pid = int(starter.stdout.readline())
    starter.send_signal(signal.SIGKILL)
    starter.wait(30)
    deadline = time.monotonic() + 30
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(pid)


def test_a_log_holds_what_it_printed_after_what_was_there(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("before\n")
    with pytest.raises(Failure, match="SIGKILL"), Worker("worker_tasks:fail", "killed", log=log):
        pass
    assert log.read_text().splitlines() == ["before", "last words"]


def test_the_current_folder_offers_no_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file there must not be run because it is called as one of ours or of a library's."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "json.py").write_text("raise SystemExit('the current folder was run')")
    monkeypatch.chdir(tmp_path / "here")
    assert worker.call("worker_tasks:once", 7) == 7
