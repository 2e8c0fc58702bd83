"""Rows of a profile: by module, by block, by layer or by type of layer. All layers are in one row each, so that every table
sums to the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fiducial.errors import UserError, did_you_mean
from fiducial.profiling.parts import Layer, Machine, Profile, Shape

BY = ("module", "block", "layer", "type")
PARTS_OF_DETECTOR = ("backbone", "head")
NO_MODULE, REST = "(no module)", "(rest)"


@dataclass(frozen=True)
class Row:
    """Layers that belong together. `input` is that of the first, `output` that of the last; of a type there is none."""

    name: str
    layers: int
    input: Shape
    output: Shape
    parameters: int
    macs: int
    ms: float
    share: float  # of the whole
    floor_ms: float  # of its multiply-adds at the machine's peak
    of_peak: (
        float  # floor_ms / ms: 1 = as fast as this machine multiplies in fp32; transforms of 3x3 convolutions exceed it
    )
    output_bytes: int


def rows(profile: Profile, by: str | None = None) -> list[Row]:
    """In the order of the data, by type the slowest first; at the end the time that is in no layer. None: by block where
    the layers say their modules, else by layer. UserError for another `by`, or one that the layers don't know."""
    has_modules = any(layer.path for layer in profile.layers if layer.macs)
    check(by)
    by = by or ("block" if has_modules else "layer")
    if by in ("module", "block") and not has_modules:
        raise UserError(
            f"--by {by}: the layers of {profile.runtime} don't say their modules in this file. Use --by layer or type, or "
            "profile the run folder"
        )
    name_of = _namer(by, profile.layers)
    groups: dict[str, list[Layer]] = {}
    for layer in profile.layers:
        groups.setdefault(name_of(layer), []).append(layer)
    found = [_row(name, layers, profile.whole_ms, profile.machine, by) for name, layers in groups.items()]
    if by == "type":
        found.sort(key=lambda row: -row.ms)
    rest = Row(REST, 0, (), (), 0, 0, profile.rest_ms, profile.rest_ms / profile.whole_ms, 0.0, 0.0, 0)
    return [*found, rest]


def check(by: str | None) -> None:
    """UserError for what is none of `BY`; None is fine."""
    if by is not None and by not in BY:
        raise UserError(f"--by {by!r}: no such table.{did_you_mean(by, BY)}")


def block_of(path: str, parents: set[str]) -> str | None:
    """The innermost numbered part that has parts itself: `blocks.1.0` of `blocks.1.0.se.conv`; None where there is none.

    Numbers are what lists of equal parts have: the blocks of a stage. A number without parts is a layer in a row."""
    names = path.split(".")
    for end in range(len(names), 0, -1):
        if names[end - 1].isdigit() and ".".join(names[:end]) in parents:
            return ".".join(names[:end])
    return None


def module_of(path: str, trunks: Sequence[str]) -> str:
    """What backbone and head divide into: `trunks` are the places where they do."""
    for trunk in trunks:
        if trunk == path or trunk.startswith(f"{path}."):
            return trunk
        if path.startswith(f"{trunk}."):
            return f"{trunk}.{path.removeprefix(trunk + '.').partition('.')[0]}"
    return path


def parents_of(paths: Sequence[str]) -> set[str]:
    """All that have parts inside."""
    return {path[:i] for path in paths for i, letter in enumerate(path) if letter == "."}


def trunks_of(paths: Sequence[str]) -> list[str]:
    """Backbone and head, or the first part inside that divides: the only part of the only part of it, and so on."""
    found = []
    for trunk in PARTS_OF_DETECTOR:
        inside = [path.split(".") for path in paths if path.startswith(f"{trunk}.")]
        longest = max(inside, key=len, default=[trunk])
        depths = range(1, len(longest))
        depth = next((i for i in depths if len({names[i] for names in inside if len(names) > i}) > 1), 1)
        found.append(".".join(longest[:depth]))
    return found


def _namer(by: str, layers: Sequence[Layer]) -> Callable[[Layer], str]:
    if by == "type":
        return lambda layer: layer.kind
    if by == "layer":
        return lambda layer: layer.name
    paths = [layer.path for layer in layers]
    parents, trunks = parents_of(paths), trunks_of(paths)
    if by == "module":
        return lambda layer: module_of(layer.path, trunks) or NO_MODULE
    return lambda layer: block_of(layer.path, parents) or module_of(layer.path, trunks) or NO_MODULE


def _row(name: str, layers: Sequence[Layer], whole_ms: float, machine: Machine, by: str) -> Row:
    ms, macs = sum(layer.ms for layer in layers), sum(layer.macs for layer in layers)
    shaped = [layer for layer in layers if layer.output] if by != "type" else []
    floor_ms = machine.floor_ms(macs)
    return Row(
        name,
        len(layers),
        shaped[0].input if shaped else (),
        shaped[-1].output if shaped else (),
        sum(layer.parameters for layer in layers),
        macs,
        ms,
        ms / whole_ms,
        floor_ms,
        floor_ms / ms if ms > 0 else 0.0,
        sum(layer.output_bytes for layer in layers),
    )
