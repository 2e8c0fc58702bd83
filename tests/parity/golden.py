"""Goldens: inputs and outputs of reference implementations, as files, and how ours are held against them.

A folder of goldens has one folder for each system. `case.json` lists its cases; a folder without it is one case. Tensors
named `in.*` are given; all others of a case's file are expected. A system of ours is a file of `systems/` with the name
of the golden's folder:

    def run(case: Case) -> dict[str, Tensor]    our value for every expected name, without `out.`
    TOLERANCE: dict[str, Tolerance]             pattern of the name -> how far off it may be; the first that fits
    def tolerance(case) -> dict[..]             optional, in its place: where it depends on the configuration
    LEFT_OUT: dict[str, str]                    optional: pattern -> why we have no such number
    def expected(case) -> dict[str, Tensor]     optional: where the expected numbers are in other files

A system takes its constants from the case: from the names of its tensors, or from `case.config`. A constant of the
code stands only where no golden states one, as the default of `Config.first`. What a configuration states and nobody
reads is named at the end of the run."""

from __future__ import annotations

import importlib
import json
import math
import traceback
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

SYSTEMS = Path(__file__).resolve().parent / "systems"
# Beside a tolerance that is relative alone: zero in another order of additions is not zero. Far below every number that
# is compared, and above the rounding of sums of float32.
FLOOR = 1e-9
# Of configurations: what the tensors' shapes, or tensors drawn with it, say themselves.
SHAPES = {
    "n",
    "N",
    "B",
    "K",
    "L",
    "H",
    "W",
    "Wx",
    "Wy",
    "Cs",
    "Ct",
    "C",
    "classes",
    "num_channels",
    "img",
    "size",
    "sizes",
}
SHOWN_BY_TENSORS = SHAPES | {"hi", "scale", "wgain", "sigma_affine", "sigma_tps", "topks", "betas"}


@dataclass(frozen=True)
class Tolerance:
    """Ours may be off by absolute + relative |theirs| + of_largest max|theirs|; where only shares are given, by `FLOOR`
    more."""

    absolute: float = 0.0
    relative: float = 0.0
    of_largest: float = 0.0

    @property
    def floor(self) -> float:
        """What is allowed where theirs is zero."""
        return self.absolute or (FLOOR if self.relative or self.of_largest else 0.0)


class Config(dict[str, Any]):
    """The constants that a case states. It remembers which were asked for."""

    def __init__(self, stated: dict[str, Any]) -> None:
        super().__init__(stated)
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.asked.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        return self.first(name, default=default)

    def first(self, *names: str, default: Any) -> Any:
        """The constant under the first of these names that is stated; `default`, which is what was recovered from the
        goldens, where none is."""
        return next((self[name] for name in names if name in self), default)

    @property
    def unread(self) -> dict[str, Any]:
        """What is stated and nobody asked for, but for what the tensors show."""
        return {name: value for name, value in self.items() if name not in self.asked | SHOWN_BY_TENSORS}


@dataclass(frozen=True)
class Case:
    """One configuration of one system. Names are without `in.` and `out.`."""

    folder: Path
    name: str  # of its file: "case", "case_rope"
    config: Config
    given: dict[str, Tensor]
    expected: dict[str, Tensor]
    weights: dict[str, Tensor]


@dataclass
class Outcome:
    """What came of one case."""

    folder: str
    case: str
    compared: int = 0
    left_out: dict[str, str] = field(default_factory=dict)  # name -> reason
    unread: dict[str, Any] = field(default_factory=dict)  # constants of the case that nobody asked for
    largest_error: float = 0.0  # |ours - theirs|
    largest_share: float = 0.0  # error / tolerance: passes up to 1
    worst: str = ""  # the tensor with the largest share
    problems: list[str] = field(default_factory=list)
    trace: str = ""  # of the exception that ended it

    @property
    def passes(self) -> bool:
        return not self.problems


def folders(root: Path) -> list[Path]:
    """The golden folders of `root`, by name."""
    return [f for f in sorted(root.iterdir()) if f.is_dir() and ([*f.glob("*.json"), *f.glob("*.safetensors")])]


def case_names(folder: Path) -> list[str]:
    """The cases of a folder; one, which will fail, where its `case.json` cannot be read."""
    try:
        return list(_listing(folder))
    except (ValueError, LookupError, TypeError):
        return ["case"]


def system_name(folder: Path) -> str | None:
    """The file of `systems/` for a golden folder; None where there is none yet."""
    return folder.name if (SYSTEMS / f"{folder.name}.py").is_file() else None


