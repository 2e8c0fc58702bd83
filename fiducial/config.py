"""Specs to dict to JSON and back; `--set a.b=c`; unknown names are errors that name the nearest known one.

A spec is a frozen dataclass of choices (numbers, strings, tuples, other specs, None); derived values are computed
where they are used. What is written holds every field, so a file rebuilds its spec on its own."""

from __future__ import annotations

import json
import re
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from fiducial import files
from fiducial.errors import UserError, did_you_mean, shown

Spec = TypeVar("Spec")
BARE_NUMBER = re.compile(r"[+-]?(\d+\.?|\d*\.\d+)(e[+-]?\d+)?", re.IGNORECASE)  # also such as are not JSON


def to_dict(spec: Any) -> Any:
    """Turns a spec into plain dicts, lists and scalars."""
    if is_dataclass(spec) and not isinstance(spec, type):
        return {item.name: to_dict(getattr(spec, item.name)) for item in fields(spec)}
    if isinstance(spec, dict):
        return {key: to_dict(value) for key, value in spec.items()}
    if isinstance(spec, (list, tuple)):
        return [to_dict(value) for value in spec]
    return spec


def from_dict(kind: type[Spec], values: Any, path: str = "") -> Spec:
    """Makes the spec of type `kind` that `to_dict` wrote. Missing fields keep their defaults; for unknown ones, and for
    values of another type or that the spec refuses, raises UserError that names the field, `path` before it."""
    try:
        return _convert(kind, values, path)
    except UserError as error:
        if str(error).startswith(path):
            raise
        raise UserError(path, str(error)) from error


def with_settings(spec: Spec, settings: list[str]) -> Spec:
    """Replaces in `spec` each `a.b=c` of `settings`; values are read as JSON where they are, `.5` as a number, else
    as text."""
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals:
            raise UserError(f"--set {setting!r}: expected NAME=VALUE, such as augment.flip=0")
        value = _value(text)
        spec = _set(spec, path.strip().split("."), value, path.strip())
    return spec


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        words = {"True": True, "False": False, "None": None}
        return float(text) if BARE_NUMBER.fullmatch(text) else words.get(text, text)


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Writes nested settings under the names that `--set` takes: {"a": {"b": 1}} -> {"a.b": 1}. An empty dict is a
    value."""
    settings: dict[str, Any] = {}
    for name, value in nested.items():
        inner = isinstance(value, Mapping) and value
        settings |= flat(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return settings


def as_setting(value: Any) -> str:
    """Writes a value so that `--set` reads it back: bare text where that is not JSON."""
    if isinstance(value, str) and _value(value) == value:
        return value
    return json.dumps(value)


def write_json(path: Path, value: Any) -> None:
    """Writes a spec, or plain JSON with specs in it, whole or not at all."""
    files.write_json(path, to_dict(value))


def _set(spec: Any, names: list[str], value: Any, path: str) -> Any:
    known = typing.get_type_hints(type(spec))
    if names[0] not in known:
        raise UserError(f"--set {path}: no setting {names[0]!r}." + did_you_mean(names[0], known))
    if len(names) == 1:
        return replace(spec, **{names[0]: _convert(known[names[0]], value, path)})
    inner = getattr(spec, names[0])
    if isinstance(inner, dict) and len(names) == 2:  # the fields of a spec that is known only later: a method's
        return replace(spec, **{names[0]: {**inner, names[1]: value}})
    if not is_dataclass(inner):
        raise UserError(f"--set {path}: {names[0]!r} is a single value, it has no parts")
    return replace(spec, **{names[0]: _set(inner, names[1:], value, path)})


def _convert(kind: Any, value: Any, path: str) -> Any:
    """`value`, as JSON has it, as a value of the annotated type `kind`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if is_dataclass(kind):
        return _convert_spec(kind, value, path)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(arguments, value, path)
    if origin is typing.Literal:
        if value not in arguments:
            choices = did_you_mean(str(value), [str(item) for item in arguments])
            raise UserError(f"{path}: {shown(value)} is none of the choices.{choices}")
        return value
    if isinstance(value, (list, tuple)) and (origin is tuple or hasattr(kind, "_fields")):
        return _convert_tuple(kind, value, path)
    if origin is dict and isinstance(value, dict):
        return {key: _convert(arguments[1], item, f"{path}.{key}") for key, item in value.items()}
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return _finite(value, path)
    if isinstance(kind, type) and isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    parse = getattr(kind, "parse", None)
    if parse is not None and isinstance(value, (str, int)) and not isinstance(value, bool):
        try:
            return parse(str(value))  # as options write it: 192x256
        except ValueError as error:
            raise UserError(f"{path}: {error}") from None
    expected = str(kind) if origin is not None else getattr(kind, "__name__", str(kind))
    raise UserError(f"{path or 'value'}: got {shown(repr(value))}, expected {expected}")


def _convert_tuple(kind: Any, value: Sequence[Any], path: str) -> Any:
    """Of any length, of one type a place, or a named tuple such as Size."""
    parts = typing.get_args(kind) or tuple(typing.get_type_hints(kind).values())
    if parts[1:] == (Ellipsis,):
        return tuple(_convert(parts[0], item, f"{path}[{i}]") for i, item in enumerate(value))
    if len(value) != len(parts):
        expected = ", ".join(getattr(kind, "_fields", ())) or f"{len(parts)} values"
        raise UserError(f"{path}: got {shown(repr(value))}, expected {expected}")
    values = [_convert(part, item, path) for part, item in zip(parts, value, strict=True)]
    return kind(*values) if hasattr(kind, "_fields") else tuple(values)


def _finite(value: float, path: str) -> float:
    if not abs(value) <= sys.float_info.max:
        raise UserError(f"{path}: got {shown(repr(value))}, expected a finite number")
    return float(value)


def _convert_union(kinds: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    errors = []
    for kind in kinds:
        if kind is not type(None):
            try:
                return _convert(kind, value, path)
            except UserError as error:
                errors.append(error)
    raise errors[-1]


def _convert_spec(kind: Any, value: Any, path: str) -> Any:
    if is_dataclass(value) and isinstance(value, kind):
        return value
    if not isinstance(value, dict):
        raise UserError(f"{path or kind.__name__}: got {shown(repr(value))}, expected the fields of {kind.__name__}")
    known = typing.get_type_hints(kind)
    for name in value:
        if name not in known:
            raise UserError(f"{path + '.' if path else ''}{name}: unknown." + did_you_mean(name, known))
    prefix = path + "." if path else ""
    for item in fields(kind):
        if item.name not in value and item.default is MISSING and item.default_factory is MISSING:
            raise UserError(f"{prefix}{item.name}: missing, expected one")
    return kind(**{name: _convert(known[name], item, prefix + name) for name, item in value.items()})
