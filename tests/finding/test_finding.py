"""A finder beside a detector, from labels to one file: trained, judged, exported, asked by Python, by the command and over
folders; and what it says where it can do nothing."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from finding.discs import SIDE, discs, scene
from quick import FIXED
from serve.served import encoded
from web import browsing

import fiducial
from fiducial import geometry
from fiducial.card import DetectorSpec
from fiducial.errors import UserError
from fiducial.evaluation import found
from fiducial.evaluation.coco import Boxes
from fiducial.finding import plan, scenes
from fiducial.finding.beside import beside
from fiducial.finding.recipe import FinderRecipe
from fiducial.finding.scoring import best_threshold
from fiducial.geometry import Size
from fiducial.models import detector as detectors
from fiducial.training import plan as plans
from fiducial.training.fit import Data
from fiducial.training.pace import Pace
from fiducial.training.recipe import Recipe
from fiducial.types import Skeleton

WORDS = {
    "method": "heatmap",
    "backbone": "test_efficientnet",
    "size": "32x32",
    "pretrained": "no",
    "epochs": 12,
    "batch_size": 16,
    "workers": 0,
    "preflight": False,
    "check": False,
}
SETTINGS = [
    *FIXED,
    "finder.backbone=test_efficientnet",
    "finder.size=96x96",
    "finder.epochs=9",
    "finder.passes=4",
    "finder.batch_size=8",
    *(f"finder.{setting}" for setting in FIXED),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Trained on images of which a quarter shows nothing."""
    out = tmp_path_factory.mktemp("finding") / "run"
    return fiducial.fit(discs(60, 0), out, val=discs(20, 1), settings=SETTINGS, **WORDS)


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    return fiducial.export(run, tmp_path_factory.mktemp("finding") / "shipped")


def test_a_run_on_several_instances_an_image_gets_a_finder(run):
    assert (run.folder / "finder" / "model.json").is_file()
    assert (run.folder / "finder" / "report.html").is_file()
    assert "Found in whole images" in (run.folder / "report.html").read_text()
    both = run.figures["found"]
    assert both["recall@0.5"] > 0.85
    assert both["false_on_empty"] <= 1
    assert json.loads((run.folder / "metrics.json").read_text())["found"] == both


def test_it_finds_what_it_never_saw(run):
    """Discs of other images: as many boxes, each where its disc is."""
    model, right, wanted, false = run.model(), 0, 0, 0
    for seed in range(100, 120):
        image, there = scene(np.random.default_rng(seed), seed % 4)
        points = model(image)
        assert points.xy.shape == (len(points.box_xywh), 2, 2)
        assert (np.diff(points.box_score) <= 0).all()
        truth = np.array([[x - r + 0.5, y - r + 0.5, 2 * r, 2 * r] for x, y, r in there]).reshape(-1, 4)
        iou = (
            geometry.box_iou(points.box_xywh[:, None], truth[None])
            if len(points.box_xywh)
            else np.zeros((0, len(truth)))
        )
        right += int((iou.max(0, initial=0) > 0.5).sum())
        false += int((iou.max(1, initial=0) <= 0.5).sum())
        wanted += len(truth)
    assert right >= 0.8 * wanted
    assert false <= 4


def test_nothing_found_is_an_answer(run, tmp_path, caplog):
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((80, 120, 3), 60, np.uint8))
    with caplog.at_level(logging.WARNING, "fiducial"):
        done = fiducial.predict(run, tmp_path / "grey.png", tmp_path / "out", min_score=0.999)
    assert done.results == []
    assert "nothing was found in 1 of 1 images" in caplog.text


def test_one_file_gives_what_torch_gives(run, exported):
    ours, file = run.model(), exported.model()
    for seed in range(200, 210):
        image, _ = scene(np.random.default_rng(seed), 3)
        big = cv2.resize(image, (300, 180), interpolation=cv2.INTER_LINEAR)
        for picture in (image, big):
            expected, inside = ours(picture), file.network.full(picture)
            assert inside is not None
            for given in (file(picture), inside):
                assert np.abs(given.box_xywh - expected.box_xywh).max(initial=0) < 0.01
                assert np.abs(given.xy - expected.xy).max(initial=0) < 0.05


