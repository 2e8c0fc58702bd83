"""What `--methods`, `--backbones`, `--sizes` and `--seeds` mean, and what continues a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from comparison.small import quick_plan

from fiducial import cli, files
from fiducial.comparison import cells
from fiducial.comparison.cells import Cell
from fiducial.comparison.methods import Method, fit_command, methods_of, plan_of, plan_of_words, sizes_of
from fiducial.data.augment import AugmentSpec
from fiducial.data.source import Source
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.training.recipe import OptimizerSpec, Recipe

RECIPES = """
from fiducial.geometry import Size
from fiducial.training.recipe import Recipe

def quick():
    return Recipe(method="deeppose", epochs=7, size=Size(96, 64), points=(0, 2))
"""


def methods(text: str, common: Recipe | None = None, **options: Any) -> dict[str, Recipe]:
    return {method.label: method.recipe for method in methods_of(text, common or Recipe(), options, ["padding=1.5"])}


def cells_of(entries: Sequence[Method], **options: Any) -> tuple[Cell, ...]:
    return plan_of(Source(Path("data")), entries, **options).cells


def test_entries_are_methods_with_settings_of_their_heads() -> None:
    found = methods(
        "heatmap, heatmap:upsampling=deconvolution:channels=[64,32] ,wide=heatmap:sigma_cells=3,deeppose", epochs=9
    )
    assert list(found) == ["heatmap", "heatmap:upsampling=deconvolution:channels=[64,32]", "wide", "deeppose"]
    assert [recipe.method for recipe in found.values()] == ["heatmap", "heatmap", "heatmap", "deeppose"]
    assert [recipe.head for recipe in found.values()] == [
        {},
        {"upsampling": "deconvolution", "channels": [64, 32]},
        {"sigma_cells": 3},
        {},
    ]
    assert {(recipe.epochs, recipe.padding) for recipe in found.values()} == {(9, 1.5)}


def test_another_method_drops_the_common_recipe_s_head() -> None:
    found = methods("heatmap,deeppose", Recipe(method="heatmap", head={"stride": 8}))
    assert [recipe.head for recipe in found.values()] == [{"stride": 8}, {}]


def test_recipes_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(RECIPES)
    found = methods(f"@{file}:quick,slow=@{file}:quick:dropout=0.3", batch_size=5)
    assert list(found) == ["quick", "slow"]
    assert found["slow"].head == {"dropout": 0.3}
    assert {(r.method, r.epochs, r.size, r.batch_size) for r in found.values()} == {("deeppose", 7, (96, 64), 5)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("heatmap,heatmap", ["'heatmap'", "twice", "label"]),
        ("heatmap:stride", ["heatmap:stride", "SETTING=VALUE"]),
        (":x=1", [":x=1", "LABEL=", "METHOD"]),
        ("@nowhere.py:f", ["nowhere.py:f", "FILE.py:FUNCTION"]),
        ("@nowhere.py", ["@nowhere.py", "FILE.py:FUNCTION"]),
        ("deeppose,motion", ["'motion' finds points of its own", "--linear-map"]),
    ],
)
def test_wrong_entries_are_named(text: str, words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        methods(text)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_all_combinations_with_folders_of_their_own() -> None:
    found = cells_of(
        methods_of("deeppose,d=heatmap:stride=8", Recipe(seed=3), {}, []),
        backbones=["resnet18", "test-efficientnet"],
        sizes=[Size(64, 96), Size(128, 128)],
        seeds=2,
    )
    assert len(found) == len({cell.name for cell in found}) == 16
    assert found[0].name == "deeppose-resnet18-64x96-s3"
    assert found[-1].name == "d-test_efficientnet-128x128-s4"
    assert {cell.recipe.precision for cell in found} == {"fp32"}, "no method is to have another one's rounding"
    assert cells_of(methods_of("deeppose", Recipe(precision="bf16"), {}, []))[0].recipe.precision == "bf16"
    odd = cells_of([Method("heatmap:decoder=soft/max", Recipe())])[0]
    assert odd.name == "heatmap_decoder=soft_max-mobilenetv3_small_100-128x128-s0"


def test_cells_that_would_share_a_folder_or_find_other_points_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="comes twice"):
        cells_of(methods_of("deeppose", Recipe(), {}, []), backbones=["a_b", "a-b"])
    file = tmp_path / "mine.py"
    file.write_text(RECIPES)
    with pytest.raises(UserError, match="different points; give --points"):
        cells_of(methods_of(f"@{file}:quick,heatmap", Recipe(), {}, []))


def test_sizes() -> None:
    assert sizes_of("64x96, 128") == [(64, 96), (128, 128)]
    assert sizes_of(None) == []
    with pytest.raises(UserError, match="--sizes: size '12by9'"):
        sizes_of("12by9")


def test_the_command_of_a_cell_gives_its_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Typed by a user, or run for the comparison, it is the same recipe to the last setting."""
    recipe = Recipe(
        method="heatmap",
        head={"upsampling": "deconvolution", "channels": 64, "decoder": "dark"},
        backbone="resnet18",
        size=Size(96, 64),
        points=(3, 1),
        optimizer=OptimizerSpec(lr="auto", weight_decay=0.0, schedule="cosine"),
        augment=AugmentSpec(flip=0.0),
        precision="bf16",
        workers=3,
        patience=4,
        seed=8,
        init="some folder/true",
        preflight=False,
        pretrained="yes",
        batch_size=5,
        epochs=2,
    )
    given: list[Recipe] = []
    monkeypatch.setattr("fiducial.training.run.run", lambda prepare, out, recipe, **options: given.append(recipe))
    for each in (recipe, Recipe(), replace(recipe, init="7", method="deeppose", head={})):
        arguments = [*fit_command(Source(tmp_path), each), "--out", "run"]
        typer.main.get_command(cli.app).main(arguments, standalone_mode=False)
        assert given[-1] == each


