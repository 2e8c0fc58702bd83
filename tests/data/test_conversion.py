"""Labels written in another format: read again they are the same, and what a format can't hold is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fiducial import labels
from fiducial.data import annotations, conversion
from fiducial.data.source import Source
from fiducial.errors import UserError
from fiducial.types import Instances

POINTS = ["nose", "left_ear", "right_ear", "tail"]
# Points (x, y, v) of instances by image; of several a second one; a missing and two hidden points; fractions of a px.
LABELS: dict[str, list[list[list[float]]]] = {
    "a.png": [
        [[10.25, 11.5, 2], [20.75, 12.125, 1], [30, 13, 2], [5.5, 40.5, 2]],
        [[40, 20, 2], [0, 0, 0], [44.5, 22, 2], [47.75, 31.25, 1]],
    ],
    "b.png": [[[3, 4, 2], [13, 4.5, 2], [8, 9.875, 2], [20, 30, 2]]],
    "c.png": [],
    "d.png": [[[12, 14, 2], [23, 14.5, 2], [18, 19.25, 2], [0, 0, 0]]],
}
SIZES = {"a.png": (60, 44), "b.png": (52, 70), "c.png": (48, 48), "d.png": (81, 39)}
FORMATS = sorted(conversion.writers())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set in COCO's form, with train and test, all of whose boxes are wider than the points."""
    root = tmp_path_factory.mktemp("base") / "set"
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    for split, names in {"train": ["a.png", "b.png", "c.png"], "test": ["d.png"]}.items():
        content: dict[str, Any] = {"images": [], "annotations": [], "licenses": [{"id": 1, "name": "CC BY 4.0"}]}
        for number, name in enumerate(names, 7):
            w, h = SIZES[name]
            cv2.imwrite(str(root / "images" / name), np.full((h, w, 3), 40 * number % 255, np.uint8))
            content["images"].append({"id": number, "file_name": name, "width": w, "height": h})
            for points in LABELS[name]:
                xy = np.array([point[:2] for point in points if point[2]])
                low = np.maximum(xy.min(0) - 2, 0)
                content["annotations"].append(
                    {
                        "id": 100 + len(content["annotations"]),
                        "image_id": number,
                        "category_id": 1,
                        "keypoints": np.ravel(points).tolist(),
                        "bbox": [*low.tolist(), *(xy.max(0) + 1.5 - low).tolist()],
                        "area": 77.5,
                        "iscrowd": 0,
                    }
                )
        category = {"id": 1, "name": "mouse", "keypoints": POINTS, "skeleton": [[1, 2], [1, 3], [1, 4]]}
        content["categories"] = [{**category, "flip_indices": [0, 2, 1, 3], "sigmas": [0.1, 0.2, 0.2, 0.3]}]
        (root / f"annotations/{split}.json").write_text(json.dumps(content))
    return root


def load(root: Path) -> dict[str, Instances]:
    splits = annotations.own_splits(root)
    return {split: annotations.load(root, split, carve=False)[0] for split in splits}


def by_image(instances: Instances) -> dict[str, list[np.ndarray]]:
    """[k, 3] of the instances of each image, by the stem of its name."""
    found: dict[str, list[np.ndarray]] = {}
    for row, image in enumerate(instances.image_row.tolist()):
        points = np.concatenate([instances.xy[row], instances.visibility[row][:, None]], 1)
        found.setdefault(Path(instances.images.name(image)).stem, []).append(points)
    return found


def merged(read: dict[str, Instances]) -> dict[str, list[np.ndarray]]:
    return {stem: points for instances in read.values() for stem, points in by_image(instances).items()}


def holds_of(name: str) -> Any:
    if name == "sleap":
        pytest.importorskip("h5py", reason="SLEAP's files need the extra `formats`")
    return conversion.writers()[name].HOLDS


