"""What points that were learnt without labels know about labelled ones: the error that is left when a linear map makes the
labelled points of them (Thewlis et al., "Unsupervised learning of object landmarks by factorized spatial embeddings", ICCV
2017; Jakab et al., "Unsupervised learning of object landmarks through conditional image generation", NeurIPS 2018).

The map takes all points of an instance to all labelled ones, both as shares of the crop's sides from its centre. It is
fitted on train by least squares without bias and scored on another split by the skeleton's NME. Two figures say what that
is worth: the mean shape of train in the same crops, and the same network with random weights through a map of its own.

Plain least squares is the published test. Where train has too few instances for so many points it would tell of noise
alone, so a ridge takes its place where cross-validation on train finds it better by more than 1 %; which is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fiducial import geometry
from fiducial.card import DetectorSpec
from fiducial.data import annotations
from fiducial.data.instance_crops import InstanceCrops
from fiducial.data.source import Source
from fiducial.errors import UserError
from fiducial.evaluation import evaluate, metrics
from fiducial.evaluation.metrics import Metrics
from fiducial.geometry import Size
from fiducial.progress import Advance, progress
from fiducial.runtime import runtime
from fiducial.runtime.foreign.network import METHOD as FOREIGN
from fiducial.types import Instances, Keypoints

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    Points = Float[np.ndarray, "n k 2"]

RIDGES = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # strengths, of the inputs' mean square; 0 = least squares
WORTH = 0.99  # a ridge must have less than this share of least squares' error
FOLDS = 5
SEEDS = 3  # networks with random weights

Predict = Callable[[np.ndarray], Keypoints]  # uint8 RGB crops [n, h, w, 3] -> points in px of the crops
MODEL, MEAN_SHAPE, RANDOM = "model", "mean shape", "random weights"


@dataclass(frozen=True)
class Seen:
    """Holds a split as networks saw it, each instance in its crop."""

    instances: Instances  # [n]
    image_to_crop: np.ndarray  # [n, 3, 3]
    size: Size  # of the crops
    points: Mapping[str, Points]  # by each network's name; shares of the crop's sides from its centre
    problems: tuple[str, ...] = ()

    @property
    def truth(self) -> Points:
        """Computes where the labelled points lie, as shares of the crop's sides from its centre."""
        xy = geometry.transform(self.image_to_crop, self.instances.xy.astype(np.float64))
        return centred(xy, self.size)

    def scored(self, points: Points, linear: LinearMap | None = None) -> Scored:
        """Scores labelled points that were found; `points` and `truth` are in the same frame."""
        xy = geometry.unit_to_px(points + 0.5, self.size)
        xy = geometry.transform(geometry.invert(self.image_to_crop), xy)
        return Scored(xy, metrics.measure_instances(xy, self.instances), linear)


@dataclass(frozen=True)
class LinearMap:
    """Maps points of one kind to points of another, without bias."""

    weights: Float[np.ndarray, "inputs outputs"]  # of x and y of each point
    ridge: float  # that it was fitted with

    def __call__(self, points: Points) -> Points:
        return (points.reshape(len(points), -1) @ self.weights).reshape(len(points), -1, 2)


@dataclass(frozen=True)
class Scored:
    """Holds the labelled points as one way found them, and their errors."""

    xy: Points  # px of the images
    metrics: Metrics
    map: LinearMap | None = None  # None: the mean shape needs none


def centred(xy: Points, size: Size) -> Points:
    """Converts px of crops to shares of their sides from the middle: -0.5 and 0.5 at the outer edges."""
    return geometry.px_to_unit(xy, size) - 0.5


def scored(train: Seen, test: Seen) -> dict[str, Scored]:
    """Scores on `test` each network's points through a map fitted on train, and train's mean shape.

    Raises UserError where a point is labelled nowhere in train."""
    truth, instances = train.truth, train.instances
    never = np.flatnonzero(~instances.labelled.any(0))
    if len(never):
        raise UserError(
            f"{instances.source}: point {instances.skeleton.points[never[0]]!r} is labelled nowhere in train, so no map to it "
            "can be fitted; expected every point to be labelled somewhere"
        )
    ways = {}
    for name, points in train.points.items():
        linear = fit(points, truth, instances.labelled, instances.image_row)
        ways[name] = test.scored(linear(test.points[name]), linear)
    shape = mean_shape(truth, instances.labelled)
    return {**ways, MEAN_SHAPE: test.scored(np.broadcast_to(shape, test.truth.shape))}