def test_the_file_alone_answers_to_any_program(exported):
    """A full image in; boxes, points and scores of all that is in it out, by ONNX Runtime and nothing else."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(exported.file), providers=["CPUExecutionProvider"])

    def answer(names: list[str], **given: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(value) for value in session.run(names, given)]

    image, there = scene(np.random.default_rng(7), 3)
    box, xy = answer(["box", "xy"], image=image)
    assert len(box) == len(xy)
    assert abs(len(box) - len(there)) <= 1
    none = answer(["box", "xy", "score"], image=image, min_score=np.array([1.5], np.float32))
    assert [len(each) for each in none] == [0, 0, 0]
    given = np.array([[10, 10, 30, 30], [40, 40, 20, 20]], np.float32)
    assert len(answer(["xy"], image=image, boxes=given)[0]) == 2


def test_a_page_finds_what_torch_finds(run, tmp_path, monkeypatch):
    """Its certificate compares what is found in whole pictures, which a browser decodes."""
    browsing.need_browser()
    browsing.need_ort(monkeypatch)
    page = fiducial.export(run, tmp_path / "page", to="web")
    assert page.certificate.max_px is not None
    assert page.certificate.max_px < 0.05
    network: Any = page.model().network
    ours = run.model()
    counts = []
    for seed in range(6):
        image, _ = scene(np.random.default_rng(seed), seed % 4)
        expected, seen = ours(image), network.look(encoded(image))
        np.testing.assert_allclose(seen.box_xywh, expected.box_xywh, atol=0.05 + 1 / 8)
        np.testing.assert_allclose(seen.xy, ours(image, seen.box_xywh).xy, atol=0.05)
        counts.append(len(seen.xy))
    assert max(counts) > 1
    network.close()


def test_given_boxes_win_over_the_finder_and_that_is_said(run, tmp_path, caplog):
    image, _ = scene(np.random.default_rng(3), 2)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    boxes = np.array([[5.0, 5, 40, 40]])
    assert len(run.model()(image, boxes)) == 1
    with caplog.at_level(logging.WARNING, "fiducial"):
        done = fiducial.predict(run, tmp_path / "a.png", tmp_path / "out", boxes="5,5,40,40", min_score=0.5)
    assert "--min-score: the boxes that --boxes gives are looked at alone" in caplog.text
    assert done.instances == 1


def test_evaluate_tells_what_the_finder_costs(exported):
    test = discs(20, 2)
    result = fiducial.evaluate(exported.model(), test)
    both = result.figures["found"]
    assert {"ap", "ap_true_boxes", "recall@0.5", "false_per_image", "box_ap", "by_size"} <= set(both)
    assert both["box_ap"] > 0.3
    assert "found in whole images" in result.lines[0]


def test_batches_find_what_single_images_give(exported):
    model = exported.model()
    images = [scene(np.random.default_rng(seed), seed % 4)[0] for seed in range(12)]
    for one, of_batch in zip(map(model, images), model.batch(images), strict=True):
        assert np.array_equal(one.box_xywh, of_batch.box_xywh)
        assert np.allclose(one.xy, of_batch.xy, atol=1e-3)


def test_another_run_s_finder_is_taken(run, tmp_path):
    words = {**WORDS, "epochs": 1}
    other = fiducial.fit(discs(20, 5), tmp_path / "other", val=discs(8, 6), finder=run.folder, settings=FIXED, **words)
    weights = [folder / "finder" / "model.safetensors" for folder in (run.folder, other.folder)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    with pytest.raises(UserError, match="is no run with a finder"):
        fiducial.fit(discs(20, 5), tmp_path / "no", val=discs(8, 6), finder=tmp_path, settings=FIXED, **words)


def test_a_finder_in_a_file_of_its_own_serves_other_models(run, tmp_path):
    from fiducial.exporting import finder_export

    finder = finder_export.of_run(run.folder)
    assert finder is not None
    finder_export.write_alone(*finder, tmp_path / "discs.finder.onnx")
    image, _ = scene(np.random.default_rng(11), 3)
    other = fiducial.load("face", finder=tmp_path / "discs.finder.onnx")
    assert np.array_equal(other(image).box_xywh, run.model()(image).box_xywh)
    assert fiducial.load(run.folder, finder="no")(image).box_xywh is None


def test_a_finder_whose_weights_are_stored_in_halves_finds_the_same(run, tmp_path):
    from fiducial.exporting import finder_export

    finder = finder_export.of_run(run.folder)
    assert finder is not None
    files = tmp_path / "plain.finder.onnx", tmp_path / "halves.finder.onnx"
    for file, halves in zip(files, (False, True), strict=True):
        finder_export.write_alone(*finder, file, halves=halves)
    large, small = (file.stat().st_size for file in files)
    assert small < 0.75 * large
    assert b"finder_graph.py" not in files[0].read_bytes()  # nor any other file of the machine that exported
    images = [scene(np.random.default_rng(seed), 3)[0] for seed in range(6)]
    plain, halves = (fiducial.load("face", finder=file) for file in files)
    for image in images:
        one, other = plain(image), halves(image)
        assert one.box_xywh is not None
        assert np.abs(one.box_xywh - other.box_xywh).max() <= 0.5
        assert np.abs(one.box_score - other.box_score).max() < 0.01


def test_a_finder_beside_a_file_is_used_and_joined_with_it(run, tmp_path):
    """As that of the face model, which comes along in a file of its own; a page has both in one."""
    from fiducial.exporting import finder_export, onnx_export
    from fiducial.runtime import runtime

    detector, card = detectors.load(run.folder)
    finder = finder_export.of_run(run.folder)
    assert finder is not None
    made = onnx_export.write(detector, card, tmp_path, crop="inside", decode="own")
    image, _ = scene(np.random.default_rng(11), 3)
    assert fiducial.load(made.file)(image).box_xywh is None
    assert finder_export.joined_with_beside(made, tmp_path) is made
    finder_export.write_alone(*finder, made.file.with_name(f"{made.file.stem}.finder.onnx"), halves=True)
    (tmp_path / "joined").mkdir()
    joined = finder_export.joined_with_beside(made, tmp_path / "joined")
    assert made.card.finder is None
    assert joined.card.finder == finder[0].spec
    beside, one = runtime.load(made.file)(image), runtime.load(joined.file)(image)
    assert len(beside) > 0
    assert np.array_equal(beside.box_xywh, one.box_xywh)
    assert np.allclose(beside.xy, one.xy, atol=1e-3)


def test_no_finder_where_none_is_wanted_or_needed(tmp_path):
    words = {**WORDS, "epochs": 1}
    without = fiducial.fit(discs(20, 5), tmp_path / "a", val=discs(8, 6), finder="no", settings=FIXED, **words)
    assert not (without.folder / "finder").exists()
    assert "found" not in without.figures
    whole = discs(12, 8, fewest=1)
    alone = whole.select(np.unique(whole.image_row, return_index=True)[1])
    boxes = np.tile(np.array([0, 0, SIDE, SIDE], np.float32), (len(alone), 1))
    assert not plan.need_of(type(alone)(**{**vars(alone), "box_xywh": boxes})).needed
    # Formats that state no sizes of images: several in one are seen all the same.
    for of_one_each, needed in ((alone, False), (whole, True)):
        unsized = replace(of_one_each, image_size=np.zeros_like(of_one_each.image_size))
        assert plan.need_of(unsized).needed == needed


def test_a_run_that_was_stopped_before_its_finder_gets_it_when_it_goes_on(tmp_path):
    """As where Ctrl-C came while the detector was trained: the plan says that one belongs to it."""
    words, settings = {**WORDS, "epochs": 1}, [setting for setting in SETTINGS if "epochs" not in setting]
    settings = [*settings, "finder.epochs=1"]
    out = tmp_path / "run"
    fiducial.fit(discs(20, 5), out, val=discs(8, 6), finder="no", settings=FIXED, **words)
    gone_on = fiducial.fit(discs(20, 5), out, val=discs(8, 6), resume=True, settings=settings, **words)
    assert (out / "finder" / "model.json").is_file()
    # Of one epoch a finder is of no use: that is said, and whole images are looked at as without one.
    assert "too little to be of use" in gone_on.figures["finder"]["warning"]
    assert json.loads((out / "metrics.json").read_text())["finder"] == gone_on.figures["finder"]
    assert gone_on.model()(scene(np.random.default_rng(0), 2)[0]).xy.shape == (1, 2, 2)


def test_settings_of_the_finder_need_their_names(tmp_path):
    with pytest.raises(UserError, match="sizze"):
        fiducial.fit(discs(8, 5), tmp_path / "a", val=discs(4, 6), settings=[*FIXED, "finder.sizze=3"], **WORDS)


# ------------------------------------------------------------------------------------------------------ scenes


@pytest.mark.parametrize("quarter_turns", [False, True])
def test_boxes_move_with_their_images(quarter_turns):
    """The image's truth: in every scene the bright px of a disc fill its box and stop at it."""
    spec = FinderRecipe().augment
    plain = type(spec)(
        **{**vars(spec), "brightness": 0, "contrast": 0, "saturation": 0, "cast": 0, "blur": 0, "noise": 0}
    )
    plain = type(spec)(**{**vars(plain), "occlusion": 0})
    loader = scenes.loader(
        discs(24, 3, fewest=1, most=1), Size(96, 96), 8, plain, passes=2, quarter_turns=quarter_turns
    )
    seen = 0
    for batch in loader:
        for image, boxes, present in zip(batch.image, batch.box_xywh, batch.present, strict=True):
            bright = image.numpy()[..., 0] > 170
            for box in boxes[present > 0].numpy():
                x, y, w, h = box
                rows, columns = np.nonzero(
                    bright[max(0, int(y) - 2) : int(y + h) + 3, max(0, int(x) - 2) : int(x + w) + 3]
                )
                if len(rows) == 0:
                    continue
                low = columns.min() + max(0, int(x) - 2), rows.min() + max(0, int(y) - 2)
                high = columns.max() + 1 + max(0, int(x) - 2), rows.max() + 1 + max(0, int(y) - 2)
                assert np.abs(np.array([*low, *high]) - [x, y, x + w, y + h]).max() < 2.6
                seen += 1
    assert seen > 20


