"""`predict` from pictures to results that evaluate reads, and all that users get wrong on the way."""

from __future__ import annotations

import csv
import json
import re
import shutil
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from heard import heard

from fiducial.card import BOX_SHARE, Card, DetectorSpec
from fiducial.data import annotations
from fiducial.errors import UserError
from fiducial.evaluation import evaluate, predictions
from fiducial.geometry import Size
from fiducial.models import detector as detectors
from fiducial.prediction import boxes as boxes_files
from fiducial.prediction import drawings, predict, sources
from fiducial.prediction.pipeline import Choices
from fiducial.prediction.predict import predict_sources
from fiducial.prediction.smoothing import OneEuro
from fiducial.runtime import runtime
from fiducial.runtime.runtime import Runtime
from fiducial.types import Keypoints, Skeleton

av = pytest.importorskip("av")


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def noise_picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 256, (45, 38, 3), dtype=np.uint8))
    return path


def noise_video(path: Path, frames: int, width: int = 47, height: int = 35, rate: int = 13) -> Path:
    """Odd sizes in 4:4:4, which MP4 allows."""
    generator = np.random.default_rng(1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
        for _ in range(frames):
            picture = np.repeat(generator.integers(0, 255, (height, width, 1), dtype=np.uint8), 3, axis=2)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_results_score_as_evaluate_scores_the_model(blobs: Path, blob_model: Path, tmp_path: Path) -> None:
    """Two ways to the same NME: through the loader's crops, and through predict's file and the truth."""
    truth = blobs / "annotations" / "test.json"
    done = predict_sources(blob_model, [str(blobs / "images")], tmp_path, boxes=truth)
    assert (done.images, done.instances) == (16, 16)
    summary = predictions.evaluate_results(tmp_path / "results.json", truth)
    detector, _ = detectors.load(blob_model)
    expected = evaluate.evaluate_detector(detector, annotations.load(blobs, "test")[0]).metrics
    assert summary["skipped"] == 0
    assert summary["paired"] == expected.count == 16
    assert summary["normalizer"] == expected.normalizer
    numbers = expected.numbers()
    assert 0.05 < (numbers["nme"] or 0) < 10
    for name in ("nme", "epe", "auc"):
        assert summary["metrics"][name] == pytest.approx(numbers[name], abs=2e-4), name


def test_results_are_coco_s(blobs: Path, blob_model: Path, tmp_path: Path) -> None:
    """Ids and category of the boxes file; pycocotools takes them."""
    coco = pytest.importorskip("pycocotools.coco")
    truth = json.loads((blobs / "annotations" / "test.json").read_text())
    for image in truth["images"]:
        image["id"] += 700
    for annotation in truth["annotations"]:
        annotation["image_id"] += 700
        annotation["category_id"] = 5
    truth["categories"][0]["id"] = 5
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    predict_sources(blob_model, [str(blobs / "images")], tmp_path / "out", boxes=path)
    entries = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(entries) == 16
    assert {entry["category_id"] for entry in entries} == {5}
    assert min(entry["image_id"] for entry in entries) == 701
    assert all(len(entry["keypoints"]) == 9 and 0 <= entry["score"] <= 1 for entry in entries)
    names = {image["id"]: image["file_name"] for image in truth["images"]}
    assert all(entry["file_name"] == names[entry["image_id"]] for entry in entries)
    api = coco.COCO(str(path))
    assert len(api.loadRes(str(tmp_path / "out" / "results.json")).anns) == 16


def test_deviations_of_methods_that_know_them(tmp_path: Path) -> None:
    """In px of the picture: twice as large in a picture of twice the size."""
    spec = DetectorSpec("test_efficientnet", "rle", {}, Size(64, 64), Skeleton("pair", ("a", "b")))
    detectors.save(detectors.build(spec).eval(), tmp_path / "run", Card(spec))
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for name, side in (("small.png", 64), ("large.png", 128)):
        cv2.imwrite(str(tmp_path / name), cv2.resize(picture, (side, side), interpolation=cv2.INTER_NEAREST))
    sources = [str(tmp_path / name) for name in ("small.png", "large.png")]
    small, large = predict_sources(tmp_path / "run", sources, tmp_path / "out").results
    assert len(small["keypoint_sigmas"]) == 4
    assert np.array(large["keypoint_sigmas"]) == pytest.approx(2 * np.array(small["keypoint_sigmas"]), rel=0.05)
    assert min(small["keypoint_sigmas"]) > 0


def test_whole_images_without_boxes(blob_model: Path, tmp_path: Path) -> None:
    """One instance a picture, and pictures in folders as their sources are."""
    for seed, name in enumerate(["a.png", "a.jpg", "deep/b.PNG", "deep/c.jpeg"]):
        noise_picture(tmp_path / "in" / name, seed)
    done = predict_sources(blob_model, [str(tmp_path / "in")], tmp_path / "out")
    assert (done.images, done.instances, done.problems) == (4, 4, [])
    assert files_in(tmp_path / "out") == ["a.jpg", "a.png.jpg", "deep/b.PNG.jpg", "deep/c.jpeg.jpg", "results.json"]
    entries = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [entry["file_name"] for entry in entries] == ["a.jpg", "a.png", "deep/b.PNG", "deep/c.jpeg"]
    assert [entry["image_id"] for entry in entries] == [1, 2, 3, 4]
    assert "bbox" not in entries[0]


def test_whole_images_for_a_model_that_learnt_on_crops(blob_model: Path, tmp_path: Path) -> None:
    """A street of people gets one skeleton in its middle: that is said, and kept with the results."""
    card = json.loads((blob_model / "model.json").read_text())
    picture = str(noise_picture(tmp_path / "street.png"))
    for share, count in ((0.08, 1), (0.6, 0), (None, 0), ("much", 0)):
        run = shutil.copytree(blob_model, tmp_path / f"run_{share}")
        card["metrics"] = {} if share is None else {BOX_SHARE: share}
        (run / "model.json").write_text(json.dumps(card))
        with heard() as lines:
            notes = predict_sources(run, [picture], tmp_path / "out").notes
        assert len(notes) == count, share
        assert [line for line in lines if "--boxes" in line] == notes
    assert "boxes of 8 % of their image" in predict_sources(tmp_path / "run_0.08", [picture], tmp_path / "out").notes[0]
    boxed = predict_sources(tmp_path / "run_0.08", [picture], tmp_path / "out", boxes=Path("1,2,30,40"))
    assert boxed.notes == [], "it was told where to look"


def test_equal_names_from_two_folders_do_not_overwrite_each_other(blob_model: Path, tmp_path: Path) -> None:
    for seed, name in enumerate(["x/a.jpg", "y/a.jpg"]):
        noise_picture(tmp_path / name, seed)
    predict_sources(blob_model, [str(tmp_path / "x"), str(tmp_path / "y")], tmp_path / "out")
    assert files_in(tmp_path / "out") == ["a.jpg", "results.json", "y/a.jpg"]
    entries = json.loads((tmp_path / "out" / "results.json").read_text())
    assert entries[0]["keypoints"] != entries[1]["keypoints"]


def test_a_drawing_s_name_is_its_own() -> None:
    found = [sources.Source(name, Path("in") / name, "image") for name in ("a.png", "a.png.jpg", "a.png_2.jpg")]
    assert [path.name for path in drawings.targets(found, Path("out")).values()] == [
        "a.png.jpg",
        "a.png_2.jpg",
        "a.png_2_2.jpg",
    ]


@pytest.mark.parametrize("given", ["in", "in/a.jpg", "in/clip.mp4"])
def test_sources_are_never_overwritten(blob_model: Path, tmp_path: Path, given: str) -> None:
    noise_picture(tmp_path / "in" / "a.jpg")
    noise_video(tmp_path / "in" / "clip.mp4", 2)
    before = {name: (tmp_path / name).read_bytes() for name in files_in(tmp_path)}
    with pytest.raises(UserError, match="is one of the sources and would be overwritten"):
        predict_sources(blob_model, [str(tmp_path / given)], tmp_path / "deep" / ".." / "in")
    assert {name: (tmp_path / name).read_bytes() for name in files_in(tmp_path)} == before


def test_an_unreadable_picture_is_reported_and_the_others_done(blob_model: Path, tmp_path: Path) -> None:
    noise_picture(tmp_path / "in" / "a.jpg")
    (tmp_path / "in" / "b.jpg").write_bytes(b"nonsense")
    noise_picture(tmp_path / "in" / "c.jpg")
    with heard() as said:
        done = predict_sources(blob_model, [str(tmp_path / "in")], tmp_path / "out")
    assert done.images == 2
    assert said == done.problems
    assert len(said) == 1
    assert "b.jpg" in said[0]
    assert [entry["image_id"] for entry in done.results] == [1, 3]
    with pytest.raises(UserError, match=r"b\.jpg"):
        predict_sources(blob_model, [str(tmp_path / "in")], tmp_path / "strict", choices=Choices(strict=True))
    assert not (tmp_path / "strict" / "results.json").exists()


def test_nothing_readable_is_an_error_and_leaves_nothing(blob_model: Path, tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"b\.jpg: not a picture"):
        predict_sources(blob_model, [str(tmp_path / "b.jpg")], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_video_becomes_a_video(blob_model: Path, tmp_path: Path) -> None:
    """Equal rate and number of frames; odd sides grow by one px."""
    noise_video(tmp_path / "clip.mp4", 9)
    done = predict_sources(blob_model, [str(tmp_path / "clip.mp4")], tmp_path / "out")
    assert done.images == done.instances == 9
    assert done.results[8]["file_name"] == "clip.mp4#000008"
    assert files_in(tmp_path / "out") == ["clip.mp4", "results.json"]
    with av.open(str(tmp_path / "out" / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.average_rate, stream.width, stream.height) == (13, 48, 36)
        drawn = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(drawn) == 9
    saturation = [np.ptp(picture.astype(int), axis=2).max() for picture in drawn]
    assert min(saturation) > 60  # coloured points on grey noise, in each frame


def test_a_video_that_ends_early_keeps_what_was_seen(blob_model: Path, tmp_path: Path) -> None:
    path = noise_video(tmp_path / "clip.mp4", 60)
    with (
        av.open(str(path)) as source,
        av.open(str(tmp_path / "fast.mp4"), "w", options={"movflags": "+faststart"}) as copy,
    ):
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    path = tmp_path / "fast.mp4"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    done = predict_sources(blob_model, [str(path)], tmp_path / "out")
    assert 0 < done.images < 60
    assert len(done.problems) == 1
    assert f"ends after {done.images} frames" in done.problems[0]
    with av.open(str(tmp_path / "out" / "fast.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == done.images


def test_a_failure_in_a_video_leaves_no_half_of_it(
    blob_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, calls = noise_video(tmp_path / "clip.mp4", 60), []

    def fails_late(*arguments: Any, **options: Any) -> np.ndarray:
        calls.append(1)
        if len(calls) == 58:  # the encoder holds some dozens back before it writes
            raise RuntimeError("broken")
        return arguments[0]

    monkeypatch.setattr(predict.pictures, "draw_points", fails_late)
    with pytest.raises(RuntimeError, match="broken"):
        predict_sources(blob_model, [str(path)], tmp_path / "out")
    assert files_in(tmp_path / "out") == []


class Camera:
    """Gives a frame when the consumer has got the one before, and five more while that one is looked at; after
    40 frames Ctrl-C is pressed."""

    taken = threading.Semaphore(0)

    def __init__(self, number: int) -> None:
        self.frames = 0

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def get(self, what: int) -> float:
        return 0.0

    def read(self) -> tuple[bool, np.ndarray]:
        if self.frames % 6 == 1:
            assert self.taken.acquire(timeout=60)
        if self.frames == 40:
            raise KeyboardInterrupt
        self.frames += 1
        return True, np.full((48, 64, 3), 6 * self.frames, np.uint8)

    def release(self) -> None:
        pass


class SlowModel(Runtime):
    """Lets the camera go on only when a frame is looked at."""

    def __call__(self, image: np.ndarray, boxes_xywh: np.ndarray | None = None) -> Keypoints:
        Camera.taken.release()
        time.sleep(0.03)
        return super().__call__(image, boxes_xywh)


def test_a_camera_is_seen_as_it_is_now_until_control_c(
    blob_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames that came while another was looked at are left out, and what was seen is kept; then come other sources."""
    model = SlowModel(runtime.load(blob_model).network)
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(runtime, "load", lambda *_, **__: model)
    picture = noise_picture(tmp_path / "a.jpg")
    done = predict_sources(blob_model, ["camera:0", str(picture)], tmp_path / "out")
    numbers = [int(entry["file_name"].partition("#")[2]) for entry in done.results[:-1]]
    assert numbers[0] == 0
    assert numbers[-1] == 39
    assert numbers == sorted(set(numbers))
    assert 5 <= len(numbers) < 12
    assert done.results[-1]["file_name"] == "a.jpg"
    assert files_in(tmp_path / "out") == ["a.jpg", "camera0.mp4", "results.json"]
    with av.open(str(tmp_path / "out" / "camera0.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == len(numbers)


def coco_file(path: Path, change: Callable[[dict[str, Any]], None] = lambda content: None) -> Path:
    """Three boxes on two pictures, a.jpg (id 11) and b.jpg (id 12), before `change`."""
    content: dict[str, Any] = {
        "images": [{"id": 11, "file_name": "a.jpg"}, {"id": 12, "file_name": "b.jpg"}],
        "annotations": [
            {"id": 1, "image_id": 11, "bbox": [1, 2, 20, 30]},
            {"id": 2, "image_id": 12, "bbox": [3, 2.5, 25, 18]},
            {"id": 3, "image_id": 12, "bbox": [8, 9, 11, 31]},
        ],
    }
    change(content)
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def two_pictures(tmp_path: Path) -> Path:
    noise_picture(tmp_path / "in" / "a.jpg", 1)
    noise_picture(tmp_path / "in" / "b.jpg", 2)
    return tmp_path / "in"


def test_boxes_say_where_the_instances_are(blob_model: Path, two_pictures: Path, tmp_path: Path) -> None:
    done = predict_sources(blob_model, [str(two_pictures)], tmp_path / "out", boxes=coco_file(tmp_path / "b.json"))
    assert [(entry["image_id"], entry["bbox"]) for entry in done.results] == [
        (11, [1, 2, 20, 30]),
        (12, [3, 2.5, 25, 18]),
        (12, [8, 9, 11, 31]),
    ]


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ({"id": 9, "image_id": 99, "bbox": [1, 2, 3, 4]}, "annotation 9: image id 99 is not among the 2 images"),
        ({"id": 9, "bbox": [1, 2, 3, 4]}, "annotation 9: image id None is not among the 2 images"),
        ({"id": 9, "image_id": 11, "bbox": [1, 2, 0, 4]}, "annotation 9: its box [1.0, 2.0, 0.0, 4.0] has no area"),
        ({"id": 9, "image_id": 11, "bbox": [1, 2, 3, -4]}, "annotation 9: its box [1.0, 2.0, 3.0, -4.0] has no area"),
        (
            {"id": 9, "image_id": 11, "bbox": [1, float("nan"), 3, 4]},
            "annotation 9: its box [1.0, nan, 3.0, 4.0] has no area",
        ),
        ({"id": 9, "image_id": 11, "bbox": [1, 2, 3]}, "annotation 9: bbox is [1, 2, 3]; expected 4 numbers"),
        ({"id": 9, "image_id": 11, "bbox": ["one", 2, 3, 4]}, 'annotation 9: bbox is ["one", 2, 3, 4]; exp'),
        ({"id": 9, "image_id": 11}, "annotation 9: it has neither a bbox nor points"),
        ([1, 2], "annotation [3]: is [1, 2], expected an object"),
    ],
)
def test_broken_boxes_are_listed_and_left_out(
    blob_model: Path, two_pictures: Path, tmp_path: Path, annotation: Any, message: str
) -> None:
    path = coco_file(tmp_path / "b.json", lambda content: content["annotations"].append(annotation))
    found = boxes_files.read(path)
    assert [boxes.xywh for boxes in found.boxes] == [[[1, 2, 20, 30]], [[3, 2.5, 25, 18], [8, 9, 11, 31]]]
    assert len(found.problems) == 1
    assert message in found.problems[0]
    with pytest.raises(UserError) as error:
        predict_sources(blob_model, [str(two_pictures)], tmp_path / "out", boxes=path, choices=Choices(strict=True))
    assert message in str(error.value)
    assert not (tmp_path / "out").exists()


def test_crowds_are_no_instances(tmp_path: Path) -> None:
    path = coco_file(tmp_path / "b.json", lambda content: content["annotations"][1].update(iscrowd=1))
    assert boxes_files.read(path).boxes[1].xywh == [[8, 9, 11, 31]]


@pytest.mark.parametrize("content", ["[]", '{"images": []}', '{"images": {}, "annotations": []}', "7"])
def test_a_boxes_file_of_another_kind(tmp_path: Path, content: str) -> None:
    (tmp_path / "b.json").write_text(content)
    with pytest.raises(UserError, match="expected COCO's annotations, an object with lists `images` and `annotations`"):
        boxes_files.read(tmp_path / "b.json")


def test_boxes_none_of_which_is_sound(tmp_path: Path) -> None:
    def spoil(content: dict[str, Any]) -> None:
        for annotation in content["annotations"]:
            annotation["bbox"][2] = 0

    with pytest.raises(UserError, match=r"annotation 1: its box .* has no area"):
        boxes_files.read(coco_file(tmp_path / "b.json", spoil))


def test_pictures_without_an_entry_are_left_out(blob_model: Path, two_pictures: Path, tmp_path: Path) -> None:
    noise_picture(two_pictures / "other.jpg")
    with heard() as said:
        done = predict_sources(blob_model, [str(two_pictures)], tmp_path / "out", boxes=coco_file(tmp_path / "b.json"))
    assert done.images == 2
    assert said == [f"{tmp_path / 'b.json'}: 1 of 3 images are not in it and left out"]
    with pytest.raises(UserError, match=r"has no image named 'other\.jpg', its names are such as 'a\.jpg'"):
        predict_sources(blob_model, [str(two_pictures / "other.jpg")], tmp_path / "none", boxes=tmp_path / "b.json")
    assert not (tmp_path / "none").exists()


def test_boxes_of_a_picture_named_by_its_folder(blob_model: Path, two_pictures: Path, tmp_path: Path) -> None:
    """The file's `part/a.jpg` is a.jpg of the folder given, as long as no other a.jpg is meant."""

    def deeper(content: dict[str, Any]) -> None:
        for image in content["images"]:
            image["file_name"] = f"part/{image['file_name']}"

    path = coco_file(tmp_path / "b.json", deeper)
    done = predict_sources(blob_model, [str(two_pictures)], tmp_path / "out", boxes=path)
    assert [entry["image_id"] for entry in done.results] == [11, 12, 12]
    noise_picture(two_pictures / "again" / "a.jpg")
    with pytest.raises(UserError, match=r"image 11 could be 'a\.jpg' or 'again/a\.jpg'"):
        predict_sources(blob_model, [str(two_pictures)], tmp_path / "twice", boxes=path)


def test_the_output_is_a_file(blob_model: Path, two_pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="is a file, expected a folder"):
        predict_sources(blob_model, [str(two_pictures)], tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_folder_without_a_model_leaves_nothing(two_pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no trained model here"):
        predict_sources(tmp_path, [str(two_pictures)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_model_leaves_nothing(blob_model: Path, two_pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(blob_model, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"model\.safetensors: can't be read"):
        predict_sources(tmp_path / "model", [str(two_pictures)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_results_elsewhere(blob_model: Path, two_pictures: Path, tmp_path: Path) -> None:
    predict_sources(blob_model, [str(two_pictures)], tmp_path / "out", json_file=tmp_path / "new" / "r.json")
    assert len(json.loads((tmp_path / "new" / "r.json").read_text())) == 2
    assert files_in(tmp_path / "out") == ["a.jpg", "b.jpg"]


def times_of(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def test_the_drawn_video_keeps_the_times_of_an_unsteady_one(tmp_path: Path) -> None:
    """Also where a frame has no time or an old one."""
    source = sources.Source("clip.mp4", tmp_path / "in.mp4", "video")
    given = [Fraction(0), Fraction(1, 30), Fraction(1, 2), None, Fraction(1, 3), Fraction(2)]
    with drawings.drawing(source, tmp_path / "out.mp4") as draw:
        for seconds in given:
            draw(sources.Frame("", None, rate=Fraction(25), seconds=seconds), np.full((34, 48, 3), 90, np.uint8))
    expected = [0, 1 / 30, 0.5, 0.54, 0.58, 2]
    assert [float(seconds) for seconds in times_of(tmp_path / "out.mp4")] == pytest.approx(expected, abs=1e-4)


def test_a_video_that_changes_its_size_is_drawn_in_its_first_one(tmp_path: Path) -> None:
    source = sources.Source("clip.mp4", tmp_path / "in.mp4", "video")
    with drawings.drawing(source, tmp_path / "out.mp4") as draw:
        for height, width in ((34, 48), (68, 48), (10, 10)):
            draw(sources.Frame("", None), np.full((height, width, 3), 200, np.uint8))
    with av.open(str(tmp_path / "out.mp4")) as container:
        drawn = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [picture.shape for picture in drawn] == [(34, 48, 3)] * 3
    assert drawn[0].min() > 180
    assert drawn[1][:, 14:34].min() > 150  # half as large, in the middle
    assert max(drawn[1][:, :8].max(), drawn[1][:, 40:].max()) < 40  # black beside it


def video_of(path: Path, pictures: list[np.ndarray]) -> Path:
    source = sources.Source(path.name, path, "video")
    with drawings.drawing(source, path) as draw:
        for picture in pictures:
            draw(sources.Frame("", None, rate=Fraction(20)), picture)
    return path


@pytest.fixture
def clip(blobs: Path, tmp_path: Path) -> Path:
    """The same picture in 24 frames, with noise."""
    picture = np.asarray(cv2.imread(str(blobs / "images" / "test_0.png")))[..., ::-1]
    generator = np.random.default_rng(0)
    noisy = [np.clip(picture + generator.normal(0, 12, picture.shape), 0, 255).astype(np.uint8) for _ in range(24)]
    return video_of(tmp_path / "clip.mp4", noisy)


def points_of(entries: list[dict[str, Any]]) -> np.ndarray:
    """[frames, k, 3]"""
    return np.array([entry["keypoints"] for entry in entries]).reshape(len(entries), -1, 3)


def test_long_sources_say_how_far_they_are_without_a_terminal(
    blob_model: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "progress", partial(predict.progress, every_s=0))
    with heard() as said:
        predict_sources(blob_model, [str(clip)], tmp_path / "out")
    assert len(said) == 24
    assert re.fullmatch(r"predict: 12 of 24 frames, [\d.]+ a second, \d+ s left", said[11])


def test_smoothing_calms_points_and_nothing_else(blob_model: Path, clip: Path, tmp_path: Path) -> None:
    raw = predict_sources(blob_model, [str(clip)], tmp_path / "raw").results
    calm = predict_sources(blob_model, [str(clip)], tmp_path / "calm", choices=Choices(smooth=OneEuro())).results
    assert [{**entry, "keypoints": 0} for entry in raw] == [{**entry, "keypoints": 0} for entry in calm]
    before, after = points_of(raw), points_of(calm)
    assert (before[..., 2] == after[..., 2]).all()
    assert before[0] == pytest.approx(after[0])
    jitter, left = (np.diff(points[8:, :, :2], 2, axis=0).std() for points in (before, after))
    assert 0 < left < jitter / 3


def test_boxes_and_numbers_of_followed_instances(blob_model: Path, clip: Path, tmp_path: Path) -> None:
    """The boxes file names the video; frames get ids that the file doesn't have."""
    path = coco_file(tmp_path / "b.json", lambda content: content["images"][1].update(file_name="clip.mp4"))
    done = predict_sources(
        blob_model, [str(clip)], tmp_path / "out", boxes=path, choices=Choices(track=True, smooth=OneEuro())
    )
    assert (done.images, done.instances, done.problems) == (24, 48, [])
    first = done.results[:2]
    assert [(entry["bbox"], entry["track_id"]) for entry in first] == [([3, 2.5, 25, 18], 1), ([8, 9, 11, 31], 2)]
    assert [entry["image_id"] for entry in done.results] == [12 + frame for frame in range(1, 25) for _ in range(2)]
    assert [entry["seconds"] for entry in done.results[::2]] == pytest.approx([frame / 20 for frame in range(24)])
    assert all(entry["bbox"] != before["bbox"] for entry, before in zip(done.results[2:4], first, strict=True))


def test_boxes_of_later_frames_are_those_who_were_followed(blob_model: Path, clip: Path, tmp_path: Path) -> None:
    """What comes before the first frame that is named is left out, and said once."""

    def rename(content: dict[str, Any]) -> None:
        for image, number in zip(content["images"], (4, 10), strict=True):
            image["file_name"] = f"clip.mp4#{number:06d}"

    path = coco_file(tmp_path / "b.json", rename)
    done = predict_sources(blob_model, [str(clip)], tmp_path / "out", boxes=path, choices=Choices(track=True))
    assert done.problems == [f"{path}: has no image named 'clip.mp4#000000' nor 3 more of this video; left out"]
    named = {entry["file_name"][-2:]: entry["image_id"] for entry in done.results}
    assert (named["04"], named["10"], len(named)) == (11, 12, 20)
    assert [entry["track_id"] for entry in done.results[:10]] == [1] * 6 + [1, 2] * 2
    with pytest.raises(UserError, match=r"has no image named 'clip\.mp4#000000'"):
        predict_sources(blob_model, [str(clip)], tmp_path / "new", boxes=path, choices=Choices(track=True, strict=True))
    assert not (tmp_path / "new").exists() or files_in(tmp_path / "new") == []


def test_a_lost_instance_is_told_once(blob_model: Path, clip: Path, tmp_path: Path, said: list[str]) -> None:
    def outside(content: dict[str, Any]) -> None:
        content["images"][0]["file_name"] = "clip.mp4"
        content["annotations"][0]["bbox"] = [500, 500, 30, 30]

    path = coco_file(tmp_path / "b.json", outside)
    done = predict_sources(blob_model, [str(clip)], tmp_path / "out", boxes=path, choices=Choices(track=True))
    assert said == [
        "clip.mp4#000000: instance 1: it left the picture, so it was lost; later ones of this video show as new track_ids"
    ]
    assert [entry["track_id"] for entry in done.results] == list(range(1, 25))


def test_a_table_of_the_points(blob_model: Path, clip: Path, two_pictures: Path, tmp_path: Path) -> None:
    done = predict_sources(
        blob_model, [str(clip), str(two_pictures)], tmp_path / "out", csv_file=tmp_path / "deep" / "p.csv"
    )
    with open(tmp_path / "deep" / "p.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(done.results) == 26
    for row, entry in zip(rows, done.results, strict=True):
        assert row["file_name"] == entry["file_name"]
        assert float(row["seconds"] or -1) == entry.get("seconds", -1)
        points = [float(row[f"{name}_{what}"]) for name in ("red", "green", "blue") for what in ("x", "y", "score")]
        assert points == entry["keypoints"]
    assert [row["track_id"] for row in rows] == ["1"] * 24 + ["", ""]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"choices": Choices(track=True)}, "--track is about videos and cameras"),
        ({"choices": Choices(smooth=OneEuro())}, "--smooth is about videos and cameras"),
        ({"csv_file": Path("a.jpg/b/c.csv")}, r"--csv: nothing can be written in a\.jpg"),
        ({"json_file": Path("a.jpg/c.json")}, r"--json: nothing can be written in a\.jpg"),
    ],
)
def test_what_can_not_be_is_said_before_anything_is_done(
    two_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(two_pictures)
    with pytest.raises(UserError, match=message):
        predict_sources(tmp_path / "no model", [str(two_pictures)], tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_boxes_alone_do_not_say_who_is_who(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--smooth must know who is who .* add --track"):
        predict_sources(
            tmp_path,
            [str(clip)],
            tmp_path / "out",
            boxes=tmp_path / "b.json",
            choices=Choices(smooth=OneEuro()),
        )
