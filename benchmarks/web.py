"""Pages without a server: how far their points are from torch's on real pictures, what a picture costs beside ONNX Runtime
outside of a browser, how large they are, and how soon they answer.

    python benchmarks/web.py MODEL DATA [--split test] [--pictures 50] [--rounds 5] [--threads 1 2] [--json]

MODEL is a run folder (compared with torch), or an exported .onnx, or `face` (compared with ONNX Runtime). Pictures are files that
the browser decodes itself, looked at whole and in each labelled box. `ms`: of a picture in its first box, from the file's bytes
to points, in turn: `browser` by the page's clock, from decoding on; `native` the same by ONNX Runtime in Python; medians over
rounds of a round's median, and of the rounds' ratios. `first answer`: from the opening of the page in a Chromium that was started
anew, with nothing in its cache, to the points of a picture. All in one process: use a quiet machine.
Promises: 0.05 px; 15 MB; 3 s on 2 cores."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from fiducial.data import annotations
from fiducial.data.images import FileImages, read_image
from fiducial.exporting import export
from fiducial.runtime import runtime

LIMIT_PX, LIMIT_BYTES, LIMIT_SECONDS = 0.05, 15_000_000, 3.0
STARTS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--pictures", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    paths, boxes = pictures(chosen.data, chosen.split, chosen.pictures)
    with tempfile.TemporaryDirectory() as folder:
        page, _ = export.export_model(chosen.model, "web", Path(folder) / "page")
        file = chosen.model
        if not runtime.is_exported(file):
            file, _ = export.export_model(chosen.model, "onnx", Path(folder) / "file")
        sizes = {part.name: part.stat().st_size for part in runtime.files_of(page)}
        found: dict[str, Any] = {"model": str(chosen.model), "pictures": len(paths), "bytes": sum(sizes.values())}
        found["bytes_without_gpu"] = found["bytes"] - sizes["index.gpu.js"]
        found["px"] = distance(chosen.model, page, paths, boxes)
        found["ms"] = [speed(page, file, paths, boxes, threads, chosen.rounds) for threads in chosen.threads]
        found["first_answer_s"] = [first_answer(page, paths[0]) for _ in range(STARTS)]
    if chosen.json:
        print(json.dumps(found, indent=1))
        return
    px, first = found["px"], statistics.median(found["first_answer_s"])
    print(f"{found['model']}: {px['pictures']} pictures, {px['instances']} instances, whole and in {px['boxes']} boxes")
    print(
        f"points: at most {px['max']:.2g} px from {px['reference']}, mean {px['mean']:.2g} ({kept(px['max'], LIMIT_PX)} {LIMIT_PX} px)"
    )
    for row in found["ms"]:
        print(
            f"{row['threads']} thread(s): browser {row['browser']:.1f} ms a picture, native {row['native']:.1f}, ratio {row['ratio']:.2f}"
        )
    print(
        f"page: {found['bytes'] / 1e6:.2f} MB ({kept(found['bytes'], LIMIT_BYTES)} {LIMIT_BYTES / 1e6:.0f} MB), "
        f"{found['bytes_without_gpu'] / 1e6:.2f} of them where there is no GPU"
    )
    print(f"first answer: {first:.2f} s from a cold load ({kept(first, LIMIT_SECONDS)} {LIMIT_SECONDS:g} s)")


def kept(value: float, limit: float) -> str:
    """Says whether a promise is kept."""
    return "promised <=" if value <= limit else "NOT the promised <="


def pictures(data: Path, split: str, most: int) -> tuple[list[Path], list[np.ndarray]]:
    """Some pictures of a split, evenly spread, and the labelled boxes [n, 4] of each."""
    instances, _ = annotations.load(data, split)
    images = instances.images
    if not isinstance(images, FileImages):
        sys.exit(f"{data}: its pictures are no files")
    rows = np.linspace(0, len(images) - 1, min(most, len(images))).astype(int)
    boxes = [instances.box_xywh[instances.image_row == row].astype(np.float32) for row in rows]
    return [images.path(row) for row in rows.tolist()], boxes


def distance(model: Path, page: Path, paths: list[Path], boxes: list[np.ndarray]) -> dict[str, Any]:
    """How far the page's points are from those of the model that it was made of."""
    own, shown = runtime.load(model, threads=1), runtime.load(page, threads=1)
    network: Any = shown.network
    off = []
    for path, given in zip(paths, boxes, strict=True):
        image = read_image(path)
        whole = network.look(path.read_bytes())
        where = None if own.finder is None else whole.box_xywh
        off.append(np.abs(whole.xy - own(image, where).xy).ravel())
        if len(given):
            off.append(np.abs(network.look(path.read_bytes(), given).xy - own(image, given).xy).ravel())
    network.close()
    every, count = np.concatenate(off), len(own.skeleton.points)
    return {
        "reference": own.network.runtime,
        "pictures": len(paths),
        "instances": len(every) // (2 * count),
        "boxes": sum(map(len, boxes)),
        "max": float(every.max()),
        "mean": float(every.mean()),
    }


def speed(
    page: Path, file: Path, paths: list[Path], boxes: list[np.ndarray], threads: int, rounds: int
) -> dict[str, float]:
    """ms a picture in its first box, of the browser and of ONNX Runtime in Python, in turn."""
    shown: Any = runtime.load(page, threads=threads).network
    native: Any = runtime.load(file, threads=threads).network
    asked = [(path.read_bytes(), path, given[:1]) for path, given in zip(paths, boxes, strict=True) if len(given)]
    for data, path, box in asked[:10]:  # a browser compiles what is used often anew
        shown.look(data, box)
        native.full(read_image(path), box)
    medians: dict[str, list[float]] = {"browser": [], "native": []}
    for _ in range(rounds):
        spent: dict[str, list[float]] = {"browser": [], "native": []}
        for data, path, box in asked:
            shown.look(data, box)
            spent["browser"].append(shown.session.ms)
            start = time.perf_counter()
            native.full(read_image(path), box)
            spent["native"].append((time.perf_counter() - start) * 1e3)
        for name, values in spent.items():
            medians[name].append(statistics.median(values))
    shown.close()
    ratios = [a / b for a, b in zip(medians["browser"], medians["native"], strict=True)]
    return {
        "threads": threads,
        **{name: statistics.median(values) for name, values in medians.items()},
        "ratio": statistics.median(ratios),
    }


def first_answer(page: Path, picture: Path) -> float:
    """Seconds from the opening of a page in a new browser to the points of a picture."""
    shown: Any = runtime.load(page).network
    shown.look(picture.read_bytes())
    shown.close()
    return shown.session.open_ms / 1e3


if __name__ == "__main__":
    main()
