"""Tries int8 and decides: it is taken where it is faster and costs no more than the accuracy allowed, with the layers that
hurt most left in fp32; else half precision where that passes both; else fp32. Why is said in one line."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fiducial import config
from fiducial.card import Card
from fiducial.data import annotations
from fiducial.errors import UserError, did_you_mean
from fiducial.evaluation import evaluate
from fiducial.exporting.int8 import calibration
from fiducial.exporting.int8.quantizer import Quantizer
from fiducial.exporting.int8.verdict import Candidate, Sensitivity, Verdict
from fiducial.log import logger
from fiducial.models.detector import Detector
from fiducial.runtime import cost, runtime
from fiducial.runtime.export_card import Decode, Made, Precision, Where
from fiducial.types import Instances

FASTER = 1.05  # times as fast as fp32: less is within the noise of a clock
SCORED = 1000  # instances of the val split, at most, evenly spread
PROBED = 16  # crops on which each group alone is tried
FEW = 100  # instances, with fewer of which a difference of NME says little
FILE = "model.int8.json"


def export(
    detector: Detector,
    card: Card,
    to: str,
    folder: Path,
    *,
    data: Path,
    max_drop: float,
    crop: Where = "inside",
    decode: Decode = "own",
) -> tuple[Made, Verdict]:
    """FOLDER/model.* in the precision that was chosen, and FOLDER/model.int8.json.

    Calibrated on the train split of `data`, judged on its val split. `max_drop`: by what share of itself NME may rise."""
    if not max_drop >= 0:
        raise UserError(f"--max-drop {max_drop}: expected a share of NME, 0 or more, such as 0.01 for 1 %")
    targets = runtime.targets("INT8") | runtime.targets("HALF")
    if to not in targets:
        raise UserError(f"--int8 --to {to}: int8 is made for {', '.join(targets)}.{did_you_mean(to, targets)}")
    spec = detector.spec
    train, val = (
        evaluate.match_points(annotations.load_for(spec.skeleton, data, split)[0], spec.skeleton.points, str(data))
        for split in ("train", "val")
    )
    crops = calibration.crops_of(train, spec)
    with tempfile.TemporaryDirectory() as work:
        make = runtime.offered(targets[to], "INT8") or runtime.offered(targets[to], "HALF")
        quantizer = make(detector, card, crops, crop=crop, decode=decode)
        trial = Trial(quantizer, _some(val), crops, Path(work))
        made, verdict = decide(trial, str(data), max_drop)
        for file in made.file.parent.iterdir():
            shutil.copyfile(file, folder / file.name)
    config.write_json(folder / FILE, verdict)
    if verdict.scored < FEW:
        logger.warning(
            f"int8 is judged on {verdict.scored} instances of {data}: on so few, NME changes as much by chance; look at the "
            "distances in px below, and evaluate the file on more"
        )
    logger.info(verdict.reason)
    return replace(made, file=folder / made.file.name), verdict


@dataclass(frozen=True)
class Tried:
    """A file that was written and scored, in a folder of its own."""

    made: Made
    about: Candidate


@dataclass
class Trial:
    """Writes, scores and times files of one detector, all against its fp32 file."""

    quantizer: Quantizer
    val: Instances
    crops: np.ndarray  # [n, h, w, 3] uint8, what it is calibrated on
    work: Path

    def __post_init__(self) -> None:
        self._count = 0
        self.plain = self.tried("fp32")

    def tried(self, precision: Precision, kept: tuple[str, ...] = ()) -> Tried:
        """A new file and its NME; of int8, with the groups `kept` in fp32."""
        left = f", {len(kept)} of {len(self.quantizer.groups)} groups in fp32" if kept else ""
        logger.info(f"{precision}{left}: making and scoring it")
        quantized = [group for group in self.quantizer.groups if group not in kept] if precision == "int8" else []
        made = self.quantizer.write(precision, self._folder(), quantized)
        network = runtime.opened(made.file).network
        nme = evaluate.evaluate_network(network, self.val).metrics.nme
        if not nme > 0:
            raise UserError(f"{self.val.source}: an NME of {nme} in {precision}, by which nothing can be judged")
        reference = nme if precision == "fp32" else self.plain.about.nme
        size = cost.exported_cost(made.file).weight_bytes
        return Tried(made, Candidate(precision, kept, nme, (nme - reference) / reference, None, None, size))

    def timed(self, other: Tried) -> Tried:
        """With its speed, in turns with fp32, each in a process of its own and on one thread."""
        logger.info(f"{other.about.precision}: timing it against fp32")
        files = {"fp32": self.plain.made.file, "other": other.made.file}
        found = {name: next(iter(each.values())) for name, each in cost.measure_many(files).items()}
        speedup = cost.ratio(found["fp32"], found["other"])
        if speedup is None:
            raise UserError(next(each.error for each in found.values() if each.error))
        self.plain = Tried(self.plain.made, replace(self.plain.about, speedup=1.0, cpu_ms=found["fp32"].cpu_ms))
        return Tried(other.made, replace(other.about, speedup=speedup, cpu_ms=found["other"].cpu_ms))

    def sensitivity(self) -> tuple[Sensitivity, ...]:
        """Each group in int8 alone, the most harmful first."""
        probes = self.crops[:PROBED]  # these lie furthest apart
        expected = runtime.opened(self.plain.made.file).network.predict(probes).xy
        found = []
        for number, (group, operators) in enumerate(self.quantizer.groups.items(), 1):
            logger.info(f"int8 in {group} alone ({number} of {len(self.quantizer.groups)})")
            made = self.quantizer.write_alone(group, self._folder())
            off = np.abs(runtime.opened(made.file).network.predict(probes).xy - expected)
            shutil.rmtree(made.file.parent)
            found.append(Sensitivity(group, len(operators), float(off.mean())))
        return tuple(sorted(found, key=lambda each: -each.mean_px))

    def _folder(self) -> Path:
        self._count += 1
        folder = self.work / str(self._count)
        folder.mkdir()
        return folder


def decide(trial: Trial, data: str, max_drop: float) -> tuple[Made, Verdict]:
    """The file to take, and why."""
    tried: list[Tried] = []
    sensitivity: tuple[Sensitivity, ...] = ()
    chosen, refusal = trial.plain, f"{trial.quantizer.runtime} has none here"
    if trial.quantizer.groups:
        tried = [trial.timed(trial.tried("int8"))]
        sensitivity = trial.sensitivity() if _is_faster(tried[0]) else ()
        if sensitivity:
            tried += _with_fewer(trial, [each.group for each in sensitivity], tried[0], max_drop)
        chosen, refusal = tried[-1], _refusal(tried[-1], len(trial.quantizer.groups), max_drop)
    if refusal:
        others = [trial.timed(trial.tried(precision)) for precision in trial.quantizer.others]
        tried += others
        passing = [each for each in others if _is_faster(each) and each.about.drop <= max_drop]
        chosen = passing[0] if passing else trial.plain
    about = chosen.about
    reason = f"int8 refused: {refusal}; fp32 kept"
    if about.precision != "fp32":
        stays = f"; fp32 stays in {', '.join(about.kept)}" if about.kept else ""
        reason = f"{_what(about)}, allowed {max_drop:.2%}{stays}"
        reason = f"int8 refused: {refusal}; taken instead: {reason}" if refusal else reason
    verdict = Verdict(
        trial.quantizer.runtime,
        data,
        max_drop,
        len(trial.crops),
        len(trial.val),
        about.precision,
        not refusal,
        reason,
        (trial.plain.about, *(each.about for each in tried)),
        sensitivity,
    )
    return chosen.made, verdict


def _with_fewer(trial: Trial, worst: list[str], whole: Tried, max_drop: float) -> list[Tried]:
    """Leaves the worst group in fp32, then the two worst, four, .. until the drop is allowed; the last one is timed."""
    tried, count = [whole], 1
    while tried[-1].about.drop > max_drop and count < len(worst):
        tried.append(trial.tried("int8", tuple(worst[:count])))
        count *= 2
    if len(tried) > 1 and tried[-1].about.drop <= max_drop:
        tried[-1] = trial.timed(tried[-1])
    return tried[1:]


def _refusal(last: Tried, groups: int, max_drop: float) -> str:
    """Why int8 is not taken; empty where it is."""
    about = last.about
    with_kept = f" with {len(about.kept)} of {groups} groups in fp32" if about.kept else ""
    if about.drop > max_drop and (about.kept or _is_faster(last)):
        return f"NME rises by {about.drop:.2%}{with_kept}, allowed {max_drop:.2%}"
    if not _is_faster(last):
        return f"{about.speedup:.2f} times as fast as fp32{with_kept}, wanted {FASTER}"
    return ""


def _what(about: Candidate) -> str:
    return f"{about.precision} is {about.speedup:.2f} times as fast as fp32, NME {about.nme:.5f} ({about.drop:+.2%})"


def _is_faster(tried: Tried) -> bool:
    return tried.about.speedup is not None and tried.about.speedup >= FASTER


def _some(instances: Instances) -> Instances:
    """Those that can be scored, at most `SCORED`."""
    rows = np.flatnonzero(instances.labelled.any(1) & ~instances.crowd)
    return instances.select(rows[np.linspace(0, len(rows) - 1, min(SCORED, len(rows))).astype(int)])
