"""Clips from whatever people have: videos cut short, of changing sizes, folders of frames, stills, labelled sets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

av = pytest.importorskip("av")
pytest.importorskip("torch")
from conftest import write_blobs  # noqa: E402
from motion.discs import disc_frames, grey_level, write_pictures, write_video  # noqa: E402

from fiducial.data import crops, video  # noqa: E402
from fiducial.data.source import Source  # noqa: E402
from fiducial.errors import UserError  # noqa: E402
from fiducial.geometry import Size  # noqa: E402
from fiducial.motion import clips  # noqa: E402
from fiducial.motion.clips import Clips, ClipSpec  # noqa: E402

SIZE = Size(32, 24)
LEVELS = [20, 60, 100, 140, 180, 220]


def prepared(path: Path | Source, out: Path, spec: ClipSpec | None = None, **options: Any) -> Clips:
    return clips.prepare(Source.of(path), SIZE, 1.0, spec or ClipSpec(), out / "frames", **options)


def levels(found: Clips, clip: int = 0) -> list[int]:
    """The grey of each frame's middle."""
    return [int(found.frames[row, 12, 16].mean().round()) for row in found.rows(clip)]


def steps(count: int = 6) -> list[np.ndarray]:
    return [grey_level(level) for level in LEVELS[:count]]


def write_frames(folder: Path, count: int) -> None:
    write_pictures(folder, {f"{i}.png": picture for i, picture in enumerate(steps(count))})


# -------------------------------------------------------------------------------------------------------- videos


def test_a_video_s_frames_are_those_that_are_decoded_and_cut(tmp_path: Path) -> None:
    file = write_video(tmp_path / "in" / "a.mp4", disc_frames(7))
    found = prepared(tmp_path / "in", tmp_path / "run")
    expected = [crops.cut(frame.image, None, SIZE, 1.0)[0][0] for frame in video.frames(file)]
    np.testing.assert_array_equal(found.frames, expected)
    assert (found.index.names, found.index.counts, found.problems) == (("a.mp4",), (7,), [])
    assert found.where(6) == "a.mp4, frame 6"
    again = prepared(file, tmp_path / "alone")
    np.testing.assert_array_equal(again.frames, expected)
    assert again.index.names == ("a.mp4",)


@pytest.mark.parametrize(
    ("name", "settings", "tolerance"),
    [
        ("grey.mp4", {"pix_fmt": "gray"}, 6),
        ("deep.mp4", {"codec": "libx265", "pix_fmt": "yuv420p10le"}, 6),
        ("deep.mkv", {"codec": "ffv1", "pix_fmt": "yuv444p10le"}, 4),
        ("moving.gif", {"codec": "gif", "pix_fmt": "rgb8"}, 24),
        ("UPPER.MP4", {}, 6),
    ],
)
def test_kinds_of_videos(tmp_path: Path, name: str, settings: dict[str, str], tolerance: int) -> None:
    write_video(tmp_path / name, steps(), **settings)
    found = prepared(tmp_path, tmp_path / "run")
    assert found.problems == []
    assert levels(found) == pytest.approx(LEVELS, abs=tolerance)


