"""How long a user waits before anything happens: whole processes, against their floors.

    python benchmarks/startup.py [--rounds 7] [--json]

Contestants take turns and the best of their rounds counts, since everything else a machine does only adds. Floors are
an empty Python, importing numpy, typer (which reads the command line) and pydantic (which typer uses to check
values), and ONNX Runtime loading the very model with nothing around it. None of our commands imports torch; the last column
names what heavy each did import. The model is an untrained MobileNetV3-small with deeppose at 192x256, 17 points, which is
exported first (that needs the extra `train`; without it the commands with a model are left out)."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from fiducial.card import Card, DetectorSpec
from fiducial.cli import commands
from fiducial.geometry import Size
from fiducial.types import Skeleton

HEAVY = ("torch", "lightning", "timm", "onnxruntime", "cv2", "matplotlib", "rich", "pydantic", "numpy")
FILES = sorted(Path(commands.__file__).parent.rglob("[a-z]*.py"))
COMMANDS = tuple(" ".join(path.relative_to(Path(commands.__file__).parent).with_suffix("").parts) for path in FILES)
# What is mistyped, in commands that would import torch or a server to read it.
MISTYPED = {
    "fit": ["fit", "nowhere", "--out", "out"],
    "compare": ["compare", "nowhere", "--methods", "heatmap", "--out", "out"],
    "distill": ["distill", "--teacher", "nowhere", "nowhere", "--out", "out"],
    "evaluate": ["evaluate", "nowhere", "nowhere"],
    "predict": ["predict", "nowhere", "nowhere", "--out", "out"],
    "export": ["export", "nowhere", "--out", "out"],
    "profile": ["profile", "nowhere"],
    "serve": ["serve", "nowhere"],
}
# Seconds of a whole process, the promises: of the CPU's, which are the wall's where nothing else runs.
LIMITS = {
    "fiducial --help": 0.1,
    **{f"fiducial {name} --help": 0.1 for name in COMMANDS},
    "import fiducial": 0.05,
    **{f"fiducial {name} nowhere": 0.5 for name in MISTYPED},
    "fiducial predict model.onnx photo.jpg": 0.6,
}
PICTURES = 10
POINTS = tuple(f"point_{k}" for k in range(17))


def write_files(folder: Path) -> tuple[Path, Path]:
    """Ten pictures, their truth as a data set with a split test, and results: 17 points each."""
    (folder / "images").mkdir()
    (folder / "annotations").mkdir()
    for i in range(PICTURES):
        noise = np.random.default_rng(i).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / "images" / f"{i}.jpg"), cv2.resize(noise, (640, 480)))
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in range(PICTURES)]
    base = [{"image_id": i, "category_id": 1} for i in range(PICTURES)]
    points = [[value for k in range(17) for value in (20 * k + i, 11 * k + 3 * i, 2)] for i in range(PICTURES)]
    truths = [
        {
            **one,
            "id": i + 1,
            "keypoints": points[i],
            "bbox": [0, 0, 400, 300],
            "area": 6e4,
            "iscrowd": 0,
            "num_keypoints": 17,
        }
        for i, one in enumerate(base)
    ]
    results = [{**one, "keypoints": [value + 1 for value in points[i]], "score": 0.5} for i, one in enumerate(base)]
    category = {"id": 1, "name": "person", "keypoints": POINTS, "skeleton": []}
    truth, found = folder / "annotations" / "test.json", folder / "results.json"
    truth.write_text(json.dumps({"images": images, "annotations": truths, "categories": [category]}))
    found.write_text(json.dumps(results))
    return truth, found


def write_model(folder: Path) -> Path | None:
    """FOLDER/model.onnx; None, with a word, where torch is missing."""
    try:
        from fiducial.exporting import onnx_export
        from fiducial.models import detector as detectors
    except ModuleNotFoundError as error:
        print(f"no {error.name}: without `predict` and `evaluate` of a model")
        return None
    spec = DetectorSpec("mobilenetv3_small_100", "deeppose", {}, Size(192, 256), Skeleton("points", POINTS))
    detector = detectors.build(spec).eval()
    return onnx_export.write(detector, Card(detector.spec), folder, crop="inside", decode="own").file


def contestants(folder: Path) -> dict[str, list[str]]:
    """Name -> command."""
    truth, results = write_files(folder)
    model = write_model(folder)
    python, fiducial = [sys.executable], [sys.executable, "-m", "fiducial.cli"]
    asked = {
        "python -c pass": [*python, "-c", "pass"],
        "import numpy": [*python, "-c", "import numpy"],
        "import typer": [*python, "-c", "import typer"],
        "import typer, pydantic, numpy": [*python, "-c", "import typer, numpy; from pydantic import TypeAdapter"],
        "import fiducial": [*python, "-c", "import fiducial"],
        "fiducial --help": [*fiducial, "--help"],
        **{f"fiducial {name} --help": [*fiducial, *name.split(), "--help"] for name in COMMANDS},
        **{f"fiducial {name} nowhere": [*fiducial, *words] for name, words in MISTYPED.items()},
        "fiducial evaluate --predictions": [*fiducial, "evaluate", "--predictions", str(results), str(truth)],
    }
    if model is None:
        return asked
    session = "import sys, numpy, cv2, onnxruntime; onnxruntime.InferenceSession(sys.argv[1])"
    photo, out = folder / "images" / "0.jpg", folder / "out"
    return asked | {
        "import cv2, load model.onnx": [*python, "-c", session, str(model)],
        "fiducial predict model.onnx photo.jpg": [*fiducial, "predict", str(model), str(photo), "--out", str(out)],
        f"fiducial evaluate model.onnx, {PICTURES} pictures": [*fiducial, "evaluate", str(model), str(folder)],
    }


def seconds_of(command: list[str]) -> tuple[float, float]:
    """One whole process: on the wall's clock, and of the CPU (which hardly minds what else the machine does)."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check="nowhere" not in command, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, cpu


def heavy_imports(command: list[str]) -> list[str]:
    """Which of `HEAVY` a command imports, by Python's own log."""
    log = subprocess.run(
        [command[0], "-X", "importtime", *command[1:]],
        check="nowhere" not in command,
        capture_output=True,
        text=True,
    ).stderr
    names = {line.rpartition("|")[2].strip().partition(".")[0] for line in log.splitlines()}
    return [name for name in HEAVY if name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asked = contestants(Path(folder))
        imports = {name: heavy_imports(command) for name, command in asked.items()}  # fills the file cache, too
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in asked}
        for _ in range(options.rounds):
            for name, command in asked.items():
                times[name].append(seconds_of(command))
    best = {name: min(wall for wall, _ in values) for name, values in times.items()}
    cpu = {name: min(cpu for _, cpu in values) for name, values in times.items()}
    floor = best["python -c pass"]
    print(f"{'':42}  seconds  of CPU  x python  heavy imports")
    for name, value in best.items():
        print(f"{name:42}  {value:7.3f}  {cpu[name]:6.3f}  {value / floor:8.1f}  {', '.join(imports[name]) or '-'}")
    kept = {name: cpu[name] <= limit for name, limit in LIMITS.items() if name in cpu}
    for name, yes in kept.items():
        print(f"{name} within {LIMITS[name]} s of CPU: {'yes' if yes else 'no'}")
    if options.json:
        print(
            json.dumps(
                {
                    "seconds": best,
                    "cpu_seconds": cpu,
                    "imports": imports,
                    "rounds": options.rounds,
                    "limits": LIMITS,
                    "kept": kept,
                }
            )
        )


if __name__ == "__main__":
    main()