@pytest.mark.parametrize("name", FORMATS)
def test_what_was_written_is_read_again(name: str, base: Path, tmp_path: Path) -> None:
    """Against the points of the table above, and written and read a second time."""
    holds = holds_of(name)
    made = labels.convert(base, tmp_path / "once", to=name)
    assert made.figures["splits"]["train"] == {"images": 3, "instances": 3, "points": 11}
    labels.convert(tmp_path / "once", tmp_path / "twice", to=name)
    for folder in ("once", "twice"):
        read = load(tmp_path / folder)
        assert sorted(read) == (["test", "train"] if holds.splits else ["train"])
        found = merged(read)
        expected = {name.partition(".")[0]: points for name, points in LABELS.items() if points}
        assert found.keys() == expected.keys()
        for stem, instances in expected.items():
            wanted = np.array(instances if holds.several else instances[:1])
            if not holds.hidden:
                wanted[..., 2] = np.where(wanted[..., 2] > 0, 2, 0)
            assert np.allclose(sorted(np.array(found[stem]).tolist()), sorted(wanted.tolist()), atol=0.01)
        for instances in read.values():
            for row, image in enumerate(instances.image_row.tolist()):
                w, h = SIZES[f"{Path(instances.images.name(image)).stem}.png"]
                assert instances.images.read(image).shape == (h, w, 3)
                assert instances.image_size[image].tolist() == [w, h]
                if holds.boxes:  # in the base they end 1.5 px right of and below the points
                    x, y, width, height = instances.box_xywh[row]
                    ends = instances.xy[row][instances.labelled[row]].max(0) + 1.5
                    assert np.allclose([x + width, y + height], ends, atol=0.01)
        skeleton = read["train"].skeleton
        if holds.names:
            assert skeleton.points == tuple(POINTS)
            assert skeleton.flip_pairs == ((1, 2),)
        assert skeleton.edges == (((0, 1), (0, 2), (0, 3)) if holds.edges else ())
        assert (skeleton.sigmas is not None) == holds.sigmas
        if holds.ids:
            assert read["train"].image_id.tolist() == [7, 8, 9]
            assert read["train"].annotation_id.tolist() == [100, 101, 102]
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_lost_is_said(name: str, base: Path, tmp_path: Path) -> None:
    """A line for each thing that the format's `HOLDS` denies, and for no other."""
    holds = holds_of(name)
    lost = labels.convert(base, tmp_path / "out", to=name).figures["lost"]
    words = {
        "several": "1 instances beyond the first",
        "hidden": "2 points labelled as hidden",
        "boxes": "4 boxes",
        "areas": "4 areas",
        "unlabelled": "1 images without an instance",
        "names": "the names of points",
        "edges": "the edges",
        "sigmas": "the sigmas",
        "ids": "ids of images",
        "splits": "which images are train, test",
        "licences": "the licences of images (CC BY 4.0)",
    }
    for field, line in words.items():
        assert any(text.startswith(line) for text in lost) != getattr(holds, field), (field, lost)


def test_who_is_who_is_kept_or_said(base: Path, tmp_path: Path) -> None:
    content = json.loads((base / "annotations/train.json").read_text())
    for number, item in zip((4, 9, 4), content["annotations"], strict=True):
        item["track_id"] = number
    del content["annotations"][2]["track_id"]
    (base / "annotations/tracked.json").write_text(json.dumps(content))
    source = Source(base / "annotations/tracked.json", base / "images")
    assert labels.convert(source, tmp_path / "again.json").figures["lost"] == []
    track = annotations.load(tmp_path / "again.json", "all")[0].track
    assert track is not None
    assert track.tolist() == [4, 9, -1]
    assert "who is who from frame to frame" in labels.convert(source, tmp_path / "out", to="yolo").figures["lost"]
    (base / "annotations/tracked.json").unlink()


def test_nothing_is_lost_in_the_same_format(base: Path, tmp_path: Path) -> None:
    assert labels.convert(base, tmp_path / "out", to="coco").figures["lost"] == []
    content = json.loads((tmp_path / "out/annotations/train.json").read_text())
    first = json.loads((base / "annotations/train.json").read_text())
    for entry, was in zip(content["annotations"], first["annotations"], strict=True):
        for field, value in was.items():
            assert entry[field] == pytest.approx(value, abs=1e-3), field
    assert content["categories"] == first["categories"]


