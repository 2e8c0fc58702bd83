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

from fiducial.data import annotations, checking, formats
from fiducial.data.source import Source
from fiducial.errors import UserError
from fiducial.types import Instances

SIZES = [(60, 44), (52, 70), (48, 48), (81, 39)]
MODULES = {module.__name__.rpartition(".")[2]: module for module in formats.modules()}


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


def save_pandas(file: Path, labels: list[np.ndarray], names: list[str]) -> None:
    """Writes DeepLabCut's table as pandas lays it out, of whole numbers beside others."""
    h5py = pytest.importorskip("h5py")
    points = [f"p{i}" for i in range(len(labels[0]))]
    columns = [(0, point, axis) for point in range(len(points)) for axis in (0, 1)]
    levels = [np.bytes_([b"me"]), np.array(points, "S"), np.array(["x", "y"], "S")]
    values = np.array(labels).reshape(len(labels), -1)
    own: dict[str, list[int]] = {
        "axis0": list(range(len(columns))),
        "block0_items": [1, 2, 0],
        "block1_items": list(range(3, len(columns))),
    }
    with h5py.File(file, "w") as content:
        group = content.create_group("df_with_missing")
        group.attrs.update({"pandas_type": np.bytes_(b"frame"), "nblocks": 2})
        for name, chosen in own.items():
            group.attrs[f"{name}_nlevels"] = 3
            for level, words in enumerate(levels):
                group[f"{name}_level{level}"] = words
                group[f"{name}_label{level}"] = np.array([columns[i][level] for i in chosen], np.int8)
        group["axis1"] = np.array(names, "S")
        for i in (0, 1):
            group[f"block{i}_values"] = values[:, own[f"block{i}_items"]]


def write_deeplabcut_h5(root: Path) -> list[np.ndarray]:
    """A project that has its labels in pandas' .h5 alone."""
    labels = write_deeplabcut(root)
    table = root / "labeled-data/day/CollectedData_me.csv"
    table.unlink()
    names = [f"labeled-data/day/face_{i}.png" for i in range(len(labels))]
    save_pandas(table.with_suffix(".h5"), labels, names)
    return labels


def write_lightning_pose(root: Path) -> list[np.ndarray]:
    pictures, labels = truth(6)
    names = save(root / "labeled-data", pictures)
    for file in ("CollectedData.csv", "CollectedData_new.csv"):
        (root / file).write_text(table_of(labels, [f"labeled-data/{name}" for name in names]))
    return labels


def write_cvat(root: Path) -> list[np.ndarray]:
    """Skeletons; (0, 0) is the outer corner of the canvas."""
    pictures, labels = truth(5)
    names = save(root / "images", pictures)
    for split in ("train", "test"):
        images = []
        for i, (name, xy) in enumerate(zip(names, labels, strict=True)):
            h, w = pictures[i].shape
            points = "".join(
                f'<points label="{label}" outside="0" occluded="{int(label == "b")}" points="{x + 0.5},{y + 0.5}"/>'
                for label, (x, y) in reversed(list(zip("abcde", xy, strict=True)))
            )
            skeleton = f'<skeleton label="pen" z_order="0">{points}</skeleton>'
            images.append(f'<image id="{i}" name="{name}" width="{w}" height="{h}">{skeleton}</image>')
        parts = "".join(f"<label><name>{name}</name><parent>pen</parent></label>" for name in "abcde")
        meta = f"<meta><task><labels><label><name>pen</name></label>{parts}</labels></task></meta>"
        text = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>{meta}{"".join(images)}</annotations>\n'
        (root / f"{split}.xml").write_text(text)
    return labels


def write_label_studio(root: Path) -> list[np.ndarray]:
    """Points without rectangles, as most projects have them, in percent of the sides."""
    pictures, labels = truth(5)
    names = save(root / "images", pictures)
    tasks = []
    for i, (name, xy) in enumerate(zip(names, labels, strict=True)):
        h, w = pictures[i].shape
        result = [
            {
                "id": f"r{label}",
                "type": "keypointlabels",
                "original_width": w,
                "original_height": h,
                "value": {"x": (x + 0.5) / w * 100, "y": (y + 0.5) / h * 100, "keypointlabels": [label]},
            }
            for label, (x, y) in zip("abcde", xy.tolist(), strict=True)
        ]
        tasks.append({"id": i, "data": {"img": f"/data/upload/1/0a1b2c3d-{name}"}, "annotations": [{"result": result}]})
    for split in ("train", "test"):
        (root / f"{split}.json").write_text(json.dumps(tasks))
    return labels


