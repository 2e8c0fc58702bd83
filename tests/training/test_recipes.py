"""A recipe's file: the user's own code, imported so that it stands in no other module's place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fiducial
from fiducial.errors import UserError
from fiducial.training import recipes

TEXT = "from fiducial.training.recipe import Recipe\ndef mine(): return Recipe(epochs={epochs})\n"


def test_a_changed_file_gives_the_changed_recipe(tmp_path: Path) -> None:
    file = tmp_path / "statistics.py"
    for epochs in (3, 4):
        file.write_text(TEXT.format(epochs=epochs))
        assert recipes.load(f"{file}:mine").epochs == epochs
    import statistics

    assert statistics.median([1, 2, 3]) == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [("1 / 0", "can't be imported: ZeroDivisionError"), ("def mine(: pass", "can't be imported: SyntaxError")],
)
def test_code_that_fails_is_one_line(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "a.py").write_text(text)
    with pytest.raises(UserError, match=reason):
        recipes.load(f"{tmp_path / 'a.py'}:mine")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"backbone": "resnet19"}, "backbone 'resnet19': no such name"),
        ({"settings": ["head.los=mse"]}, "head.los: unknown. Did you mean 'loss'"),
    ],
)
def test_mistyped_parts_are_told_before_data_are_read_and_by_a_plan(
    blobs: Path, tmp_path: Path, words: dict[str, Any], said: str
) -> None:
    unreadable = tmp_path / "train.json"
    unreadable.write_text("{")
    with pytest.raises(UserError, match=said):
        fiducial.fit(unreadable, tmp_path / "run", **words)
    with pytest.raises(UserError, match=said):
        fiducial.fit(blobs, plan_only=True, **words)
