"""What was recognised in a file: the network, and every tensor under our name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fiducial.card import Normalization
from fiducial.data import skeletons
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.log import logger
from fiducial.models.checkpoints._reader import Contents
from fiducial.types import Skeleton

Shapes = dict[str, tuple[int, ...]]
# What a file may lack: BatchNorm's counters, on which nothing depends, and what only our own training observes.
COUNTERS = ("num_batches_tracked", "likelihood.spread", "likelihood.observations")


@dataclass(frozen=True)
class Plan:
    """Names a network of ours and the tensors for it. Without a `method` the file holds a backbone alone."""

    project: str  # whose file it is, for reports
    backbone: str
    weights: dict[str, Tensor]  # our name -> tensor
    names: dict[str, str]  # our name -> the file's
    unused: dict[str, str]  # the file's name -> why it is not needed
    joined: tuple[str, ...] = ()  # the file's names of tensors that became part of another's
    method: str | None = None
    head: dict[str, Any] = field(default_factory=dict)  # fields of the method's Spec
    skeleton: Skeleton | None = None
    size: Size = Size(192, 256)  # of the input, px
    size_from: str = "the usual one"  # how it is known
    fixed_size: bool = False  # whether the head fits this size only
    normalization: Normalization | None = None  # None = the backbone's own

    @property
    def taken(self) -> int:
        """Counts the file's tensors that are in the network."""
        return len(self.names) + len(self.joined)

    @property
    def total(self) -> int:
        """Counts the tensors in the file."""
        return self.taken + len(self.unused)


class Draft:
    """Moves the tensors of a file one after the other under our names; what is left at the end is not understood."""

    def __init__(self, contents: Contents, project: str) -> None:
        self.contents, self.project = contents, project
        self.left = dict(contents.state)
        self.weights: dict[str, Tensor] = {}
        self.names: dict[str, str] = {}
        self.unused: dict[str, str] = {}
        self.joined: list[str] = []

    def take(self, theirs: str, ours: str) -> None:
        """Takes all tensors whose name begins with `theirs`; the rest of the name stays."""
        for name in self._left(theirs):
            self.put(ours + name.removeprefix(theirs), name, self.left[name])

    def put(self, ours: str, theirs: str, tensor: Tensor) -> None:
        """Takes one tensor, as it is or changed."""
        self.weights[ours] = tensor
        self.names[ours] = theirs
        self.left.pop(theirs, None)

    def stack(self, ours: str, *theirs: str) -> None:
        """Takes several tensors as the rows of one."""
        self.joined += theirs[1:]
        self.put(ours, theirs[0], torch.cat([self.left.pop(name) for name in theirs]))

    def leave(self, theirs: str, why: str) -> None:
        """Leaves out all tensors whose name begins with `theirs`: they are not needed."""
        for name in self._left(theirs):
            self.unused[name] = why
            del self.left[name]

    def finish(self, backbone: str, **rest: Any) -> Plan:
        """Gives the plan. Raises UserError where tensors are left over, since without them the network is another
        one."""
        if self.left:
            raise UserError(
                f"{self.contents.path}: recognised as {self.project} ({backbone}), but the architecture differs: "
                f"{len(self.left)} tensors have no place in it, such as {', '.join(list(self.left)[:3])}"
            )
        return Plan(self.project, backbone, self.weights, self.names, self.unused, tuple(self.joined), **rest)

    def _left(self, prefix: str) -> Iterator[str]:
        return iter([name for name in self.left if name.startswith(prefix)])


def skeleton_of(contents: Contents, points: int) -> Skeleton:
    """Chooses the skeleton of the data set that the file names, or the bundled one of so many points, or nameless
    points."""
    described = contents.meta.get("dataset_meta")
    if isinstance(described, dict) and described.get("num_keypoints") == points:
        names = dict(described.get("keypoint_id2name") or {})
        sigmas = [float(sigma) for sigma in _listed(described, "sigmas")]
        skeleton, _ = skeletons.complete(
            str(described.get("dataset_name", "unnamed")),
            [str(names.get(i, f"point_{i}")) for i in range(points)],
            where=str(contents.path),
            edges=tuple((int(a), int(b)) for a, b in _listed(described, "skeleton_links")),
            flip_indices=_flip_indices(contents, described),
            sigmas=sigmas or None,
        )
        return skeleton
    if points == len(skeletons.COCO17.points):
        return skeletons.COCO17
    return skeletons.match_count(points) or Skeleton(f"unnamed{points}", skeletons.numbered(points))


