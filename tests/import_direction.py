"""Imports go one way: a room may import only from rooms before it, and no module may be in a cycle.

Run by `make check`. Imports under TYPE_CHECKING count too: a type is a dependency."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Rooms in the order in which data walks through them; see docs/architecture.md.
ORDER = [
    "version",
    "errors",
    "log",
    "lazy",
    "geometry",
    "types",
    "text_files",
    "files",
    "folders",
    "progress",
    "worker",
    "cluster",
    "trial",
    "limited",
    "config",
    "card",
    "records",
    "data",
    "checks",
    "drawnfaces",
    "models",
    "web",
    "runtime",
    "evaluation",
    "report",
    "training",
    "finding",
    "exporting",
    "prediction",
    "profiling",
    "serve",
    "motion",
    "distillation",
    "comparison",
    "searching",
    "api",
    "labels",
    "reference",
    "cli",
]
# What other projects compute: for tests alone.
MUSEUM = "reference"


def imports(path: Path) -> set[str]:
    """Dotted names of the fiducial modules that a file imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("fiducial")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fiducial"):
            assert node.module is not None
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def violations() -> list[str]:
    """One line for each import that goes up, and for each cycle."""
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((ROOT / "fiducial").rglob("*.py"))
    }

    def module_of(name: str) -> str | None:
        while name and name not in modules:
            name = name.rpartition(".")[0]
        return None if name in ("", "fiducial") else name

    graph: dict[str, set[str]] = {}
    lines = []
    for name, path in modules.items():
        if name == "fiducial":
            continue
        targets = {module_of(target) for target in imports(path)} - {None, name}
        graph[name] = {target for target in targets if target is not None}
        room = name.split(".")[1]
        for target in sorted(graph[name]):
            other = target.split(".")[1]
            if other == MUSEUM != room:
                lines.append(f"{path.relative_to(ROOT)}: nothing of the product may import {MUSEUM} ({target})")
            elif ORDER.index(other) > ORDER.index(room):
                lines.append(f"{path.relative_to(ROOT)}: {room} may not import {other} ({target})")
    return lines + cycles(graph)


def cycles(graph: dict[str, set[str]]) -> list[str]:
    """Each import cycle once, as `a -> b -> a`."""
    lines, done = [], set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            lines.append("cycle: " + " -> ".join((*trail[trail.index(name) :], name)))
        elif name not in done:
            for target in sorted(graph.get(name, ())):
                visit(target, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())
    return lines


if __name__ == "__main__":
    problems = violations()
    print("\n".join(problems) or "imports go one way")
    sys.exit(1 if problems else 0)
