"""What may keep a budget: backbones x methods x sizes, the likeliest first. Of a backbone with a method the largest input
that keeps the budget is wanted; its latency is found by a walk over the sizes, so that most are never timed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fiducial.comparison.cells import Cell, Plan
from fiducial.comparison.methods import plan_of_words
from fiducial.data.source import Source
from fiducial.geometry import Size
from fiducial.runtime.export_card import Precision
from fiducial.searching.table import Entry, Network

# The likeliest first; of widths and kinds that cover .2 to 100 ms on a core. Those whose ImageNet weights are on this
# disk come before the others.
BACKBONES = (
    "mobilenetv3_small_100",
    "tf_efficientnet_lite0",
    "tf_efficientnet_lite0_stride16",
    "mobilenetv2_100",
    "mobilenetv3_large_100",
    "lcnet_100",
    "tf_efficientnet_lite1",
    "tf_efficientnet_lite2",
    "mobilenetv3_small_050",
    "lcnet_050",
    "resnet18",
    "hrnet_w18",
)
METHODS = "simcc,integral:dsnt=js,heatmap,rle,deeppose"
FACTORS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0)  # of the planned input's sides
GRID_PX = 32  # sides are multiples of it
FINER, FINER_GRID_PX = "_stride16", 16  # of networks that end at a finer map

FINER_FACTORS = (0.625, 0.875)
FEWEST_EXACT = 5  # inputs of exactly the planned shape, else nearly:
OBLONG = 1.25  # times as oblong, at most

OVER = "over the budget"
# Of `doubt`. 300-W faces: half the side costs a third of the accuracy, random weights as much in an hour and all of it in
# minutes, and the methods differ by some percent.
LACKING, RANDOM, LATER = 0.5, 0.9, 0.1
ROOM = 0.95  # of the budget that the slowest round may take: the file is measured in more of them


@dataclass(frozen=True)
class Timed:
    """A cell of the space and what its network takes."""

    cell: Cell
    entry: Entry


def sizes_around(size: Size, grid_px: int = GRID_PX) -> list[Size]:
    """Lists inputs of the shape of `size`, smaller and larger, whose sides are multiples of `grid_px`. Where few have exactly
    this shape, nearly."""
    factors = sorted({*FACTORS, *(FINER_FACTORS if grid_px < GRID_PX else ())})
    unit = math.gcd(size.w, size.h)
    whole = [Size(size.w // unit * i, size.h // unit * i) for i in range(1, math.ceil(factors[-1] * unit) + 1)]
    exact = [each for each in whole if min(each) >= GRID_PX and each.w % grid_px == each.h % grid_px == 0]
    if len(exact) >= FEWEST_EXACT:
        nearest = [min(exact, key=lambda each, factor=factor: abs(each.w - factor * size.w)) for factor in factors]
        return list(dict.fromkeys(nearest))
    sides = [[max(GRID_PX, round(factor * side / grid_px) * grid_px) for side in size] for factor in factors]
    near = [(w, h) for w, h in sides if 1 / OBLONG <= (w / h) / (size.w / size.h) <= OBLONG]
    return [Size(*pair) for pair in dict.fromkeys(near)]


def grid_of(backbone: str) -> int:
    """Gives what the sides of a backbone's inputs are multiples of, px."""
    return FINER_GRID_PX if backbone.endswith(FINER) else GRID_PX


def backbones_here(weights: Sequence[str]) -> list[str]:
    """Lists the usual backbones, those first whose weights are on this disk; of the others those that start from random
    weights as well as any."""
    with_weights = [name for name in BACKBONES if name.partition("_stride")[0] in weights]
    return [*with_weights, *(name for name in BACKBONES if name not in with_weights)]


def networks_of(
    methods: str | None, backbones: str | None, sizes: str, points: int, *, int8: bool = False
) -> list[Network]:
    """Lists the networks that words mean, None = the usual ones, for a table that is of no data; with `int8` each in int8
    besides."""
    plan = plan_of_words(
        Source(Path()),
        methods=methods or METHODS,
        backbones=backbones or ",".join(BACKBONES),
        sizes=sizes,
        seeds=1,
        recipe=None,
        options={},
        settings=(),
    )
    precisions: list[Precision] = ["fp32", "int8"] if int8 else ["fp32"]
    return [network_of(cell, points, precision) for cell in plan.cells for precision in precisions]


