"""Teachers of whom points are all that is known: their points in the image, the map to the labels, what a student gets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import quick
from runtime import foreign_files as made

import fiducial
from fiducial.data import skeletons
from fiducial.data.source import Source
from fiducial.distillation import point_map, point_teachers, pseudo_labels
from fiducial.errors import UserError
from fiducial.evaluation import floor, metrics
from fiducial.runtime import runtime
from fiducial.runtime.point_map import frame_of
from fiducial.training import fit as fitting
from fiducial.training import label_check
from fiducial.training.recipe import Recipe
from fiducial.types import Instances, Keypoints, Skeleton

NAMES = ("red", "green", "blue")
COUNT, LABELLED = made.COUNT, 8


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of train the first eight are labelled, the others have a box alone."""
    return made.blob_set(tmp_path_factory.mktemp("blobs"), NAMES, LABELLED)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = made.centroids(tmp_path_factory.mktemp("teacher") / "net.onnx")
    made.write_card(file, padding=1.2, licence="MIT")
    return file


def truth_of(root: Path, split: str = "train") -> np.ndarray:
    content = json.loads((root / "annotations" / f"{split}.json").read_text())
    return np.array([entry["truth"] for entry in content["annotations"]])


def teacher_of(network: Path) -> point_teachers.PointTeacher:
    return point_teachers.NetworkTeacher(runtime.opened(network).network)


def lesson(teacher: point_teachers.PointTeacher, data: Path, **options: bool) -> pseudo_labels.Lesson:
    return pseudo_labels.lesson_of(teacher, Source(data), Recipe(), **{"keep_labels": True, **options})


# ------------------------------------------------------------------------------------------------------ the map


def random_truth(count: int, points: int = 4, seed: int = 0) -> Instances:
    rng = np.random.default_rng(seed)
    xy = rng.uniform(20, 80, (count, points, 2))
    boxes = np.concatenate([xy.min(1) - 5, np.ptp(xy, axis=1) + 10], axis=1)
    images = [np.zeros((100, 100, 3), np.uint8)] * count
    return Instances.of(images, xy, boxes=boxes, names=[f"ours {letter}" for letter in "abcd"[:points]])


def seen_otherwise(truth: Instances) -> Keypoints:
    """A teacher's points: seven mixtures of the labelled ones, each with a constant shift in the box."""
    mixture = np.random.default_rng(1).normal(size=(7, 4))
    mixture[-1] = 1 - mixture[:-1].sum(0)
    square = frame_of(truth.box_xywh, point_map.UNIT)
    inside = point_map.geometry.transform(square, truth.xy.astype(np.float64))
    mixed = np.einsum("ij,njc->nic", mixture, inside) + 0.1
    xy = point_map.geometry.transform(point_map.geometry.invert(square), mixed)
    return Keypoints(xy, np.ones(xy.shape[:2]))


TEACHER = Skeleton("teacher", tuple(f"theirs {i}" for i in range(7)))


def test_a_linear_map_finds_the_points_again():
    train, test = random_truth(60), random_truth(20, seed=5)
    learnt = point_map.learn(seen_otherwise(train), train, TEACHER)
    assert learnt.labels == 60
    assert "linear map from 60 labelled instances" in learnt.told()
    found = learnt(seen_otherwise(test), test.box_xywh)
    np.testing.assert_allclose(found.xy, test.xy, atol=0.05)
    assert learnt.cross_validated == pytest.approx(metrics.measure_instances(found.xy, test).nme, abs=1e-3)


def test_the_map_moves_and_grows_with_the_box():
    train = random_truth(60)
    found = seen_otherwise(train)
    learnt = point_map.learn(found, train, TEACHER)
    shift = np.array([30.0, -7.0])
    boxes = train.box_xywh.astype(np.float64)
    moved_boxes = np.concatenate([2 * (boxes[:, :2] - 0.5) + shift + 0.5, 2 * boxes[:, 2:]], axis=1)  # edges: px + 0.5
    moved = learnt(Keypoints(2 * found.xy + shift, found.score), moved_boxes)
    np.testing.assert_allclose(moved.xy, 2 * learnt(found, boxes).xy + shift, atol=1e-6)


