"""Instances whose left and right are exchanged, in whole or for some pairs.

A shape is laid by what an exchange leaves where it is, the points of no pair and the middles of the pairs. What is left is
how each pair's left lies from its right, and an exchange turns its sign. Which signs are likeliest under the distribution
of the set is asked of each instance, with a price on each sign that is turned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fiducial import geometry
from fiducial.checks import shapes
from fiducial.checks.finding import Finding, Labelled
from fiducial.types import Instances

WHOLE_PRICE, PAIR_PRICE = (
    3.0,
    4.0,
)  # how much likelier an exchange must make a shape to be thought of, natural logarithm
WHOLE_SURE, PAIR_SURE = 3.0, 10.0  # and to be told, beyond that; limbs do cross


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """Tells that exchanging the sides of some pairs makes an instance likelier."""

    row: int
    pairs: np.ndarray  # numbers of flip pairs
    is_whole: bool  # all, or most of them: the others are those whose sides lie on each other
    gain: float  # log of how much likelier


def middles(instances: Instances) -> tuple[np.ndarray, np.ndarray]:
    """The points that an exchange leaves where they are, [n, m, 2], and whether each is known [n, m]."""
    order = instances.skeleton.flip_order
    first = np.flatnonzero(np.arange(len(order)) <= order)
    xy = instances.xy.astype(np.float64)
    both = instances.labelled & instances.labelled[:, order]
    return ((xy + xy[:, order]) / 2)[:, first], both[:, first]


def across(instances: Instances) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How the first point of each pair lies from the second in the frame of the middles [n, pairs, 2], whether both are
    known [n, pairs], and the maps into that frame [n, 3, 3]."""
    _, maps = shapes.aligned(*middles(instances))
    one, other = np.array(instances.skeleton.flip_pairs).reshape(-1, 2).T
    usable = np.isfinite(maps).all((1, 2)) & (geometry.scale_of(maps) > 0)
    xy = instances.xy.astype(np.float64)
    vectors = geometry.transform_vectors(maps, xy[:, one] - xy[:, other])
    known = instances.labelled[:, one] & instances.labelled[:, other] & usable.reshape(-1, 1)
    return np.where(known[..., None], vectors, 0), known, maps


def exchanges(instances: Instances) -> list[Exchange]:
    """Finds the instances that an exchange of sides makes much likelier. Nothing where pairs are unknown or shapes too few."""
    pairs = instances.skeleton.flip_pairs
    if not pairs or len(instances) < shapes.FEWEST:
        return []
    vectors, known, maps = across(instances)
    centres, there = middles(instances)
    centres = np.where(there[..., None], geometry.transform(maps, centres), 0)
    there &= known.any(axis=1, keepdims=True)
    variables = np.repeat(np.concatenate([there, known], axis=1), 2, axis=1)
    values = np.concatenate([centres, vectors], axis=1).reshape(len(vectors), -1)
    model = shapes.distribution_of(values, variables)
    found = []
    for rows, used in shapes.patterns(np.concatenate([there, known], axis=1)):
        still, numbers = used[used < there.shape[1]], used[used >= there.shape[1]]
        signs, gains, whole = _likeliest(model, values[rows], still, numbers)
        for place in np.flatnonzero(gains > 0):
            row, turned = int(rows[place]), numbers[signs[place] < 0] - there.shape[1]
            if gains[place] >= (WHOLE_SURE if whole[place] else PAIR_SURE):
                found.append(Exchange(row=row, pairs=turned, is_whole=bool(whole[place]), gain=float(gains[place])))
    return sorted(found, key=lambda exchange: exchange.row)


def _likeliest(
    model: shapes.Distribution, values: np.ndarray, still: np.ndarray, numbers: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The likeliest signs [n, pairs] of instances of the same pairs (`numbers` of places in the model, beside the points
    that stay where they are, `still`), the gain in log density [n] less the prices, and whether they are those of a whole
    exchange [n]. Signs are turned one after the other, the best first, from none and from all turned."""
    count = len(numbers)
    fixed, turning = shapes.xy_of(still), shapes.xy_of(numbers)
    precision = model.precision(np.concatenate([fixed, turning]))
    first = len(fixed)
    away, mean = values[:, fixed] - model.mean[fixed], model.mean[turning]
    vectors = values[:, turning].reshape(-1, count, 2)
    own_block, beside = precision[first:, first:], away @ precision[:first, first:]
    quadratic = np.einsum("nia,iajb,njb->nij", vectors, own_block.reshape(count, 2, count, 2), vectors, optimize=True)
    linear = (vectors * (own_block @ mean - beside).reshape(-1, count, 2)).sum(-1)
    constant = ((away @ precision[:first, :first]) * away).sum(1) - 2 * beside @ mean + mean @ own_block @ mean
    own = np.einsum("nii->ni", quadratic)

    def density(signs: np.ndarray) -> np.ndarray:
        distance2 = np.einsum("ni,nij,nj->n", signs, quadratic, signs, optimize=True) - 2 * (signs * linear).sum(1)
        return shapes.log_density(distance2 + constant, first + 2 * count)

    rows = np.arange(len(vectors))
    base = density(np.ones((len(vectors), count)))
    best, gains, whole = np.ones((len(vectors), count)), np.zeros(len(vectors)), np.zeros(len(vectors), bool)
    for start, price in ((1.0, 0.0), (-1.0, WHOLE_PRICE)):
        signs = np.full((len(vectors), count), start)
        gain = density(signs) - base - price
        for _ in range(count):
            pull = np.einsum("nij,nj->ni", quadratic, signs) - own * signs
            change = 4 * signs * (linear - pull)
            place = change.argmin(1)
            turned = signs.copy()
            turned[rows, place] *= -1
            new = density(turned) - base - price - PAIR_PRICE * (turned != start).sum(1)
            better = new > gain + 1e-9
            if not better.any():
                break
            signs, gain = np.where(better[:, None], turned, signs), np.where(better, new, gain)
        better = gain > gains
        best, gains = np.where(better[:, None], signs, best), np.where(better, gain, gains)
        whole = np.where(better, start < 0, whole)
    return best, gains, whole & ((best < 0).mean(1) > 0.5)


def check_sides(labelled: Labelled, joined: Instances, seen_from_behind: np.ndarray) -> list[Finding]:
    """Tells of instances whose left and right are exchanged. `joined` are all splits one after the other;
    `seen_from_behind` [n] the probability that an image, not its labels, shows the other side."""
    pairs = np.array(joined.skeleton.flip_pairs or ()).reshape(-1, 2)
    names = joined.skeleton.points
    findings = []
    for exchange in exchanges(joined):
        sure = 1 / (1 + np.exp(-exchange.gain if exchange.is_whole else (PAIR_SURE / 2 - exchange.gain) / 2))
        if exchange.is_whole:
            sure *= 1 - seen_from_behind[exchange.row]
        swap = [[names[a], names[b]] for a, b in pairs[exchange.pairs]]
        of = "left and right" if exchange.is_whole else "the sides of " + ", ".join(f"{a}/{b}" for a, b in swap)
        findings.append(
            labelled.finding(
                exchange.row,
                "left_right",
                pairs[exchange.pairs].ravel().tolist(),
                confidence=float(sure),
                what=f"{of} look exchanged: the other way round is 10^{exchange.gain / np.log(10):.0f} times likelier",
                proposal={"swap": swap},
            )
        )
    return findings
