"""Hostile variations of annotation files and settings: of their values, their text and their bytes, all drawn by a seed."""

from __future__ import annotations

import copy
import json
import os
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

VALUES: list[Any] = [
    None, True, False, "", " ", "left", "nan", "inf", "-inf", "1e999", "0x10", "1_0", "\u0663", "\u00b2", -1, 0, 1, 2.5, -0.0, 2**31, 2**63,
    2**70, 10**30, -(2**31), 1e29, 1e308, -1e308, 1e-320, float("nan"), float("inf"), -float("inf"), [], {}, [[]], [[[]]], [None],
    {"a": {"b": []}}, [0] * 500, ["x"] * 50, "x" * 300, "x" * 5000, "../../../../etc/passwd", "/etc/passwd", "/dev/null", "/", "..",
    "a\0b", "\ud800", "\udce9", "caf\u00e9", "\u202e\u200b", "\x1b[31m", "two\nlines", "a,b;c", '"', "'", "{", "*a", "&a", "<<", "!!int x", "~",
    "%s%n", "{0}", "{}", "C:\\set\\a.png", "9" * 30, "9" * 5001, "-", "NaN", "Infinity", "1,5", "1e29",
]  # fmt: skip
WORDS = ["nan", "inf", "-inf", "1e29", "1e308", "-1", "0", "", "x", "1,5", "9" * 30, "9" * 5001, "\u0663", "0x1f", "1_000", "--", "\0", "\x1b[1m",
         "2", "1e-320", "null", "/dev/null", "../" * 40 + "etc/passwd", "a" * 5000, "\u2028", "\ufeff", "'", '"', ",", ";", "\t", "{", "}"]  # fmt: skip


def structured(value: Any, dice: random.Random) -> Any:
    """Changes one to four places of a value of JSON: other values and types, keys and entries lost, doubled, nested."""
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        value = _changed(value, dice)
    return value


def _changed(value: Any, dice: random.Random) -> Any:
    holders = [item for item in _walk(value) if isinstance(item, (list, dict)) and item]
    if not holders:
        return copy.deepcopy(dice.choice(VALUES))
    # Levels alike often: else nearly all changes would be in the long lists of numbers.
    holders.sort(key=len)
    holder = (
        holders[min(int(dice.expovariate(4) * len(holders)), len(holders) - 1)]
        if dice.random() < 0.5
        else dice.choice(holders)
    )
    place = dice.choice(list(holder)) if isinstance(holder, dict) else dice.randrange(len(holder))
    kind = dice.randrange(8)
    if kind == 0:
        del holder[place]
    elif kind == 1 and isinstance(holder, list):
        holder.insert(place, holder[dice.randrange(len(holder))])
    elif kind == 2:
        for _ in range(dice.choice((1, 3, 60, 400))):
            holder[place] = [holder[place]]
    elif kind == 3 and isinstance(holder, dict):
        name = dice.choice(list(holder)) + dice.choice(("", "s", " "))
        holder[name] = holder.pop(place)
    elif kind == 4 and isinstance(holder[place], (int, float)):
        holder[place] = str(holder[place])
    else:
        holder[place] = copy.deepcopy(dice.choice(VALUES))
    return value


def _walk(value: Any) -> list[Any]:
    """The value and those in it, without going deep where a change nested it."""
    found, todo = [], [value]
    while todo:
        item = todo.pop()
        found.append(item)
        todo += item if isinstance(item, list) else item.values() if isinstance(item, dict) else []
    return found


def _number(text: str, dice: random.Random) -> str:
    numbers = list(re.finditer(r"[-+]?\d+(\.\d+)?", text[:20000]))
    if not numbers:
        return text + dice.choice(WORDS)
    place = dice.choice(numbers)
    return text[: place.start()] + dice.choice(WORDS) + text[place.end() :]


def _lines(change: Callable[[list[str], int, random.Random], Any]) -> Callable[[str, random.Random], str]:
    def changed(text: str, dice: random.Random) -> str:
        lines = text.split("\n")
        change(lines, dice.randrange(len(lines)), dice)
        return "\n".join(lines)

    return changed


