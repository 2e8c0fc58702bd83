"""Which operators the compilers of accelerators take: what their makers list, held against what a graph has.

None of these accelerators is on the machines that Fiducial is tested on: a graph whose operators are all listed can be
compiled as far as the maker says, and no more is claimed."""

from __future__ import annotations

from collections.abc import Iterable

# ONNX operators that the maker's list of this version names as supported, of those that detectors can have at all.
ACTIVATIONS = "Clip Elu Erf Exp HardSigmoid HardSwish LeakyRelu PRelu Relu Sigmoid Softmax Softplus Tanh"
ARITHMETIC = "Add Div Equal Greater GreaterOrEqual Less LessOrEqual Max Min Mod Mul Pow Sqrt Sub Where"
LAYERS = (
    "AveragePool BatchNormalization Conv ConvTranspose DepthToSpace Gemm GlobalAveragePool GlobalMaxPool "
    "InstanceNormalization LpNormalization LRN MatMul MaxPool Pad Resize"
)
SHAPES = (
    "Cast Concat Constant ConstantOfShape Expand Flatten Floor Gather GatherElements Identity Reshape Shape Slice Split "
    "Squeeze Tile Transpose Unsqueeze"
)
SUMS = "ArgMax ArgMin Log ReduceMax ReduceMean ReduceMin ReduceSum Sin Cos"
COMMON = f"{ACTIVATIONS} {ARITHMETIC} {LAYERS} {SHAPES} {SUMS}"
LISTED: dict[str, frozenset[str]] = {
    # onnx-tensorrt, docs/operators.md of TensorRT 8.5
    "TensorRT 8.5": frozenset(
        f"{COMMON} Abs Ceil CumSum Einsum GatherND GridSample If IsNaN LogSoftmax Loop Neg NonZero Not OneHot Or And Range "
        "Reciprocal ReduceL1 ReduceL2 ReduceProd Round ScatterElements ScatterND Selu Sign Size Softsign SpaceToDepth Sum TopK "
        "Trilu".split()
    ),
    # rknn-toolkit2, doc/RKNNToolKit2_OP_Support-v2.1.0.md; softmax and slices in batches of 1
    "RKNN Toolkit 2.1": frozenset(
        f"{COMMON} And LayerNormalization LogSoftmax Mish ScatterND Size SpaceToDepth".split()
    ),
    # OpenVINO's "Supported Operations by Inference Devices", column GPU, by what ONNX's operators become there; HardSwish, Shape
    # and GatherElements, which that page lacks, by the GPU plugin of OpenVINO 2026. For NPUs no list is published.
    "OpenVINO GPU": frozenset(
        f"{COMMON} Abs Ceil CumSum GatherND LogSoftmax Neg Not OneHot Or And Reciprocal ReduceL1 ReduceL2 ReduceProd Selu "
        "Sign Softsign Sum TopK".split()
    ),
}


def not_listed(operators: Iterable[str]) -> dict[str, list[str]]:
    """Names, for each accelerator, those of a graph's ONNX operators that its maker does not list."""
    found = set(operators)
    return {name: sorted(found - listed) for name, listed in LISTED.items()}


def note(operators: Iterable[str]) -> str | None:
    """Says what is not listed, in one line; None where everything is."""
    missing = {name: names for name, names in not_listed(operators).items() if names}
    if not missing:
        return None
    each = "; ".join(f"{name} does not list {', '.join(names)}" for name, names in missing.items())
    return f"{each}: what is not listed runs on the CPU there, or not at all (docs/export.md)"
