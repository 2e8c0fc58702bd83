"""Pictures a second of `fiducial predict .. --out FILE.parquet` by one process, by two, and by two of Ray's workers, and whether
the files are the same; what a million pictures cost.

    python benchmarks/corpus.py shipped/model.onnx PICTURES --count 10000 [--json]

Each mode is a command of its own. `share`: of twice what one process does. Needs the extra `scale`; without ray its line is
left out."""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fiducial.cli.output import print_table
from fiducial.data import media

MODES: dict[str, tuple[str, ...]] = {
    "one process": ("--jobs", "1"),
    "two processes": ("--jobs", "2"),
    "two workers of Ray": ("--jobs", "2", "--ray", "local"),
}


def linked(pictures: Path, count: int, folder: Path) -> Path:
    """Fills a folder with `count` pictures: copies of those there are, again and again."""
    folder.mkdir()
    files = media.among(sorted(file for file in pictures.rglob("*") if file.is_file()), pictures)
    for number, file in zip(range(count), itertools.cycle(files), strict=False):
        shutil.copyfile(file, folder / f"{number:07d}{file.suffix}")  # a link would be the same picture
    return folder


def timed(model: Path, pictures: Path, out: Path, words: Sequence[str]) -> tuple[float, str]:
    """Seconds of a command, start and end included, and the digest of what it wrote."""
    command = [sys.executable, "-m", "fiducial.cli", "predict", str(model), str(pictures), "--out", str(out), *words]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began, hashlib.sha256(out.read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--finder", help="as predict has it: no, for points alone")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as work:
        pictures = linked(asked.pictures, asked.count, Path(work) / "pictures")
        finder = [] if asked.finder is None else ["--finder", asked.finder]
        for place, (mode, words) in enumerate(MODES.items()):
            if "--ray" in words and importlib.util.find_spec("ray") is None:
                continue
            seconds, digest = timed(asked.model, pictures, Path(work) / f"{place}.parquet", [*words, *finder])
            rows.append(
                {"mode": mode, "seconds": seconds, "pictures a second": asked.count / seconds, "digest": digest}
            )
    first = rows[0]["digest"]
    for row in rows:
        row["share"] = row["pictures a second"] / (2 * rows[0]["pictures a second"])
        row["core hours a million"] = row["seconds"] * (1 if row is rows[0] else 2) / asked.count * 1e6 / 3600
        row["same file"] = row.pop("digest") == first
    print_table(rows)
    if asked.json:
        print(json.dumps({"count": asked.count, "rows": rows}))


if __name__ == "__main__":
    main()
