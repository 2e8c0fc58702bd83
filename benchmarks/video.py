"""Points in videos: what smoothing calms and how late it makes them, and what reading ahead gains.

    python benchmarks/video.py MODEL VIDEO.. [--rest-hz 1] [--hz-per-speed 16] [--rounds 3] [--json]

MODEL finds one instance in each VIDEO, which is followed from the whole image (`--track`).

`still`: the middle frame of each video repeated for 5 s at 30 frames a second, with noise of a camera (2 of 255 grey
levels) and compressed by H.264, so nothing moves and all that does is jitter. Per cent of the box's side: standard
deviation of a coordinate from frame to frame, and of its second difference, raw and smoothed; medians over points.
`moving`: the same frame sliding at a steady speed, box sides a second, back and forth. Lag is how much later the smoothed
points are where they move, by the best match with the raw ones: for points that move exactly so, for the network's, and by
the closed form, 1 / (2 pi cutoff). The network's own errors change as it moves, which counts as speed, so they lag less.
`videos`: the second difference of the videos themselves, raw and smoothed, which holds true acceleration, too.
`frames/s`: the whole of predict, from decoding to encoding, on whole images: as a plain loop, and as it is, in threads.
Once with the network on this CPU, where threads gain what cores are idle, and once with answers that come after 20 ms from
elsewhere, as from an accelerator. In turn, medians of rounds."""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np

from fiducial import geometry
from fiducial.evaluation.steadiness import jitter, lag
from fiducial.prediction import drawings, pipeline, predict, sources
from fiducial.prediction.smoothing import OneEuro, Smoother
from fiducial.prediction.sources import Frame, Source
from fiducial.prediction.tracking import Tracker
from fiducial.runtime import runtime
from fiducial.runtime.runtime import Runtime
from fiducial.types import Keypoints

RATE, SECONDS, NOISE = 30, 5, 2.0
SPEEDS = (0.1, 0.25, 0.5, 1.0)  # box sides a second
ELSEWHERE_MS = 20
SWEEP = 0.5  # box sides between the ends of a motion


def pictures_of(path: Path) -> Iterator[np.ndarray]:
    for frame in sources.frames(sources.find([str(path)])[0]):
        if frame.image is not None:
            yield frame.image


def through_h264(images: Iterator[np.ndarray], folder: Path) -> list[np.ndarray]:
    """As a camera would have stored them."""
    source = Source("made.mp4", folder / "made.mp4", "video")
    with drawings.drawing(source, source.path) as draw:
        for image in images:
            draw(Frame("", image, rate=Fraction(RATE)), image)
    return list(pictures_of(source.path))


