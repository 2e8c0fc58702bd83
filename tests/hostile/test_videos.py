"""Videos from strangers: mutated, lying, huge, endless: read as far as they go, or one line; at most 10 s and 1 GB.

All of them: `pytest -m long tests/hostile/test_videos.py`."""

from __future__ import annotations

import logging
import os
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile import limits

pytest.importorskip("av")

from hostile import videos

from fiducial.data import video
from fiducial.prediction import drawings, sources

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
READ, PREDICT = "hostile.videos:read_one", "hostile.videos:predict_one"
A_KIND = 13  # of each of 16: 200 and some


def outcomes_of(function: str, values: list[tuple[object, ...]]) -> list[limits.Outcome]:
    return limits.run(function, values, warm=[(*values[0][:-2], "mp4", 1)])


def test_lies_and_some_mutated_videos_are_read() -> None:
    values = [*((name, 0) for name in videos.LIES), *((kind, seed) for kind in videos.KINDS for seed in range(3))]
    outcomes = outcomes_of(READ, values)
    assert not limits.faults(outcomes), limits.table(outcomes)
    said = {outcome.value[0]: outcome.said for outcome in outcomes[: len(videos.LIES)]}
    whole = {name for name, problem in said.items() if not problem}
    assert {"sizes.mkv", "shear.mp4", "flat.mp4", "zoom.mp4", "endless.mp4", "large.gif"} <= whole
    for name in (
        "nothing.mp4",
        "zeros.mkv",
        "text.avi",
        "playlist.mp4",
        "concat.mp4",
        "size.gif",
        "size.webm",
        "black.avi",
    ):
        assert "ends after 0 frames" in said[name], name
    assert "no picture in it, sound at most" in said["sound.mkv"]


def test_a_lie_of_each_kind_through_predict(blob_onnx: Path) -> None:
    names = ("sizes.mkv", "rate.avi", "endless.mp4", "size.webm", "long.mp4", "shear.mp4")
    outcomes = outcomes_of(PREDICT, [(str(blob_onnx), name, 0) for name in names])
    assert not limits.faults(outcomes), limits.table(outcomes)
    assert {outcome.kind for outcome in outcomes} == {"answered", "refused"}


@pytest.mark.long
@pytest.mark.parametrize("function", [READ, PREDICT])
def test_two_hundred_mutated_videos(function: str, blob_onnx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = [str(blob_onnx)] if function == PREDICT else []
    values = [(*before, kind, seed) for kind in videos.KINDS for seed in range(A_KIND)]
    outcomes = outcomes_of(function, [*values, *((*before, name, 0) for name in videos.LIES)])
    with capsys.disabled():
        print(f"\n{function}: {limits.table(outcomes, 0)}")
    assert not limits.faults(outcomes), limits.table(outcomes)


@pytest.mark.long
def test_every_lie_through_the_command_line(blob_onnx: Path, tmp_path: Path) -> None:
    outcomes = []
    for name in videos.LIES:
        (tmp_path / name).write_bytes(videos.LIES[name]())
        outcome = limits.command("predict", blob_onnx, name, "--out", f"{name}_out", folder=tmp_path)
        outcomes.append(limits.Outcome(name, outcome.kind, outcome.said, outcome.seconds))
        assert outcome.kind == "answered" or not list((tmp_path / f"{name}_out").glob("*")), name
    assert not limits.faults(outcomes), limits.table(outcomes)


def test_every_kind_is_read_whole(tmp_path: Path) -> None:
    for kind in videos.KINDS:
        path = tmp_path / f"{kind}{videos.suffix(kind)}"
        path.write_bytes(videos.whole(kind))
        [source] = sources.find([str(path)])
        frames = list(sources.frames(source))
        assert [frame.problem for frame in frames] == [None] * videos.FRAMES, kind


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere")
    (tmp_path / "zero.mp4").symlink_to("/dev/zero")
    [outcome] = limits.run("hostile.videos:read_folder", [str(tmp_path)], seconds=5)
    assert outcome.kind == "answered", outcome
    assert outcome.said.count("pipe") == 5, outcome.said
    assert outcome.said.count("; ") == 4, outcome.said


@pytest.mark.parametrize(
    ("seconds", "rate"),
    [
        ([0, -5, -(10**6)], 25),
        ([0, 10**6, 2 * 10**6], 25),
        ([0, 10**15, 10**16], 25),
        ([0, 2**63], 25),
        ([0, 1, 2], 10**9),
        ([None, None], Fraction(2**31 - 1, 3)),
        ([0, Fraction(1, 10**12)], -25),
    ],
)
def test_times_that_no_player_shows_are_drawn_in_turn(tmp_path: Path, seconds: list[Any], rate: Any) -> None:
    path = tmp_path / "drawn.mp4"
    image = np.zeros((48, 64, 3), np.uint8)
    with drawings.drawing(sources.Source("a", path, "video"), path) as draw:
        for second in seconds:
            shown = None if second is None else Fraction(second)
            draw(sources.Frame("a", image, rate=Fraction(rate), seconds=shown), image)
    times = [frame.seconds for frame in video.frames(path)]
    assert len(times) == len(seconds)
    assert times == sorted(set(times))


def test_a_video_too_large_for_players_is_drawn_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawings, "MOST_PIXELS", 32 * 24)
    path = tmp_path / "drawn.mp4"
    image = np.full((49, 64, 3), 120, np.uint8)
    with drawings.drawing(sources.Source("a", path, "video"), path) as draw:
        draw(sources.Frame("a", image), image)
    [frame] = video.frames(path)
    assert frame.image.shape == (24, 30, 3)
    assert abs(int(frame.image.mean()) - 120) < 4


def test_a_matrix_that_is_no_turn_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "shear.mp4").write_bytes(videos.LIES["shear.mp4"]())
    with caplog.at_level(logging.WARNING, "fiducial"):
        assert all(frame.image is not None for frame in sources.frames(sources.find([str(tmp_path)])[0]))
    assert caplog.messages == [
        f"{tmp_path / 'shear.mp4'}: its display matrix does more than turn by quarters and mirror; the nearest turn is taken"
    ]
