"""Finds a user's own head or backbone: a module on the Python path, or a file that was named for this run.

Written down, in recipes and cards, is a name without a folder: `my_module.my_head` or `my_head.py`, either with `:Name`
of what is meant in it. A written name alone never runs a file: a module is imported from the Python path, a file only
where its user has named it, by `--method`, `--backbone`, `--part` or the environment's FIDUCIAL_PARTS. So a run folder
from elsewhere brings no code along."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from fiducial import files
from fiducial.errors import UserError

NAMED = "FIDUCIAL_PARTS"  # files that users named; in the environment, so that processes started from here know them
FILE = re.compile(r"(?P<place>.*\.py)(:(?P<name>\w+))?", re.DOTALL)
MODULE = re.compile(r"(?P<place>[^\W\d]\w*(\.\w+)*)(:(?P<name>\w+))?")


def is_outside(text: str) -> bool:
    """Tells whether a name means a part outside of the package: it has a dot or a colon, which names of ours have not."""
    return bool(FILE.fullmatch(text)) or (bool(MODULE.fullmatch(text)) and bool({".", ":"} & set(text)))


def written(text: str) -> str:
    """Turns what a user gives into what is written down; a file is remembered, for processes started from here too.

    Names of parts of the package come back as they are. UserError where the file is not there."""
    match = FILE.fullmatch(text)
    if match is None:
        return text
    path = Path(match["place"]).expanduser()
    others = [file for file in named_files() if file.name != path.name]
    if path.parent == Path() and len(others) < len(named_files()):
        return text  # written down already
    if not os.path.isfile(path):
        raise UserError(text, "no such file; expected FILE.py, FILE.py:NAME, or a module on the Python path")
    os.environ[NAMED] = os.pathsep.join(map(str, [*others, path.resolve()]))
    return path.name + (f":{match['name']}" if match["name"] else "")


def named_files() -> list[Path]:
    """Lists the files that users have named as parts."""
    return [Path(entry) for entry in os.environ.get(NAMED, "").split(os.pathsep) if entry]


def find(text: str, option: str) -> tuple[ModuleType, str]:
    """Imports the module of a written name: the module, and the name behind the colon ("" where there is none).

    `option` is what the part is given by, for the message. UserError where it is not found, or can't be imported."""
    match = FILE.fullmatch(text) or MODULE.fullmatch(text)
    if match is None or os.sep in text:
        raise UserError(f"{option} {text!r}: expected the name of a module or of a .py file")
    place, name = match["place"], match["name"] or ""
    try:
        if place.endswith(".py"):
            file = next((file for file in named_files() if file.name == place), None)
            return (of_file(file) if file else importlib.import_module(place.removesuffix(".py"))), name
        return importlib.import_module(place), name
    except ModuleNotFoundError as error:
        module = place.removesuffix(".py")
        if not module.startswith(error.name or " "):
            raise  # something that it needs
        raise UserError(
            f"{option} {text!r}: no module {module} on the Python path. Give its file again ({option} "
            f"{module.rpartition('.')[2]}.py, or --part beside a model), or put its folder on PYTHONPATH"
        ) from error
    except UserError:
        raise
    except Exception as error:  # whatever the user's code does
        raise UserError(f"{option} {text!r}", f"can't be imported: {type(error).__name__}: {error}") from error


def source_of(module: ModuleType) -> str:
    """Says where a module is from, and a digest of its file, for the card of a run."""
    path = Path(module.__file__ or "")
    return f"{path}, digest {files.digest([path.read_bytes()])}" if path.is_file() else module.__name__


class _AsItIs(SourceFileLoader):
    """Compiles a file as it is now. Compiled code that Python keeps beside it is taken for that of a file that was
    changed within the second and has kept its length."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def of_file(path: Path) -> ModuleType:
    """Imports a file, a part or a recipe's, under a name of its own, so that it hides no other module; once, unless the
    file has changed. Raises UserError where it is not there, or its code fails."""
    if not os.path.isfile(path):
        raise UserError(path, "no such file")
    name = f"fiducial_file_{path.stem}_{files.digest([str(path.resolve()), path.read_bytes()])}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path, loader=_AsItIs(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, (UserError, ModuleNotFoundError)) or not isinstance(error, Exception):
            raise
        raise UserError(path, f"can't be imported: {type(error).__name__}: {error}") from error
    return module
