"""The walk over sizes against brute force: what it finds is the largest that keeps the budget, and most is never timed."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from fiducial.comparison.cells import Cell
from fiducial.comparison.methods import methods_of, plan_of
from fiducial.data.source import Source
from fiducial.geometry import Size
from fiducial.searching import space
from fiducial.searching.space import Walk
from fiducial.searching.table import Entry
from fiducial.training.recipe import Recipe

PLAN = plan_of(
    Source(Path("data")),
    methods_of("simcc,heatmap", Recipe(), {}, []),
    backbones=["resnet18", "lcnet_050"],
    sizes=space.sizes_around(Size(128, 128)),
)
SPEED = {"resnet18": 1.0, "lcnet_050": 0.1, "simcc": 0.05, "heatmap": 0.3}


def latency(cell: Cell) -> Entry:
    """Affine in the area, as of networks: ms at 128x128 of the backbone, and of the head."""
    share = cell.recipe.size.w * cell.recipe.size.h / 128**2
    ms = 0.05 + share * (SPEED[cell.recipe.backbone] + SPEED[cell.recipe.method])
    return Entry(space.network_of(cell, 5), ms=ms, low_ms=0.99 * ms, high_ms=1.01 * ms)


@pytest.mark.parametrize("budget", [0.02, 0.1, 0.3, 0.5, 1.0, 1.5, 3.0, 5.0, 100.0])
def test_the_largest_that_keeps_the_budget_is_found(budget: float) -> None:
    asked: list[Cell] = []

    def counted(cell: Cell) -> Entry:
        asked.append(cell)
        return latency(cell)

    walk, pairs = Walk(budget, counted), space.by_pair(PLAN)
    for cells in pairs:
        keeping = [cell for cell in cells if walk.keeps(latency(cell))]
        found = [each.cell for each in walk.within(cells) if walk.keeps(each.entry)]
        largest = max(found, key=lambda cell: cell.recipe.size.w, default=None)
        assert largest == (keeping[-1] if keeping else None)
    assert len(asked) == len(set(map(repr, asked))), "none is asked for twice"
    assert len(asked) <= 0.75 * len(PLAN.cells)


def test_a_round_of_the_budget_itself_leaves_no_room() -> None:
    walk = Walk(1.0, latency)
    entry = latency(PLAN.cells[0])
    assert walk.keeps(Entry(entry.network, ms=0.9, low_ms=0.9, high_ms=0.95))
    assert not walk.keeps(Entry(entry.network, ms=0.9, low_ms=0.9, high_ms=0.96))
    assert not walk.keeps(Entry(entry.network, error="no memory"))


def test_those_early_in_both_lists_come_first() -> None:
    pairs = [(cells[0].label, cells[0].recipe.backbone) for cells in space.by_pair(PLAN)]
    assert pairs == [("simcc", "resnet18"), ("heatmap", "resnet18"), ("simcc", "lcnet_050"), ("heatmap", "lcnet_050")]
    names = space.backbones_here(["mobilenetv2_100", "tf_efficientnet_lite0"])
    assert set(names) == set(space.BACKBONES)
    assert names[:3] == ["tf_efficientnet_lite0", "tf_efficientnet_lite0_stride16", "mobilenetv2_100"]


@pytest.mark.parametrize("size", [Size(128, 128), Size(96, 192), Size(192, 96)])
@pytest.mark.parametrize("backbone", ["resnet18", "tf_efficientnet_lite0_stride16"])
def test_inputs_fit_the_network_and_keep_the_shape(size: Size, backbone: str) -> None:
    grid = space.grid_of(backbone)
    sizes = space.sizes_around(size, grid)
    assert size in sizes
    assert len(sizes) == len(set(sizes)) >= 3
    assert all(each.w % grid == each.h % grid == 0 for each in sizes)
    assert all(each.w * size.h == each.h * size.w for each in sizes), "teachers need exactly the shape"


def test_shapes_of_few_whole_multiples_are_kept_nearly() -> None:
    """5:3 has two multiples of 32 px up to three times the sides."""
    sizes = space.sizes_around(Size(160, 96))
    assert len(sizes) >= 5
    assert all(0.79 < (each.w / each.h) / (5 / 3) < 1.26 for each in sizes)


def test_the_likeliest_come_first() -> None:
    """Not much smaller than planned, from ImageNet weights, by a method that did well: in that measure."""
    planned, weights = Size(128, 128), ["resnet18"]
    order = sorted(PLAN.cells, key=lambda cell: space.doubt(cell, planned, weights))
    first = order[0].recipe
    assert (first.backbone, first.method) == ("resnet18", "simcc")
    assert first.size.w >= 128
    assert order[-1].recipe.size == space.sizes_around(planned)[0]
    assert order[-1].recipe.backbone == "lcnet_050"
    doubts = {
        (cell.recipe.backbone, cell.recipe.size.w): space.doubt(cell, planned, weights)
        for cell in PLAN.cells
        if cell.label == "simcc"
    }
    assert doubts["resnet18", 64] > doubts["lcnet_050", 128] > doubts["resnet18", 128] == doubts["resnet18", 256]
