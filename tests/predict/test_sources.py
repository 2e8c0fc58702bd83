"""What predict looks at: folders, equal names, broken files, videos."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fiducial.errors import UserError
from fiducial.prediction import sources
from fiducial.prediction.sources import Frame

av = pytest.importorskip("av")

from hostile import videos  # noqa: E402


def write_picture(path: Path, grey: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((20, 31, 3), grey, np.uint8))
    return path


def write_video(path: Path, greys: list[int], rate: int = 12, options: dict[str, str] | None = None) -> Path:
    """One frame a grey level, 48x34 px, a white square in the upper left."""
    with av.open(str(path), "w", options=options or {}) as container:
        gif = path.suffix == ".gif"
        stream = container.add_stream("gif" if gif else "h264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 48, 34, "rgb8" if gif else "yuv420p"
        for grey in greys:
            picture = np.full((34, 48, 3), grey, np.uint8)
            picture[:10, :10] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def all_frames(*given: Path | str) -> list[Frame]:
    return [frame for source in sources.find([str(item) for item in given]) for frame in sources.frames(source)]


def test_a_folder_is_searched_to_the_bottom(tmp_path: Path) -> None:
    for number, name in enumerate(["b.png", "a/c.jpg", "a/d/e.JPG", "._b.png", "a/.hidden.png"]):
        write_picture(tmp_path / name, 10 * number)
    (tmp_path / "notes.txt").write_text("no picture")
    found = all_frames(tmp_path)
    assert [frame.name for frame in found] == ["a/c.jpg", "a/d/e.JPG", "b.png"]
    assert [int(frame.image.mean()) for frame in found if frame.image is not None] == [10, 20, 0]
    assert sources.count(sources.find([str(tmp_path)])) == 3


def test_what_a_folder_holds_besides_is_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_picture(tmp_path / "a.png", 0)
    for name in ("b.txt", "deep/c.json", *(f"{letter}.xml" for letter in "defgh"), ".hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with caplog.at_level(logging.WARNING, "fiducial"):
        assert len(all_frames(tmp_path)) == 1
    assert caplog.messages == [
        f"{tmp_path}: 7 files are by name neither image nor video and left out: "
        "b.txt, d.xml, deep/c.json, e.xml, f.xml and 2 more"
    ]
    caplog.clear()
    assert len(all_frames(tmp_path / "a.png")) == 1
    assert not caplog.messages


@pytest.mark.parametrize("ending", ["jpg", "jfif", "jpe", "avif", "jp2", "heic", "Jpg", "PNG", "ppm"])
def test_images_of_less_usual_names(tmp_path: Path, ending: str) -> None:
    """Those that OpenCV reads; a JPEG is often called HEIC."""
    kind = {"avif": ".avif", "jp2": ".jp2", "ppm": ".ppm", "PNG": ".png"}.get(ending, ".jpg")
    data = cv2.imencode(kind, np.full((60, 93, 3), 90, np.uint8))[1].tobytes()
    (tmp_path / f"a.{ending}").write_bytes(data)
    [frame] = all_frames(tmp_path)
    assert frame.image is not None
    assert abs(float(frame.image.mean()) - 90) < 3


@pytest.mark.parametrize("kind", ["wmv", "ts", "flv", "3gp", "h264", "mpg"])
@pytest.mark.parametrize("name", ["clip", "clip.data"])
def test_a_file_that_is_no_image_is_tried_as_a_video(tmp_path: Path, kind: str, name: str) -> None:
    (tmp_path / name).write_bytes(videos.whole(kind))
    assert len(all_frames(tmp_path / name)) == videos.FRAMES
    (tmp_path / name).rename(tmp_path / f"clip.{kind.upper()}")
    assert len(all_frames(tmp_path)) == videos.FRAMES


def test_a_video_that_is_called_an_image(tmp_path: Path) -> None:
    (tmp_path / "clip.jpg").write_bytes(videos.whole("mp4"))
    assert len(all_frames(tmp_path / "clip.jpg")) == videos.FRAMES


def test_what_is_neither_is_a_problem_of_an_image(tmp_path: Path) -> None:
    (tmp_path / "a.data").write_bytes(b"neither")
    (tmp_path / "b.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    problems = [str(frame.problem) for frame in all_frames(tmp_path / "a.data", tmp_path / "b.heic")]
    assert "a.data: not a picture, or a damaged one" in problems[0]
    assert "b.heic: it looks like HEIC" in problems[1]


def test_a_name_is_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg takes what stands before a colon for a protocol, and %d for a row of files."""
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "clip.mp4", [20, 90]).rename("a:b%d.mp4")
    assert len(all_frames("a:b%d.mp4")) == 2


