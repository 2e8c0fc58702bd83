"""Two categories with points of their own in one run: the finder tells them apart, and each instance has its own points."""

from __future__ import annotations

import csv
import json

import cv2
import numpy as np
import pytest
from finding.discs import SIDE, scene
from finding.test_finding import SETTINGS, WORDS

import fiducial
from fiducial.data import annotations
from fiducial.data.source import Source
from fiducial.evaluation import found
from fiducial.evaluation.coco import Boxes

CATEGORIES = [
    {"id": 7, "name": "disc", "keypoints": ["middle", "top"], "skeleton": [[1, 2]], "flip_indices": [0, 1]},
    {"id": 3, "name": "square", "keypoints": ["middle", "left", "right"], "flip_indices": [0, 2, 1]},
]


def with_squares(generator: np.random.Generator, count: int):
    """A scene of discs, and squares beside them: annotations of both."""
    image, discs = scene(generator, count)
    drawn = [
        {"category_id": 7, "bbox": [x - r + 0.5, y - r + 0.5, 2 * r, 2 * r], "keypoints": [x, y, 2, x, y - r, 2]}
        for x, y, r in discs
    ]
    taken = [(x, y, r) for x, y, r in discs]
    for _ in range(20):
        r = float(generator.integers(6, 11))
        x, y = (float(value) for value in generator.integers(int(r) + 2, SIDE - int(r) - 2, 2))
        if all(np.hypot(x - a, y - b) > 1.5 * r + other + 2 for a, b, other in taken):
            taken.append((x, y, 1.5 * r))
            cv2.rectangle(image, (int(x - r), int(y - r)), (int(x + r), int(y + r)), (40, 120, 250), -1)
            drawn.append(
                {
                    "category_id": 3,
                    "bbox": [x - r - 0.5, y - r - 0.5, 2 * r + 1, 2 * r + 1],
                    "keypoints": [x, y, 2, x - r, y, 2, x + r, y, 2],
                }
            )
        if len(taken) >= count + 2:
            break
    return image, drawn


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("kinds")
    (root / "images").mkdir()
    (root / "annotations").mkdir()
    generator = np.random.default_rng(0)
    for split, count in (("train", 60), ("val", 16), ("test", 12)):
        images, labels = [], []
        for number in range(count):
            image, drawn = with_squares(generator, int(generator.integers(0, 3)))
            name = f"{split}_{number}.png"
            cv2.imwrite(str(root / "images" / name), image[..., ::-1])
            images.append({"id": number + 1, "file_name": name, "width": SIDE, "height": SIDE})
            labels += [{"id": len(labels) + 1 + i, "image_id": number + 1, **each} for i, each in enumerate(drawn)]
        content = {"images": images, "annotations": labels, "categories": CATEGORIES}
        (root / "annotations" / f"{split}.json").write_text(json.dumps(content))
    return root


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("kinds") / "run"
    settings = [*SETTINGS, "finder.epochs=14"]
    return fiducial.fit(data, out, category="square,disc", settings=settings, **{**WORDS, "epochs": 16})


def test_the_finder_tells_them_apart(run, data):
    model = run.model()
    test, _ = annotations.load(Source(data, category="square,disc"), "test", ignored=True)
    assert len(test.images) == 12  # each once, though two categories were read from it
    assert test.kind is not None
    assert list(model.skeleton.kinds) == ["square", "disc"]
    right = wanted = 0
    for row in range(len(test.images)):
        points = model(test.images.read(row))
        for i in np.flatnonzero(test.image_row == row):
            wanted += 1
            near = np.abs(points.box_xywh - test.box_xywh[i]).max(1) < 6
            right += bool((near & (points.kind == test.kind[i])).any())
    assert right >= 0.85 * wanted
    figures = run.figures["found"]
    assert set(figures["by_kind"]) == {"disc", "square"}
    assert figures["recall@0.5"] > 0.8


def test_results_have_the_points_of_their_category(run, data, tmp_path):
    made = fiducial.predict(run.folder, data / "images" / "test_0.png", tmp_path / "out", csv_file=tmp_path / "all.csv")
    entries = json.loads((tmp_path / "out" / "results.json").read_text())
    assert entries
    assert made.results == entries
    counts = {"square": 3, "disc": 2}
    for entry in entries:
        assert len(entry["keypoints"]) == 3 * counts[entry["category"]]
        assert entry["category_id"] == 1 + list(counts).index(entry["category"])
    rows = list(csv.DictReader((tmp_path / "all.csv").open()))
    for row, entry in zip(rows, entries, strict=True):
        assert row["category"] == entry["category"]
        assert (row["top_x"] == "") == (entry["category"] == "square")
        assert (row["left_x"] == "") == (entry["category"] == "disc")
        assert float(row["middle_x"]) == entry["keypoints"][0]


def test_a_set_of_several_categories_is_read_as_the_model_knows_them(run, data):
    figures = fiducial.evaluate(run, data).figures
    assert any("those that the model finds are read: square,disc" in note for note in figures["notes"])
    assert set(figures["found"]["by_kind"]) == {"disc", "square"}
    assert figures["found"]["ap"] > 0.5
    turned = fiducial.evaluate(run, data, category="disc,square").figures["found"]  # named in another order
    assert turned["by_kind"] == figures["found"]["by_kind"]
    assert turned["ap"] == pytest.approx(figures["found"]["ap"])
    assert turned["box_ap"] == pytest.approx(figures["found"]["box_ap"])
    alone = fiducial.evaluate(run, data, category="square").figures  # discs are found, and are no squares
    assert alone["found"]["by_size"]["small"]["instances"] < figures["found"]["by_size"]["small"]["instances"]
    assert alone["found"]["precision@0.5"] > 0.6


@pytest.mark.parametrize("category", ["disc", "square"])
def test_results_are_scored_by_the_name_of_their_category(run, data, tmp_path, category):
    """The ids of the truth are others than those of the results."""
    images = sorted((data / "images").glob("test_*.png"))
    fiducial.predict(run.folder, images, tmp_path / "out")
    truth = data / "annotations" / "test.json"
    figures = fiducial.evaluate(tmp_path / "out" / "results.json", truth, category=category, sigmas=[0.1]).figures
    assert figures["metrics"]["ap50"] > 0.5


def test_one_file_tells_them_apart_as_torch_does(run, data, tmp_path):
    shipped = fiducial.export(run.folder, tmp_path / "shipped")
    file = fiducial.load(shipped)
    ours = run.model()
    for path in sorted((data / "images").glob("test_*.png"))[:6]:
        image = np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])
        a, b = ours(image), file(image)
        assert a.kind.tolist() == b.kind.tolist()
        assert np.abs(a.xy - b.xy).max(initial=0) < 0.05
        inside = file.network.full(image)
        assert inside.kind.tolist() == b.kind.tolist()


def test_a_box_of_another_kind_is_no_match(data):
    test, _ = annotations.load(Source(data, category="square,disc"), "test", ignored=True)
    truth = found.truth_of(test)
    sure = np.ones(len(test))
    right = Boxes(test.image_row, test.box_xywh.astype(np.float64), sure, test.kind)
    wrong = Boxes(test.image_row, test.box_xywh.astype(np.float64), sure, 1 - test.kind)
    assert found.scored(truth, right, 0.5)["recall@0.5"] == 1
    assert found.scored(truth, right, 0.5)["box_ap"] == pytest.approx(1)
    assert found.scored(truth, wrong, 0.5)["recall@0.5"] == 0
    assert found.scored(truth, wrong, 0.5)["by_kind"]["disc"]["missed"] == int((test.kind == 1).sum())
