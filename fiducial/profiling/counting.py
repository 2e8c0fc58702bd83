"""Multiply-adds of operators in closed form, from shapes, for runtimes that do not count them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from fiducial.profiling.parts import Shape

TRANSPOSED = ("convtranspose", "deconvolution")
PRODUCTS = ("gemm", "matmul", "fullyconnected")


def macs_of(kind: str, inputs: Sequence[Shape], output: Shape) -> int:
    """0 for what is no convolution or product, and for shapes that are not known.

    A convolution: outputs x kernel area x channels into each. A transposed one: inputs x kernel area x channels out of
    each. A product [.., n, k] x [k, m]: outputs x k."""
    kind, weight = kind.lower(), weight_of(kind, inputs)
    if not weight or not output:
        return 0
    if any(name in kind for name in PRODUCTS):
        return prod(output) * inputs[0][-1]
    first = 2 if len(weight) > len(inputs[0]) else 1  # OpenVINO: [groups, outputs, inputs, ..]
    counted = inputs[0] if any(name in kind for name in TRANSPOSED) else output
    return prod(counted) * prod(weight[first:])


def weight_of(kind: str, inputs: Sequence[Shape]) -> Shape:
    """The second factor's shape; () for other kinds. Scales and zero points of int8 may stand before it."""
    if "conv" not in kind.lower() and not any(name in kind.lower() for name in PRODUCTS):
        return ()
    return next((shape for shape in inputs[1:] if len(shape) >= 2), ())
