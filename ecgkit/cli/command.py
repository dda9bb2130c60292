"""The parser of all commands, and the function that runs one."""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor

from ecgkit import __version__, paths
from ecgkit.cli import (
    app,
    convert,
    dashboard,
    data,
    evaluation,
    experiments,
    explain,
    feature_space,
    predict,
    quality,
    serve,
    sessions,
    steps,
)
from ecgkit.cli.common import Function, OneLineParser, add_root, fail, with_flags
from ecgkit.errors import EcgkitError, not_installed
from ecgkit.progress import discard
from ecgkit.workflow.launcher import check_command

GROUPS = {
    "an answer for an ECG": ("predict", "dashboard", "diagnose", "app", "serve"),
    "from ECGs to a model": ("run", "download", "preprocess", "pretrain", "train", "evaluate", "compare"),
    "what a model has learned": ("probe", "explain", "embed", "similar", "probe-epochs"),
    "many trainings": ("sweep", "search", "reproduce", "soft-labels"),
    "files and sessions": ("convert", "quality", "sessions", "export-model", "export-npz"),
}
"""The commands by task, in the order of ``ecgkit --help``."""

AT_ONCE = ("convert", "dashboard", "explain", "quality")
"""The commands that do not resume."""


def make_parser() -> argparse.ArgumentParser:
    """Describe every command and its arguments."""
    parser = OneLineParser(
        prog="ecgkit",
        description="From 12-lead ECGs to a multilabel model and what it has learned.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="ecgkit COMMAND [--help]",
    )
    parser.add_argument("--version", action="version", version=f"ecgkit {__version__}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", prog="ecgkit", help=argparse.SUPPRESS
    )
    texts: dict[str, str] = {}

    def command(
        name: str, function: Function, text: str, fill: Callable[[OneLineParser], None] | None = None
    ) -> OneLineParser:
        added = commands.add_parser(name, description=text, fill=fill)
        added.set_defaults(function=function, parser=added)
        add_root(added)
        texts[name] = text
        return added

    answers = (predict, dashboard, app, serve)
    for group in (steps, explain, *answers, data, convert, quality, evaluation, feature_space, experiments, sessions):
        group.add_commands(command)
    parser.epilog = overview(texts)
    return parser


def overview(texts: dict[str, str]) -> str:
    """List the commands by task."""
    titles = {title: [f"  {name:<14}{texts[name]}" for name in names] for title, names in GROUPS.items()}
    return "\n\n".join("\n".join([f"{title}:", *lines]) for title, lines in titles.items())


def resume_hint(parsed: argparse.Namespace) -> str:
    """Return what to do after an interruption: with ``--force`` most commands start again."""
    if parsed.command in AT_ONCE or (parsed.command == "predict" and not parsed.to):
        return "the same command starts again"
    if not getattr(parsed, "force", False) or parsed.command == "preprocess":
        return "the same command resumes where it stopped"
    if parsed.command == "train":
        return "the same command with --resume instead of --force resumes where it stopped"
    return "the same command starts again"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        What follows ``ecgkit``; by default the arguments of the command line.

    Returns
    -------
    int
        0; 1 if a reproduction gave other numbers, or runs of a sweep or all trials of a search failed; 2 for bad input
        and a full disk; or 130 for an interruption.
    """
    parsed = make_parser().parse_args(arguments)
    try:
        check_command(parsed.command)
        return parsed.function(parsed, paths.resolve_root(parsed.root)) or 0
    except (EcgkitError, ModuleNotFoundError) as error:
        if details := getattr(error, "details", ""):
            print(details, file=sys.stderr, flush=True)  # noqa: T201 - the failed cell of a notebook
        message = str(error) if isinstance(error, EcgkitError) else not_installed(error)
        return fail(with_flags(message, parsed))
    except KeyboardInterrupt:
        return fail(f"interrupted: {resume_hint(parsed)}", code=130)
    except BrokenPipeError:
        discard(sys.stdout)  # its reader, such as `head`, has closed it
        return 0
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise
        to = getattr(parsed, "to", None)
        where = f": {error.filename or to or paths.resolve_root(parsed.root)}"
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        way_out = (
            f"make room or choose another {'--to' if to else '--root'}"
            if full
            else "check that it exists and can be read and written"
        )
        return fail(f"{error.strerror or error}{where}; {way_out}, then run it again")
    except BrokenExecutor:
        return fail("a worker process ended unexpectedly: free memory or lower --jobs, then run it again")
