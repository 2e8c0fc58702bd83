"""Core ML's programs, computed by torch: an independent reading of their operators, by what Apple documents of them. It tells
that a file says what the detector does; what Core ML makes of the file only a Mac can tell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F


def answers(package: Path, function: str, crops: np.ndarray) -> dict[str, np.ndarray]:
    """Runs a function of a package on one crop: its outputs by name. KeyError for an operator that is not known here."""
    import coremltools  # type: ignore[import-not-found]
    from coremltools.converters.mil.frontend.milproto import load  # type: ignore[import-not-found]

    model = coremltools.models.MLModel(str(package), skip_model_load=True)
    spec = model.get_spec()
    program = load.load(spec, spec.specificationVersion, model.weights_dir)
    block = program.functions[function]
    values: dict[str, Any] = {"crops": torch.from_numpy(crops)}
    for operator in block.operations:
        if operator.op_type == "const":
            values[operator.outputs[0].name] = _constant(operator.outputs[0].val)
            continue
        given = {name: _given(values, part) for name, part in operator.inputs.items() if part is not None}
        found = OPERATORS[operator.op_type](given)
        for output, value in zip(operator.outputs, found if isinstance(found, tuple) else (found,), strict=True):
            if isinstance(value, torch.Tensor):
                assert tuple(value.shape) == tuple(output.shape), f"{operator.name}: {value.shape}, said {output.shape}"
            values[output.name] = value
    return {output.name: values[output.name].numpy() for output in block.outputs}


def _constant(value: Any) -> Any:
    """Numbers as tensors; texts, truths and their lists as they are."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        return torch.from_numpy(np.array(value))
    if isinstance(value, np.generic):
        return value.item()
    return value


def _given(values: dict[str, Any], part: Any) -> Any:
    return [values[each.name] for each in part] if isinstance(part, (list, tuple)) else values[part.name]


def _ints(value: Any) -> list[int]:
    return [int(each) for each in np.asarray(value).ravel()]


def _convolved(given: dict[str, Any]) -> torch.Tensor:
    """`pad` is [top, bottom, left, right]; `same` pads by TensorFlow's rule."""
    x, weight = given["x"], given["weight"]
    strides, dilations = _ints(given["strides"]), _ints(given["dilations"])
    pad = _ints(given["pad"]) if given["pad_type"] == "custom" else [0, 0, 0, 0]
    if given["pad_type"] == "same":
        raise KeyError("conv with pad_type same")
    x = F.pad(x, (pad[2], pad[3], pad[0], pad[1]))
    return F.conv2d(x, weight, given.get("bias"), strides, 0, dilations, int(given["groups"]))


def _sliced(given: dict[str, Any]) -> torch.Tensor:
    x = given["x"]
    begin, end = _ints(given["begin"]), _ints(given["end"])
    steps = _ints(given["stride"]) if "stride" in given else [1] * x.ndim
    masks = {
        name: np.asarray(given.get(name, [False] * x.ndim)).ravel()
        for name in ("begin_mask", "end_mask", "squeeze_mask")
    }
    index: list[Any] = []
    for i in range(x.ndim):
        if masks["squeeze_mask"][i]:
            index.append(begin[i])
            continue
        first = None if masks["begin_mask"][i] else begin[i]
        last = None if masks["end_mask"][i] else end[i]
        index.append(slice(first, last, steps[i]))
    return x[tuple(index)]


def _scaled_up(given: dict[str, Any]) -> torch.Tensor:
    x = given["x"]
    size = (
        round(x.shape[2] * float(given["scale_factor_height"])),
        round(x.shape[3] * float(given["scale_factor_width"])),
    )
    corners = bool(given["align_corners"])
    return F.interpolate(x, size, mode="bilinear", align_corners=corners)


def _highest(given: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    found = given["x"].topk(int(given["k"]), int(given["axis"]), largest=not given["ascending"])
    return found.values, found.indices.int()


def _reduced(how: Callable[..., torch.Tensor]) -> Callable[[dict[str, Any]], torch.Tensor]:
    def reduced(given: dict[str, Any]) -> torch.Tensor:
        axes = _ints(given["axes"]) if "axes" in given else list(range(given["x"].ndim))
        return how(given["x"], axes, keepdim=bool(given["keep_dims"]))

    return reduced


def _product(given: dict[str, Any]) -> torch.Tensor:
    x = given["x"].mT if given.get("transpose_x") else given["x"]
    return x @ (given["y"].mT if given.get("transpose_y") else given["y"])


def _reshaped(given: dict[str, Any]) -> torch.Tensor:
    """0 keeps a side, -1 is what is left."""
    shape = [given["x"].shape[i] if side == 0 else side for i, side in enumerate(_ints(given["shape"]))]
    return given["x"].reshape(shape)


def _widened(given: dict[str, Any]) -> torch.Tensor:
    x = given["x"]
    total = x.ndim + len(_ints(given["axes"]))
    for axis in sorted(axis % total for axis in _ints(given["axes"])):
        x = x.unsqueeze(axis)
    return x


KINDS = {"fp32": torch.float32, "int32": torch.int32, "bool": torch.bool}
OPERATORS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "abs": lambda given: given["x"].abs(),
    "add": lambda given: given["x"] + given["y"],
    "cast": lambda given: given["x"].to(KINDS[given["dtype"]]),
    "clip": lambda given: given["x"].clamp(given["alpha"], given["beta"]),
    "concat": lambda given: torch.cat(given["values"], int(given["axis"])),
    "conv": _convolved,
    "expand_dims": _widened,
    "fill_like": lambda given: torch.full(tuple(given["ref_tensor"].shape), given["value"]),
    "floor": lambda given: given["x"].floor(),
    "floor_div": lambda given: torch.div(given["x"], given["y"], rounding_mode="floor"),
    "linear": lambda given: F.linear(given["x"], given["weight"], given.get("bias")),
    "matmul": _product,
    "minimum": lambda given: torch.minimum(given["x"], given["y"]),
    "mul": lambda given: given["x"] * given["y"],
    "pow": lambda given: given["x"] ** given["y"],
    "real_div": lambda given: given["x"] / given["y"],
    "reduce_max": _reduced(torch.amax),
    "reduce_mean": _reduced(torch.mean),
    "reduce_sum": _reduced(torch.sum),
    "relu": lambda given: given["x"].relu(),
    "reshape": _reshaped,
    "sigmoid": lambda given: given["x"].sigmoid(),
    "silu": lambda given: F.silu(given["x"]),
    "slice_by_index": _sliced,
    "softmax": lambda given: given["x"].softmax(int(given["axis"])),
    "split": lambda given: given["x"].split(_ints(given["split_sizes"]), int(given["axis"])),
    "sqrt": lambda given: given["x"].sqrt(),
    "sub": lambda given: given["x"] - given["y"],
    "topk": _highest,
    "transpose": lambda given: given["x"].permute(_ints(given["perm"])),
    "upsample_bilinear": _scaled_up,
}
