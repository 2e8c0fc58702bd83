"""What must be said of a network of another project: how its input is made of a crop, and what its outputs mean.

    {"name": "my faces", "licence": "MIT", "input": {"size": [112, 112]}, "points": {"output": "landmarks"},
     "names": ["left_eye", "right_eye", "nose"]}

A card is JSON beside the network's file (`NAME.card.json` of `NAME.onnx`), or one of those in `cards/`, which is known by
the file's inputs and outputs."""

from __future__ import annotations

import functools
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from fiducial import config, text_files
from fiducial.card import MOST_PADDING, MOST_SIDE, NOT_STATED, PADDING
from fiducial.data import skeletons
from fiducial.errors import UserError, expect
from fiducial.geometry import Size
from fiducial.types import Skeleton

SUFFIX = ".card.json"
FOLDER = Path(__file__).parent / "cards"
LARGEST_MB = 4.0
Layout = Literal["nhwc", "nchw"]


class Tensor(NamedTuple):
    """Describes an input or output of a graph."""

    name: str
    shape: tuple[int, ...]  # 0 = any
    kind: str  # of numbers, as NumPy names it

    def __str__(self) -> str:
        return f"{self.name} [{', '.join(str(side or 'any') for side in self.shape)}] {self.kind}"


class Signature(NamedTuple):
    """Lists what a graph takes and gives."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def __str__(self) -> str:
        said = [", ".join(map(str, tensors)) for tensors in self]
        return f"inputs {said[0]}; outputs {said[1]}"


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """Says how the network's input is made of an RGB crop in 0..255: (value - mean) / std."""

    size: Size
    name: str | None = None  # None = the only input
    layout: Layout = "nhwc"
    colours: Literal["rgb", "bgr"] = "rgb"  # of the input; mean and std are in this order
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (255.0, 255.0, 255.0)

    def __post_init__(self) -> None:
        expect(all(1 <= side <= MOST_SIDE for side in self.size), "input.size", self.size, f"sides of 1 to {MOST_SIDE}")
        expect(all(value > 0 for value in self.std), "input.std", self.std, "three numbers above 0")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Gives the shape of one crop as the network takes it."""
        return (self.size.h, self.size.w, 3) if self.layout == "nhwc" else (3, self.size.h, self.size.w)


@dataclass(frozen=True, kw_only=True)
class PointsSpec:
    """Says where the points are in the outputs."""

    # points: numbers, those of one point together; heatmaps: one map a point; simcc: one row of bins a point for x, and in
    # `output_y` one for y.
    kind: Literal["points", "heatmaps", "simcc"] = "points"
    output: str | None = None  # None = the only output
    output_y: str | None = None  # of simcc
    columns: str = "xy"  # of points, in order: x, y, s = score, . = left aside
    # Of points. px: the centre of the input's first px is 0; edge: its outer edge is 0, in px too; unit: outer edges at 0
    # and 1; corner: centres of the first and last px at -1 and 1.
    frame: Literal["px", "edge", "unit", "corner"] = "px"
    layout: Layout = "nchw"  # of heatmaps: nchw = points before rows
    align: Literal["edge", "stride", "corner"] = "edge"  # of heatmaps: how their cells lie on the px of the input
    logit: bool = False  # scores go through a sigmoid

    def __post_init__(self) -> None:
        counts = {letter: self.columns.count(letter) for letter in "xys"}
        fits = counts["x"] == counts["y"] == 1 and counts["s"] <= 1 and not set(self.columns) - set("xys.")
        expect(fits, "points.columns", self.columns, "letters x and y, perhaps s (score), and . for what is left aside")
        if (self.kind == "simcc") != (self.output_y is not None):
            raise UserError("points.output_y", "is for kind simcc, which has an output for x and one for y")


@dataclass(frozen=True, kw_only=True)
class PresenceSpec:
    """Says where the network tells whether there is anything to find: one number a crop, 0..1."""

    output: str
    logit: bool = False


@dataclass(frozen=True, kw_only=True)
class NetworkCard:
    """Describes a network that gives points."""

    name: str
    input: InputSpec
    points: PointsSpec = PointsSpec()
    presence: PresenceSpec | None = None
    padding: float = PADDING  # boxes are enlarged by this, then widened to the input's aspect
    count: int = 0  # of points; 0 = as many as the network gives
    names: tuple[str, ...] | str = ()  # of all points, or a bundled skeleton's: coco17, ibug68, wflw98, lapa106
    named: dict[str, int] = field(default_factory=dict)  # names of some points, by their numbers from 0
    licence: str = NOT_STATED
    source: str = ""  # where the file comes from, for people

    def __post_init__(self) -> None:
        expect(0 < self.padding <= MOST_PADDING, "padding", self.padding, f"more than 0, at most {MOST_PADDING}")
        if isinstance(self.names, str):
            known = [skeleton.name for skeleton in skeletons.BUNDLED]
            expect(self.names in known, "names", self.names, f"a list of names, or one of {', '.join(known)}")

    def skeleton(self, count: int) -> Skeleton:
        """Makes the skeleton of the network's `count` points. Raises UserError where the card has another number."""
        if self.count not in (0, count):
            _expect_count(self.count, count)
        if isinstance(self.names, str):
            known = next(skeleton for skeleton in skeletons.BUNDLED if skeleton.name == self.names)
            _expect_count(len(known.points), count)
            return known
        names = list(self.names) or [f"{self.name}_{i}" for i in range(count)]
        _expect_count(len(names), count)
        for name, number in self.named.items():
            expect(0 <= number < count, f"named.{name}", number, f"the number of a point, 0 to {count - 1}")
            names[number] = name
        repeated = next((name for name, times in Counter(names).items() if times > 1), None)
        expect(repeated is None, "names", repeated, "a name of its own for each point")
        return skeletons.complete(self.name, names, where=self.name)[0]

    def fits(self, signature: Signature) -> bool:
        """Tells whether a graph has the input and the outputs that this card describes, as far as their shapes and names
        can tell."""
        outputs = {tensor.name: tensor for tensor in signature.outputs}
        wanted = [self.points.output, self.points.output_y, None if self.presence is None else self.presence.output]
        if len(signature.inputs) != 1 or signature.inputs[0].shape[-3:] != self.input.shape:
            return False
        if any(name not in outputs for name in wanted if name):
            return False
        shape = (outputs[self.points.output] if self.points.output else signature.outputs[0]).shape[1:]
        numbers = self.count * len(self.points.columns)
        return self.points.kind == "points" and numbers > 0 and math.prod(shape) == numbers


def card_of(file: Path, signature: Signature) -> tuple[NetworkCard, str]:
    """Finds the card of a network's file, and says where it was found: beside the file, else in `cards/`.

    Raises UserError that says what a card needs where there is none, or where it is none."""
    beside = file.with_name(file.name.partition(".")[0] + SUFFIX)
    if beside.is_file():
        return read(beside), beside.name
    known = [card for card in bundled() if card.fits(signature)]
    if len(known) == 1:
        return known[0], f"Fiducial, for {known[0].source}"
    raise UserError(
        file,
        f"not exported by Fiducial, and no network of another project that it knows; {signature}. Write {beside.name} "
        "beside it, which says how the input is made and where the points are (docs/teachers.md)",
    )


def read(path: Path) -> NetworkCard:
    """Reads a card. Raises UserError that names the field where it is none."""
    return config.from_dict(NetworkCard, text_files.read_json(path, LARGEST_MB), str(path))


@functools.cache
def bundled() -> tuple[NetworkCard, ...]:
    """Reads the cards in `cards/`."""
    return tuple(read(path) for path in sorted(FOLDER.glob("*.json")))


def _expect_count(named: int, count: int) -> None:
    if named != count:
        raise UserError(f"the card names {named} points, and the network gives {count}")
