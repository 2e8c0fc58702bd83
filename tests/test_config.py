"""Specs survive JSON, settings are typed, and unknown names say what was meant."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from fiducial import config, files
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.types import Normalizer, Skeleton


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    kind: Literal["red", "green"] = "red"
    maybe: int | None = None


@dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    size: Size = Size(3, 4)
    numbers: tuple[int, ...] | None = None
    rate: float | Literal["auto"] = 1.0
    head: dict[str, Any] = field(default_factory=dict)
    on: bool = True


def through_json(spec):
    return config.from_dict(type(spec), json.loads(json.dumps(config.to_dict(spec))))


@pytest.mark.parametrize(
    "spec",
    [
        Outer(),
        Outer(Inner(0.25, "green", 3), Size(7, 9), (1, 2, 3), "auto", {"loss": "mse"}, False),
        Skeleton(
            "s",
            ("a", "b", "c"),
            ((0, 1),),
            ((1, 2),),
            (0.1, 0.2, 0.3),
            {"g": (0, 2)},
            Normalizer("points", "eyes", (0, 1)),
        ),
        Skeleton("unknown", ("a",), flip_pairs=None),
        Skeleton("none", ("a",), flip_pairs=()),
    ],
)
def test_json_gives_the_spec_back(spec):
    assert through_json(spec) == spec


def test_settings_are_typed_and_reach_inwards():
    spec = config.with_settings(
        Outer(),
        ["inner.rate=2", "inner.kind=green", "size=[5,6]", "numbers=[4,5]", "rate=auto", "head.loss=mse", "on=false"],
    )
    assert spec == Outer(Inner(2.0, "green"), Size(5, 6), (4, 5), "auto", {"loss": "mse"}, False)
    assert isinstance(spec.size, Size)
    for text, value in ((".5", 0.5), ("-.25", -0.25), ("2.", 2.0), ("+3", 3.0), ("1e-3", 0.001)):
        assert config._value(text) == value
    for text in (".5", "1.", "v1.5", "5x6", "nan", "True", "null", "[1", "-"):
        assert config._value(config.as_setting(text)) == text
    assert config.with_settings(Outer(), ["size=5x6"]) == config.with_settings(Outer(), ["size=[5,6]"])
    assert config.with_settings(Outer(), ["size=5"]).size == Size(5, 5)
    assert isinstance(spec.inner.rate, float)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("iner.rate=1", "Did you mean 'inner'"),
        ("inner.rat=1", "Did you mean 'rate'"),
        ("inner.kind=gren", "Did you mean 'green'"),
        ("inner.rate=fast", "expected float"),
        ("inner.maybe=2.5", "expected int"),
        ("on=1", "expected bool"),
        ("rate.x=1", "single value"),
        ("inner.rate", "NAME=VALUE"),
        ("size=5by6", "WIDTHxHEIGHT"),
        ("inner=5", "expected the fields of Inner"),
    ],
)
def test_wrong_settings_say_what_is_right(setting, message):
    with pytest.raises(UserError, match=message):
        config.with_settings(Outer(), [setting])


def test_unknown_field_in_json():
    with pytest.raises(UserError, match=r"inner\.rte: unknown\. Did you mean 'rate'"):
        config.from_dict(Outer, {"inner": {"rte": 1}})


def test_writing_leaves_the_old_file_when_it_fails(tmp_path):
    path = tmp_path / "deep" / "file.json"
    config.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        config.write_json(path, {"a": float("nan")})
    assert files.read_json(path) == {"a": 1}
    assert [item.name for item in path.parent.iterdir()] == ["file.json"], "nothing half-written stays"


def test_broken_json_names_the_file(tmp_path):
    path = tmp_path / "broken.json"
    path.write_text("{")
    with pytest.raises(UserError, match=r"broken\.json: not JSON"):
        files.read_json(path)


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    """A named pipe stands for /dev/stdout and /dev/null."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    files.write_text(pipe, "figures")
    reader.join(10)
    assert found == ["figures"]
    assert pipe.is_fifo()
