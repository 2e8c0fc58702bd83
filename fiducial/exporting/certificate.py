"""The certificate of an export: the file, loaded by its runtime in a process of its own without torch, against torch on
real and on adversarial pictures. A file that is further off than the tolerance is not shipped.

Both sides read the same picture files. The distance is that of a point in x or y, in px of the picture."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fiducial import geometry, trial, worker
from fiducial.data import annotations, crops
from fiducial.data.images import read_image
from fiducial.drawnfaces import procedural_faces
from fiducial.errors import Failure, UserError
from fiducial.evaluation import evaluate, metrics
from fiducial.exporting.recorded import Recorded
from fiducial.geometry import Size
from fiducial.runtime import runtime
from fiducial.runtime.export_card import ExportCard
from fiducial.runtime.runtime import Runtime
from fiducial.types import Instances, Keypoints

BOX_TOLERANCE_PX = 0.05 + 1 / geometry.EIGHTHS  # of found boxes, which are rounded
TOLERANCE_PX = 0.05  # of fp32; what bf16 and int8 cost is judged by the metric
TOLERANCE_CROP_PX = (
    1e-3  # the same in px of the crop, where those are larger: of a picture of 20,000 px one may be 150 px wide
)
REAL = 40  # instances that both sides are scored on
VARIED = 6  # of them, that the adversarial pictures are made of
HUGE_PX = 4000
LONG_PX = 2000  # of the picture that is made 20,000 px long


@dataclass(frozen=True)
class Difference:
    """Torch and the file on one kind of picture."""

    case: str
    pictures: int
    instances: int
    max_px: float
    mean_px: float
    limit_px: float  # for fp32


@dataclass(frozen=True)
class Certificate:
    """What is written beside the file. `metric` is the NME of both sides on the labelled pictures, None without labels."""

    file: str
    bytes: int
    model: str
    runtime: str
    runtime_version: str
    precision: str
    crop: str
    decode: str
    data: str
    max_px: float | None  # this and all that was compared: None where it was not run
    mean_px: float | None
    max_score: float | None
    max_sigma: float | None  # of what points may be off, as a share of it (of less than 1 px: px); None: it isn't told
    tolerance_px: float | None  # None: no limit of px, the metric decides
    metric: dict[str, Any] | None
    cases: tuple[Difference, ...]
    without_torch: bool
    notes: tuple[str, ...] = field(default=())
    not_run: str | None = None  # why the file was not compared, and what to do; None: it was
    reference: str = "torch"  # what it was compared with
    tolerance_crop_px: float = (
        TOLERANCE_CROP_PX  # px of the crop that are none either: `limit_px` of a case is the larger one
    )


@dataclass(frozen=True)
class _Case:
    """Pictures of one kind, as files, with the boxes of each (None = the whole picture)."""

    name: str
    files: tuple[Path, ...]
    boxes: tuple[np.ndarray | None, ...]


def certify(
    torch_side: Runtime, file: Path, card: ExportCard, data: Path | None, notes: Sequence[str] = ()
) -> Certificate:
    """Compares; UserError where fp32 is further off than the tolerance. `data`: where pictures and labels come from,
    its val split or else another; None = drawn faces, which have no labels for other skeletons. Of points that were learnt
    without labels there is no metric, only the distance. Where this machine can't run the file, nothing is compared, and the
    certificate says so."""
    lacks = runtime.offered(runtime.named(card.runtime), "LACKS")
    if lacks is not None and (why := lacks()) is not None:
        return _not_run(torch_side, file, card, data, notes, why)
    instances, source = _instances(data, torch_side)
    with tempfile.TemporaryDirectory() as folder:
        cases = _cases(instances, Path(folder))
        answers, facts = _in_a_process_of_its_own(file, cases, Path(folder))
        differences, largest_score, sigmas = [], 0.0, []
        real = None
        for case, found in zip(cases, answers, strict=True):
            pictures = [read_image(path) for path in case.files]
            asked = zip(pictures, case.boxes, found, strict=True)
            expected = [_expected(torch_side, picture, box, answer) for picture, box, answer in asked]
            off = np.concatenate([np.abs(a.xy - b.xy).ravel() for a, b in zip(expected, found, strict=True)])
            off = np.where(np.isfinite(off), off, np.inf)  # a NaN is no answer
            counted = sum(len(a.xy) for a in expected)
            mean = float(off.mean()) if len(off) else 0.0
            limit = max(_limit_px(torch_side, picture, box) for picture, box in zip(pictures, case.boxes, strict=True))
            differences.append(Difference(case.name, len(pictures), counted, float(off.max(initial=0)), mean, limit))
            scores = [np.abs(a.score - b.score).max(initial=0) for a, b in zip(expected, found, strict=True)]
            largest_score = max(largest_score, *map(float, scores))
            sigmas += [_sigma_off(a, b) for a, b in zip(expected, found, strict=True) if a.sigma is not None]
            real = (expected, found) if case.name == "real" else real
    assert real is not None
    made = Certificate(
        file.name,
        sum(part.stat().st_size for part in runtime.files_of(file)),
        str(torch_side.network.path),
        card.runtime,
        facts["version"],
        card.precision,
        card.crop,
        card.decode,
        source,
        max(each.max_px for each in differences),
        float(np.mean([each.mean_px for each in differences])),
        largest_score,
        max(sigmas, default=None),
        TOLERANCE_PX if card.precision == "fp32" else None,
        None if data is None or not torch_side.skeleton.named else _metric(instances, *real),
        tuple(differences),
        facts["without_torch"],
        tuple(notes),
        reference=torch_side.network.runtime,
    )
    assert made.max_px is not None
    worst = max(differences, key=lambda each: each.max_px / each.limit_px)
    if made.tolerance_px is not None and not worst.max_px <= worst.limit_px:
        raise UserError(
            f"{card.runtime}: its points are up to {worst.max_px:.3g} px from {made.reference}'s ({worst.case}); the limit is "
            f"{worst.limit_px:.3g} px. Nothing was written. Try another runtime, or another decoder of the method"
        )
    if made.tolerance_px is not None and made.max_sigma is not None and not made.max_sigma <= made.tolerance_px:
        raise UserError(
            f"{card.runtime}: what it says of how far points may be off differs by up to {made.max_sigma:.3g} of it from "
            f"{made.reference}'s; the limit is {made.tolerance_px}. Nothing was written. Try another runtime"
        )
    return made


def _limit_px(side: Runtime, picture: np.ndarray, boxes: np.ndarray | None) -> float:
    """How far points may be off in a picture: what is nothing in the crop may be more in a picture of which it shows all."""
    spec = side.card.spec
    scale = geometry.scale_of(crops.maps_of(picture, boxes, spec.size, spec.padding)).min(initial=1.0)
    return max(TOLERANCE_PX, float(TOLERANCE_CROP_PX / scale))


def _not_run(
    torch_side: Runtime, file: Path, card: ExportCard, data: Path | None, notes: Sequence[str], why: str
) -> Certificate:
    """The certificate of a file that this machine can't run: it says why, and what would finish it. Where a machine that can
    has no Fiducial, what finishes it there lies beside the file."""
    finish = runtime.offered(runtime.named(card.runtime), "FINISH")
    source = "not run"
    if finish is None:
        then = f"then `fiducial export {torch_side.network.path} --to {runtime.named(card.runtime).TARGET} --out DIR"
        then += "`" if data is None else f" --data {data}`"
    else:
        instances, source = _instances(data, torch_side)
        with tempfile.TemporaryDirectory() as folder:
            then = finish(file, _recorded(torch_side, _cases(instances, Path(folder))))
    size = sum(part.stat().st_size for part in runtime.files_of(file))
    return Certificate(
        file=file.name,
        bytes=size,
        model=str(torch_side.network.path),
        runtime=card.runtime,
        runtime_version="not run",
        precision=card.precision,
        crop=card.crop,
        decode=card.decode,
        data=source,
        max_px=None,
        mean_px=None,
        max_score=None,
        max_sigma=None,
        tolerance_px=TOLERANCE_PX if card.precision == "fp32" else None,
        metric=None,
        cases=(),
        without_torch=False,
        notes=tuple(notes),
        not_run=f"{why}; {then}",
        reference=torch_side.network.runtime,
    )


def _recorded(torch_side: Runtime, cases: list[_Case]) -> Recorded:
    """The crops of all cases, and torch's points on them; where torch finds the instances itself, those that it finds."""
    spec, found = torch_side.card.spec, []
    for number, case in enumerate(cases):
        for path, given in zip(case.files, case.boxes, strict=True):
            picture = read_image(path)
            boxes = given
            if boxes is None and torch_side.finder is not None:
                boxes = torch_side.finder(picture).box_xywh
            cut, maps = crops.cut(picture, boxes, spec.size, spec.padding)
            points = torch_side.network.predict(cut)
            found.append((np.full(len(cut), number), cut, points, 1 / geometry.scale_of(maps)))
    kinds, cuts, points, scales = zip(*found, strict=True)
    sigmas = [each.sigma for each in points if each.sigma is not None]
    return Recorded(
        tuple(case.name for case in cases),
        tuple(len(case.files) for case in cases),
        np.concatenate(kinds),
        np.concatenate(cuts),
        np.concatenate([each.xy for each in points]),
        np.concatenate([each.score for each in points]),
        np.concatenate(sigmas) if sigmas else None,
        np.concatenate(scales),
    )


