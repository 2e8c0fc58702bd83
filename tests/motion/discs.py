"""Videos of a disc that goes round, and other clips, made in the test."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange


def disc_frames(count: int, seed: int = 0, side: int = 64) -> list[np.ndarray]:
    """A disc of one colour on a ground of soft noise, once round."""
    generator = np.random.default_rng(seed)
    ground = cv2.GaussianBlur(generator.integers(0, 255, (side, side, 3), dtype=np.uint8), (0, 0), 3)
    colour = generator.integers(120, 255, 3).tolist()
    frames = []
    for turn in np.linspace(0, 2 * np.pi, count, endpoint=False):
        frame = ground.copy()
        centre = [round(side * (0.5 + 0.25 * float(place)) * 16) for place in (np.cos(turn), np.sin(turn))]
        cv2.circle(frame, centre, side // 6 * 16, colour, -1, cv2.LINE_AA, 4)
        frames.append(frame)
    return frames


def grey_level(level: int, width: int = 64, height: int = 48) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def write_video(
    path: Path,
    frames: Iterable[np.ndarray],
    *,
    codec: str = "h264",
    pix_fmt: str = "yuv420p",
    container: str | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """`container` is ffmpeg's name of the form where the file's name does not say it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=container, options=options or {}) as opened:
        stream = None
        for frame in frames:
            if stream is None:
                stream = opened.add_stream(codec, rate=10)
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = pix_fmt
                if pix_fmt == "gray":  # made with black at 0, which the file must say
                    stream.codec_context.color_range = ColorRange.JPEG
            opened.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=pix_fmt)))
        if stream is not None:
            opened.mux(stream.encode())
    return path


def write_pictures(folder: Path, frames: dict[str, np.ndarray]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        cv2.imwrite(str(folder / name), frame[:, :, ::-1])
    return folder
