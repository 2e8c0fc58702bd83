"""The command line. Thin: one file in `commands/` = one command, which parses, calls one function of a room and prints;
heavy imports stay inside it."""

from __future__ import annotations

import importlib
import pkgutil
import re
import shlex
import sys
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from fiducial.cli import commands
from fiducial.errors import Failure
from fiducial.files import command_line
from fiducial.version import __version__

app = typer.Typer(
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="From annotated images to the best keypoint detector for a device, with proof.\n\n"
    "Start with `fiducial demo`, or `fiducial fit DATA --out RUN` on your own labels.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

# Typer's words for a wrong option or command; in its own copy of click or in the one that is installed.
USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
STOPPED = 130  # what typer makes of Ctrl-C


def main() -> None:
    """Exit code 2 for a user's mistake, 1 for a failure; one line on stderr, a traceback with --debug only."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    else:
        warnings.showwarning = _show_warning
    try:
        code = _obey()
    except Exception as error:
        if debug:
            raise
        code = _say(error)
    if code == STOPPED:
        command = COMMANDS.get(sys.argv[1] if len(sys.argv) > 1 else "")
        hint = getattr(command, "AFTER_STOP", "")
        print(f"fiducial: stopped{hint and '; '}{hint}", file=sys.stderr)
    sys.exit(code)


def obey(words: list[str]) -> Iterator[None]:
    """Obeys `fiducial WORDS` in a process of its own (`runtime.worker`): raises what went wrong after saying it."""
    sys.argv = ["fiducial", *words]
    warnings.showwarning = _show_warning
    try:
        code = _obey()
    except Exception as error:
        _say(error)
        raise
    if code:
        raise Failure("stopped" if code == STOPPED else f"ended with code {code}")
    yield


def _obey() -> int:
    command_line.set(shlex.join(["fiducial", *sys.argv[1:]]))
    return app(standalone_mode=False, prog_name="fiducial")


def _show_warning(message: Warning | str, category: type, filename: str, *rest: Any) -> None:
    """Our own warnings are for users, one line each; those of libraries are for people who debug."""
    if "fiducial" in Path(filename).parts or Path(filename).parent.name == "fiducial":
        print(f"fiducial: {message}", file=sys.stderr)


def _say(error: BaseException) -> int:
    """Prints the line for the user and gives the exit code."""
    if isinstance(error, Failure):
        print(f"fiducial: {error}", file=sys.stderr)
        return error.exit_code
    if isinstance(error, USAGE_ERROR):
        context = getattr(error, "ctx", None)
        command = "fiducial" if context is None else context.command_path
        said = error.format_message()  # type: ignore[attr-defined]
        print(f"fiducial: {' '.join(said.split())} (`{command} --help` says more)", file=sys.stderr)
        return 2
    if isinstance(error, ModuleNotFoundError) and (extra := _extra_of(error.name or "")):
        print(f"fiducial: {error.name} is not installed: pip install 'fiducial[{extra}]'", file=sys.stderr)
        return 2
    print(f"fiducial: {type(error).__name__}: {error} (--debug shows where)", file=sys.stderr)
    return 1


def _extra_of(module: str) -> str | None:
    """Finds the extra that brings a module, by what the installed package says that it needs."""
    package = module.partition(".")[0].replace("_", "-").lower()
    names = {package, f"py{package}"}  # yaml is pyyaml's
    try:
        needs = metadata.requires("fiducial") or []
    except metadata.PackageNotFoundError:  # run from a checkout
        return None
    for need in needs:
        requirement, _, marker = need.partition(";")
        name = re.split(r"[^\w-]", requirement.strip(), maxsplit=1)[0].replace("_", "-").lower()
        if name in names and (extra := re.search(r"extra == ['\"]([\w-]+)", marker)):
            return extra[1]
    return None


def _version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from (with any command).")] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


def _commands() -> dict[str, Any]:
    """Finds the files in `commands/`, in the order in which help shows them: by `ORDER`, then by name."""
    modules = [
        importlib.import_module(each.name) for each in pkgutil.iter_modules(commands.__path__, f"{commands.__name__}.")
    ]
    modules.sort(key=lambda module: (getattr(module, "ORDER", 100), module.__name__))
    return {module.__name__.rpartition(".")[2]: module for module in modules}


COMMANDS = _commands()
for _name, _module in COMMANDS.items():
    app.command(_name)(getattr(_module, _name))
