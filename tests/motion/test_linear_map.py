"""The test of points without labels: exact where the truth is linear in them, and nothing of the scored split is fitted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from command_line import Run
from runtime.test_without_torch import COMMAND, call

from fiducial import geometry
from fiducial.card import DetectorSpec
from fiducial.data import annotations, skeletons
from fiducial.data.images import ArrayImages
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.motion import linear_map
from fiducial.motion.linear_map import MEAN_SHAPE, MODEL, Seen
from fiducial.types import Instances, Keypoints, Normalizer, Skeleton

SIZE = Size(40, 30)
M = 4  # labelled points


def instances_of(xy: np.ndarray, labelled: np.ndarray | None = None) -> Instances:
    """Faces in pictures of 90x70 px, points px of the images."""
    n, m = xy.shape[:2]
    labelled = np.ones((n, m), bool) if labelled is None else labelled
    skeleton = Skeleton("made", skeletons.numbered(m), normalizer=Normalizer("points", "first two", (0, 1)))
    return Instances(
        skeleton,
        ArrayImages(np.zeros((n, 70, 90, 3), np.uint8)),
        np.arange(n),
        np.tile([90, 70], (n, 1)).astype(np.int32),
        np.arange(n),
        np.arange(n),
        xy.astype(np.float32),
        2 * labelled.astype(np.uint8),
        np.tile([10, 5, 60, 50], (n, 1)).astype(np.float32),
        np.full(n, 3000, np.float32),
        np.zeros(n, bool),
    )


def seen(count: int, seed: int, make: Callable[[np.ndarray], np.ndarray], labelled: np.ndarray | None = None) -> Seen:
    """Random faces in turned and enlarged crops; `make` gives a network's points [n, k, 2] from the truth in the crop,
    both as shares from its centre."""
    generator = np.random.default_rng(seed)
    xy = generator.uniform((10, 5), (80, 65), (count, M, 2))
    turns, scales = generator.uniform(-1, 1, count), generator.uniform(0.4, 0.9, count)
    maps = np.array(
        [
            geometry.compose(
                geometry.rotation(turn, (45, 35)), geometry.scaling(scale, scale), geometry.translation(-8, -6)
            )
            for turn, scale in zip(turns, scales, strict=True)
        ]
    )
    some = Seen(instances_of(xy, labelled), maps, SIZE, {})
    return replace(some, points={MODEL: make(some.truth)})


def mixed(truth: np.ndarray, points: int, seed: int = 5) -> np.ndarray:
    """A fixed linear map of all coordinates to those of so many points, well conditioned."""
    matrix = np.random.default_rng(seed).normal(size=(2 * M, 2 * M))
    matrix = np.linalg.qr(matrix)[0][:, : 2 * points]
    return (truth.reshape(len(truth), -1) @ matrix).reshape(len(truth), points, 2)


# ------------------------------------------------------------------------------------------------------- closed form


@pytest.mark.parametrize("points", [M, M - 1])
def test_exact_where_the_truth_is_linear_in_the_points_and_not_with_one_too_few(points: int) -> None:
    train, test = (seen(count, seed, lambda truth: mixed(truth, points)) for count, seed in ((60, 1), (20, 2)))
    found = linear_map.scored(train, test)
    nme = found[MODEL].metrics.nme
    if points == M:
        assert nme < 1e-5
        np.testing.assert_allclose(found[MODEL].xy, test.instances.xy, atol=1e-3)
    else:
        assert 0.05 < nme < found[MEAN_SHAPE].metrics.nme


def test_a_constant_is_not_in_the_map() -> None:
    """Without bias, as published: of points that never move from the centre comes the centre."""
    train, test = (seen(60, seed, lambda truth: np.zeros((len(truth), 3, 2))) for seed in (1, 2))
    found = linear_map.scored(train, test)
    middle = geometry.transform(geometry.invert(test.image_to_crop), np.full((60, M, 2), [19.5, 14.5]))
    np.testing.assert_allclose(found[MODEL].xy, middle)


def test_mixing_the_points_changes_nothing() -> None:
    """Least squares sees what the points span, not the points."""
    both = [
        [seen(50, seed, lambda truth, other=other: mixed(truth, 3) @ other) for seed in (1, 2)]
        for other in (np.eye(2), np.array([[2.0, 1], [-0.5, 3]]))
    ]
    first, second = (linear_map.scored(*pair)[MODEL] for pair in both)
    np.testing.assert_allclose(first.xy, second.xy, atol=1e-6)


def test_mean_shape_is_the_mean_of_train_in_the_crop() -> None:
    labelled = np.random.default_rng(0).random((30, M)) < 0.7
    labelled[0] = True
    train = seen(30, 1, lambda truth: mixed(truth, 2), labelled)
    test = seen(7, 2, lambda truth: mixed(truth, 2))
    in_crop = np.array(
        [
            [matrix[:2] @ [x, y, 1] for x, y in points]
            for matrix, points in zip(train.image_to_crop, train.instances.xy, strict=True)
        ]
    )
    shape = [in_crop[labelled[:, i], i].mean(0) for i in range(M)]
    expected = np.array([[np.linalg.inv(matrix)[:2] @ [*point, 1] for point in shape] for matrix in test.image_to_crop])
    found = linear_map.scored(train, test)[MEAN_SHAPE]
    np.testing.assert_allclose(found.xy, expected, rtol=1e-5)
    wrong = np.linalg.norm(expected - test.instances.xy, axis=-1).mean(1)
    between = np.linalg.norm(test.instances.xy[:, 0] - test.instances.xy[:, 1], axis=-1)
    assert found.metrics.nme == pytest.approx((wrong / between).mean(), rel=1e-4)


def test_what_is_not_labelled_does_not_count() -> None:
    """Places of points that are not labelled are made up, and so is what is found of them."""
    labelled = np.random.default_rng(0).random((60, M)) < 0.7
    labelled[:, :2] = True  # between which is measured
    train, test = (seen(60, seed, lambda truth: mixed(truth, M), labelled) for seed in (1, 2))
    moved = []
    for some in (train, test):
        xy = some.instances.xy.copy()
        xy[~labelled] = 1e4
        moved.append(replace(some, instances=replace(some.instances, xy=xy)))
    found = linear_map.scored(*moved)
    assert found[MODEL].metrics.nme < 1e-5
    before = linear_map.scored(train, test)
    np.testing.assert_allclose(found[MEAN_SHAPE].xy, before[MEAN_SHAPE].xy)


def test_nothing_of_the_scored_split_enters_the_fit() -> None:
    train = seen(40, 1, lambda truth: mixed(truth, 3))
    test, other = (seen(10, seed, lambda truth: mixed(truth, 3)) for seed in (2, 3))
    first, second = linear_map.scored(train, test), linear_map.scored(train, other)
    one, two = first[MODEL].map, second[MODEL].map
    assert one is not None
    assert two is not None
    np.testing.assert_array_equal(one.weights, two.weights)
    alone = linear_map.scored(
        train,
        replace(
            test,
            instances=test.instances.select(np.arange(1)),
            image_to_crop=test.image_to_crop[:1],
            points={MODEL: test.points[MODEL][:1]},
        ),
    )
    np.testing.assert_allclose(alone[MODEL].xy, first[MODEL].xy[:1])
    np.testing.assert_allclose(alone[MEAN_SHAPE].xy, first[MEAN_SHAPE].xy[:1])


# ------------------------------------------------------------------------------------------------------ least squares


@pytest.mark.parametrize("ridge", [0.0, 0.01])
def test_each_target_is_fitted_where_it_is_labelled(ridge: float) -> None:
    generator = np.random.default_rng(0)
    inputs, targets = generator.normal(size=(40, 6)), generator.normal(size=(40, 4))
    used = generator.random((40, 4)) < 0.6
    used[:, 2] = used[:, 0]
    found = linear_map.least_squares(inputs, targets, used, ridge)
    for i in range(4):
        x, y = inputs[used[:, i]], targets[used[:, i], i]
        penalty = ridge * len(x) * (x**2).mean()
        # Rows of the penalty below those of the data: the same problem without a penalty.
        x, y = np.vstack([x, np.sqrt(penalty) * np.eye(6)]), np.concatenate([y, np.zeros(6)])
        np.testing.assert_allclose(found[:, i], np.linalg.lstsq(x, y, rcond=None)[0], atol=1e-10)
    targets[~used] = np.nan
    np.testing.assert_array_equal(linear_map.least_squares(inputs, targets, used, ridge), found)


def test_a_ridge_is_chosen_where_there_are_few_instances_for_many_points() -> None:
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(20, 4))

    def chosen(count: int, noise: float) -> float:
        inputs = generator.normal(size=(count, 20))
        targets = inputs @ weights + noise * generator.normal(size=(count, 4))
        return linear_map.chosen_ridge(inputs, targets, np.ones((count, 4), bool), np.arange(count))

    assert chosen(2000, 1.0) == 0
    assert chosen(60, 0.0) == 0
    assert chosen(26, 20.0) > 0
    assert chosen(9, 20.0) == 0, "too few pictures to tell"


def test_instances_of_a_picture_are_in_one_fold() -> None:
    """Six copies of each of as many pictures as there are inputs: to remember one that is in the fit is to know all."""
    generator = np.random.default_rng(0)
    inputs, targets = (np.repeat(generator.normal(size=(20, side)), 6, axis=0) for side in (20, 4))
    used = np.ones(targets.shape, bool)
    assert linear_map.chosen_ridge(inputs, targets, used, np.arange(120)) == 0
    assert linear_map.chosen_ridge(inputs, targets, used, np.repeat(np.arange(20), 6)) > 0


def test_a_point_that_train_never_labels_is_refused() -> None:
    labelled = np.ones((20, M), bool)
    labelled[:, 2] = False
    train, test = (seen(20, seed, lambda truth: mixed(truth, 3), labelled) for seed in (1, 2))
    with pytest.raises(ValueError, match="point 'point_2' is labelled nowhere in train"):
        linear_map.scored(train, test)


# --------------------------------------------------------------------------------------------------------- gathering


@dataclass(frozen=True)
class Grey:
    """Grey images, of which one can't be read."""

    count: int
    broken: int

    def __len__(self) -> int:
        return self.count

    def name(self, row: int) -> str:
        return f"{row}.png"

    def read(self, row: int, reduce: int = 1) -> np.ndarray:
        if row == self.broken:
            raise UserError(self.name(row), "cut off")
        return np.full((70, 90, 3), 127, np.uint8)


