"""The comparison itself: it must see what is wrong, or all the others prove nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from parity import golden  # noqa: E402
from parity.golden import Config, Outcome, Tolerance  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("ours", "theirs", "error", "share"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0, 0),
        ([1.0, 2.5], [1.0, 2.0], 0.5, 0.5 / (0.1 + 0.2 * 2 + 0.01 * 4)),
        ([4.0, -4.0], [4.0, 4.0], 8, 8 / (0.1 + 0.2 * 4 + 0.01 * 4)),
        ([NAN, 1.0], [NAN, 1.0], 0, 0),
        ([NAN, 1.0], [2.0, 1.0], INF, INF),
        ([2.0, 1.0], [NAN, 1.0], INF, INF),
        ([INF, 1.0], [INF, 1.0], 0, 0),
        ([-INF, 1.0], [INF, 1.0], INF, INF),
        ([1e30, 1.0], [INF, 1.0], INF, INF),
    ],
)
def test_errors(ours: list[float], theirs: list[float], error: float, share: float) -> None:
    # A third number, so that the largest is 4 and finite.
    found = golden.errors(
        torch.tensor([*ours, 4.0]).double(), torch.tensor([*theirs, 4.0]).double(), Tolerance(0.1, 0.2, 0.01)
    )
    assert found == pytest.approx((error, share))


def test_kinds_of_numbers_are_compared_exactly() -> None:
    big = torch.tensor([2**40 + 1])
    assert golden.errors(big, big - 1, Tolerance()) == (1, INF)
    assert golden.errors(torch.tensor([True, False]), torch.tensor([1, 0]), Tolerance()) == (0, 0)
    assert golden.errors(torch.empty(0, 2), torch.empty(0, 2), Tolerance()) == (0, 0)


def compared(ours: dict[str, Any], expected: dict[str, Any], **more: Any) -> Outcome:
    system = SimpleNamespace(TOLERANCE={"a*": Tolerance(absolute=1.0), "*": Tolerance()}, **more)
    outcome = Outcome("folder", "case")
    golden.compare(system, ours, expected, system.TOLERANCE, outcome)  # type: ignore[arg-type]
    return outcome


def test_values_near_zero_do_not_fail_by_relative_error_alone() -> None:
    """Nothing, and the rounding of nothing; and a tolerance of nothing at all stays exact."""
    ours, theirs = torch.tensor([3e-10, 1.0]), torch.tensor([0.0, 1.0])
    for relative in (Tolerance(relative=1e-5), Tolerance(of_largest=1e-12)):
        assert golden.errors(ours, theirs, relative)[1] < 1
        assert golden.errors(100 * ours, 100 * theirs, relative)[1] > 1
    assert golden.errors(ours, theirs, Tolerance()) == (pytest.approx(3e-10), INF)
    assert golden.errors(ours, theirs, Tolerance(absolute=1e-300, relative=1e-12))[1] > 1, "a floor that is named holds"


def test_every_constant_that_nobody_reads_is_named() -> None:
    config = Config({"K": 3, "blur": 13, "sigma": 2.0, "typo": 1, "scale_factor": 0.5})
    assert config.first("kernel", "blur", default=11) == 13
    assert config.first("other", default=11) == 11
    assert (config["sigma"], config.get("scale_factor", 1), config.get("pad", 7)) == (2.0, 0.5, 7)
    assert config.unread == {"typo": 1}, "K is the shape of the tensors"


def test_every_name_is_compared_by_the_first_pattern_that_fits() -> None:
    one, two = torch.ones(3), torch.full((3,), 1.5)
    good = compared({"a1": two, "b": one}, {"a1": one, "b": one})
    assert (good.passes, good.compared, good.largest_error, good.largest_share) == (True, 2, 0.5, 0.5)
    assert good.worst == "a1"
    bad = compared({"a1": one, "b": two}, {"a1": one, "b": one})
    assert bad.problems == ["b: off by 0.5, inf times the tolerance"]


def test_missing_and_misshapen_tensors_fail_and_more_than_expected_may_be_computed() -> None:
    one = torch.ones(3)
    found = compared({"a": torch.ones(1, 3), "c": one}, {"a": one, "b": one})
    assert found.problems == [
        "a: shape [1, 3], expected [3]",
        "b: no such tensor of ours",
    ]
    assert compared({}, {}).problems == ["nothing was compared"]


def test_what_is_left_out_is_listed_with_its_reason() -> None:
    one = torch.ones(3)
    found = compared({"a": one}, {"a": one, "b": one * 9}, LEFT_OUT={"b*": "a fault of theirs"})
    assert (found.passes, found.compared, found.left_out) == (True, 1, {"b": "a fault of theirs"})


def test_reading_a_folder_with_two_cases(tmp_path: Path) -> None:
    folder = tmp_path / "thing"
    folder.mkdir()
    files = {"case": ["case.safetensors", "weights.safetensors"], "case_other": ["case_other.safetensors"]}
    for number, (name, listed) in enumerate(files.items()):
        save_file({"in.x": torch.tensor([number]), "out.y.z": torch.ones(2)}, folder / f"{name}.safetensors")
        if len(listed) > 1:
            save_file({"in.w": torch.zeros(3)}, folder / listed[1])
    cases = [{"files": listed, "config": {"k": name}} for name, listed in files.items()]
    (folder / "case.json").write_text(json.dumps({"cases": cases}))
    (tmp_path / "empty").mkdir()
    assert golden.folders(tmp_path) == [folder]
    assert golden.case_names(folder) == ["case", "case_other"]
    first, other = (golden.read(folder, name) for name in golden.case_names(folder))
    assert (first.config, other.config) == ({"k": "case"}, {"k": "case_other"})
    assert (first.given["x"].item(), other.given["x"].item()) == (0, 1)
    assert (list(first.expected), list(first.weights), list(other.weights)) == (["y.z"], ["in.w"], [])


def test_a_folder_without_a_listing_is_one_case(tmp_path: Path) -> None:
    save_file({"stats": torch.ones(2)}, tmp_path / "case.safetensors")
    assert golden.case_names(tmp_path) == ["case"]
    case = golden.read(tmp_path, "case")
    assert (case.config, list(case.expected)) == ({}, ["stats"])


def test_an_exception_is_the_failure_of_its_case(tmp_path: Path) -> None:
    """A golden of the name of one of ours, but with nothing in it that the system needs."""
    folder = tmp_path / "metric_wflw"
    folder.mkdir()
    (folder / "case.json").write_text('{"cases": [{"files": ["case.safetensors"], "config": {}}]}')
    save_file({"out.nme": torch.ones(2)}, folder / "case.safetensors")
    outcome = golden.judge(folder, "case")
    assert outcome.problems == ["KeyError: 'gt'"]
    assert "metric_wflw.py" in outcome.trace


def test_a_listing_that_cannot_be_read_fails_alone(tmp_path: Path) -> None:
    folder = tmp_path / "metric_wflw"
    folder.mkdir()
    (folder / "case.json").write_text('{"cases": ')
    assert golden.folders(tmp_path) == [folder]
    assert golden.case_names(folder) == ["case"]
    assert "JSONDecodeError" in golden.judge(folder, "case").problems[0]