def _expected(torch_side: Runtime, picture: np.ndarray, boxes: np.ndarray | None, found: Keypoints) -> Keypoints:
    """Torch's points where the file looked. Where the two find the instances themselves, they must find the same ones: as
    many, each box within `BOX_TOLERANCE_PX`; the points are then those in the file's boxes."""
    if boxes is not None or torch_side.finder is None or found.box_xywh is None:
        return torch_side(picture, boxes)
    own = torch_side.finder(picture)
    off = _boxes_off(own.box_xywh, np.asarray(found.box_xywh))
    if not off <= BOX_TOLERANCE_PX:
        raise UserError(
            f"the file finds other instances than torch in a picture of {picture.shape[1]}x{picture.shape[0]}: "
            f"{len(found.box_xywh)} and {len(own.score)}, up to {off:.3g} px apart; the limit is {BOX_TOLERANCE_PX} px. "
            "Nothing was written. Try another runtime"
        )
    if torch_side.kinds is not None and sorted(torch_side.kinds[own.kind]) != sorted(np.asarray(found.kind)):
        raise UserError(
            f"{torch_side.network.path}: the file takes what it finds for other kinds than torch. Nothing was written"
        )
    return torch_side(picture, np.asarray(found.box_xywh))


def _boxes_off(expected: np.ndarray, found: np.ndarray) -> float:
    """The largest difference of the nearest boxes, one for one; infinite where there are not as many."""
    if len(expected) != len(found):
        return float("inf")
    apart = np.abs(expected[:, None] - found[None]).max(2, initial=0)
    return float(
        max(
            apart.min(0, initial=np.inf if len(found) else 0).max(initial=0),
            apart.min(1, initial=np.inf if len(found) else 0).max(initial=0),
        )
    )


