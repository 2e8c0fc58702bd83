"""A film of one dark animal on a bright floor, as clips to learn from without labels: its first four fifths and its last, to
be held out; whole, or cut out around the animal.

    python benchmarks/mouse_clips.py mouse_openfield_m3v1.mp4 OUT [--side 160]
    fiducial fit OUT --out runs/mouse --method motion --epochs 8 --set motion.pairs=2000 \\
      --set 'motion.clips.held_out=["last.mp4"]'

Where the animal is: the middle of what is darker than the film's median picture, smoothed over nine frames."""

from __future__ import annotations

import argparse
from pathlib import Path

import av
import cv2
import numpy as np

from fiducial.data import video

SMALL = 4  # px of the film a px in which the animal is looked for
DARKER = 40  # grey levels
SMOOTHED = 9  # frames


def middles(frames: list[np.ndarray]) -> np.ndarray:
    """[n, 2] px: where the animal is; where it is not seen, where it was."""
    height, width = (length // SMALL for length in frames[0].shape[:2])
    grey = np.stack([cv2.resize(frame[..., 1], (width, height), interpolation=cv2.INTER_AREA) for frame in frames])
    floor = np.median(grey[::20], axis=0)
    found = [np.array([width, height]) * SMALL / 2]
    for picture in grey:
        y, x = np.nonzero(floor - picture > DARKER)
        found.append(SMALL * np.array([x.mean(), y.mean()]) if len(x) > 20 else found[-1])
    padded = np.pad(np.stack(found[1:]), ((SMOOTHED // 2,) * 2, (0, 0)), mode="edge")
    return np.stack([np.convolve(axis, np.full(SMOOTHED, 1 / SMOOTHED), "valid") for axis in padded.T], axis=1)


def cut_out(frame: np.ndarray, middle: np.ndarray, side: int) -> np.ndarray:
    """[side, side, 3], inside the frame."""
    height, width = frame.shape[:2]
    x, y = (
        int(np.clip(round(at - side / 2), 0, most - side)) for at, most in zip(middle, (width, height), strict=True)
    )
    return np.ascontiguousarray(frame[y : y + side, x : x + side])


def write(path: Path, frames: list[np.ndarray]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "12"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--side", type=int, help="px of what is cut out around the animal; without, whole frames")
    options = parser.parse_args()
    frames = [decoded.image for decoded in video.frames(options.film)]
    if options.side is not None:
        frames = [cut_out(*each, options.side) for each in zip(frames, middles(frames), strict=True)]
    options.out.mkdir(parents=True, exist_ok=True)
    last = len(frames) * 4 // 5
    write(options.out / "first.mp4", frames[:last])
    write(options.out / "last.mp4", frames[last:])
    print(
        f"{last} frames to learn from, {len(frames) - last} to hold out, {frames[0].shape[1]}x{frames[0].shape[0]} px"
    )


if __name__ == "__main__":
    main()
