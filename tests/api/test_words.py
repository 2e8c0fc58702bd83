"""What a command can be told, its function can: the same names, the same defaults."""

from __future__ import annotations

import importlib
import inspect

import pytest

import fiducial

# The other side has them in another form, or not at all: files of figures and of parts, what moves on a terminal.
OF_A_COMMAND = {"json_file", "part", "more", "study", "seeds", "losses", "transfer", "pretrain_on", "jobs", "ray"}
OF_A_FUNCTION = {"val", "progress", "more"}


def parameters(function: object) -> dict[str, object]:
    return {name: each.default for name, each in inspect.signature(function).parameters.items()}  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["fit", "compare", "distill"])
def test_flags_are_keywords(name: str) -> None:
    command = getattr(importlib.import_module(f"fiducial.cli.commands.{name}"), name)
    extra = OF_A_COMMAND if name == "distill" else {"json_file", "part", "more"}
    flags = {word: default for word, default in parameters(command).items() if word not in extra}
    keywords = {word: value for word, value in parameters(getattr(fiducial, name)).items() if word not in OF_A_FUNCTION}
    assert set(flags) == set(keywords)
    assert {word: flags[word] or None for word in flags} == {word: keywords[word] or None for word in keywords}
