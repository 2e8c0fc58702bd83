"""Who is who in a video: by points, boxes and motion, beside boxes alone and beside tracking as SORT does it.

    python benchmarks/identities.py TRUTH.json.. [--results FOUND.json] [--seeds 5] [--json]

TRUTH are COCO files of frames of one video with `track_id`s, which are numbered in their names. Their boxes and points are given without identities, in any order,
as they are and spoilt: boxes dropped, jittered (each side of the box by up to so much of it), points with noise (standard
deviation in sides of the box), every 2nd, 5th or 10th frame alone. FOUND are results that `fiducial predict` wrote for these frames
(`bbox`, `keypoints`, `bbox_score`): who is who is then told in these. All three see the same.

`here`: `Identities` as `predict --track` uses it. `boxes`: the same without points. `SORT`: the same filter on boxes alone, IoU
of 0.3 at least, forgotten when one frame passes without a box, after Bewley et al. (ICIP 2016). HOTA and switches are by box
IoU, AssA tells how well identities are kept, whatever was found; means over seeds. What is drawn, beside TRUTH: bodies of one
shape that wander through each other in a square, where one who is hidden is not found; and 500 of them, for the time. At
last what `predict --second-pass` mends of labels with noise, a tenth of them dropped."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import files, geometry
from fiducial.data.series import numbered
from fiducial.evaluation import identities as measures
from fiducial.evaluation.coco_files import read_truth
from fiducial.evaluation.identities import Sight
from fiducial.prediction import second_pass
from fiducial.prediction.boxes import Boxes
from fiducial.prediction.found import InstancesFound
from fiducial.prediction.identities import Identities, Rules
from fiducial.types import Keypoints

SYSTEMS = {
    "here": Rules(),
    "boxes": Rules(points=0),
    "SORT": Rules(points=0, least=0.3, gap=1),
}


@dataclass(frozen=True, kw_only=True)
class Spoilt:
    """What is done to what is given."""

    every: int = 1
    dropped: float = 0.0
    jitter: float = 0.0
    noise: float = 0.0

    def __str__(self) -> str:
        said = [f"every {self.every} frames"] * (self.every > 1) + [f"{self.dropped:.0%} dropped"] * (self.dropped > 0)
        said += [f"boxes {self.jitter:.0%}"] * (self.jitter > 0) + [f"points {self.noise:.0%}"] * (self.noise > 0)
        return ", ".join(said) or "as it is"


WAYS = (
    Spoilt(),
    Spoilt(every=2),
    Spoilt(every=5),
    Spoilt(every=10),
    Spoilt(dropped=0.05),
    Spoilt(dropped=0.1),
    Spoilt(dropped=0.3),
    Spoilt(jitter=0.1),
    Spoilt(noise=0.05),
    Spoilt(dropped=0.1, jitter=0.1, noise=0.05),
    Spoilt(every=5, dropped=0.1, jitter=0.1, noise=0.05),
)


@dataclass(frozen=True)
class Seen:
    """One frame: who is there, and what is found."""

    who: np.ndarray  # [n] from 0
    true_boxes: np.ndarray  # [n, 4]
    boxes: np.ndarray  # [m, 4]
    xy: np.ndarray  # [m, k, 2], NaN where unknown
    score: np.ndarray  # [m] of the boxes
    steps: float = 1  # frames since the one before


def of_truth(files: Sequence[Path]) -> dict[str, Seen]:
    """Everyone as labelled, in the order of the frames' numbers, by the images' names; a frame that two files have is one."""
    frames: dict[str, tuple[int, Seen]] = {}
    for file in files:
        truth = read_truth(file).instances
        assert truth.track is not None, f"{file} has no track_ids"
        xy = np.where(truth.labelled[..., None], truth.xy, np.nan)
        for image in range(len(truth.images)):
            own, name = np.flatnonzero(truth.image_row == image), Path(truth.images.name(image)).name
            boxes = truth.box_xywh[own]
            frames[name] = numbered(name).number or 0, Seen(truth.track[own], boxes, boxes, xy[own], np.ones(len(own)))
    people = np.unique(np.concatenate([seen.who for _, seen in frames.values()]))
    result, last = {}, None
    for name, (number, seen) in sorted(frames.items(), key=lambda item: item[1][0]):
        steps = 1 if last is None else number - last
        result[name], last = replace(seen, who=np.searchsorted(people, seen.who), steps=steps), number
    return result


def of_results(frames: dict[str, Seen], results: Path) -> list[Seen]:
    """Everyone as found, beside who is there."""
    entries: dict[str, list[dict[str, Any]]] = {}
    for entry in files.read_json(results):
        entries.setdefault(Path(entry["file_name"]).name, []).append(entry)
    found = []
    for name, frame in frames.items():
        own = entries.get(name, [])
        points = np.array([entry["keypoints"] for entry in own]).reshape(len(own), frame.xy.shape[1], 3)
        boxes = np.array([entry["bbox"] for entry in own], np.float64).reshape(-1, 4)
        score = np.array([entry.get("bbox_score", 1.0) for entry in own])
        found.append(replace(frame, boxes=boxes, xy=points[..., :2], score=score))
    return found


def flock(count: int, frames: int, arena: float, seed: int, size: float = 60.0) -> list[Seen]:
    """Bodies of one shape that wander in a square: 0.08 of their size a frame, turning at random and at the walls. Of two
    whose middles are nearer than 0.3 of it one is hidden."""
    random = np.random.default_rng(seed)
    shape = size * np.stack([np.linspace(-0.5, 0.5, 8), 0.2 * np.cos(2 * np.arange(8))], 1)
    middle, turn = random.uniform(0, arena, (count, 2)), random.uniform(0, 2 * np.pi, count)
    seen = []
    for _ in range(frames):
        turn += random.normal(0, 0.15, count)
        outside = ((middle < 0) | (middle > arena)).any(1)
        turn[outside] = np.arctan2(*(arena / 2 - middle[outside])[:, ::-1].T)
        ahead = np.stack([np.cos(turn), np.sin(turn)], 1)
        middle = middle + 0.08 * size * ahead
        maps = np.stack([ahead, np.stack([-ahead[:, 1], ahead[:, 0]], 1)], 1)
        xy = shape @ maps + middle[:, None]
        boxes = np.array([geometry.box_of_points(one, np.ones(8, bool), 0.1) for one in xy])
        apart = np.abs(middle[:, None] - middle).max(-1)
        shown = ~(np.tril(apart < 0.3 * size, -1).any(1))
        noisy = xy + random.normal(0, 0.02 * size, xy.shape)
        seen.append(Seen(np.arange(count), boxes, boxes[shown], noisy[shown], np.ones(int(shown.sum()))))
    return seen


def spoilt(frames: Sequence[Seen], how: Spoilt, seed: int) -> list[Seen]:
    random = np.random.default_rng(seed)
    result = []
    for frame in frames[:: how.every]:
        rows = random.permutation(np.flatnonzero(random.random(len(frame.boxes)) >= how.dropped))
        boxes = np.array([geometry.jitter_box(frame.boxes[row], how.jitter, random) for row in rows]).reshape(-1, 4)
        sides = np.sqrt(frame.boxes[rows, 2:].prod(1))
        xy = frame.xy[rows] + how.noise * sides[:, None, None] * random.normal(0, 1, frame.xy[rows].shape)
        result.append(replace(frame, boxes=boxes, xy=xy, score=frame.score[rows], steps=frame.steps * how.every))
    return result


def measured(frames: Sequence[Seen], rules: Rules) -> dict[str, float]:
    """HOTA and its kin, and milliseconds a frame."""
    identities, told, spent = Identities(rules=rules), [], 0.0
    for frame in frames:
        points = Keypoints(frame.xy, np.ones(frame.xy.shape[:2]))
        start = time.perf_counter()
        steps = frame.steps if rules.gap > 1 else 1  # SORT counts the frames that it is given
        told.append(identities(frame.boxes, frame.score, points, steps=steps))
        spent += time.perf_counter() - start
    names = np.unique(np.concatenate(told))
    names = names[names >= 0]
    sights = []
    for frame, who in zip(frames, told, strict=True):
        known = who >= 0
        alike = geometry.box_iou(frame.true_boxes[:, None], frame.boxes[known][None])
        sights.append(Sight(frame.who, np.searchsorted(names, who[known]), alike))
    figures = measures.measure(sights)
    return {
        "hota": figures.hota,
        "assa": figures.assa,
        "idf1": figures.idf1,
        "mota": figures.mota,
        "switches": figures.id_switches,
        "tracks": figures.tracks,
        "ms": 1e3 * spent / len(frames),
    }


def compared(scenes: Sequence[Sequence[Seen]], how: Spoilt) -> dict[str, dict[str, float]]:
    """Means of each system over scenes, each spoilt by a seed of its own."""
    found = {}
    for name, rules in SYSTEMS.items():
        rows = [measured(spoilt(scene, how, seed), rules) for seed, scene in enumerate(scenes)]
        found[name] = {figure: statistics.fmean(row[figure] for row in rows) for figure in rows[0]}
    return found


def gone_through(frames: Sequence[Seen], how: Spoilt, seed: int) -> dict[str, float]:
    """What a second pass mends of spoilt labels: px that points are off, root of the mean square, before and after it, and of
    those that it filled in. Each instance is held against the nearest of the labels."""
    identities, seen = Identities(), []
    spoiled = spoilt(frames, how, seed)
    for frame in spoiled:
        points = Keypoints(frame.xy, np.ones(frame.xy.shape[:2]))
        who = identities(frame.boxes, None, points, steps=frame.steps).tolist()
        seen.append(InstancesFound(Boxes(1, frame.boxes.tolist(), track_ids=who), points))
    done = second_pass.gone_through(seen)
    off: dict[str, list[np.ndarray]] = {"before": [], "after": [], "filled": []}
    for true, before, after in zip(frames[:: how.every], seen, done.frames, strict=True):
        assert after is not None
        for name, found, rows in (
            ("before", before, np.ones(len(before.points.xy), bool)),
            ("after", after, np.ones(len(after.points.xy), bool)),
            ("filled", after, np.array(after.boxes.filled, bool)),
        ):
            for xy in found.points.xy[: len(rows)][rows]:
                apart = np.square(xy - true.xy)
                off[name].append(apart[np.nanmean(apart, (1, 2)).argmin()].ravel())
    px = {name: float(np.sqrt(np.nanmean(np.concatenate([*values, [np.nan]])))) for name, values in off.items()}
    return {**px, "count": done.filled}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("truth", type=Path, nargs="+")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    labelled = of_truth(options.truth)
    of_file = list(labelled.values())
    tables: dict[str, dict[str, dict[str, float]]] = {}
    for how in WAYS:
        tables[f"labels, {how}"] = compared([of_file] * (1 if how == Spoilt() else options.seeds), how)
    if options.results:
        tables["found"] = compared([of_results(labelled, options.results)], Spoilt())
    for count in (5, 15, 30):
        scenes = [flock(count, 200, 400, seed) for seed in range(options.seeds)]
        for how in (Spoilt(), Spoilt(every=2), Spoilt(dropped=0.1, jitter=0.1, noise=0.05)):
            tables[f"{count} drawn, {how}"] = compared(scenes, how)
    tables["500 drawn"] = compared([flock(500, 20, 4000, 0)], Spoilt())
    mended = gone_through(of_file, Spoilt(dropped=0.1, noise=0.02), 0)
    shown = (("hota", ".3f"), ("assa", ".3f"), ("switches", ".1f"), ("ms", ".1f"))
    print(f"{'':52}" + "".join(f"{f'{name}: HOTA AssA switches ms':>36}" for name in SYSTEMS))
    for title, table in tables.items():
        cells = ("  ".join(format(row[name], form) for name, form in shown) for row in table.values())
        print(f"{title:52}" + "".join(f"{cell:>36}" for cell in cells))
    print(
        f"second pass, 10% dropped, points 2%: {mended['before']:.2f} px off before, {mended['after']:.2f} after, "
        f"{mended['filled']:.2f} of the {mended['count']} that it filled in"
    )
    if options.json:
        print(json.dumps({**tables, "second pass": mended}))


if __name__ == "__main__":
    main()
