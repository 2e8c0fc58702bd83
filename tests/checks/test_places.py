"""Numbers that can't be what they are said to be, copies and leaks: each fault planted alone is told of as its kind."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from fiducial.checks import bare_points, copies, leaks, places
from fiducial.checks import run as checks
from fiducial.checks.finding import KINDS, Labelled
from fiducial.data.series import blocks_of, numbered, series_of
from fiducial.data.source import Source
from tests.checks.small import beasts


@pytest.fixture(scope="module")
def raw():
    """As a format file reads it: visibility as float, sizes declared."""
    part = beasts(30)
    size = np.full((30, 2), (260, 200), np.int32)
    return replace(part, visibility=part.visibility.astype(float), image_size=size)


def kinds(part):
    return {finding.kind for finding in places.check_places("train", part)}


def test_sound_places_have_no_alarm(raw):
    assert places.check_places("train", raw) == []


def test_unit_coordinates(raw):
    assert kinds(replace(raw, xy=raw.xy / 260)) == {"unit_coordinates"}


def test_some_instances_in_unit_coordinates(raw):
    xy = raw.xy.copy()
    xy[[3, 8]] /= 260
    found = [one for one in places.check_places("train", replace(raw, xy=xy)) if one.kind == "unit_coordinates"]
    assert [(one.annotation_id, one.proposal) for one in found] == [
        (4, {"times": "image_size"}),
        (9, {"times": "image_size"}),
    ]


def test_marks_of_missing_points_in_shares_of_the_canvas(raw):
    xy = raw.xy.copy()
    xy[2, 1] = (-260.5, -200.5)  # YOLO's (-1, -1)
    [finding] = places.check_places("train", replace(raw, xy=xy))
    assert (finding.kind, finding.annotation_id) == ("missing_as_label", 3)


def test_corner_boxes_of_a_set_and_of_one(raw):
    x, y, w, h = raw.box_xywh.T
    corners = np.stack([x, y, x + w, y + h], axis=1)
    [finding] = places.check_places("train", replace(raw, box_xywh=corners))
    assert (finding.kind, finding.annotation_id, finding.proposal) == ("corner_box", None, {"box": "corners"})
    row = int((x + y + w + h).argmax())
    one = raw.box_xywh.copy()
    one[row] = corners[row]
    [finding] = places.check_places("train", replace(raw, box_xywh=one, image_size=np.full((30, 2), 180, np.int32)))
    assert (finding.kind, finding.annotation_id) == ("corner_box", row + 1)
    assert finding.proposal["box"] == pytest.approx(raw.box_xywh[row].tolist(), abs=0.01)


def test_one_wide_box_for_all_is_none_in_corners(raw):
    """It holds all points, and so does what its numbers are as corners, more tightly."""
    xy = raw.xy - raw.xy.min((0, 1)) + 100
    far = float(xy.max()) + 1
    boxes = np.tile([90.0, 90.0, far, far], (30, 1))
    assert places.check_places("train", replace(raw, xy=xy, box_xywh=boxes, image_size=np.full((30, 2), 900))) == []


def test_boxes_that_miss_their_points(raw):
    boxes = raw.box_xywh.copy()
    boxes[[2, 9], 0] -= 3 * boxes[[2, 9], 2]
    found = places.check_places("train", replace(raw, box_xywh=boxes))
    assert {(finding.kind, finding.annotation_id) for finding in found} == {
        ("box_misses_points", 3),
        ("box_misses_points", 10),
    }


@pytest.mark.parametrize("place", [(-1, -1), (0, 0)])
def test_missing_points_that_were_written_as_labels(raw, place):
    xy = raw.xy.copy()
    xy[[1, 5, 8], 4] = place
    found = places.check_places("train", replace(raw, xy=xy))
    assert {(finding.kind, finding.annotation_id, finding.points) for finding in found} == {
        ("missing_as_label", number, ("left_hand",)) for number in (2, 6, 9)
    }


def test_points_outside_and_exchanged_coordinates(raw):
    xy = raw.xy.copy()
    xy[4, 9] = (300, 50)
    [finding] = places.check_places("train", replace(raw, xy=xy))
    assert (finding.kind, finding.annotation_id, finding.points) == ("outside", 5, ("tail",))
    wide = replace(raw, image_size=np.full((30, 2), (400, 160), np.int32), xy=raw.xy + np.float32([180, -20]))
    assert kinds(wide) <= {"box_misses_points"}
    [finding, *_] = places.check_places("train", replace(wide, xy=wide.xy[..., ::-1]))
    assert (finding.kind, finding.proposal) == ("outside", {"transpose": True})


def picture(seed, size=96):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 220, (6, 6, 3)).astype(np.uint8)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def saved(image, quality):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def test_copies_are_found_in_any_size_and_quality_and_others_are_not():
    originals = [picture(seed) for seed in range(12)]
    changed = [
        saved(originals[0], 40),
        cv2.resize(originals[1], (70, 70), interpolation=cv2.INTER_AREA),
        np.clip(originals[2] * 1.1 + 8, 0, 255).astype(np.uint8),
        np.ascontiguousarray(originals[3][:, ::-1]),
    ]
    moved = originals[4].copy()
    moved[40:60, 40:60] = 255 - moved[40:60, 40:60]  # the next frame of a video
    images = [*originals, *changed, moved]
    part = beasts(len(images))
    part = replace(part, images=type(part.images)(images))
    labelled = Labelled({"train": part})
    pictures = copies.pictures_of(labelled)
    found = copies.same_looks(pictures, copies.thumbnails(pictures, labelled))
    assert {(copy.one.row, copy.other.row) for copy in found} == {(0, 12), (1, 13), (2, 14), (3, 15)}


@pytest.mark.parametrize(
    ("name", "series", "number", "is_video"),
    [
        ("vid_img0012.png", "/vid_img", 12, True),
        ("mice/day1_frame3.jpg", "mice/day1_frame", 3, True),
        ("Abdel_Aziz_00.jpg", "/Abdel_Aziz", 0, False),
        ("afw_1051618982_1.jpg", "/afw_1051618982", 1, False),
        ("img0001.jpg", "", 1, False),
        ("000000139.jpg", "", 139, False),
        ("IMG_4805.JPG", "", 4805, False),
        ("train7.png", "", 7, False),
        ("portrait.png", "", None, False),
    ],
)
def test_names_are_taken_apart(name, series, number, is_video):
    assert numbered(name) == (series, number, is_video)


def test_series_are_whole_and_blocks_are_runs():
    assert series_of([f"{person}_{i}.jpg" for person in "abcdefghijkl" for i in range(3)])[:4] == [
        "/a",
        "/a",
        "/a",
        "/b",
    ]
    assert series_of([f"{i:05}.jpg" for i in range(50)]) is None
    assert series_of([f"s{folder}/rgb.png" for folder in range(40)]) is None  # each a folder by itself
    assert series_of([f"{folder}/{i}.png" for folder in "abcdefghijkl" for i in range(3)])[0] == "a"
    frames = [f"vid_img{i:04}.png" for i in range(100)]
    assert series_of(frames) is None
    blocks = blocks_of(frames, 10)
    assert len(set(blocks)) == 10
    assert sum(one != other for one, other in itertools.pairwise(blocks)) == 9
    assert blocks_of([*frames, "portrait.png"], 10) is None


def test_what_says_nothing_is_no_series():
    splits = [f"images/{split}/{name}.jpg" for split in ("train", "val") for name in ("cat", "dog", "owl")]
    assert series_of(splits, fewest=2) is None, "its splits"
    animals = [
        f"{animal}/{split}/{name}.jpg" for animal in ("mice", "쥐") for split in ("train", "val") for name in "xy"
    ]
    assert series_of(animals, fewest=2) == ["mice"] * 4 + ["쥐"] * 4
    assert series_of([f"memory#{row}" for row in range(30)], fewest=2) is None, "images of a program"


def test_frames_of_one_video_on_both_sides_are_a_leak_and_a_split_by_time_is_none():
    def pictures(train, val):
        return [
            copies.Picture(split, row, f"vid_img{number:04}.png")
            for split, numbers in (("train", train), ("val", val))
            for row, number in enumerate(numbers)
        ]

    mixed = pictures(range(0, 100, 2), range(1, 100, 2))
    [finding] = leaks.check_leaks(mixed, {}, None)
    assert (finding.kind, finding.split) == ("leak", "train, val")
    assert leaks.check_leaks(pictures(range(80), range(90, 100)), {}, None) == []
    persons = [copies.Picture(split, 0, f"{name}.jpg") for split in ("train", "val") for name in "ab"]
    [finding] = leaks.check_leaks(persons, {"person": ["Ann", "Bo", "Ann", "Cy"]}, None)
    assert "person 'Ann'" in finding.what


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A COCO set with a copy in val, exchanged sides, an image of another size and one that no label names."""
    root = tmp_path_factory.mktemp("faulty")
    (root / "images").mkdir()
    (root / "annotations").mkdir()
    category = None
    for split, count, seed in (("train", 60, 0), ("val", 20, 7)):
        part = beasts(count, seed)
        xy = part.xy.copy()
        if split == "train":
            xy[10] = xy[10][part.skeleton.flip_order]
        category = category or {
            "id": 1,
            "name": "beast",
            "keypoints": list(part.skeleton.points),
            "flip_indices": part.skeleton.flip_order.tolist(),
        }
        entries, annotations = [], []
        for row in range(count):
            name = f"{split}_{row}{'ab'[row % 2]}.png"
            image = picture(100) if (split, row) in (("train", 3), ("val", 4)) else picture(seed * 1000 + row)
            cv2.imwrite(str(root / "images" / name), cv2.resize(image, (200, 200)))
            size = 100 if (split, row) == ("train", 20) else 200
            entries.append({"id": row, "file_name": name, "width": size, "height": size})
            keypoints = np.concatenate([xy[row], np.full((12, 1), 2)], axis=1).round(2)
            box = [round(float(value), 2) for value in part.box_xywh[row]]
            annotations.append(
                {"id": row + 1, "image_id": row, "category_id": 1, "keypoints": keypoints.ravel().tolist(), "bbox": box}
            )
        content = {"images": entries, "annotations": annotations, "categories": [category]}
        (root / "annotations" / f"{split}.json").write_text(json.dumps(content))
    cv2.imwrite(str(root / "images" / "left_over.png"), picture(5))
    return root


