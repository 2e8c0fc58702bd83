"""Fiducial: from annotated images to the best keypoint detector for a device, with proof."""

__version__ = "0.1.0"
