"""Ours against every golden folder: `make parity`, or `pytest tests/parity --goldens DIR` for other goldens."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
from parity import golden as goldens
from parity.golden import Outcome


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden_folder" not in metafunc.fixturenames:
        return
    root = Path(str(metafunc.config.getoption("goldens")))
    found = []
    for folder in goldens.folders(root) if root.is_dir() else ():
        for name in goldens.case_names(folder):
            found.append(pytest.param(folder, name, id=folder.name if name == "case" else f"{folder.name}-{name}"))
    if not found:
        missing = pytest.mark.skip(reason=f"no goldens at {root} (name others with --goldens DIR)")
        found.append(pytest.param(None, None, id="none", marks=missing))
    metafunc.parametrize(("golden_folder", "case_name"), found)


def test_as_the_reference(golden_folder: Path, case_name: str, outcomes: list[Outcome], not_ours: list[str]) -> None:
    if goldens.system_name(golden_folder) is None:
        if golden_folder.name not in not_ours:
            not_ours.append(golden_folder.name)
        pytest.skip(f"{golden_folder.name}: no file of tests/parity/systems has this name")
    outcome = goldens.judge(golden_folder, case_name)
    outcomes.append(outcome)
    assert outcome.passes, "\n".join([*outcome.problems, outcome.trace])
