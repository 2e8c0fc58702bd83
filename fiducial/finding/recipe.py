"""One finder's training as a value: a `Recipe` whose size is that of a whole image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fiducial.data.augment import AugmentSpec
from fiducial.geometry import Size
from fiducial.training.recipe import Recipe

METHOD = "centres"


@dataclass(frozen=True)
class FinderRecipe(Recipe):
    """What `fiducial fit` does to make a finder. Images are enlarged and moved more than crops are, since instances may be
    anywhere, and not turned but by right angles: a box that is turned is no longer the one that was labelled."""

    method: str = METHOD
    size: Size = Size(320, 320)
    head: dict[str, Any] = field(default_factory=dict)
    padding: float = 1.0
    batch_size: int = 16
    augment: AugmentSpec = AugmentSpec(scale=(0.6, 1.6), shift=0.2, rotation_degrees=0, rotation_probability=0)
    quarter_turns: bool = False  # images are turned by right angles, too
    preflight: bool = False  # the run before it has shown that the data can be learnt
