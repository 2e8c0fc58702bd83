"""Finding instances in whole images: a network that gives their boxes, taught by the labels that the points are taught by.

`beside` is the room's door: the finder of a detector's run."""

from fiducial.finding.beside import Beside, beside

__all__ = ["Beside", "beside"]