def test_the_command_finds_what_was_planted_and_writes_it_as_json(folder, tmp_path, run):
    code, out, err = run("data", "check", folder, "--json", tmp_path / "findings.json")
    assert code == 0, err
    figures = json.loads((tmp_path / "findings.json").read_text())
    fields = {"kind", "split", "image", "annotation_id", "points", "confidence", "what", "proposal"}
    assert all(set(finding) == fields and finding["kind"] in KINDS for finding in figures["findings"])
    told = {(finding["kind"], finding["split"], finding["annotation_id"]) for finding in figures["findings"]}
    assert told == {
        ("left_right", "train", 11),
        ("duplicate", "val", None),
        ("size", "train", None),
        ("unlabelled_image", "train, val", None),
    }
    [copy] = [finding for finding in figures["findings"] if finding["kind"] == "duplicate"]
    assert copy["image"].endswith("val_4a.png")
    assert "left and right look exchanged" in out


def test_points_without_a_label_are_told_of_each_split(raw):
    bare = raw.visibility.copy()
    bare[:, 3] = 0
    [found] = bare_points.check_bare({"train": raw, "val": replace(raw, visibility=bare)})
    name = raw.skeleton.points[3]
    assert (found.kind, found.split, found.points) == ("unlabelled_point", "val", (name,))
    assert found.what == f"point {name!r} has no label in val: it is not scored"