def test_crowds_are_ignored_and_boxes_without_points_are_instances():
    labelled = discs(6, 4, fewest=2)
    crowd, blind = np.zeros(len(labelled), bool), labelled.visibility.copy()
    crowd[0], blind[1] = True, 0
    some = type(labelled)(**{**vars(labelled), "crowd": crowd, "visibility": blind, "ignored": None})
    assert found.wanted(some).tolist() == [False, True, *[True] * (len(some) - 2)]
    batch = next(iter(scenes.loader(some, Size(96, 96), 6, None)))
    assert float(batch.present.sum()) == len(some) - 1
    assert float(batch.ignored.sum()) == 1


def test_the_plan_sees_small_things():
    labelled = discs(20, 9, fewest=1)
    tiny = type(labelled)(**{**vars(labelled), "image_size": labelled.image_size * 8})
    small, choices = plan.plan_of(tiny, plan_facts(tiny), FinderRecipe(), ())
    usual, _ = plan.plan_of(labelled, plan_facts(labelled), FinderRecipe(), ())
    assert max(usual.size) < max(small.size) <= plan.MOST_PX
    assert {choice.setting for choice in choices} >= {"size", "head.stride", "batch_size", "epochs"}
    given, _ = plan.plan_of(tiny, plan_facts(tiny), FinderRecipe(size=Size(64, 64)), {"size"})
    assert given.size == Size(64, 64)


