"""Every finder of the folder: decode inverts encode, encode commutes with flip, what is ignored gives no gradient, and it
overfits one batch. As `test_heads.py` does for points."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fiducial import config, geometry
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.models import catalog
from fiducial.models.contracts import Level
from fiducial.types import Scenes

SIZE, LEVELS = Size(192, 128), (Level(6, 4), Level(8, 8), Level(12, 32))
CASES = [
    ("centres", {}),
    ("centres", {"stride": 4, "channels": 8}),
    ("centres", {"most": 7}),
    ("centres", {"coarser": 1}),
    ("centres", {"evened": 0.5}),
]
REFUSED = [
    {"stride": 0},
    {"coarser": -1},
    {"channels": 0},
    {"most": 0},
    {"width": 0.0},
    {"threshold": 2.0},
    {"apart": 0.0},
    {"evened": 1.5},
    {"stride": 64},
]


def finder(method, settings, kinds=2):
    module = catalog.head_module(method)
    torch.manual_seed(0)
    return module.Head(config.from_dict(module.Spec, settings, "head"), LEVELS, kinds, SIZE).eval()


def scenes(boxes, kinds=None, present=None, ignored=None):
    """One image; boxes [n, 4]."""
    boxes = torch.tensor(boxes, dtype=torch.float32)[None]
    count = boxes.shape[1]
    return Scenes(
        torch.zeros(1, SIZE.h, SIZE.w, 3, dtype=torch.uint8),
        boxes,
        torch.tensor([kinds or [0] * count]),
        torch.tensor([present or [1.0] * count]),
        torch.tensor([ignored or [0.0] * count]),
        torch.eye(3)[None],
        torch.zeros(1, dtype=torch.int64),
    )


def random_boxes(generator, count):
    """Boxes whose middles are at least three cells of 8 px apart."""
    while True:
        sides = generator.uniform(9, 60, (count, 2))
        middles = generator.uniform(0.05, 0.95, (count, 2)) * SIZE
        apart = np.abs(middles[:, None] - middles[None]).max(-1) + 1e3 * np.eye(count)
        if apart.min() > 24:
            return np.concatenate([middles - sides / 2, sides], 1)


@pytest.mark.parametrize(("method", "settings"), CASES)
@pytest.mark.parametrize("seed", range(5))
def test_decode_inverts_encode(method, settings, seed):
    generator = np.random.default_rng(seed)
    boxes = random_boxes(generator, 4)
    kinds = generator.integers(0, 2, 4).tolist()
    head = finder(method, settings)
    found = head.decode(head.encode(scenes(boxes.tolist(), kinds)))
    sure = found.score[0] > 0.9
    assert int(sure.sum()) == 4
    for box, kind in zip(boxes, kinds, strict=True):
        off = (found.box_xywh[0, :4] - torch.tensor(box)).abs().amax(1)
        assert off.min() < 1e-3
        assert int(found.kind[0, off.argmin()]) == kind


@pytest.mark.parametrize(("method", "settings"), CASES)
def test_encode_commutes_with_flipping(method, settings):
    head = finder(method, settings)
    boxes = [[11.3, 20.1, 40.0, 30.0], [90.2, 33.3, 25.0, 51.0]]
    mirrored = [[SIZE.w - x - w, y, w, h] for x, y, w, h in boxes]
    found = head.decode(head.unflip(head.encode(scenes(mirrored)), torch.tensor([0])))
    for box in boxes:
        assert (found.box_xywh[0, :2] - torch.tensor(box)).abs().amax(1).min() < 1e-3


@pytest.mark.parametrize(("method", "settings"), CASES)
def test_nothing_in_an_image_is_nothing_found(method, settings):
    head = finder(method, settings)
    empty = scenes([[0.0, 0.0, 10.0, 10.0]], present=[0.0])
    assert float(head.decode(head.encode(empty)).score.max()) < 0.01
    raw = head.encode(empty)
    losses = head.loss(type(raw)(*(part.requires_grad_() for part in raw)), empty)
    assert all(math.isfinite(loss.item()) for loss in losses.values())
    assert losses["box"].item() == 0


@pytest.mark.parametrize(("method", "settings"), CASES)
def test_what_is_ignored_is_neither_found_nor_false(method, settings):
    """The loss does not ask for anything inside an ignored box, and does outside."""
    head = finder(method, settings)
    crowd = scenes([[40.0, 24.0, 64.0, 48.0]], present=[0.0], ignored=[1.0])
    cells = head.grid
    logits = torch.zeros(1, 2, cells.h, cells.w, requires_grad=True)
    sides = torch.zeros(1, 4, cells.h, cells.w)
    head.loss(type(head.encode(crowd))(logits, sides), crowd)["middle"].backward()
    gradient = logits.grad
    assert gradient is not None
    middle = gradient[0, 0, cells.h // 2, cells.w // 2]
    assert float(middle) == 0
    assert float(gradient[0, 0, 0, 0]) > 0


@pytest.mark.parametrize(("method", "settings"), CASES)
def test_a_perfect_answer_has_the_least_loss(method, settings):
    head = finder(method, settings)
    batch = scenes([[20.0, 20.0, 50.0, 40.0], [100.0, 40.0, 30.0, 30.0]])
    perfect = head.loss(head.encode(batch), batch)
    moved = head.loss(head.encode(scenes([[28.0, 20.0, 50.0, 40.0], [100.0, 40.0, 30.0, 30.0]])), batch)
    assert float(perfect["box"]) < 1e-3
    assert sum(map(float, perfect.values())) < 0.2 * sum(map(float, moved.values()))


@pytest.mark.parametrize(("method", "settings"), CASES)
def test_it_overfits_one_batch(method, settings):
    """Boxes are told from features that know nothing but where they are."""
    head = finder(method, settings, kinds=1).train()
    batch = scenes([[20.0, 20.0, 50.0, 40.0], [100.0, 40.0, 30.0, 30.0]])
    torch.manual_seed(1)
    features = [torch.randn(1, level.channels, SIZE.h // level.stride, SIZE.w // level.stride) for level in LEVELS]
    optimizer = torch.optim.Adam(head.parameters(), 0.02)
    for _ in range(150):
        optimizer.zero_grad()
        loss = torch.stack(list(head.loss(head(features), batch).values())).sum()
        loss.backward()
        optimizer.step()
    found = head.decode(head(features))
    best = found.box_xywh[0, :2].detach().numpy()
    for box in batch.box_xywh[0].numpy():
        assert geometry.box_iou(best, np.tile(box, (2, 1))).max() > 0.8
    assert float(found.score[0, 1]) > 3 * float(found.score[0, 2])


@pytest.mark.parametrize("settings", REFUSED)
def test_settings_that_can_not_be_are_told(settings):
    with pytest.raises(UserError, match="head.stride" if "stride" in settings else next(iter(settings))):
        finder("centres", settings)


def test_a_box_in_a_surer_one_is_its_double_where_that_is_asked_for():
    """Two peaks in one face: the surer is kept. Beside it, and of another kind, all are; so are they where boxes are not
    compared."""
    boxes = [[20.0, 20.0, 60.0, 60.0], [40.0, 44.0, 40.0, 40.0], [100.0, 40.0, 30.0, 30.0]]
    sure = [0.9, 0.6, 0.7]
    for apart, kinds, expected in ((1.0, [0, 0, 0], 3), (0.6, [0, 0, 0], 2), (0.6, [0, 1, 0], 3), (0.95, [0, 0, 0], 3)):
        head = finder("centres", {"apart": apart})
        raw = head.encode(scenes(boxes, kinds))
        for box, kind, share in zip(boxes, kinds, sure, strict=True):
            middle = geometry.box_middle(torch.tensor(box))
            x, y = geometry.px_to_grid(middle, head.size, head.grid).round().int().tolist()
            at = raw.middle[0, kind, y - 1 : y + 2, x - 1 : x + 2]
            at.copy_(torch.where(at == at.max(), torch.logit(torch.tensor(share)), at.clamp_max(-1.0)))
        found = head.decode(raw)
        counts = found.score[0] > 0.5
        assert int(counts.sum()) == expected
        assert found.score[0, :2].tolist() == pytest.approx([0.9, 0.7], abs=1e-3)
        assert (found.score[0, 1:] <= found.score[0, :-1]).all()
        assert (found.box_xywh[0, 0] - torch.tensor(boxes[0])).abs().max() < 1e-3


def test_crowded_instances_are_told_apart():
    """500 small instances, one in each cell of a grid, are all found where `most` allows."""
    size = Size(640, 640)
    module = catalog.head_module("centres")
    head = module.Head(module.Spec(most=600), (Level(8, 8),), 1, size)
    places = [(24.0 * column + 6, 24.0 * row + 6) for row in range(25) for column in range(20)]
    boxes = torch.tensor([[x, y, 12.0, 12.0] for x, y in places])[None]
    count = boxes.shape[1]
    batch = Scenes(
        torch.zeros(1, 1, 1, 3, dtype=torch.uint8),
        boxes,
        torch.zeros(1, count, dtype=torch.int64),
        torch.ones(1, count),
        torch.zeros(1, count),
        torch.eye(3)[None],
        torch.zeros(1, dtype=torch.int64),
    )
    found = head.decode(head.encode(batch))
    assert int((found.score > 0.9).sum()) == 500


@pytest.mark.parametrize(("evened", "low", "high"), [(0.0, 30, 60), (0.5, 5, 8), (1.0, 0.999, 1.001)])
def test_small_boxes_count_as_much_as_large_ones_where_asked(evened, low, high):
    """The boxes' loss of one that is large and of one of a cell, by how much the sides that are told there can lower it."""
    head = finder("centres", {"evened": evened, "width": 0.2})
    batch = scenes([[4.0, 4.0, 112.0, 112.0], [164.0, 100.0, 8.0, 8.0]])
    raw = head.encode(batch)
    sides = torch.zeros_like(raw.sides).requires_grad_()
    head.loss(raw._replace(sides=sides), batch)["box"].backward()
    counted = head._telling(head._target(batch)[0])[0]
    large, small = counted[:, :18].sum(), counted[:, 18:].sum()
    assert low <= float(large / small) <= high
    assert sides.grad is not None
    assert ((sides.grad[0].abs().sum(0) > 0) == (counted > 0)).all()
