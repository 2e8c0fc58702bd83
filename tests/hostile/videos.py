"""Videos of many containers and codecs, whole, mutated and lying; run in processes with limits by `test_videos`."""

from __future__ import annotations

import random
import struct
import tempfile
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from hostile import pictures

# {kind: (suffix, container, codec, pixels)}; small containers of each family that FFmpeg writes.
WRITTEN = {
    "mp4": ("mp4", "mp4", "h264", "yuv420p"),
    "mpeg4": ("mp4", "mp4", "mpeg4", "yuv420p"),
    "hevc": ("mov", "mov", "hevc", "yuv420p"),
    "h264": ("h264", "h264", "h264", "yuv420p"),
    "mkv": ("mkv", "matroska", "h264", "yuv420p"),
    "vp8": ("webm", "webm", "libvpx", "yuv420p"),
    "vp9": ("webm", "webm", "libvpx-vp9", "yuv420p"),
    "avi": ("avi", "avi", "mjpeg", "yuvj420p"),
    "divx": ("avi", "avi", "mpeg4", "yuv420p"),
    "gif": ("gif", "gif", "gif", "rgb8"),
    "ts": ("ts", "mpegts", "h264", "yuv420p"),
    "mpg": ("mpg", "mpeg", "mpeg2video", "yuv420p"),
    "flv": ("flv", "flv", "flv", "yuv420p"),
    "wmv": ("wmv", "asf", "wmv2", "yuv420p"),
    "3gp": ("3gp", "3gp", "h263", "yuv420p"),
    "png": ("avi", "avi", "png", "rgb24"),
}
KINDS = tuple(WRITTEN)
FRAMES = 8


def suffix(kind: str) -> str:
    return f".{WRITTEN[kind][0]}" if kind in WRITTEN else f".{kind.partition('.')[2]}"