# ------------------------------------------------------------------------------------------------ pure functions


def fit(points: Points, truth: Points, labelled: Bool[np.ndarray, "n m"], images: Int[np.ndarray, " n"]) -> LinearMap:
    """Fits the map from points [n, k, 2] to truth [n, m, 2]: each labelled point on the instances where it is labelled.

    Instances of one image are in the same fold when the ridge is chosen."""
    inputs, targets = points.reshape(len(points), -1), truth.reshape(len(truth), -1)
    used = np.repeat(labelled, 2, axis=1)
    ridge = chosen_ridge(inputs, targets, used, images)
    return LinearMap(least_squares(inputs, targets, used, ridge), ridge)


def least_squares(
    inputs: Float[np.ndarray, "n i"],
    targets: Float[np.ndarray, "n o"],
    used: Bool[np.ndarray, "n o"],
    ridge: float = 0.0,
) -> Float[np.ndarray, "i o"]:
    """Solves for the weights that minimise |inputs w - target|^2 + ridge n s |w|^2 over the `used` rows of each target,
    s the mean square of the inputs.

    Where several weights do (no ridge, and fewer rows than inputs), gives the smallest."""
    weights = np.zeros((inputs.shape[1], targets.shape[1]))
    masks, group = np.unique(used, axis=1, return_inverse=True)
    for i, mask in enumerate(masks.T):
        columns = np.flatnonzero(group.reshape(-1) == i)
        x, y = inputs[mask], targets[mask][:, columns]
        if ridge == 0:
            weights[:, columns] = np.linalg.lstsq(x, y, rcond=None)[0]
        else:
            penalty = ridge * max(float((x**2).sum()) / x.shape[1], 1e-12)
            weights[:, columns] = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)
    return weights


def chosen_ridge(
    inputs: Float[np.ndarray, "n i"],
    targets: Float[np.ndarray, "n o"],
    used: Bool[np.ndarray, "n o"],
    images: Int[np.ndarray, " n"],
) -> float:
    """Chooses the strength with the least mean distance on images that were left out of the fit (five folds).

    It is 0 unless another is clearly better, and where there are too few images to tell."""
    different, image = np.unique(images, return_inverse=True)
    count = len(different)
    if count < 2 * FOLDS:
        return 0.0
    fold_of_image = np.empty(count, int)
    fold_of_image[np.random.default_rng(0).permutation(count)] = np.arange(count) % FOLDS
    folds = fold_of_image[image]
    errors = []
    for ridge in RIDGES:
        wrong = np.full(targets.shape, np.nan)
        for fold in range(FOLDS):
            out = folds == fold
            weights = least_squares(inputs[~out], targets[~out], used[~out], ridge)
            wrong[out] = inputs[out] @ weights - targets[out]
        distance = np.linalg.norm(wrong.reshape(len(wrong), -1, 2), axis=-1)
        errors.append(float(distance[used[:, ::2]].mean()))
    best = int(np.argmin(errors))
    return RIDGES[best] if errors[best] < WORTH * errors[0] else 0.0


def mean_shape(truth: Points, labelled: Bool[np.ndarray, "n m"]) -> Float[np.ndarray, "m 2"]:
    """Averages the places of each point over the instances where it is labelled."""
    weight = labelled[..., None].astype(np.float64)
    return (truth * weight).sum(0) / weight.sum(0)


# -------------------------------------------------------------------------------------------------------- gathering


@dataclass(frozen=True, kw_only=True)
class LinearMapEvaluation:
    """Holds what a linear map made of a model's points."""

    model: Path
    data: Path
    split: str
    spec: DetectorSpec  # the model's
    runtime: str  # that it ran in
    train: Seen
    test: Seen
    ways: Mapping[str, Scored]  # to the labelled points, as `scored` gives them
    notes: list[str]  # what was assumed, and what could not be done
    problems: list[str]  # what was left out

    @property
    def best(self) -> Scored:
        """Gives the points that the map made of the model's."""
        return self.ways[MODEL]

    @property
    def mean_shape(self) -> Scored:
        """Gives the same points everywhere: train's mean."""
        return self.ways[MEAN_SHAPE]

    @property
    def random(self) -> list[Scored]:
        """Lists the same network with random weights, by each seed; empty where there is no torch."""
        return [way for name, way in self.ways.items() if name not in (MODEL, MEAN_SHAPE)]


