"""Detectors: saved and loaded they are the same, a broken file is one line, and what they need travels with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fiducial.card import Card, DetectorSpec, Normalization
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.models import contracts
from fiducial.models import detector as detectors
from fiducial.models.contracts import Backbone, Level
from fiducial.models.detector import Detector
from fiducial.models.heads import deeppose, heatmap
from fiducial.types import Batch, Skeleton

SKELETON = Skeleton("three", ("left", "middle", "right"), edges=((0, 1),), flip_pairs=((0, 2),))
SIZE = Size(96, 64)
CASES = [("deeppose", {}), ("heatmap", {"loss": "mse", "decoder": "dark"}), ("heatmap", {"channels": 24})]


def made(method: str = "deeppose", head: dict[str, Any] | None = None, skeleton: Skeleton = SKELETON) -> Detector:
    """Random weights, and norm statistics that are not those of the start."""
    torch.manual_seed(11)
    spec = DetectorSpec("test_efficientnet", method, head or {}, SIZE, skeleton, padding=1.4)
    detector = detectors.build(spec)
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2.0)
    return detector.eval()


@pytest.fixture
def crops() -> Tensor:
    return torch.from_numpy(np.random.default_rng(2).integers(0, 256, (5, SIZE.h, SIZE.w, 3), dtype=np.uint8))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    detector = made()
    detectors.save(detector, tmp_path / "run", Card(detector.spec, metrics={"val": {"nme": 0.125}}))
    return tmp_path / "run"


# -------------------------------------------------------------------------------------------------- save and load


@pytest.mark.parametrize(("method", "head"), CASES)
def test_round_trip(method: str, head: dict[str, Any], crops: Tensor, tmp_path: Path):
    detector = made(method, head)
    card = Card(detector.spec, "CC-BY-4.0", metrics={"val": {"nme": 0.125}, "epoch": 3}, derived_from={"data": "CC0"})
    detectors.save(detector, tmp_path / "run", card)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"model.safetensors", "model.json"}
    loaded, again = detectors.load(tmp_path / "run")
    assert again == card
    assert loaded.spec == detector.spec
    assert not loaded.training
    own = detector.state_dict()
    assert own.keys() == loaded.state_dict().keys()
    assert all(torch.equal(own[name], value) for name, value in loaded.state_dict().items())
    first, second = detector.predict(crops), loaded.predict(crops)
    assert torch.equal(first.xy, second.xy)
    assert torch.equal(first.score, second.score)


def test_the_spec_that_is_saved_is_complete(saved: Path):
    spec = json.loads((saved / "model.json").read_text())["spec"]
    assert spec["head"] == {"loss": "smooth_l1", "beta_unit": 0.01, "dropout": 0.0, "frame": "unit"}
    assert spec["normalization"]["mean"] == pytest.approx([123.675, 116.28, 103.53])
    assert (spec["size"], spec["padding"]) == ([96, 64], 1.4)


Damage = Callable[[Path], None]


def cut_weights(run: Path) -> None:
    file = run / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4000])


def spoil_header(run: Path) -> None:
    file = run / "model.safetensors"
    file.write_bytes(file.read_bytes()[:8] + b"!" * 100 + file.read_bytes()[108:])


def drop_tensor(run: Path) -> None:
    weights = load_file(run / "model.safetensors")
    del weights["head.linear.bias"]
    save_file(weights, run / "model.safetensors")


def add_tensor(run: Path) -> None:
    save_file({**load_file(run / "model.safetensors"), "head.other": torch.zeros(2)}, run / "model.safetensors")


def reshape_tensor(run: Path) -> None:
    weights = load_file(run / "model.safetensors")
    save_file({**weights, "head.linear.weight": weights["head.linear.weight"][:4]}, run / "model.safetensors")


def change_card(**values: Any) -> Damage:
    def damage(run: Path) -> None:
        card = json.loads((run / "model.json").read_text())
        card["spec"] |= values
        (run / "model.json").write_text(json.dumps(card))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_weights, r"model\.safetensors: can't be read as safetensors"),
        (spoil_header, r"model\.safetensors: can't be read as safetensors"),
        (lambda run: (run / "model.safetensors").unlink(), r"model\.safetensors: can't be read"),
        (drop_tensor, r"1 tensors do not fit the network of model\.json, first 'head\.linear\.bias'"),
        (add_tensor, r"1 tensors do not fit .* first 'head\.other'"),
        (reshape_tensor, r"1 tensors do not fit .* first 'head\.linear\.weight'"),
        (change_card(format_version=2), r"model\.json: format version 2; this Fiducial reads up to 1\. Update it"),
        (change_card(method="deepose"), r"method 'deepose': no such name\. Did you mean 'deeppose'\?"),
        (change_card(sise=[1, 2]), r"sise: unknown\. Did you mean 'size'\?"),
        (lambda run: (run / "model.json").write_text("[1,"), r"model\.json: not JSON"),
        (lambda run: (run / "model.json").write_text("[1, 2]"), r"expected an object with a field"),
        (lambda run: (run / "model.json").unlink(), r"no trained model here \(no model\.json\)"),
    ],
)
def test_a_damaged_model_is_one_line(saved: Path, damage: Damage, message: str):
    damage(saved)
    with pytest.raises(UserError, match=message) as error:
        detectors.load(saved)
    assert "\n" not in str(error.value)


def test_a_card_of_another_version_of_the_software_loads(saved: Path):
    card = json.loads((saved / "model.json").read_text())
    (saved / "model.json").write_text(json.dumps({**card, "fiducial_version": "0.0.1"}))
    assert detectors.load(saved)[1].fiducial_version == "0.0.1"


def test_saving_over_a_model_replaces_it(saved: Path, tmp_path: Path):
    other = made("heatmap")
    detectors.save(other, saved, Card(other.spec))
    assert detectors.load(saved)[1].spec.method == "heatmap"
    shutil.rmtree(saved)


# --------------------------------------------------------------------------------------------- what predict gives


@pytest.mark.parametrize(("method", "head"), CASES)
def test_predict_is_decode_of_forward(method: str, head: dict[str, Any], crops: Tensor):
    detector = made(method, head)
    found = detector.predict(crops)
    with torch.no_grad():
        expected = detector.head.decode(detector(crops))
    assert torch.equal(found.xy, expected.xy)
    assert found.xy.shape == (5, 3, 2)
    assert found.score.shape == (5, 3)
    assert not found.xy.requires_grad
    one_by_one = torch.cat([detector.predict(crops[i : i + 1]).xy for i in range(5)])
    torch.testing.assert_close(one_by_one, found.xy, rtol=1e-4, atol=1e-3)


class Brightest(Backbone):
    """The normalised red channel, averaged over cells of 4 px: a network whose answer is known."""

    levels = (Level(1, 4),)
    main = 0

    def forward(self, image: Tensor) -> list[Tensor]:
        return [nn.functional.avg_pool2d(image[:, :1], 4)]


def seeing(skeleton: Skeleton, loss: str = "mse") -> Detector:
    """Each point's map is the picture's red channel, so that points lie where it is brightest."""
    spec = DetectorSpec(
        "brightest", "heatmap", {}, SIZE, skeleton, normalization=Normalization((10, 20, 30), (50, 60, 70))
    )
    head = heatmap.Head(heatmap.Spec(loss=loss, decoder="argmax"), Brightest.levels[0], len(skeleton.points), SIZE)  # type: ignore[arg-type]
    nn.init.ones_(head.final.weight)
    return Detector(spec, Brightest(), head).eval()


def test_bytes_of_a_wide_picture_come_back_as_px_of_it():
    """A spot of one cell (4 px) at column 17, row 3 of 24x16: its centre is px (17 * 4 + 1.5, 3 * 4 + 1.5)."""
    picture = torch.zeros(1, SIZE.h, SIZE.w, 3, dtype=torch.uint8)
    picture[0, 12:16, 68:72, 0] = 250
    detector = seeing(SKELETON)
    with torch.no_grad():
        raw = detector(picture)
    assert raw.shape == (1, 3, 16, 24)
    assert float(raw[0, 0, 3, 17]) == pytest.approx((250 - 10) / 50)
    assert float(raw[0, 0, 0, 0]) == pytest.approx(-10 / 50)
    assert detector.predict(picture).xy[0].tolist() == [[69.5, 13.5]] * 3


# ------------------------------------------------------------------------------------------------------ flip test


def test_the_mean_over_the_mirror_image_is_a_mean():
    """Spots of different height left and right: the mirror image exchanges them, the points' names change back."""
    picture = torch.zeros(1, SIZE.h, SIZE.w, 3, dtype=torch.uint8)
    picture[0, 12:16, 68:72, 0] = 250
    detector = seeing(SKELETON)
    nn.init.zeros_(detector.head.final.weight)
    with torch.no_grad():
        detector.head.final.weight[0] = 1.0  # only point 0 sees; point 2 is its partner
        detector.head.final.bias[1] = 0.75
        raw, plain = detector.raw_with_flip(picture), detector(picture)
    torch.testing.assert_close(raw[:, 0], plain[:, 0] / 2)  # the partner saw nothing
    torch.testing.assert_close(raw[:, 2], plain[:, 0] / 2)  # mirrored twice: the spot is where it was
    torch.testing.assert_close(raw[:, 1], plain[:, 1])


