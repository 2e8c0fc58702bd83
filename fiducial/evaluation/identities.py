"""How well instances are told apart through a video: HOTA (Luiten et al., IJCV 2021), IDF1 (Ristani et al., ECCVW 2016) and
MOTA with its switches (Bernardin and Stiefelhagen, 2008).

The definitions are TrackEval's, held against its figures by a test. Several videos are measured as one whose identities are
no one's of another video: that is what TrackEval's sums over sequences come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fiducial.evaluation.assignment import best_pairs

LEAST = np.arange(1, 20) * 0.05  # similarities from which HOTA counts a pair; their mean is the figure
MATCHED = 0.5  # similarity from which IDF1 and MOTA do
TINY = np.finfo(float).eps


class Sight(NamedTuple):
    """What is there in one frame, and what was found."""

    truth: np.ndarray  # [a] int64 identities, from 0 without gaps over all frames
    found: np.ndarray  # [b] likewise, numbered on their own
    similarity: np.ndarray  # [a, b] 0..1


@dataclass(frozen=True, kw_only=True)
class Told:
    """What identities are worth. NaN where there is nothing to measure."""

    hota: float  # mean over LEAST of the root of deta assa
    deta: float  # how well instances are found: pairs over all that is there or was found
    assa: float  # how well they keep their identities: mean over pairs of the share of both tracks that they are paired in
    idf1: float  # F1 of the detections under the best one-to-one pairing of tracks
    mota: float  # 1 - (missed + extra + switches) / truths
    id_switches: int  # a truth is paired with another track than it was last
    missed: int
    extra: int
    frames: int
    truth_tracks: int
    tracks: int


def measure(sights: Sequence[Sight]) -> Told:
    """Measures the frames of a video, in order."""
    truths, tracks = (1 + max((int(one[i].max(initial=-1)) for one in sights), default=-1) for i in (0, 1))
    seen = np.bincount(np.concatenate([one.truth for one in sights] or [np.zeros(0, int)]), minlength=truths)
    told = np.bincount(np.concatenate([one.found for one in sights] or [np.zeros(0, int)]), minlength=tracks)
    total = seen.sum() + told.sum()
    deta, assa = _hota(sights, seen, told)
    missed, extra, switches = _clear(sights, truths)
    together = np.zeros((truths, tracks))
    for one in sights:
        rows, columns = np.nonzero(one.similarity >= MATCHED)
        together[one.truth[rows], one.found[columns]] += 1
    return Told(
        hota=float(np.sqrt(deta * assa).mean()) if total else np.nan,
        deta=float(deta.mean()) if total else np.nan,
        assa=float(assa.mean()) if total else np.nan,
        idf1=float(2 * together[best_pairs(together)].sum() / total) if total else np.nan,
        mota=float(1 - (missed + extra + switches) / seen.sum()) if seen.sum() else np.nan,
        id_switches=switches,
        missed=missed,
        extra=extra,
        frames=len(sights),
        truth_tracks=truths,
        tracks=tracks,
    )


def _hota(sights: Sequence[Sight], seen: np.ndarray, told: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DetA and AssA at each of LEAST. seen [truths] and told [tracks]: in how many frames each is."""
    alike = np.zeros((len(seen), len(told)))
    for one in sights:
        both = one.similarity.sum(0) + one.similarity.sum(1)[:, None] - one.similarity
        alike[np.ix_(one.truth, one.found)] += np.where(both > TINY, one.similarity / np.maximum(both, TINY), 0)
    aligned = alike / np.maximum(seen[:, None] + told - alike, TINY)  # 0..1: do these tracks belong together?
    pairs = []
    for one in sights:
        rows, columns = best_pairs(aligned[np.ix_(one.truth, one.found)] * one.similarity)
        pairs.append(np.stack([one.truth[rows], one.found[columns], one.similarity[rows, columns]], 1))
    truth, found, similarity = np.concatenate([np.zeros((0, 3)), *pairs]).T
    which = truth.astype(np.int64) * len(told) + found.astype(np.int64)
    deta, assa = np.zeros((2, len(LEAST)))
    for place, least in enumerate(LEAST):
        kinds, count = np.unique(which[similarity >= least - TINY], return_counts=True)
        both = seen[kinds // max(len(told), 1)] + told[kinds % max(len(told), 1)] - count
        total = count.sum()
        deta[place] = total / max(seen.sum() + told.sum() - total, 1)
        assa[place] = (count * count / np.maximum(both, 1)).sum() / max(total, 1)
    return deta, assa


def _clear(sights: Sequence[Sight], truths: int) -> tuple[int, int, int]:
    """Missed, extra and switches. Pairs of the frame before go on where they are alike enough; the rest goes by likeness."""
    last, before = (
        np.full(truths, -1),
        np.full(truths, -1),
    )  # the track of each truth: when last paired, in the frame before
    missed = extra = switches = 0
    for one in sights:
        goes_on = one.found == before[one.truth][:, None]
        worth = np.where(one.similarity >= MATCHED - TINY, 1000 * goes_on + one.similarity, 0)
        rows, columns = best_pairs(worth, TINY)
        who, track = one.truth[rows], one.found[columns]
        switches += int(((last[who] >= 0) & (last[who] != track)).sum())
        missed, extra = missed + len(one.truth) - len(rows), extra + len(one.found) - len(rows)
        if len(one.truth) and len(one.found):  # TrackEval lets pairs go on over a frame in which one side is empty
            before[:] = -1
            before[who] = track
        last[who] = track
    return missed, extra, switches