def test_what_networks_see() -> None:
    """Points in px of the crops become shares from the centre; what can't be read is left out."""
    chosen = instances_of(np.random.default_rng(0).uniform(10, 60, (5, M, 2)))
    chosen = replace(chosen, images=Grey(5, 2), image_row=np.array([4, 2, 1, 0, 3]))
    spec = DetectorSpec("none", "deeppose", {}, SIZE, Skeleton("corners", ("a", "b", "c")))
    corners = np.array([[-0.5, -0.5], [39.5, 29.5], [19.5, 14.5]])
    counts: list[int] = []
    seen = linear_map.see(
        {MODEL: lambda crops: Keypoints(np.tile(corners, (len(crops), 1, 1)), None)}, chosen, spec, counts.append
    )
    assert seen.instances.annotation_id.tolist() == [0, 2, 3, 4]
    assert counts == [4]
    np.testing.assert_allclose(seen.points[MODEL], np.tile([[-0.5, -0.5], [0.5, 0.5], [0, 0]], (4, 1, 1)))
    assert seen.problems == ("2.png: image 2: cut off",)
    with pytest.raises(ValueError, match="model: the detector returned NaN"):
        linear_map.see({MODEL: lambda crops: Keypoints(np.full((len(crops), 2, 2), np.nan), None)}, chosen, spec)