def test_the_quick_half_tells_of_shapes_and_reads_no_image(folder):
    checked = checks.check(Source(folder))
    (folder / "images" / "train_5b.png").rename(folder / "images" / "train_5b.hidden")
    found = checks.quick(dict(checked.splits.instances))
    (folder / "images" / "train_5b.hidden").rename(folder / "images" / "train_5b.png")
    assert [(finding.kind, finding.annotation_id) for finding in found] == [
        ("duplicate", None),
        ("left_right", 11),
    ]


def test_the_corrected_set_is_sound_and_the_page_shows_both(folder, tmp_path, run):
    before = {path: path.read_bytes() for path in folder.rglob("*.json")}
    code, _, err = run("data", "check", folder, "--fix", tmp_path / "mended", "--report", tmp_path / "check.html")
    assert code == 0, err
    assert {path: path.read_bytes() for path in folder.rglob("*.json")} == before
    page = (tmp_path / "check.html").read_text()
    assert "Left and right look exchanged" in page
    assert page.count("data:image/jpeg") == 3  # the exchanged one, the copy, the one of another size
    again = checks.check(Source(tmp_path / "mended"))
    assert {finding.kind for finding in again.findings} <= {"unlabelled_image"}
    assert {split: len(part) for split, part in again.splits.instances} == {
        "train": 59,
        "val": 19,
    }  # but the one of another size
    log = (tmp_path / "mended" / "changes.csv").read_text()
    kinds = [line.split(",")[0] for line in log.splitlines()[1:]]
    assert kinds[:2] == ["duplicate", "left_right"]
    assert set(kinds[2:]) == {"read"}, "what was assumed when it was read"
    code, _, err = run("data", "check", folder, "--fix", tmp_path / "mended")
    assert code == 2
    assert "is there already" in err