def network_of(cell: Cell, points: int, precision: Precision = "fp32") -> Network:
    """Gives the network of a cell, of which the latency is."""
    recipe = cell.recipe
    return Network(recipe.backbone, recipe.method, dict(recipe.head), recipe.size, points, precision)


def by_pair(plan: Plan) -> list[list[Cell]]:
    """Groups a plan's cells by label and backbone, each group by rising area; the likeliest pair first: those early in both
    lists."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in plan.cells:
        groups.setdefault((cell.label, cell.recipe.backbone), []).append(cell)
    labels = list(dict.fromkeys(label for label, _ in groups))
    backbones = list(dict.fromkeys(backbone for _, backbone in groups))
    order = sorted(
        groups, key=lambda pair: (labels.index(pair[0]) + backbones.index(pair[1]), backbones.index(pair[1]))
    )
    return [sorted(groups[pair], key=_area) for pair in order]


def doubt(cell: Cell, planned: Size, weights: Sequence[str]) -> float:
    """Says how unlikely a cell is to be the best, before anything is known: by the input's area where it is smaller than the
    planned one, by a start from random weights, by its method's place in the list. Only the order is of use."""
    lacking = max(0.0, math.log2(planned.w * planned.h / _area(cell)))
    recipe = cell.recipe
    is_random = recipe.backbone.partition("_stride")[0] not in weights
    labels = METHODS.split(",")
    place = labels.index(cell.label) if cell.label in labels else 0
    return LACKING * lacking + RANDOM * is_random + LATER * place


@dataclass
class Walk:
    """Finds, pair after pair, the largest cell within a budget.

    `latency` gives a cell's entry, measured where it must be; what it has given for a backbone foretells its other sizes."""

    budget_ms: float
    latency: Callable[[Cell], Entry]

    def __post_init__(self) -> None:
        self._known: dict[str, list[tuple[int, float]]] = {}  # backbone -> area, ms

    def within(self, cells: Sequence[Cell]) -> Iterator[Timed]:
        """Gives all cells of a pair that it has timed: those over the budget too. `cells`: by rising area."""
        seen: dict[int, Timed] = {}
        place = 0
        for _ in range(2):  # what the first one takes tells where to go on
            place = self._begin(cells)
            if place not in seen:
                seen[place] = self._timed(cells[place])
                yield seen[place]
            if seen[place].entry.error:
                return
        step = 1 if self.keeps(seen[place].entry) else -1
        place += step
        while 0 <= place < len(cells):
            if place not in seen:
                seen[place] = self._timed(cells[place])
                yield seen[place]
            if seen[place].entry.error or self.keeps(seen[place].entry) != (step > 0):
                return
            place += step

    def keeps(self, entry: Entry) -> bool:
        """Whether a network keeps the budget in all rounds, with some room for those that are to come."""
        return entry.high_ms is not None and entry.high_ms <= ROOM * self.budget_ms

    def _begin(self, cells: Sequence[Cell]) -> int:
        """The place of the largest cell that is foretold to keep the budget; a middling one where nothing is known."""
        known = self._known.get(cells[0].recipe.backbone)
        if not known:
            return len(cells) // 3
        best = 0
        for place, cell in enumerate(cells):
            area, ms = min(known, key=lambda pair, cell=cell: abs(pair[0] - _area(cell)))
            if ms * _area(cell) / area <= self.budget_ms:
                best = place
        return best

    def _timed(self, cell: Cell) -> Timed:
        entry = self.latency(cell)
        if entry.ms is not None:
            self._known.setdefault(cell.recipe.backbone, []).append((_area(cell), entry.ms))
        return Timed(cell, entry)


def title_of(cell: Cell) -> str:
    """Names a cell as people read it: its method, backbone and size."""
    return f"{cell.label} on {cell.recipe.backbone} {cell.recipe.size}"


def _area(cell: Cell) -> int:
    return cell.recipe.size.w * cell.recipe.size.h