def test_one_frame(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", steps(1))
    found = prepared(tmp_path, tmp_path / "run")
    assert found.index.counts == (1,)
    assert "1 still images" in found.index.used


def test_a_video_cut_short_gives_what_can_be_read_and_says_where(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    noise = [generator.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(20)]
    file = write_video(tmp_path / "in" / "cut.mp4", noise, options={"movflags": "+faststart"})
    os.truncate(file, file.stat().st_size // 2)
    found = prepared(tmp_path / "in", tmp_path / "run")
    [problem] = found.problems
    kept = found.index.counts[0]
    assert 3 < kept < 17
    assert problem.file == str(file)
    assert problem.what.startswith(f"ends after {kept} frames: ")


def test_sizes_that_change_on_the_way(tmp_path: Path) -> None:
    """Two transport streams one after the other are one; of each frame the whole is cut out."""
    for number, (width, height) in enumerate([(64, 48), (96, 72)]):
        frames = [grey_level(level, width, height) for level in LEVELS[3 * number : 3 * number + 3]]
        write_video(tmp_path / f"{number}.ts", frames, container="mpegts")
    joined = tmp_path / "in" / "both.mkv"
    joined.parent.mkdir()
    joined.write_bytes((tmp_path / "0.ts").read_bytes() + (tmp_path / "1.ts").read_bytes())
    assert {frame.image.shape for frame in video.frames(joined)} == {(48, 64, 3), (72, 96, 3)}
    found = prepared(tmp_path / "in", tmp_path / "run")
    assert levels(found) == pytest.approx(LEVELS, abs=6)
    assert found.frames[:, 0, 0].min() > 10, "no bars: all have the aspect of the network's input"


def test_what_is_no_video_is_named_and_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_video(folder / "good.mp4", steps())
    (folder / "bad.mp4").write_bytes(b"no video" * 100)
    (folder / "empty.mov").write_bytes(b"")
    with av.open(str(folder / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.rate = 8000
        container.mux(stream.encode(silence))
        container.mux(stream.encode())
    found = prepared(folder, tmp_path / "run")
    assert found.index.names == ("good.mp4",)
    assert [Path(problem.file).name for problem in found.problems] == ["bad.mp4", "empty.mov", "sound.mp4"]
    assert all(problem.what.startswith("ends after 0 frames: ") for problem in found.problems)


def test_nothing_that_can_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    with pytest.raises(UserError, match=r"in: no videos, folders of frames or images in it$"):
        prepared(folder, tmp_path / "run")
    (folder / "bad.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(UserError, match=r"in: no frame could be read; first .*bad.mp4: ends after 0 frames"):
        prepared(folder, tmp_path / "run")
    assert list((tmp_path / "run" / "frames").iterdir()) == []
    with pytest.raises(UserError, match="no such file or folder"):
        prepared(tmp_path / "missing", tmp_path / "run")


def test_no_more_frames_than_asked_for_evenly_over_the_clip(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", steps())
    write_pictures(tmp_path / "b", {f"{i}.png": frame for i, frame in enumerate(steps())})
    found = prepared(tmp_path, tmp_path / "run", ClipSpec(frames=3))
    assert found.index.counts == (3, 3)
    for clip in (0, 1):
        assert levels(found, clip) == pytest.approx(LEVELS[::2], abs=6)


# ------------------------------------------------------------------------------------------- folders and pictures


def test_a_folder_of_frames_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """Of any sizes; one that is broken is left out and named."""
    frames = {
        f"frame{number}.png": grey_level(level) for number, level in zip([2, 10, 1, 9, 100], LEVELS, strict=False)
    }
    write_pictures(tmp_path / "in" / "clip", frames | {"frame11.png": grey_level(220, 128, 96)})
    (tmp_path / "in" / "clip" / "frame3.png").write_bytes(b"no picture")
    (tmp_path / "in" / "clip" / ".frame4.png").write_bytes(b"another program's")
    found = prepared(tmp_path / "in", tmp_path / "run")
    assert found.index.names == ("clip",)
    assert levels(found) == [100, 20, 140, 60, 220, 180]  # 1 2 9 10 11 100
    [problem] = found.problems
    assert Path(problem.file).name == "frame3.png"
    assert problem.what.startswith("not a picture, or a damaged one")


def test_pictures_in_data_itself_are_stills(tmp_path: Path, said: list[str]) -> None:
    write_pictures(tmp_path / "in", {"a.png": grey_level(50), "b.jpg": grey_level(90)})
    (tmp_path / "in" / "b.txt").touch()
    write_pictures(tmp_path / "in" / "deep" / "one", {"c.PNG": grey_level(130)})
    found = prepared(tmp_path / "in", tmp_path / "run")
    assert found.index.names == ("a.png", "b.jpg", "deep/one")
    assert f"{tmp_path / 'in'}: 1 file is by name neither image nor video and left out: b.txt" in said
    assert "3 still images (they are moved by random warps; labels are not used)" in found.index.used
    alone = prepared(tmp_path / "in" / "deep" / "one" / "c.PNG", tmp_path / "alone")
    assert alone.index.names == ("c.PNG",)


def test_labelled_set_beside_a_video(tmp_path: Path) -> None:
    """The boxes of train and val are stills, cut as for training; val is held out, the video is learnt from."""
    root = write_blobs(tmp_path / "in", {"train": 5, "val": 2, "test": 3})
    write_video(root / "more" / "a.mp4", disc_frames(4))
    (root / "images" / "train_1.png").write_bytes(b"broken")
    found = clips.prepare(Source(root), SIZE, 1.5, ClipSpec(), tmp_path / "run" / "frames")
    assert found.index.names == ("train/1", "train/3", "train/4", "train/5", "val/1", "val/2", "more/a.mp4")
    assert found.index.held_out == (False, False, False, False, True, True, False)
    assert found.index.used == (
        "1 clips of 4 frames and 6 still images (they are moved by random warps; labels are not used), cut to 32x24; "
        "held out for scoring: val/1, val/2"
    )
    assert any("train_1.png" in str(problem) for problem in found.problems)
    from fiducial.data import annotations

    instances, _ = annotations.load(root, "val")
    expected = crops.cut(instances.images.read(0), instances.box_xywh[:1], SIZE, 1.5)[0][0]
    np.testing.assert_array_equal(found.frames[4], expected)


@pytest.mark.parametrize(("options", "named"), [({"images": Path("x")}, "--images"), ({"category": "x"}, "--category")])
def test_options_about_annotations_where_there_are_none(tmp_path: Path, options: dict[str, Any], named: str) -> None:
    write_video(tmp_path / "a.mp4", steps())
    with pytest.raises(UserError, match=f"{named}: is about annotations"):
        prepared(Source(tmp_path, **options), tmp_path / "run")


# ------------------------------------------------------------------------------------------------------- held out


def held_out(folder: Path, names: list[str], out: Path, **spec: Any) -> list[str]:
    for name in names:
        write_video(folder / name, steps(2))
    index = prepared(folder, out, ClipSpec(**spec)).index
    return [name for name, chosen in zip(index.names, index.held_out, strict=True) if chosen]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.mp4"], []),
        (["a.mp4", "b.mp4"], ["b.mp4"]),
        ([f"{i}.mp4" for i in range(1, 5)], ["4.mp4"]),
        ([f"{i}.mp4" for i in range(1, 12)], ["5.mp4", "10.mp4"]),
        (["train/a.mp4", "test/b.mp4", "validation/c.mp4", "d.mp4"], ["test/b.mp4", "validation/c.mp4"]),
        (["val.mp4", "b.mp4", "c.mp4"], ["val.mp4"]),
    ],
)
def test_which_clips_are_held_out(tmp_path: Path, names: list[str], expected: list[str]) -> None:
    """Folders speak of splits, files do not: val.mp4 is the last by name."""
    assert held_out(tmp_path / "in", names, tmp_path / "run") == expected


def test_named_clips_are_held_out(tmp_path: Path) -> None:
    assert held_out(tmp_path / "in", ["a.mp4", "x/b.mp4", "c.mp4"], tmp_path / "run", held_out=("x/b.mp4",)) == [
        "x/b.mp4"
    ]


def test_unknown_names_are_refused_before_anything_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "in" / "alpha.mp4", steps(2))
    write_video(tmp_path / "in" / "beta.mp4", steps(2))
    monkeypatch.setattr(video, "frames", None)
    with pytest.raises(UserError, match=r"has no clip 'alhpa\.mp4'\. Did you mean 'alpha\.mp4'\?.*held_out=\[\]"):
        prepared(tmp_path / "in", tmp_path / "run", ClipSpec(held_out=("alhpa.mp4",)))
    assert not (tmp_path / "run").exists()


def test_all_held_out(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="all 2 clips are held out, none is left to learn from"):
        held_out(tmp_path / "in", ["val/a.mp4", "val/b.mp4"], tmp_path / "run")
    assert list((tmp_path / "run" / "frames").iterdir()) == []


# --------------------------------------------------------------------------------------------------------- kept


def test_frames_are_made_once_and_of_the_same_sources(tmp_path: Path) -> None:
    file = write_video(tmp_path / "in" / "a.mp4", steps())
    first = prepared(tmp_path / "in", tmp_path / "run")
    made = (tmp_path / "run" / "frames" / clips.FRAMES).stat()
    again = prepared(tmp_path / "in", tmp_path / "run")
    assert again.index == first.index
    assert (tmp_path / "run" / "frames" / clips.FRAMES).stat() == made
    write_video(file, steps(3))
    with pytest.raises(UserError, match="was made from other videos or settings"):
        prepared(tmp_path / "in", tmp_path / "run")
    assert prepared(tmp_path / "in", tmp_path / "run", anew=True).index.counts == (3,)


def test_frames_that_are_not_whole_are_made_again(tmp_path: Path) -> None:
    write_video(tmp_path / "in" / "a.mp4", steps())
    expected = np.array(prepared(tmp_path / "in", tmp_path / "run").frames)
    os.truncate(tmp_path / "run" / "frames" / clips.FRAMES, 100)
    np.testing.assert_array_equal(prepared(tmp_path / "in", tmp_path / "run").frames, expected)


def test_a_study_inside_of_data_is_none_of_its_runs_clips(tmp_path: Path) -> None:
    """Its runs look at frames that are linked to the study's, and write pictures."""
    write_frames(tmp_path / "in" / "clip", 3)
    study = tmp_path / "in" / "study"
    whole = prepared(tmp_path / "in", study)
    write_frames(study / "runs" / "first" / "pictures", 2)
    (study / "runs" / "second").mkdir()
    (study / "runs" / "second" / "frames").symlink_to(study / "frames")
    found = prepared(tmp_path / "in", study / "runs" / "second", anew=False)
    assert found.index == whole.index


def test_clips_by_name_and_stills_as_one(tmp_path: Path) -> None:
    write_frames(tmp_path / "in" / "clip", 3)
    write_frames(tmp_path / "in", 2)
    found = prepared(tmp_path / "in", tmp_path / "run")
    names = found.index.names
    both = found.grouped(range(3))
    assert [name for name, _ in both] == ["clip", "2 stills"]
    assert sorted(clip for _, some in both for clip in some) == [0, 1, 2]
    assert both[0][1] == [names.index("clip")]
    assert found.grouped([names.index("clip")]) == both[:1]


def test_a_run_inside_of_data_is_none_of_its_clips(tmp_path: Path) -> None:
    """Else a run in the folder of the videos could not be resumed: its own pictures would be new clips."""
    write_video(tmp_path / "a.mp4", steps())
    first = prepared(tmp_path, tmp_path / "run")
    write_pictures(tmp_path / "run" / "pictures", {"points.png": grey_level(10)})
    assert prepared(tmp_path, tmp_path / "run").index == first.index
    inside = prepared(tmp_path / "run" / "pictures", tmp_path / "run" / "other", anew=True)
    assert inside.index.names == ("points.png",), "but what is asked for by name is a clip wherever it is"