def test_the_set_is_shown_in_ten_lines_as_json_and_as_a_page(folder, tmp_path, run):
    code, out, err = run("data", "show", folder, "--json", tmp_path / "shown.json", "--report", tmp_path / "shown.html")
    assert code == 0, err
    assert len(out.splitlines()) <= 10
    figures = json.loads((tmp_path / "shown.json").read_text())
    assert {split: one["instances"] for split, one in figures["splits"].items()} == {"train": 59, "val": 20}
    assert figures["labels"] == {"visible": 79 * 12, "hidden": 0, "missing": 0}
    assert figures["flip_pairs"] == [
        ["left_eye", "right_eye"],
        ["left_hand", "right_hand"],
        ["left_foot", "right_foot"],
        ["left_knee", "right_knee"],
    ]
    assert figures["licences"] == ["unknown"]
    assert len(figures["problems"]) == 1  # the image of another size
    page = (tmp_path / "shown.html").read_text()
    assert page.count("data:image/jpeg") == 24
    assert all(name in page for name in ("left_knee", "Sizes and directions", "unknown"))


def test_a_split_of_which_nothing_is_left_is_left_out(folder, tmp_path, run):
    """All images of val are those of train."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images").mkdir()
    content = json.loads((folder / "annotations" / "train.json").read_text())
    for split in ("train", "val"):
        kept = {**content, "images": content["images"][:8], "annotations": content["annotations"][:8]}
        for image in kept["images"]:
            data = (folder / "images" / image["file_name"]).read_bytes()
            (tmp_path / "images" / f"{split}_{image['file_name']}").write_bytes(data)
        kept["images"] = [{**image, "file_name": f"{split}_{image['file_name']}"} for image in kept["images"]]
        (tmp_path / "annotations" / f"{split}.json").write_text(json.dumps(kept))
    code, _, err = run("data", "check", tmp_path, "--fix", tmp_path / "mended")
    assert code == 0, err
    assert "val: nothing is left of it" in err
    assert not (tmp_path / "mended" / "annotations" / "val.json").exists()
    assert "nothing is left of it" in (tmp_path / "mended" / "changes.csv").read_text()
    code, _, err = run("fit", tmp_path, "--out", tmp_path / "run", "--minutes", "0.1", "--finder", "no")
    assert code == 2
    assert "the same bytes" in err
