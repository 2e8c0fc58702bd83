"""Crops a second on one core, against decoding with PIL for every person; reading a COCO-sized index, against
pycocotools.

    python benchmarks/loader.py [--json] [--seconds S] [--annotations N] [--skip-index]

Pictures are made by a seed: 640x480, quality 90, with the spectrum of photographs (about 87 KB each); persons have
log-uniform heights of 60 to 400 px. One thread, crops of 192x256, full augmentation, no cache. The index is a JSON of N
persons with outlines, as COCO's train2017 has; both readers run in processes of their own."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import cv2  # noqa: E402
import numpy as np  # noqa: E402

from fiducial import geometry  # noqa: E402
from fiducial.data import skeletons  # noqa: E402
from fiducial.data.images import FileImages  # noqa: E402
from fiducial.geometry import Size  # noqa: E402
from fiducial.types import Instances  # noqa: E402

CROP, PICTURE = Size(192, 256), Size(640, 480)
BATCH = 64


def photo(generator: np.random.Generator) -> np.ndarray:
    """A picture with a 1/f spectrum, coloured, of the file size of a photograph."""
    w, h = PICTURE
    fy, fx = np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None]
    amplitude = 1 / np.maximum(np.hypot(fy, fx), 1 / w) ** 1.42
    layers = []
    for strength in (1.0, 0.25, 0.25):
        phase = np.exp(2j * np.pi * generator.random(amplitude.shape))
        plane = np.fft.irfft2(amplitude * phase, (h, w))
        layers.append(strength * plane / plane.std())
    grey, blue, red = layers
    picture = 120 + 45 * np.stack([grey + red, grey - (blue + red) / 2, grey + blue], -1)
    return np.clip(picture + generator.normal(0, 1.2, picture.shape), 0, 255).astype(np.uint8)


def make_instances(folder: Path, pictures: int, persons: int, seed: int = 0) -> Instances:
    """`pictures` JPEGs in `folder` with `persons` people each."""
    generator = np.random.default_rng(seed)
    names = [f"{i:04d}.jpg" for i in range(pictures)]
    for name in names:
        if not (folder / name).exists():
            cv2.imwrite(str(folder / name), photo(generator), [cv2.IMWRITE_JPEG_QUALITY, 90])
    count = pictures * persons
    height = np.exp(generator.uniform(np.log(60), np.log(400), count))
    width = height * generator.uniform(0.3, 0.7, count)
    left, top = generator.random(count) * (PICTURE.w - width), generator.random(count) * (PICTURE.h - height)
    box_xywh = np.stack([left, top, width, height], 1).astype(np.float32)
    xy = box_xywh[:, None, :2] + generator.random((count, 17, 2)) * box_xywh[:, None, 2:]
    return Instances(
        skeleton=skeletons.COCO17,
        images=FileImages(folder, names),
        image_id=np.arange(pictures),
        image_size=np.tile(np.array(PICTURE, np.int32), (pictures, 1)),
        image_row=np.repeat(np.arange(pictures), persons),
        annotation_id=np.arange(count),
        xy=xy.astype(np.float32),
        visibility=np.full((count, 17), 2, np.uint8),
        box_xywh=box_xywh,
        area=box_xywh[:, 2] * box_xywh[:, 3],
        crowd=np.zeros(count, bool),
        source="benchmark",
    )


def measure_loader(instances: Instances, seconds: float) -> dict[str, Any]:
    """Crops a second of ours and of the naive pipeline, taking turns, and the shares of ours by stage."""
    from fiducial.data import augment, loading
    from fiducial.data import crops as cutting
    from fiducial.data.augment import AugmentSpec

    batches = loading.loader(instances, CROP, BATCH, AugmentSpec(), cache_bytes=0)
    epoch = 0
    ours, naive = [], []
    stop = time.process_time() + seconds
    while time.process_time() < stop:
        epoch += 1
        batches.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        start, count = time.process_time(), 0
        rows: list[int] = []
        for batch in batches:
            rows = batch.row.tolist()
            count += len(rows)
        ours.append(count / (time.process_time() - start))
        start = time.process_time()
        for row in rows:
            naive_sample(instances, row, np.random.default_rng(row))
        naive.append(len(rows) / (time.process_time() - start))
    wrapped: Any = batches.dataset
    crops = wrapped.dataset  # inside of what gives errors out
    stages = profile(crops, list(batches.sampler), cutting, augment)
    return {"crops_per_second": float(np.median(ours)), "naive_per_second": float(np.median(naive)), "shares": stages}


def naive_sample(instances: Instances, row: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """What a first version of a pipeline does: decode with PIL for each person, warp with PIL, colours in numpy."""
    from PIL import Image

    from fiducial.data import augment
    from fiducial.data.augment import AugmentSpec

    picture = Image.open(instances.images.name(int(instances.image_row[row]))).convert("RGB")
    matrix, _ = augment.sample_map(
        AugmentSpec(), instances.box_xywh[row], CROP, padding=1.25, flip=0.5, generator=generator
    )
    back = geometry.invert(matrix)
    # PIL's coordinates are measured from the edge.
    shift = geometry.translation(0.5, 0.5)
    back = geometry.compose(geometry.invert(shift), back, shift)
    crop = picture.transform(CROP, Image.Transform.AFFINE, back[:2].ravel().tolist(), Image.Resampling.BILINEAR)
    colours = np.asarray(crop).astype(np.float32)
    colours = (colours - 128) * generator.uniform(0.7, 1.3) + 128 + generator.uniform(-38, 38)
    grey = colours.mean(-1, keepdims=True)
    colours = grey + (colours - grey) * generator.uniform(0.6, 1.4)
    return np.clip(colours, 0, 255).astype(np.uint8), geometry.transform(matrix, instances.xy[row])


def profile(crops: Any, draws: list[Any], cutting: Any, augment: Any) -> dict[str, float]:
    """Seconds of each stage over the whole, by timing the stages' functions where they are called."""
    spent: dict[str, float] = dict.fromkeys(("decode", "map", "warp", "recolour"), 0.0)

    def timed(owner: Any, name: str, stage: str) -> Callable[[], None]:
        original = getattr(owner, name)

        def wrapper(*arguments: Any) -> Any:
            start = time.process_time()
            result = original(*arguments)
            spent[stage] += time.process_time() - start
            return result

        setattr(owner, name, wrapper)
        return lambda: setattr(owner, name, original)

    restore = [timed(crops, "_read", "decode"), timed(crops, "_sample", "map")]
    restore += [timed(cutting, "crop_of", "warp"), timed(augment, "recolour", "recolour")]
    start = time.process_time()
    for draw in draws:
        crops[draw]
    total = time.process_time() - start
    for undo in restore:
        undo()
    shares = {stage: value / total for stage, value in spent.items()}
    return {**shares, "points_and_collate": 1 - sum(shares.values())}


