"""MATLAB's and pandas' files: written by scipy and h5py in the published layouts, and DeepLabCut's .h5 against its own CSV."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fiducial import labels
from fiducial.data import annotations, dlc_hdf5
from fiducial.data.groups import groups_of
from fiducial.errors import UserError
from tests.battery import test_formats as battery


def pictures(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        cv2.imwrite(str(folder / name), np.full((90, 120, 3), 90, np.uint8))


def joints(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(5, 80, (16, 2)).round(2)


@pytest.fixture
def mpii(tmp_path: Path) -> Path:
    """Three images of train and one that MPII keeps: of an unseen head, a half person, one without joints, broken ones."""
    pictures(tmp_path / "images", ["a.jpg", "b.jpg", "c.jpg", "kept.jpg"])
    whole = battery.mpii_person(joints(0), [1] * 5 + [0] + [1] * 2 + [None, None] + ["1"] * 5 + ["0"])
    half = battery.mpii_person(joints(1)[:4], [1] * 4)
    bare = {"scale": 1.5, "objpos": {"x": 10, "y": 20}}
    wrong = battery.mpii_person(joints(2), [1] * 16)
    wrong["annopoints"]["point"][3]["id"] = np.uint8(16)
    twice = battery.mpii_person(joints(2), [1] * 16)
    twice["annopoints"]["point"][3]["id"] = np.uint8(4)
    entries = [
        {"image": {"name": "a.jpg"}, "annorect": [whole, half]},
        {"image": {"name": "b.jpg"}, "annorect": [bare, wrong, twice]},
        {"image": {"name": "c.jpg"}, "annorect": None},
        {"image": {"name": "kept.jpg"}, "annorect": [bare]},
    ]
    battery.save_mpii(tmp_path / "mpii_human_pose_v1_u12_1.mat", entries, [1, 1, 1, 0])
    return tmp_path


def test_mpii_as_published(mpii: Path) -> None:
    instances, problems = annotations.load(mpii, "train", carve=False)
    assert annotations.own_splits(mpii) == ("train",)
    assert instances.annotation_id.tolist() == [1, 2]
    assert instances.xy[0] == pytest.approx(joints(0) - 1, abs=1e-4)  # MATLAB counts from 1
    assert instances.visibility[0].tolist() == [2, 2, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1]
    assert instances.visibility[1].tolist() == [2] * 4 + [0] * 12
    # 200 px of a scale of 0.2 around (21, 23), which is (20, 22) from 0; boxes are measured from the outer edge.
    assert instances.box_xywh[0].tolist() == [0.5, 2.5, 40, 40]
    assert instances.skeleton.points[8:10] == ("upper_neck", "head_top")
    said = [str(problem).partition("u12_1.mat: ")[2] for problem in problems]
    assert said[:2] == [
        "annolist 2, person 4: a joint has id 16, expected 0 to 15; left out",
        "annolist 2, person 5: two joints have id 4; left out",
    ]
    assert any("2 people have no joint set" in line for line in said)
    assert any("4 boxes of heads" in line for line in said)


def test_mpii_with_the_joints_of_its_test(mpii: Path) -> None:
    entries = [
        {"image": {"name": name}, "annorect": [battery.mpii_person(joints(i), [1] * 16)]}
        for i, name in enumerate(["a.jpg", "b.jpg", "kept.jpg"])
    ]
    battery.save_mpii(mpii / "mpii_human_pose_v1_u12_1.mat", entries, [1, 1, 0])
    assert annotations.own_splits(mpii) == ("train", "test")
    assert len(annotations.load(mpii, "train", carve=False)[0]) == 2
    assert annotations.load(mpii, "test")[0].xy[0] == pytest.approx(joints(2) - 1, abs=1e-4)


def test_frames_of_one_video_of_mpii_stay_together(mpii: Path) -> None:
    """60 images of 15 videos, whose numbers say nothing in the images' names; splits, and what belongs together in them."""
    names = [f"{97 * i % 60:09}.jpg" for i in range(60)]
    pictures(mpii / "images", names)
    entries = [
        {
            "image": {"name": name},
            "annorect": [battery.mpii_person(joints(i), [1] * 16)],
            "frame_sec": 3 + i % 4,
            "vididx": 1 + i // 4,
        }
        for i, name in enumerate(names)
    ]
    file = mpii / "mpii_human_pose_v1_u12_1.mat"
    battery.save_mpii(file, entries, [1] * 60)
    video_of = {name: i // 4 for i, name in enumerate(names)}
    held = {}
    for split in ("train", "val", "test"):
        instances, problems = annotations.load(mpii, split)
        held[split] = {video_of[Path(instances.images.name(row)).name] for row in instances.image_row}
        assert len(instances) == 4 * len(held[split])
        assert "by a hash of their 'video', so that no video is in two splits" in str(problems)
    assert sorted(video for videos in held.values() for video in videos) == list(range(15))
    instances, _ = annotations.load(mpii, "train", carve=False)
    found = groups_of(instances, annotations.files_of(mpii, "train"))
    assert (found.count, found.what) == (15, "values of 'video'")


def test_another_file_of_matlabs_is_named(tmp_path: Path) -> None:
    pytest.importorskip("scipy.io").savemat(tmp_path / "other.mat", {"x": np.eye(3)})
    with pytest.raises(UserError, match="holds no struct RELEASE"):
        annotations.load(tmp_path / "other.mat", "all")
    assert annotations.load(write_coco_beside(tmp_path), "test")[0].skeleton.name == "hand"


def write_coco_beside(folder: Path) -> Path:
    battery.write_coco(folder)
    return folder


def test_cofw_keeps_hidden_points_and_its_images(tmp_path: Path) -> None:
    shown, points = battery.truth(29)
    hidden = [np.eye(29)[i] for i in range(4)]
    shown = [np.dstack([picture, picture // 2, picture // 3]) if i else picture for i, picture in enumerate(shown)]
    battery.save_cofw(tmp_path / "COFW_train_color.mat", "Tr", shown, points, hidden)
    battery.save_cofw(tmp_path / "COFW_test_color.mat", "T", shown[:2], points[:2], hidden[:2])
    battery.save_cofw(tmp_path / "COFW_test.mat", "T", shown[:1], points[:1], hidden[:1])  # the same in grey
    assert annotations.own_splits(tmp_path) == ("test", "train")
    instances, _ = annotations.load(tmp_path, "train", carve=False)
    assert instances.xy == pytest.approx(np.array(points), abs=1e-4)
    assert (instances.visibility == 2 - np.array(hidden)).all()
    assert instances.box_xywh[0].tolist() == [2, 3, 20, 30]
    assert instances.image_size.tolist() == [list(size) for size in battery.SIZES]
    assert (instances.images.read(1) == shown[1]).all()
    assert (instances.images.read(0) == np.dstack([shown[0]] * 3)).all()
    assert instances.skeleton.flip_order[[0, 12, 22]].tolist() == [1, 14, 23]
    assert len(annotations.load(tmp_path, "test")[0]) == 2
    made = labels.convert(str(tmp_path), str(tmp_path / "coco"), to="coco")
    assert made.figures["lost"] == []
    again, _ = annotations.load(tmp_path / "coco", "train", carve=False)
    assert again.xy == pytest.approx(instances.xy, abs=0.01)
    assert (again.visibility == instances.visibility).all()
    assert (again.images.read(1) == shown[1]).all()


def test_cofw_that_does_not_fit_is_named(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    battery.write_cofw(tmp_path)
    file = tmp_path / "COFW_test_color.mat"
    with h5py.File(file, "r+") as content:
        del content["phisT"]
        content["phisT"] = np.zeros((68, 4))
    with pytest.raises(UserError, match=r"phisT is \(4, 68\), expected faces of 87 numbers"):
        annotations.load(file, "test")


def test_alphatracker_with_several_animals(tmp_path: Path, shared: Path) -> None:
    listed = json.loads((shared / "formats/sleap/at_testdata.json").read_text())
    listed[0]["annotations"].insert(0, {"class": "point", "x": 5, "y": 5})
    listed[1]["annotations"].pop()
    (tmp_path / "labels.json").write_text(json.dumps(listed))
    pictures(tmp_path, [entry["filename"] for entry in listed])
    instances, problems = annotations.load(tmp_path, "all")
    assert len(instances) == 7
    assert instances.xy[0].tolist() == [[1, 2], [1, 3], [1, 4]]
    assert instances.box_xywh[1].tolist() == [2, 1, 3, 3]
    said = " ".join(map(str, problems))
    assert "entry 1: 1 points stand before the first box" in said
    assert "animal 4: has 2 points, expected 3" in said


@pytest.mark.parametrize(
    "place", ["dlc_reaching/raw/Reaching-Mackenzie-2018-08-30", "madlc_flies_project"], ids=["table", "fixed"]
)
def test_deeplabcuts_h5_says_what_its_csv_says(place: str, tmp_path: Path, shared: Path) -> None:
    """Both of pandas' forms, from DeepLabCut itself; the oracle is the table beside."""
    shutil.copytree(shared / "projects" / place, tmp_path / "project")
    by_csv, said = annotations.load(tmp_path / "project", "all")
    files = list((tmp_path / "project").rglob("CollectedData*.csv"))
    for file in files:
        file.unlink()
    by_h5, said_of_h5 = annotations.load(tmp_path / "project", "all")
    assert len(files) > 0
    assert said == said_of_h5
    assert by_h5.skeleton == by_csv.skeleton
    for column in ("xy", "visibility", "image_row", "box_xywh"):
        assert np.array_equal(getattr(by_h5, column), getattr(by_csv, column))
    [first, *_] = sorted((tmp_path / "project").rglob("CollectedData*.h5"))
    assert len(annotations.load(first, "all")[0]) > 0


def test_h5_alone_is_a_project(tmp_path: Path) -> None:
    battery.write_deeplabcut(tmp_path / "csv")
    battery.write_deeplabcut_h5(tmp_path / "h5")
    wanted, _ = annotations.load(tmp_path / "csv", "all")
    found, _ = annotations.load(tmp_path / "h5", "all")
    assert np.array_equal(found.xy, wanted.xy)
    assert found.skeleton.points == wanted.skeleton.points


def test_a_pickle_in_an_h5_runs_nothing(tmp_path: Path) -> None:
    """The columns of pandas' tables are pickled; one that calls something is refused before it does."""
    h5py = pytest.importorskip("h5py")
    mark = tmp_path / "ran"
    attack = f"cpathlib\nPath\n(V{mark}\ntR.".encode()
    file = tmp_path / "CollectedData_me.h5"
    with h5py.File(file, "w") as content:
        group = content.create_group("df_with_missing")
        group.attrs["pandas_type"] = np.bytes_(b"frame_table")
        group.attrs["non_index_axes"] = np.bytes_(attack)
        group["table"] = np.zeros(2, [("index", "S8"), ("values_block_0", "f8", (2,))])
    with pytest.raises(UserError, match=r"pickled with pathlib\.Path, which is not taken"):
        dlc_hdf5.read(file)


@pytest.mark.parametrize("form", ["fixed", "table"])
def test_h5_as_pandas_writes_it(form: Any, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("tables")
    columns = pandas.MultiIndex.from_product([["me"], ["nose", "tail"], ["x", "y"]], names=dlc_hdf5.LEVELS[3])
    values = np.arange(12.0).reshape(3, 4)
    values[1, 2:] = np.nan
    rows = [f"labeled-data/day/img{i}.png" for i in range(3)]
    frame = pandas.DataFrame(values, columns=columns, index=rows)
    frame["me", "nose", "x"] = frame["me", "nose", "x"].astype(int)
    frame.to_hdf(tmp_path / "CollectedData_me.h5", key="keypoints", mode="w", format=form)
    cells = dlc_hdf5.read(tmp_path / "CollectedData_me.h5")
    assert np.array_equal(cells.values, values, equal_nan=True)
    assert cells.names == rows
    assert cells.header["bodyparts"] == ["nose", "nose", "tail", "tail"]