def test_yolo_obeys_the_trainers_rules(base: Path, tmp_path: Path) -> None:
    """Ultralytics' verify_image_label: columns 5 + 3 k, no number below 0, coordinates at most 1, class below the count,
    images and labels of one stem; an image without labels has an empty file or none."""
    (tmp_path / "set").mkdir()
    content = json.loads((base / "annotations/train.json").read_text())
    content["annotations"][0]["keypoints"][:2] = [-3, 11]  # outside the image
    content["annotations"][0]["bbox"] = [-5, 5, 70, 38]
    (tmp_path / "set/train.json").write_text(json.dumps(content))
    source = Source(tmp_path / "set/train.json", images=base / "images")
    lost = labels.convert(source, tmp_path / "out", to="yolo").figures["lost"]
    assert "1 points outside their images are written as missing" in lost
    assert "1 boxes are cut at the edges of their images" in lost
    files = sorted((tmp_path / "out/labels/train").glob("*.txt"))
    assert [file.stem for file in files] == ["a", "b", "c"]
    assert sorted(file.stem for file in (tmp_path / "out/images/train").iterdir()) == ["a", "b", "c"]
    for file in files:
        rows = [[float(word) for word in line.split()] for line in file.read_text().splitlines()]
        assert all(len(row) == 5 + 3 * 4 and row[0] == 0 for row in rows)
        values = np.array(rows).reshape(-1, 17)
        points = values[:, 5:].reshape(-1, 4, 3)
        assert (values >= 0).all()
        assert (values[:, 1:5] <= 1).all()
        assert (points[..., :2] <= 1).all()
        corners = values[:, 1:3] + values[:, 3:5] / 2
        assert (corners <= 1 + 1e-6).all()
    yaml = pytest.importorskip("yaml").safe_load((tmp_path / "out/data.yaml").read_text())
    assert yaml["kpt_shape"] == [4, 3]
    assert yaml["flip_idx"] == [0, 2, 1, 3]
    assert yaml["names"] == {0: "mouse"}
    assert yaml["kpt_names"] == {0: POINTS}
    assert (tmp_path / "out" / yaml["train"]).is_dir()


def test_a_file_by_its_ending_and_images_where_they_are(base: Path, tmp_path: Path) -> None:
    made = labels.convert(base, tmp_path / "one.csv", split="train")
    assert made.figures["format"] == "csv"
    assert str(base / "images" / "a.png") in (tmp_path / "one.csv").read_text()
    assert list(tmp_path.iterdir()) == [tmp_path / "one.csv"]
    labels.convert(base, tmp_path / "two.csv", split="train", copy_images=True)
    assert (tmp_path / "two.csv").read_text().splitlines()[1].startswith("images/a.png,10.250,11.500,2,")
    assert (tmp_path / "images/a.png").read_bytes() == (base / "images/a.png").read_bytes()


