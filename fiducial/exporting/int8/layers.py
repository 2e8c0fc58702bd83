"""Which operators stay or become int8 together: those of a module, by the names that exported operators have."""

from __future__ import annotations

from collections.abc import Iterable

from fiducial.exporting import node_names

GROUPS = 40  # at most: each takes a run of its own to tell what it costs
NETWORK = ("backbone", "head")  # a detector's modules; normalisation and decode belong to neither


def module_of(operator: str) -> str | None:
    """The module of an operator named so, whatever a runtime has appended; None where it is outside of the network."""
    module = node_names.path_of(operator)
    return module if module.partition(".")[0] in NETWORK else None


def grouped(operators: Iterable[str], weighted: Iterable[str], limit: int = GROUPS) -> dict[str, tuple[str, ...]]:
    """Operators of the network, given in the order of the graph, by group: each module with a weight of its own, or, where
    these are more than `limit`, their parents. What has no weight (sums, activations) joins the group before it, unless its
    module is in one."""
    modules = list(dict.fromkeys(filter(None, map(module_of, weighted))))
    depth = max((len(module.split(".")) for module in modules), default=1)
    while len(heads := {_cut(module, depth) for module in modules}) > limit and depth > 1:
        depth -= 1
    found: dict[str, list[str]] = {}
    last = None
    for operator in operators:
        module = module_of(operator)
        if module is None:
            continue
        own = _cut(module, depth)
        last = own if own in heads else last
        if last is not None:
            found.setdefault(last, []).append(operator)
    return {name: tuple(members) for name, members in found.items()}


def _cut(module: str, depth: int) -> str:
    return ".".join(module.split(".")[:depth])
