"""The command line. Thin: one file in `commands/` = one command, which parses, calls one function of a room and prints;
heavy imports stay inside it."""

from __future__ import annotations

import importlib
import shlex
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from fiducial.errors import UserError
from fiducial.files import command_line
from fiducial.version import __version__

# As help shows them.
COMMANDS = ("demo", "fit", "distill", "evaluate", "predict", "animate", "compare", "export", "profile", "serve")
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
    command_line.set(shlex.join(["fiducial", *sys.argv[1:]]))
    try:
        code = app(standalone_mode=False, prog_name="fiducial")
    except Exception as error:
        if debug:
            raise
        code = _say(error)
    if code == STOPPED:
        hints = {
            "fit": "; `fiducial fit` continues exactly with --resume",
            "distill": "; --resume continues exactly, a study the same command",
            "compare": "; the same command continues",
        }
        hint = hints.get(sys.argv[1] if len(sys.argv) > 1 else "", "")
        print(f"fiducial: stopped{hint}", file=sys.stderr)
    sys.exit(code)


def _show_warning(message: Warning | str, category: type, filename: str, *rest: Any) -> None:
    """Our own warnings are for users, one line each; those of libraries are for people who debug."""
    if "fiducial" in Path(filename).parts or Path(filename).parent.name == "fiducial":
        print(f"fiducial: {message}", file=sys.stderr)


def _say(error: BaseException) -> int:
    """The line for the user and the exit code."""
    if isinstance(error, UserError):
        print(f"fiducial: {error}", file=sys.stderr)
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
    failed = "" if type(error).__name__ == "TrainingFailure" else f"{type(error).__name__}: "
    hint = "" if failed == "" else " (--debug shows where)"
    print(f"fiducial: {failed}{error}{hint}", file=sys.stderr)
    return 1


def _extra_of(module: str) -> str | None:
    extras = {
        "train": (
            "torch",
            "lightning",
            "timm",
            "safetensors",
            "matplotlib",
            "jinja2",
            "tensorboard",
            "onnx",
            "onnxscript",
        ),
        "openvino": ("openvino", "nncf"),
        "ncnn": ("ncnn", "pnnx"),
        "serve": ("fastapi", "uvicorn", "starlette", "prometheus_client", "python_multipart"),
        "video": ("av",),
    }
    return next((extra for extra, modules in extras.items() if module.partition(".")[0] in modules), None)


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


for _name in COMMANDS:
    app.command(_name)(getattr(importlib.import_module(f"fiducial.cli.commands.{_name}"), _name))