def write_index(file: Path, annotations: int, seed: int = 0) -> None:
    """A COCO-sized annotation file: people with an outline of 20 to 80 points each, two an image."""
    generator = np.random.default_rng(seed)
    images = annotations * 2 // 5
    points = COCO_CATEGORY
    with open(file, "w", encoding="utf-8") as out:
        out.write('{"info": {}, "licenses": [], "categories": [' + json.dumps(points) + '], "images": [')
        out.write(
            ",".join(
                f'{{"license": 3, "file_name": "{i:012d}.jpg", "coco_url": "http://images/{i:012d}.jpg", "height": 480, '
                f'"width": 640, "date_captured": "2013-11-14 11:18:45", "id": {i}}}'
                for i in range(images)
            )
        )
        out.write('], "annotations": [')
        for number in range(annotations):
            outline = np.round(generator.random(2 * int(generator.integers(20, 80))) * 480, 2).tolist()
            values = generator.integers(0, 480, (17, 3))
            values[:, 2] %= 3
            values[0, 2] = 2
            values[values[:, 2] == 0] = 0
            box = np.round(generator.random(4) * 200 + 20, 2).tolist()
            item = {
                "segmentation": [outline],
                "num_keypoints": int((values[:, 2] > 0).sum()),
                "area": box[2] * box[3],
                "iscrowd": 0,
                "keypoints": values.ravel().tolist(),
                "image_id": int(generator.integers(images)),
                "bbox": box,
                "category_id": 1,
                "id": 1000 + number,
            }
            out.write((", " if number else "") + json.dumps(item))
        out.write("]}")


COCO_CATEGORY = {
    "supercategory": "person",
    "id": 1,
    "name": "person",
    "keypoints": list(skeletons.COCO17.points),
    "skeleton": [[a + 1, b + 1] for a, b in skeletons.COCO17.edges],
}

READERS = {
    "fiducial": "from fiducial.data import formats\nformats.modules()\n"
    "def run(): return annotations.load(FILE, 'all', verify=False)",
    "pycocotools": "import pycocotools.coco\ndef run(): return pycocotools.coco.COCO(str(FILE))",
}


def measure_reader(name: str, file: Path) -> dict[str, float]:
    """Seconds and peak growth of memory of one reader, in a process of its own, imports not counted."""
    program = f"""
import contextlib, io, sys, time
from pathlib import Path
FILE = Path(sys.argv[1])
def peak():  # not getrusage, whose peak is inherited from the process that started this one
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
{READERS[name]}
before, start = peak(), time.perf_counter()
with contextlib.redirect_stdout(io.StringIO()):
    kept = run()
print(time.perf_counter() - start, peak() - before)
"""
    output = subprocess.run([sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True)
    seconds, megabytes = map(float, output.stdout.split())
    return {"seconds": seconds, "megabytes": megabytes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--seconds", type=float, default=8, help="for each of the two loader measurements")
    parser.add_argument("--annotations", type=int, default=150_000, help="of the index")
    parser.add_argument("--skip-index", action="store_true")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    import torch

    torch.set_num_threads(1)
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for persons, pictures in ((1, 256), (3, 96)):
            instances = make_instances(folder, pictures, persons)
            found = measure_loader(instances, options.seconds)
            found["ratio"] = found["crops_per_second"] / found["naive_per_second"]
            result[f"persons_{persons}"] = found
            print(
                f"{persons} person(s) a picture: {found['crops_per_second']:.0f} crops/s/core, "
                f"naive {found['naive_per_second']:.0f} ({found['ratio']:.1f}x); "
                + ", ".join(f"{stage} {share:.0%}" for stage, share in found["shares"].items())
            )
        result["jpeg_kilobytes"] = sum(file.stat().st_size for file in folder.iterdir()) / 1024 / 256
        print(f"JPEG of {result['jpeg_kilobytes']:.0f} KB on average")
        if not options.skip_index:
            file = folder / "annotations" / "person_keypoints_index.json"
            file.parent.mkdir()
            write_index(file, options.annotations)
            for i in range(options.annotations * 2 // 5):
                (folder / f"{i:012d}.jpg").touch()
            index = {name: measure_reader(name, file) for name in READERS}
            result["index"] = {**index, "file_megabytes": file.stat().st_size / 2**20}
            ours, theirs = index["fiducial"], index["pycocotools"]
            print(
                f"index of {options.annotations} instances: {ours['seconds']:.2f} s, {ours['megabytes']:.0f} MB; "
                f"pycocotools {theirs['seconds'] / ours['seconds']:.1f}x: {theirs['seconds']:.2f} s, "
                f"{theirs['megabytes']:.0f} MB"
            )
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
