"""Bundled skeletons against real annotations; what is concluded from names."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from fiducial.data import skeletons
from fiducial.data.skeletons import COCO17, IBUG68, LAPA106, WFLW98
from fiducial.errors import UserError
from fiducial.types import Skeleton


@pytest.mark.parametrize("skeleton", skeletons.BUNDLED, ids=lambda skeleton: skeleton.name)
def test_mirroring_twice_gives_back_every_point(skeleton: Skeleton) -> None:
    order = skeleton.flip_order
    assert order[order].tolist() == list(range(len(skeleton.points)))
    assert len(set(skeleton.points)) == len(skeleton.points)
    for a, b in skeleton.flip_pairs or ():
        if skeleton.points[a].startswith("face_"):  # the numbers of iBUG's
            continue
        sides = [name.split("_")[0] for name in (skeleton.points[a], skeleton.points[b])]
        assert sides[0] == sides[1] or set(sides) == {"left", "right"}


@pytest.mark.parametrize(("folder", "skeleton"), [("faces68", IBUG68), ("coco_mini17", COCO17)])
def test_equals_the_category_of_real_data(shared: Path, folder: str, skeleton: Skeleton) -> None:
    [category] = json.loads((shared / folder / "annotations" / "val.json").read_text())["categories"]
    assert list(skeleton.points) == category["keypoints"]
    assert skeleton.flip_order.tolist() == category["flip_indices"]
    assert [[a + 1, b + 1] for a, b in skeleton.edges] == category["skeleton"]
    assert skeletons.match(category["keypoints"]) is skeleton


@pytest.mark.parametrize(
    ("skeleton", "middle"),
    [
        (COCO17, [0]),
        (IBUG68, [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]),
        (WFLW98, [16, 51, 52, 53, 54, 57, 79, 85, 90, 94]),
        (LAPA106, [16, 51, 52, 53, 54, 60, 87, 93, 98, 102]),
    ],
)
def test_points_without_a_partner_are_those_in_the_middle(skeleton: Skeleton, middle: list[int]) -> None:
    """Chin, bridge and base of the nose, and the middles of the lips, read off pictures with numbered points."""
    assert [i for i, j in enumerate(skeleton.flip_order) if i == j] == middle


def mirror_residual(xy: np.ndarray, order: np.ndarray, part: np.ndarray) -> float:
    """px by which a part of a face misses its own mirror image, the best affine map allowed for turned heads."""
    mirrored = np.c_[-xy[order][:, 0], xy[order][:, 1], np.ones(len(xy))][part]
    fitted = mirrored @ np.linalg.lstsq(mirrored, xy[part], rcond=None)[0]
    return float(np.linalg.norm(fitted - xy[part], axis=1).mean())


@pytest.mark.parametrize(
    ("file", "skeleton", "parts"),
    [
        ("lapa/test_lapa_mmpose_coco.json", LAPA106, [(33, 50), (55, 65), (66, 83), (84, 95), (96, 103)]),
        ("wflw/test_wflw_mmpose_coco.json", WFLW98, [(33, 50), (55, 59), (60, 75), (76, 87), (88, 95)]),
    ],
)
def test_pairs_fit_real_faces_better_than_any_exchange(shared: Path, file: str, skeleton: Skeleton, parts) -> None:
    annotations = json.loads((shared / "formats" / file).read_text())["annotations"]
    faces = [np.array(item["keypoints"]).reshape(-1, 3)[:, :2] for item in annotations]
    for first, last in parts:
        part = np.arange(first, last + 1)
        ours = sum(mirror_residual(xy, skeleton.flip_order, part) / np.ptp(xy) for xy in faces)
        pairs = [pair for pair in skeleton.flip_pairs or () if first <= pair[0] <= last]
        for (a, b), (c, d) in itertools.pairwise(pairs):
            order = skeleton.flip_order.copy()
            order[[a, d, c, b]] = d, a, b, c
            other = sum(mirror_residual(xy, order, part) / np.ptp(xy) for xy in faces)
            assert ours < other, (skeleton.points[a], skeleton.points[c])


@pytest.mark.parametrize(
    ("skeleton", "corners"), [(IBUG68, (36, 45)), (WFLW98, (60, 72)), (LAPA106, (66, 79))], ids=["ibug", "wflw", "lapa"]
)
def test_faces_are_normalized_by_the_outer_eye_corners(skeleton: Skeleton, corners: tuple[int, int]) -> None:
    assert skeleton.normalizer.points == corners
    assert skeleton.flip_order[corners[0]] == corners[1]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["snout", "leftear", "rightear", "tailbase"], ((1, 2),)),
        (["wrist_l", "tip", "wrist_r"], ((0, 2),)),
        (["LKnee", "RKnee", "Lamp"], ((0, 1),)),
        (["Left Eye", "nose", "Right Eye", "left hand", "right hand"], ((0, 2), (3, 4))),
        (["left_eye", "nose"], None),  # no partner
        (["nose", "tail"], None),  # no sides
        (["left_eye_0", "left_eye_1", "right_eye_0", "right_eye_1"], None),  # contours, order unknown
        (["head", "eyeL", "eyeR", "legL4", "legR4"], ((1, 2), (3, 4))),
        (["paw1LH_top", "paw4RH_top", "noseL"], None),
    ],
)
def test_pairs_by_name(names: list[str], expected) -> None:
    assert skeletons.pairs_by_name(names) == expected


def test_numbers_for_names_match_by_count() -> None:
    assert skeletons.match([f"part_{i}" for i in range(68)]) is IBUG68
    assert skeletons.match([f"kpt-{i + 1}" for i in range(98)]) is WFLW98
    assert skeletons.match([f"part_{i}" for i in range(17)]) is None
    assert skeletons.match([f"part_{i}" for i in range(67)] + ["chin"]) is None
    assert skeletons.match([name.replace("_", " ").title() for name in COCO17.points]) is COCO17


def test_identity_flip_indices_mean_unknown_but_not_for_bundled() -> None:
    mouse, _ = skeletons.complete("mouse", ["left_ear", "right_ear"], where="f", flip_indices=[0, 1])
    assert mouse.flip_pairs is None
    person, _ = skeletons.complete("person", COCO17.points, where="f", flip_indices=list(range(17)))
    assert person.flip_pairs == COCO17.flip_pairs
    dot, _ = skeletons.complete("dot", ["dot"], where="f", flip_indices=[0])
    assert dot.flip_pairs == ()


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (["a", "b", "a"], "point 'a' is named twice; expected another name"),
        (["a", "a", "b", "a"], "point 'a' is named 3 times"),
        (["a", " "], "point 2 is named ' '; expected text"),
        (["", "b"], "point 1 is named ''"),
        ([1, 2], "point 1 is named 1; expected text"),
    ],
)
def test_names_that_name_no_point_or_two_are_refused(names: list, line: str) -> None:
    with pytest.raises(UserError, match=rf"a\.json: category 'x': {line}"):
        skeletons.complete("x", names, where="a.json: category 'x'")


def test_names_that_are_nearly_the_same_are_noted() -> None:
    skeleton, [line] = skeletons.complete("x", ["Nose", "tail", "nose "], where="a.json")
    assert skeleton.points == ("Nose", "tail", "nose ")
    assert line.startswith(
        "points 'Nose' and 'nose ' differ in small and large letters or spaces alone: taken for 2 points"
    )


def test_flip_indices_that_are_no_mirror_image_are_refused() -> None:
    with pytest.raises(UserError, match=r"a\.json: flip_indices: 'p' becomes 'q', but that 'r'"):
        skeletons.complete("x", ["p", "q", "r"], where="a.json", flip_indices=[1, 2, 0])
    with pytest.raises(UserError, match="expected 3 numbers from 0 to 2"):
        skeletons.complete("x", ["p", "q", "r"], where="a.json", flip_indices=[1, 0, 3])
