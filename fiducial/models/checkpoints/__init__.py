"""Weights of other projects, recognised by the names and shapes of their tensors. One file = one source, found by being
there; files that begin with an underscore are what they share.

A source offers `recognise(shapes) -> bool` and `plan(contents) -> Plan`: which network it is, in our terms, and every
tensor under our name. Nothing here builds networks: `models/detector.py` does, and fills them by `fill`."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol, cast

from torch import Tensor, nn

from fiducial import card as cards
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.models.checkpoints import _reader, mmpose, timm
from fiducial.models.checkpoints._plan import COUNTERS, Plan, Shapes
from fiducial.models.checkpoints._reader import Contents

__all__ = [
    "Contents",
    "Plan",
    "file_at",
    "fill",
    "initialise",
    "plan_of",
    "read",
    "refuse_exported",
    "refuse_unusable",
    "sources",
]

# How names begin in runs of ours alone: of networks of timm, and of heads.
OURS = (
    "backbone.encoder.network.",
    "backbone.network.",
    "head.final.",
    "head.upsample.",
    "head.network.",
    "head.linear.",
)
read = _reader.read
refuse_exported = _reader.refuse_exported
refuse_unusable = _reader.refuse_unusable


class Source(Protocol):
    """Describes what a file of this folder offers."""

    PROJECT: str

    def recognise(self, shapes: Shapes) -> bool: ...

    def plan(self, contents: Contents) -> Plan: ...


def sources() -> Iterator[Source]:
    """Lists all sources of the folder, by name."""
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        yield cast(Source, importlib.import_module(f"{__name__}.{path.stem}"))


def source_of(shapes: Shapes) -> Source | None:
    """Finds the source that knows these names; None where nobody does."""
    return next((source for source in sources() if _recognises(source, shapes)), None)


def _recognises(source: Source, shapes: Shapes) -> bool:
    try:
        return source.recognise(shapes)
    except (ArithmeticError, LookupError, TypeError, ValueError):  # of shapes that no network has
        return False


def _planned(source: Source, contents: Contents) -> Plan:
    """The source's plan; UserError where its tensors have shapes that no network of it has."""
    try:
        return source.plan(contents)
    except UserError:
        raise
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        what = f"recognised as {source.PROJECT}, but the shapes of its tensors are none of such a network ({error})"
        raise UserError(contents.path, what) from error


def file_at(path: Path) -> Path | None:
    """Finds the file of another project that a path means: the file itself, or `model.safetensors` in a folder of
    transformers, beside its `config.json`. None for a run of ours."""
    file = path / "model.safetensors" if (path / "config.json").is_file() else path
    ours = file.name == "model.safetensors" and (file.parent / "model.json").exists()
    return file if file.is_file() and not ours else None


def plan_of(path: Path) -> Plan:
    """Says what a file holds, for building the network anew. Raises UserError where nobody knows it, or it has no
    head."""
    contents = read(path)
    source = source_of(contents.shapes)
    if source is None and any(name.startswith(OURS) for name in contents.state):
        raise UserError(
            f"{path}: weights of ours without their model.json; give the run folder that `fiducial fit` made"
        )
    if source is None and any(name.startswith("backbone.") for name in contents.state):
        raise UserError(path, mmpose.refusal(contents))
    if source is None:
        known = ", ".join(source.PROJECT for source in sources())
        raise UserError(
            f"{path}: nobody knows these {len(contents.state)} tensors, first {next(iter(contents.state))!r}. Known: "
            f"files of {known}, and the run folders of `fiducial fit`. A network of timm is given to `fiducial fit --init`"
        )
    plan = _planned(source, contents)
    if plan.method is None:
        raise UserError(
            f"{path}: {plan.project}, a backbone without a head; train one: fiducial fit DATA --out RUN --backbone "
            f"{plan.backbone} --init {path}"
        )
    return plan