def test_no_finder_is_begun_in_seconds_unless_one_is_asked_for(said: list[str]) -> None:
    labelled = discs(20, 9, fewest=2)
    data = Data(labelled, labelled, [])
    few = Recipe(minutes=1.0)
    assert beside(None, data, few, frozenset(), (), planned=True) is None
    assert any(
        "none is made, though" in line and "18 s, its share of the minutes, are too few" in line for line in said
    )
    assert beside("auto", data, few, frozenset(), (), planned=True) is not None
    assert beside(None, data, Recipe(minutes=2.0), frozenset(), (), planned=True) is not None


def test_the_plan_keeps_a_trunk_of_photographs_where_there_is_little_time():
    labelled = discs(20, 9, fewest=1)
    pace = Pace(step=0.1, validation=1.0, precision="fp32", memory_format="contiguous")

    def planned(minutes=1.0, given=(), weights=(plans.PRETRAINED,), **options):
        recipe = FinderRecipe(minutes=minutes, **options)
        return plan.plan_of(labelled, plan_facts(labelled), recipe, given, lambda _: pace, weights)[0]

    tuned = planned()
    assert tuned.backbone == plans.TUNED_BACKBONE
    assert tuned.optimizer.freeze_epochs >= tuned.epochs
    detectors.build(DetectorSpec(tuned.backbone, tuned.method, tuned.head, tuned.size, Skeleton("disc", ("disc",))))
    usual = FinderRecipe()
    for other in (planned(30.0), planned(weights=()), planned(pretrained="no"), planned(given={"backbone"})):
        assert other.backbone == usual.backbone
        assert other.optimizer.freeze_epochs == 0


