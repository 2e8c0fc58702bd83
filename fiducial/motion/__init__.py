"""Points without labels, learnt from video (First order motion model: Siarohin et al., NeurIPS 2019).

Two frames of a clip are looked at: the points must tell what moved between them so well that one frame can be made from
the other. In the order of the data:

    clip_sources, clips     videos, folders of frames, stills -> frames in one file
    pairs, frames           batches of them
    dense_motion, generator points of two frames -> a flow -> the generated frame
    perceptual, warps, discriminator, objective, teacher    what is minimised
    recipes, fit, scoring, watch, report    a run, its figures and its page
    system, official        detector and generator of a run, or of a published file
    puppet, animation       what moves an image as a video moves
    linear_map, linear_map_report   such points against labels
    unlabelled              frames to learn from beside labelled images

Other rooms use the names below, nothing else; each is imported when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fiducial import lazy

if TYPE_CHECKING:
    from fiducial.motion.animation import Animation as Animation
    from fiducial.motion.animation import animate as animate
    from fiducial.motion.linear_map import evaluate_by_linear_map as evaluate_by_linear_map
    from fiducial.motion.linear_map_report import answer as linear_map_answer  # noqa: F401
    from fiducial.motion.linear_map_report import summary_of as linear_map_summary  # noqa: F401
    from fiducial.motion.linear_map_report import table as linear_map_table  # noqa: F401
    from fiducial.motion.linear_map_report import write as write_linear_map  # noqa: F401
    from fiducial.motion.puppet import Puppet as Puppet
    from fiducial.motion.system import System as System
    from fiducial.motion.unlabelled import pool_of as pool_of
    from fiducial.motion.unlabelled import without_labels as without_labels

_WHERE = {
    "Animation": "animation.Animation",
    "Puppet": "puppet.Puppet",
    "System": "system.System",
    "animate": "animation.animate",
    "evaluate_by_linear_map": "linear_map.evaluate_by_linear_map",
    "linear_map_answer": "linear_map_report.answer",
    "linear_map_summary": "linear_map_report.summary_of",
    "linear_map_table": "linear_map_report.table",
    "pool_of": "unlabelled.pool_of",
    "without_labels": "unlabelled.without_labels",
    "write_linear_map": "linear_map_report.write",
}


__getattr__, __dir__ = lazy.door(__name__, _WHERE)
