"""Under what licence weights are is what somebody stated; what they were made from goes with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fiducial.card import NOT_STATED
from fiducial.models import detector as detectors
from fiducial.report import run_page
from fiducial.training import fit as fitting
from fiducial.training.recipe import Recipe


def on(data: fitting.Data, *licences: str) -> fitting.Data:
    """The same data, whose source states these licences."""
    return replace(data, train=replace(data.train, licences=licences))


@pytest.mark.parametrize(
    ("of_data", "stated", "licence"),
    [
        ((), None, NOT_STATED),
        (("CC BY-NC 4.0",), None, "CC BY-NC 4.0"),
        (("CC BY-NC 4.0",), "by\nagreement", "by agreement"),
        (("CC BY-NC 4.0", "CC0"), None, NOT_STATED),
    ],
)
def test_a_card_says_what_was_stated(
    of_data: tuple[str, ...], stated: str | None, licence: str, recipe: Recipe, data: fitting.Data, fit
) -> None:
    run = fit(replace(recipe, epochs=1, licence=stated), on=on(data, *of_data))
    card = detectors.load_card(run.out)
    assert (card.licence, card.derived_from) == (licence, {"data": "; ".join(of_data)} if of_data else {})
    assert any("which the data state" in line for line in run.lines) == (stated is None and len(of_data) == 1)


def test_what_weights_start_from_goes_with_them(recipe: Recipe, data: fitting.Data, blob_model: Path, fit) -> None:
    first = fit(replace(recipe, epochs=1), on=on(data, "CC BY-NC 4.0"), name="first")
    second = fit(replace(recipe, epochs=1, init=str(first.out), licence="CC0"), name="second")
    assert second.card.derived_from == {"data": "CC BY-NC 4.0", "first": "CC BY-NC 4.0"}
    assert second.card.terms == "CC0; derived from data (CC BY-NC 4.0), first (CC BY-NC 4.0)"
    assert run_page.read_run(second.out).terms == second.card.terms
    assert detectors.origins_of(blob_model / "model.safetensors") == {blob_model.name: NOT_STATED}
    assert detectors.origins_of(Path("hrnet.pth")) == {"hrnet.pth": NOT_STATED}
