"""Files of weights -> named tensors and what is written beside them, without running what such a file may hold.

A `.pth` is a pickle, and a pickle is a program; torch's restricted reader knows tensors and plain values only. numpy's
arrays and numbers are let in too, since MMPose's files describe their data set with them."""

from __future__ import annotations

import pickle
import pickletools
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fiducial import files, trial
from fiducial.errors import UserError

# What the tensors may be wrapped in, and prefixes that wrappers of networks leave on every name.
WRAPPERS = ("state_dict", "model", "model_state_dict", "ema", "state_dict_ema", "net", "weights", "kp_detector")
PREFIXES = ("module.", "model.")
EXPORTED = {".onnx": "ONNX", ".xml": "OpenVINO", ".param": "ncnn"}  # files to be run, by the end of their names
CONVERT = (
    "If you trust the file, write its weights alone: python -c \"import torch; d = torch.load('{name}', "
    "weights_only=False, map_location='cpu'); torch.save(d.get('state_dict', d), 'weights.pth')\""
)


@dataclass(frozen=True)
class Contents:
    """Holds what a file has in it."""

    path: Path
    state: dict[str, Tensor]
    meta: dict[str, Any] = field(default_factory=dict)  # MMPose: the configuration as text, the data set's points

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in self.state.items()}

    @property
    def said(self) -> str:
        """Gives the file's name and, where it has one, its configuration: what hints are looked for in."""
        texts = [self.path.name, *(self.meta.get(key) for key in ("cfg", "config"))]
        return "\n".join(text for text in texts if isinstance(text, str))


def nested(path: Path) -> dict[str, Any]:
    """Reads what a `.pth`, `.pt` or `.safetensors` holds, as it is: of a system, the states of its networks by name.
    UserError for whatever is none of these."""
    loaded = _loaded(path)
    if not isinstance(loaded, dict):
        raise UserError(f"{path}: holds a {type(loaded).__name__}; expected the states of networks by name")
    return loaded


def read(path: Path) -> Contents:
    """Reads the tensors of a `.pth`, `.pt` or `.safetensors`, unwrapped. UserError for whatever is none of these."""
    contents = unwrapped(path, _loaded(path))
    refuse_unusable(path, contents.state)
    return contents


REPEATED_NUMBERS = 2**24  # as many may a few numbers of a file stand for, as `Tensor.expand` does it


def refuse_unusable(path: Path, state: dict[str, Tensor]) -> None:
    """Raises UserError for tensors that no network has: of NaN, or larger than what the file holds of them."""
    for name, tensor in state.items():
        if tensor.layout != torch.strided or tensor.is_complex() or tensor.is_quantized or tensor.is_meta:
            raise UserError(f"{path}: {name} is no plain tensor of numbers; expected the state_dict of a network")
        is_repeated = tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()
        if is_repeated and tensor.numel() > REPEATED_NUMBERS:
            raise UserError(
                f"{path}: {name} says to be {list(tensor.shape)}, more than the file holds; download or copy it again"
            )
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise UserError(f"{path}: {name} holds NaN or infinity; its training failed, take an earlier file")


def unwrapped(path: Path, loaded: Any) -> Contents:
    """Unwraps `{"state_dict": .., "meta": ..}` and the like down to named tensors, without `module.` before each
    name."""
    meta: dict[str, Any] = {}
    while isinstance(loaded, dict) and not any(isinstance(value, Tensor) for value in loaded.values()):
        if isinstance(loaded.get("meta"), dict):
            meta = loaded["meta"]
        inner = next((loaded[key] for key in WRAPPERS if isinstance(loaded.get(key), dict)), None)
        if inner is None:
            break
        loaded = inner
    named = loaded if isinstance(loaded, dict) else {}
    state = {str(name): value for name, value in named.items() if isinstance(value, Tensor)}
    if not state:
        kind = f"a {type(loaded).__name__}" + (f" of {', '.join(map(str, list(named)[:5]))}" if named else "")
        raise UserError(f"{path}: no named tensors in it ({kind}); expected the state_dict of a network")
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return Contents(path, state, meta)


