"""Few labels, without and with images that have none: error on val against the number of labels.

    python benchmarks/few_labels.py DATA [--unlabelled PATH] [--labels 50,100,200] [--seeds 1] [--steps 1500]
        [--size 96] [--backbone tf_efficientnet_lite0] [--pretrained here] [--out FOLDER] [--json FILE]

DATA has splits train and val. For each number of labels and each seed so many of train's instances are chosen, by the seed,
so that the fewer are among the more. Two networks learn from them in the same steps: one from these alone, one from the
unlabelled images too, which are the rest of train, its labels unseen, or what `--unlabelled` names. Printed: NME on val of
the epoch that was kept, with an interval of 95 % (bootstrap over val's instances, of the mean over the seeds), the paired
difference, and how long each took; first the floor, the mean shape of the labels. A run that is in `--out` already is not
made again, and one that was cut off goes on. `--steps 3750 --arms labels` says what the time that the unlabelled images cost is
worth without them.

An arm is one or several of these, joined by `+`: `labels`, nothing else; `unlabelled`, the unlabelled images; `start`, from the
weights of the detector that `--init` names, as its network; `taught`, the unlabelled images with the points that `--from`, a
network of another project or `face`, finds on them. `--arms labels,start,start+taught --init face --from face_landmark.tflite`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fiducial
from fiducial.comparison import statistics
from fiducial.data import conversion
from fiducial.evaluation import bootstrap, evaluate, floor
from fiducial.models import detector as detectors
from fiducial.training import fit as fitting
from fiducial.training.recipe import Recipe
from fiducial.types import Instances

LABELS, UNLABELLED, START, TAUGHT = "labels", "unlabelled", "start", "taught"
EPOCHS = 30  # that val is scored in


def chosen(train: Instances, count: int, seed: int) -> tuple[Instances, Instances]:
    """Splits train into `count` instances and the rest."""
    order = np.random.default_rng(seed).permutation(len(train))
    return train.select(np.sort(order[:count])), train.select(np.sort(order[count:]))


def on_disk(train: Instances, few: Instances, val: Instances, out: Path) -> Path:
    """Writes the set, in which instances of train that are not among the few have boxes alone, unless it is there."""
    if not out.exists():
        has_labels = np.isin(train.annotation_id, few.annotation_id)
        hidden = replace(train, visibility=np.where(has_labels[:, None], train.visibility, 0).astype(np.uint8))
        conversion.write_splits({"train": hidden, "val": val}, out, "coco")
    return out


def cell(
    arm: str,
    train: Instances,
    few: Instances,
    pool: Any,
    val: Instances,
    out: Path,
    options: argparse.Namespace,
    seed: int,
) -> dict[str, Any]:
    """Trains one network and measures it on val."""
    file = out / "cell.json"
    if file.is_file():
        return json.loads(file.read_text())
    parts = arm.split("+")
    learnt = len(few) + (len(pool) if TAUGHT in parts else 0)
    batch = min(options.batch_size, learnt)
    began = time.perf_counter()
    network: dict[str, Any] = {"method": options.method, "backbone": options.backbone, "size": options.size}
    head: list[str] = []
    if START in parts:
        spec = fitting.starting_network(Recipe(init=options.init))
        assert spec is not None, "--init: expected a detector of Fiducial's"
        network = {"init": options.init, "method": spec.method, "backbone": spec.backbone, "size": str(spec.size)}
        head = [f"head.{name}={json.dumps(value)}" for name, value in spec.head.items()]
    data: dict[str, Any] = {"data": few, "val": val}
    if TAUGHT in parts:  # of the rest of train
        data = {"data": on_disk(train, few, val, out.with_suffix(".set")), "teacher": options.teacher}
    run = fiducial.fit(
        out=out,
        **data,
        unlabelled=pool if UNLABELLED in parts else None,
        **network,
        pretrained=options.pretrained,
        seed=seed,
        epochs=EPOCHS,
        batch_size=batch,
        preflight=False,
        finder="no",
        workers=0,
        resume=out.exists(),
        precision="fp32",
        memory_format="channels_last",
        passes=options.steps / EPOCHS / max(1, learnt // batch),
        settings=[
            *head,
            *options.set,
            *(["unlabelled.control=false", *options.set_unlabelled] if UNLABELLED in parts else []),
        ],
    )
    seconds = time.perf_counter() - began
    detector, _ = detectors.load(out)
    measured = evaluate.evaluate_detector(detector, val).metrics
    result = {
        "nme": measured.nme,
        "instance_nme": measured.instance_nme.tolist(),
        "seconds": seconds,
        "told": run.figures.get("unlabelled"),
        "teacher": json.loads((out / "recipe.json").read_text()).get("teacher"),
    }
    file.write_text(json.dumps(result))
    return result


def parsed() -> argparse.Namespace:
    """Reads the command line, and refuses arms that lack what they need."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--unlabelled", type=Path, help="other images [the rest of train]")
    parser.add_argument("--labels", default="50,100,200")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--size", default="96x96")
    parser.add_argument("--method", default="heatmap")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--pretrained", default="here")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--set", action="append", default=[], help="any setting of both, as `fiducial fit` has it")
    parser.add_argument("--set-unlabelled", action="append", default=[], help="of the second alone")
    parser.add_argument("--init", help="weights that the arm `start` begins with: a run folder, an exported file, face")
    parser.add_argument("--from", dest="teacher", help="what finds points for the arm `taught`: a file, or face")
    parser.add_argument("--arms", default=f"{LABELS},{UNLABELLED}")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="keeps the runs, and takes those that are there")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    parts = {part for arm in options.arms.split(",") for part in arm.split("+")}
    if unknown := parts - {LABELS, UNLABELLED, START, TAUGHT}:
        parser.error(f"--arms: {', '.join(sorted(unknown))}: expected labels, unlabelled, start, taught, joined by +")
    if START in parts and not options.init:
        parser.error("--arms start: give the detector that it starts from by --init")
    if TAUGHT in parts and (not options.teacher or options.unlabelled):
        parser.error(
            "--arms taught: give the network that teaches by --from; it teaches on the rest of train, not --unlabelled"
        )
    return options