def test_refusals_leave_nothing(base: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    for out, options, words in [
        ("full", {"to": "yolo"}, "is there already"),
        ("new", {"to": "yollo"}, "Did you mean 'yolo'"),
        ("new", {}, "its name tells no format"),
        ("new.csv", {}, "splits train, test; choose one with --split"),
        ("new", {"to": "coco", "split": "val"}, "no split 'val'"),
    ]:
        with pytest.raises(UserError, match=words):
            labels.convert(base, tmp_path / out, **options)
    assert [file.name for file in tmp_path.iterdir()] == ["full"]
    assert [file.name for file in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_an_image_that_breaks_leaves_nothing(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, *_: object, **__: object) -> str:
        raise UserError("d.png", "can't be read any more")

    monkeypatch.setattr("fiducial.data.placing.Placing.copy", broken)
    with pytest.raises(UserError, match="any more"):
        labels.convert(base, tmp_path / "out", to="yolo")
    assert list(tmp_path.iterdir()) == []


def test_images_of_one_name_stay_apart(base: Path, tmp_path: Path) -> None:
    """Two folders have an a.png, of other pixels."""
    (tmp_path / "set/one").mkdir(parents=True)
    (tmp_path / "set/two").mkdir()
    for folder, grey in (("one", 10), ("two", 200)):
        cv2.imwrite(str(tmp_path / "set" / folder / "a.png"), np.full((30, 40, 3), grey, np.uint8))
    rows = ["image,tip_x,tip_y", "one/a.png,1,2", "two/a.png,11,12"]
    (tmp_path / "set/labels.csv").write_text("\n".join(rows) + "\n")
    for name in ("yolo", "deeplabcut", "pts"):
        labels.convert(tmp_path / "set", tmp_path / name, to=name)
        instances, _ = annotations.load(tmp_path / name, "all")
        read = {
            float(instances.xy[row, 0, 0].round(2)): int(instances.images.read(int(image))[0, 0, 0])
            for row, image in enumerate(instances.image_row)
        }
        assert read == {1.0: 10, 11.0: 200}


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 40 frames, each of its own grey, with key frames and frames between."""
    av = pytest.importorskip("av")
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "12", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(40):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 + 5 * number, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_frames_by_their_numbers(film: Path) -> None:
    """Forwards, backwards and far apart: the grey of the frame, and the frames that reading from the start gives."""
    import pickle

    from fiducial.data import video, video_frames

    numbers = [0, 1, 17, 16, 39, 5, 5, 30]
    images = pickle.loads(pickle.dumps(video_frames.VideoFrames(film, numbers)))
    every = [decoded.image for decoded in video.frames(film)]
    for row, number in enumerate(numbers):
        assert abs(int(images.read(row).mean()) - (20 + 5 * number)) < 3
        assert (images.read(row) == every[number]).all()
    assert video_frames.of_name(images.name(2)) == (film, 17)
    with pytest.raises(UserError, match="no such frame; the video has 40"):
        video_frames.VideoFrames(film, [40]).read(0)


def test_sleap_reads_what_was_written(base: Path, film: Path, tmp_path: Path) -> None:
    """SLEAP's own library as the oracle, both ways: our file of images, and its file of frames of a video."""
    pytest.importorskip("h5py")
    sio = pytest.importorskip("sleap_io", reason="the oracle is SLEAP's own library")
    labels.convert(base, tmp_path / "ours.slp", split="train")
    theirs = sio.load_slp(str(tmp_path / "ours.slp"))
    assert theirs.skeletons[0].node_names == POINTS
    assert theirs.skeletons[0].edge_inds == [(0, 1), (0, 2), (0, 3)]
    assert {tuple(sorted(pair)) for pair in theirs.skeletons[0].symmetry_inds} == {(1, 2)}
    found = [[instance.numpy() for instance in frame.user_instances] for frame in theirs]
    for frame, name in zip(found, ["a.png", "b.png", "c.png"], strict=True):
        for points, expected in zip(frame, LABELS[name], strict=True):
            wanted = np.array([[x, y] if v else [np.nan, np.nan] for x, y, v in expected])
            assert np.allclose(points, wanted, atol=1e-4, equal_nan=True)

    skeleton = sio.Skeleton(["a", "b"], edges=[("b", "a")], symmetries=[("a", "b")])
    video, track = sio.Video.from_filename(str(film)), sio.Track("one")
    of_people = sio.Instance.from_numpy(np.array([[1.5, 2], [np.nan, np.nan]]), skeleton=skeleton, track=track)
    unseen = sio.Instance.from_numpy(np.array([[7, 8], [9, 10.25]]), skeleton=skeleton)
    unseen.points["visible"][0] = False
    guess = sio.PredictedInstance.from_numpy(np.array([[3.0, 4], [5, 6]]), skeleton=skeleton, score=0.5)
    frames = [
        sio.LabeledFrame(video=video, frame_idx=30, instances=[of_people, guess]),
        sio.LabeledFrame(video=video, frame_idx=4, instances=[unseen]),
        sio.LabeledFrame(video=video, frame_idx=9, instances=[guess]),
    ]
    file = tmp_path / "theirs.slp"
    sio.save_slp(sio.Labels(frames, videos=[video], skeletons=[skeleton], tracks=[track]), str(file))
    read, problems = annotations.load(file, "all")
    assert read.skeleton.edges == ((1, 0),)
    assert read.skeleton.flip_pairs == ((0, 1),)
    rows = {int(read.images.name(int(image)).rpartition("#")[2]): row for row, image in enumerate(read.image_row)}
    assert rows.keys() == {4, 30}
    assert read.visibility[[rows[30], rows[4]]].tolist() == [[2, 0], [0, 2]]
    assert read.xy[rows[30], 0].tolist() == [1.5, 2]
    assert read.track is not None
    assert read.track[[rows[30], rows[4]]].tolist() == [0, -1]
    assert abs(int(read.images.read(int(read.image_row[rows[30]])).mean()) - 170) < 3
    said = " ".join(map(str, problems))
    assert "2 instances that a network predicted are no labels" in said
    assert "1 points are marked as not visible" in said
    labels.convert(file, tmp_path / "again.slp")
    again = sio.load_slp(str(tmp_path / "again.slp"))
    assert again.videos[0].filename == str(film)
    assert sorted(frame.frame_idx for frame in again) == [4, 30]


def test_sleap_sample_with_its_images_inside(shared: Path) -> None:
    pytest.importorskip("h5py")
    read, _ = annotations.load(shared / "formats/sleap/minimal_instance.pkg.slp", "all")
    assert read.xy.shape == (2, 2, 2)
    assert sorted(read.skeleton.points) == ["A", "B"]
    place = read.skeleton.points.index("A")
    assert [92.65220773, 202.72597774] in [pytest.approx(xy, abs=1e-3) for xy in read.xy[:, place].tolist()]
    assert read.images.read(0).shape == (384, 384, 3)