def _sigma_off(expected: Keypoints, found: Keypoints) -> float:
    """The largest difference of sigmas, as a share of what is expected or px where that is less than 1, or of correlations;
    infinite where nothing or a NaN was found."""
    if found.sigma is None or (found.correlation is None) != (expected.correlation is None):
        return float("inf")
    off = [np.abs(expected.sigma - found.sigma) / np.maximum(expected.sigma, 1)]
    off += [] if expected.correlation is None else [np.abs(expected.correlation - found.correlation)]
    return max(float(np.where(np.isfinite(each), each, np.inf).max(initial=0.0)) for each in off)


def table(made: Certificate) -> list[dict[str, Any]]:
    """Lists the cases of a certificate as rows of a printed table."""
    return [
        {
            "pictures": each.case,
            "instances": each.instances,
            "max |dx| px": each.max_px,
            "mean |dx| px": each.mean_px,
            "limit px": each.limit_px,
        }
        for each in made.cases
    ]


def lines(made: Certificate) -> list[str]:
    """The rest, for people."""
    if made.not_run is not None:
        return [
            f"{made.runtime}, {made.precision}, {made.bytes / 1e6:.2f} MB: NOT RUN and so not certified: {made.not_run}"
        ]
    limit = "no limit: NME decides" if made.tolerance_px is None else f"limit {made.tolerance_px} px"
    furthest = max(made.cases, key=lambda each: each.max_px)
    if made.tolerance_px is not None and furthest.max_px > made.tolerance_px:
        limit += f", of the {furthest.case} {furthest.limit_px:.2g} px"
    found = [
        f"{made.runtime} {made.runtime_version}, {made.precision}, {made.bytes / 1e6:.2f} MB: "
        f"at most {made.max_px:.2g} px from {made.reference} ({limit}), scores at most {made.max_score:.2g}; on {made.data}"
    ]
    if made.max_sigma is not None:
        found.append(f"how far points may be off: at most {made.max_sigma:.2g} of it from {made.reference}")
    if made.metric is not None:
        found.append(
            f"NME of {made.metric['count']}: {made.reference} {made.metric['torch']:.5f}, file {made.metric['file']:.5f}"
        )
    return found