def test_names_that_are_the_same_need_no_labels_and_are_kept_where_they_are_right():
    truth = random_truth(60)
    teacher = Skeleton("teacher", ("theirs", *truth.skeleton.points[::-1]))
    xy = np.concatenate([truth.xy[:, :1] + 50, truth.xy[:, ::-1]], axis=1).astype(np.float64)
    found = Keypoints(xy, np.ones(xy.shape[:2]))
    few = point_map.learn(found.select(slice(3)), truth.select(np.arange(3)), teacher)
    assert few.linear is None
    np.testing.assert_allclose(few(found, truth.box_xywh).xy, truth.xy, atol=1e-4)
    many = point_map.learn(found, truth, teacher)
    np.testing.assert_allclose(many(found, truth.box_xywh).xy, truth.xy, atol=1e-3)
    shifted = point_map.learn(Keypoints(xy + 2.0, found.score), truth, teacher)
    assert "corrects 4 points" in shifted.told()
    assert shifted.cross_validated < 0.02


def test_points_that_were_taken_by_their_numbers_are_not_called_by_names():
    truth = random_truth(60)
    teacher = Skeleton("teacher", tuple(f"theirs {i}" for i in range(4)))
    found = Keypoints(truth.xy.astype(np.float64) + 2.0, np.ones((60, 4)))
    assert (
        "corrects 4 points of the same numbers (no name is the same)" in point_map.learn(found, truth, teacher).told()
    )
    exact = point_map.learn(Keypoints(truth.xy.astype(np.float64), found.score), truth, teacher)
    assert exact.told() == "4 of 4 points by their numbers (no name is the same)"


def test_other_points_and_too_few_labels_are_refused():
    truth = random_truth(4)
    with pytest.raises(UserError, match=r"finds 7 points, theirs 0, .* needs 5 labelled instances .* here are 4"):
        point_map.learn(seen_otherwise(truth), truth, TEACHER)


def test_instances_that_the_teacher_does_not_find_teach_nothing():
    train = random_truth(60)
    found = seen_otherwise(train)
    found.xy[::2], found.score[::2] = 0, 0
    learnt = point_map.learn(found, train, TEACHER)
    assert learnt.labels == 30
    assert learnt.cross_validated < 0.01


# -------------------------------------------------------------------------------------------------- the teachers


def test_a_network_finds_the_points_in_the_images(blobs, network):
    instances = lesson(teacher_of(network), blobs, keep_labels=False).data.train
    found = teacher_of(network).points_of(instances)
    np.testing.assert_allclose(found.xy, truth_of(blobs), atol=0.1)
    np.testing.assert_array_equal(found.score, 1)


class Unsure:
    """A network whose points are off by noise, and which is sure of every third answer alone; `unsure` scores the others."""

    def __init__(self, network: Path, unsure: float = 0.0) -> None:
        self.unsure = unsure
        self.inner, self.rng, self.asked = runtime.opened(network).network, np.random.default_rng(0), 0
        self.card, self.path = self.inner.card, network

    def predict(self, crops: np.ndarray) -> Keypoints:
        self.asked += len(crops)
        found = self.inner.predict(crops)
        sure = (np.arange(len(crops)) % 3 == 0)[:, None] | (point_teachers.VIEWS == 1)
        noise = np.where(sure[..., None], self.rng.normal(scale=1.0, size=found.xy.shape), 1000.0)
        return Keypoints(found.xy + noise, np.broadcast_to(np.where(sure, 0.9, self.unsure), found.score.shape))


