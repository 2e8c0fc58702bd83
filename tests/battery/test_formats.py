"""Every format in the folder, on a sample of its own form written here, and on real files where they are.

A new format is tested by a sample that its file writes itself, `sample(root) -> points of each image`, or that a writer
here makes; without either its tests are skipped with a word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fiducial.data import annotations, checking
from fiducial.data.source import Source
from fiducial.errors import UserError
from fiducial.types import Instances

SIZES = [(60, 44), (52, 70), (48, 48), (81, 39)]
MODULES = {module.__name__.rpartition(".")[2]: module for module in annotations.format_modules()}


def truth(points: int, square: bool = False) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Pictures with a bright pixel at each point, and the points, whole px."""
    generator = np.random.default_rng(points)
    pictures, labels = [], []
    for w, h in [(48, 48)] * 4 if square else SIZES:
        places = generator.choice(w * h, points, replace=False)
        xy = np.stack([places % w, places // w], 1).astype(float)
        picture = np.full((h, w), 20, np.uint8)
        picture[places // w, places % w] = 230
        pictures.append(picture)
        labels.append(xy)
    return pictures, labels


def save(folder: Path, pictures: list[np.ndarray]) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for i, picture in enumerate(pictures):
        cv2.imwrite(str(folder / f"face_{i}.png"), picture)
    return [f"face_{i}.png" for i in range(len(pictures))]


def write_coco(root: Path) -> list[np.ndarray]:
    pictures, labels = truth(5)
    names = save(root / "images", pictures)
    content: dict[str, Any] = {
        "images": [{"id": i + 3, "file_name": name} for i, name in enumerate(names)],
        "annotations": [
            {"id": i, "image_id": i + 3, "category_id": 1, "keypoints": np.c_[xy, np.full(5, 2)].ravel().tolist()}
            for i, xy in enumerate(labels)
        ],
        "categories": [{"id": 1, "name": "hand", "keypoints": list("abcde")}],
    }
    (root / "annotations").mkdir()
    for split in ("train", "val", "test"):
        (root / "annotations" / f"{split}.json").write_text(json.dumps(content))
    return labels


def write_lapa(root: Path) -> list[np.ndarray]:
    pictures, labels = truth(106)
    for split in ("train", "val", "test"):
        save(root / split / "images", pictures)
        (root / split / "landmarks").mkdir()
        for i, xy in enumerate(labels):
            lines = "\n".join(f"{x:.6f} {y:.6f}" for x, y in xy)
            (root / split / "landmarks" / f"face_{i}.txt").write_text(f"106\n{lines}\n")
    return labels


def write_pts(root: Path) -> list[np.ndarray]:
    pictures, labels = truth(68)
    for split in ("trainset", "testset"):
        save(root / "helen" / split, pictures)
        for i, xy in enumerate(labels):
            lines = "\n".join(f"{x + 1:.6f} {y + 1:.6f}" for x, y in xy)  # Matlab's counting
            text = f"version: 1\nn_points: 68\n{{\n{lines}\n}}\n" if i % 2 else lines + "\n"
            (root / "helen" / split / f"face_{i}.pts").write_text(text)
    return labels


def write_wflw(root: Path) -> list[np.ndarray]:
    pictures, labels = truth(98)
    names = save(root / "WFLW_images" / "7--Cheering", pictures)
    lists = root / "WFLW_annotations" / "list_98pt_rect_attr_train_test"
    lists.mkdir(parents=True)
    for split in ("train", "test"):
        lines = [
            " ".join(map(str, [*xy.ravel(), 3, 5, 31, 37, 0, 0, 1, 0, 0, 1])) + f" 7--Cheering/{name}"
            for name, xy in zip(names, labels, strict=True)
        ]
        (lists / f"list_98pt_rect_attr_{split}.txt").write_text("\n".join(lines) + "\n")
    return labels


def write_csv_table(root: Path) -> list[np.ndarray]:
    """Kaggle's layout, pixels in the cell."""
    pictures, labels = truth(3, square=True)
    rows = ["left_eye_x,left_eye_y,right_eye_x,right_eye_y,tip_x,tip_y,Image"]
    for picture, xy in zip(pictures, labels, strict=True):
        rows.append(",".join(map(str, xy.ravel())) + "," + " ".join(map(str, picture.ravel())))
    root.mkdir(exist_ok=True)
    for split in ("training", "validation", "test"):
        (root / f"{split}.csv").write_text("\n".join(rows) + "\n")
    return labels


def write_yolo_pose(root: Path) -> list[np.ndarray]:
    pictures, labels = truth(4)
    for split in ("train", "val", "test"):
        save(root / "images" / split, pictures)
        (root / "labels" / split).mkdir(parents=True)
        for i, xy in enumerate(labels):
            h, w = pictures[i].shape
            unit = (xy + 0.5) / [w, h]
            numbers = [0, 0.5, 0.4, 0.6, 0.3, *np.c_[unit, [2, 1, 2, 2]].ravel()]
            (root / "labels" / split / f"face_{i}.txt").write_text(" ".join(map(str, numbers)) + "\n")
    (root / "data.yaml").write_text(
        "path: /somewhere/else\ntrain: images/train\nval: images/val\ntest: images/test\n"
        "kpt_shape: [4, 3]\nflip_idx: [0, 1, 3, 2]\nnames: {0: pen}\n"
    )
    return labels


def table_of(labels: list[np.ndarray], names: list[str], scorer: str = "me") -> str:
    """DeepLabCut's table of one animal, with its three rows of names."""
    points = [f"p{i}" for i in range(labels[0].shape[0])]
    heads = [["scorer", *[scorer] * 2 * len(points)], ["bodyparts", *[name for name in points for _ in "xy"]]]
    heads.append(["coords", *"xy" * len(points)])
    rows = [[name, *map(str, xy.ravel())] for name, xy in zip(names, labels, strict=True)]
    return "".join(",".join(row) + "\n" for row in [*heads, *rows])


def write_deeplabcut(root: Path) -> list[np.ndarray]:
    pictures, labels = truth(5)
    names = save(root / "labeled-data" / "day", pictures)
    (root / "config.yaml").write_text("scorer: me\nbodyparts:\n- p0\nskeleton: []\n")
    table = table_of(labels, [f"labeled-data/day/{name}" for name in names])
    (root / "labeled-data/day/CollectedData_me.csv").write_text(table)
    return labels


def write_lightning_pose(root: Path) -> list[np.ndarray]:
    pictures, labels = truth(6)
    names = save(root / "labeled-data", pictures)
    for file in ("CollectedData.csv", "CollectedData_new.csv"):
        (root / file).write_text(table_of(labels, [f"labeled-data/{name}" for name in names]))
    return labels


def split_of(root: Path) -> str:
    """The split that is read: test, or all of a format that knows none."""
    return "test" if "test" in annotations.find(root)[1] else "all"


def write_sample(name: str, root: Path) -> list[np.ndarray]:
    """Writes a set of bright pixels in a format: by `write_NAME` here, or by the format's own file."""
    writer = globals().get(f"write_{name}") or getattr(MODULES[name], "sample", None)
    if writer is None:
        pytest.skip(f"no sample of {name}: give its file a function sample(root), or this one a write_{name}")
    return writer(root)


@pytest.mark.parametrize("name", MODULES)
def test_points_lie_on_their_pixels(name: str, tmp_path: Path) -> None:
    """Image truth: the pixel under each point is the one that was painted, whatever the file counts from."""
    labels = write_sample(name, tmp_path / "set")
    instances, problems = annotations.load(tmp_path / "set", split_of(tmp_path / "set"), strict=True)
    assert not checking.without_notes(problems)
    assert len(instances) == len(labels)
    seen = 0
    for row in range(len(instances)):
        picture = instances.images.read(int(instances.image_row[row]))
        x, y = np.rint(instances.xy[row]).astype(int).T
        assert (picture[y, x] == 230).all()
        assert np.allclose(instances.xy[row], np.rint(instances.xy[row]), atol=1e-3)
        # In the file's order, so that names fit.
        seen += sum(
            xy.shape == instances.xy[row].shape and np.allclose(xy, instances.xy[row], atol=1e-3) for xy in labels
        )
    assert seen == len(labels)
    assert np.isfinite(instances.box_xywh).all()
    assert (instances.box_xywh[:, 2:] > 0).all()
    assert (instances.area > 0).all()
    assert len(np.unique(instances.annotation_id)) == len(instances)
    assert (instances.image_size > 0).all()


@pytest.mark.parametrize("name", MODULES)
def test_splits_are_found_and_do_not_overlap(name: str, tmp_path: Path) -> None:
    write_sample(name, tmp_path / "set")
    module, sources = annotations.find(tmp_path / "set")
    assert module is MODULES[name]
    files = [file for split in sources for file in sources[split] if file.suffix != ".yaml"]
    assert len(files) == len(set(files))
    assert {"train", "test"} <= sources.keys() or list(sources) == ["train"]


@pytest.mark.parametrize("name", MODULES)
def test_other_formats_do_not_claim_it(name: str, tmp_path: Path) -> None:
    write_sample(name, tmp_path / "set")
    assert [other for other, module in MODULES.items() if module.find(tmp_path / "set")] == [name]
    (tmp_path / "nothing").mkdir()
    assert not MODULES[name].find(tmp_path / "nothing")


@pytest.mark.parametrize("name", MODULES)
def test_damaged_text_is_a_line_and_no_traceback(name: str, tmp_path: Path) -> None:
    """Each annotation file cut in its middle: some instances or a UserError, never another exception."""
    write_sample(name, tmp_path / "set")
    files = [file for file in (tmp_path / "set").rglob("*") if file.suffix in (".json", ".txt", ".pts", ".csv")]
    assert files
    for file in files:
        data = file.read_bytes()
        file.write_bytes(data[: len(data) * 2 // 3])
    try:
        instances, problems = annotations.load(tmp_path / "set", split_of(tmp_path / "set"))
    except UserError as error:
        assert str(tmp_path) in str(error)  # noqa: PT017
        return
    assert checking.without_notes(problems)
    assert all(str(tmp_path) in str(problem) for problem in problems)
    assert np.isfinite(instances.xy).all()


def load_csv(folder: Path, text: str, names: list[str]) -> tuple[Instances, list[str]]:
    for name in names:
        cv2.imwrite(str(folder / name), np.full((30, 40, 3), 7, np.uint8))
    (folder / "labels.csv").write_text(text)
    instances, problems = annotations.load(folder, "all")
    return instances, [str(problem) for problem in problems]


def test_csv_of_udacity_and_of_the_tutorial(tmp_path: Path) -> None:
    instances, _ = load_csv(tmp_path, ",0,1,2,3\nb.png,4.5,6,7,8\na.png,1,2,3,4\n", ["a.png", "b.png"])
    assert instances.images.name(0).endswith("b.png")
    assert instances.xy.tolist() == [[[4.5, 6], [7, 8]], [[1, 2], [3, 4]]]
    text = "image_name,part_0_x,part_0_y,part_1_x,part_1_y\na.png,1,2,,\nb.png,5,x,7,8\nb.png,5,6\n"
    instances, problems = load_csv(tmp_path, text, ["a.png", "b.png"])
    assert instances.skeleton.points == ("part_0", "part_1")
    assert instances.visibility.tolist() == [[2, 0]]
    assert instances.xy.tolist() == [[[1, 2], [0, 0]]]
    assert [line.partition("labels.csv: ")[2][:30] for line in problems] == [
        "line 3: 'x' is none of the num",
        "line 4: 3 cells, expected 5; l",
    ]


def test_yolo_without_visibility_and_another_path(tmp_path: Path) -> None:
    write_yolo_pose(tmp_path)
    (tmp_path / "data.yaml").write_text("path: .\ntrain: images/train\nkpt_shape: [4, 2]\nnames: [pen, ink]\n")
    lines = ["1 .5 .5 .25 .5 .1 .2 0 0 .3 .4 .5 .6", "0 .5 .5 .2 .2 .1 .2 .3 .4", "0 .5 .5 .2 .2 1 2 3 4 50 6 7 8"]
    for file in (tmp_path / "labels" / "train").glob("*.txt"):
        file.write_text("\n".join(lines) if file.stem == "face_0" else "")
    instances, problems = annotations.load(tmp_path, "all")
    assert instances.visibility.tolist() == [[2, 0, 2, 2]]
    assert instances.xy[0, 0] == pytest.approx([0.1 * 60 - 0.5, 0.2 * 44 - 0.5])
    assert instances.box_xywh[0] == pytest.approx([0.375 * 60, 0.25 * 44, 15, 22])
    assert ["line 2: 9 numbers, expected 13" in str(problems[0]), "far above 1" in str(problems[1])] == [True, True]
    with pytest.raises(UserError, match=r"data\.yaml: none of its 4 label files could be used: .*line 2"):
        annotations.load(Source(tmp_path, category="pen"), "all")


REAL = [
    ("coco/test_coco.json", "coco17", 12, [367, 81]),
    ("lapa", "lapa106", 2, [406, 644]),
    ("wflw", "wflw98", 4, [440.696106, 132.732559]),
    ("300w_pts/headerless", "ibug68", 3, None),
    ("csv_udacity", "ibug68", 4, [45, 98]),
    ("csv_kaggle", "points", 4, [62.246749, 28.805263]),
    ("csv_pytorch_tutorial/faces", "ibug68", 4, None),
    ("../projects/dlc_reaching/raw/Reaching-Mackenzie-2018-08-30", "animal", 14, [185.251735, 610.362276]),
    ("../projects/madlc_flies_project", "animal", 78, [205.25, 215.75]),
    ("../projects/lp_project_raw/mirror-mouse-example", "animal", 90, [77.25, 36.25]),
]


@pytest.mark.parametrize(("place", "skeleton", "count", "first"), REAL)
def test_real_samples(shared: Path, place: str, skeleton: str, count: int, first) -> None:
    instances, problems = annotations.load(shared / "formats" / place, "all")
    assert not checking.without_notes(problems)
    assert (instances.skeleton.name, len(instances)) == (skeleton, count)
    if first is not None:
        assert instances.xy[0, 0] == pytest.approx(first, abs=1e-4)
    for row in range(count):  # points lie in their pictures
        height, width = instances.images.read(int(instances.image_row[row])).shape[:2]
        inside = (instances.xy[row] > -0.05 * width) & (instances.xy[row] < [1.05 * width, 1.05 * height])
        assert inside.all()


def test_300w_is_counted_from_one(shared: Path) -> None:
    folder = shared / "formats" / "300w_pts" / "headerless"
    instances, _ = annotations.load(folder, "all")
    first = np.loadtxt(sorted(folder.glob("*.pts"))[0])
    assert np.allclose(instances.xy[0], first - 1, atol=1e-4)


@pytest.mark.parametrize("place", ["lapa/test_lapa_mmpose_coco.json", "wflw/test_wflw_mmpose_coco.json"])
def test_native_files_equal_their_coco_form(shared: Path, place: str) -> None:
    folder = shared / "formats" / place.partition("/")[0]
    pictures = folder / ("images" if "lapa" in place else "WFLW_images")
    native, _ = annotations.load(folder, "all")
    coco, _ = annotations.load(Source(shared / "formats" / place, images=pictures), "all")
    assert native.skeleton == coco.skeleton
    ours = sorted(native.xy.reshape(len(native), -1).tolist())
    assert np.allclose(ours, sorted(coco.xy.reshape(len(coco), -1).tolist()), atol=1e-3)


def test_yolo_sample_without_pictures_says_so(shared: Path) -> None:
    with pytest.raises(UserError, match="no picture of the same name"):
        annotations.load(shared / "formats" / "yolo_pose", "train")


def test_deeplabcut_of_several_animals_and_unique_points(shared: Path) -> None:
    """Counts by hand of the table: five animals with a point, unique points in two images, a row that ends early."""
    folder = shared / "formats/deeplabcut/multi_animal_sleap_tests"
    animals, problems = annotations.load(folder, "all")
    assert animals.skeleton.points == ("A", "B", "C")
    assert animals.skeleton.edges == ((0, 1), (1, 2), (0, 2))
    assert np.where(animals.labelled[..., None], animals.xy, -1).tolist() == [
        [[0, 1], [2, 3], [4, 5]],
        [[6, 7], [8, 9], [10, 11]],
        [[12, 13], [-1, -1], [15, 16]],
        [[17, 18], [-1, -1], [20, 21]],
        [[26, 27], [28, 29], [30, 31]],
    ]
    assert any("--category single" in str(problem) for problem in problems)
    unique, _ = annotations.load(Source(folder, category="single"), "all")
    assert unique.skeleton.points == ("D", "E")
    both, _ = annotations.load(Source(folder, category="animals,single"), "all")
    assert (both.skeleton.points, len(both)) == (("A", "B", "C", "D", "E"), 7)
    with pytest.raises(UserError, match="no category 'ant'"):
        annotations.load(Source(folder, category="ant"), "all")


def test_deeplabcut_equals_its_coco_form(shared: Path) -> None:
    """The set's maker read the project by another program and wrote what a reader should get."""
    project, _ = annotations.load(shared / "projects/madlc_flies_project", "all")
    expected = []
    for clip in ("clip_a", "clip_b"):
        content = json.loads((shared / f"projects/madlc_flies_project/annotations/{clip}.json").read_text())
        expected += [item["keypoints"] for item in content["annotations"]]
    found = np.concatenate([project.xy, project.visibility[..., None]], -1).reshape(len(project), -1)
    assert np.allclose(sorted(found.tolist()), sorted(expected), atol=0.01)


def test_predictions_are_no_labels(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("scorer,n,n,n\nbodyparts,tip,tip,tip\ncoords,x,y,likelihood\n0,1,2,0.9\n")
    with pytest.raises(UserError, match="a network's predictions"):
        annotations.load(tmp_path, "all")
    (tmp_path / "a.csv").write_text("scorer,n,n\nbodyparts,tip,tip\ncoords,x,y\n0,1,2\n1,3,4\n")
    with pytest.raises(UserError, match="numbered, not named"):
        annotations.load(tmp_path, "all")
