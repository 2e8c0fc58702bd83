"""Training on Lightning, whose import needs torchvision's operators to be there: see the shim."""

from fiducial.models.torchvision_shim import ensure_torchvision

ensure_torchvision()
