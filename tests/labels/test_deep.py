"""Planted faults are found where models that have not seen them contradict, and only these."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fiducial.checks.finding import Labelled
from fiducial.labels.deep import deep_findings
from fiducial.labels.unseen import Unseen
from fiducial.types import Instances

NAMES = ["left", "right", "nose", "tail"]


def looked(seed: int, moved: int = 0, exchanged: int = 0) -> tuple[Instances, Unseen, set[int], set[int]]:
    """Six hundred instances, models with errors of t, 5 degrees of freedom, of 2 px; the first rows have a point moved by 30 px,
    the next ones their sides exchanged."""
    generator = np.random.default_rng(seed)
    count = 600
    xy = generator.uniform(20, 80, (count, 4, 2))
    xy[:, 1] = xy[:, 0] + (40, 0)
    noise = [2 * generator.standard_t(5, size=xy.shape) for _ in range(2)]
    labels = xy + generator.normal(size=xy.shape)
    labels[:moved, 2] += 30 * np.array([np.cos(np.arange(moved)), np.sin(np.arange(moved))]).T
    rows = slice(moved, moved + exchanged)
    labels[rows] = labels[rows][:, [1, 0, 2, 3]]
    instances = Instances.of(
        [np.zeros((100, 140, 3), np.uint8)] * count,
        labels,
        boxes=np.tile([0.0, 0, 140, 100], (count, 1)),
        names=NAMES,
        flip_pairs=[(0, 1)],
    )
    unseen = Unseen(
        row=np.arange(count),
        instances=instances,
        part=np.zeros(count, int),
        xy=xy + np.array(noise),
        spread_px=None,
    )
    return instances, unseen, set(range(moved)), set(range(moved, moved + exchanged))


def test_moved_points_and_exchanged_sides() -> None:
    instances, unseen, moved, exchanged = looked(0, moved=30, exchanged=20)
    findings = deep_findings(Labelled({"train": instances}), unseen)
    by_kind = {
        kind: {int(one.annotation_id) - int(instances.annotation_id[0]) for one in findings if one.kind == kind}
        for kind in ("moved_point", "left_right")
    }
    assert len(by_kind["moved_point"] & moved) >= 0.9 * len(moved)
    assert len(by_kind["moved_point"] - moved) <= 3
    assert by_kind["left_right"] <= exchanged
    assert len(by_kind["left_right"]) >= 0.9 * len(exchanged)
    confidences = [one.confidence for one in findings]
    assert confidences == sorted(confidences, reverse=True)
    first = next(one for one in findings if one.kind == "left_right")
    assert (first.points, first.proposal) == (("left", "right"), {"swap": [["left", "right"]]})


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_found_where_nothing_was_planted(seed: int) -> None:
    """Fewer than one in 200 instances, although the models' errors have heavy tails."""
    instances, unseen, _, _ = looked(seed)
    assert len(deep_findings(Labelled({"train": instances}), unseen)) <= 2


def test_a_proposal_is_where_the_models_see_the_point() -> None:
    instances, unseen, _, _ = looked(1, moved=10)
    finding = next(one for one in deep_findings(Labelled({"train": instances}), unseen) if one.points == ("nose",))
    row = int(np.flatnonzero(instances.annotation_id == finding.annotation_id)[0])
    assert finding.proposal is not None
    np.testing.assert_allclose(finding.proposal["xy"]["nose"], unseen.mean[row, 2], atol=0.01)


def test_rows_are_those_of_all_splits() -> None:
    instances, unseen, _, _ = looked(0, moved=30)
    labelled = Labelled({"train": instances.select(np.arange(300)), "val": instances.select(np.arange(300, 600))})
    shifted = replace(unseen, row=np.roll(unseen.row, 300))  # the models looked at val first
    splits = {
        one.split for one in deep_findings(labelled, shifted) if one.kind == "moved_point" and one.confidence > 0.9
    }
    assert splits == {"val"}
