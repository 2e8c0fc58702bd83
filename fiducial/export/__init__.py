"""A model becomes one file of another runtime, with a certificate that it finds the same points."""

from fiducial import lazy

lazy.callable_room(__name__, "fiducial.api.export:export")