def write_labelme(root: Path) -> list[np.ndarray]:
    pictures, labels = truth(5)
    for split in ("train", "test"):
        for i, (name, xy) in enumerate(zip(save(root / split, pictures), labels, strict=True)):
            shapes = [
                {"label": label, "points": [[x + 0.5, y + 0.5]], "shape_type": "point", "group_id": None, "flags": {}}
                for label, (x, y) in zip("abcde", xy.tolist(), strict=True)
            ]
            content = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": name, "imageData": None}
            (root / split / f"face_{i}.json").write_text(json.dumps(content))
    return labels


def write_apic(root: Path) -> list[np.ndarray]:
    pictures, labels = truth(5)
    entries = [
        {
            "path": f"pose/{name}",
            "set": split,
            "dataset": "x",
            "keypoints": {str(k): p for k, p in enumerate(xy.tolist())},
        }
        for split in ("train", "test")
        for name, xy in zip(save(root / "pose", pictures), labels, strict=True)
    ]
    (root / "poses.json").write_text(json.dumps(entries))
    return labels


def write_mpii(root: Path) -> list[np.ndarray]:
    pictures, labels = truth(16)
    names = save(root / "images", pictures)
    entries = [
        {"image": name, "joints": (xy + 1).tolist(), "joints_vis": [1] * 16, "center": [20, 20], "scale": 0.2}
        for name, xy in zip(names, labels, strict=True)
    ]
    (root / "annot").mkdir()
    for split in ("train", "valid", "test"):
        (root / f"annot/{split}.json").write_text(json.dumps(entries))
    return labels


def write_mpii_mat(root: Path) -> list[np.ndarray]:
    """By scipy: a struct of structs, all of it train, as the released file has it."""
    pictures, labels = truth(16)
    entries = [
        {"image": {"name": name}, "annorect": [mpii_person(xy + 1, [1] * 16)]}
        for name, xy in zip(save(root / "images", pictures), labels, strict=True)
    ]
    save_mpii(root / "mpii_human_pose_v1_u12_1.mat", entries, [1] * 4)
    return labels


def mpii_person(joints: np.ndarray, visible: list[Any]) -> dict[str, Any]:
    """A person of MPII's, joints counted from 1."""
    listed = [
        {"x": float(x), "y": float(y), "id": np.uint8(i), "is_visible": visible[i]} for i, (x, y) in enumerate(joints)
    ]
    place = {"scale": 0.2, "objpos": {"x": np.uint16(21), "y": np.uint16(23)}}
    return {"x1": 3, "y1": 4, "x2": 9, "y2": 10, "annopoints": {"point": listed}, **place}


def save_mpii(file: Path, entries: list[dict[str, Any]], train: list[int]) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    scipy_io.savemat(file, {"RELEASE": matlab({"annolist": entries, "img_train": np.array([train])})})


def matlab(value: Any) -> Any:
    """Dicts as structs, and lists of them as arrays of structs of one set of fields, [] where one lacks a field."""
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        return np.zeros((0, 0)) if value is None else value
    fields = list(dict.fromkeys(name for entry in value for name in entry))
    array = np.zeros((1, len(value)), [(name, object) for name in fields])
    for place, entry in enumerate(value):
        for name in fields:
            array[0, place][name] = matlab(entry.get(name))
    return array


def write_cofw(root: Path) -> list[np.ndarray]:
    """By h5py, as MATLAB 7.3 lays it out: axes turned round, cells as references, 512 bytes of its own first."""
    pictures, labels = truth(29)
    root.mkdir(parents=True, exist_ok=True)
    colour = [np.repeat(picture[..., None], 3, 2) if i % 2 else picture for i, picture in enumerate(pictures)]
    for split, key in (("train", "Tr"), ("test", "T")):
        save_cofw(root / f"COFW_{split}_color.mat", key, colour, labels, [np.zeros(29)] * len(labels))
    return labels


