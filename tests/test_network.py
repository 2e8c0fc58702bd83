"""Nothing is asked of the net that a user did not ask for: every process of ours, and its children, has none, and says what
it looked for."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("torch")

GUARD = Path(__file__).parent / "network_guard"
# Commands one after the other in one process, which has imported torch once: prints their exit codes.
COMMANDS = """
import json, sys
from fiducial import cli
codes = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["fiducial", *words]
    try:
        cli.main()
    except SystemExit as end:
        codes.append(end.code or 0)
print(json.dumps(codes))
"""
TINY = ["--size", "64x48", "--epochs", "1", "--batch-size", "16", "--set", "precision=fp32"]
BACKBONE = "test_efficientnet"


def environment(folder: Path) -> dict[str, str]:
    """Of a process without a net, and without weights that were fetched before."""
    path = os.pathsep.join([str(GUARD), *filter(None, [os.environ.get("PYTHONPATH")])])
    caches = {"HF_HOME": str(folder / "hub"), "TORCH_HOME": str(folder / "torch")}
    return {**os.environ, **caches, "PYTHONPATH": path, "NETWORK_LOG": str(folder / "asked.txt")}


def obeyed(commands: Sequence[Sequence[object]], folder: Path) -> tuple[list[int], str, str]:
    """Exit codes, what was said, and what was asked of the net."""
    unshare = shutil.which("unshare")
    away = [unshare, "-rn"] if unshare and subprocess.run([unshare, "-rn", "true"], check=False).returncode == 0 else []
    words = json.dumps([[str(word) for word in command] for command in commands])
    done = subprocess.run(
        [*away, sys.executable, "-c", COMMANDS, words],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=environment(folder),
    )
    asked = folder / "asked.txt"
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr, asked.read_text() if asked.exists() else ""


def test_the_guard_sees_what_is_asked(tmp_path: Path) -> None:
    """Also of the child of a process."""
    ask = "import urllib.request as u; u.urlopen('http://example.org')"
    code = f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {ask!r}]).returncode)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment(tmp_path)
    )
    assert (done.returncode, "unreachable" in done.stderr) == (1, True)
    assert (tmp_path / "asked.txt").read_text().startswith("socket.getaddrinfo example.org")


def test_nothing_is_asked_of_the_net_but_the_weights_that_are_asked_for(
    blobs: Path, blob_onnx: Path, tmp_path: Path
) -> None:
    """By default they are those of this disk, where there are some; without a net it is a line."""
    fit = ["fit", blobs, "--backbone", BACKBONE, "--method", "deeppose", *TINY, "--out"]
    commands = [
        [*fit, tmp_path / "run", "--no-preflight", "--set", "memory_format=contiguous"],
        ["predict", blob_onnx, blobs / "images" / "test_0.png", "--out", tmp_path / "found"],
        ["evaluate", blob_onnx, blobs, "--json", tmp_path / "figures.json"],
        [*fit, tmp_path / "other", "--pretrained", "yes"],
    ]
    codes, said, asked = obeyed(commands, tmp_path)
    assert codes == [0, 0, 0, 2], said
    assert f"{BACKBONE} starts from random weights: its weights are not on this disk (--pretrained auto fetches" in said
    assert re.fullmatch(
        rf"fiducial: {BACKBONE}: no pretrained weights: the hub can't be reached .*", said.splitlines()[-1]
    )
    assert re.fullmatch(r"socket.getaddrinfo huggingface.co of .*--pretrained.*\n", asked)
    assert not (tmp_path / "other").exists()


def test_a_server_asks_nothing_of_the_net(blobs: Path, blob_onnx: Path, tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    command = [sys.executable, "-m", "fiducial.cli", "serve", str(blob_onnx), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(tmp_path)
    ) as server:
        try:
            assert server.stdout is not None
            address = next(found[0] for line in server.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
            image = (blobs / "images" / "test_0.png").read_bytes()
            for url, body in ((f"{address}/predict", image), (address, None), (f"{address}/docs", None)):
                request = urllib.request.Request(url, data=body, headers={"Content-Type": "image/png"})
                assert urllib.request.urlopen(request, timeout=60).status == 200
        finally:
            server.kill()
    assert not (tmp_path / "asked.txt").exists()


@pytest.mark.long
def test_other_commands_ask_nothing_of_the_net(blobs: Path, blob_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    commands = [
        ["evaluate", blob_model, blobs, "--report", tmp_path / "page.html"],
        ["profile", blob_model],
        ["compare", blobs, "--out", out / "c", "--methods", "deeppose", "--backbones", BACKBONE, "--sizes", *TINY[1:]],
        ["distill", blobs, "--teacher", blob_model, "--student", BACKBONE, "--out", out / "d", *TINY],
        ["fit", blobs, "--method", "motion", "--out", out / "m", "--epochs", "1", "--set", "motion.pairs=16"],
        ["export", blob_model, "--to", "openvino", "--int8", blobs, "--out", out / "o"],
        ["export", blob_model, "--to", "onnx", "--int8", blobs, "--out", out / "x"],
        ["export", blob_model, "--to", "ncnn", "--out", out / "n"],
        ["profile", blob_model, "--runtime", "openvino"],
    ]
    codes, said, asked = obeyed(commands, tmp_path)
    assert (codes, asked) == ([0] * len(commands), ""), said
