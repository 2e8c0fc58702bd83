"""Files of timm and torchvision: the state of a classifier, whose backbone can be had."""

from __future__ import annotations

from collections.abc import Iterable

from fiducial.models.checkpoints import _trunks
from fiducial.models.checkpoints._plan import Draft, Plan, Shapes
from fiducial.models.checkpoints._reader import Contents

PROJECT = "timm or torchvision"
# Where our wrapper keeps a network of timm, and what timm's own wrappers put before the names.
WITHIN = ("backbone.encoder.network.model.", "backbone.encoder.network.")


def recognise(shapes: Shapes) -> bool:
    """Recognises a ResNet without prefix that does not go on as a pose network; others can't be told by names
    (`matching`)."""
    trunk = _trunks.trunk_of(shapes)
    return trunk is not None and trunk.name.startswith("resnet") and "deconv_layers.0.weight" not in shapes


def plan(contents: Contents) -> Plan:
    """Plans a backbone alone."""
    trunk = _trunks.trunk_of(contents.shapes)
    assert trunk is not None
    draft = Draft(contents, PROJECT)
    draft.leave("fc.", "of the classifier")
    draft.take("", trunk.prefix)
    return draft.finish(trunk.name)


def matching(own: Iterable[str], theirs: Iterable[str]) -> dict[str, str]:
    """Matches our names with the file's, for any network of timm: timm writes `stages_0` for `stages.0` where it gives
    maps, so names are compared without their dots."""
    plain = {name.replace(".", "_"): name for name in theirs}
    found = {}
    for name in own:
        prefix = next((prefix for prefix in WITHIN if name.startswith(prefix)), None)
        match = None if prefix is None else plain.get(name.removeprefix(prefix).replace(".", "_"))
        if match is not None:
            found[name] = match
    return found
