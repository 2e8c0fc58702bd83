"""Names of the published networks' tensors -> ours, and which of them are computed here.

Files of the First-Order-Motion model hold a state of the whole system: `generator`, `kp_detector`, `discriminator`. These
are for the names within `generator`; those of the detector are in `models/checkpoints/fomm.py`."""

from __future__ import annotations

import re

_DENSE_MOTION = "dense_motion_network."


def our_generator_name(theirs: str) -> str | None:
    """A tensor of the generator, its dense motion network included; None for one that is computed here."""
    if theirs.startswith(_DENSE_MOTION):
        ours = our_dense_motion_name(theirs.removeprefix(_DENSE_MOTION))
        return None if ours is None else f"dense_motion.{ours}"
    name = re.sub(r"^(down|up)_blocks\.", r"\1.", theirs)
    return re.sub(r"^bottleneck\.r(\d+)\.", r"residuals.\1.", name)


def our_dense_motion_name(theirs: str) -> str | None:
    """A tensor of the dense motion network alone; None for one that is computed here, its filter."""
    if theirs == "down.weight":
        return None
    return re.sub(r"^hourglass\.(?:en|de)coder\.(down|up)_blocks\.", r"network.\1.", theirs)
