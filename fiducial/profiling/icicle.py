"""A profile as a picture: parts inside of parts from left to right, each as high as it takes time (an icicle, or flame
graph turned on its side, so that names are read as they are written)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape

from fiducial.profiling.parts import Layer, Profile

WIDTH, HEIGHT, LEGEND_LINE = 400, 760, 17  # units; as the other charts
TEXT = 10
LETTER = 0.56 * TEXT  # width of one, about
COLOURS = 6  # of the page: --series-1 .. ; the kinds that take the most time have one, all others are grey
OWN_CODE = "(own code)"
PLAIN = "var(--line, #d9dce2)"


@dataclass
class Part:
    """A module, or what a runtime ran of it."""

    name: str
    ms: float = 0.0
    kind: str = ""  # of a layer
    inside: dict[str, Part] = field(default_factory=dict)


def icicle(profile: Profile) -> str:
    """One <svg> element; every layer that has taken time is in it, with its figures as a tooltip."""
    root = shortened(tree(profile.layers))
    kinds = _slowest_kinds(profile.layers)
    depth = _depth(root)
    legend = LEGEND_LINE * ((len(kinds) + 1) // 2) + 8
    parts = [f"<g font-size='{TEXT}' fill='currentColor'>"]
    parts += _legend(kinds)
    if root.ms > 0:
        parts += _drawn(root, 0, 0.0, WIDTH / depth, HEIGHT / root.ms, profile.whole_ms, kinds, legend)
    label = f"Time by part: {profile.model} in {profile.runtime}"
    return (
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT + legend}' role='img' aria-label='{escape(label, quote=True)}'>"
        + "".join(parts) + "</g></svg>"
    )  # fmt: skip


def tree(layers: Sequence[Layer]) -> Part:
    """By the layers' paths; layers of one path are below it, its own code too where other parts are inside."""
    root = Part("all")
    for layer in layers:
        here = root
        here.ms += layer.ms
        own_name = layer.name == layer.path  # a module, not an operator of one
        names = layer.path.split(".") if layer.path else ["(no module)"]
        for name in names:
            here = here.inside.setdefault(name, Part(name))
            here.ms += layer.ms
        leaf = here.inside.setdefault(OWN_CODE if own_name else layer.name.rpartition("/")[2], Part(""))
        leaf.name, leaf.kind = layer.kind, layer.kind
        leaf.ms += layer.ms
    return root


def shortened(part: Part) -> Part:
    """Where only one thing inside a part divides further, the two are one, `encoder.network`, with the code of both; where
    a part is one layer, it is that layer."""
    inside = {key: shortened(inner) for key, inner in part.inside.items()}
    if len(inside) == 1 and not part.kind and (only := next(iter(inside.values()))).kind:
        return Part(part.name, part.ms, only.kind)
    divided = [key for key, inner in inside.items() if inner.inside]
    if len(divided) != 1 or any(inner.kind and key != OWN_CODE for key, inner in inside.items()):
        return Part(part.name, part.ms, part.kind, inside)
    key = divided[0]
    inner = inside.pop(key)
    own = {f"{OWN_CODE} of {part.name}": leaf for leaf in inside.values()}
    return Part(f"{part.name}.{inner.name}", part.ms, "", own | inner.inside)


def _depth(part: Part) -> int:
    return 1 + max((_depth(inner) for inner in part.inside.values()), default=0)


def _slowest_kinds(layers: Sequence[Layer]) -> list[str]:
    totals: dict[str, float] = {}
    for layer in layers:
        totals[layer.kind] = totals.get(layer.kind, 0.0) + layer.ms
    return sorted(totals, key=lambda kind: -totals[kind])[:COLOURS]


def _drawn(
    part: Part, column: int, top: float, width: float, per_ms: float, whole_ms: float, kinds: Sequence[str], offset: float
) -> Iterator[str]:  # fmt: skip
    """The part and, right of it, what is inside."""
    height = part.ms * per_ms
    if height <= 0:
        return
    x, y = column * width, offset + top
    span = WIDTH - x if part.kind else width  # what has nothing inside goes on to the edge
    fill = f"var(--series-{kinds.index(part.kind) + 1})" if part.kind in kinds else PLAIN
    says = f"{part.name}{f' ({part.kind})' if part.kind else ''}: {part.ms:.3f} ms, {part.ms / whole_ms:.1%}"
    yield (
        f"<g><title>{escape(says)}</title><rect x='{x:.1f}' y='{y:.2f}' width='{span:.1f}' height='{height:.2f}' "
        f"fill='{fill}' fill-opacity='.5' stroke='var(--ground, #fff)' stroke-width='.5'/>"
    )
    if height >= TEXT + 1:
        room = int((span - 6) / LETTER)
        share = f"{part.ms / whole_ms:.0%}"
        choices = [
            f"{part.name} {part.kind if part.kind != part.name else ''} {share}",
            f"{part.name} {share}",
            part.name,
        ]
        text = next((" ".join(each.split()) for each in choices if len(each) <= room), f"{part.name[: room - 1]}…")
        yield f"<text x='{x + 3:.1f}' y='{y + min(height / 2, 40) + TEXT * 0.36:.2f}'>{escape(text)}</text>"
    yield "</g>"
    for inner in part.inside.values():
        yield from _drawn(inner, column + 1, top, width, per_ms, whole_ms, kinds, offset)
        top += inner.ms * per_ms


def _legend(kinds: Sequence[str]) -> Iterator[str]:
    """Two a line."""
    for i, kind in enumerate(kinds):
        x, y = (i % 2) * WIDTH / 2, (i // 2) * LEGEND_LINE
        yield f"<rect x='{x}' y='{y}' width='10' height='10' fill='var(--series-{i + 1})' fill-opacity='.5'/>"
        yield f"<text x='{x + 15}' y='{y + 9}'>{escape(kind)}</text>"
