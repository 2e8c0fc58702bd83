"""The version of this package, as `fiducial --version` prints it; below every room, so that any can name it."""

__version__ = "0.1.0"
