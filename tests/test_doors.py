"""Rooms with one door: what is named there is there, and nothing is imported before it is used."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

pytest.importorskip("torch")


@pytest.mark.parametrize("room", ["motion", "distill"])
def test_each_name_of_the_door_is_there(room: str) -> None:
    door = importlib.import_module(f"fiducial.{room}")
    for name in door._WHERE:
        assert getattr(door, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = door.nothing


def test_a_door_opens_nothing_by_itself() -> None:
    code = (
        "import sys; from fiducial import distill, motion; print(sorted({'torch', 'cv2', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
