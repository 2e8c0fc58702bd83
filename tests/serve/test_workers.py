"""Several processes behind one port: all answer, one that is killed is replaced, a signal ends them all."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import yaml

pytest.importorskip("uvicorn")

from serve.served import Served, grey, until

from fiducial.serve.limits import Limits

COMMAND = "from fiducial.cli import main; main()"

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")


def children(parent: int) -> list[int]:
    """Serving processes that a process has started; multiprocessing's own one that watches for leaks left out."""
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            state = (folder / "stat").read_text().rpartition(")")[2].split()
            line = (folder / "cmdline").read_bytes()
            if int(state[1]) == parent and state[0] != "Z" and b"spawn_main" in line:
                found.append(int(folder.name))
    return found


@contextmanager
def serving(model: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], Served]]:
    command = [sys.executable, "-c", COMMAND, "serve", str(model), "--port", "0", "--workers", "2", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"by 2 processes on http://127\.0\.0\.1:(\d+)/", line)
        assert found is not None, line
        yield process, Served(int(found[1]))
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def test_both_answer_one_is_replaced_and_a_signal_ends_them(blob_onnx: Path) -> None:
    with serving(blob_onnx) as (process, server):
        first = children(process.pid)
        assert len(first) == 2
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda level: server.post("/predict", grey(level)), range(40, 80)))
        assert {reply.status for reply in replies} == {200}
        os.kill(first[0], signal.SIGKILL)
        until(lambda: len(children(process.pid)) == 2 and first[0] not in children(process.pid))
        assert server.post("/predict", grey(50)).status == 200, "the other one went on"
        both = children(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert not [pid for pid in both if Path(f"/proc/{pid}").exists()]
        assert process.stderr is not None
        said = process.stderr.read()
        assert re.search(rf"process {first[0]} of the server ended by itself \(code -9\); another is started", said)


def test_they_end_with_the_one_that_started_them(blob_onnx: Path) -> None:
    with serving(blob_onnx) as (process, _):
        both = children(process.pid)
        process.kill()
        process.wait()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in both))


def test_a_model_that_can_not_be_loaded_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    command = [sys.executable, "-c", COMMAND, "serve", str(tmp_path / "model.onnx"), "--port", "0", "--workers", "2"]
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert "no process could begin to serve it" in done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - started < 30


def test_limits_are_shared() -> None:
    shared = Limits(max_in_flight=7, max_connections=500).shared_by(2)
    assert (shared.max_in_flight, shared.max_connections, shared.max_boxes) == (4, 250, Limits().max_boxes)


def test_the_kubernetes_example_starts_answers_its_probes_and_ends(blob_onnx: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "serve.md").read_text()
    deployment = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])
    pod = deployment["spec"]["template"]
    assert deployment["spec"]["selector"]["matchLabels"] == pod["metadata"]["labels"]
    container = pod["spec"]["containers"][0]
    words: list[str] = container["command"]
    seconds = float(words[words.index("--timeout") + 1])
    assert pod["spec"]["terminationGracePeriodSeconds"] > seconds
    assert words[:2] == ["fiducial", "serve"]
    port = words[words.index("--port") + 1]
    probes = [container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")]
    assert {str(probe["port"]) for probe in probes} == {port} == {str(container["ports"][0]["containerPort"])}
    changed = {port: "0", "0.0.0.0": "127.0.0.1", words[2]: str(blob_onnx)}
    command = [sys.executable, "-c", COMMAND, *(changed.get(word, word) for word in words[1:])]
    environment = {**os.environ, container["env"][0]["name"]: "secret"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stderr is not None
        found = re.search(r":(\d+)/", process.stderr.readline())
        assert found is not None
        server = Served(int(found[1]))
        assert [server.get(probe["path"]).status for probe in probes] == [200, 200, 200]
        assert server.post("/predict", grey(50)).status == 401, "the token is read from the environment"
        process.send_signal(signal.SIGTERM)
        assert process.wait(seconds) == 0
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