def test_errors_that_differ_between_views_are_less_in_the_mean(blobs, network, monkeypatch):
    instances = lesson(teacher_of(network), blobs, keep_labels=False).data.train
    errors = {}
    for views, score in ((1, 0.9), (9, 0.3)):
        monkeypatch.setattr(point_teachers, "VIEWS", views)
        unsure = Unsure(network)
        found = point_teachers.NetworkTeacher(unsure).points_of(instances)
        assert unsure.asked == views * len(instances)
        np.testing.assert_allclose(found.score, score, atol=1e-6)
        errors[views] = np.abs(found.xy - truth_of(blobs)).mean()
    assert errors[9] < 0.7 * errors[1], "the mean of the three of which it is sure: 1 / sqrt(3)"


@pytest.mark.parametrize("unsure", [0.0, -0.5])
def test_views_of_which_it_is_not_sure_do_not_count(blobs, network, unsure):
    """Scores below zero, of a card that forgot the sigmoid, too."""
    instances = lesson(teacher_of(network), blobs, keep_labels=False).data.train
    found = point_teachers.NetworkTeacher(Unsure(network, unsure)).points_of(instances)
    assert np.abs(found.xy - truth_of(blobs)).max() < 10
    np.testing.assert_allclose(found.score, 0.3, atol=1e-6)


def test_of_many_instances_a_network_is_asked_about_fewer_views():
    assert [point_teachers.views(count) for count in (0, 1000, 5000, 10_000, 200_000)] == [9, 9, 3, 1, 1]


def test_what_cannot_be_read_scores_nothing(blobs, network, tmp_path):
    instances = lesson(teacher_of(network), blobs, keep_labels=False).data.train
    (tmp_path / "broken.png").write_bytes(b"no image")
    images = pseudo_labels.GivenImages([tmp_path / "broken.png"] * len(instances.images))
    found = teacher_of(network).points_of(replace(instances, images=images))
    assert not found.score.any()


def results_of(root: Path, path: Path, **changes: object) -> Path:
    content = json.loads((root / "annotations" / "train.json").read_text())
    entries = [
        {
            "image_id": entry["image_id"],
            "file_name": f"{entry['image_id']}.png",
            "annotation_id": entry["id"],
            "bbox": entry["bbox"],
            "score": 0.9,
            "keypoints": np.column_stack([entry["truth"], np.full(3, 0.9)]).ravel().tolist(),
        }
        for entry in content["annotations"]
    ]
    entries = [{name: value for name, value in {**entry, **changes}.items() if value is not None} for entry in entries]
    path.write_text(json.dumps(entries))
    return path


@pytest.mark.parametrize(
    "changes", [{}, {"annotation_id": None}, {"annotation_id": None, "file_name": None, "bbox": None}, {"image_id": 1}]
)
def test_results_are_found_again_by_annotation_by_name_and_by_id(blobs, network, tmp_path, changes):
    instances = lesson(teacher_of(network), blobs, keep_labels=False).data.train
    teacher = point_teachers.load(results_of(blobs, tmp_path / "results.json", **changes))
    np.testing.assert_allclose(teacher.points_of(instances).xy, truth_of(blobs), atol=1e-4)
    other = replace(instances, image_id=instances.image_id + 1000, images=pseudo_labels.GivenImages(["x.png"] * COUNT))
    assert not teacher.points_of(other).score.any()


def test_results_of_other_images_are_refused(blobs, tmp_path):
    teacher = point_teachers.load(results_of(blobs, tmp_path / "results.json", file_name="other.png"))
    with pytest.raises(
        UserError, match=r"results\.json: gives no point with a score of 0.5 or more for the 24 instances"
    ):
        lesson(teacher, blobs)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "expected COCO results, a list"),
        ("[]", "expected COCO results, a list"),
        ('[{"image_id": 1, "keypoints": [1, 2]}, 7]', "none of its entries"),
        ('[{"image_id": 1, "keypoints": [1, 2, NaN]}]', "none of its entries"),
        (
            '[{"image_id": 1, "keypoints": [1, 2, 1]}, {"image_id": 2, "keypoints": [1, 2, 1, 3, 4, 1]}]',
            "1 to 2 points",
        ),
        ("not json", "not JSON"),
    ],
)
def test_broken_results_are_told_in_a_line(tmp_path, text, said):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(UserError, match=said) as raised:
        point_teachers.load(tmp_path / "results.json")
    assert "\n" not in str(raised.value)


