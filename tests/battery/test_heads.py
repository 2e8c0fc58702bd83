"""Every head of the folder: decode inverts encode, encode commutes with flip and resize, unlabelled points give no
gradient, batched equals single, and it overfits one batch. A new file is tested before its author writes a test."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from fiducial import config, geometry
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.models import catalog
from fiducial.models.contracts import Level
from fiducial.types import Batch

POINTS, SIZE, LEVEL = 5, Size(96, 64), Level(12, 16)
FLIP_ORDER = torch.tensor([1, 0, 2, 4, 3])
VARIANTS = {
    "heatmap": [
        {},
        {"loss": "mse"},
        {"loss": "foreground", "decoder": "dark", "blur_cells": 1},
        {"decoder": "dark", "blur_cells": 1},
        {"upsampling": "deconvolution", "channels": 8},
        {"stride": 8, "sigma_cells": 1.0},
        {"loss": "mse", "align": "corner", "decoder": "dark_udp", "blur_cells": 1},
        {"loss": "ohkm", "hardest_points": 3},
        {"loss": "adaptive_wing", "kernel": 3},
        {"margin": 1.0},
        {"outside": True},
    ],
    "deeppose": [{}, {"loss": "wing"}, {"loss": "soft_wing"}, {"loss": "l1", "frame": "share"}],
    "rle": [{}, {"base": "gaussian"}, {"residual": False}, {"frame": "share"}],
    "integral": [
        {},
        {"dsnt": "js"},
        {"dsnt": "kl"},
        {"dsnt": "variance", "dsnt_weight": 0.01},
        {"debias": "background", "dsnt": "js"},
        {"upsampling": "none", "sharpness": 16.0, "loss": "rle", "dsnt": "js", "debias": "background"},
        {"upsampling": "deconvolution", "channels": 8, "loss": "smooth_l1"},
        {"loss": "euclidean"},
    ],
    "rounding": [{}, {"two_class": True}, {"top_k": 4, "stride": 8}, {"decoder": "softmax"}],
    "motion": [
        {},
        {"kernel": 3, "jacobian": "shared"},
        {"upsampling": "none", "kernel": 3, "padding": 1, "jacobian": "none", "temperature": 1.0},
        {"stride": 8, "padding": 3, "temperature": 0.2},
    ],
    "simcc": [{}, {"network": "rtmcc", "hidden": 32, "kernel": 3}, {"split": 3.0}, {"beta": 10.0}],
}


def lr_of(case):
    """Under a temperature of 0.1 a step as long as elsewhere lands where a softmax has no gradient."""
    method, variant = case
    return 0.003 * variant.get("temperature", 0.1) if method == "motion" else 0.02


CASES = [(method, variant) for method in catalog.methods() for variant in VARIANTS.get(method, [{}])]


# Values that a head must refuse, in words: method -> settings. What all methods of a kind share stands in each.
MAPS = [{"channels": 0}, {"stride": 0}, {"stride": -2}, {"stride": 5}]
REFUSED = {
    "heatmap": [
        *MAPS,
        {"sigma_cells": 0.0},
        {"blur_cells": 4},
        {"kernel": 2},
        {"kernel": -1},
        {"hardest_points": 0},
        {"foreground_weight": -1.0},
        {"margin": -1.0},
        {"loss": "mse", "margin": 1.0},
        {"loss": "mse", "outside": True},
    ],
    "deeppose": [{"beta_unit": 0.0}, {"dropout": 1.0}, {"dropout": -0.5}],
    "rle": [{"dropout": 2.0}],
    "integral": [*MAPS, {"sharpness": 0.0}, {"sigma_cells": -1.0}, {"beta_unit": 0.0}, {"dsnt_weight": -1.0}],
    "rounding": [*MAPS, {"top_k": 0}, {"positive_weight": 0.0}, {"upsampling": "mixing", "stride": 4}],
    "motion": [
        *MAPS,
        {"kernel": 4},
        {"padding": 4},
        {"padding": -1},
        {"temperature": 0.0},
        {"upsampling": "none", "padding": 0},
    ],
    "simcc": [
        {"split": -1.0},
        {"split": 0.001},
        {"split": 1e9},
        {"sigma_bins": [0.0, 2.0]},
        {"kernel": 2},
        {"hidden": 0},
        {"beta": 0.0},
        {"network": "rtmcc", "kernel": 2},
    ],
}


def name_of(case):
    return "-".join([case[0], *(f"{key}={value}" for key, value in case[1].items())])


def build(case, size=SIZE, level=LEVEL):
    method, variant = case
    torch.manual_seed(0)
    module = catalog.head_module(method)
    return module.Head(config.from_dict(module.Spec, variant), level, POINTS, size).eval()


def batch_of(xy, labelled=None, size=SIZE):
    count = len(xy)
    return Batch(
        torch.zeros(count, size.h, size.w, 3, dtype=torch.uint8),
        xy,
        torch.ones(xy.shape[:2]) if labelled is None else labelled,
        torch.eye(3).expand(count, 3, 3),
        torch.arange(count),
    )


def points_inside(size, count=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    unit = 0.3 + 0.4 * torch.rand(count, POINTS, 2, generator=generator)
    return geometry.unit_to_px(unit, size)


@pytest.fixture(params=CASES, ids=name_of)
def case(request):
    return request.param


@pytest.mark.parametrize("case", [(m, v) for m in catalog.methods() for v in REFUSED.get(m, [])], ids=name_of)
def test_values_that_make_no_sense_are_refused_by_name(case):
    with pytest.raises(UserError, match=f"head.{list(case[1])[-1]}"):
        build(case)


@pytest.mark.parametrize("method", catalog.methods())
def test_a_value_that_is_no_number_is_refused(method):
    spec = catalog.head_module(method).Spec
    for field in dataclasses.fields(spec):
        if isinstance(field.default, float):
            for value in (math.nan, math.inf):
                with pytest.raises(UserError, match=f"{field.name}: got {value}, expected a finite number"):
                    config.from_dict(spec, {field.name: value})


@pytest.mark.parametrize("method", ["heatmap", "integral", "rounding"])
def test_a_map_of_one_cell_is_refused(method):
    with pytest.raises(UserError, match="a map of 1x2 cells at 16 px a cell; expected 2 or more a side"):
        build((method, {"upsampling": "none"}), size=Size(16, 32))


def test_decode_inverts_encode_between_the_cells(case):
    head, xy = build(case), points_inside(SIZE)
    found = head.decode(head.encode(batch_of(xy)))
    torch.testing.assert_close(found.xy, xy, atol=0.05, rtol=0)
    assert found.score.shape == xy.shape[:2]
    assert ((found.score > 0.8) & (found.score <= 1)).all(), "a perfect output is a sure one"


def test_encode_commutes_with_flip(case):
    head, xy = build(case), points_inside(SIZE)
    mirrored = geometry.transform(torch.tensor(geometry.flip(SIZE), dtype=torch.float32), xy)[:, FLIP_ORDER]
    unflipped = head.unflip(head.encode(batch_of(mirrored)), FLIP_ORDER)
    torch.testing.assert_close(unflipped, head.encode(batch_of(xy)), atol=2e-3, rtol=1e-4)


def test_encode_commutes_with_resize(case):
    """Encoded at two sizes, decoded at each, the points differ by the resize of pictures: no half-pixel drift."""
    large = Size(192, 128)
    xy = points_inside(SIZE)
    matrix = torch.tensor(geometry.resize(SIZE, large), dtype=torch.float32)
    small_head, large_head = build(case), build(case, size=large)
    of_small = small_head.decode(small_head.encode(batch_of(xy))).xy
    of_large = large_head.decode(large_head.encode(batch_of(geometry.transform(matrix, xy), size=large))).xy
    torch.testing.assert_close(geometry.transform(matrix, of_small), of_large, atol=0.1, rtol=0)


def test_shapes_and_batched_equals_single(case):
    head = build(case)
    feature = torch.randn(3, LEVEL.channels, SIZE.h // LEVEL.stride, SIZE.w // LEVEL.stride)
    with torch.no_grad():
        together = head.decode(head(feature))
        apart = [head.decode(head(feature[i : i + 1])).xy[0] for i in range(3)]
    assert together.xy.shape == (3, POINTS, 2)
    assert together.score.shape == (3, POINTS)
    torch.testing.assert_close(together.xy, torch.stack(apart), atol=1e-3, rtol=0)


def test_unlabelled_points_give_no_gradient_whatever_they_hold(case):
    head = build(case).train()
    xy = points_inside(SIZE)
    labelled = torch.ones(3, POINTS)
    labelled[0, 1] = labelled[2] = 0
    feature = torch.randn(3, LEVEL.channels, SIZE.h // LEVEL.stride, SIZE.w // LEVEL.stride, requires_grad=True)
    gradients = []
    for junk in (0.0, 1e4):
        moved = xy.clone()
        moved[labelled == 0] = junk
        loss = sum(head.loss(head.eval()(feature), batch_of(moved, labelled)).values())
        gradients.append(torch.autograd.grad(loss, feature)[0])
    torch.testing.assert_close(gradients[0], gradients[1])
    assert gradients[0][2].abs().sum() == 0, "a sample without labels moves nothing"
    assert gradients[0][0].abs().sum() > 0


def test_no_labels_at_all_is_a_loss_of_zero(case):
    head = build(case)
    feature = torch.randn(2, LEVEL.channels, SIZE.h // LEVEL.stride, SIZE.w // LEVEL.stride, requires_grad=True)
    loss = sum(head.loss(head(feature), batch_of(points_inside(SIZE, 2), torch.zeros(2, POINTS))).values())
    loss.backward()
    assert float(loss.detach()) == 0
    assert feature.grad is not None
    assert torch.isfinite(feature.grad).all()


def test_overfits_one_batch(case):
    """Features from which the points can be told are learnt to a pixel or two."""
    head = build(case).train()
    xy = points_inside(SIZE, count=4, seed=5)
    torch.manual_seed(1)
    feature = torch.randn(4, LEVEL.channels, SIZE.h // LEVEL.stride, SIZE.w // LEVEL.stride)
    optimizer = torch.optim.AdamW(head.parameters(), lr=lr_of(case), weight_decay=0)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.02, 250)  # a likelihood never stops moving by itself
    batch = batch_of(xy)
    error = math.inf
    for step in range(1, 251):
        loss = sum(head.loss(head(feature), batch).values())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 5.0)  # as in training
        optimizer.step()
        falling.step()
        if step % 25 == 0:
            with torch.no_grad():
                error = float((head.decode(head(feature)).xy - xy).norm(dim=-1).mean())
            if error < 2:
                break
    assert error < 3, f"mean error {error:.2f} px"


def test_gradients_reach_every_parameter(case):
    head = build(case).train()
    feature = torch.randn(3, LEVEL.channels, SIZE.h // LEVEL.stride, SIZE.w // LEVEL.stride)
    sum(head.loss(head(feature), batch_of(points_inside(SIZE))).values()).backward()
    silent = [name for name, parameter in head.named_parameters() if parameter.grad is None]
    if head.learns_without_labels:  # labels have no Jacobians; what teaches these is tested in tests/motion
        silent = [name for name in silent if not name.startswith("jacobian.")]
    assert not silent, "DDP takes parameters without gradient for an error"


def test_heatmaps_peak_where_the_points_are(case):
    head, xy = build(case), points_inside(SIZE)
    maps = head.heatmaps(head.encode(batch_of(xy)))
    if maps is None:
        pytest.skip("the method has no maps")
    grid = Size(maps.shape[-1], maps.shape[-2])
    cell = maps.flatten(2).argmax(-1)
    found = torch.stack([cell % grid.w, cell // grid.w], -1)
    assert ((found - geometry.px_to_grid(xy, SIZE, grid, head.align)).abs() <= 0.5001).all()
    assert maps.min() >= 0
    assert maps.max() <= 1
