"""Points that stand in another order than in most instances: of single instances, and of whole splits.

Which point is which is asked of the places alone. Exchanges of two points are tried in all instances. One that is far from
usual is laid on the usual shape in every direction, its points are assigned to the usual ones at the least cost, and
exchanges are tried from there. How much likelier another order must be depends on how many such orders there are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from fiducial import geometry
from fiducial.checks import shapes
from fiducial.checks.assignment import assigned
from fiducial.checks.finding import Finding, Labelled
from fiducial.types import Instances

DIRECTIONS = 24  # in which a shape is laid on the usual one
TRIED, TRIED_MORE = 6, 24  # of them, the nearest, with an assignment; where no order of the first explains the shape
SUSPECT = 2.0  # times the usual distance of a shape, from which its order is asked
ORDINARY = 2.0  # times the usual distance, up to which a shape in another order must lie
FAR_BETTER = 3.0  # or so many times nearer than it was
# How much likelier another order must make a shape, natural logarithm: for one instance in 200 that has another order than
# labelled, and nine to one, beside the logarithm of the number of orders that change so many points; no more than a limit,
# since long tails make nothing likelier than that.
GAIN, MOST_GAIN = 7.5, 40.0
AT_A_TIME = 256  # instances, of which all exchanges of two points are held
MOVED_GAIN, MOVED_SHARE = (
    5.3,
    1 / 3,
)  # the same of a point that was moved, one label in 200; of at most this share of them
EXAMPLES = 16  # sound shapes that others are laid on, besides the usual one
MOST_POINTS = 140  # of skeletons whose order is asked: the assignment takes their cube
FEW_POINTS = 40  # of those where more directions are tried
MOST_SUSPECTS = 400
SPLIT_OFF, SPLIT_BETTER = 0.1, 0.4  # of a split's median shape to train's, root mean square over size; as a share of it


@dataclass(frozen=True, kw_only=True)
class Reordered:
    """Tells that the points of an instance are likelier in another order."""

    row: int
    order: np.ndarray  # [k]: point i should have the coordinates that now are point order[i]'s
    gain: float
    explains: bool  # the shape is a usual one in that order; else it is only far nearer to one


def reordered(instances: Instances) -> list[Reordered]:
    """Finds instances that another order of their points makes much likelier."""
    count = len(instances.skeleton.points)
    if len(instances) < shapes.FEWEST or not 3 < count <= MOST_POINTS:
        return []
    laid, _ = shapes.aligned(instances.xy, instances.labelled)
    known = instances.labelled & np.isfinite(laid).all(-1)
    laid = _of_one_size(laid, known)
    model = shapes.distribution_of(laid.reshape(len(laid), -1), np.repeat(known, 2, axis=1)).with_free_pose()
    distance = np.full(len(laid), np.nan)
    for rows, points in shapes.patterns(known):
        if len(points) > 3:
            used = shapes.xy_of(points)
            away = laid[np.ix_(rows, points)].reshape(len(rows), -1) - model.mean[used]
            distance[rows] = np.sqrt(((away @ model.precision(used)) * away).sum(1) / len(used))
    if not np.isfinite(distance).any():
        return []
    usual = float(np.nanmedian(distance))
    pairs = {frozenset(pair) for pair in instances.skeleton.flip_pairs or ()}
    is_far = distance > SUSPECT * usual
    counts = known.sum(1)
    suspects = np.flatnonzero(is_far | (_exchange_gains(model, laid, known, pairs) >= _needed(2, counts)))
    suspects = suspects[np.argsort(-distance[suspects])][:MOST_SUSPECTS]
    examples = _examples(laid, known, model.mean.reshape(-1, 2), distance < ORDINARY * usual)
    found = []
    for row in np.sort(suspects).tolist():
        points = np.flatnonzero(known[row])
        best = _likeliest(model, laid[row], points, examples, TRIED if is_far[row] else 0)
        if is_far[row] and best[2] > ORDINARY * usual and count <= FEW_POINTS:
            best = max(best, _likeliest(model, laid[row], points, examples, TRIED_MORE), key=lambda tried: tried[1])
        order, gain, away = best
        changed = int((order != np.arange(len(points))).sum())
        explains = away <= ORDINARY * usual
        surplus = gain - float(_needed(changed, np.array([len(points)]))[0])
        is_likeliest = changed > 0 and surplus >= max(0.0, _moved_surplus(model, laid[row], points))
        if is_likeliest and (explains or away <= distance[row] / FAR_BETTER) and not _is_turned(order, points, pairs):
            whole = np.arange(count)
            whole[points] = points[order]
            found.append(Reordered(row=row, order=whole, gain=gain, explains=explains))
    return found


def _moved_surplus(model: shapes.Distribution, shape: np.ndarray, points: np.ndarray) -> float:
    """How much likelier than it must be a shape [k, 2] is where its oddest points are put where the others expect them: what
    looks like another order may be a few points that were moved, each of them to any place of the shape."""
    used = shapes.xy_of(points)
    usual = model.mean[used].reshape(-1, 2)
    precision, away = model.precision(used), shape.ravel()[used] - model.mean[used]
    start = shapes.log_density(away @ precision @ away, len(used))
    best, paid = 0.0, 0.0
    for left in range(len(points), len(points) - max(1, int(MOVED_SHARE * (len(points) - 2))), -1):
        pulled, places = (precision @ away).reshape(left, 2), np.arange(left)
        own = np.linalg.inv(precision.reshape(left, 2, left, 2)[places, :, places, :])
        place = int(np.einsum("ka,kab,kb->k", pulled, own, pulled).argmax())
        anywhere = usual.var(0).mean() / np.sqrt(np.linalg.det(own[place]))
        paid += MOVED_GAIN + np.log(left * max(anywhere, 1.0))
        gone = slice(2 * place, 2 * place + 2)
        precision = precision - precision[:, gone] @ own[place] @ precision[gone]
        precision, away = np.delete(np.delete(precision, gone, 0), gone, 1), np.delete(away, gone)
        best = max(best, float(shapes.log_density(away @ precision @ away, len(used)) - start - paid))
    return best


def _needed(changed: int, counts: np.ndarray) -> np.ndarray:
    """How much likelier an order of counts [n] of points must be that changes so many of them."""
    orders = np.array([math.lgamma(count + 1) - math.lgamma(max(count - changed, 0) + 1) for count in counts.tolist()])
    return np.minimum(GAIN + orders, MOST_GAIN)


def _exchange_gains(
    model: shapes.Distribution, laid: np.ndarray, known: np.ndarray, pairs: set[frozenset[int]]
) -> np.ndarray:
    """How much likelier the best exchange of two points, which are no pair, makes each shape, [n]; -inf where there is none."""
    found = np.full(len(laid), -np.inf)
    for rows, points in shapes.patterns(known):
        one, other = np.triu_indices(len(points), 1)
        free = [frozenset((int(points[a]), int(points[b]))) not in pairs for a, b in zip(one, other, strict=True)]
        one, other = one[free], other[free]
        if len(points) <= 3 or len(one) == 0:
            continue
        used = shapes.xy_of(points)
        precision = model.precision(used)
        blocks = precision.reshape(len(points), 2, len(points), 2).transpose(0, 2, 1, 3)
        across = blocks[one, one] + blocks[other, other] - blocks[one, other] - blocks[other, one]
        for some in np.array_split(rows, -(-len(rows) // AT_A_TIME)):
            shape = laid[np.ix_(some, points)]
            away = shape.reshape(len(some), -1) - model.mean[used]
            pulled = away @ precision
            distance2 = (pulled * away).sum(1)[:, None]
            pull = pulled.reshape(shape.shape)
            by = shape[:, other] - shape[:, one]
            change = 2 * ((pull[:, one] - pull[:, other]) * by).sum(-1) + np.einsum("npi,pij,npj->np", by, across, by)
            gain = shapes.log_density(distance2 + change, len(used)) - shapes.log_density(distance2, len(used))
            found[some] = gain.max(1)
    return found


def _is_turned(order: np.ndarray, points: np.ndarray, pairs: set[frozenset[int]]) -> bool:
    """Whether an order exchanges little but left and right: somebody who turns their back, or a matter of `sides`."""
    changed = [(int(points[i]), int(points[j])) for i, j in enumerate(order) if i != j]
    return sum(frozenset(pair) in pairs for pair in changed) > len(changed) / 2


def _of_one_size(laid: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Shapes [n, k, 2] as large as the median of them on the points that they have: one whose points are exchanged at random
    fits best as a single place."""
    usual = np.nan_to_num(np.nanmedian(np.where(known[..., None], laid, np.nan), axis=0))
    weight = known[..., None] / np.maximum(known.sum(1), 1)[:, None, None]

    def measured(shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        centre = (np.where(known[..., None], shape, 0) * weight).sum(1, keepdims=True)
        return centre, np.sqrt((np.where(known[..., None], shape - centre, 0) ** 2).sum((1, 2)))[:, None, None]

    (middle, size), (_, wanted) = measured(laid), measured(np.broadcast_to(usual, laid.shape))
    return np.where(known[..., None], middle + (laid - middle) * wanted / np.maximum(size, 1e-9), 0)


def _likeliest(
    model: shapes.Distribution, shape: np.ndarray, points: np.ndarray, examples: np.ndarray, tried: int
) -> tuple[np.ndarray, float, float]:
    """The likeliest order of the labelled points of a shape [k, 2], how much likelier it is than the one it has, and its
    distance then. Of directions in which it lies on examples so many are `tried`; 0: exchanges of two points alone."""
    used = shapes.xy_of(points)
    precision, mean = model.precision(used), model.mean[used].reshape(-1, 2)
    own = shape[points]

    def density(candidates: np.ndarray) -> np.ndarray:
        away = (candidates - mean).reshape(len(candidates), -1)
        return shapes.log_density(((away @ precision) * away).sum(1), len(used))

    best, start = np.arange(len(points)), float(density(own[None])[0])
    placed, gained = own, start
    for order, turned in _assignments(own, examples[:, points], tried):
        laid = turned[order]
        if (value := float(density(laid[None])[0])) > gained:
            best, placed, gained = order, laid, value
    one, other = np.triu_indices(len(points), 1)
    for _ in range(len(points)):  # exchanges of two
        candidates = np.repeat(placed[None], len(one), axis=0)
        numbers = np.arange(len(one))
        candidates[numbers, one], candidates[numbers, other] = placed[other], placed[one]
        values = density(candidates)
        place = int(values.argmax())
        if values[place] <= gained + 1e-9:
            break
        placed, gained = candidates[place], float(values[place])
        best = best.copy()
        best[[one[place], other[place]]] = best[[other[place], one[place]]]
    away = (placed - mean).ravel()
    return best, gained - start, float(np.sqrt(away @ precision @ away / len(used)))


def _examples(laid: np.ndarray, known: np.ndarray, mean: np.ndarray, sound: np.ndarray) -> np.ndarray:
    """The usual shape and some sound ones, each as different as can be from those before, [e, k, 2]."""
    whole = np.where(known[sound][..., None], laid[sound], mean)
    chosen = [mean]
    nearest = np.full(len(whole), np.inf)
    for _ in range(min(EXAMPLES, len(whole))):
        nearest = np.minimum(nearest, np.linalg.norm(whole - chosen[-1], axis=(1, 2)))
        chosen.append(whole[nearest.argmax()])
    return np.stack(chosen)


def _assignments(own: np.ndarray, examples: np.ndarray, tried: int = TRIED) -> list[tuple[np.ndarray, np.ndarray]]:
    """Orders in which points [q, 2] lie on those of examples [e, q, 2], from the nearest directions, and the points laid so."""
    if tried == 0:
        return []
    weight = np.ones(len(own))
    centres = examples.mean(1, keepdims=True)
    sizes = np.linalg.norm(examples - centres, axis=(1, 2))
    own = own - own.mean(0)
    own = own / max(float(np.linalg.norm(own)), 1e-12)
    turned = np.stack(
        [geometry.transform(geometry.rotation(2 * np.pi * n / DIRECTIONS), own) for n in range(DIRECTIONS)]
    )
    laid = turned * sizes[:, None, None, None] + centres[:, None]
    apart = np.linalg.norm(laid[:, :, :, None] - examples[:, None, None], axis=-1)
    near = (apart.min(2).sum(2) + apart.min(3).sum(2)) / sizes[:, None]
    found = []
    for number in near.ravel().argsort()[:tried].tolist():
        example, points = examples[number // DIRECTIONS], laid[number // DIRECTIONS, number % DIRECTIONS]
        order = np.arange(len(own))
        for _ in range(2):
            taken = assigned(np.linalg.norm(example[:, None] - points, axis=-1) ** 2)
            if (taken == order).all():
                break
            order = taken
            points = geometry.transform(geometry.similarity(points[order], example, weight), points)
        found.append((order, points))
    return found


def whole_split_order(first: Instances, other: Instances) -> np.ndarray | None:
    """The order in which all points of a split must be read to lie as those of the first do; None where they do, or where no
    order explains it."""
    count = len(first.skeleton.points)
    if min(len(first), len(other)) < 5 or not 3 < count <= MOST_POINTS:
        return None
    medians = []
    for part in (first, other):
        laid, _ = shapes.aligned(part.xy, part.labelled)
        with np.errstate(invalid="ignore"):
            medians.append(np.stack([np.median(laid[part.labelled[:, i], i], axis=0) for i in range(count)]))
    usual, own = medians
    there = np.isfinite(usual).all(1) & np.isfinite(own).all(1)
    if there.sum() <= 3:
        return None
    points = np.flatnonzero(there)
    usual, own = usual[points], own[points]

    def off(shape: np.ndarray) -> float:
        onto = geometry.transform(geometry.similarity(shape, usual, np.ones(len(usual))), shape)
        return float(np.linalg.norm(onto - usual) / np.linalg.norm(usual - usual.mean(0)))

    best, least = np.arange(len(points)), off(own)
    start = least
    for order, _ in _assignments(own, usual[None]):
        if (value := off(own[order])) < least:
            best, least = order, value
    if start < SPLIT_OFF or least > SPLIT_BETTER * start:
        return None
    whole = np.arange(count)
    whole[points] = points[best]
    return whole


def check_order(
    labelled: Labelled, joined: Instances, told: set[int], turned: Mapping[int, np.ndarray]
) -> list[Finding]:
    """Tells of instances whose points stand in another order, but in rows that are `told` of already. Rows `turned` are asked
    with their points in the order that is given for each, and told of where that is not all."""
    names = joined.skeleton.points
    pairs = {frozenset(pair) for pair in joined.skeleton.flip_pairs or ()}
    xy, visibility = joined.xy.copy(), joined.visibility.copy()
    for row, order in turned.items():
        xy[row], visibility[row] = xy[row, order], visibility[row, order]
    findings = []
    for one in reordered(replace(joined, xy=xy, visibility=visibility)):
        if one.row not in told:
            order = turned[one.row][one.order] if one.row in turned else one.order
            if _is_turned(order, np.arange(len(order)), pairs):
                continue
            changed = np.flatnonzero(order != np.arange(len(order)))
            findings.append(
                labelled.finding(
                    one.row,
                    "point_order",
                    changed.tolist(),
                    confidence=0.97 if one.explains else 0.9,
                    what=f"{len(changed)} points look exchanged with each other: another order is 10^{one.gain / np.log(10):.0f} times likelier",
                    proposal={"order": [names[i] for i in order]} if one.explains else None,
                )
            )
    return findings


def check_splits(labelled: Labelled) -> list[Finding]:
    """Tells of splits all of whose instances have another order of points than those of the first."""
    first, findings = labelled.first, []
    pairs = {frozenset(pair) for pair in first.skeleton.flip_pairs or ()}
    for split, other in labelled.instances:
        if other is first or (order := whole_split_order(first, other)) is None:
            continue
        names = first.skeleton.points
        changed = np.flatnonzero(order != np.arange(len(order)))
        is_sides = all(frozenset((i, int(order[i]))) in pairs for i in changed)
        findings.append(
            Finding(
                kind="left_right" if is_sides else "point_order",
                split=split,
                points=tuple(names[i] for i in changed),
                confidence=0.98,
                what=f"all its instances have {len(changed)} points in another order than the first split has",
                proposal={"order": [names[i] for i in order]},
            )
        )
    return findings
