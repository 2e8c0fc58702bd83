"""A museum: what other projects compute, slips included, and this one does not.

Encodings, losses, suppression and heads of MMPose, HRNet, CornerNet, RTMO, FastEstimator's tutorial and others, each by
its paper and as its published code has it. They are here so that `make parity` can hold our understanding against
theirs, number for number, and so that one can look up how a published figure came about.

Nothing of the product imports this room (`tests/import_direction.py`). What a user should have belongs elsewhere."""
