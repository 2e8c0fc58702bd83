"""COCO's AP and AR: every number on the way, from OKS to precision."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from parity.golden import Case, Tolerance
from torch import Tensor

from fiducial.data.skeletons import COCO17
from fiducial.evaluation import coco
from fiducial.evaluation.coco_files import Labels, read_detections, read_truth
from fiducial.evaluation.predictions import evaluate_results

TOLERANCE = {
    "oks": Tolerance(absolute=1e-300, relative=1e-12),
    "matches*": Tolerance(),
    "*": Tolerance(absolute=1e-9),
}
LEFT_OUT = {"stats_ids_from_zero_pycocotools": "its fault: an annotation whose id is 0 never counts as found"}
SIGMAS = np.array(COCO17.sigmas)
TEN = tuple(kind + name for kind in ("ap", "ar") for name in coco.NUMBERS)


def expected(case: Case) -> dict[str, Tensor]:
    """The tensors, and `stats.json` as one more."""
    stats = json.loads((case.folder / "stats.json").read_text())
    return case.expected | {"stats.json": torch.tensor([stats[name] for name in stats["_order"]], dtype=torch.float64)}


def run(case: Case) -> dict[str, Tensor]:
    table, detections = read(case.folder)
    truth = table.instances
    precision, recall = coco.curves(truth, detections, SIGMAS)
    stats = torch.tensor(list(coco.average_precision(truth, detections, SIGMAS).values()), dtype=torch.float64)
    found = {
        "stats_ids_from_zero_xtcocotools": stats_from_zero(case.folder),
        "precision": torch.from_numpy(precision),
        "recall": torch.from_numpy(recall),
        "oks": torch.from_numpy(oks_rows(table, detections, case.expected["oks"].numpy())),
        "matches_oks50_all": torch.from_numpy(
            match_rows(table, detections, case.expected["matches_oks50_all"].numpy())
        ),
    }
    for name in case.expected:
        if name.startswith("stats_sigmas_x"):
            wider = coco.average_precision(truth, detections, SIGMAS * float(name.removeprefix("stats_sigmas_x")))
            found[name] = torch.tensor(list(wider.values()), dtype=torch.float64)
    return found | dict.fromkeys(("stats", "stats_xtcocotools", "stats.json"), stats)


def read(folder: Path) -> tuple[Labels, coco.Detections]:
    table = read_truth(folder / "gt.json")
    return table, read_detections(folder / "dt.json", table)


def stats_from_zero(folder: Path) -> Tensor:
    """The ten numbers where the truth's ids begin at 0."""
    content = json.loads((folder / "gt.json").read_text())
    for annotation in content["annotations"]:
        annotation["id"] -= 1
    with tempfile.TemporaryDirectory() as place:
        shifted = Path(place) / "truth.json"
        shifted.write_text(json.dumps(content))
        metrics = evaluate_results(folder / "dt.json", shifted)["metrics"]
    return torch.tensor([metrics[name] for name in TEN], dtype=torch.float64)


def oks_rows(table: Labels, detections: coco.Detections, like: np.ndarray) -> np.ndarray:
    """Rows (image id, the detection's rank by score, the truth's place in its image, OKS), in the order of `like`; rows
    that it lacks come last, so that they are seen."""
    truth = table.instances
    order = np.lexsort((-detections.score, detections.image_row))
    rank = np.arange(len(order)) - np.searchsorted(detections.image_row[order], detections.image_row[order])
    kept = rank < coco.MAX_DETECTIONS
    pairs = coco.similarities(truth, detections, SIGMAS, order[kept])
    by_image = np.argsort(truth.image_row, kind="stable")
    place = np.empty(len(by_image), dtype=np.int64)
    place[by_image] = np.arange(len(by_image)) - np.searchsorted(truth.image_row[by_image], truth.image_row[by_image])
    image = truth.image_id[truth.image_row[pairs.truth]]
    return sorted_like(np.column_stack([image, rank[kept][pairs.detection], place[pairs.truth], pairs.oks]), like, 3)


def match_rows(table: Labels, detections: coco.Detections, like: np.ndarray) -> np.ndarray:
    """Rows (image id, the detection's number in its file, id of the truth or 0, ignored) of the best 20 of an image."""
    truth = table.instances
    matched = coco.matches(truth, detections, SIGMAS)
    order = np.lexsort((-detections.score, detections.image_row))
    rank = np.arange(len(order)) - np.searchsorted(detections.image_row[order], detections.image_row[order])
    best = order[rank < coco.MAX_DETECTIONS]
    image = truth.image_id[detections.image_row[best]]
    found = matched[best] >= 0
    ids = np.where(found, table.instances.annotation_id[matched[best]], 0)
    rows = np.column_stack([image, best + 1, ids, found & truth.ignored[matched[best]]]).astype(np.float64)
    return sorted_like(rows, like, 2)


def sorted_like(rows: np.ndarray, like: np.ndarray, keys: int) -> np.ndarray:
    """Rows in the order in which their first `keys` columns come in `like`."""
    places = {tuple(row[:keys]): i for i, row in enumerate(like.tolist())}
    return np.array(sorted(rows.tolist(), key=lambda row: places.get(tuple(row[:keys]), len(places))))
