"""Plants known faults in a labelled set and counts which of them the checks find: precision and recall of each kind.

    python benchmarks/planted_faults.py DATA [DATA ..] [--seeds 3] [--kinds left_right,moved_point,..]

Planted, each kind alone, in a set that is otherwise as it is:
left_right   the sides of 5 % of the instances, all pairs; one_pair: of one pair of them, whose points lie further apart than
             a twentieth of the instance's size
moved_point  5 % of the labelled points, moved in any direction by 3 to 6, and by 6 to 10, times sigma: the larger of the
             spread of the point given the others (over careful labels of this set) and OKS's sigma times the root of the
             area, where the skeleton states sigmas
duplicate    images of train put into the last split: 2 % of it, the same bytes, saved anew (JPEG 60), at half the size,
             brighter, or mirrored, in turn
point_order  5 % of the instances with all points in a random order, and (two_points) with two exchanged
flip_pairs   the partners of two pairs exchanged, and all pairs drawn anew, once a seed
split_order  all instances of the last split in one random order
quick        nothing is planted: CPU that the half that opens no image takes on 5,000 instances, the set's own again and again
bound        nothing is planted: what share of exchanges could be told from the shapes, whole and pair by pair, by who knew all
             labels to be sound, and let 1 in 200 of them be an alarm (for single pairs: of all of an instance's together)

What is in another order, and is told as exchanged sides, is found too: that is the same where two are exchanged that are a pair.
A finding that is there without any planting is an alarm on the clean set (`clean`), right or wrong: it is not counted as
right or wrong in the planted ones."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from fiducial import geometry
from fiducial.checks import copies, pairs, run, shapes, sides
from fiducial.checks.finding import Finding, Labelled
from fiducial.data import annotations
from fiducial.data.together import JoinedImages
from fiducial.types import Images, Instances

SHARE, COPIED, QUICK = 0.05, 0.02, 5000


@dataclass(frozen=True)
class Altered:
    """Images of others, each changed by a function; implements `Images`."""

    base: Images
    rows: np.ndarray
    change: list[Callable[[np.ndarray], np.ndarray]]

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, row: int) -> str:
        return f"copy_of/{self.base.name(int(self.rows[row])).replace('/', '_')}"

    def read(self, row: int, reduce: int = 1) -> np.ndarray:
        return self.change[row % len(self.change)](self.base.read(int(self.rows[row])))


def saved(image: np.ndarray, quality: int = 60) -> np.ndarray:
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


CHANGES: list[Callable[[np.ndarray], np.ndarray]] = [
    lambda image: image,
    saved,
    lambda image: saved(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), 85),
    lambda image: saved(np.clip(image * 1.1 + 5, 0, 255).astype(np.uint8), 85),
    lambda image: saved(np.ascontiguousarray(image[:, ::-1]), 85),
]


def load(folder: Path) -> dict[str, Instances]:
    splits = {}
    for split in annotations.own_splits(folder):
        part, _ = annotations.load(folder, split, verify=False, carve=False)
        splits[split] = part.select(part.labelled.any(1) & ~part.crowd)
    return splits


def key(finding: Finding) -> tuple:
    return (finding.split, finding.as_json()["annotation_id"], finding.image if finding.kind == "duplicate" else "")


def chosen(part: Instances, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(len(part), max(1, round(SHARE * len(part))), replace=False)


def exchanged(part: Instances, rng: np.random.Generator, one: bool) -> tuple[Instances, set]:
    xy, visibility, changed = part.xy.copy(), part.visibility.copy(), set()
    for row in chosen(part, rng):
        known = part.labelled[row]
        size = np.ptp(part.xy[row][known], axis=0).max()
        apart = [
            (a, b)
            for a, b in part.skeleton.flip_pairs or ()
            if known[a] and known[b] and np.linalg.norm(xy[row, a] - xy[row, b]) > 0.05 * size
        ]
        if not apart:
            continue
        for a, b in [apart[rng.integers(len(apart))]] if one else part.skeleton.flip_pairs or ():
            xy[row, [a, b]], visibility[row, [a, b]] = xy[row, [b, a]], visibility[row, [b, a]]
        changed.add(part.annotation_id[row])
    return replace(part, xy=xy, visibility=visibility), changed


def spread_px(part: Instances, model: Instances) -> np.ndarray:
    """[n, k] px: how far careful labels spread."""
    laid, _ = shapes.aligned(model.xy, model.labelled)
    known = np.repeat(model.labelled & np.isfinite(laid).all(-1), 2, axis=1)
    fitted = shapes.distribution_of(np.nan_to_num(laid.reshape(len(laid), -1)), known).with_free_pose()
    precision = np.linalg.inv(fitted.covariance)
    count = laid.shape[1]
    own = [np.linalg.inv(precision[2 * i : 2 * i + 2, 2 * i : 2 * i + 2]) for i in range(count)]
    relative = np.sqrt([np.trace(block) / 2 for block in own])
    _, maps = shapes.aligned(part.xy, part.labelled)
    px = relative / geometry.scale_of(maps)[:, None]
    stated = part.skeleton.sigmas
    return px if stated is None else np.maximum(px, np.array(stated) * np.sqrt(part.area)[:, None])


def moved(part: Instances, rng: np.random.Generator, px: np.ndarray, low: float, high: float) -> tuple[Instances, set]:
    labelled = np.argwhere(part.labelled & np.isfinite(px))
    xy, changed = part.xy.copy(), set()
    if len(labelled) == 0:
        return part, changed
    for row, point in labelled[rng.choice(len(labelled), max(1, round(SHARE * len(labelled))), replace=False)]:
        turn, length = rng.uniform(0, 2 * np.pi), rng.uniform(low, high) * px[row, point]
        xy[row, point] += length * np.array([np.cos(turn), np.sin(turn)])
        changed.add((part.annotation_id[row], part.skeleton.points[point]))
    return replace(part, xy=xy), changed


def other_order(count: int, rng: np.random.Generator) -> np.ndarray:
    order = rng.permutation(count)
    return other_order(count, rng) if (order == np.arange(count)).all() else order


def scrambled(part: Instances, rng: np.random.Generator, two: bool) -> tuple[Instances, set]:
    xy, visibility, changed = part.xy.copy(), part.visibility.copy(), set()
    for row in chosen(part, rng):
        order = np.arange(xy.shape[1])
        known = np.flatnonzero(part.labelled[row])
        if len(known) < 2:
            continue
        if two:
            a, b = rng.choice(known, 2, replace=False)
            order[[a, b]] = order[[b, a]]
        else:
            order = other_order(len(order), rng)
        xy[row], visibility[row] = xy[row, order], visibility[row, order]
        changed.add(part.annotation_id[row])
    return replace(part, xy=xy, visibility=visibility), changed


def with_copies(splits: dict[str, Instances], rng: np.random.Generator) -> tuple[dict[str, Instances], set]:
    first, last = next(iter(splits)), list(splits)[-1]
    source, target = splits[first], splits[last]
    count = max(len(CHANGES), round(COPIED * len(source)))
    rows = rng.choice(len(source), min(count, len(source)), replace=False)
    altered = Altered(source.images, source.image_row[rows], CHANGES)
    columns = ("annotation_id", "xy", "visibility", "box_xywh", "area", "crowd", "ignored")
    joined = replace(
        target,
        images=JoinedImages([target.images, altered]),
        image_id=np.arange(len(target.images) + len(altered)),
        image_size=np.concatenate([target.image_size, source.image_size[altered.rows]]),
        image_row=np.concatenate([target.image_row, len(target.images) + np.arange(len(altered))]),
        **{name: np.concatenate([getattr(target, name), getattr(source, name)[rows]]) for name in columns},
    )
    return {**splits, last: joined}, {altered.name(row) for row in range(len(altered))}


def wrong_pairs(part: Instances, rng: np.random.Generator, all_anew: bool) -> Instances:
    known = [list(pair) for pair in part.skeleton.flip_pairs or ()]
    if all_anew or len(known) < 2:
        drawn = rng.permutation(len(part.skeleton.points))
        known = [sorted(drawn[2 * i : 2 * i + 2].tolist()) for i in range(len(known))]
    else:
        a, b = rng.choice(len(known), 2, replace=False)
        known[a][1], known[b][1] = known[b][1], known[a][1]
    return replace(part, skeleton=replace(part.skeleton, flip_pairs=tuple((int(a), int(b)) for a, b in known)))


class Counts:
    """Right and wrong findings of one kind, over seeds."""

    def __init__(self) -> None:
        self.right = self.wrong = self.planted = 0

    def add(self, found: set, planted: set, before: set) -> None:
        self.right += len(found & planted)
        self.wrong += len(found - planted - before)
        self.planted += len(planted)

    def __str__(self) -> str:
        precision = self.right / max(1, self.right + self.wrong)
        return f"precision {precision:.3f}  recall {self.right / max(1, self.planted):.3f}  of {self.planted}"


def by_shape(splits: dict[str, Instances], kind: str) -> set:
    findings = run.check_shapes(Labelled(splits), with_images=True, told=set())
    kinds = ("point_order", "left_right") if kind == "point_order" else (kind,)
    told = [finding for finding in findings if finding.kind in kinds and finding.confidence >= run.TOLD]
    if kind == "moved_point":
        return {(finding.as_json()["annotation_id"], finding.points[0], finding.split) for finding in told}
    return {(finding.as_json()["annotation_id"], finding.split) for finding in told}


def bound(part: Instances) -> str:
    """What is told from shapes at best: recall of whole exchanges, and of those of a single pair whose points are apart."""
    gains, alarms = sides.gains(part), 1 / 200
    sizes = np.array([np.ptp(xy[known], axis=0).max() for xy, known in zip(part.xy, part.labelled, strict=True)])
    recalls = []
    pairs_of = part.skeleton.flip_pairs or ()
    for number, share in [*((i, alarms / len(pairs_of)) for i in range(len(pairs_of))), (-1, alarms)]:
        known = np.isfinite(gains[:, number])
        if number >= 0:
            a, b = pairs_of[number]
            known &= np.linalg.norm(part.xy[:, a] - part.xy[:, b], axis=1) > 0.05 * sizes
        own = gains[known, number]
        limit = max(0.0, float(np.quantile(own, 1 - share))) if len(own) else 0.0
        recalls.append((float((own < -limit).mean()) if len(own) else np.nan, int(known.sum())))
    *single, (whole, _) = recalls
    names = [part.skeleton.points[a] for a, _ in pairs_of]
    total = sum(recall * count for recall, count in single if count) / max(1, sum(count for _, count in single))
    worst = sorted((recall, name) for (recall, count), name in zip(single, names, strict=True) if count)[:4]
    shown = ", ".join(f"{name} {recall:.2f}" for recall, name in worst)
    return f"whole {whole:.3f}  single pairs {total:.3f} (least {shown})"


def quick_seconds(splits: dict[str, Instances]) -> float:
    """Of CPU, on `QUICK` instances in the set's own splits."""
    times = QUICK / sum(map(len, splits.values()))
    many = {name: part.select(np.arange(round(times * len(part))) % len(part)) for name, part in splits.items()}
    start = time.process_time()
    run.quick(many)
    return time.process_time() - start