def main() -> None:
    options = parsed()
    torch.set_num_threads(options.threads)
    train, val = Instances.read(options.data, "train"), Instances.read(options.data, "val")
    train = train.select(~train.ignored)
    val = val.select(~val.ignored)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        root = options.out or Path(temporary)
        for count in [int(text) for text in options.labels.split(",")]:
            row: dict[str, Any] = {"number": count}
            grounds = [floor.floor_of(val, chosen(train, count, seed)[0]).nme for seed in seeds]
            row["floor"] = float(np.mean(grounds))
            errors = {}
            for arm in options.arms.split(","):
                cells = []
                for seed in seeds:
                    few, rest = chosen(train, count, seed)
                    pool = options.unlabelled or rest
                    cells.append(cell(arm, train, few, pool, val, root / f"{arm}_{count}_{seed}", options, seed))
                    print(f"{arm} {count} seed {seed}: {cells[-1]['nme']:.4f}", file=sys.stderr, flush=True)
                errors[arm] = np.array([each["instance_nme"] for each in cells])
                row[arm] = {
                    "nme": float(np.mean([each["nme"] for each in cells])),
                    "interval": interval(errors[arm]),
                    "seeds": [each["nme"] for each in cells],
                    "seconds": float(np.mean([each["seconds"] for each in cells])),
                    "told": [each.get("told") for each in cells],
                }
            if len(arms := list(errors)) == 2:
                difference = statistics.paired_bootstrap(errors[arms[1]], errors[arms[0]])
                row["difference"] = [difference.mean, difference.low, difference.high]
            rows.append(row)
    print_table(rows, options)
    if options.json:
        options.json.write_text(json.dumps({"data": str(options.data), "rows": rows}, indent=1))


def interval(errors: np.ndarray) -> list[float]:
    """Ends of the bootstrap interval of a mean error; errors [s, n]."""
    values = errors.mean(0)
    return list(bootstrap.interval(bootstrap.resampled_means(values[np.isfinite(values)], bootstrap.RESAMPLES)))


def print_table(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Prints Markdown, NME in percent."""
    arms = options.arms.split(",")
    print(f"| labels | floor | {' | '.join(arms)} | difference | time |\n|{'---|' * (len(arms) + 4)}")
    for row in rows:
        texts = [
            f"{100 * row[arm]['nme']:.2f} ({100 * row[arm]['interval'][0]:.2f} to {100 * row[arm]['interval'][1]:.2f})"
            for arm in arms
        ]
        mean, low, high = row.get("difference", [np.nan] * 3)
        difference = f"{100 * mean:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"
        times = row[arms[-1]]["seconds"] / row[arms[0]]["seconds"]
        print(f"| {row['number']} | {100 * row['floor']:.2f} | {' | '.join(texts)} | {difference} | x{times:.1f} |")


if __name__ == "__main__":
    main()
