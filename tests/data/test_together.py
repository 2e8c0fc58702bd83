"""Several sets as one: each instance keeps its points, its image and its box; what its set lacks is not labelled."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fiducial.data import annotations
from fiducial.data.source import Source
from fiducial.data.together import notes_of, together, union
from fiducial.errors import UserError
from fiducial.evaluation.evaluate import match_points
from fiducial.types import Instances, Skeleton

CAT = Skeleton("cat", ("nose", "left ear", "right ear"), ((0, 1), (0, 2)), flip_pairs=((1, 2),), sigmas=(0.1, 0.2, 0.2))
BIRD = Skeleton("bird", ("beak", "left wing", "nose", "right wing"), flip_pairs=((1, 3),), sigmas=(0.3,) * 4)


def drawn(skeleton: Skeleton, count: int, shade: int) -> Instances:
    dice = np.random.default_rng(shade)
    images = [np.full((30, 40, 3), shade + i, dtype=np.uint8) for i in range(count)]
    xy = dice.uniform(0, 29, (count, len(skeleton.points), 2)).astype(np.float32)
    return Instances.of(images, xy, skeleton=skeleton)


def test_every_instance_is_what_it_was() -> None:
    cats, birds = drawn(CAT, 3, 10), drawn(BIRD, 2, 100)
    both = together([cats, birds])
    assert both.skeleton.points == ("nose", "left ear", "right ear", "beak", "left wing", "right wing")
    assert both.skeleton.flip_pairs == ((1, 2), (4, 5))
    assert both.skeleton.edges == ((0, 1), (0, 2))
    assert both.skeleton.sigmas == (0.1, 0.2, 0.2, 0.3, 0.3, 0.3)
    assert len(both) == 5
    assert len(np.unique(both.annotation_id)) == 5
    for part, rows in ((cats, slice(0, 3)), (birds, slice(3, 5))):
        own = both.select(np.arange(5)[rows])
        names = [both.skeleton.points.index(name) for name in part.skeleton.points]
        assert np.array_equal(own.xy[:, names], part.xy)
        assert np.array_equal(own.box_xywh, part.box_xywh)
        assert own.labelled.sum() == part.labelled.sum()
        shades = [both.images.read(int(row))[0, 0, 0] for row in own.image_row]
        assert shades == [part.images.read(int(row))[0, 0, 0] for row in part.image_row]


def test_what_the_sets_disagree_about_is_unknown_or_refused() -> None:
    assert union([CAT, replace(BIRD, flip_pairs=None)]).flip_pairs is None
    assert union([CAT, replace(BIRD, sigmas=None)]).sigmas is None
    with pytest.raises(UserError, match=r"'nose' is exchanged with none in cat, and with 'left ear' in other"):
        union([CAT, Skeleton("other", ("nose", "left ear"), flip_pairs=((0, 1),))])
    with pytest.raises(UserError, match=r"'left ear' is exchanged with 'right ear' in a/, and with none in b/"):
        union([CAT, replace(CAT, flip_pairs=())], ["a/", "b/"])
    assert union([CAT, Skeleton("other", ("nose", "left ear"), flip_pairs=())]).flip_pairs == ((1, 2),), (
        "it lacks the other"
    )


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ([CAT], []),
        ([replace(CAT, name="lion", points=CAT.points[::-1], flip_pairs=((0, 1),))], []),
        ([BIRD], ["points: 1 of both sets, 2 of set0 alone, 3 of set1 alone (never labelled elsewhere)"]),
        (
            [replace(BIRD, points=("beak", "left wing", "Nose", "right wing"))],
            [
                "points: 3 of set0 alone, 4 of set1 alone (never labelled elsewhere); no point is common to the sets, .*",
                "'nose' and 'Nose' are two points; rename one if they are the same",
            ],
        ),
        (
            [replace(CAT, points=("nose", "left_ear", "right ear "))],
            [
                "points: 1 of both sets, .*",
                "'left ear' and 'left_ear', 'right ear' and 'right ear ' are two points each; rename one if they are the same",
            ],
        ),
        ([replace(CAT, flip_pairs=None)], ["flip pairs are unknown, since set1 does not say its own, .*"]),
        (
            [CAT, Skeleton("head", ("nose", "left ear"), flip_pairs=())],
            ["points: 2 of all sets, 1 of set0 and set1 (never labelled elsewhere)"],
        ),
    ],
)
def test_how_points_are_joined_is_told_where_they_are_not_the_same(others: list[Skeleton], said: list[str]) -> None:
    notes = notes_of([CAT, *others], [f"set{number}" for number in range(1 + len(others))])
    assert len(notes) == len(said)
    for note, expected in zip(notes, said, strict=True):
        assert note == expected or (expected.endswith(".*") and note.startswith(expected.removesuffix(".*"))), note


def written(root: Path, names: list[str]) -> Path:
    root.mkdir()
    Image.new("RGB", (40, 30)).save(root / "a.png")
    entry = {"id": 5, "image_id": 1, "category_id": 1, "keypoints": [3, 4, 2, 9, 9, 2], "bbox": [1, 1, 20, 20]}
    images = [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}]
    categories = [{"id": 1, "name": "cat", "keypoints": names}]
    (root / "train.json").write_text(json.dumps({"images": images, "annotations": [entry], "categories": categories}))
    return root / "train.json"


def test_sets_that_are_given_together_are_told_of_in_a_note_and_none_is_given_twice(tmp_path: Path) -> None:
    one, other = written(tmp_path / "one", ["nose", "tail"]), written(tmp_path / "other", ["nose", "Tail"])
    _, problems = annotations.load(Source(one, also=(other,)).here(), "all")
    notes = [problem.what for problem in problems if problem.is_note]
    assert notes[0] == f"points: 1 of both sets, 1 of {one} alone, 1 of {other} alone (never labelled elsewhere)"
    assert notes[1].startswith("'tail' and 'Tail' are two points")
    link = tmp_path / "link.json"
    link.symlink_to(one)
    for also in ((one,), (other, other), (link,)):
        with pytest.raises(UserError, match="is given twice"):
            Source(one, also=also).here()


def test_labels_with_some_of_a_models_points_are_scored_by_those() -> None:
    cats = drawn(CAT, 3, 10)
    widened = match_points(cats, ("beak", "right ear", "nose", "left ear"), "cats")
    assert widened.skeleton.points == ("beak", "right ear", "nose", "left ear")
    assert np.array_equal(widened.labelled.any(0), [False, True, True, True])
    assert np.array_equal(widened.xy[:, 2], cats.xy[:, 0])
    assert widened.skeleton.edges == ((2, 3), (2, 1))
    with pytest.raises(UserError, match="missing in the data: beak"):
        match_points(cats, ("beak", "nose"), "cats")


def test_two_categories_of_one_file_are_read_as_one(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    categories = [
        {"id": 1, "name": "cat", "keypoints": ["nose", "ear"]},
        {"id": 2, "name": "bird", "keypoints": ["beak", "nose"]},
    ]
    instances = [
        {"id": 5, "image_id": 1, "category_id": 1, "keypoints": [3, 4, 2, 9, 9, 2], "bbox": [1, 1, 20, 20]},
        {"id": 6, "image_id": 1, "category_id": 2, "keypoints": [7, 8, 2, 5, 6, 1], "bbox": [2, 2, 20, 20]},
    ]
    images = [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}]
    file = tmp_path / "labels.json"
    file.write_text(json.dumps({"images": images, "annotations": instances, "categories": categories}))
    read, _ = annotations.load(Source(file, category="cat, bird"), "all")
    assert read.skeleton.points == ("nose", "ear", "beak")
    assert read.xy.tolist() == [[[3, 4], [9, 9], [0, 0]], [[5, 6], [0, 0], [7, 8]]]
    assert read.visibility.tolist() == [[2, 2, 0], [1, 0, 2]]
    assert read.skeleton.kinds == {"cat": (0, 1), "bird": (0, 2)}
    assert read.kind is not None
    assert read.kind.tolist() == [0, 1]
    assert read.image_row.tolist() == [0, 0]  # one image, which holds both
    assert len(read.images) == len(read.image_id) == len(read.image_size) == 1
    with pytest.raises(UserError, match="no category 'cow'"):
        annotations.load(Source(file, category="cat,cow"), "all")
    file.write_text(file.read_text().replace('"beak"', '"Ear"'))
    _, problems = annotations.load(Source(file, category="cat,bird"), "all")
    [line] = [problem.what for problem in problems if "alone" in problem.what]
    assert line.startswith("points 'ear' and 'Ear' differ in small and large letters")
