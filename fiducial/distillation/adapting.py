"""A network that is there with one's own points: its file, and a linear map from its points to those of a labelled set.

Nothing is trained. The map is learnt on train (`point_map`), and what comes out is measured on val."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fiducial import config, files
from fiducial.card import NOT_STATED
from fiducial.data.source import Source
from fiducial.distillation.point_map import learn
from fiducial.distillation.point_teachers import NetworkTeacher
from fiducial.errors import UserError
from fiducial.evaluation import evaluate, spread
from fiducial.evaluation.evaluate import ModelEvaluation
from fiducial.log import logger, muted
from fiducial.report import detector_report
from fiducial.runtime import finder_file, point_map, runtime
from fiducial.runtime.point_map import MappedNetwork
from fiducial.runtime.runtime import Network
from fiducial.training.fit import Data
from fiducial.types import Instances

PAGE, METRICS = "report.html", "metrics.json"


@dataclass(frozen=True)
class Adapted:
    """Holds the file that finds the points of the labels, and its figures on val."""

    file: Path
    figures: dict[str, Any]
    lines: list[str]


def adapt(
    model: Path,
    data: Data,
    truth: Source | Instances,
    out: Path,
    *,
    views: int = 1,
    strict: bool = False,
    bar: bool = False,
) -> Adapted:
    """Learns the map on the train of `data`, measures it on `truth`, and writes OUT, which is empty but for its lock: the
    network's files, the map, figures and their page. The network is asked about `views` of each crop, now and whenever the
    file is run.

    Raises UserError for a run folder, whose network is to be exported first."""
    if any(not file.name.startswith(".") for file in out.iterdir()):
        raise UserError(out, "is not empty; expected a new folder")
    network, files_there = _network_of(model)
    found = NetworkTeacher(network, views).points_of(data.train, bar=bar)
    own, ours = network.card.spec.skeleton, data.train.skeleton
    learnt = learn(found, data.train, own, network.card.spec.size)
    licence = "; ".join(data.licences) or NOT_STATED
    written = point_map.file_of(learnt, ours, own, views=views, learnt_from={"labels": licence})
    written = replace(written, spread=_spread_of(MappedNetwork(network, written), data))
    for file in files_there:
        shutil.copyfile(file, out / file.name)
    file = out / files_there[0].name
    config.write_json(point_map.beside(file), written)
    with muted():  # what is said of a network was said when it was loaded
        result = evaluate.evaluate_model(file, truth, "val", strict=strict)
    summary = {
        **result.summary,
        "map": learnt.told(),
        "cross_validated": files.finite(learnt.cross_validated),
        **_warning(result),
        "problems": [*map(str, data.problems), *result.summary["problems"]],
    }
    config.write_json(out / METRICS, summary)
    detector_report.write_evaluation(out / PAGE, result, file, Path(result.summary["data"]), "val")
    lines = [f"made of the network's points: {learnt.told()}"]
    if learnt.cross_validated is not None:
        lines[0] += f"; cross-validated on train, NME {learnt.cross_validated:.4f}"
    if result.floor is not None:
        lines.append(result.floor.beside())
    paths = {"model": file, "map": point_map.beside(file), "report": out / PAGE}
    return Adapted(file, {**summary, "files": {name: str(path) for name, path in paths.items()}}, lines)


def _warning(result: ModelEvaluation) -> dict[str, str]:
    verdict = None if result.floor is None else result.floor.verdict(result.summary["metrics"]["nme"])
    return {"warning": verdict} if verdict else {}


def _network_of(model: Path) -> tuple[Network, list[Path]]:
    """A model's network, without a map that it may have already, and the files to copy, the one that is loaded first."""
    if not runtime.is_exported(model):
        raise UserError(
            model,
            "is a run folder; expected a file that runs without torch: `fiducial export` it first (or fit with --init)",
        )
    network = runtime.load(model, finder="no").network
    there = runtime.files_of(model)
    finder = finder_file.beside(there[0])
    there = [*there, finder] if finder.is_file() and finder not in there else there
    return point_map.unmapped(network), [file for file in there if file != point_map.beside(there[0])]


def _spread_of(network: MappedNetwork, data: Data) -> Any:
    """How far its points may be off, measured on val."""
    told = spread.uncalibrated(len(network.card.spec.skeleton.points))
    evaluation = evaluate.evaluate_network(network.with_spread(told), data.validation)
    measured = spread.measured_on(evaluation.keypoints, evaluation.instances, evaluation.image_to_crop)
    logger.info(spread.line(measured))
    return measured