def split_orders(splits: dict[str, Instances], seeds: int) -> int:
    """Counts in how many of the seeds it is found that the last split has another order than the others."""
    right, last = 0, list(splits)[-1]
    count = len(splits[last].skeleton.points)
    for seed in range(seeds):
        order = other_order(count, np.random.default_rng(seed))
        part = replace(splits[last], xy=splits[last].xy[:, order], visibility=splits[last].visibility[:, order])
        found = run.order.check_splits(Labelled({**splits, last: part}))
        right += any(finding.split == last for finding in found)
    return right


def duplicates(splits: dict[str, Instances], seeds: int, known: set[str]) -> Counts:
    counts = Counts()
    for seed in range(seeds):
        copied, names = with_copies(splits, np.random.default_rng(seed))
        labelled = Labelled(copied)
        pictures = copies.pictures_of(labelled)
        found = copies.check_copies(copies.all_copies(labelled, pictures, copies.thumbnails(pictures, labelled)))
        counts.add({finding.image for finding in found if finding.confidence >= run.TOLD}, names, known)
    return counts


def measure(folder: Path, seeds: int, kinds: list[str]) -> None:
    splits = load(folder)
    total = sum(map(len, splits.values()))
    start = time.time()
    clean = run.check_shapes(Labelled(splits), with_images=True, told=set())
    labelled = Labelled(splits)
    pictures = copies.pictures_of(labelled)
    thumbs = copies.thumbnails(pictures, labelled)
    clean += copies.check_copies(copies.all_copies(labelled, pictures, thumbs))
    told = [finding for finding in clean if finding.confidence >= run.TOLD]
    alarms = {kind: sum(finding.kind == kind for finding in told) for kind in {finding.kind for finding in told}}
    print(f"{folder.name}: {total} instances, {time.time() - start:.0f} s; clean: {alarms or 'no alarm'}", flush=True)
    before = {
        kind: {
            (
                finding.as_json()["annotation_id"],
                *((finding.points[0],) if kind == "moved_point" else ()),
                finding.split,
            )
            for finding in told
            if finding.kind == kind
        }
        for kind in ("left_right", "moved_point", "point_order")
    }
    has_pairs = bool(next(iter(splits.values())).skeleton.flip_pairs)
    plans: dict[str, tuple[str, Callable]] = {
        "left_right": ("left_right", lambda part, rng: exchanged(part, rng, False)),
        "one_pair": ("left_right", lambda part, rng: exchanged(part, rng, True)),
        "moved_3_6": ("moved_point", lambda part, rng: moved(part, rng, spread_px(part, joined), 3, 6)),
        "moved_6_10": ("moved_point", lambda part, rng: moved(part, rng, spread_px(part, joined), 6, 10)),
        "point_order": ("point_order", lambda part, rng: scrambled(part, rng, False)),
        "two_points": ("point_order", lambda part, rng: scrambled(part, rng, True)),
    }
    joined = run.joined_of(labelled)
    if not kinds or "quick" in kinds:
        print(f"  {'quick':12} {quick_seconds(splits):.2f} s of CPU on {QUICK} instances", flush=True)
    if has_pairs and (not kinds or "bound" in kinds):
        print(f"  {'bound':12} {bound(joined)}", flush=True)
    for name, (kind, plant) in plans.items():
        if (kinds and name not in kinds) or (kind == "left_right" and not has_pairs):
            continue
        counts = Counts()
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            planted, marks = {}, set()
            for split, part in splits.items():
                planted[split], changed = plant(part, rng)
                for mark in changed:
                    flat = mark if isinstance(mark, tuple) else (mark,)
                    marks.add((*(item.item() if hasattr(item, "item") else item for item in flat), split))
            known = before[kind] | (before["left_right"] if kind == "point_order" else set())
            counts.add(by_shape(planted, kind), marks, known)
        print(f"  {name:12} {counts}", flush=True)
    if not kinds or "duplicate" in kinds:
        known = {finding.image for finding in told if finding.kind == "duplicate"}
        print(f"  {'duplicate':12} {duplicates(splits, seeds, known)}", flush=True)
    if (not kinds or "flip_pairs" in kinds) and has_pairs:
        for all_anew in (False, True):
            drawn = [wrong_pairs(joined, np.random.default_rng(seed), all_anew) for seed in range(10)]
            drawn = [
                part for part in drawn if set(part.skeleton.flip_pairs or ()) != set(joined.skeleton.flip_pairs or ())
            ]
            found = [pairs.refuted(part) for part in drawn]
            mended = sum(one is not None and (one[1] == joined.skeleton.flip_order).all() for one in found)
            how = "all anew" if all_anew else "two exchanged"
            print(
                f"  flip_pairs   {how}: refuted {sum(one is not None for one in found)}, mended {mended} of {len(drawn)}"
            )
    if (not kinds or "split_order" in kinds) and len(splits) > 1:
        print(f"  split_order  found {split_orders(splits, seeds)} of {seeds}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kinds", default="")
    options = parser.parse_args()
    for folder in options.data:
        measure(folder, options.seeds, [kind for kind in options.kinds.split(",") if kind])
