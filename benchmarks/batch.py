"""How much quicker `model.batch(images)` is than a loop of `model(image)`, in every runtime, and whether both agree.

    python -m benchmarks.batch RUN [MODEL ..] --images 1000

Rounds in turns, the median of each; images of different sizes, in memory and as JPEG files."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import fiducial
from fiducial.cli.output import print_table
from fiducial.types import Keypoints

SIZES = ((640, 480), (320, 240), (500, 375), (128, 128), (427, 640))  # width, height px


def drawn(count: int) -> list[np.ndarray]:
    """Draws images whose crops differ: noise is smoothed, so that JPEG files are as large as photographs'."""
    generator = np.random.default_rng(0)
    images = []
    for i in range(count):
        width, height = SIZES[i % len(SIZES)]
        image = generator.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        images.append(cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC))
    return images


def written(images: list[np.ndarray], folder: Path) -> list[Path]:
    """Writes them as JPEG."""
    paths = [folder / f"{i:05}.jpg" for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        cv2.imwrite(str(path), image)
    return paths


def seconds_of(ask: Callable[[], list[Keypoints]]) -> tuple[float, list[Keypoints]]:
    """Times one call."""
    start = time.perf_counter()
    found = ask()
    return time.perf_counter() - start, found


def compared(model: Any, images: list[Any], read: Callable[[Any], np.ndarray], rounds: int) -> dict[str, Any]:
    """Times the loop and the batch in turns, and the largest distance between their points."""
    model.batch(images[:64])  # what is made at the first call is not timed
    model(read(images[0]))
    loop, batch, apart = [], [], 0.0
    for _ in range(rounds):
        seconds, one_by_one = seconds_of(lambda: [model(read(image)) for image in images])
        loop.append(seconds)
        seconds, together = seconds_of(lambda: model.batch(images))
        batch.append(seconds)
        apart = max(apart, *(float(np.abs(a.xy - b.xy).max()) for a, b in zip(one_by_one, together, strict=True)))
    slow, quick = statistics.median(loop), statistics.median(batch)
    return {
        "loop ms": 1e3 * slow / len(images),
        "batch ms": 1e3 * quick / len(images),
        "times": slow / quick,
        "least": min(a / b for a, b in zip(loop, batch, strict=True)),
        "px apart": f"{apart:.1e}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    images, rows = drawn(options.images), []
    with tempfile.TemporaryDirectory() as folder:
        paths = written(images, Path(folder))
        for path in options.models:
            model = fiducial.load(path)
            name = f"{path.parent.name}/{path.name}, {model.network.runtime}"
            rows.append({"": f"{name}, in memory", **compared(model, images, lambda image: image, options.rounds)})
            rows.append({"": f"{name}, files", **compared(model, paths, _read, options.rounds)})
    print_table(rows)


def _read(path: Path) -> np.ndarray:
    from fiducial.data.images import read_image

    return read_image(path)


if __name__ == "__main__":
    main()
