"""The command line. Thin: one file in `commands/` = one command, which parses, calls one function of a room and prints;
heavy imports stay inside it."""

from __future__ import annotations

import importlib
import inspect
import io
import itertools
import os
import pkgutil
import re
import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer
import typer.core

from fiducial import log
from fiducial.cli import commands
from fiducial.errors import Failure, Interrupted, UserError, did_you_mean, one_line
from fiducial.files import OF_A_DISK, command_line
from fiducial.progress import heartbeat
from fiducial.version import __version__


class Commands(typer.core.TyperGroup):
    """The files of a folder, `commands/` or one in it, each imported when it is asked for: help asks for all, a command for
    itself alone. A folder in it is a group of further commands."""

    package: Any = commands

    def list_commands(self, ctx: Any) -> list[str]:
        """Lists the commands in the order in which help shows them: by their `ORDER`, then by name."""
        return sorted(_names(self.package), key=lambda name: (getattr(_module(self.package, name), "ORDER", 100), name))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Makes the command of a file, or the group of a folder; None where there is no such file."""
        if cmd_name not in self.commands and cmd_name in _names(self.package):
            module = _module(self.package, cmd_name)
            self.commands[cmd_name] = _group(cmd_name, module) if _is_group(module) else _command(cmd_name, module)
        return self.commands.get(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Finds the command that is meant; UserError with the nearest for an unknown one."""
        names = _names(self.package)
        if args and args[0] not in names and not ctx.resilient_parsing:
            raise UserError(f"no command {args[0]!r}.{did_you_mean(args[0], names)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes each command's first sentence; their options are not asked for, which would take as long as all the rest."""
        modules = {name: _module(self.package, name) for name in self.list_commands(ctx)}
        docs = {
            name: inspect.getdoc(module if _is_group(module) else getattr(module, name))
            for name, module in modules.items()
        }
        short = {
            name: typer.core.TyperCommand(name, help=doc).get_short_help_str(LONGEST_SENTENCE)
            for name, doc in docs.items()
        }
        if short:
            with formatter.section("Commands"):
                formatter.write_dl(list(short.items()))


def _command(name: str, module: ModuleType) -> Any:
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(name)(getattr(module, name))
    return typer.main.get_command(alone)


def _group(name: str, module: ModuleType) -> Any:
    commands_of_it = type("CommandsOfIt", (Commands,), {"package": module})
    alone = typer.Typer(
        name=name,
        cls=commands_of_it,
        invoke_without_command=True,
        add_completion=False,
        rich_markup_mode=None,
        help=module.__doc__,
        context_settings=HELP_OPTIONS,
    )
    alone.callback()(_without_a_command)
    return typer.main.get_command(alone)


def _is_group(module: ModuleType) -> bool:
    return hasattr(module, "__path__")


def _names(package: Any = commands) -> list[str]:
    return [file.name for file in pkgutil.iter_modules(package.__path__)]


def _module(package: Any, command: str) -> ModuleType:
    return importlib.import_module(f"{package.__name__}.{command}")


def _obeyed() -> ModuleType | None:
    """The module of the command that is obeyed; None where the words name none."""
    module: Any = commands
    for word in sys.argv[1:]:
        if not _is_group(module) or word not in _names(module):
            break
        module = _module(module, word)
    return None if _is_group(module) else module


HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(
    cls=Commands,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="From annotated images to the best keypoint detector for a device, with proof.\n\n"
    "Start with `fiducial demo`, or `fiducial fit DATA --out RUN` on your own labels.",
    context_settings=HELP_OPTIONS,
)

# Typer's words for a wrong option or command; in its own copy of click or in the one that is installed.
USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
LONGEST_SENTENCE = 300  # letters of help; longer ones end in dots
STOPPED = 130  # what typer makes of Ctrl-C


def main() -> None:
    """Exit code 2 for a user's mistake, 1 for a failure; one line on stderr, a traceback with --debug only."""
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**25))  # `data.decoding`; OpenCV reads it when imported
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # whatever a terminal can't show
    try:
        code = _obey(debug)
    except Exception as error:
        if debug:
            raise
        code = _say(error)
    if code == STOPPED:
        print(f"fiducial: stopped{_how_to_go_on('; ')}", file=sys.stderr)
    sys.exit(code)