@cache
def whole(kind: str) -> bytes:
    """The bytes of a sound video: 8 frames, each shifted a little."""
    ending, container_name, codec, pixels = WRITTEN[kind]
    size = (176, 144) if codec == "h263" else (64, 48)
    still = cv2.resize(np.random.default_rng(3).integers(0, 255, (6, 8, 3), dtype=np.uint8), size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"video.{ending}"
        with av.open(str(path), "w", format=container_name) as container:
            stream: Any = container.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = *size, pixels
            for number in range(FRAMES):
                frame = av.VideoFrame.from_ndarray(np.roll(still, 2 * number, axis=1), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path.read_bytes()


def mutated(kind: str, seed: int) -> bytes:
    """The bytes with some changed, as those of pictures, or with numbers of its header set to extremes."""
    dice = random.Random(f"{kind} {seed}")
    if dice.random() < 0.03:
        return dice.choice([b"", bytes(3000), b"GIF89a", b"\0\0\0\x18ftypmp42"])
    return pictures.changed(whole(kind), dice)


def boxed(data: bytes, fourcc: bytes, offset: int, value: bytes) -> bytes:
    """An MP4 with bytes of its first box of a kind replaced, counted from the kind's name on."""
    at = data.index(fourcc) + 4 + offset
    return data[:at] + value + data[at + len(value) :]


def with_matrix(data: bytes, a: float, b: float, c: float, d: float) -> bytes:
    """An MP4 with this matrix in its track's header (ISO 14496-12, 8.3.2): players show a stored point (x, y) at
    (a x + c y, b x + d y), moved into sight."""
    start = data.index(b"tkhd") - 4
    end = start + int.from_bytes(data[start : start + 4], "big")
    values = [round(value * 65536) for value in (a, b, 0, c, d, 0, 0, 0)] + [0x40000000]
    return data[: end - 44] + struct.pack(">9i", *values) + data[end - 8 :]


def of_packets(packets: list[bytes], codec: str = "mjpeg", size: tuple[int, int] = (64, 48)) -> bytes:
    """A Matroska or AVI file of packets as they are, on whose pictures its header says nothing."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("video.avi" if codec == "png" else "video.mkv")
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream(codec, rate=25)
            stream.width, stream.height = size
            stream.pix_fmt = {"mjpeg": "yuvj420p", "png": "rgb24"}[codec]
            for number, data in enumerate(packets):
                packet = av.Packet(data)
                packet.stream, packet.time_base, packet.pts, packet.dts = stream, Fraction(1, 25), number, number
                container.mux(packet)
        return path.read_bytes()


def sound() -> bytes:
    """A Matroska file without a picture."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound.mkv"
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream("pcm_s16le", rate=8000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            frame.sample_rate = 8000
            container.mux(stream.encode(frame))
        return path.read_bytes()


def _jpeg(width: int, height: int) -> bytes:
    return cv2.imencode(".jpg", np.full((height, width, 3), 90, np.uint8))[1].tobytes()


def _sized_vp8(width: int, height: int) -> bytes:
    """Of the key frame's own 14 bits a side, behind its start code (RFC 6386, 9.1)."""
    data = whole("vp8")
    at = data.index(b"\x9d\x01\x2a") + 3
    return data[:at] + struct.pack("<HH", width, height) + data[at + 4 :]


def _packed_gif(width: int, height: int) -> bytes:
    data = whole("gif")
    return data[:6] + struct.pack("<HH", width, height) + data[10:]


BIGGEST = b"\xff\xff\xff\xff"
LIES: dict[str, Callable[[], bytes]] = {
    "nothing.mp4": lambda: b"",
    "zeros.mkv": lambda: bytes(10_000),
    "text.avi": lambda: b"no video at all\n" * 100,
    "playlist.mp4": lambda: b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/etc/passwd\n#EXT-X-ENDLIST\n",
    "concat.mp4": lambda: b"ffconcat version 1.0\nfile /etc/passwd\n",
    "sound.mkv": sound,
    "half.mp4": lambda: whole("mp4")[: len(whole("mp4")) // 2],
    "head.mkv": lambda: whole("mkv")[:600],
    "endless.mp4": lambda: boxed(whole("mp4"), b"mdhd", 16, BIGGEST),
    "long.mp4": lambda: boxed(whole("mp4"), b"stts", 12, b"\x7f\xff\xff\xff"),
    "many.mp4": lambda: boxed(whole("mp4"), b"stts", 8, BIGGEST),
    "samples.mp4": lambda: boxed(whole("mp4"), b"stsz", 8, BIGGEST),
    "timeless.mp4": lambda: boxed(whole("mp4"), b"mdhd", 12, bytes(4)),
    "timeless_movie.mp4": lambda: boxed(whole("mp4"), b"mvhd", 12, bytes(4)),
    "ticks.mp4": lambda: boxed(whole("mp4"), b"mdhd", 12, BIGGEST),
    "rate.avi": lambda: boxed(whole("avi"), b"strh", 24, bytes(8)),
    "size.mp4": lambda: boxed(whole("mpeg4"), b"mp4v", 24, BIGGEST),
    "size.gif": lambda: _packed_gif(65_535, 65_535),
    "large.gif": lambda: _packed_gif(2000, 1500),
    "size.webm": lambda: _sized_vp8(16_383, 16_383),
    "large.webm": lambda: _sized_vp8(2000, 1500),
    "hidden.mkv": lambda: of_packets([pictures.large_jpeg(32_000)] * 3),
    "metadata.mp4": lambda: whole("mp4").replace(b"VideoHandler", b"Video\xff\xfe\x80\xc3(rr"),
    "scans.mkv": lambda: of_packets([pictures.many_scans(2000, 200)] * 3),
    "black.avi": lambda: of_packets([pictures.png(20_000, 2000)], "png"),
    "sizes.mkv": lambda: of_packets([_jpeg(64, 48), _jpeg(33, 77), _jpeg(2000, 5), _jpeg(1, 1), _jpeg(64, 48)]),
    "shear.mp4": lambda: with_matrix(whole("mp4"), 1, 0.3, -0.2, 1),
    "flat.mp4": lambda: with_matrix(whole("mp4"), 0, 0, 0, 0),
    "zoom.mp4": lambda: with_matrix(whole("mp4"), 30_000, 0, 0, 30_000),
}


def content(kind: str, seed: int) -> bytes:
    return mutated(kind, seed) if kind in WRITTEN else LIES[kind]()


def read_one(value: Any) -> str:
    """Reads the frames of a video, as predict and training without labels do."""
    from fiducial.prediction import sources

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"video{suffix(value[0])}"
        path.write_bytes(content(*value))
        [source] = sources.find([str(path)])
        sources.count([source])
        said = []
        for frame in sources.frames(source):
            assert frame.image is None or (frame.image.dtype == np.uint8 and frame.image.shape[2:] == (3,))
            said += [str(frame.problem)] if frame.problem else []
    return "; ".join(said).replace(folder, "")


def read_folder(folder: str) -> str:
    """Looks at all that lies in a folder."""
    from fiducial.prediction import sources

    found = sources.find([folder])
    sources.count(found)
    return "; ".join(str(frame.problem) for source in found for frame in sources.frames(source)).replace(folder, "")


def predict_one(value: Any) -> str:
    """Obeys `predict` of a model that is named in the value."""
    from fiducial.prediction import predict
    from fiducial.prediction.pipeline import Choices
    from fiducial.prediction.smoothing import OneEuro

    model, *which = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"video{suffix(which[0])}"
        path.write_bytes(content(*which))
        choices = Choices(track=which[1] % 2 == 1, smooth=OneEuro(1.0) if which[1] % 2 else None)
        found = predict.predict_sources(Path(model), [str(path)], Path(folder) / "out", choices=choices)
        assert len(found.results) == found.instances == found.images > 0
    return "; ".join(found.problems).replace(folder, "")