def _flip_indices(contents: Contents, described: dict[str, Any]) -> list[int] | None:
    """The mirrored order; the points as they are, which stands for unknown pairs, where mirroring twice would not give
    every point back, as for DeepFashion2 in MMPose."""
    listed = [int(i) for i in _listed(described, "flip_indices")]
    if any(i not in range(len(listed)) or listed[i] != row for row, i in enumerate(listed)):
        logger.warning(
            f"{contents.path}: its flip_indices are left out, and with them --flip-test: mirroring twice would not give "
            "every point back"
        )
        return list(range(len(listed)))
    return listed or None


def _listed(described: dict[str, Any], name: str) -> Any:
    """What MMPose writes as a list or an array; both may be empty, which is as good as nothing."""
    values = described.get(name)
    return () if values is None else values


def size_of(contents: Contents, usual: Size) -> tuple[Size, str]:
    """Finds the input's size as the file's configuration or its name has it, else `usual`; and which of these."""
    configured = re.search(r"(?:input_size|image_size)'?\s*[=:]\s*(?:np\.array\()?[\[(](\d+),\s*(\d+)", contents.said)
    if configured is not None:
        return Size(int(configured[1]), int(configured[2])), "as its configuration says"
    # Names have height x width: pose_hrnet_w32_256x192.pth. 8xb64, of the batch, is none.
    named = re.findall(r"(?<!\d)(\d{2,4})x(\d{2,4})(?!\d)", contents.path.name)
    if named:
        return Size(int(named[-1][1]), int(named[-1][0])), "as its name says"
    return usual, "the usual one, the file does not say"


def configured(contents: Contents, *names: str) -> Any:
    """Finds a value in the configuration that a file holds as text, by the names that lead to it; None where it is not
    there. The text is read, not run."""
    texts = [text for key in ("cfg", "config") if isinstance(text := contents.meta.get(key), str)]
    try:
        node: Any = ast.parse(texts[0] if texts else "")
        for name in names:
            node = next((value for key, value in _entries(node) if key == name), None)
        return None if node is None else ast.literal_eval(node)
    except (ValueError, SyntaxError, RecursionError, MemoryError):  # not Python, or more than a plain value
        return None


def _entries(node: ast.AST | None) -> Iterator[tuple[str, ast.AST]]:
    """Names and values of a module's assignments, of `dict(..)` or of `{..}`."""
    if isinstance(node, ast.Module):
        assigned = [each for each in node.body if isinstance(each, ast.Assign)]
        yield from (
            (target.id, each.value) for each in assigned for target in each.targets if isinstance(target, ast.Name)
        )
    elif isinstance(node, ast.Call):
        yield from ((each.arg, each.value) for each in node.keywords if each.arg is not None)
    elif isinstance(node, ast.Dict):
        keys = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
        yield from ((str(key), value) for key, value in zip(keys, node.values, strict=True))


def usual_size(points: int) -> Size:
    """Gives the usual size: upright for people, square for all else."""
    return Size(192, 256) if points == len(skeletons.COCO17.points) else Size(256, 256)


def upsampling_of(contents: Contents, own: Shapes, stride: int) -> dict[str, Any]:
    """Gives head options for the transposed convolutions among a head's tensors, on a map of `stride` px a cell; each
    of them doubles it."""
    doublings = sum(name.startswith("deconv_layers.") and len(shape) == 4 for name, shape in own.items())
    first = own.get("deconv_layers.0.weight")
    if not doublings and first is None:
        return {"upsampling": "none"}
    if first is None or len(first) != 4:
        raise UserError(
            f"{contents.path}: its head is not complete: deconv_layers.0.weight is missing or no convolution"
        )
    return {"upsampling": "deconvolution", "channels": first[1], "stride": stride >> doublings}


def heatmap_conventions(contents: Contents, size: Size) -> dict[str, Any]:
    """Says how cells lie on px and how maps are read, in MMPose's files and those like them."""
    said = contents.said
    if re.search(r"UDPHeatmap|use_udp=True|[_-]udp", said):
        convention = {"align": "corner", "decoder": "dark_udp"}
    elif re.search(r"unbiased=True|unbiased'|[_-]dark", said):
        convention = {"align": "stride", "decoder": "dark"}
    else:
        convention = {"align": "stride", "decoder": "quarter"}
    width = re.search(r"\bsigma=(\d+(?:\.\d+)?)", said)
    sigma = float(width[1]) if width else 3.0 if min(size) >= 288 else 2.0
    return {"loss": "mse", "sigma_cells": sigma, "blur_cells": 17 if sigma == 3.0 else 11, **convention}
