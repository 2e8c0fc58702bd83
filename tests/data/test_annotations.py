"""COCO against pycocotools; splits; and each kind of bad input with its line."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fiducial.data import annotations, carving, checking, skeletons
from fiducial.data.source import Source
from fiducial.errors import UserError

W, H = 40, 30
NAMES = ["nose", "left_ear", "right_ear"]


def document(pictures: int = 3) -> dict[str, Any]:
    """Two instances a picture; image ids begin at 0, annotation ids, too."""
    items = []
    for number in range(2 * pictures):
        x = 4.0 + number
        items.append(
            {
                "id": number,
                "image_id": number // 2,
                "category_id": 7,
                "keypoints": [x, 5, 2, x + 3.5, 6, 1, 0, 0, 0],
                "bbox": [x - 1, 3, 9, 11],
                "area": 50.5,
                "iscrowd": 0,
                "num_keypoints": 2,
                "segmentation": [[1, 2, 3, 4, 5, 6]],
            }
        )
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": W, "height": H} for i in range(pictures)],
        "annotations": items,
        "categories": [{"id": 7, "name": "mouse", "keypoints": NAMES, "skeleton": [[1, 2], [1, 3]]}],
    }


def write(folder: Path, content: dict[str, Any] | str, split: str = "train") -> Path:
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "images").mkdir(exist_ok=True)
    for i in range(3):
        cv2.imwrite(str(folder / "images" / f"{i}.png"), np.full((H, W, 3), 50 * i, np.uint8))
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "annotations" / f"{split}.json").write_text(text)
    return folder


def load(folder: Path, content: dict[str, Any] | str, category: str | None = None, **options: Any):
    # With a val of its own, train is taken whole.
    write(folder, document(), "val")
    return annotations.load(Source(write(folder, content), category=category), "train", **options)


def test_columns_are_what_the_file_says(tmp_path: Path) -> None:
    instances, problems = load(tmp_path, document())
    assert len(instances) == 6
    assert instances.annotation_id.tolist() == [0, 1, 2, 3, 4, 5]
    assert instances.image_id[instances.image_row].tolist() == [0, 0, 1, 1, 2, 2]
    assert instances.xy[3].tolist() == [[7, 5], [10.5, 6], [0, 0]]
    assert instances.visibility[3].tolist() == [2, 1, 0]
    assert instances.box_xywh[3].tolist() == [6, 3, 9, 11]
    assert instances.area.tolist() == [50.5] * 6
    assert instances.image_size.tolist() == [[W, H]] * 3
    assert instances.skeleton.edges == ((0, 1), (0, 2))
    assert instances.skeleton.flip_pairs == ((1, 2),)
    assert [str(problem).partition("note: ")[2] for problem in problems] == [
        "flip pairs were read from the names of the points: left_ear/right_ear"
    ]
    assert instances.images.read(2)[0, 0].tolist() == [100, 100, 100]


def with_annotation(index: int, **changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["annotations"][index].update(changes)


def with_point(index: int, place: int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content["annotations"][index]["keypoints"][place] = value

    return change


BAD = [
    (with_annotation(2, bbox=[3, 4, 0, 5]), r"annotation 2: its box \[3.0, 4.0, 0.0, 5.0\] has no area", 1),
    (with_annotation(2, bbox=[41, 4, 6, 5]), "annotation 2: its box .* lies outside the picture of 40x30", 1),
    (with_annotation(2, bbox=[3, float("nan"), 6, 5]), "annotation 2: its box .* has no area", 1),
    (with_annotation(2, bbox=[3, 4, 1e10, 1e10]), r"annotation 2: its box .* expected px of at most 1e\+09", 1),
    (with_annotation(2, image_id=99), "annotation 2: image id 99 is not among the 3 images", 1),
    (lambda content: content["annotations"].append(content["annotations"][2]), "annotation 2: the id is used twice", 0),
    (with_annotation(2, keypoints="none"), "annotation 2: 1 numbers in its keypoints, expected 9", 1),
    (with_annotation(2, bbox=[1, 2]), r"annotation 2: bbox is \[1, 2\]; expected 4 numbers", 1),
    (
        lambda content: content["categories"][0].update(skeleton=[[1, 4], [1, 2]]),
        r"category 'mouse': edge \[1, 4\] of a skeleton of 3 points",
        0,
    ),
    (with_annotation(2, keypoints=[1, 2, 2]), "annotation 2: 3 numbers in its keypoints, expected 9", 1),
    (with_point(2, 2, 3), "annotation 2: v is 3 at point 'nose', expected 0, 1 or 2", 1),
    (with_point(2, 5, -1), "annotation 2: v is -1 at point 'left_ear'", 1),
    (with_point(2, 3, float("nan")), "annotation 2: point 'left_ear' is labelled .v 1. without finite", 1),
    (with_point(2, 4, float("inf")), "annotation 2: point 'left_ear' is labelled", 1),
    (
        with_point(2, 3, 1e6),
        r"annotation 2: point 'left_ear' lies at .1000000.0, 6.0., far outside the picture of 40x30",
        1,
    ),
    (with_point(2, 4, None), "annotation 2: point 'left_ear' is labelled", 1),
    (
        lambda content: content["images"][1].update(file_name="no.png"),
        "no.png: image 1: the picture is missing; 2 ann",
        2,
    ),
    (lambda content: content["images"][1].update(width=41), "1.png: image 1: the picture is 40x30, but .* 41x30", 2),
]


@pytest.mark.parametrize(("change", "line", "lost"), BAD)
def test_broken_instances_are_left_out_and_listed(tmp_path: Path, change, line: str, lost: int) -> None:
    content = document()
    change(content)
    instances, problems = load(tmp_path, content)
    wrong = checking.without_notes(problems)
    assert len(wrong) == 1
    with pytest.raises(UserError, match=f"1 broken in split 'train': .*{line}"):
        load(tmp_path, content, strict=True)
    assert "train.json" in str(wrong[0]) or "png" in str(wrong[0])
    assert len(instances) == 6 - lost
    assert np.isfinite(instances.xy).all()


def test_cut_off_picture(tmp_path: Path) -> None:
    write(tmp_path, document())
    path = tmp_path / "images" / "1.png"
    write(tmp_path, document(), "val")
    path.write_bytes(path.read_bytes()[:60])
    instances, problems = annotations.load(tmp_path, "train")
    assert len(instances) == 4
    assert "1.png: image 1: the PNG is cut off" in str(checking.without_notes(problems)[0])
    assert len(annotations.load(tmp_path, "train", verify=False)[0]) == 6


FATAL = [
    (lambda content: content.update(annotations=[]), "is empty|has no points|no annotation has keypoints"),
    (lambda content: content["categories"][0].update(flip_indices=[1, 2, 0]), "mirroring twice"),
    (lambda content: content["categories"][0].update(sigmas=[0.1]), "expected 3 positive sigmas"),
    (lambda content: content.pop("images"), "an object with lists `images` and `annotations`"),
]


@pytest.mark.parametrize(("change", "line"), FATAL)
def test_what_makes_a_file_unusable(tmp_path: Path, change, line: str) -> None:
    content = document()
    change(content)
    with pytest.raises(UserError, match=line):
        load(tmp_path, content, strict=True)


def test_boxes_that_all_have_no_area(tmp_path: Path) -> None:
    content = document()
    for item in content["annotations"]:
        item.update(bbox=[3, 4, 0, 0])
    with pytest.raises(UserError) as raised:
        load(tmp_path, content)
    assert str(raised.value) == (
        f"{tmp_path}/annotations/train.json: split 'train' is empty: annotation 0: its box [3.0, 4.0, 0.0, 0.0] has no "
        "area, expected [x, y, w, h] with w and h above 0; left out; and 5 more; leave all boxes out (COCO: `bbox`), and "
        "they are made of the points"
    )


def test_a_file_without_images_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.json: holds no images; expected images with labelled points"):
        load(tmp_path, {**document(), "images": [], "annotations": []})


def test_an_id_of_two_images(tmp_path: Path) -> None:
    """Which of them annotations mean can't be told; the third image is sound."""
    content = document()
    content["images"][1].update(id=0)
    instances, problems = load(tmp_path, content)
    assert instances.annotation_id.tolist() == [4, 5]
    lines = [str(problem) for problem in checking.without_notes(problems)]
    assert "image 0: image id 0 is used by more than one image (0.png, 1.png); left out" in lines[0]
    assert len(lines) == 1 + 4


