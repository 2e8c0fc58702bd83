"""SLEAP: .slp and .pkg.slp, of frames of videos, images, or images inside the file (`slp_file.py`).

Labels are the instances that people set. A network's are not, unless there is nothing else, which is said. A point that
is marked as not visible is one on which SLEAP does not train: missing. A skeleton's symmetries are its pairs in a
mirror."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fiducial.data import checking, hdf5, skeletons, slp_file, video_frames
from fiducial.data.file_names import Folder
from fiducial.data.formats import Holds, by_split, located
from fiducial.data.images import FileImages, decode_image
from fiducial.data.placing import Placing, rows_by_image, size_of
from fiducial.data.slp_file import BODY, FORMAT, PREDICTED, SYMMETRY, USER, Content, Sled
from fiducial.data.together import JoinedImages
from fiducial.data.video_frames import VideoFrames
from fiducial.errors import UserError, did_you_mean
from fiducial.types import Findings, Images, Instances, Skeleton

TITLE = "SLEAP: .slp or .pkg.slp"
ENDING = ".slp"
HOLDS = Holds(edges=True, pairs=True)
FOLDERS = ("", "videos", "images")


@dataclass(frozen=True)
class InsideImages:
    """Images that lie in an HDF5 file, encoded as files or as pixels; implements `Images`."""

    file: Path
    dataset: str
    rows: Sequence[int]
    is_encoded: bool
    is_bgr: bool

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, row: int) -> str:
        return f"{self.file}#{self.dataset.partition('/')[0]}:{self.rows[row]}"

    def read(self, row: int, reduce: int = 1) -> np.ndarray:
        with slp_file.opened(self.file) as content:
            stored = content[self.dataset][self.rows[row]]
        if self.is_encoded:
            image = decode_image(np.asarray(stored).tobytes(), self.name(row), reduce)
            return image[..., ::-1] if self.is_bgr else image
        image = np.asarray(stored, np.uint8)
        return np.repeat(image.reshape(*image.shape[:2], -1)[..., :1], 3, 2) if image.shape[2:] != (3,) else image


def find(path: Path) -> dict[str, list[Path]]:
    """The file of each split."""
    files = [path] if path.is_file() else sorted(path.glob("*.slp"))
    return by_split(path, [file for file in files if slp_file.is_one(file)])


def read(root: Path, files: Sequence[Path], images: Path | None, category: str | None, findings: Findings) -> Instances:
    """The instances of one skeleton: the only one that is used, or the one named `category`."""
    [file] = files
    findings.source = str(file)
    content = slp_file.read(file)
    kind = USER if (content.kind == USER).any() else PREDICTED
    chosen = content.kind == kind
    if kind == PREDICTED and chosen.any():
        findings.note(
            f"nobody set a point in it: the {chosen.sum()} instances that a network predicted are read as labels"
        )
    elif (~chosen).any():
        findings.note(f"{(~chosen).sum()} instances that a network predicted are no labels: not read")
    number = _skeleton_number(content, chosen, category, file)
    rows = np.flatnonzero(chosen & (content.skeleton == number))
    sled = content.skeletons[number]
    keypoints, broken = content.keypoints(rows, kind, len(sled.points))
    if broken.any():
        findings.add("instances", f"{broken.sum()} have no points in the file's table; left out")
    rows, keypoints = rows[~broken], keypoints[~broken]
    pictures, image_row = _images(content, content.instance_frame[rows], images, file, findings)
    there = image_row >= 0
    keypoints, image_row, track = keypoints[there], image_row[there], content.track[rows[there]]
    unset = np.isnan(keypoints[..., :2]).any(-1)
    unseen = ~unset & (keypoints[..., 2] == 0)
    if unseen.any():
        findings.note(f"{unseen.sum()} points are marked as not visible, on which SLEAP does not train: missing")
    keypoints[..., 2] = np.where(unset | unseen, 0, 2)
    if not len(keypoints):
        raise UserError(file, f"no instance could be used: {checking.summary(findings.wrong) or 'it has none'}")
    skeleton, notes = _skeleton(sled, str(file))
    findings.note(*notes)
    return checking.in_columns(
        keypoints, image_row, skeleton, pictures, str(file), image_size=_sizes(pictures), track=track
    )


def _sizes(images: Images) -> np.ndarray:
    """The size of the images of each video, which is that of its first; that of files is not declared."""
    sizes = np.zeros((len(images), 2), np.int32)
    first = 0
    for part in images.parts if isinstance(images, JoinedImages) else [images]:
        if not isinstance(part, FileImages):
            sizes[first : first + len(part)] = part.read(0).shape[1::-1]
        first += len(part)
    return sizes


def _skeleton_number(content: Content, chosen: np.ndarray, category: str | None, file: Path) -> int:
    used = sorted(set(content.skeleton[chosen].tolist()))
    names = {content.skeletons[i].name: i for i in used if 0 <= i < len(content.skeletons)}
    if category is not None:
        if category not in names:
            raise UserError(file, f"no skeleton {category!r}.{did_you_mean(category, names)}")
        return names[category]
    if len(names) > 1:
        raise UserError(file, f"several skeletons: {', '.join(map(repr, names))}; choose one with --category NAME")
    if not names:
        raise UserError(file, "has no labelled instance")
    return next(iter(names.values()))


def _skeleton(sled: Sled, where: str) -> tuple[Skeleton, list[str]]:
    order = None
    if sled.symmetries:
        order = list(range(len(sled.points)))
        for a, b in sled.symmetries:
            order[a], order[b] = b, a
    return skeletons.complete(sled.name, sled.points, where=where, edges=sled.edges, flip_indices=order)


# ------------------------------------------------------------------------------------------------------- images


def _images(
    content: Content, frame: np.ndarray, folder: Path | None, file: Path, findings: Findings
) -> tuple[Images, np.ndarray]:
    """The images of some frames, and the row of each instance's; -1 where the image is not there, which is listed."""
    used = content.frame[frame].reshape(-1, 2)
    parts: list[Images] = []
    image_row = np.full(len(frame), -1, np.int64)
    missing: list[str] = []
    for number in sorted(set(used[:, 0].tolist())):
        own = np.flatnonzero(used[:, 0] == number)
        numbers, place = np.unique(used[own, 1], return_inverse=True)
        try:
            if not 0 <= number < len(content.videos):
                raise UserError(file, f"video {number} is not among its {len(content.videos)}")
            part = _of_video(content.videos[number], numbers.tolist(), folder, file, findings)
        except UserError as error:
            missing.append(error.about(file))
            findings.add(f"video {number}", f"{error.about(file)}; its {len(own)} instances are left out")
            continue
        image_row[own] = place + sum(map(len, parts))
        parts.append(part)
    if not parts:
        raise UserError(file, "; ".join(missing[:3]) or "it has no labelled instance")
    return parts[0] if len(parts) == 1 else JoinedImages(parts), image_row