def sliding(image: np.ndarray, offsets_px: np.ndarray) -> Iterator[np.ndarray]:
    """The image moved to the right by each offset, with noise; its border is continued."""
    generator = np.random.default_rng(0)
    height, width = (side // 2 * 2 for side in image.shape[:2])
    for offset in offsets_px:
        moved = cv2.warpAffine(
            image,
            geometry.translation(float(offset), 0)[:2],
            (width, height),
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        )
        noisy = moved + generator.normal(0, NOISE, moved.shape)
        yield np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def followed(run: Runtime, images: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """xy [frames, k, 2] px, sides of the boxes [frames] px."""
    tracker = Tracker(run, None)
    seen = [tracker(image) for image in images]
    return np.stack([each.points.xy[0] for each in seen]), np.array(
        [np.sqrt(each.boxes[0, 2:].prod()) for each in seen]
    )


def smoothed(xy: np.ndarray, sides: np.ndarray, choices: OneEuro, rate: float = RATE) -> np.ndarray:
    smoother = Smoother(choices)
    return np.stack(
        [
            smoother([1], points[None], np.array([side]), number / rate)[0]
            for number, (points, side) in enumerate(zip(xy, sides, strict=True))
        ]
    )


def settled(xy: np.ndarray, sides: np.ndarray) -> dict[str, float]:
    """Jitter, per cent of the box's side; without the first second, in which filter and tracker settle."""
    return jitter(xy[RATE:], sides)


def lag_ms(raw: np.ndarray, late: np.ndarray, moving: np.ndarray) -> float:
    """By how much `late` [frames, k] must be moved ahead to match `raw` best, where that is `moving` [frames]; median
    over points."""
    return 1e3 * lag(raw, late, np.arange(len(raw)) / RATE, moving, np.arange(0, 0.5, 0.001))


def of_a_frame(run: Runtime, image: np.ndarray, choices: OneEuro, folder: Path) -> dict[str, Any]:
    """Still and moving."""
    xy, sides = followed(run, through_h264(sliding(image, np.zeros(SECONDS * RATE)), folder))
    side = float(np.median(sides))
    found: dict[str, Any] = {
        "side_px": side,
        "still": {"raw": settled(xy, sides), "smoothed": settled(smoothed(xy, sides, choices), sides)},
        "moving": [],
    }
    for speed in SPEEDS:
        way = np.abs((np.arange(SECONDS * RATE) * speed / RATE / SWEEP + 0.5) % 2 - 1) * SWEEP * side - SWEEP * side / 2
        xy, sides = followed(run, through_h264(sliding(image, way), folder))
        turned = np.flatnonzero(np.diff(np.sign(np.diff(way, prepend=way[0] - 1e-9)), prepend=0))
        since = np.array(
            [min([number - turn for turn in turned if turn <= number] or [number]) for number in range(len(way))]
        )
        moving = (since > 0.5 * RATE * min(1, SWEEP / speed)) & (np.arange(len(way)) > RATE // 2)
        exact = np.stack([way, 0 * way], -1)[:, None]
        exact_late = smoothed(exact, np.full(len(way), side), choices)
        found["moving"].append(
            {
                "speed": speed,
                "exact_points_ms": lag_ms(exact[..., 0], exact_late[..., 0], moving),
                "network_ms": lag_ms(xy[..., 0], smoothed(xy, sides, choices)[..., 0], moving),
                "closed_form_ms": 1e3 * choices.lag_seconds(speed),
            }
        )
    return found


class Elsewhere:
    """A model whose answers come after ELSEWHERE_MS without work for this CPU, as from an accelerator."""

    def __init__(self, run: Runtime) -> None:
        self.card, self.skeleton = run.card, run.skeleton
        self.points = run(np.zeros((64, 64, 3), np.uint8))

    def __call__(self, image: np.ndarray, boxes_xywh: np.ndarray | None = None) -> Keypoints:
        time.sleep(ELSEWHERE_MS / 1e3)
        return self.points


def speeds(run: Runtime, video: Path, folder: Path, rounds: int) -> dict[str, float]:
    """Frames a second of the whole command, without loading the model."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for model, name in ((run, "here"), (Elsewhere(run), "elsewhere")):
            for plain in (True, False):
                with ExitStack() as patched:
                    patched.enter_context(mock.patch.object(runtime, "load", lambda *_, model=model: model))
                    for module in (pipeline, predict) if plain else ():
                        patched.enter_context(mock.patch.object(module, "ahead", lambda items: items))
                    done = predict.predict_sources(Path("model"), [str(video)], folder / "out")
                rate = done.images / done.seconds
                found.setdefault(f"{name}, {'plain loop' if plain else 'as it is'}", []).append(rate)
    return {name: statistics.median(rates) for name, rates in found.items()}


def of_a_video(run: Runtime, path: Path, choices: OneEuro) -> dict[str, dict[str, float]]:
    """The second difference of the video itself."""
    xy, sides = followed(run, list(pictures_of(path)))
    return {"raw": settled(xy, sides), "smoothed": settled(smoothed(xy, sides, choices), sides)}


def show(name: str, found: dict[str, Any]) -> None:
    print(f"{name}, box of {found['side_px']:.0f} px")
    for what in ("still", "video"):
        for measure in ("frame_to_frame", "second_difference"):
            raw, calm = (found[what][kind][measure] for kind in ("raw", "smoothed"))
            px = found["side_px"] / 100
            print(
                f"  {what:6} {measure:18} raw {raw:.3f} % ({raw * px:.2f} px)  smoothed {calm:.3f} % ({calm * px:.2f} px)  "
                f"{raw / max(calm, 1e-9):.1f}x calmer"
            )
    for each in found["moving"]:
        print(
            f"  moving {each['speed']:.2f} sides/s: lag {each['exact_points_ms']:.0f} ms of exact points, "
            f"{each['network_ms']:.0f} of the network's, closed form {each['closed_form_ms']:.0f}"
        )
    print("  frames/s: " + ", ".join(f"{how} {rate:.1f}" for how, rate in found["frames_per_second"].items()))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--rest-hz", type=float, default=OneEuro.rest_hz)
    parser.add_argument("--hz-per-speed", type=float, default=OneEuro.hz_per_speed)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    choices = OneEuro(options.rest_hz, options.hz_per_speed)
    run = runtime.load(options.model, threads=1)
    cv2.setNumThreads(1)
    found = {}
    for path in options.videos:
        images = list(pictures_of(path))
        with tempfile.TemporaryDirectory() as folder:
            found[path.name] = of_a_frame(run, images[len(images) // 2], choices, Path(folder))
            found[path.name]["video"] = of_a_video(run, path, choices)
            found[path.name]["frames_per_second"] = speeds(run, path, Path(folder), options.rounds)
        show(path.name, found[path.name])
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