def save_cofw(
    file: Path, key: str, pictures: list[np.ndarray], labels: list[np.ndarray], hidden: list[np.ndarray]
) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(file, "w", userblock_size=512) as content:
        cells = [content.create_dataset(f"#refs#/{i}", data=picture.T) for i, picture in enumerate(pictures)]
        content.create_dataset(f"Is{key}", data=np.array([[cell.ref for cell in cells]], h5py.ref_dtype))
        columns = [np.concatenate([xy[:, 0] + 1, xy[:, 1] + 1, own]) for xy, own in zip(labels, hidden, strict=True)]
        content[f"phis{key}"] = np.array(columns).T
        content[f"bboxes{key}"] = np.array([[3.0, 4.0, 20.0, 30.0]] * len(labels)).T
    with file.open("r+b") as opened:
        opened.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")


def write_alphatracker(root: Path) -> list[np.ndarray]:
    pictures, labels = truth(5)
    for split in ("train", "test"):
        entries = [
            {
                "annotations": [
                    {"class": "Face", "height": 30.0, "width": 20.0, "x": 3.0, "y": 4.0},
                    *({"class": "point", "x": x, "y": y} for x, y in xy.tolist()),
                ],
                "class": "image",
                "filename": name,
            }
            for name, xy in zip(save(root, pictures), labels, strict=True)
        ]
        (root / f"{split}.json").write_text(json.dumps(entries))
    return labels


def write_sleap(root: Path) -> list[np.ndarray]:
    """By SLEAP's own library."""
    sio = pytest.importorskip("sleap_io")
    pictures, labels = truth(5)
    files = [str(root / "images" / name) for name in save(root / "images", pictures)]
    skeleton = sio.Skeleton(nodes=list("abcde"), edges=[("a", "b"), ("a", "c")])
    video = sio.Video.from_filename(files)
    frames = [
        sio.LabeledFrame(video=video, frame_idx=i, instances=[sio.Instance.from_numpy(xy, skeleton=skeleton)])
        for i, xy in enumerate(labels)
    ]
    for split in ("train", "test"):
        sio.save_slp(sio.Labels(frames, videos=[video], skeletons=[skeleton]), str(root / f"{split}.slp"))
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
    files = [tuple(own) for own in sources.values()]
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
    files = [
        file
        for file in (tmp_path / "set").rglob("*")
        if file.suffix in (".json", ".txt", ".pts", ".csv", ".xml", ".slp", ".mat")
    ]
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
        "note: 1 of 1 instances have no",  # box, and one point has no size
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


def test_cvat_equals_the_yolo_labels_of_the_same_images(shared: Path, tmp_path: Path) -> None:
    """A converter of CVAT's labels, by others, wrote the shares of the sides."""
    (tmp_path / "annotations.xml").write_bytes((shared / "formats/cvat/annotations.xml").read_bytes())
    for name in ("IMG_20231113_115448_218.jpg", "IMG_20231113_120234_188.jpg"):
        cv2.imwrite(str(tmp_path / name), np.zeros((80, 60), np.uint8))
    text = (tmp_path / "annotations.xml").read_text().replace('width="6000" height="8000"', "")
    (tmp_path / "annotations.xml").write_text(text)
    with pytest.raises(UserError, match="several labels have points: 'mouse_skeleton', 'pen_skeleton'"):
        annotations.load(tmp_path, "all")
    mouse, _ = annotations.load(Source(tmp_path, category="mouse_skeleton"), "all", verify=False)
    assert mouse.skeleton.points == ("1", "2", "3", "4", "5", "6")
    assert mouse.visibility.tolist() == [[2, 2, 2, 2, 1, 1]]
    rows = [
        line.split()
        for file in sorted((shared / "formats/yolo_pose/labels/train").glob("*.txt"))
        for line in file.open()
    ]
    shares = [np.array(row[5:], float).reshape(-1, 3) for row in rows if row[0] == "1"]
    seen = shares[0][shares[0][:, 2] == 2][:, :2] * [6000, 8000]  # that converter left out hidden points
    assert np.allclose(np.floor(mouse.xy[0, :4] + 0.5), seen)  # and rounded the canvas's numbers down
    pen, _ = annotations.load(Source(tmp_path, category="pen_skeleton"), "all", verify=False)
    assert (len(pen), int((pen.visibility == 1).sum()), int((pen.visibility == 2).sum())) == (3, 3, 9)


