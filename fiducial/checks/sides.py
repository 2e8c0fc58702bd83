"""Instances whose left and right are exchanged, in whole or for some pairs.

A shape is laid by what an exchange leaves where it is, the points of no pair and the middles of the pairs. What is left is
how each pair's left lies from its right, and an exchange turns its sign. Which signs are likeliest under the distribution
of the set is asked of each instance; what a turned sign is worth is learnt for each pair from the set itself, since ankles
cross and ears do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fiducial import geometry
from fiducial.checks import shapes
from fiducial.checks.finding import Finding, Labelled
from fiducial.types import Instances

WHOLE_SURE, PAIR_SURE = 1.0, 3.0  # log odds from which an exchange is told: nearly three to one, twenty to one
SLOPES = np.geomspace(0.03, 1.0, 40)  # how much of a difference in log density is to be believed
SHARES = np.geomspace(1e-3, 0.2, 40)  # of labels that may be exchanged
FITTING = 3.0  # spreads, up to which an exchanged pair lies where all else expects it
AT_A_TIME = 4096  # instances, whose pairs' products are held
CLEAR = 12.0  # difference in log density that leaves no doubt: how far above lies says nothing of the slope
BELIEF = 0.4  # by which the logarithm of a slope is thought to differ from 0, before anything is seen


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """Tells that exchanging the sides of some pairs makes an instance likelier."""

    row: int
    pairs: np.ndarray  # numbers of flip pairs
    is_whole: bool  # all, or most of them: the others are those whose sides lie on each other
    gain: float  # log odds that it is one


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
    if not instances.skeleton.flip_pairs or len(instances) < shapes.FEWEST:
        return []
    parts = _Parts.of(instances)
    odds = [odds_of(column[np.isfinite(column)]) for column in parts.gains().T]
    found = []
    for rows, pairs, signed in parts:
        signs, log_odds, whole = signed.likeliest([odds[pair] for pair in pairs], odds[-1])
        for place in np.flatnonzero(log_odds >= np.where(whole, WHOLE_SURE, PAIR_SURE)):
            row, turned = int(rows[place]), pairs[signs[place] < 0]
            if whole[place] or parts.fit(row, turned):
                found.append(Exchange(row=row, pairs=turned, is_whole=bool(whole[place]), gain=float(log_odds[place])))
    return sorted(found, key=lambda exchange: exchange.row)


def gains(instances: Instances) -> np.ndarray:
    """Gives how much likelier, in log density, the exchange of each pair alone, and last of all, makes each instance
    [n, pairs + 1]; NaN where it is not known."""
    return _Parts.of(instances).gains()


@dataclass(frozen=True)
class _Parts:
    """Instances in the frame of their middles, and their distribution; gives those of the same known pairs at a time, as
    (rows, numbers of the pairs, their log density)."""

    values: np.ndarray  # [n, 2 (middles + pairs)]
    known: np.ndarray  # [n, middles + pairs]
    middles: int
    middle_of: np.ndarray  # [pairs] the number of each pair's middle
    model: shapes.Distribution

    @classmethod
    def of(cls, instances: Instances) -> _Parts:
        vectors, known, maps = across(instances)
        centres, there = middles(instances)
        centres = np.where(there[..., None], geometry.transform(maps, centres), 0)
        both = np.concatenate([there & known.any(axis=1, keepdims=True), known], axis=1)
        values = np.concatenate([centres, vectors], axis=1).reshape(len(vectors), -1)
        order = instances.skeleton.flip_order
        first = np.flatnonzero(np.arange(len(order)) <= order)
        middle_of = np.searchsorted(first, np.array(instances.skeleton.flip_pairs).reshape(-1, 2).min(1))
        model = shapes.distribution_of(values, np.repeat(both, 2, axis=1))
        return cls(values, both, there.shape[1], middle_of, model)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray, _Signed]]:
        for rows, used in shapes.patterns(self.known):
            still, numbers = used[used < self.middles], used[used >= self.middles]
            for some in np.array_split(rows, -(-len(rows) // AT_A_TIME)):
                yield some, numbers - self.middles, _Signed.of(self.model, self.values[some], still, numbers)

    def fit(self, row: int, turned: np.ndarray) -> bool:
        """Whether pairs of a row, exchanged, lie where all else expects them: not so where one of their points was moved."""
        used = np.flatnonzero(self.known[row])
        sign = np.ones(self.known.shape[1])
        sign[self.middles + turned] = -1
        numbers = shapes.xy_of(used)
        away = (self.values[row].reshape(-1, 2) * sign[:, None]).ravel()[numbers] - self.model.mean[numbers]
        spreads, _ = shapes.distances_from_expected(self.model.precision(numbers), away)
        asked = np.concatenate([self.middle_of[turned], self.middles + turned])
        return bool((spreads[np.isin(used, asked)] <= FITTING).all())

    def gains(self) -> np.ndarray:
        """As `gains` gives them."""
        found = np.full((len(self.values), self.known.shape[1] - self.middles + 1), np.nan)
        for rows, pairs, signed in self:
            found[np.ix_(rows, pairs)] = signed.single_gains()
            found[rows, -1] = signed.gain(np.full((len(rows), len(pairs)), -1.0))
        return found


class Odds(NamedTuple):
    """Makes log odds that labels are exchanged of how much likelier the exchange makes them: slope * gain - price."""

    slope: float
    price: float


def odds_of(gains: np.ndarray) -> Odds:
    """Learns from gains in log density [n], most of them of sound labels and below 0, what such a gain is worth.

    Where shapes tell sides apart, sound gains lie far below 0 and exchanged ones as far above. Where they don't (ankles of
    somebody who walks), many lie around 0, on both sides. What is fitted by maximum likelihood is the share of exchanged
    labels and the slope by which a gain becomes log odds, of P(the labels as they are, and not exchanged | the shape)."""
    if len(gains) == 0:
        return Odds(0.0, np.inf)
    sound = 1 / (1 + np.exp(SLOPES[:, None] * np.clip(gains, -CLEAR, CLEAR)))
    likelihood = np.array([np.log((1 - share) * sound + share * (1 - sound)).sum(1) for share in SHARES])
    likelihood = likelihood - (np.log(SLOPES) / BELIEF) ** 2 / 2
    share, slope = np.unravel_index(likelihood.argmax(), likelihood.shape)
    return Odds(float(SLOPES[slope]), float(np.log(1 / SHARES[share] - 1)))


@dataclass(frozen=True)
class _Signed:
    """The log density of instances of one set of known pairs, as a function of which pairs are exchanged."""

    quadratic: np.ndarray  # [n, pairs, pairs]
    linear: np.ndarray  # [n, pairs]
    constant: np.ndarray  # [n]
    variables: int

    @classmethod
    def of(cls, model: shapes.Distribution, values: np.ndarray, still: np.ndarray, numbers: np.ndarray) -> _Signed:
        """Of values [n, p]; `still` are the places in the model of points that stay where they are, `numbers` those of pairs."""
        count = len(numbers)
        fixed, turning = shapes.xy_of(still), shapes.xy_of(numbers)
        precision = model.precision(np.concatenate([fixed, turning]))
        first = len(fixed)
        away, mean = values[:, fixed] - model.mean[fixed], model.mean[turning]
        vectors = values[:, turning].reshape(-1, count, 2)
        own_block, beside = precision[first:, first:], away @ precision[:first, first:]
        quadratic = np.einsum(
            "nia,iajb,njb->nij", vectors, own_block.reshape(count, 2, count, 2), vectors, optimize=True
        )
        linear = (vectors * (own_block @ mean - beside).reshape(-1, count, 2)).sum(-1)
        constant = ((away @ precision[:first, :first]) * away).sum(1) - 2 * beside @ mean + mean @ own_block @ mean
        return cls(quadratic, linear, constant, first + 2 * count)

    def density(self, signs: np.ndarray) -> np.ndarray:
        """The log density [n] with the sides of the pairs whose sign [n, pairs] is -1 exchanged."""
        distance2 = np.einsum("ni,nij,nj->n", signs, self.quadratic, signs, optimize=True)
        return shapes.log_density(distance2 - 2 * (signs * self.linear).sum(1) + self.constant, self.variables)

    def gain(self, signs: np.ndarray) -> np.ndarray:
        """How much likelier signs [n, pairs] are than the labels as they are, [n]."""
        return self.density(signs) - self.density(np.ones_like(signs))

    def changes(self, signs: np.ndarray) -> np.ndarray:
        """By how much the squared distance changes where one more pair is exchanged, [n, pairs]."""
        pull = np.einsum("nij,nj->ni", self.quadratic, signs) - np.einsum("nii->ni", self.quadratic) * signs
        return 4 * signs * (self.linear - pull)

    def single_gains(self) -> np.ndarray:
        """How much likelier the exchange of each pair alone makes the labels, [n, pairs]."""
        ones = np.ones_like(self.linear)
        distance2 = self.quadratic.sum((1, 2)) - 2 * self.linear.sum(1) + self.constant
        changed = distance2[:, None] + self.changes(ones)
        return shapes.log_density(changed, self.variables) - shapes.log_density(distance2, self.variables)[:, None]

    def likeliest(self, of_pair: Sequence[Odds], of_all: Odds) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The likeliest signs [n, pairs], the log odds that they are right [n], and whether most are turned [n]. Signs
        are turned one after the other, the best first, from none and from all turned."""
        rows = np.arange(len(self.linear))
        slope, price = (np.array([getattr(own, name) for own in of_pair]) for name in ("slope", "price"))
        base = self.density(np.ones_like(self.linear))
        best, odds = np.ones_like(self.linear), np.zeros(len(rows))
        for start in (1.0, -1.0):
            signs = np.full_like(self.linear, start)
            used = np.full(len(rows), SLOPES[-1] if start > 0 else of_all.slope)
            paid = np.full(len(rows), 0.0 if start > 0 else of_all.price)
            value = used * (self.density(signs) - base) - paid
            for _ in range(self.linear.shape[1]):
                place = self.changes(signs).argmin(1)
                turned = signs.copy()
                turned[rows, place] *= -1
                new_used = np.minimum(used, slope[place])
                back = turned[rows, place] == start
                new_paid = paid + np.where(back, -price[place], price[place])
                new = new_used * (self.density(turned) - base) - new_paid
                better = new > value + 1e-9
                if not better.any():
                    break
                signs, value = np.where(better[:, None], turned, signs), np.where(better, new, value)
                used, paid = np.where(better, new_used, used), np.where(better, new_paid, paid)
            better = value > odds
            best, odds = np.where(better[:, None], signs, best), np.where(better, value, odds)
        return best, odds, (best < 0).mean(1) > 0.5


def check_sides(labelled: Labelled, joined: Instances, seen_from_behind: np.ndarray) -> list[Finding]:
    """Tells of instances whose left and right are exchanged. `joined` are all splits one after the other;
    `seen_from_behind` [n] the probability that an image, not its labels, shows the other side."""
    pairs = np.array(joined.skeleton.flip_pairs or ()).reshape(-1, 2)
    names = joined.skeleton.points
    findings = []
    for exchange in exchanges(joined):
        sure = 1 / (1 + np.exp(-exchange.gain))
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
                what=f"{of} look exchanged: the other way round is {_times(exchange.gain)} times likelier",
                proposal={"swap": swap},
            )
        )
    return findings


def _times(log_odds: float) -> str:
    """Writes odds as people read them."""
    return f"{np.exp(log_odds):.0f}" if log_odds < 7 else f"10^{log_odds / np.log(10):.0f}"