def _instances(data: Path | None, torch_side: Runtime) -> tuple[Instances, str]:
    """Some labelled instances, spread over the split, and where they are from."""
    if data is None:
        return procedural_faces(REAL, seed=11, size=Size(256, 256)), "drawn faces"
    for split in ("val", "test", "train"):
        try:
            found, _, _ = annotations.load_for(torch_side.skeleton, data, split)
        except UserError:
            if split == "train":
                raise
            continue
        if torch_side.skeleton.named:  # else boxes are all that the data can give
            found = evaluate.match_points(found, torch_side.skeleton.points, str(data))
        usable = np.flatnonzero(found.labelled.any(1) & ~found.crowd)
        if len(usable):
            rows = usable[np.linspace(0, len(usable) - 1, min(REAL, len(usable))).astype(int)]
            return found.select(rows), f"{data} {split}"
    raise UserError(f"{data}: has no labelled instance to compare with")


def _cases(instances: Instances, folder: Path) -> list[_Case]:
    """Pictures as they are, and as a runtime would rather not have them."""
    numbers = iter(range(10**6))

    def saved(picture: np.ndarray, orientation: int = 1, ending: str = "png") -> Path:
        path = folder / f"{next(numbers)}.{ending}"
        there, encoded = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        assert there
        content = encoded.tobytes()
        path.write_bytes(content if orientation == 1 else _with_orientation(content, orientation))
        return path

    rows, read = [], {}
    for row in range(len(instances)):
        image = int(instances.image_row[row])
        try:
            read[row] = instances.images.read(image)
        except UserError:
            continue
        rows.append(row)
    if not rows:
        raise UserError(f"{instances.source}: none of its pictures can be read")
    boxes = {row: instances.box_xywh[row][None].astype(np.float32) for row in rows}
    some = rows[:: max(1, len(rows) // VARIED)][:VARIED]
    real = _Case("real", tuple(saved(read[row]) for row in rows), tuple(boxes[row] for row in rows))
    file_of = dict(zip(rows, real.files, strict=True))

    def varied(name: str, change: Any, count: int = VARIED) -> _Case:
        """`change(picture, box [1, 4])` -> picture or file, boxes."""
        changed = [change(read[row], boxes[row]) for row in some[:count]]
        return _Case(
            name,
            tuple(file if isinstance(file, Path) else saved(file) for file, _ in changed),
            tuple(box for _, box in changed),
        )

    def resized(picture: np.ndarray, box: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
        share = side / max(picture.shape[:2])
        size = (max(1, round(picture.shape[1] * share)), max(1, round(picture.shape[0] * share)))
        return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if share < 1 else cv2.INTER_LINEAR), box * share

    shift = np.array([[0.5, 0.5, 0, 0]], np.float32)
    several = np.array([[0, 0, 1, 1], [-0.1, 0.05, 1.2, 1], [0.4, 0.3, 0.2, 0.3], [0.2, -0.6, 1, 1], [-3, -2, 7, 6]])
    noise = np.random.default_rng(0)
    return [
        real,
        _Case("whole picture", tuple(file_of[row] for row in some), (None,) * len(some)),
        varied("five boxes at once", lambda p, b: (p, _within(b, several))),
        varied("box half outside", lambda p, b: (p, b + shift * [[b[0, 2], b[0, 3], 0, 0]])),
        varied("box outside", lambda p, b: (p, b + np.array([[3 * p.shape[1], 0, 0, 0]], np.float32))),
        varied("small picture", lambda p, b: resized(p, b, 24)),
        _Case("picture of 1 px", (saved(read[some[0]][:1, :1]),), (None,)),
        varied("nothing in it", lambda p, b: (np.full_like(p, 127), None)),
        varied("many in it", lambda p, b: (_tiled(p), None), 2),
        varied("long picture", lambda p, b: (_lengthened(p), None), 1),
        varied("huge picture", lambda p, b: resized(p, b, HUGE_PX), 2),
        varied("grey", lambda p, b: (cv2.cvtColor(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), b)),
        varied("noise", lambda p, b: (noise.integers(0, 256, p.shape, dtype=np.uint8), b)),
        varied("turned by EXIF", lambda p, b: (saved(np.rot90(p), orientation=6, ending="jpg"), b)),
        varied("JPEG", lambda p, b: (saved(p, ending="jpg"), b)),
    ]


def _tiled(picture: np.ndarray) -> np.ndarray:
    """The picture nine times, at a third of its size, in one."""
    third = cv2.resize(
        picture, (max(1, picture.shape[1] // 3), max(1, picture.shape[0] // 3)), interpolation=cv2.INTER_AREA
    )
    return np.tile(third, (3, 3, 1))


def _lengthened(picture: np.ndarray) -> np.ndarray:
    """The picture at the begin of one that is 20,000 px wide."""
    part = picture[: min(LONG_PX, picture.shape[0]), : min(LONG_PX, picture.shape[1])]
    return np.pad(part, ((0, 0), (0, 20_000 - part.shape[1]), (0, 0)))


def _within(box: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Boxes given as shares of a box: x and y from its corner, sides of its sides."""
    sides = np.concatenate([box[0, 2:], box[0, 2:]])
    return (np.concatenate([box[0, :2], [0, 0]]) + shares * sides).astype(np.float32)


def _with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """A JPEG with an EXIF segment that holds nothing but the orientation (tag 0x0112, one SHORT)."""
    tiff = b"II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00" + bytes([orientation, 0, 0, 0]) + bytes(4)
    segment = b"Exif\x00\x00" + tiff
    return jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + jpeg[2:]


def _in_a_process_of_its_own(
    file: Path, cases: list[_Case], folder: Path
) -> tuple[list[list[Keypoints]], dict[str, Any]]:
    """Asks the file in a process without torch (`certificate_worker`): its answers, and the version of its runtime."""
    asked = [
        {"files": [str(path) for path in case.files], "boxes": [None if b is None else b.tolist() for b in case.boxes]}
        for case in cases
    ]
    task = {"model": str(file), "folder": str(folder), "cases": asked}
    try:
        facts = worker.call("fiducial.exporting.certificate_worker:answer", task)
    except (Failure, ImportError) as error:
        raise UserError(f"{file.name} does not run in its runtime: {error}. Nothing was written") from error
    trial.remember(runtime.files_of(file))
    found = np.load(folder / "answers.npz")
    answers = [
        [
            Keypoints(
                found[f"{i}_{j}_xy"],
                found[f"{i}_{j}_score"],
                found.get(f"{i}_{j}_sigma"),
                correlation=found.get(f"{i}_{j}_correlation"),
                box_xywh=found.get(f"{i}_{j}_box"),
                kind=found.get(f"{i}_{j}_kind"),
            )
            for j in range(len(case.files))
        ]
        for i, case in enumerate(cases)
    ]
    return answers, facts


def _metric(instances: Instances, expected: list[Keypoints], found: list[Keypoints]) -> dict[str, Any] | None:
    """NME of both sides on the same instances."""
    if len(expected) != len(instances):
        return None  # some pictures could not be read
    values = {}
    for name, side in (("torch", expected), ("file", found)):
        joined = Keypoints(np.concatenate([each.xy for each in side]), np.concatenate([each.score for each in side]))
        values[name] = metrics.score(instances, joined).numbers()["nme"]
    if None in values.values():
        return None
    return {"name": "nme", "count": len(instances), **values, "difference": values["file"] - values["torch"]}