def test_equal_names_from_two_folders_stay_apart(tmp_path: Path) -> None:
    for number, name in enumerate(["x/a.png", "y/a.png", "x/deep/a.png", "z/x/a.png"]):
        write_picture(tmp_path / name, 10 * number)
    found = all_frames(tmp_path / "x", tmp_path / "y", tmp_path / "z" / "x" / "a.png")
    assert [frame.name for frame in found] == ["a.png", "deep/a.png", "y/a.png", "x/a.png"]
    assert [int(frame.image.mean()) for frame in found if frame.image is not None] == [0, 20, 10, 30]


def test_a_file_given_twice_is_looked_at_once(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", 10)
    assert len(all_frames(tmp_path, tmp_path / "a.png", f"{tmp_path}/../{tmp_path.name}/a.png")) == 1


def test_an_unreadable_image_is_a_problem_among_good_ones(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", 10)
    (tmp_path / "b.jpg").write_bytes(b"nonsense")
    (tmp_path / "c.jpg").write_bytes(write_picture(tmp_path / "d.jpg", 30).read_bytes()[:200])
    found = all_frames(tmp_path)
    assert [frame.image is None for frame in found] == [False, True, True, False]
    assert "b.jpg" in str(found[1].problem)
    assert "c.jpg" in str(found[2].problem)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif"])
def test_a_video_comes_frame_by_frame(tmp_path: Path, name: str) -> None:
    greys = [20, 90, 160, 230, 50]
    path = write_video(tmp_path / name, greys, rate=10)
    found = all_frames(path)
    assert [frame.name for frame in found] == [f"{name}#{number:06d}" for number in range(5)]
    for frame, grey in zip(found, greys, strict=True):
        assert frame.image is not None
        assert frame.image.shape == (34, 48, 3)
        assert abs(float(frame.image[20:, 20:].mean()) - grey) < 20  # a GIF has 6 levels a channel
        assert frame.rate == Fraction(10)
    assert sources.count(sources.find([str(path)])) == 5


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_a_phone_s_video_is_turned_upright(tmp_path: Path, quarter_turns: int) -> None:
    """OpenCV's reader, which turns by itself, is the oracle."""
    path = write_video(tmp_path / "phone.mp4", [40, 80])
    a, b, c, d = {1: (0, 1, -1, 0), 2: (-1, 0, 0, -1), 3: (0, -1, 1, 0)}[quarter_turns]
    path.write_bytes(videos.with_matrix(path.read_bytes(), a, b, c, d))
    capture = cv2.VideoCapture(str(path))
    there, expected = capture.read()
    assert there
    image = all_frames(path)[0].image
    assert image is not None
    assert image.shape == ((34, 48, 3) if quarter_turns == 2 else (48, 34, 3))
    assert np.abs(image.astype(int) - expected[..., ::-1]).max() < 12


@pytest.mark.parametrize("swaps", [False, True])
@pytest.mark.parametrize("x", [1, -1])
@pytest.mark.parametrize("y", [1, -1])
def test_a_video_is_shown_as_its_display_matrix_says(tmp_path: Path, swaps: bool, x: int, y: int) -> None:
    """All turns and mirrors: a stored point (x, y) is shown at (a x + c y, b x + d y), by ISO 14496-12."""
    path = write_video(tmp_path / "clip.mp4", [120, 60])
    stored = all_frames(path)[0].image
    assert stored is not None
    a, b, c, d = (0, y, x, 0) if swaps else (x, 0, 0, y)
    path.write_bytes(videos.with_matrix(path.read_bytes(), a, b, c, d))
    image = all_frames(path)[0].image
    assert image is not None
    stored_y, stored_x = np.mgrid[: stored.shape[0], : stored.shape[1]]
    shown_x, shown_y = a * stored_x + c * stored_y, b * stored_x + d * stored_y
    expected = np.zeros((stored.shape[1], stored.shape[0], 3) if swaps else stored.shape, np.uint8)
    expected[shown_y - shown_y.min(), shown_x - shown_x.min()] = stored
    assert np.array_equal(image, expected)


def test_a_video_that_ends_early_says_where(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    greys = rng.integers(0, 255, 60).tolist()
    path = write_video(tmp_path / "clip.mp4", greys, options={"movflags": "+faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - (len(data) - data.index(b"mdat")) // 2])
    found = all_frames(path)
    good = [frame for frame in found if frame.image is not None]
    assert 0 < len(good) < 60
    assert found[-1].image is None
    assert f"ends after {len(good)} frames" in str(found[-1].problem)


@pytest.mark.parametrize("content", [b"", b"no video at all", b"\0\0\0\x18ftypmp42"])
def test_a_file_that_is_no_video_is_a_problem(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "clip.mp4").write_bytes(content)
    found = all_frames(tmp_path / "clip.mp4")
    assert len(found) == 1
    assert "clip.mp4: ends after 0 frames" in str(found[0].problem)
    assert sources.count(sources.find([str(tmp_path / "clip.mp4")])) is None


def test_the_times_are_the_stream_s(tmp_path: Path) -> None:
    """Of a video whose frames are shown for 1 to 40 ticks, beginning late."""
    ticks = [30, 31, 35, 75, 76, 90]
    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        stream = container.add_stream("h264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 34, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 100)
        for tick in ticks:
            frame = av.VideoFrame.from_ndarray(np.full((34, 48, 3), tick, np.uint8), format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    found = all_frames(tmp_path / "clip.mkv")
    assert [frame.seconds for frame in found] == [Fraction(tick - ticks[0], 100) for tick in ticks]
    assert [frame.seconds for frame in all_frames(write_picture(tmp_path / "a.png", 3))] == [None]


@pytest.mark.parametrize("pixels", ["gray", "yuv420p10le", "yuv444p", "gray10le", "yuvj420p"])
def test_any_kind_of_pixels_becomes_rgb(tmp_path: Path, pixels: str) -> None:
    """A white square on grey 100, losslessly kept. One frame is a video, too."""
    picture = np.full((34, 48, 3), 100, np.uint8)
    picture[:10, :10] = 255
    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        stream = container.add_stream("ffv1" if pixels != "yuvj420p" else "mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 34, pixels
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)))
        container.mux(stream.encode())
    [frame] = all_frames(tmp_path / "clip.mkv")
    assert frame.image is not None
    assert np.abs(frame.image.astype(int) - picture)[2:8, 2:8].max() <= 4
    assert np.abs(frame.image.astype(int) - picture)[14:, 14:].max() <= 4


def write_sizes(path: Path, sizes: list[tuple[int, int]]) -> Path:
    """Motion JPEG, each frame of its own (width, height), on which the header says nothing."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = *sizes[0], "yuvj420p"
        for number, (width, height) in enumerate(sizes):
            encoded = cv2.imencode(".jpg", np.full((height, width, 3), 20 * number, np.uint8))[1].tobytes()
            packet = av.Packet(encoded)
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = number
            container.mux(packet)
    return path


def test_a_video_may_change_its_size(tmp_path: Path) -> None:
    sizes = [(48, 34), (48, 34), (64, 50), (30, 50), (48, 34)]
    found = all_frames(write_sizes(tmp_path / "clip.mkv", sizes))
    assert [frame.image.shape[1::-1] for frame in found if frame.image is not None] == sizes
    assert [round(float(frame.image.mean()) / 20) for frame in found if frame.image is not None] == [0, 1, 2, 3, 4]


def test_a_cover_is_not_the_video(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        cover, film = container.add_stream("mjpeg", rate=25), container.add_stream("h264", rate=25)
        for stream, pixels, size in ((cover, "yuvj420p", 200), (film, "yuv420p", 48)):
            stream.width, stream.height, stream.pix_fmt = size, size, pixels
        for stream, size, greys in ((cover, 200, [9]), (film, 48, [20, 90, 160])):
            for grey in greys:
                frame = av.VideoFrame.from_ndarray(np.full((size, size, 3), grey, np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    assert [frame.image.shape for frame in all_frames(path) if frame.image is not None] == [(48, 48, 3)] * 3


def test_a_video_without_a_frame_is_a_problem(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        stream = container.add_stream("h264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 34, "yuv420p"
        container.start_encoding()
    found = all_frames(tmp_path / "clip.mkv")
    assert len(found) == 1
    assert "clip.mkv: ends after 0 frames" in str(found[0].problem)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    found = all_frames(tmp_path / "clip.mkv")
    assert [str(frame.problem) for frame in found] == [
        f"{tmp_path / 'clip.mkv'}: ends after 0 frames: there is no picture in it, sound at most"
    ]


def test_a_missing_source_is_said_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.jpg: no such file or folder$"):
        sources.find([str(write_picture(tmp_path / "a.png", 1)), str(tmp_path / "nowhere.jpg")])
    write_picture(tmp_path / "IMG_0042.png", 1)
    with pytest.raises(UserError, match=r"IMG_042\.png: no such file or folder\. Did you mean '.*/IMG_0042\.png'\?"):
        sources.find([str(tmp_path / "IMG_042.png")])
    for camera in ("0", "camera", "webcam1"):
        with pytest.raises(UserError, match=rf"{camera}: no such file or folder; a camera is written camera:0"):
            sources.find([camera])


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(UserError, match="no images or videos in this folder"):
        sources.find([str(tmp_path)])


class FakeCamera:
    """Three frames, of which OpenCV gives BGR; then nothing."""

    def __init__(self, number: int) -> None:
        self.left, self.released = 3 if number == 7 else 0, False
        self.there = number == 7

    def isOpened(self) -> bool:  # noqa: N802
        return self.there

    def get(self, what: int) -> float:
        return 29.97

    def read(self) -> tuple[bool, Any]:
        self.left -= 1
        return (True, np.full((4, 6, 3), (1, 2, 3), np.uint8)) if self.left >= 0 else (False, None)

    def release(self) -> None:
        self.released = True


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)


@pytest.mark.usefixtures("camera")
def test_a_camera_gives_rgb_until_it_ends() -> None:
    found = all_frames("camera:7")
    assert [frame.name for frame in found] == ["camera7#000000", "camera7#000001", "camera7#000002"]
    assert found[0].image is not None
    assert found[0].image[0, 0].tolist() == [3, 2, 1]
    assert found[0].rate == Fraction(2997, 100)
    seconds = [frame.seconds for frame in found if frame.seconds is not None]
    assert len(seconds) == 3
    assert seconds == sorted(seconds)
    assert 0 <= seconds[0] < 5
    assert sources.count(sources.find(["camera:7"])) is None


@pytest.mark.usefixtures("camera")
@pytest.mark.parametrize(
    ("name", "message"), [("camera:3", "no such camera"), ("camera:front", "expected camera:NUMBER")]
)
def test_a_camera_that_is_not_there(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        all_frames(name)


def test_patterns_that_no_shell_has_spelt_out(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "deep/c.png", "[d].png"):
        write_picture(tmp_path / name, 9)
    found = [source.name for source in sources.find([str(tmp_path / "?.png")])]
    assert found == ["a.png", "b.png"]
    assert [source.name for source in sources.find([str(tmp_path / "**/c.png")])] == ["c.png"]
    assert [source.name for source in sources.find([str(tmp_path / "[d].png")])] == ["[d].png"], (
        "a file of that very name"
    )
    with pytest.raises(UserError, match=r"\*\.gif: no file's name is like this pattern"):
        sources.find([str(tmp_path / "*.gif")])
    with pytest.raises(UserError, match=r"https://a\.org/x\.jpg: addresses are not read but into --out FILE\.parquet"):
        sources.find(["https://a.org/x.jpg"])
