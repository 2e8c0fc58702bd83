"""Who is who in videos, from boxes of each frame to results that are measured against the truth."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from predict.test_tracking import FindsBright, scene

from fiducial.errors import UserError
from fiducial.evaluation.predictions import evaluate_results
from fiducial.prediction import drawings, sources
from fiducial.prediction.pipeline import Choices
from fiducial.prediction.predict import predict_sources
from fiducial.prediction.smoothing import OneEuro
from fiducial.prediction.tracking import Tracker
from fiducial.report import pictures
from fiducial.types import Keypoints, Skeleton

pytest.importorskip("av")
pytest.importorskip("scipy")
FRAMES = 24
TRACK = Choices(track=True)


def film(path: Path, seeds: tuple[int, ...] = (0,)) -> Path:
    """Equally long scenes of 200 x 120 px, each of one picture."""
    source = sources.Source(path.name, path, "video")
    with drawings.drawing(source, path) as draw:
        for seed in seeds:
            coarse = np.random.default_rng(seed).integers(0, 256, (6, 10, 3), dtype=np.uint8)
            picture = np.kron(coarse, np.ones((20, 20, 1), np.uint8))
            for _ in range(FRAMES // len(seeds)):
                draw(sources.Frame("", None, rate=Fraction(20)), picture)
    return path


def truth(path: Path, named: range = range(FRAMES), missing: tuple[tuple[int, int], ...] = ()) -> Path:
    """Two who pass each other, in a frame's list in either order; `missing` (frame, who) are not there."""
    images, annotations = [], []
    for frame in named:
        images.append({"id": 500 + frame, "file_name": f"film.mp4#{frame:06d}", "width": 200, "height": 120})
        boxes = {1: [10 + 5.0 * frame, 30, 40, 32], 2: [130 - 5.0 * frame, 52, 38, 34]}
        for who in (1, 2) if frame % 3 else (2, 1):
            if (frame, who) not in missing:
                x, y, w, h = boxes[who]
                points = [v for share in (0.3, 0.5, 0.7) for v in (x + share * w, y + share * h, 2)]
                about = {"id": len(annotations) + 1, "image_id": 500 + frame, "category_id": 1, "track_id": who}
                annotations.append({**about, "bbox": boxes[who], "area": w * h, "keypoints": points})
    category = {"id": 1, "name": "blobs", "keypoints": ["red", "green", "blue"]}
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return path


def measured(results: Path, file: Path) -> dict[str, Any]:
    return evaluate_results(results, file)["tracking"]


def test_boxes_of_each_frame_are_told_apart(blob_model: Path, tmp_path: Path, said: list[str]) -> None:
    """A boxes file has no identities of its own that count: those in the file are the truth here."""
    file = truth(tmp_path / "b.json")
    done = predict_sources(blob_model, [str(film(tmp_path / "film.mp4"))], tmp_path / "out", boxes=file, choices=TRACK)
    tracking = measured(done.json_file, file)
    assert (tracking["hota"], tracking["id_switches"], tracking["tracks"]) == (1, 0, 2)
    assert (tracking["frames"], tracking["similarity"]) == (FRAMES, "box IoU")
    assert {entry["image_id"] for entry in done.results} == set(range(500, 500 + FRAMES))
    assert said == []


@pytest.mark.parametrize("named", [range(0, FRAMES, 3), range(FRAMES)])
def test_frames_between_are_followed(blob_model: Path, tmp_path: Path, named: range) -> None:
    """Where the file names every third frame, or every third is looked at: all have points, and who is who stays."""
    file = truth(tmp_path / "b.json", named)
    every = 1 if len(named) < FRAMES else 3
    choices = Choices(track=True, every=every, smooth=OneEuro())
    done = predict_sources(
        blob_model, [str(film(tmp_path / "film.mp4"))], tmp_path / "out", boxes=file, choices=choices
    )
    assert done.images == FRAMES
    assert [entry["file_name"][-2:] for entry in done.results] == [f"{i:02d}" for i in range(FRAMES) for _ in range(2)]
    looked = [entry for entry in done.results if int(entry["file_name"][-2:]) % 3 == 0]
    assert all("annotation_id" in entry for entry in looked)
    assert sum("annotation_id" in entry for entry in done.results) == len(looked)
    between = {entry["image_id"] for entry in done.results} - {entry["image_id"] for entry in looked}
    assert len(between) == FRAMES - len(looked) // 2
    assert min(between) > max(500 + frame for frame in named)
    owners = {entry["annotation_id"]: entry["track_id"] for entry in looked}
    true = {item["id"]: item["track_id"] for item in json.loads(file.read_text())["annotations"]}
    pairs = {(true[number], track) for number, track in owners.items()}
    assert len(pairs) == 2, pairs


def test_nobody_and_somebody_missing(blob_model: Path, tmp_path: Path) -> None:
    gone = (*((7, who) for who in (1, 2)), *((frame, 2) for frame in range(10, 15)))
    file = truth(tmp_path / "b.json", missing=gone)
    done = predict_sources(blob_model, [str(film(tmp_path / "film.mp4"))], tmp_path / "out", boxes=file, choices=TRACK)
    assert done.images == FRAMES
    tracking = measured(done.json_file, file)
    assert (tracking["hota"], tracking["tracks"]) == (1, 2)