# ------------------------------------------------------------------------------------------------------- the command


@pytest.fixture(scope="session")
def discovered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of four points without names, untrained."""
    torch = pytest.importorskip("torch")
    from fiducial.card import Card, DetectorSpec
    from fiducial.models import detector as detectors

    torch.manual_seed(3)
    spec = DetectorSpec(
        "hourglass_w8_b3_m32_s2", "motion", {}, Size(64, 64), Skeleton("motion4", skeletons.numbered(4))
    )
    detector = detectors.build(spec).eval()
    for name, parameter in detector.named_parameters():
        if name.endswith("heatmap.weight"):
            torch.nn.init.normal_(parameter, std=0.5)
    folder = tmp_path_factory.mktemp("runs") / "discovered"
    detectors.save(detector, folder, Card(detector.spec))
    return folder


def test_the_command(run: Run, blobs: Path, discovered: Path, tmp_path: Path) -> None:
    code, _, err = run("evaluate", discovered, blobs)
    assert code == 2
    assert "its 4 points were learnt without labels" in err
    assert "--linear-map" in err
    json_file, page = tmp_path / "f.json", tmp_path / "page" / "page.html"
    code, out, err = run(
        "evaluate", discovered, blobs, "--linear-map", "--per-point", "--json", json_file, "--report", page
    )
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [lines[i].split()[0] for i in range(4)] == ["points", "model", "mean", "random"]
    assert lines[3].count(" to ") == 1, "the range of the random ones"
    assert "A linear map of the model's 4 points finds the 3 labelled ones to" in out
    figures = json.loads(json_file.read_text())
    assert (figures["split"], figures["fitted_on"], figures["fitted_count"], figures["count"]) == (
        "val",
        "train",
        48,
        16,
    )
    assert figures["map"]["inputs"] == 8
    assert figures["map"]["bias"] is False
    random = figures["baselines"]["random_weights"]
    assert len(random["each"]) == 3
    assert random["nme_low"] <= random["nme"] <= random["nme_high"]
    assert random["nme"] == pytest.approx(np.mean(random["each"]))
    assert [row["name"] for row in figures["per_point"]] == ["red", "green", "blue"]
    assert np.mean([row["nme"] for row in figures["per_point"]]) == pytest.approx(figures["metrics"]["nme"])
    text = page.read_text()
    assert all(
        words in text for words in ("A random sample", "Worst first", "hourglass_w8_b3_m32_s2", "Point by point")
    )
    assert {path.name for path in (page.parent / "pictures").iterdir()} == {"a_random_sample.png", "worst_first.png"}
    code, out, _ = run("evaluate", discovered, blobs, "--linear-map", "--split", "test", "--json", "-")
    assert json.loads(out)["split"] == "test"


def test_the_mean_shape_of_real_crops(run: Run, blobs: Path, blob_model: Path, tmp_path: Path) -> None:
    """All boxes of the blobs are alike, so that the mean shape is the same in px of the images."""
    run("evaluate", blob_model, blobs, "--linear-map", "--json", tmp_path / "f.json")
    found = json.loads((tmp_path / "f.json").read_text())["baselines"]["mean_shape"]["epe"]
    train, test = (annotations.load(blobs, split)[0].xy for split in ("train", "val"))
    assert found == pytest.approx(np.linalg.norm(test - train.mean(0), axis=-1).mean(), rel=1e-3)


def test_an_exported_model_is_probed_alike(
    run: Run, blobs: Path, blob_model: Path, blob_onnx: Path, tmp_path: Path
) -> None:
    figures = []
    for model in (blob_model, blob_onnx):
        assert run("evaluate", model, blobs, "--linear-map", "--json", tmp_path / "f.json")[0] == 0
        figures.append(json.loads((tmp_path / "f.json").read_text()))
    by_torch, by_file = figures
    assert by_file["metrics"] == pytest.approx(by_torch["metrics"], abs=1e-3)
    assert by_file["baselines"]["mean_shape"] == pytest.approx(by_torch["baselines"]["mean_shape"])
    assert by_file["baselines"]["random_weights"]["nme"] == pytest.approx(
        by_torch["baselines"]["random_weights"]["nme"], rel=1e-3
    )
    done = call(COMMAND, "evaluate", blob_onnx, blobs, "--linear-map", "--json", "-")
    assert done.returncode == 0, done.stderr
    alone = json.loads(done.stdout)
    assert alone["metrics"] == pytest.approx(by_file["metrics"])
    assert "random_weights" not in alone["baselines"]
    assert "no row of random weights" in done.stderr
    assert done.stderr.splitlines()[-1] == "[]", "torch was not imported"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--split", "train"], "--split train: the map is fitted on train"),
        (["--flip-test"], "--flip-test: not with --linear-map"),
        (["--box-jitter", "0.1"], "--box-jitter: not with --linear-map"),
        (["--predictions", "x.json"], "--predictions: not with --linear-map"),
        (["--oks-nms", "0.5"], "--oks-nms: not with --linear-map"),
        (["--sigmas", "1,1,1"], "--sigmas: not with --linear-map"),
        (["--split", "extra"], "split 'extra': unknown"),
    ],
)
def test_what_is_refused(run: Run, blobs: Path, discovered: Path, options: list[str], words: str) -> None:
    code, _, err = run("evaluate", discovered, blobs, "--linear-map", *options)
    assert code == 2
    assert words in err
    assert err.count("\n") == 1


def test_random_weights_are_those_of_their_seed_and_move_no_dice() -> None:
    torch = pytest.importorskip("torch")
    spec = DetectorSpec(
        "hourglass_w8_b3_m32_s2", "motion", {}, Size(64, 64), Skeleton("motion4", skeletons.numbered(4))
    )
    crops = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    before = torch.random.get_rng_state()
    one, same, other = (linear_map.untrained(spec, seed)(crops).xy for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3