def test_label_studio_by_relations(shared: Path, tmp_path: Path) -> None:
    """Two animals with a rectangle each, and points of nobody; counts by hand."""
    [file] = (shared / "formats/label_studio").glob("*.json")
    (tmp_path / "export.json").write_bytes(file.read_bytes())
    cv2.imwrite(str(tmp_path / "img12600.png"), np.zeros((720, 1280), np.uint8))
    instances, _ = annotations.load(tmp_path, "all")
    assert sorted(instances.labelled.sum(1).tolist()) == [3, 4, 9 - 1]
    row = int(np.flatnonzero(instances.labelled.sum(1) == 4)[0])
    place = instances.skeleton.points.index("pup_snout")
    assert instances.xy[row, place] == pytest.approx([0.7506666666 * 1280 - 0.5, 0.13270142 * 720 - 0.5], abs=1e-3)
    assert instances.box_xywh[row] == pytest.approx(
        [0.67733333 * 1280, 0.10663507 * 720, 0.08 * 1280, 42.654], abs=1e-2
    )


def test_apic_sample(shared: Path) -> None:
    instances, problems = annotations.load(shared / "formats/apic_json", "all")
    assert (len(instances), instances.xy.shape[1], int(instances.labelled.sum())) == (2, 32, 64)
    content = json.loads((shared / "formats/apic_json/pose_dataset.json").read_text())
    assert instances.xy[0, 31].tolist() == content[1]["keypoints"]["31"]
    assert any("no labelled point" in str(problem) for problem in problems)


def test_shapes_without_groups(tmp_path: Path) -> None:
    """Two boxes with the points inside; then a point in both, which can't be told."""
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((60, 80), np.uint8))

    def shape(label: str, *points: list[float], **more: Any) -> dict[str, Any]:
        kind = "rectangle" if len(points) > 1 else "point"
        return {"label": label, "points": points, "shape_type": kind, **more}

    boxes = [shape("mouse", [1, 1], [30, 30]), shape("mouse", [40, 1], [70, 30])]
    points = [shape("nose", [5, 5]), shape("tail", [20, 20], flags={"hidden": True}), shape("nose", [45, 6])]
    other = {"label": "x", "points": [[1, 1], [2, 2], [3, 1]], "shape_type": "polygon"}
    content = {"version": "5", "shapes": [*boxes, *points, other], "imagePath": "a.png"}
    (tmp_path / "a.json").write_text(json.dumps(content))
    instances, problems = annotations.load(tmp_path, "all")
    assert instances.skeleton.points == ("nose", "tail")
    assert instances.visibility.tolist() == [[2, 1], [2, 0]]
    assert instances.xy[0].tolist() == [[4.5, 4.5], [19.5, 19.5]]
    assert instances.box_xywh.tolist() == [[1, 1, 29, 29], [40, 1, 30, 29]]
    assert any("1 shapes that are neither" in str(problem) for problem in problems)
    content["shapes"][1]["points"] = [[3, 3], [70, 30]]
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"no image has a labelled point|whose they are"):
        annotations.load(tmp_path, "all")


def test_cvat_tracks_give_their_key_frames(tmp_path: Path) -> None:
    for number in (0, 3):
        cv2.imwrite(str(tmp_path / f"frame_{number:06d}.PNG"), np.zeros((60, 80), np.uint8))

    def skeleton(frame: int, key: int, outside: int = 0) -> str:
        points = "".join(
            f'<points label="{name}" outside="0" occluded="0" points="{frame + i},9"/>' for i, name in enumerate("ab")
        )
        return f'<skeleton frame="{frame}" keyframe="{key}" outside="{outside}">{points}</skeleton>'

    shapes = skeleton(0, 1) + skeleton(1, 0) + skeleton(3, 1) + skeleton(5, 1, outside=1)
    (tmp_path / "annotations.xml").write_text(f'<annotations><track id="0" label="ant">{shapes}</track></annotations>')
    instances, problems = annotations.load(tmp_path, "all")
    assert instances.xy[:, 0].tolist() == [[-0.5, 8.5], [2.5, 8.5]]
    assert [Path(instances.images.name(row)).name for row in range(2)] == ["frame_000000.PNG", "frame_000003.PNG"]
    assert any("1 shapes between key frames" in str(problem) for problem in problems)


def test_xml_with_entities_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text('<!DOCTYPE x [<!ENTITY a "aa">]><annotations>&a;</annotations>')
    with pytest.raises(UserError, match="document type"):
        annotations.load(tmp_path, "all")