def _drop_field(lines: list[str], at: int, dice: random.Random) -> None:
    separator = "," if "," in lines[at] else " "
    fields = lines[at].split(separator)
    del fields[dice.randrange(len(fields))]
    lines[at] = separator.join(fields)


def _add_field(lines: list[str], at: int, dice: random.Random) -> None:
    separator = "," if "," in lines[at] else " "
    fields = lines[at].split(separator)
    fields.insert(dice.randrange(len(fields) + 1), dice.choice(WORDS))
    lines[at] = separator.join(fields)


TEXT: list[Callable[[str, random.Random], str]] = [
    _number, _number, _number,
    _lines(lambda lines, at, _: lines.pop(at)),
    _lines(lambda lines, at, _: lines.insert(at, lines[at])),
    _lines(lambda lines, at, dice: lines.insert(at, dice.choice(WORDS))),
    _lines(lambda lines, at, _: lines.insert(0, lines.pop(at))),
    _lines(_drop_field), _lines(_drop_field), _lines(_add_field), _lines(_add_field),
    lambda text, dice: text[: dice.randrange(len(text) + 1)],
    lambda text, dice: text[dice.randrange(len(text) + 1) :],
    lambda text, dice: text.replace("\n", dice.choice(("\r\n", "\r", "\n\n", " ", "\u2028"))),
    lambda text, dice: text.replace(" ", dice.choice(("\t", "  ", ",", ";", "\u00a0"))),
    lambda text, dice: text.replace(".", ","),
    lambda text, dice: text.replace(",", dice.choice((";", "\t", " ", ",,"))),
    lambda text, dice: dice.choice(("#", "\ufeff", "\n\n", "[" * 3000, "{" * 3000, "- " * 3000, '"')) + text,
    lambda text, dice: text + dice.choice(WORDS) * dice.choice((1, 3000)),
    lambda text, dice: text.upper(),
    lambda text, dice: "",
]  # fmt: skip

BYTES: list[Callable[[bytes, random.Random], bytes]] = [
    lambda data, dice: data.decode(errors="replace").encode("utf-16"),
    lambda data, dice: data.decode(errors="replace").encode("utf-16-be"),
    lambda data, dice: data.decode(errors="replace").encode("utf-32"),
    lambda data, dice: b"\xef\xbb\xbf" + data,
    lambda data, dice: b"\xff\xfe" + data,
    lambda data, dice: _at(data, dice, b"caf\xe9"),
    lambda data, dice: _at(data, dice, b"\0"),
    lambda data, dice: _at(data, dice, dice.randbytes(dice.choice((1, 8, 2000)))),
    lambda data, dice: bytes(byte ^ (1 << dice.randrange(8)) if dice.random() < 0.002 else byte for byte in data),
    lambda data, dice: dice.randbytes(2000),
    lambda data, dice: data * 3,
]

# What a path may be instead of a file.
OTHERS: list[Callable[[Path], Any]] = [
    lambda path: path.mkdir(),
    os.mkfifo,
    lambda path: path.symlink_to(path.name),
    lambda path: path.symlink_to("/dev/zero"),
    lambda path: path.symlink_to("/dev/null"),
    lambda path: path.symlink_to("nowhere"),
]


def _at(data: bytes, dice: random.Random, piece: bytes) -> bytes:
    place = dice.randrange(len(data) + 1)
    return data[:place] + piece + data[place:]


def write(path: Path, data: bytes, value: Any, seed: int) -> None:
    """Writes a variation of a file: of `data`, or of `value`, its JSON, where it is given."""
    dice = random.Random(seed)
    draw = dice.random()
    is_binary = data.startswith((b"\x89HDF", b"MATLAB"))
    if path.is_symlink() or path.exists():
        path.unlink()
    if draw < 0.03:
        dice.choice(OTHERS)(path)
        return
    if value is not None and draw < 0.75:
        data = json.dumps(structured(json.loads(json.dumps(value)), dice)).encode()
    elif draw < 0.9 and not is_binary:
        text = data.decode()
        for _ in range(dice.choice((1, 1, 2, 4))):
            text = dice.choice(TEXT)(text, dice)
        data = text.encode(errors="surrogatepass")
    if draw > 0.85 or is_binary:
        data = dice.choice(BYTES)(data, dice)
    path.write_bytes(data)
