"""One file = one family, found by `models/catalog.py`: `EXAMPLES`, `names`, `matches` and `build`."""
