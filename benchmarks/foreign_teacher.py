"""What a network of another project is worth where few instances are labelled: NME on val with its 95 % interval of

    the teacher itself, by the names of its points and by a map from the labels,
    a student of the labels alone, and one of the labels and the teacher's points on the rest of train,

both students by one recipe in as many steps. DATA is a COCO set; of its train split N instances keep their labels, drawn by
the seed, the others their boxes.

    python benchmarks/foreign_teacher.py faces300w face_landmark.tflite --labels 50 --out out"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import fiducial
from fiducial.data import annotations
from fiducial.distillation import point_map, point_teachers
from fiducial.evaluation import evaluate, metrics
from fiducial.types import Instances

BATCH, EPOCHS, RESAMPLES = 32, 10, 4000


def with_few_labels(data: Path, out: Path, count: int, seed: int, *, alone: bool) -> Path:
    """Writes DATA with `count` labelled instances in train: the others without labels, or (`alone`) not at all."""
    (out / "annotations").mkdir(parents=True, exist_ok=True)
    if not (out / "images").exists():
        (out / "images").symlink_to((data / "images").resolve())
    for split in ("train", "val"):
        content = json.loads((data / "annotations" / f"{split}.json").read_text(encoding="utf-8"))
        if split == "train":
            entries = sorted(content["annotations"], key=lambda entry: entry["id"])
            order = np.random.default_rng(seed).permutation(len(entries))
            for place in order[count:].tolist():
                entries[place] |= {"keypoints": [0] * len(entries[place]["keypoints"]), "num_keypoints": 0}
            kept = sorted(order[:count].tolist()) if alone else range(len(entries))
            content["annotations"] = [entries[place] for place in kept]
        (out / "annotations" / f"{split}.json").write_text(json.dumps(content), encoding="utf-8")
    return out


def of_teacher(file: Path, few: Path) -> dict[str, np.ndarray]:
    """Measures the teacher on val: the NME of each instance, by name and by the map."""
    teacher = point_teachers.load(file)
    train, _ = annotations.load(few, "train")
    truth, _ = annotations.load(few, "val")
    learnt = point_map.learn(teacher.points_of(train), train, teacher.skeleton)
    found = teacher.points_of(truth)
    ways = {"teacher by name": point_map.PointMap(places=learnt.places), "teacher by a map": learnt}
    return {name: instance_nme(way(found, truth.box_xywh).xy, truth) for name, way in ways.items()}


def instance_nme(xy: np.ndarray, truth: Instances) -> np.ndarray:
    return metrics.measure_instances(xy, truth).instance_nme


def row(name: str, errors: np.ndarray) -> dict[str, Any]:
    """The mean, and its interval by resampling instances."""
    errors = errors[np.isfinite(errors)]
    picks = np.random.default_rng(0).integers(0, len(errors), (RESAMPLES, len(errors)))
    low, high = np.percentile(errors[picks].mean(1), (2.5, 97.5))
    return {"": name, "nme": float(errors.mean()), "low": float(low), "high": float(high), "instances": len(errors)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("--labels", type=int, default=50)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--size", default="96x96")
    parser.add_argument("--backbone", default="mobilenetv3_small_100")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    few, alone = (
        with_few_labels(
            arguments.data, arguments.out / name, arguments.labels, arguments.seed, alone=name == "labels_alone"
        )
        for name in ("labels_and_rest", "labels_alone")
    )
    rows = [row(name, errors) for name, errors in of_teacher(arguments.teacher, few).items()]
    for name, data, teacher in (("labels alone", alone, None), ("labels and teacher", few, arguments.teacher)):
        count, _ = annotations.load(data, "train", ignored=True, verify=False)
        a_pass = max(1, len(count) // BATCH)
        run = fiducial.fit(
            data,
            arguments.out / f"run {name}".replace(" ", "_"),
            teacher=teacher,
            backbone=arguments.backbone,
            size=arguments.size,
            epochs=EPOCHS,
            batch_size=BATCH,
            seed=arguments.seed,
            plan=False,
            preflight=False,
            settings=[f"passes={arguments.steps / EPOCHS / a_pass:.6g}"],
        )
        scored = evaluate.evaluate_model(run.folder, data, "val")
        rows.append(row(f"student: {name}", scored.evaluation.metrics.instance_nme))
    for line in rows:
        print(f"{line['']:30} {100 * line['nme']:.2f} % [{100 * line['low']:.2f}, {100 * line['high']:.2f}]")
    if arguments.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
