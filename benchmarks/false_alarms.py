"""What a model with a finder sees where nothing is: boxes in images without instances.

    python benchmarks/false_alarms.py MODEL DATA [--split test] [--beyond 0.1] [--still-camera]
        [--pictures FOLDER] [--json FILE]

Such images are those of DATA's split in which nothing is labelled, those in which the instances were painted over (the box, and
`--beyond` times as much more on each side; images in which this is more than half of the picture are left out), and the pictures in
FOLDER. Printed: images, and how many boxes were seen in how many of them.

What is painted comes from around it, by OpenCV's inpainting, which leaves a smear that may well look like something;
`--still-camera` takes it from the median of the split's images, what stands behind. What of an instance is further outside
stays, as of boxes that are made of points: give more `--beyond` there."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

import fiducial
from fiducial import geometry
from fiducial.data import images as images_of
from fiducial.data import media
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.runtime.runtime import Runtime
from fiducial.types import Instances

MOST, RADIUS_PX = 0.5, 5


def mask_of(boxes_xywh: np.ndarray, image: np.ndarray, beyond: float) -> np.ndarray:
    """Marks the boxes, and some of what is around them, [h, w] uint8."""
    mask = np.zeros(image.shape[:2], np.uint8)
    size = Size(image.shape[1], image.shape[0])
    for box in boxes_xywh:
        larger = geometry.fit_aspect(box, Size(*box[2:]), padding=1 + 2 * beyond)
        (left, top), _, (right, bottom), _ = geometry.box_corners(geometry.clip_boxes(larger, size)) + 0.5
        mask[int(top) : math.ceil(bottom), int(left) : math.ceil(right)] = 1
    return mask


def images_in(data: Instances, beyond: float, still_camera: bool) -> Iterator[tuple[str, np.ndarray]]:
    """Gives the images without labels, and those whose instances are painted over."""
    behind: np.ndarray | None = None
    if still_camera:
        if len(sizes := {tuple(size) for size in data.image_size.tolist()}) > 1:
            raise SystemExit(f"--still-camera: the images are of {len(sizes)} sizes; expected one camera's")
        behind = np.median([data.images.read(row) for row in range(len(data.images))], 0).astype(np.uint8)
    for row in range(len(data.images)):
        of_image = data.image_row == row
        image = data.images.read(row)
        if not of_image.any():
            yield "empty", image
            continue
        boxes = data.box_xywh[of_image]
        mask = mask_of(boxes[(boxes[:, 2:] > 0).all(1)], image, beyond)  # not those of no area, nor NaN
        if mask.any() and mask.mean() <= MOST:
            painted = cv2.inpaint(image, mask, RADIUS_PX, cv2.INPAINT_TELEA) if behind is None else behind
            yield "painted over", np.where(mask[..., None] > 0, painted, image)


def pictures_in(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Gives the pictures in a folder and below."""
    for file in sorted(folder.rglob("*")):
        if file.is_file() and media.kind_by_name(file) == "image":
            try:
                yield "pictures", images_of.read_image(file)
            except UserError as error:
                print(error, file=sys.stderr)


def counted(model: Runtime, images: Iterable[tuple[str, np.ndarray]]) -> dict[str, dict[str, int]]:
    """Counts images, those in which something is seen, and the boxes, by kind of image."""
    figures: dict[str, dict[str, int]] = {}
    for kind, image in images:
        boxes = len(model(image).xy)
        figure = figures.setdefault(kind, {"images": 0, "with_boxes": 0, "boxes": 0})
        for name, more in (("images", 1), ("with_boxes", int(boxes > 0)), ("boxes", boxes)):
            figure[name] += more
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a run folder or an exported file with a finder, or face")
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--beyond", type=float, default=0.1)
    parser.add_argument("--still-camera", action="store_true", help="paint what the median of the images has there")
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = fiducial.load(options.model)
    figures = counted(
        model, images_in(Instances.read(options.data, options.split), options.beyond, options.still_camera)
    )
    if options.pictures:
        figures |= counted(model, pictures_in(options.pictures))
    for kind, figure in figures.items():
        print(f"{kind}: {figure['boxes']} boxes in {figure['with_boxes']} of {figure['images']} images")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
