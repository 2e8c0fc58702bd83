"""A video gone through again: what is smoothed, filled in, joined and named, in scenes where the truth is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from predict.test_told_apart import FRAMES, film, truth

from fiducial import geometry
from fiducial.errors import UserError
from fiducial.prediction.boxes import Boxes
from fiducial.prediction.found import InstancesFound
from fiducial.prediction.pipeline import Choices
from fiducial.prediction.predict import predict_sources
from fiducial.prediction.second_pass import FILLED, JOINED, gone_through, smoothed
from fiducial.prediction.smoothing import OneEuro
from fiducial.types import Keypoints

pytest.importorskip("scipy")
SHAPE = np.array([[-20.0, -12], [20, -8], [15, 14], [-18, 10]])


def frame(places: Sequence[Sequence[float]], ids: Sequence[int], **about: Any) -> InstancesFound:
    """Bodies around places [n, 2], of these numbers."""
    xy = np.asarray(places, float).reshape(-1, 1, 2) + SHAPE
    boxes = [geometry.box_of_points(one, np.ones(len(SHAPE), bool), 0.1).tolist() for one in xy]
    return InstancesFound(Boxes(1, boxes, track_ids=list(ids)), Keypoints(xy, np.full(xy.shape[:2], 0.8)), **about)


def ids_of(frames: Sequence[InstancesFound | None]) -> list[list[int]]:
    return [one.boxes.track_ids if one else [] for one in frames]


def middles(frames: Sequence[InstancesFound | None], number: int) -> np.ndarray:
    """[t, 2] where someone is, NaN where not."""
    result = np.full((len(frames), 2), np.nan)
    for at, one in enumerate(frames):
        if one is not None and number in one.boxes.track_ids:
            result[at] = (one.points.xy[one.boxes.track_ids.index(number)] - SHAPE).mean(0)
    return result


WAY = np.stack([60 + 3.0 * np.arange(40), 80 + 20 * np.sin(np.arange(40) / 9)], 1)


def test_points_that_tremble_are_calmed_and_exact_ones_stay() -> None:
    random = np.random.default_rng(0)
    still = np.zeros((200, 1, 2)) + 50
    moving = np.stack([4.0 * np.arange(200), 30 * np.sin(np.arange(200) / 15)], -1)[:, None]
    for true, most in ((still, 0.35), (moving, 0.75)):
        noisy = true + random.normal(0, 1.5, true.shape)
        left = np.sqrt(np.square(smoothed(noisy) - true).mean())
        assert left < most * 1.5
    assert smoothed(moving) == pytest.approx(moving, abs=0.1)
    assert smoothed(still) == pytest.approx(still, abs=1e-6)


def test_smoothing_backwards_in_time_is_the_same() -> None:
    values = np.cumsum(np.random.default_rng(1).normal(0, 2, (80, 3, 2)), 0)
    values[30:33, 1] = np.nan
    ways = smoothed(values), smoothed(values[::-1])[::-1]
    assert ways[0] == pytest.approx(ways[1], abs=0.15)


def test_who_is_missing_for_a_few_frames_is_filled_in() -> None:
    frames = [frame([place], [1]) for place in WAY]
    for at in (*range(10, 16), 30):
        frames[at] = frame([], [])
    done = gone_through(frames)
    assert (done.filled, done.joined) == (7, 0)
    assert ids_of(done.frames) == [[1]] * 40
    assert np.abs(middles(done.frames, 1) - WAY).max() < 0.5
    filled = [bool(one and one.boxes.filled) for one in done.frames]
    assert np.flatnonzero(filled).tolist() == [*range(10, 16), 30]
    there = done.frames[12]
    assert there is not None
    assert there.boxes.xywh[0] == pytest.approx(frame([WAY[12]], [1]).boxes.xywh[0], abs=0.6)
    assert there.points.score.tolist() == [[0.8] * 4]


def test_long_gaps_and_frames_that_were_not_looked_at_stay_empty() -> None:
    frames: list[InstancesFound | None] = [frame([place], [1]) for place in WAY]
    frames[5:8] = [None] * 3
    for at in range(12, 12 + FILLED + 1):
        frames[at] = frame([], [])
    done = gone_through(frames)
    assert done.filled == 0
    assert done.frames[5:8] == [None] * 3
    assert ids_of(done.frames)[12] == []


def test_a_point_that_leaves_for_one_frame_is_brought_back() -> None:
    frames = [frame([place], [1]) for place in WAY]
    frames[20].points.xy[0, 2] += 40
    done = gone_through(frames)
    assert done.frames[20] is not None
    assert done.frames[20].points.xy[0, 2] == pytest.approx(WAY[20] + SHAPE[2], abs=0.5)


def test_tracks_that_are_certainly_one_are_joined() -> None:
    gap = range(15, 28)  # longer than what is filled in
    frames = [frame([place], [1 if at < 15 else 2]) if at not in gap else frame([], []) for at, place in enumerate(WAY)]
    done = gone_through(frames)
    assert (done.joined, done.filled) == (1, 0)
    assert {number for ids in ids_of(done.frames) for number in ids} == {1}


@pytest.mark.parametrize("why", ["rivals", "cut", "far", "long", "kind"])
def test_others_are_not_joined(why: str) -> None:
    """Two may be the continuation; another scene; another place; too late; something else."""
    places, gap = WAY.copy(), range(15, 22)
    if why == "far":
        places[22:] += 150
    ids = {"rivals": [2, 3]}.get(why, [2])
    frames = [frame([], []) if at in gap else frame([place], [1]) for at, place in enumerate(places[:22])]
    frames += [frame([], [])] * (JOINED * (why == "long"))
    frames += [frame([place, place + 9][: len(ids)], ids) for place in places[22:]]
    if why == "cut":
        frames[20] = frame([], [], is_cut=True)
    if why == "kind":
        for at, one in enumerate(frames):
            one.boxes.category_ids = ["mouse" if at < 20 else "rat"] * len(one.boxes.xywh)
    done = gone_through(frames)
    assert done.joined == 0
    assert ids_of(done.frames)[-1] == ids


def test_who_had_no_number_yet_is_known_from_behind() -> None:
    """Not what came and went without one, nor what was there before a cut."""
    alarm = [20.0, 300]
    frames = [frame([place, alarm] if at == 2 else [place], [-1] * (1 + (at == 2))) for at, place in enumerate(WAY[:4])]
    frames += [frame([place], [1]) for place in WAY[4:]]
    assert ids_of(gone_through(frames).frames)[:5] == [[1], [1], [1, -1], [1], [1]]
    frames[2] = frame([WAY[2]], [-1], is_cut=True)
    assert ids_of(gone_through(frames).frames)[:4] == [[-1], [-1], [1], [1]]


def test_order_and_direction_do_not_matter() -> None:
    """The instances of a frame in any order; and time backwards: who is filled in where, and nearly the same places."""
    random = np.random.default_rng(3)
    frames = []
    for at in range(40):
        seen = [who for who in (1, 2) if random.random() > 0.15 or at in (0, 39)]
        own = [WAY[at] + 90 * (who == 2) + random.normal(0, 1, 2) for who in seen]
        frames.append(frame(own, seen))
    turned = []
    for one in frames:
        order = random.permutation(len(one.points.xy))
        turned.append(InstancesFound(one.boxes.picked(order), one.points.select(order)))
    plain, shuffled, back = gone_through(frames), gone_through(turned), gone_through(frames[::-1])
    assert plain.filled == shuffled.filled == back.filled > 5
    for number in (1, 2):
        there = middles(plain.frames, number)
        assert middles(shuffled.frames, number) == pytest.approx(there)
        assert middles(back.frames[::-1], number) == pytest.approx(there, abs=0.3)


def test_from_a_boxes_file_to_results(blob_model: Path, tmp_path: Path, said: list[str]) -> None:
    pytest.importorskip("av")
    gone = tuple((frame, 2) for frame in range(10, 14))
    file = truth(tmp_path / "b.json", missing=gone)
    clip = str(film(tmp_path / "film.mp4"))
    choices = Choices(track=True, second_pass=True)
    done = predict_sources(
        blob_model, [clip], tmp_path / "out", boxes=file, choices=choices, csv_file=tmp_path / "p.csv"
    )
    assert said == [
        "film.mp4: gone through again: points smoothed both ways, 4 instances filled in, 0 tracks joined to others"
    ]
    assert len(done.results) == 2 * FRAMES
    filled = [entry for entry in done.results if entry.get("filled")]
    assert [(entry["image_id"], entry["track_id"]) for entry in filled] == [
        (510 + i, filled[0]["track_id"]) for i in range(4)
    ]
    assert not any("annotation_id" in entry for entry in filled)
    assert sum("annotation_id" in entry for entry in done.results) == 2 * FRAMES - 4
    boxes = {frame: [130 - 5.0 * frame, 52, 38, 34] for frame in range(10, 14)}
    for entry in filled:
        assert entry["bbox"] == pytest.approx(boxes[entry["image_id"] - 500], abs=1)
    assert (tmp_path / "out" / "film.mp4").exists()
    assert json.loads(done.json_file.read_text()) == done.results


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (Choices(second_pass=True), r"--second-pass must know who is who .* add --track"),
        (Choices(track=True, second_pass=True, smooth=OneEuro()), "--second-pass smooths both ways"),
    ],
)
def test_what_does_not_go_together(tmp_path: Path, choices: Choices, message: str) -> None:
    pytest.importorskip("av")
    clip = film(tmp_path / "film.mp4")
    with pytest.raises(UserError, match=message):
        predict_sources(tmp_path, [str(clip)], tmp_path / "out", choices=choices)


def test_a_camera_has_no_end(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a camera has no end"):
        predict_sources(tmp_path, ["camera:0"], tmp_path / "out", choices=Choices(track=True, second_pass=True))