def _of_video(video: dict[str, Any], numbers: list[int], folder: Path | None, file: Path, findings: Findings) -> Images:
    """The images of a video's frames: inside the file, in files of their own, or in a video's."""
    told = video.get("backend")
    backend: dict[str, Any] = told if isinstance(told, dict) else video
    name, dataset = backend.get("filename", video.get("filename")), backend.get("dataset")
    if name == "." and isinstance(dataset, str) and dataset:
        return _inside(dataset, numbers, file)
    folders = [folder] if folder else [file.parent / name for name in FOLDERS]
    listed = backend.get("filenames") or (name if isinstance(name, list) else None)
    if isinstance(listed, list):
        if not all(isinstance(one, str) for one in listed) or max(numbers, default=0) >= len(listed):
            raise UserError(file, f"a video of {len(listed)} images lacks some that are labelled")
        return located([listed[number] for number in numbers], folders, file, findings)
    if not isinstance(name, str) or not name:
        raise UserError(file, "a video has no name")
    found = next((place / own for place in folders if (own := Folder(place).find(name)) is not None), None)
    found = folder if folder is not None and folder.is_file() else found
    if found is None or not found.is_file():
        looked = ", ".join(str(place) for place in folders)
        raise UserError(
            file, f"its video {name} was not found; looked in {looked}; name it or its folder with --images"
        )
    if found.suffix.lower() in (".h5", ".hdf5", ".slp"):
        raise UserError(
            file, f"its video {found} is HDF5, which is not read; save the labels with their images (.pkg.slp)"
        )
    count = video_frames.count(found)
    if max(numbers, default=0) >= count or min(numbers, default=0) < 0:
        raise UserError(file, f"frame {max(numbers)} is labelled, and {found} has {count}; it is another video")
    return VideoFrames(found, numbers)


def _inside(dataset: str, numbers: list[int], file: Path) -> InsideImages:
    """Images in the file: the frame of each is in a list beside."""
    with slp_file.opened(file) as content:
        stored = content[dataset]
        group = dataset.rpartition("/")[0]
        beside = f"{group}/frame_numbers" if group else "frame_numbers"
        frames = content[beside][()].tolist() if beside in content else list(range(len(stored)))
        kind, channels = stored.attrs.get("format", "hdf5"), stored.attrs.get("channel_order", "RGB")
    row_of = {int(frame): row for row, frame in enumerate(frames)}
    lacking = [number for number in numbers if number not in row_of]
    if lacking:
        raise UserError(file, f"frame {lacking[0]} is labelled, and its image is not in the file")
    return InsideImages(
        file, dataset, [row_of[number] for number in numbers], str(kind) != "hdf5", str(channels) == "BGR"
    )