def test_after_a_cut_all_are_new(blob_model: Path, tmp_path: Path, said: list[str]) -> None:
    clip = film(tmp_path / "film.mp4", (0, 1, 2))
    done = predict_sources(blob_model, [str(clip)], tmp_path / "out", boxes=truth(tmp_path / "b.json"), choices=TRACK)
    tracks = [{entry["track_id"] for entry in done.results[start : start + 16]} for start in (0, 16, 32)]
    assert tracks == [{1, 2}, {3, 4}, {5, 6}]
    assert said == [
        "film.mp4#000008: another scene begins, as after a cut: track_ids begin anew, here and at later cuts of this video"
    ]
    alone = predict_sources(blob_model, [str(clip)], tmp_path / "alone", choices=TRACK)
    assert len({entry["track_id"] for entry in alone.results}) >= 3


def test_every_needs_track(blob_model: Path, tmp_path: Path) -> None:
    clip = film(tmp_path / "film.mp4")
    with pytest.raises(UserError, match=r"--every: .* add --track"):
        predict_sources(blob_model, [str(clip)], tmp_path / "out", choices=Choices(every=5))


def test_numbered_images_are_frames(blob_model: Path, tmp_path: Path, said: list[str]) -> None:
    """In the order of their numbers, whatever their names' order, every second frame of a video; one has no boxes, and
    another picture lies beside them."""
    file = truth(tmp_path / "b.json")
    content = json.loads(file.read_text())
    picture = np.kron(np.random.default_rng(0).integers(0, 256, (6, 10, 3), np.uint8), np.ones((20, 20, 1), np.uint8))
    (tmp_path / "in").mkdir()
    for image in content["images"]:
        number = 2 * int(image["file_name"].rpartition("#")[2]) + 4
        image["file_name"] = f"shot-{number}.png"
        cv2.imwrite(str(tmp_path / "in" / image["file_name"]), picture)
    cv2.imwrite(str(tmp_path / "in" / "plan.png"), picture)
    dropped = content["images"].pop(7)["id"]
    content["annotations"] = [item for item in content["annotations"] if item["image_id"] != dropped]
    file.write_text(json.dumps(content))
    choices = Choices(track=True, second_pass=True)
    done = predict_sources(blob_model, [str(tmp_path / "in")], tmp_path / "out", boxes=file, choices=choices)
    assert [entry["file_name"] for entry in done.results[::2]] == [f"shot-{2 * at + 4}.png" for at in range(FRAMES)]
    assert len(done.results) == 2 * FRAMES
    tracking = measured(done.json_file, file)
    assert (tracking["idf1"], tracking["id_switches"], tracking["tracks"]) == (1, 0, 2)
    assert sorted(path.name for path in (tmp_path / "out").glob("*.jpg"))[0] == "shot-10.png.jpg"
    assert said == [
        f"{file}: 1 of 25 images are not in it and left out",
        "shot: gone through again: points smoothed both ways, 0 instances filled in, 0 tracks joined to others",
    ]


def test_drawings_show_who_is_who() -> None:
    """A number above each who has one, and nothing else."""
    image = np.zeros((120, 200, 3), np.uint8)
    points = Keypoints(np.array([[[30.0, 60], [50, 80]], [[130, 60], [150, 80]]]), np.ones((2, 2)))
    skeleton = Skeleton("ants", ("a", "b"))
    plain = pictures.draw_keypoints(image, points, skeleton)
    numbered = pictures.draw_keypoints(image, points, skeleton, numbers=[12, -1])
    changed = np.argwhere((plain != numbered).any(-1))
    assert len(changed) > 20
    assert (changed[:, 1] < 70).all()
    assert (changed[:, 0] < 62).all()
    assert (pictures.draw_keypoints(image, points, skeleton, numbers=[]) == plain).all()
    far = Keypoints(np.full((1, 2, 2), np.nan), np.ones((1, 2)))
    assert pictures.draw_keypoints(image, far, skeleton, numbers=[3]).shape == image.shape


def test_boxes_that_were_found_keep_their_size_around_points_that_keep_to_the_middle() -> None:
    """Behind a look, a box moves and grows as the points do, however they lie in it."""

    class Middle(FindsBright):
        def __call__(self, image: np.ndarray, boxes_xywh: np.ndarray | None = None) -> Keypoints:
            found = super().__call__(image, boxes_xywh)
            middle = found.xy.mean(1, keepdims=True)
            return Keypoints(middle + 0.5 * (found.xy - middle), found.score)

    run: Any = Middle()
    box = np.array([[20.0, 30, 44, 54]])
    images = [scene((22 + 3 * step, 32, 40, 50)) for step in range(13)]
    behind = Tracker.behind(run, images[0], box, run(images[0], box), [7], iter([]))
    seen = [behind(image) for image in images[1:]]
    assert [each.numbers for each in seen] == [[7]] * 12
    assert seen[-1].boxes[0] == pytest.approx([20 + 3 * 12 - 6, 30, 44, 54], abs=3)  # two frames of motion behind
    followed = Tracker(run, box)
    assert [followed(image) for image in images][-1].boxes[0, 2] < 30  # by the points alone