def obey(words: list[str]) -> Iterator[None]:
    """Obeys `fiducial WORDS` in a process of its own (`worker`): raises what went wrong after saying it."""
    sys.argv = ["fiducial", *words]
    try:
        code = _obey()
    except Exception as error:
        _say(error)
        raise
    if code:
        raise Failure("stopped" if code == STOPPED else f"ended with code {code}")
    yield


def _obey(debug: bool = False) -> int:
    """Shows what our own logger says; warnings of libraries are for people who debug."""
    command_line.set(shlex.join(["fiducial", *sys.argv[1:]]))
    has_bar = sys.stderr is not None and sys.stderr.isatty()
    beating = nullcontext() if has_bar or _of_command("IS_SERVICE") else heartbeat()
    with log.shown(), beating, warnings.catch_warnings():
        if not debug:
            warnings.showwarning = _say_nothing
        return app(standalone_mode=False, prog_name="fiducial")


def _say_nothing(*warning: object) -> None:
    """Takes what `warnings.showwarning` does."""


def _say(error: BaseException) -> int:
    """Prints the line for the user and gives the exit code."""
    if isinstance(error, Failure):
        further = _how_to_go_on("; then ") if isinstance(error, Interrupted) else ""
        print(f"fiducial: {error}{further}", file=sys.stderr)
        return error.exit_code
    if isinstance(error, OSError) and error.errno in OF_A_DISK:
        place = f"{error.filename}: " if error.filename else ""
        print(f"fiducial: {place}{error.strerror}; mend that{_how_to_go_on('; then ')}", file=sys.stderr)
        return 2
    if isinstance(error, USAGE_ERROR):
        context = getattr(error, "ctx", None)
        command = "fiducial" if context is None else context.command_path
        said = error.format_message()  # type: ignore[attr-defined]
        print(f"fiducial: {' '.join(said.split())} (`{command} --help` says more)", file=sys.stderr)
        return 2
    if isinstance(error, ModuleNotFoundError) and (extra := _extra_of(error.name or "")):
        print(f"fiducial: {error.name} is not installed: pip install 'fiducial[{extra}]'", file=sys.stderr)
        return 2
    print(f"fiducial: {type(error).__name__}: {one_line(str(error))} (--debug shows where)", file=sys.stderr)
    return 1


def _how_to_go_on(before: str) -> str:
    """Says how what was running is taken up again, where the command can; nothing where it can't."""
    hint = _of_command("AFTER_STOP")
    return f"{before}{hint}" if hint and ("--resume" not in hint or _has_begun()) else ""


def _has_begun() -> bool:
    """Says whether there is a run in --out, which could be resumed."""
    words = [part for word in sys.argv[1:] for part in word.split("=", 1)]
    out = next((after for word, after in itertools.pairwise(words) if word == "--out"), None)
    return out is None or (Path(out) / "recipe.json").is_file()


def _of_command(name: str) -> Any:
    """Looks up what the module of the command that is obeyed says of it; None where it says nothing."""
    return getattr(_obeyed(), name, None)


def _extra_of(module: str) -> str | None:
    """Finds the extra that brings a module and the least besides, by what the installed package says that it needs."""
    package = module.partition(".")[0].replace("_", "-").lower()
    names = {package, f"py{package}"}  # yaml is pyyaml's
    from importlib import metadata

    try:
        needs = metadata.requires("fiducial") or []
    except metadata.PackageNotFoundError:  # run from a checkout
        return None
    brought: dict[str, list[str]] = {}
    for need in needs:
        requirement, _, marker = need.partition(";")
        if extra := re.search(r"extra == ['\"]([\w-]+)", marker):
            name = re.split(r"[^\w-]", requirement.strip(), maxsplit=1)[0].replace("_", "-").lower()
            brought.setdefault(extra[1], []).append(name)
    return min(
        (extra for extra in brought if names & {*brought[extra]}), key=lambda extra: len(brought[extra]), default=None
    )


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
    _without_a_command(context)


def _without_a_command(context: typer.Context) -> None:
    """Shows the help where no command is given."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)
