"""Finds backbones and heads by folder: a file in `backbones/` or `heads/` is there for users by being there.

No registry, and importing this imports neither torch nor any family. A user's own file does as well (`outside.py`)."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol, cast

from fiducial import config
from fiducial.errors import UserError, did_you_mean
from fiducial.models import outside

if TYPE_CHECKING:
    from fiducial.models.contracts import Backbone
    from fiducial.models.pretrained import Pretrained

# Asked last: it knows a thousand names, ours among them where they mean another cut of the same network.
LAST_FAMILY = "timm_family"
PROMISED = ("forward", "decode", "loss", "unflip", "encode")  # of a head, which `contracts.Head` leaves open


class Family(Protocol):
    """What a file in `backbones/` offers; of a user's own file `build`, and EXAMPLES where no name is given. `build_levels`, of
    the same arguments, where it can give more maps than heads need."""

    EXAMPLES: tuple[str, ...]  # small members that show the range: for messages, and the battery builds them

    def names(self) -> list[str]: ...

    def matches(self, name: str) -> bool: ...

    def build(self, name: str, pretrained: Pretrained) -> Backbone: ...


def families() -> Iterator[Family]:
    """Imports the families of backbones, each when its turn comes."""
    for name in sorted(_modules("backbones"), key=lambda name: (name == LAST_FAMILY, name)):
        yield cast(Family, importlib.import_module(f"fiducial.models.backbones.{name}"))


def build_backbone(name: str, pretrained: Pretrained = "here", *, all_levels: bool = False) -> Backbone:
    """Builds a backbone by name, with one map or, `all_levels`, as many as its family can give; `my_net.py:NAME` and
    `my_module.my_net:NAME` are a user's own.

    `pretrained`: "yes" = ImageNet's weights or an error, "no" = random, "auto" = weights where they can be had, "here"
    = where they are on this disk, both else random with a warning. Dashes and underscores are the same."""
    family, member = _family_of(name)
    build = getattr(family, "build_levels", family.build) if all_levels else family.build
    return build(member, pretrained)


def check(backbone: str, method: str, head: dict[str, Any]) -> None:
    """Raises UserError for parts and settings of a head that there are not, without building anything: before data are
    read, where it would come after minutes else."""
    config.from_dict(head_module(method).Spec, head, "head")
    _family_of(backbone)


def methods() -> list[str]:
    """Lists the names for `--method`; a user's own head is named by its module or file besides."""
    return _modules("heads")


def head_module(method: str) -> ModuleType:
    """Imports the file of a method: its `Spec` and its `Head`, or of `my_head.py:NAME` the class NAME as `Head`."""
    if method in methods():
        return importlib.import_module(f"fiducial.models.heads.{method}")
    if method in _modules("finders"):
        return importlib.import_module(f"fiducial.models.finders.{method}")
    if not outside.is_outside(method):
        raise UserError(f"method {method!r}: no such name.{did_you_mean(method, methods())}")
    module, name = outside.find(method, "--method")
    return cast(ModuleType, SimpleNamespace(**{**vars(module), **_head_in(module, name or "Head", method)}))


def sources(backbone: str, method: str) -> dict[str, str]:
    """Says where the parts from outside of the package are from, by their names; {} where there are none."""
    own = {method: "--method"} if method not in (*methods(), *_modules("finders")) else {}
    if outside.is_outside(backbone) and not any(family.matches(backbone.replace("-", "_")) for family in families()):
        own[backbone] = "--backbone"
    return {name: outside.source_of(outside.find(name, option)[0]) for name, option in own.items()}


def _family_of(name: str) -> tuple[Family, str]:
    """Finds the family of a backbone, and what it calls it; UserError where nobody knows the name."""
    plain = name.replace("-", "_")
    family = next((family for family in families() if family.matches(plain)), None)
    if family is not None:
        return family, plain
    if not outside.is_outside(name):
        raise UserError(f"backbone {name!r}: no such name.{_nearest_backbones(plain)}")
    module, member = outside.find(name, "--backbone")
    if not callable(getattr(module, "build", None)):
        raise UserError(f"--backbone {name!r}", "no function build(name, pretrained) there (docs/architecture.md)")
    return cast(Family, module), member or module.EXAMPLES[0]


def _head_in(module: ModuleType, name: str, method: str) -> dict[str, Any]:
    """Checks that a user's class keeps what heads promise: {"Head", "Spec"}."""
    from fiducial.models import contracts

    kind = getattr(module, name, None)
    if not (isinstance(kind, type) and issubclass(kind, contracts.Head)):
        raise UserError(f"--method {method!r}", f"no class {name} of fiducial.models.contracts.Head there")
    missing = [promise for promise in PROMISED if getattr(kind, promise) is getattr(contracts.Head, promise)]
    if missing:
        raise UserError(
            f"--method {method!r}", f"{name} lacks {', '.join(missing)}; see fiducial.models.contracts.Head"
        )
    spec = getattr(kind, "Spec", None) or getattr(module, "Spec", None)
    if spec is None:
        raise UserError(f"--method {method!r}", "no dataclass Spec there; it holds the head's settings, if only none")
    return {"Head": kind, "Spec": spec}


def _modules(folder: str) -> list[str]:
    files = (Path(__file__).parent / folder).glob("*.py")
    return sorted(path.stem for path in files if not path.stem.startswith("_"))


def _nearest_backbones(name: str) -> str:
    """Names the nearest three of thousands, then two of each family, since all of them would fill a screen."""
    known = {member for family in families() for member in family.names()}
    close = difflib.get_close_matches(name.lower(), sorted(known), n=3, cutoff=0.5)
    guess = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    examples = ", ".join(example for family in families() for example in family.EXAMPLES[:2])
    return f"{guess} Known: {examples}, and all others of timm"
