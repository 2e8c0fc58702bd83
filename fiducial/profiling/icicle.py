"""Draws a profile: parts inside of parts from left to right, each as high as it takes time.

This is an icicle, or flame graph turned on its side, so that names are read as they are written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape

from fiducial.profiling.parts import Layer, Profile
from fiducial.report.plot import GROUND, LINE, SERIES, WIDTH, rect, series_colour, svg_of, text_at

HEIGHT = 760  # units
TEXT = 10
LETTER = 0.56 * TEXT  # width of one, about
# The kinds that take the most time have a colour, all others are grey; at half strength the last one looks as the first.
COLOURS = len(SERIES) - 1
OWN_CODE = "(own code)"
GREY = "var(--line,#d9dce2)"


@dataclass
class Part:
    """A module, or what a runtime ran of it."""

    name: str
    ms: float = 0.0
    kind: str = ""  # of a layer
    inside: dict[str, Part] = field(default_factory=dict)


def icicle(profile: Profile) -> str:
    """Makes one <svg> element; every layer that has taken time is in it, with its figures as a tooltip."""
    root = shortened(tree(profile.layers))
    kinds = _slowest_kinds(profile.layers)
    legend = LINE * ((len(kinds) + 1) // 2) + 8
    drawing = _Drawing(kinds, WIDTH / _depth(root), HEIGHT / root.ms if root.ms > 0 else 0.0, profile.whole_ms)
    title = f"Time by part: {profile.model} in {profile.runtime}"
    return svg_of(title, HEIGHT + legend, [*_legend(kinds), *drawing.parts(root, 0, legend)], TEXT)


def tree(layers: Sequence[Layer]) -> Part:
    """Makes a tree of the layers' paths; layers of one path are below it, its own code too where other parts are inside."""
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
    """Joins a part with the only thing inside it that divides further: `encoder.network`, with the code of both.

    A part that is one layer becomes that layer."""
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


@dataclass(frozen=True)
class _Drawing:
    """How parts are drawn."""

    kinds: Sequence[str]  # that have a colour
    column_width: float
    per_ms: float  # height
    whole_ms: float

    def parts(self, part: Part, column: int, top: float) -> Iterator[str]:
        """Draws the part and, right of it, what is inside."""
        height = part.ms * self.per_ms
        if height <= 0:
            return
        x = column * self.column_width
        width = WIDTH - x if part.kind else self.column_width  # what has nothing inside goes on to the edge
        fill = series_colour(self.kinds.index(part.kind)) if part.kind in self.kinds else GREY
        kind = f" ({part.kind})" if part.kind else ""
        yield f"<g><title>{escape(f'{part.name}{kind}: {part.ms:.3f} ms, {part.ms / self.whole_ms:.1%}')}</title>"
        yield rect(x, top, width, height, f"fill:{fill};fill-opacity:.5;stroke:{GROUND};stroke-width:.5")
        if height >= TEXT + 1:
            yield text_at(x + 3, top + min(height / 2, 40) + TEXT * 0.36, self._text(part, int((width - 6) / LETTER)))
        yield "</g>"
        for inner in part.inside.values():
            yield from self.parts(inner, column + 1, top)
            top += inner.ms * self.per_ms

    def _text(self, part: Part, room: int) -> str:
        """As much of name, kind and share as there is room for, in letters."""
        share = f"{part.ms / self.whole_ms:.0%}"
        kind = f"{part.kind} " if part.kind != part.name and part.kind else ""
        candidates = (f"{part.name} {kind}{share}", f"{part.name} {share}", part.name)
        return next((text for text in candidates if len(text) <= room), f"{part.name[: room - 1]}…")


def _legend(kinds: Sequence[str]) -> Iterator[str]:
    """Two a line."""
    for i, kind in enumerate(kinds):
        x, y = (i % 2) * WIDTH / 2, (i // 2) * LINE
        yield rect(x, y, 10, 10, f"fill:{series_colour(i)};fill-opacity:.5")
        yield text_at(x + 15, y + 9, kind)