def test_a_plan_may_grow_and_nothing_else(tmp_path: Path) -> None:
    plan = quick_plan(tmp_path / "data", seeds=2)
    cells.keep(tmp_path, plan)
    cells.keep(tmp_path, plan)
    larger = quick_plan(tmp_path / "data", "deeppose,heatmap,soft=heatmap:decoder=soft", seeds=3)
    cells.keep(tmp_path, larger)
    assert len(files.read_json(tmp_path / "plan.json")["cells"]) == 9
    refused = {
        "data was": replace(larger, data=Source(tmp_path / "other")),
        "category was None and is now cats": replace(larger, data=replace(larger.data, category="cats")),
        "epochs was 2 and is now 5": quick_plan(
            tmp_path / "data", "deeppose,heatmap,soft=heatmap:decoder=soft", 3, epochs=5
        ),
        "head.decoder was soft and is now dark": quick_plan(
            tmp_path / "data", "deeppose,heatmap,soft=heatmap:decoder=dark", 3
        ),
        "deeppose-test_efficientnet-64x64-s0 and 2 more runs are no longer in it": quick_plan(
            tmp_path / "data", "heatmap,soft=heatmap:decoder=soft", 3
        ),
    }
    before = (tmp_path / "plan.json").read_bytes()
    for words, other in refused.items():
        with pytest.raises(UserError) as error:
            cells.keep(tmp_path, other)
        assert words in str(error.value)
        assert str(error.value).count(" was ") <= 1, "each difference once, not once a run"
    assert (tmp_path / "plan.json").read_bytes() == before


def test_a_comparison_is_planned_by_its_data_once_and_what_is_said_wins(blobs: Path) -> None:
    words: dict[str, Any] = {
        "methods": "heatmap,deeppose",
        "backbones": None,
        "sizes": None,
        "seeds": 1,
        "recipe": None,
    }
    given: dict[str, Any] = {"options": {"epochs": 7}, "settings": ["augment.flip=0.25"]}
    plain, planned = (plan_of_words(Source(blobs), **words, **given, planned=each) for each in (False, True))
    assert [cell.recipe.batch_size for cell in plain.cells] == [64, 64]
    for cell in planned.cells:
        recipe = cell.recipe
        assert (recipe.batch_size, recipe.epochs, recipe.passes, recipe.augment.flip) == (16, 7, 1, 0.25)
        assert recipe.augment.rotation_degrees != plain.cells[0].recipe.augment.rotation_degrees
        assert "--no-plan" in cell.command  # else a cell would be planned once more