def fill(network: nn.Module, plan: Plan, path: Path) -> str:
    """Fills every tensor of the plan into a network that was built by it; gives a line that says so. Raises UserError,
    in terms of architecture, points and input size, where one is missing or of another shape: nothing is loaded in
    part."""
    own = network.state_dict()
    wrong = _wrong(own, plan)
    if wrong:
        raise UserError(f"{path}: recognised as {plan.project}, but {_difference(wrong, own, plan)}")
    network.load_state_dict(plan.weights, strict=False)  # what may be missing was looked at just now
    assert plan.skeleton is not None
    points = f"{len(plan.skeleton.points)} points ({plan.skeleton.name})"
    counters = [name for name in own if name not in plan.weights]
    lines = [
        f"{path}: {plan.project}: {plan.method} on {plan.backbone}, {points}, input {plan.size} ({plan.size_from})",
        f"{plan.taken} of {plan.total} tensors taken",
        *_not_used(plan),
        *([f"missing: {len(counters)} counters, which are not needed"] if counters else []),
    ]
    return "; ".join(lines)


def initialise(
    network: nn.Module,
    source: Path,
    *,
    backbone: str,
    method: str,
    size: Size,
    points: tuple[str, ...],
    plan: Plan | None = None,
) -> str:
    """Fills an untrained detector with weights of a file or run folder; gives a line that says what was taken.

    The backbone must be the file's; of a U-Net, the encoder may come alone. Of the head, tensors of the same method,
    name and shape are taken, of a run of ours if its points are the same; the others stay random and are listed. Files
    that nobody knows must have our names, or those of the same network in timm. `plan`: what the source holds, where that is
    known already."""
    own = network.state_dict()
    plan = _read(source, list(own), backbone) if plan is None else plan
    same_head = _same_head(plan, method, points)
    fitting = {
        name: value
        for name, value in plan.weights.items()
        if name in own and own[name].shape == value.shape and (name.startswith("backbone.") or same_head)
    }
    left = [name for name in own if name not in fitting and not name.endswith(COUNTERS)]
    takes_none = not any(name.startswith("backbone.") for name in fitting)
    lost = [name for name in left if name.startswith("backbone." if takes_none else _part_of_backbone(plan))]
    if lost or not fitting:
        count = sum(name.startswith("backbone.") for name in own)
        raise UserError(
            f"--init {source}: does not fit backbone {backbone!r}: {len(lost)} of its {count} tensors are missing or of "
            f"another shape, first {lost[0] if lost else 'all'}{_what_to_ask_for(plan, backbone)}{_without_card(source)}"
        )
    network.load_state_dict(fitting, strict=False)
    head = {name for name in own if name.startswith("head.") and not name.endswith(COUNTERS)}
    whole = " (the whole head)" if head and head <= set(left) else ""
    unused = [*(plan.names[name] for name in plan.names if name not in fitting), *plan.unused]
    notes = [
        f"--init {source}: {len(fitting)} of {len(own)} tensors taken"
        + (f", of {plan.total} in the file" if plan.total != len(fitting) else ""),
        *([f"recognised as {plan.project}, {plan.backbone}"] if plan.project else []),
        *(_advice(plan, method, size, points) if plan.project or plan.method is not None else []),
        *([f"random as before: {', '.join(left)}{whole}"] if left else []),
        *([f"not used: {len(unused)} tensors such as {unused[0]}"] if unused else []),
    ]
    return "; ".join(notes)


def _read(source: Path, own: list[str], backbone: str) -> Plan:
    """What a file or run folder holds for a network with tensors of the names `own`."""
    foreign = file_at(source)
    if foreign is None and source.is_dir():
        refuse_exported(source)
    contents = read(foreign or (source / "model.safetensors" if source.is_dir() else source))
    known = None if foreign is None else source_of(contents.shapes)
    return _by_names(contents, own, backbone) if known is None else _planned(known, contents)