# ------------------------------------------------------------------------------------------------------- writing


def write_file(instances: Instances, file: Path, placing: Placing) -> list[str]:
    """Writes a file that refers to images and videos where they are, in the form of SLEAP 1.3."""
    h5py = hdf5.library()
    images, skeleton = instances.images, instances.skeleton
    labelled = instances.labelled
    videos: dict[str, int] = {}
    sheets: list[str] = []
    rows, order = [], []
    for image, own in enumerate(rows_by_image(instances)):
        frame = None if placing.copies else video_frames.of_name(images.name(image))
        if frame is None:
            sheets.append(placing.refer(images, image))
            key = ""
        else:
            key = os.path.abspath(frame[0])
        video = videos.setdefault(key, len(videos))
        start = len(order)
        order += own[labelled[own].any(1)].tolist()
        rows.append((image, video, len(sheets) - 1 if frame is None else frame[1], start, len(order)))
    count = len(skeleton.points)
    points = np.zeros(len(order) * count, [("x", "f8"), ("y", "f8"), ("visible", "?"), ("complete", "?")])
    there = labelled[order].reshape(-1)
    xy = instances.xy[order].astype(np.float64).reshape(-1, 2)
    points["x"], points["y"] = (np.where(there, xy[:, axis], np.nan) for axis in (0, 1))
    points["visible"] = there
    table = np.zeros(len(order), _INSTANCE)
    table["instance_id"] = np.arange(len(order))
    table["frame_id"] = np.repeat(np.arange(len(rows)), [end - start for *_, start, end in rows])
    table["track"] = table["from_predicted"] = -1
    table["point_id_start"] = np.arange(len(order)) * count
    table["point_id_end"] = table["point_id_start"] + count
    first = size_of(instances, 0) if len(images) else None
    described = [
        json.dumps({"filename": key, "backend": {"type": "MediaVideo", "filename": key, "grayscale": False}})
        if key
        else json.dumps({"filename": sheets, "backend": _sheets(sheets, first)})
        for key in videos
    ]
    with h5py.File(file, "w") as content:
        about = content.create_group("metadata").attrs
        about["format_id"] = FORMAT
        about["json"] = np.bytes_(json.dumps(_described(skeleton)).encode())
        content["frames"] = np.array(rows, _FRAME) if rows else np.zeros(0, _FRAME)
        content["instances"], content["points"] = table, points
        content["pred_points"] = np.zeros(0, [*points.dtype.descr, ("score", "f8")])
        for name, lines in (("videos_json", described), ("tracks_json", []), ("suggestions_json", [])):
            content.create_dataset(name, data=lines, dtype=h5py.string_dtype(), maxshape=(None,))
    return []


_FRAME = [
    *(("frame_id", "u8"), ("video", "u4"), ("frame_idx", "u8")),
    *(("instance_id_start", "u8"), ("instance_id_end", "u8")),
]
_INSTANCE = [
    *(("instance_id", "i8"), ("instance_type", "u1"), ("frame_id", "u8"), ("skeleton", "u4"), ("track", "i4")),
    *(("from_predicted", "i8"), ("score", "f4"), ("point_id_start", "u8"), ("point_id_end", "u8")),
    ("tracking_score", "f4"),
]


def _sheets(names: list[str], size: Any) -> dict[str, Any]:
    shape = [len(names), size.h, size.w, 3]
    return {"type": "ImageVideo", "shape": shape, "filename": names[0], "filenames": names, "grayscale": False}


def _described(skeleton: Skeleton) -> dict[str, Any]:
    kinds: list[int] = []

    def kind_of(kind: int) -> dict[str, Any]:
        if kind in kinds:
            return {"py/id": kinds.index(kind) + 1}
        kinds.append(kind)
        return {"py/reduce": [{"py/type": "sleap.skeleton.EdgeType"}, {"py/tuple": [kind]}]}

    links = [
        {"edge_insert_idx": place, "key": 0, "source": a, "target": b, "type": kind_of(BODY)}
        for place, (a, b) in enumerate(skeleton.edges)
    ]
    links += [
        {"key": 0, "source": one, "target": other, "type": kind_of(SYMMETRY)}
        for a, b in skeleton.flip_pairs or ()
        for one, other in ((a, b), (b, a))
    ]
    nodes = [{"id": i} for i in range(len(skeleton.points))]
    graph = {"name": skeleton.name, "num_edges_inserted": len(skeleton.edges)}
    return {
        "version": "2.0.0",
        "skeletons": [{"directed": True, "graph": graph, "links": links, "multigraph": True, "nodes": nodes}],
        "nodes": [{"name": name, "weight": 1.0} for name in skeleton.points],
        "videos": [],
        "tracks": [],
        "suggestions": [],
        "negative_anchors": {},
        "provenance": {},
    }