@pytest.mark.parametrize(("method", "head"), [("deeppose", {}), ("heatmap", {"loss": "mse", "decoder": "soft"})])
def test_a_symmetric_picture_gives_symmetric_points(method: str, head: dict[str, Any], crops: Tensor):
    detector = made(method, head)
    symmetric = torch.maximum(crops, crops.flip(2))
    found = detector.predict(symmetric, flip_test=True).xy
    mirrored = found[:, list(SKELETON.flip_order)].clone()
    mirrored[..., 0] = SIZE.w - 1 - mirrored[..., 0]
    torch.testing.assert_close(mirrored[:, [0, 2]], found[:, [0, 2]], rtol=1e-4, atol=2e-3)
    assert not torch.allclose(detector.predict(symmetric).xy, found, atol=1e-2), "without the mirror image it is not"


def test_the_flip_test_is_refused_where_pairs_are_unknown(crops: Tensor):
    detector = made(skeleton=replace(SKELETON, flip_pairs=None))
    detector.predict(crops)
    with pytest.raises(UserError, match="flip pairs are unknown"):
        detector.predict(crops, flip_test=True)


# -------------------------------------------------------------------------------------------------- normalisation


def test_normalisation_travels_with_the_file(saved: Path, crops: Tensor, monkeypatch: pytest.MonkeyPatch):
    """Whatever a later version thinks of the backbone, a saved detector goes by its own constants."""
    before = detectors.load(saved)[0].predict(crops).xy
    build = detectors.catalog.build_backbone

    def with_other_constants(*arguments: Any, **options: Any) -> Backbone:
        backbone = build(*arguments, **options)
        backbone.normalization = Normalization((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
        return backbone

    monkeypatch.setattr(detectors.catalog, "build_backbone", with_other_constants)
    after = detectors.load(saved)[0]
    assert after.mean.flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])
    assert torch.equal(after.predict(crops).xy, before)
    assert made().mean.flatten().tolist() == [1.0, 2.0, 3.0], "a new one takes the backbone's"


def test_raw_of_several_tensors_is_averaged_part_by_part():
    """Heads whose raw is a NamedTuple: the mean, and full precision, keep the type."""
    batch = Batch(*(torch.full((2, 3), float(value), dtype=torch.bfloat16) for value in range(5)))
    mean = detectors._mean_of(batch, Batch(*(part + 2 for part in batch)))
    assert isinstance(mean, Batch)
    assert [float(part[0, 0]) for part in mean] == [1, 2, 3, 4, 5]
    whole = detectors.full_precision(batch)
    assert isinstance(whole, Batch)
    assert all(part.dtype == torch.float32 for part in whole)


def test_contracts_are_kept():
    detector = made("deeppose")
    assert isinstance(detector.head, contracts.Head)
    assert isinstance(detector.head, deeppose.Head)
    assert detector.head.heatmaps(torch.zeros(1, 3, 2)) is None
