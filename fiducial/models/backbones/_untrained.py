"""Families that nobody offers ImageNet weights for in a form that can be fetched."""

from __future__ import annotations

from fiducial.errors import UserError
from fiducial.log import logger
from fiducial.models.pretrained import Pretrained, check


def announce(name: str, pretrained: Pretrained) -> None:
    """Says that a backbone starts at random: raises UserError for "yes", nothing for "no", a warning for the others."""
    check(pretrained)
    advice = "give a file of weights with --init"
    if pretrained == "yes":
        raise UserError(f"{name}: no pretrained weights can be fetched. Use --set pretrained=no, or {advice}")
    if pretrained != "no":
        logger.warning(f"{name} starts from random weights: none can be fetched. For better ones, {advice}")
