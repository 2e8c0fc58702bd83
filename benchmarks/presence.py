"""Whether scores tell which points a crop does not show: instances of which the crop shows a half.

    python benchmarks/presence.py DATA MODEL [MODEL ..] [--split val] [--json FILE]

Each instance's box is halved four times: left, right, upper, lower half. Labelled points in the crop are to score higher than
those beyond its edges. Printed for each model: NME on whole boxes, the median error of the points that half boxes show (in % of the
whole box's diagonal), AUC (how often a point that is shown scores higher than one that isn't), and how many of those that aren't
score less than 19 of 20 of those that are."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from fiducial import config, geometry
from fiducial.data import annotations
from fiducial.evaluation.evaluate import evaluate_network
from fiducial.runtime import runtime
from fiducial.types import Instances

HALVES = np.array([[0, 0, 0.5, 1], [0.5, 0, 0.5, 1], [0, 0, 1, 0.5], [0, 0.5, 1, 0.5]])  # x, y, w, h in the box
KEPT = 0.95


def halved(data: Instances, half: np.ndarray) -> Instances:
    """Gives the same instances in a part of their boxes."""
    side = data.box_xywh[:, 2:]
    boxes = np.concatenate([data.box_xywh[:, :2] + half[:2] * side, half[2:] * side], 1)
    return replace(data, box_xywh=boxes.astype(data.box_xywh.dtype))


def measured(model: Path, data: Instances) -> dict[str, float]:
    """Measures a model on whole boxes and on half ones."""
    network = runtime.load(model, finder="no").network
    size, shown, scores, errors = network.card.spec.size, [], [], []
    for half in HALVES:
        result = evaluate_network(network, halved(data, half))
        truth, found = result.instances, result.keypoints
        inside = geometry.inside(geometry.transform(result.image_to_crop, truth.xy), size)
        diagonal = np.hypot(*data.box_xywh[result.row, 2:].T)[:, None]
        distance = np.linalg.norm(found.xy - truth.xy, axis=-1) / diagonal
        shown.append(inside[truth.labelled])
        scores.append(found.score[truth.labelled])
        errors.append(distance[truth.labelled & inside])
    is_shown, score = np.concatenate(shown), np.concatenate(scores)
    ranks = np.argsort(np.argsort(score, kind="stable"), kind="stable") + 1.0
    count, missing = int(is_shown.sum()), int((~is_shown).sum())
    auc = (ranks[is_shown].sum() - count * (count + 1) / 2) / max(count * missing, 1)
    low = np.quantile(score[is_shown], 1 - KEPT)
    return {
        "nme": evaluate_network(network, data).metrics.nme,
        "shown_error": float(np.median(np.concatenate(errors))),
        "auc": float(auc),
        "not_shown_below": float((score[~is_shown] < low).mean()),
        "shown": count,
        "not_shown": missing,
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--split", default="val")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    (data, _), figures = annotations.load(chosen.data, chosen.split), {}
    for model in chosen.models:
        figures[str(model)] = its = measured(model, data)
        print(
            f"{model}: NME {100 * its['nme']:.2f} %, shown points {100 * its['shown_error']:.2f} %, AUC {its['auc']:.3f}, "
            f"{100 * its['not_shown_below']:.0f} % of {its['not_shown']} below 19 of 20 of {its['shown']} that are shown",
            flush=True,
        )
    if chosen.json:
        config.write_json(chosen.json, figures)


if __name__ == "__main__":
    main()