def _loaded(path: Path) -> Any:
    _refuse_what_is_no_weights(path)
    with path.open("rb") as file:
        start = file.read(16)
    # By content: a safetensors file starts with the length of its JSON header.
    return _read_safetensors(path) if start[8:9] == b"{" else _read_pickle(path)


def refuse_exported(path: Path) -> None:
    """Raises UserError for a file of `fiducial export`, or a folder of one: its weights can't be had from it."""
    inside = sorted(path.iterdir()) if path.is_dir() else [path]
    exported = next((file for file in inside if file.suffix.lower() in EXPORTED), None)
    if exported is not None and not (path / "model.safetensors").exists():
        raise UserError(
            path,
            f"{'holds' if path.is_dir() else 'is'} an exported file ({EXPORTED[exported.suffix.lower()]}), made to be run: "
            "give the run folder that it was exported from. (`fit --init` takes the weights of ONNX files in fp32.)",
        )


def _refuse_what_is_no_weights(path: Path) -> None:
    refuse_exported(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected weights (.pth, .pt, .safetensors) or the folder of a run")
    files.refuse_strange(path, "weights", may_be=("zip", "text"))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: can't be read as safetensors: {error}; download or copy it again") from error


def _read_pickle(path: Path) -> Any:
    trial.passes_in_a_fork(try_to_read, path, [path])
    return _unpickled(path)


def try_to_read(path: Path) -> Iterator[bool]:
    """Reads a pickle as its trial's task: it may want memory or time without end, or crash its reader."""
    _unpickled(path)
    yield True


def _unpickled(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_numpy_globals()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd protocols of pickle, which it reads or refuses
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = _wanted_global(str(error)) or _first_global(path)
        if wanted is not None:
            raise UserError(
                f"{path}: refused: reading it would run {wanted}, and weights need no code. "
                + CONVERT.format(name=path.name)
            ) from error
        raise _broken(path, error) from error
    except MemoryError:
        raise
    except Exception as error:  # of a damaged file torch says whatever the reader stumbled on
        if trial.is_about_memory(str(error)):
            raise
        raise _broken(path, error) from error


def _broken(path: Path, error: Exception) -> UserError:
    said = next(iter(str(error).strip().splitlines()), "").partition(". ")[0]
    reason = (
        f" ({said})" if isinstance(error, (OSError, RuntimeError)) and said else ""
    )  # others speak of pickle's inside
    return UserError(
        f"{path}: can't be read as weights of torch, it is cut off, damaged or something else{reason}; download or copy it again"
    )


def _wanted_global(message: str) -> str | None:
    """What a refused pickle asked for, from torch's words: `posix.system`."""
    found = re.search(r"GLOBAL ([\w.]+)", message) or re.search(
        r"(?:class|function|callable)\s+([\w]+(?:\.[\w]+)+)", message
    )
    return None if found is None else f"`{found[1]}`"


def _first_global(path: Path) -> str | None:
    """The first function or class that a bare pickle names, read and not run; None for what is no pickle."""
    texts: list[str] = []
    with path.open("rb") as file:
        try:
            for operation, argument, _ in pickletools.genops(file):
                if operation.name == "GLOBAL":
                    return f"`{str(argument).replace(' ', '.')}`"
                if operation.name == "STACK_GLOBAL":
                    return f"`{'.'.join(texts[-2:])}`"
                if isinstance(argument, str):
                    texts.append(argument)
        except ValueError:
            pass
    return None


def _numpy_globals() -> list[Callable | tuple[Callable, str]]:
    """What numpy's arrays and numbers are pickled with, by the names of numpy 1 and 2."""
    multiarray = np._core.multiarray  # type: ignore[attr-defined]
    functions = {"_reconstruct": multiarray._reconstruct, "scalar": multiarray.scalar}
    named: list[Callable | tuple[Callable, str]] = [
        (function, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for name, function in functions.items()
    ]
    dtypes = {type(np.dtype(code)) for code in np.typecodes["All"]}
    # The content of an array without entries is written as a call, bytes().
    empty: list[Callable | tuple[Callable, str]] = [
        (_no_bytes, f"{home}.bytes") for home in ("builtins", "__builtin__")
    ]
    return [*named, *empty, np.ndarray, np.dtype, *sorted(dtypes, key=str)]


def _no_bytes() -> bytes:
    return b""