def _by_names(contents: Contents, own: list[str], backbone: str) -> Plan:
    """A file of our names, or of the network of timm that our backbone wraps."""
    names = {name: name for name in contents.state}
    if not any(name in names for name in own):
        names = timm.matching(own, contents.state)
    unused = dict.fromkeys(set(contents.state) - set(names.values()), "of another name")
    plan = Plan("", backbone, {ours: contents.state[theirs] for ours, theirs in names.items()}, names, unused)
    card = contents.path.parent / "model.json"
    if contents.path.name != "model.safetensors" or not card.exists():
        return plan
    spec = cards.read(card).spec  # of a run of ours: what its head is
    return replace(plan, method=spec.method, skeleton=spec.skeleton, size=spec.size, size_from="by its card")


def _same_head(plan: Plan, method: str, points: tuple[str, ...]) -> bool:
    """Whether head tensors of equal names mean the same. A file of our names without its card does not say its method;
    other projects' names of points are not the user's."""
    return plan.method in (None, method) and not _other_points(plan, points)


def _other_points(plan: Plan, points: tuple[str, ...]) -> bool:
    return not plan.project and plan.skeleton is not None and plan.skeleton.points != points


def _part_of_backbone(plan: Plan) -> str | tuple[str, ...]:
    """Gives the beginning of those names of ours that the file must fill completely: the whole backbone, or its encoder
    alone where the file has nothing else of it."""
    of_backbone = [name for name in plan.weights if name.startswith("backbone.")]
    return timm.WITHIN if of_backbone and all(name.startswith(timm.WITHIN) for name in of_backbone) else "backbone."


def _what_to_ask_for(plan: Plan, backbone: str) -> str:
    if plan.backbone == backbone:
        return ""
    more = "" if plan.method is None else f" --method {plan.method} --size {plan.size}"
    return f"; the file's is {plan.backbone}: use --backbone {plan.backbone}{more}"


def _without_card(source: Path) -> str:
    """Says of a run's folder that what names its backbone is not in it."""
    if not (source / "model.safetensors").is_file() or (source / "model.json").exists():
        return ""
    return (
        "; model.json, which says what they are of, is not beside model.safetensors: copy the whole folder of the run"
    )


def _advice(plan: Plan, method: str, size: Size, points: tuple[str, ...]) -> list[str]:
    """Lists what of the recipe differs from what the weights were trained for."""
    notes = []
    if plan.method is None:
        notes.append("it has a backbone alone, so the head starts at random")
    elif plan.method != method:
        notes.append(f"its head is of --method {plan.method}, so that of {method} starts at random")
    elif _other_points(plan, points):
        notes.append("its points are others, so the head starts at random")
    if plan.method is not None and plan.size != size:
        notes.append(f"trained for --size {plan.size} ({plan.size_from}), yours is {size}")
    return notes


def _not_used(plan: Plan) -> list[str]:
    reasons = dict.fromkeys(plan.unused.values())
    return [f"not used: {sum(why == reason for why in plan.unused.values())} tensors ({reason})" for reason in reasons]


def _wrong(own: dict[str, Tensor], plan: Plan) -> dict[str, str]:
    """Our name of each tensor that does not fit -> how."""
    wrong = {}
    for name, tensor in own.items():
        given = plan.weights.get(name)
        if given is None and not name.endswith(COUNTERS):
            wrong[name] = "missing"
        elif given is not None and given.shape != tensor.shape:
            wrong[name] = f"{list(given.shape)}, expected {list(tensor.shape)}"
    return wrong | {name: "has no place in it" for name in plan.weights if name not in own}


def _difference(wrong: dict[str, str], own: dict[str, Tensor], plan: Plan) -> str:
    shown = ", ".join(f"{plan.names.get(name, name)} ({how})" for name, how in list(wrong.items())[:3])
    shown += f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    if any(name.startswith("backbone.") for name in wrong):
        return f"the architecture differs from {plan.backbone}: {shown}"
    by_cell = ("head.network.mlp", "head.network.cls", "head.network.linear")
    if plan.fixed_size and all(name.startswith(by_cell) and how != "missing" for name, how in wrong.items()):
        return f"the input size differs, its head is for {plan.size}: {shown}"
    points = {plan.weights[name].shape[0] for name in wrong if name in plan.weights and name.startswith("head.final.")}
    if points:
        return f"the number of points differs within it: {shown}"
    return f"its head is not a complete {plan.method} head: {shown}"