def evaluate_by_linear_map(
    model: Path,
    data: Source,
    split: str,
    *,
    strict: bool = False,
    bar: bool = False,
) -> LinearMapEvaluation:
    """Fits a linear map from a model's points to the labelled ones on train and scores it on a split, beside the mean shape
    and the network with random weights. The progress is a `bar`, or lines."""
    if split == "train":
        raise UserError("--split train: the map is fitted on train, so it is scored on another: --split val or test")
    network = runtime.load(model).network
    train, findings = annotations.load(data, "train", strict=strict)
    test, more = annotations.load(data, split, strict=strict)
    train, test = usable(train), usable(evaluate.match_points(test, train.skeleton.points, str(data)))
    spec = network.card.spec
    random, remark = _untrained(spec)
    networks = {MODEL: network.predict, **random}
    with progress("evaluate", len(train) + len(test), "crops", bar=bar) as advance:
        seen_train, seen_test = (see(networks, part, spec, advance) for part in (train, test))
    unread = [*seen_train.problems, *seen_test.problems]
    if strict and unread:
        raise UserError(f"{len(unread)} pictures can't be read, first {unread[0]}")
    said = list(dict.fromkeys([*findings, *more]))  # notes about both splits only once
    return LinearMapEvaluation(
        model=model,
        data=data.path,
        split=split,
        spec=spec,
        runtime=network.runtime,
        train=seen_train,
        test=seen_test,
        ways=scored(seen_train, seen_test),
        notes=[*(str(finding) for finding in said if finding.is_note), *remark],
        problems=[*(str(finding) for finding in said if not finding.is_note), *unread],
    )


def usable(instances: Instances) -> Instances:
    """Picks those with a labelled point, without crowds."""
    return instances.select(instances.labelled.any(1) & ~instances.crowd)


def see(
    networks: Mapping[str, Predict],
    instances: Instances,
    spec: DetectorSpec,
    advance: Advance = lambda count: None,
) -> Seen:
    """Shows the same crops to all networks. `advance` hears of each batch how many crops it was.

    Raises UserError where no image could be read, and for a network that gives NaN."""
    crops = InstanceCrops(instances=instances, spec=spec)
    rows, maps = [], []
    points: dict[str, list[np.ndarray]] = {name: [] for name in networks}
    for batch in crops:
        rows.append(batch.row)
        maps.append(batch.image_to_crop)
        for name, predict in networks.items():
            xy = np.asarray(predict(batch.image).xy, np.float64)
            if not np.isfinite(xy).all():
                raise UserError(f"{name}: the detector returned NaN or infinity, its weights are broken")
            points[name].append(centred(xy, spec.size))
        advance(len(batch.row))
    problems = tuple(str(problem) for problem in crops.problems)
    if not rows:
        raise UserError(
            f"{instances.source}: none of its pictures can be read, first {problems[0] if problems else ''}"
        )
    row = np.concatenate(rows)
    order = np.argsort(row)
    joined = {name: np.concatenate(parts)[order] for name, parts in points.items()}
    return Seen(instances.select(row[order]), np.concatenate(maps)[order], spec.size, joined, problems)


def _untrained(spec: DetectorSpec) -> tuple[dict[str, Predict], list[str]]:
    """The network with random weights, a few times; none, and a line about it, where it can't be built here."""
    if spec.method == FOREIGN:
        return {}, ["no row of random weights: how another project's network is built is not known here"]
    try:
        device = evaluate.device_name()
    except ModuleNotFoundError:
        return {}, ["no row of random weights: building such networks needs torch: pip install 'fiducial[train]'"]
    return {f"{RANDOM}, seed {seed}": untrained(spec, seed, device) for seed in range(SEEDS)}, []


def untrained(spec: DetectorSpec, seed: int, device: str = "cpu") -> Predict:
    """Builds the same network with random weights; the caller's random numbers are not touched."""
    import torch

    from fiducial.models import detector as detectors

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        detector = detectors.build(spec, "no").eval().to(device)
    return lambda crops: detector.predict(torch.from_numpy(crops).to(device)).numpy()
