"""Annotations of any supported format as `Instances`: finds the format, chooses the split, checks what was read."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np

from fiducial.data import carving, checking, formats, skeletons
from fiducial.data.source import Source
from fiducial.data.together import together
from fiducial.errors import UserError, did_you_mean
from fiducial.types import NOTE, Findings, Instances, Problem, Skeleton

SPLITS = formats.SPLITS
LOOKED_INTO = 20  # sub-folders of one that holds no annotations


def load(
    data: Source | Path | str,
    split: str,
    *,
    strict: bool = False,
    verify: bool = True,
    ignored: bool = False,
    carve: bool = True,
) -> tuple[Instances, list[Problem]]:
    """The instances of one split ("train", "val", "test"; "all" for everything there is), and what is wrong with
    others.

    `data` are a folder or a file of any format in `formats/`, or a source of several sets or categories, read as one.
    Broken instances are left out and listed; `strict` makes them an error. `verify` opens every picture (some 50
    microseconds each) to find those cut short or of another size than declared. `ignored` keeps instances that have a
    box and no labelled point, as COCO's evaluation needs them.

    Splits that the source doesn't have: with no val, a tenth of the pictures of train becomes val, and with no test
    either another tenth becomes test (`carving`). A source that has val is taken as it is, and any where `carve` is
    False."""
    source = Source.of(data)
    if len(source.parts) > 1:
        loaded = [
            load(part, split, strict=strict, verify=verify, ignored=ignored, carve=carve) for part in source.parts
        ]
        found = dict.fromkeys(problem for _, problems in loaded for problem in problems)
        instances = [part for part, _ in loaded]
        count = len(source.parts) - len(source.also)  # categories of the set itself; the others are sets of their own
        joined = together([together(instances[:count], one_set=True), *instances[count:]])
        told = {problem.what for problem in found}
        said = [line for line in skeletons.nearly_equal(joined.skeleton.points) if line not in told]
        return joined, [*found, *(Problem(joined.source, NOTE, line) for line in said)]
    findings = Findings(str(source.path))
    instances = read(source, split, findings, carve=carve)
    checking.refuse_shares(instances)
    flat = np.asarray((instances.box_xywh[:, 2:] <= 0).any(1))
    instances = checking.check(instances, findings, verify=verify, ignored=ignored)
    checking.refuse_if_strict(findings, f"split {split!r}", strict)
    if not instances.labelled.any():
        wrong = checking.summary(findings.wrong, 1 if flat.all() else 3, source=instances.source)
        reason = f": {wrong}" if wrong else "; expected annotations with labelled points"
        hint = (
            "; leave all boxes out (COCO: `bbox`), and they are made of the points" if len(flat) and flat.all() else ""
        )
        raise UserError(f"{instances.source}: split {split!r} is empty{reason}{hint}")
    return instances, findings.problems


def load_for(
    skeleton: Skeleton, data: Source | Path | str, split: str, *, strict: bool = False, ignored: bool = False
) -> tuple[Instances, list[Problem], Source]:
    """Loads what a model of this skeleton is measured on, as `load` does. Where there are several categories and nobody named
    one, those that the model finds are read, and the source then names them."""
    source = Source.of(data)
    try:
        return *load(source, split, strict=strict, ignored=ignored), source
    except UserError as error:
        named = replace(source, category=",".join(skeleton.kinds or [skeleton.name]))
        if source.category is not None or len(source.parts) > 1:
            raise
        try:
            instances, problems = load(named, split, strict=strict, ignored=ignored)
        except UserError:
            raise error from None
        note = f"of its several categories those that the model finds are read: {named.category}"
        return instances, [Problem(str(source), NOTE, note), *problems], named


def own_splits(data: Source | Path | str) -> tuple[str, ...]:
    """Names the splits that a source has of its own; one that knows none is all "train"."""
    return tuple(find(Source.of(data).path)[1])


def files_of(data: Source | Path | str, split: str) -> list[Path]:
    """Lists the files that a split is read from, or carved out of."""
    return [file for part in Source.of(data).parts for file in _choose(part.path, find(part.path)[1], split)[0]]


def read(source: Source, split: str, findings: Findings, *, carve: bool = True) -> Instances:
    """The instances of one split as they stand in their files, before what is wrong is left out. Only with `carve` a split
    that has no annotations of its own is carved out of another. Of one set and category."""
    path = source.path
    module, sources = find(path)
    files, own, tenths = _choose(path, sources, split)
    with _uncollected():
        instances = module.read(path, files, source.images, source.category, findings)
    if tenths and carve:
        instances = carving.carved(instances, own, tenths, findings, files, source.group)
    return instances


def find(path: Path) -> tuple[ModuleType, dict[str, list[Path]]]:
    """The format of a path, and its files by split."""
    if not os.path.exists(path):  # False, where Path raises: names too long, of a zero byte
        raise UserError(f"{path}: no such file or folder")
    modules = formats.modules()
    if found := _found(path, modules):
        return found
    reasons = [reason for module in modules if (reason := getattr(module, "why_not", lambda _: "")(path))]
    known = "; ".join(module.TITLE for module in modules)
    if below := _labelled_below(path, modules):
        reasons.append(
            f"There are in its sub-folder{'s' if len(below) > 1 else ''} {', '.join(below)}: give one of these"
        )
    raise UserError(f"{path}: no annotations in a known format. {'. '.join([*reasons, ''])}Known: {known}")


def _labelled_below(path: Path, modules: list[ModuleType]) -> list[str]:
    """Names the folders in a folder that hold annotations, of the first few."""
    found = []
    if path.is_dir():
        with suppress(OSError):
            for folder in sorted(folder for folder in path.iterdir() if folder.is_dir())[:LOOKED_INTO]:
                with suppress(UserError):
                    found += [folder.name] if _found(folder, modules) else []
    return found


def is_labelled(path: Path) -> bool:
    """Whether a path holds annotations of a known format."""
    return _found(path, formats.modules()) is not None


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keeps the garbage collector away while millions of small objects are made, through all of which it would go again and
    again: half the time of large files."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _found(path: Path, modules: list[ModuleType]) -> tuple[ModuleType, dict[str, list[Path]]] | None:
    """The first format that fits, of those that are sure of it; else of those that make do."""
    for name in ("find", "find_last"):
        for module in modules:
            if sources := getattr(module, name, lambda _: {})(path):
                return module, sources
    return None


def _choose(path: Path, sources: dict[str, list[Path]], split: str) -> tuple[list[Path], str, dict[int, str]]:
    """The files to read, the split asked for, and which tenths of the pictures go to which split ({} = keep all)."""
    if split == "all":
        if len(sources) > 1:
            raise UserError(f"{path}: has splits {', '.join(sources)}; choose one of them")
        return next(iter(sources.values())), split, {}
    if split not in SPLITS:
        raise UserError(f"split {split!r}: unknown." + did_you_mean(split, (*SPLITS, "all")))
    carved = {}
    if "train" in sources and "val" not in sources:
        carved = {8: "val"} if "test" in sources else {8: "val", 9: "test"}
    if split in sources:
        return sources[split], split, carved if split == "train" else {}
    if split in carved.values():
        return sources["train"], split, carved
    raise UserError(
        f"{path}: no split {split!r}, it has {', '.join(sources)}; expected annotations of it too, such as "
        f"annotations/{split}.json (`fiducial evaluate` takes --split {next(iter(sources))})"
    )
