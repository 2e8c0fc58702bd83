"""How long a user waits before anything happens: whole processes, against their floors.

    python benchmarks/startup.py [--rounds 7] [--json]

Contestants take turns and the best of their rounds counts, since everything else a machine does only adds. Floors are
an empty Python, importing numpy, typer (which reads the command line) and pydantic (which typer uses to check
values). Neither of our commands imports torch; the last column names what heavy each did import."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HEAVY = ("torch", "lightning", "timm", "cv2", "matplotlib", "rich", "pydantic", "numpy")
HELP_LIMIT = 0.2  # seconds, the promise


def write_files(folder: Path) -> tuple[Path, Path]:
    """Truth and results of ten pictures with 17 points each."""
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in range(10)]
    base = [{"image_id": i, "category_id": 1} for i in range(10)]
    points = [[value for k in range(17) for value in (20 * k + i, 11 * k + 3 * i, 2)] for i in range(10)]
    truths = [
        {**one, "id": i + 1, "keypoints": points[i], "bbox": [0, 0, 400, 300], "area": 6e4, "iscrowd": 0, "num_keypoints": 17}
        for i, one in enumerate(base)
    ]  # fmt: skip
    results = [{**one, "keypoints": [value + 1 for value in points[i]], "score": 0.5} for i, one in enumerate(base)]
    category = {"id": 1, "name": "person", "keypoints": [f"point_{k}" for k in range(17)], "skeleton": []}
    truth, found = folder / "truth.json", folder / "results.json"
    truth.write_text(json.dumps({"images": images, "annotations": truths, "categories": [category]}))
    found.write_text(json.dumps(results))
    return truth, found


def contestants(truth: Path, results: Path) -> dict[str, list[str]]:
    """Name -> command."""
    python, fiducial = [sys.executable], [sys.executable, "-m", "fiducial.cli"]
    return {
        "python -c pass": [*python, "-c", "pass"],
        "import numpy": [*python, "-c", "import numpy"],
        "import typer": [*python, "-c", "import typer"],
        "import typer, pydantic, numpy": [*python, "-c", "import typer, numpy; from pydantic import TypeAdapter"],
        "fiducial --help": [*fiducial, "--help"],
        "fiducial evaluate --predictions": [*fiducial, "evaluate", "--predictions", str(results), str(truth)],
    }


def seconds_of(command: list[str]) -> tuple[float, float]:
    """One whole process: on the wall's clock, and of the CPU (which hardly minds what else the machine does)."""
    before, start = os.times(), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - start, cpu


def heavy_imports(command: list[str]) -> list[str]:
    """Which of `HEAVY` a command imports, by Python's own log."""
    log = subprocess.run(
        [command[0], "-X", "importtime", *command[1:]], check=True, capture_output=True, text=True
    ).stderr
    names = {line.rpartition("|")[2].strip().partition(".")[0] for line in log.splitlines()}
    return [name for name in HEAVY if name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        commands = contestants(*write_files(Path(folder)))
        imports = {name: heavy_imports(command) for name, command in commands.items()}  # fills the file cache, too
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(options.rounds):
            for name, command in commands.items():
                times[name].append(seconds_of(command))
    best = {name: min(wall for wall, _ in values) for name, values in times.items()}
    cpu = {name: min(cpu for _, cpu in values) for name, values in times.items()}
    floor = best["python -c pass"]
    print(f"{'':32}  seconds  of CPU  x python  heavy imports")
    for name, value in best.items():
        print(f"{name:32}  {value:7.3f}  {cpu[name]:6.2f}  {value / floor:8.1f}  {', '.join(imports[name]) or '-'}")
    kept = best["fiducial --help"] <= HELP_LIMIT
    print(f"fiducial --help within {HELP_LIMIT} s: {'yes' if kept else 'no'}")
    if options.json:
        print(
            json.dumps(
                {"seconds": best, "imports": imports, "rounds": options.rounds, "help_limit": HELP_LIMIT, "kept": kept}
            )
        )


if __name__ == "__main__":
    main()
