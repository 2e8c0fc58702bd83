"""One command at a time in an output folder: against processes that are at work, were killed, or are elsewhere."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_line import Run

from fiducial import files, folders
from fiducial.errors import UserError

# Works in a folder until it is told to end; with "fork" a child of it goes on after it.
WORKER = """
import os, sys, time
from pathlib import Path
from fiducial import files, folders
files.command_line.set("fiducial fit data --out run")
with folders.alone(Path(sys.argv[1])):
    if sys.argv[2] == "fork" and os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(60)
        os._exit(0)
    if sys.argv[2] != "fork":
        print("at work", flush=True)
    sys.stdin.read()
"""


@contextmanager
def other(folder: Path, how: str = "stay") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process at work in a folder, and what it said when it began."""
    command = [sys.executable, "-c", WORKER, str(folder), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def owned_by(folder: Path, host: str, seconds_ago: float) -> Path:
    """A lock of a process elsewhere, renewed some seconds ago."""
    folder.mkdir()
    lock = folder / folders.NAME
    owner = {"command": "fiducial fit", "pid": os.getpid(), "host": host, "since": "2026-01-02 03:04:05"}
    lock.write_text(json.dumps(owner))
    time = lock.stat().st_mtime - seconds_ago
    os.utime(lock, (time, time))
    return lock


def test_a_folder_that_is_taken_is_refused_in_one_line_that_says_by_whom(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with other(run) as (process, _):
        with pytest.raises(UserError) as refused, folders.alone(run):
            pass
        assert str(refused.value).startswith(f"{run}: `fiducial fit data --out run` (process {process.pid} on ")
        assert "since 20" in str(refused.value)
        assert "\n" not in str(refused.value)
        process.communicate("")  # it ends well
        assert not run.exists()
    with folders.alone(run):
        assert run.is_dir()


@pytest.mark.parametrize("how", ["stay", "fork"])
def test_a_killed_owner_s_folder_is_taken_over_and_that_is_said(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where its loader processes are still there: a fork has its parent's lock."""
    with other(tmp_path / "run", how) as (process, said):
        process.kill()
        process.wait()
        try:
            with folders.alone(tmp_path / "run"):
                assert [record.getMessage() for record in caplog.records] == [
                    f"{tmp_path / 'run'}: `fiducial fit data --out run` (process {process.pid} on "
                    f"{folders.socket.gethostname()}, since {_since(caplog)}) ended there without a word; going on in its "
                    "place"
                ]
        finally:
            if how == "fork":
                os.kill(int(said), signal.SIGKILL)


def _since(caplog: pytest.LogCaptureFixture) -> str:
    return caplog.records[0].getMessage().partition("since ")[2].partition(")")[0]


def test_another_host_is_believed_for_a_minute_after_its_last_sign(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    owned_by(tmp_path / "fresh", "elsewhere", folders.STALE_SECONDS - 20)
    with pytest.raises(UserError, match="on elsewhere, since 2026-01-02 03:04:05"), folders.alone(tmp_path / "fresh"):
        pass
    owned_by(tmp_path / "stale", "elsewhere", folders.STALE_SECONDS + 20)
    with folders.alone(tmp_path / "stale"):
        assert "ended there without a word" in caplog.text
    assert not (tmp_path / "stale" / folders.NAME).exists()


def test_without_locks_of_the_system_the_last_sign_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, or a file system without: a process id may be another's by now."""
    monkeypatch.setattr(folders, "_flock", lambda handle: None)
    with folders.alone(tmp_path / "run"):
        taken = (tmp_path / "run" / folders.NAME).read_bytes()
        assert _refused_in_a_thread(tmp_path / "run")
        assert (tmp_path / "run" / folders.NAME).read_bytes() == taken
    owned_by(tmp_path / "old", folders.socket.gethostname(), folders.STALE_SECONDS + 20)
    with folders.alone(tmp_path / "old"):
        pass


def test_the_owner_gives_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "RENEW_SECONDS", 0.01)
    with folders.alone(tmp_path / "run"):
        lock = tmp_path / "run" / folders.NAME
        os.utime(lock, (1, 1))
        for _ in range(500):
            if lock.stat().st_mtime > 1:
                break
            threading.Event().wait(0.01)
        assert lock.stat().st_mtime > 1, "the lock's time was not renewed"


def _refused_in_a_thread(folder: Path) -> bool:
    refused = []

    def work() -> None:
        try:
            with folders.alone(folder):
                pass
        except UserError:
            refused.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return bool(refused)


def test_the_same_command_comes_in_again_another_thread_does_not(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with folders.alone(tmp_path / "run"):
        with folders.alone(tmp_path / "link"):
            pass
        assert (tmp_path / "run" / folders.NAME).exists()
        assert _refused_in_a_thread(tmp_path / "run")
    assert not _refused_in_a_thread(tmp_path / "run")


@pytest.mark.parametrize("words", ["evaluate MODEL DATA --report PAGE", "profile MODEL --out PAGE"])
def test_a_page_is_written_by_one_command(
    words: str, blobs: Path, blob_model: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may write other pages beside it. Where it can't be written, nothing is measured first."""
    page = tmp_path / "page.html"
    places = {"DATA": blobs, "MODEL": blob_model, "PAGE": page}
    arguments = [places.get(word, word) for word in words.split()]
    with folders.alone_at(tmp_path / "other.html"), folders.alone_at(page):
        refused = []
        thread = threading.Thread(target=lambda: refused.append(run(*arguments)))
        thread.start()
        thread.join()
        [(code, printed, said)] = refused
    assert (code, printed) == (2, "")
    assert said.splitlines()[-1].startswith(f"fiducial: {page}: `a Python program` (process {os.getpid()} on ")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    places["PAGE"] = tmp_path / "file" / "page.html"
    code, printed, said = run(*(places.get(word, word) for word in words.split()))
    assert (code, printed) == (2, "")
    assert re.search(r"file: can't be written: .*; choose another place\n$", said)


def test_nothing_is_left_but_what_was_written(tmp_path: Path) -> None:
    with folders.alone(tmp_path / "a" / "b"):
        pass
    assert list(tmp_path.iterdir()) == []
    with folders.alone(tmp_path / "a" / "b"):
        files.write_text(tmp_path / "a" / "b" / "file.txt", "text")
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "b", "file.txt"]
    with folders.alone(tmp_path / "a" / "b"):
        pass
    assert (tmp_path / "a" / "b" / "file.txt").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"pid": 1}', b"\xff" * 100])
def test_an_empty_or_broken_lock_is_nobody_s(tmp_path: Path, content: bytes) -> None:
    (tmp_path / folders.NAME).write_bytes(content)
    with folders.alone(tmp_path):
        assert b'"pid"' in (tmp_path / folders.NAME).read_bytes() != content, "it is this process's now"


def test_a_folder_that_can_t_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/run")):
        expected = pytest.raises(UserError, match=r"can't be written: [A-Z][\w ]+; choose another place")
        with expected as refused, folders.alone(place):
            pass
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "words",
    [
        "fit DATA --out OUT --epochs 1",
        "fit DATA --out OUT --method motion --epochs 1",
        "distill DATA --teacher MODEL --student test_efficientnet --out OUT --epochs 1",
        "distill DATA --teacher MODEL --student test_efficientnet --out OUT --study --seeds 1",
        "compare DATA --out OUT --methods deeppose --epochs 1",
        "export MODEL --out OUT",
        "predict MODEL IMAGE --out OUT",
        "demo --out OUT",
    ],
)
def test_every_command_with_an_output_folder_is_refused_where_another_works(
    words: str, blobs: Path, blob_model: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing there is touched."""
    monkeypatch.setattr("fiducial.training.demo.TRAIN", 4)
    out = tmp_path / "out"
    places = {"DATA": blobs, "MODEL": blob_model, "OUT": out, "IMAGE": blobs / "images" / "test_0.png"}
    with other(out):
        before = [(path.name, path.read_bytes()) for path in out.iterdir()]
        code, printed, said = run(*(places.get(word, word) for word in words.split()))
        lines = said.splitlines()
        assert (code, printed) == (2, "")
        assert lines[-1].startswith(f"fiducial: {out}: `fiducial fit data --out run` (process "), said
        assert [(path.name, path.read_bytes()) for path in out.iterdir()] == before