def plan_facts(labelled):
    from fiducial.data.facts import facts_of

    return facts_of(labelled)


# ------------------------------------------------------------------------------------------------------ figures


def test_perfect_boxes_score_one_and_false_ones_are_counted():
    truth = found.truth_of(discs(10, 3))
    perfect = Boxes(truth.image_row, truth.box_xywh.astype(np.float64), np.full(len(truth), 0.9))
    figures = found.scored(truth, perfect, 0.5)
    assert figures["box_ap"] == pytest.approx(1)
    assert figures["recall@0.5"] == 1
    assert figures["false_per_image"] == 0
    more = Boxes(
        np.concatenate([perfect.image_row, [0, 1]]),
        np.concatenate([perfect.xywh, [[0, 0, 3, 3], [90, 90, 4, 4]]]),
        np.concatenate([perfect.score, [0.7, 0.2]]),
    )
    figures = found.scored(truth, more, 0.5)
    assert figures["false_per_image"] == pytest.approx(0.1)
    assert figures["recall@0.5"] == 1
    threshold, mean = best_threshold(truth, more)
    assert 0.7 < threshold < 0.9
    assert mean == 1


def test_box_ap_is_that_of_pycocotools(tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    truth = found.truth_of(discs(30, 3))
    generator = np.random.default_rng(0)
    rows = np.repeat(np.arange(len(truth)), 2)
    noise = generator.normal(0, 2.5, (len(rows), 4))
    xywh = np.maximum(truth.box_xywh[rows].astype(np.float64) + noise, 1)
    boxes = Boxes(truth.image_row[rows], xywh, generator.uniform(0, 1, len(rows)))
    images = [{"id": int(i), "width": SIDE, "height": SIDE} for i in range(len(truth.image_id))]
    labels = [
        {
            "id": i + 1,
            "image_id": int(row),
            "category_id": 1,
            "bbox": box.tolist(),
            "area": float(box[2] * box[3]),
            "iscrowd": 0,
        }
        for i, (row, box) in enumerate(zip(truth.image_row, truth.box_xywh.astype(float), strict=True))
    ]
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"images": images, "annotations": labels, "categories": [{"id": 1, "name": "disc"}]}))
    theirs = coco.COCO(str(path))
    results = [
        {"image_id": int(row), "category_id": 1, "bbox": box.tolist(), "score": float(score)}
        for row, box, score in zip(boxes.image_row, boxes.xywh, boxes.score, strict=True)
    ]
    judged = COCOeval(theirs, theirs.loadRes(results), "bbox")
    judged.evaluate()
    judged.accumulate()
    judged.summarize()
    figures = found.scored(truth, boxes, 0.0)
    assert figures["box_ap"] == pytest.approx(judged.stats[0], abs=1e-9)
    assert figures["box_ap50"] == pytest.approx(judged.stats[1], abs=1e-9)
