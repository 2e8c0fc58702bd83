"""Finds backbones and heads by folder: a file in `backbones/` or `heads/` is there for users by being there.

No registry, and importing this imports neither torch nor any family."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol, cast

from fiducial.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from fiducial.models.contracts import Backbone
    from fiducial.models.pretrained import Pretrained

# Asked last: it knows a thousand names, ours among them where they mean another cut of the same network.
LAST_FAMILY = "timm_family"


class Family(Protocol):
    """Describes what a file in `backbones/` offers."""

    EXAMPLES: tuple[str, ...]  # small members that show the range: for messages, and the battery builds them

    def names(self) -> list[str]: ...

    def matches(self, name: str) -> bool: ...

    def build(self, name: str, pretrained: Pretrained) -> Backbone: ...


def families() -> Iterator[Family]:
    """Lists the families of backbones, each imported when its turn comes."""
    for name in sorted(_modules("backbones"), key=lambda name: (name == LAST_FAMILY, name)):
        yield cast(Family, importlib.import_module(f"fiducial.models.backbones.{name}"))


def build_backbone(name: str, pretrained: Pretrained = "auto") -> Backbone:
    """Builds a backbone by name. `pretrained`: "yes" = ImageNet's weights or an error, "no" = random, "auto" = weights
    where they can be had, else random with a warning. Dashes and underscores are the same."""
    plain = name.replace("-", "_")
    family = next((family for family in families() if family.matches(plain)), None)
    if family is None:
        raise UserError(f"backbone {name!r}: no such name.{_nearest_backbones(plain)}")
    return family.build(plain, pretrained)


def methods() -> list[str]:
    """Lists the names for `--method`."""
    return _modules("heads")


def head_module(method: str) -> ModuleType:
    """Imports the file of a method: its `Spec` and its `Head`."""
    if method not in methods():
        raise UserError(f"method {method!r}: no such name.{did_you_mean(method, methods())}")
    return importlib.import_module(f"fiducial.models.heads.{method}")


def _modules(folder: str) -> list[str]:
    files = (Path(__file__).parent / folder).glob("*.py")
    return sorted(path.stem for path in files if not path.stem.startswith("_"))


def _nearest_backbones(name: str) -> str:
    """Lists the nearest three of thousands, then some of each family, since all of them would fill a screen."""
    known = {member for family in families() for member in family.names()}
    close = difflib.get_close_matches(name.lower(), sorted(known), n=3, cutoff=0.5)
    guess = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    examples = ", ".join(example for family in families() for example in family.EXAMPLES[:3])
    return f"{guess} Known: {examples}, and all others of timm"
