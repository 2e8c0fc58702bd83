"""How much memory a loaded model takes, and predict, serve and fit at their peak.

    python benchmarks/memory.py [MODEL ..] [--data DATA] [--json]

`loaded`: a process that has loaded MODEL [face, which comes along] and answered once, MB: all of it, and what is its own
(pages of libraries' files, which other processes share, left out); beside it the same process with the libraries alone:
NumPy, OpenCV and the runtime; of an ONNX file also with a session of ONNX Runtime's own of that file, the least that any program
which runs it takes. `at the peak`: the sum over a command's processes, where pages that several have count once
(Linux's proportional set size), looked at every 20 ms: one photo, a folder of 100, a server that is asked 200 times, and
with --data a short fit."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from fiducial.runtime import runtime

OWN = """
import importlib, json, sys
import numpy as np, cv2
def own():
    lines = open("/proc/self/status").read().splitlines()
    values = {line.partition(":")[0]: line.split()[1] for line in lines if line.endswith("kB")}
    return [round(int(values[name]) / 1024, 1) for name in ("VmRSS", "RssAnon")]
"""
LOADED = f"""{OWN}
importlib.import_module(sys.argv[2])
libraries = own()
import fiducial
model = fiducial.load(sys.argv[1], threads=1)
model(np.zeros((480, 640, 3), np.uint8), [[100, 100, 200, 200]])
assert "torch" not in sys.modules or sys.argv[2] == "torch"
print(json.dumps({{"libraries": libraries, "loaded": own()}}))
"""
SESSION = f"""{OWN}
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
print(json.dumps({{"session": own()}}))
"""
FIDUCIAL = [sys.executable, "-c", "from fiducial.cli import main; main()"]
PICTURES, QUESTIONS = 100, 200


def loaded(model: Path) -> dict[str, list[float]]:
    """MB [all, own] of a process with the libraries alone, with a session of an ONNX file, and with the model loaded."""
    library = runtime.family_of(model).NAME
    file = str(runtime.resolved(model))
    session = told_by(SESSION, file) if library == "onnxruntime" else {}
    return {**session, **told_by(LOADED, str(model), library)}


def told_by(program: str, *arguments: str) -> dict[str, list[float]]:
    """What a program prints last, in a process of its own."""
    command = [sys.executable, "-c", program, *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(answer.stdout.splitlines()[-1])


def proportional_mb(session: int) -> float:
    """Memory of all processes of a session, MB."""
    total = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if os.getsid(int(folder.name)) == session:
                    lines = (folder / "smaps_rollup").read_text().splitlines()
                    total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            except (OSError, StopIteration):  # it has ended
                continue
    return total / 1024


def peak_mb(command: list[str], while_it_runs: Callable[[], None] | None = None) -> float:
    """The most memory that a command's processes take together, MB; it is ended after `while_it_runs`."""
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    found = [0.0]

    def look() -> None:
        while process.poll() is None:
            found[0] = max(found[0], proportional_mb(process.pid))
            time.sleep(0.02)

    watch = threading.Thread(target=look)
    watch.start()
    if while_it_runs is not None:
        while_it_runs()
        process.terminate()
    error = (process.stderr.read() if process.stderr else b"").decode()
    process.wait()
    watch.join()
    if process.returncode not in (0, -15):
        raise SystemExit(f"{' '.join(command[3:])} failed: {error.splitlines()[-1:]}")
    return found[0]


def ask(port: int, photo: Path) -> None:
    """Sends a photo to a server many times, once it answers."""
    data = photo.read_bytes()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/predict", data, {"Content-Type": "image/jpeg"}, method="POST"
    )
    for number in range(QUESTIONS):
        for _ in range(200):
            try:
                urllib.request.urlopen(request, timeout=10).read()
                break
            except urllib.error.HTTPError as error:
                raise SystemExit(f"the server refuses: {error.read()[:200]!r}") from error
            except OSError:
                if number:
                    raise
                time.sleep(0.1)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path, default=[Path("face")])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    found: dict[str, object] = {}
    for model in options.models:
        each = loaded(model)
        found[str(model)] = each
        rows = [f"{what} {total:.0f} MB ({own:.0f} its own)" for what, (total, own) in each.items()]
        print(f"{model}, loaded: " + ", ".join(rows))
    model = str(options.models[0])
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        photos.mkdir()
        for i in range(PICTURES):
            noise = np.random.default_rng(i).integers(0, 256, (60, 80, 3), dtype=np.uint8)
            cv2.imwrite(str(photos / f"{i:03}.jpg"), cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC))
        photo, port = photos / "000.jpg", 8700 + os.getpid() % 200
        peaks = {
            "predict, a photo": peak_mb([*FIDUCIAL, "predict", model, str(photo), "--out", f"{folder}/one"]),
            "predict, 100 photos": peak_mb([*FIDUCIAL, "predict", model, str(photos), "--out", f"{folder}/many"]),
            "serve, 200 photos": peak_mb([*FIDUCIAL, "serve", model, "--port", str(port)], lambda: ask(port, photo)),
        }
        if options.data is not None:
            fit = [*FIDUCIAL, "fit", str(options.data), "--out", f"{folder}/run", "--minutes", "2", "--finder", "no"]
            peaks["fit, 2 minutes"] = peak_mb(fit)
    for name, mb in peaks.items():
        print(f"{name}, at the peak: {mb:.0f} MB")
    if options.json:
        print(json.dumps({**found, "peak_mb": peaks}))


if __name__ == "__main__":
    main()
