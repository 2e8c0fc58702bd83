"""Rooms with one door: what is named there is there, and nothing is imported before it is used."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
from import_direction import ROOT, imports

pytest.importorskip("torch")


@pytest.mark.parametrize("room", ["motion", "distillation"])
def test_each_name_of_the_door_is_there(room: str) -> None:
    door = importlib.import_module(f"fiducial.{room}")
    for name in door._WHERE:
        assert getattr(door, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = door.nothing


def test_a_door_opens_nothing_by_itself() -> None:
    code = "import sys; from fiducial import distillation, motion; print(sorted({'torch', 'cv2', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_other_rooms_come_in_by_the_door() -> None:
    """distillation builds on motion; what trains and the museum look into the rooms themselves."""
    inside = {
        "motion": ("motion", "distillation", "training"),
        "distillation": ("distillation", "training", "reference"),
    }
    wrong = []
    for path in sorted((ROOT / "fiducial").rglob("*.py")):
        room = path.relative_to(ROOT / "fiducial").parts[0]
        for name in imports(path):
            _, door, *further = [*name.split("."), ""]
            if (
                door in inside
                and room not in inside[door]
                and further
                and further[0]
                and further[0] not in vars_of(door)
            ):
                wrong.append(f"{path.relative_to(ROOT)}: {name}")
    assert wrong == []


def vars_of(room: str) -> dict[str, str]:
    """The names of a room's door."""
    return importlib.import_module(f"fiducial.{room}")._WHERE
