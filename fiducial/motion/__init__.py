"""Points without labels, learnt from video (First order motion model: Siarohin et al., NeurIPS 2019).

Two frames of a clip are looked at: the points must tell what moved between them so well that one frame can be made from
the other. In the order of the data:

    clip_sources, clips     videos, folders of frames, stills -> frames in one file
    pairs, frames           batches of them
    dense_motion, generator points of two frames -> a flow -> the generated frame
    perceptual, warps, discriminator, objective, teacher    what is minimised
    spec, recipes, fit, scoring, collapse, report           a run, its figures and its page
    system, official        detector and generator of a run, or of a published file
    puppet, animation       what moves an image as a video moves
    linear_map              such points against labels

Other rooms use the names below, nothing else; each is imported when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fiducial.motion.animation import Animation as Animation
    from fiducial.motion.animation import animate as animate
    from fiducial.motion.puppet import Puppet as Puppet
    from fiducial.motion.system import System as System

_WHERE = {
    "Animation": "animation.Animation",
    "Puppet": "puppet.Puppet",
    "System": "system.System",
    "animate": "animation.animate",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _WHERE[name].partition(".")
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
