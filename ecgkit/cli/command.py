"""The parser of all commands, and the function that runs one."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor

from ecgkit import __version__, paths
from ecgkit.cli import chain, evaluation, feature_space, repeats, sessions
from ecgkit.cli.common import Function, OneLineParser, add_root, fail
from ecgkit.errors import EcgkitError


def make_parser() -> argparse.ArgumentParser:
    """Describe every command and its arguments."""
    parser = OneLineParser(
        prog="ecgkit", description="From 12-lead ECGs to a multilabel model and what it has learned."
    )
    parser.add_argument("--version", action="version", version=f"ecgkit {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, function: Function, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(function=function)
        add_root(added)
        return added

    for group in (chain, feature_space, evaluation, repeats, sessions):
        group.add_commands(command)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words behind ``ecgkit``; those of the command line if None.

    Returns
    -------
    int
        0; 1 if a reproduction gave other numbers, or runs of a sweep or all trials of a search failed; 2 for bad input
        and a full disk; or 130 for an interruption.
    """
    parsed = make_parser().parse_args(arguments)
    try:
        return parsed.function(parsed, paths.resolve_root(parsed.root)) or 0
    except EcgkitError as error:
        return fail(str(error))
    except KeyboardInterrupt:
        without = ", without --force," if getattr(parsed, "force", False) else ""
        return fail(f"interrupted: the same command{without} goes on where it stopped", code=130)
    except BrokenPipeError:
        # Whoever read the output has seen enough, as `head` does; what is left of it goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = error.filename or "while writing"
        return fail(f"{error.strerror or error}: {where}; make room or choose another --root, then run it again")
    except BrokenExecutor:
        return fail("a worker process ended before its time: free memory or lower --jobs, then run it again")