def read(folder: Path, name: str) -> Case:
    """Everything of one case."""
    from safetensors.torch import load_file

    entry = _listing(folder)[name]
    tensors: dict[str, Tensor] = {}
    weights: dict[str, Tensor] = {}
    for file in entry["files"]:
        (weights if file.startswith("weights") else tensors).update(load_file(folder / file))
    given = {key[3:]: value for key, value in tensors.items() if key.startswith("in.")}
    expected = {key.removeprefix("out."): value for key, value in tensors.items() if not key.startswith("in.")}
    return Case(folder, name, Config(entry.get("config", {})), given, expected, weights)


def judge(folder: Path, name: str) -> Outcome:
    """Runs our system on a case. Whatever goes wrong in it is this case's failure and stops no other."""
    outcome = Outcome(folder.name, name)
    try:
        system = importlib.import_module(f"parity.systems.{system_name(folder)}")
        case = read(folder, name)
        expected = system.expected(case) if hasattr(system, "expected") else case.expected
        tolerances = system.tolerance(case) if hasattr(system, "tolerance") else system.TOLERANCE
        compare(system, system.run(case), expected, tolerances, outcome)
        outcome.unread = case.config.unread
    except Exception as error:
        first_line = next(iter(str(error).splitlines()), "")
        outcome.problems.append(f"{type(error).__name__}: {first_line}")
        outcome.trace = "".join(traceback.format_exception(error))
    return outcome


def compare(
    system: ModuleType,
    ours: dict[str, Tensor],
    expected: dict[str, Tensor],
    tolerances: dict[str, Tolerance],
    outcome: Outcome,
) -> None:
    """Every expected tensor against ours, into `outcome`. What of ours is not expected is not looked at."""
    reasons: dict[str, str] = getattr(system, "LEFT_OUT", {})
    for name, theirs in expected.items():
        reason = _first(reasons, name)
        if reason is not None:
            outcome.left_out[name] = reason
        elif name not in ours:
            outcome.problems.append(f"{name}: no such tensor of ours")
        elif ours[name].shape != theirs.shape:
            outcome.problems.append(f"{name}: shape {list(ours[name].shape)}, expected {list(theirs.shape)}")
        else:
            _compare_one(name, ours[name], theirs, _first(tolerances, name), outcome)
    if not outcome.compared and not outcome.problems:
        outcome.problems.append("nothing was compared")


def _compare_one(name: str, ours: Tensor, theirs: Tensor, tolerance: Tolerance | None, outcome: Outcome) -> None:
    if tolerance is None:
        outcome.problems.append(f"{name}: no pattern of TOLERANCE fits")
        return
    error, share = errors(ours, theirs, tolerance)
    outcome.compared += 1
    outcome.largest_error = max(outcome.largest_error, error)
    if share > outcome.largest_share or not outcome.worst:
        outcome.largest_share, outcome.worst = share, name
    if share > 1:
        outcome.problems.append(f"{name}: off by {error:.3g}, {share:.3g} times the tolerance")


def errors(ours: Tensor, theirs: Tensor, tolerance: Tolerance) -> tuple[float, float]:
    """Largest |ours - theirs|, and the largest such error as a share of its tolerance. NaN (or the same infinity) on
    both sides is equal, on one side it is infinitely wrong."""
    import torch

    ours, theirs = ours.detach().cpu().to(torch.float64), theirs.detach().cpu().to(torch.float64)
    if ours.numel() == 0:
        return 0.0, 0.0
    equal = (ours == theirs) | (ours.isnan() & theirs.isnan())
    error = torch.where(equal, 0.0, (ours - theirs).abs()).nan_to_num(math.inf, posinf=math.inf)
    size = theirs.abs().nan_to_num(0.0, posinf=0.0)
    allowed = tolerance.floor + tolerance.relative * size + tolerance.of_largest * size.max()
    share = torch.where(error == 0, 0.0, error / allowed)
    return error.max().item(), share.max().item()


def _listing(folder: Path) -> dict[str, dict[str, Any]]:
    """Case name -> its entry of `case.json`: `files` and `config`."""
    if not (folder / "case.json").is_file():
        return {"case": {"files": [file.name for file in folder.glob("case.safetensors")], "config": {}}}
    cases = json.loads((folder / "case.json").read_text())["cases"]
    return {Path(case["files"][0]).stem: case for case in cases}


def _first(patterns: dict[str, Any], name: str) -> Any:
    return next((value for pattern, value in patterns.items() if fnmatchcase(name, pattern)), None)
