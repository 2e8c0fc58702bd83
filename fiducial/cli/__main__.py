"""`python -m fiducial.cli`."""

from fiducial.cli import main

main()