def test_not_json(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.json: not JSON"):
        load(tmp_path, '{"images": [')
    with pytest.raises(UserError, match="no such file"):
        annotations.load(tmp_path / "nowhere", "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no annotations in a known format. Known: .*COCO"):
        annotations.load(tmp_path / "empty", "train")


def test_several_categories(tmp_path: Path) -> None:
    content = document()
    content["categories"].append({"id": 8, "name": "rat", "keypoints": NAMES[:2]})
    assert len(load(tmp_path, content)[0]) == 6  # no rat has annotations
    content["annotations"][0].update(category_id=8, keypoints=[1, 2, 2, 3, 4, 2])
    with pytest.raises(UserError, match="'mouse', 'rat'; choose one with --category"):
        load(tmp_path, content)
    rats, _ = load(tmp_path, content, category="rat")
    assert rats.skeleton.points == ("nose", "left_ear")
    assert rats.annotation_id.tolist() == [0]
    assert len(load(tmp_path, content, category="mouse")[0]) == 5
    with pytest.raises(UserError, match=r"no category 'rats'. Did you mean 'rat'"):
        load(tmp_path, content, category="rats")


def test_missing_boxes_unlabelled_and_crowds(tmp_path: Path) -> None:
    content = document()
    content["annotations"][0].pop("bbox")
    content["annotations"][0].pop("area")
    content["annotations"][1]["keypoints"] = [0] * 9
    content["annotations"][2].update(keypoints=[0] * 9, iscrowd=1)
    instances, problems = load(tmp_path, content)
    assert not checking.without_notes(problems)
    assert instances.annotation_id.tolist() == [0, 2, 3, 4, 5]
    assert instances.crowd.tolist() == [False, True, False, False, False]
    # Points 4..7.5 across and 5..6 down, whose pixels' outer edges are 0.5 further, and a tenth of the extent around.
    assert instances.box_xywh[0] == pytest.approx([4.5 - 0.35, 5.5 - 0.1, 3.5 * 1.2, 1.2], abs=1e-6)
    assert instances.area[0] == pytest.approx(3.5 * 1.2 * 1.2)


@pytest.mark.parametrize(("brightest", "is_dark"), [(4095, True), (60000, False), (200, False)])
def test_pictures_of_12_in_16_bits_are_told_of(tmp_path: Path, brightest: int, is_dark: bool) -> None:
    write(tmp_path, document())
    write(tmp_path, document(), "val")
    for path in (tmp_path / "images").iterdir():
        deep = np.full((H, W, 3), 17, np.uint8 if brightest < 256 else np.uint16)
        deep[2, 3, 1] = brightest
        cv2.imwrite(str(path), deep)
    _, problems = annotations.load(tmp_path, "train")
    said = [problem for problem in problems if "16-bit pictures whose brightest value is 4095" in problem.what]
    assert [problem.is_note for problem in said] == [True] * is_dark


def test_points_on_one_place_have_the_others_size_or_the_whole_image(tmp_path: Path) -> None:
    content = document()
    for item in content["annotations"][:2]:
        item.pop("bbox")
        item.update(keypoints=[10, 12, 2, 0, 0, 0, 0, 0, 0])
    content["annotations"][1]["keypoints"] = [10, 12, 2] * 3
    instances, problems = load(tmp_path, content)
    side = 11  # the longer one of all others
    assert instances.box_xywh[:2].tolist() == [[10.5 - side / 2, 12.5 - side / 2, side, side]] * 2
    said = [problem.what for problem in problems if "on one place" in problem.what]
    assert said == [
        "2 of 6 instances have no box and all their labelled points on one place: their box is 11 px wide and high around "
        "it, as the others' longer sides are in the median; give boxes where sizes differ"
    ]
    for item in content["annotations"]:
        item.pop("bbox", None)
        item.update(keypoints=[10 + item["id"], 12, 2, 0, 0, 0, 0, 0, 0])
    for image in content["images"]:  # the file tells the size as well
        image.pop("width")
    for options in ({}, {"verify": False}):
        instances, problems = load(tmp_path, content, **options)
        assert instances.box_xywh.tolist() == [[0, 0, W, H]] * 6
        [said] = [problem for problem in problems if "on one place" in problem.what]
        assert said.is_note
        assert "6 of 6 instances" in said.what
        assert "their box is the whole image; 3 images with several of them" in said.what


def test_a_skeleton_from_zero_is_noted(tmp_path: Path) -> None:
    content = document()
    content["categories"][0]["skeleton"] = [[0, 1], [0, 2]]
    instances, problems = load(tmp_path, content)
    assert instances.skeleton.edges == ((0, 1), (0, 2))
    assert any("begin at 0" in str(problem) for problem in problems)


def test_strings_for_numbers_are_read(tmp_path: Path) -> None:
    content = copy.deepcopy(document())
    content["annotations"][1].update(id="1", image_id="0", iscrowd="0")
    instances, _ = load(tmp_path, content)
    assert len(instances) == 6


def test_splits_of_a_source_that_has_none(tmp_path: Path) -> None:
    content = document()
    content["images"] = [{"id": i, "file_name": f"{i % 3}.png"} for i in range(3)]
    write(tmp_path, content)
    (tmp_path / "annotations" / "train.json").rename(tmp_path / "everything.json")
    file = tmp_path / "everything.json"
    everything, problems = annotations.load(file, "all")
    assert len(everything) == 6
    found = []
    for split in annotations.SPLITS:
        try:
            part, problems = annotations.load(file, split)
        except UserError as error:
            assert f"split '{split}' is empty" in str(error)  # noqa: PT017
            continue
        assert any("chosen by a hash" in str(problem) for problem in problems)
        found += part.annotation_id.tolist()
    assert sorted(found) == everything.annotation_id.tolist()


def test_shares_of_the_hash() -> None:
    tenths = np.bincount([carving.tenth(f"any/where/{i}.jpg") for i in range(20000)], minlength=10)
    assert tenths.min() > 1850
    assert tenths.max() < 2150
    assert carving.tenth("a/b/7.jpg") == carving.tenth("c\\7.jpg")


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    write(tmp_path, document())
    write(tmp_path, document(), "val")
    with pytest.raises(UserError, match="no split 'test', it has train, val"):
        annotations.load(tmp_path, "test")
    with pytest.raises(UserError, match=r"split 'tset': unknown. Did you mean 'test'"):
        annotations.load(tmp_path, "tset")


def test_cocos_own_names(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    for split in ("train", "val"):
        (tmp_path / f"{split}2017").mkdir()
        for i in range(3):
            cv2.imwrite(str(tmp_path / f"{split}2017" / f"{i}.png"), np.zeros((H, W, 3), np.uint8))
        for kind in ("person_keypoints", "instances", "captions"):
            text = json.dumps(document()) if kind == "person_keypoints" else "not to be read"
            (tmp_path / "annotations" / f"{kind}_{split}2017.json").write_text(text)
    instances, _ = annotations.load(tmp_path, "val")
    assert len(instances) == 6
    assert "val2017" in instances.images.name(0)


@pytest.mark.parametrize("folder", ["coco_mini17", "mirror_mouse17", "persons17"])
def test_equals_pycocotools_on_real_data(shared: Path, folder: str) -> None:
    from pycocotools.coco import COCO

    file = shared / folder / "annotations" / "val.json"
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(file))
    instances, problems = annotations.load(shared / folder, "val", strict=True)
    assert not checking.without_notes(problems)
    labelled = [item for item in truth.anns.values() if any(item["keypoints"][2::3]) or item["iscrowd"]]
    assert sorted(instances.annotation_id.tolist()) == sorted(item["id"] for item in labelled)
    for row, number in enumerate(instances.annotation_id.tolist()):
        item = truth.anns[number]
        keypoints = np.array(item["keypoints"], np.float32).reshape(-1, 3)
        assert np.array_equal(instances.visibility[row], keypoints[:, 2])
        assert np.array_equal(instances.xy[row], keypoints[:, :2] * (keypoints[:, 2:] > 0))
        assert np.array_equal(instances.box_xywh[row], np.float32(item["bbox"]))
        assert instances.area[row] == np.float32(item["area"])
        assert instances.crowd[row] == bool(item["iscrowd"])
        image_row = instances.image_row[row]
        assert instances.image_id[image_row] == item["image_id"]
        assert instances.images.name(image_row).endswith(truth.imgs[item["image_id"]]["file_name"])
    if folder == "mirror_mouse17":
        assert instances.skeleton.flip_pairs is None
    else:
        assert instances.skeleton.sigmas is not None


def csv_set(folder: Path, rows: list[str], names: Sequence[str] = ("a.png", "b.png", "c.png")) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        cv2.imwrite(str(folder / name), np.zeros((40, 60, 3), np.uint8))
    (folder / "labels.csv").write_text("\n".join(["image,a_x,a_y,b_x,b_y", *rows]) + "\n")
    return folder


def test_what_tools_write_for_missing_points(tmp_path: Path) -> None:
    """(-1, -1) always; the exact (0, 0) where it is there twice, since once it may be a place."""
    rows = ["a.png,-1,-1,5,6", "b.png,0,0,7,8", "c.png,0,0,9,10"]
    instances, problems = annotations.load(csv_set(tmp_path / "set", rows), "all")
    assert instances.visibility.tolist() == [[0, 2], [0, 2], [0, 2]]
    assert "1 at (-1, -1) and 2 at exactly (0, 0)" in " ".join(map(str, problems))
    rows = ["a.png,-1,6,5,6", "b.png,0,0,7,8", "c.png,0,3,9,10"]
    instances, problems = annotations.load(csv_set(tmp_path / "other", rows), "all")
    assert (instances.visibility == 2).all()
    assert not problems


def test_shares_are_no_px(tmp_path: Path) -> None:
    rows = ["a.png,.1,.2,.5,.6", "b.png,.9,.95,.7,.8", "c.png,1,0,.2,.3"]
    with pytest.raises(UserError, match="all its 6 labelled points lie within"):
        annotations.load(csv_set(tmp_path / "set", rows), "all")
    rows[0] = "a.png,.1,.2,.5,2.6"
    assert len(annotations.load(csv_set(tmp_path / "other", rows), "all")[0]) == 3


@pytest.mark.parametrize(("category", "is_face"), [("leaf", False), ("Face", True), ("person", True)])
def test_numbers_are_a_faces_only_where_it_may_be_one(category: str, is_face: bool) -> None:
    for names in ([str(i) for i in range(1, 69)], [f"kpt-{i}" for i in range(68)]):
        skeleton, notes = skeletons.complete(category, names, where="x")
        assert (skeleton.name == "ibug68") == is_face
        assert (skeleton.flip_pairs is not None) == is_face
        assert bool(notes) == is_face


def test_a_folder_whose_sub_folder_has_annotations_says_so(tmp_path: Path) -> None:
    csv_set(tmp_path / "all" / "mine", ["a.png,1,2,5,6"])
    with pytest.raises(UserError, match="in its sub-folder mine: give"):
        annotations.load(tmp_path / "all", "train")


@pytest.mark.parametrize(
    ("file", "images"),
    [
        ("annotations/person_keypoints_default.json", "images/default"),
        ("labels.json", "data"),
        ("result.json", "images"),
    ],
)
def test_lone_coco_files(tmp_path: Path, file: str, images: str) -> None:
    (tmp_path / images).mkdir(parents=True)
    (tmp_path / file).parent.mkdir(exist_ok=True)
    cv2.imwrite(str(tmp_path / images / "a.png"), np.zeros((40, 60, 3), np.uint8))
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "keypoints": [5, 6, 2, 9, 9, 1]}],
        "categories": [{"id": 1, "name": "x", "keypoints": ["a", "b"]}],
    }
    (tmp_path / file).write_text(json.dumps(content))
    for data in (tmp_path, tmp_path / file):
        instances, _ = annotations.load(data, "all")
        assert instances.xy.tolist() == [[[5, 6], [9, 9]]]
    (tmp_path / file).with_name("other.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="no annotations in a known format"):
        annotations.load(tmp_path, "all")


def test_species_with_the_same_points_are_read_as_one(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/a.png"), np.zeros((40, 60, 3), np.uint8))
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": i, "keypoints": [5, 6 + i, 2, 9, 9, 1]} for i in (1, 2, 3)
        ],
        "categories": [
            {"id": i, "name": name, "keypoints": ["a", "b"]} for i, name in enumerate(("cat", "dog", "cow"), 1)
        ],
    }
    (tmp_path / "train.json").write_text(json.dumps(content))
    instances, problems = annotations.load(tmp_path, "all")
    assert instances.annotation_id.tolist() == [1, 2, 3]
    assert "3 categories (cat, dog, cow) have the same points" in " ".join(map(str, problems))
    dog, _ = annotations.load(Source(tmp_path, category="dog"), "all")
    assert dog.annotation_id.tolist() == [2]
    content["categories"][2]["keypoints"] = ["b", "a"]
    (tmp_path / "train.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="several categories have keypoints"):
        annotations.load(tmp_path, "all")


def test_yolo_as_roboflow_and_phones_have_it(tmp_path: Path) -> None:
    """`../train/images` beside data.yaml, and names that end in .Jpg."""
    (tmp_path / "set/train/images").mkdir(parents=True)
    (tmp_path / "set/train/labels").mkdir()
    assert cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((40, 60, 3), np.uint8))
    (tmp_path / "a.jpg").rename(tmp_path / "set/train/images/a.Jpg")
    (tmp_path / "set/train/labels/a.txt").write_text("0 .5 .5 .4 .4 .5 .5 2 -1 -1 2\n")
    (tmp_path / "set/data.yaml").write_text("train: ../train/images\nkpt_shape: [2, 3]\nnames: [pen]\n")
    instances, problems = annotations.load(tmp_path / "set", "all")
    assert instances.xy[0, 0].tolist() == [29.5, 19.5]
    assert instances.visibility.tolist() == [[2, 0]]
    assert "1 at (-1, -1)" in " ".join(map(str, problems))
    (tmp_path / "set/data.yaml").write_text("train: there/images\nkpt_shape: [2, 3]\nnames: [pen]\n")
    with pytest.raises(UserError, match=r"data.yaml: names there/images; no labels are found"):
        annotations.load(tmp_path / "set", "all")