# --------------------------------------------------------------------------------------------- what a student gets


def test_labels_stay_and_the_rest_is_taught(blobs, network):
    taught = lesson(teacher_of(network), blobs)
    train = taught.data.train
    assert taught.taught.tolist() == [False] * LABELLED + [True] * (COUNT - LABELLED)
    np.testing.assert_allclose(train.xy[:LABELLED], truth_of(blobs)[:LABELLED], atol=1e-4)
    np.testing.assert_allclose(train.xy[LABELLED:], truth_of(blobs)[LABELLED:], atol=0.15)
    assert train.labelled.all()
    assert taught.told["taught"] == COUNT - LABELLED
    assert taught.told["val"]["nme"] < 0.005 < taught.told["val"]["mean_shape"]
    assert not any("left out" in str(problem) for problem in taught.data.problems)
    again = lesson(teacher_of(network), blobs)
    assert again.data.fingerprint == taught.data.fingerprint


def shuffled(root: Path, path: Path, by: float) -> Path:
    """Results whose points lie `by` px beside the truth, each elsewhere; of val's images, too."""
    random, entries = np.random.default_rng(2), []
    for split in ("train", "val"):
        for entry in json.loads((root / "annotations" / f"{split}.json").read_text())["annotations"]:
            away = by * np.exp(2j * np.pi * random.uniform(size=3))
            xy = np.array(entry["truth"]) + np.column_stack([away.real, away.imag])
            points = np.column_stack([xy, np.full(3, 0.9)]).ravel().tolist()
            entries.append({"file_name": f"{entry['image_id']}.png", "bbox": entry["bbox"], "keypoints": points})
    path.write_text(json.dumps(entries))
    return path


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four labels, from which no map is learnt."""
    return made.blob_set(tmp_path_factory.mktemp("few"), skeletons.numbered(3), 4)


@pytest.mark.parametrize("keep_labels", [True, False])
def test_a_teacher_that_is_worse_than_the_mean_shape_is_refused_with_both_figures(few, tmp_path, keep_labels):
    teacher = point_teachers.load(shuffled(few, tmp_path / "results.json", by=25.0))
    said = r"results\.json: is worse than the mean shape: an NME of 0\.\d+ on 8 instances of val, .* has 0\.\d+; give another"
    with pytest.raises(UserError, match=said):
        lesson(teacher, few, keep_labels=keep_labels)
    unchecked = pseudo_labels.lesson_of(teacher, Source(few), Recipe(check=False), keep_labels=keep_labels)
    problem = unchecked.data.problems[0]
    assert problem.is_note
    assert "no better than the mean shape" in problem.what


def test_the_floor_and_the_look_at_the_labels_are_of_peoples_labels_alone(few, tmp_path):
    teacher = point_teachers.load(shuffled(few, tmp_path / "results.json", by=25.0))
    recipe = replace(quick.RECIPE, check=False, epochs=1)
    run = fiducial.fit(few, tmp_path / "run", teacher=tmp_path / "results.json", recipe=recipe)
    labelled = fitting.load_data(Source(few), recipe)
    assert len(labelled.train) == 4
    expected = floor.floor_of(labelled.validation, labelled.train).nme
    assert run.figures["floor"]["nme"] == pytest.approx(expected, abs=1e-6)
    assert any("no better than the mean shape" in note for note in run.figures["notes"])
    assert json.loads((run.folder / "metrics.json").read_text())["notes"] == run.figures["notes"]
    looked: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_check, "check_labels", lambda splits, *others: looked.extend(map(len, splits.values())))
        taught = pseudo_labels.lesson_of(teacher, Source(few), recipe, keep_labels=True).data
        fitting.planned_work(taught, quick.RECIPE, tmp_path / "new", True, source="few", given=None)
    assert looked == [4, 8]


def test_a_student_of_the_teacher_alone_learns_no_label(blobs, network):
    taught = lesson(teacher_of(network), blobs, keep_labels=False)
    assert taught.taught.all()
    assert not np.array_equal(taught.data.train.xy[:LABELLED], truth_of(blobs)[:LABELLED].astype(np.float32))


def test_images_from_elsewhere_are_taught_beside_the_labels(blobs, network):
    def more(skeleton: Skeleton) -> Instances:
        rest = lesson(teacher_of(network), blobs, keep_labels=False).data.validation
        return replace(rest, xy=rest.xy * 0, visibility=rest.visibility * 0)

    taught = pseudo_labels.lesson_of(teacher_of(network), Source(blobs), Recipe(), keep_labels=True, read_more=more)
    train = taught.data.train
    assert len(train) == COUNT + 8
    np.testing.assert_allclose(train.xy[COUNT:], truth_of(blobs, "val"), atol=0.15)
    names = [Path(train.images.name(int(row))).name for row in train.image_row]
    assert names[0] == "1.png"
    assert names[-1] == "108.png"
    assert train.images.read(int(train.image_row[-1])).shape == (90, 120, 3)
    assert (train.image_size[train.image_row] == [120, 90]).all()


def test_a_labelled_set_leaves_nothing_to_teach(blobs, network, tmp_path):
    (tmp_path / "images").symlink_to(blobs / "images")
    (tmp_path / "annotations").mkdir()
    val = (blobs / "annotations" / "val.json").read_text()
    for split in ("train", "val"):
        (tmp_path / "annotations" / f"{split}.json").write_text(val)
    with pytest.raises(UserError, match=r"all 8 instances of train .* are labelled"):
        lesson(teacher_of(network), tmp_path)


def test_images_without_labels_teach_the_teachers_own_points(blobs, network):
    taught = lesson(teacher_of(network), blobs / "images", keep_labels=False)
    assert taught.data.train.skeleton.points == NAMES
    assert len(taught.data.train) + len(taught.data.validation) == COUNT + 8
    names = [int(Path(taught.data.train.images.name(int(row))).stem) for row in taught.data.train.image_row]
    where = dict(
        zip([*range(1, COUNT + 1), *range(101, 109)], [*truth_of(blobs), *truth_of(blobs, "val")], strict=True)
    )
    np.testing.assert_allclose(taught.data.train.xy, [where[name] for name in names], atol=0.5)
    with pytest.raises(UserError, match="has no labels; expected a labelled set"):
        lesson(teacher_of(network), blobs / "images")


def test_a_run_names_its_teacher_and_its_results_teach_another(blobs, network, tmp_path):
    small = {"size": "32x32", "epochs": 1, "batch_size": 8, "method": "deeppose", "pretrained": "no"}
    settings = [*quick.ALONE, "passes=1"]
    run = fiducial.fit(
        blobs,
        tmp_path / "run",
        teacher=network,
        unlabelled=blobs / "annotations" / "val.json",
        backbone="test_efficientnet",
        preflight=False,
        settings=settings,
        **small,
    )
    card = json.loads((run.folder / "model.json").read_text())
    assert card["derived_from"]["blobs"] == "MIT"
    assert card["metrics"]["teacher"]["taught"] == COUNT - LABELLED + 8
    small.pop("pretrained")
    kept = run.folder / "teacher" / "points.json"
    student = fiducial.distill(
        kept,
        blobs,
        tmp_path / "student",
        student="test_efficientnet",
        settings=[*settings, "pretrained=no", "preflight=false"],
        **small,
    )
    told = json.loads((student.folder / "recipe.json").read_text())["teacher"]
    assert told["path"] == str(kept)
    assert told["taught"] == COUNT - LABELLED
    with pytest.raises(UserError, match="gives points alone"):
        fiducial.distill(kept, blobs, tmp_path / "other", student="test_efficientnet", loss="KL")
