"""The parser of all commands, and the function that runs one."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor

from ecgkit import __version__, paths
from ecgkit.cli import chain, evaluation, feature_space, repeats, sessions
from ecgkit.cli.common import Function, OneLineParser, add_root, fail
from ecgkit.errors import EcgkitError, not_installed


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


def how_to_go_on(parsed: argparse.Namespace) -> str:
    """Say what to do after an interruption: with ``--force`` most commands begin again, as they were asked to."""
    if not getattr(parsed, "force", False) or parsed.command == "preprocess":
        return "the same command goes on where it stopped"
    if parsed.command == "train":
        return "the same command with --resume instead of --force goes on where it stopped"
    return "the same command begins again"


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
    except (EcgkitError, ModuleNotFoundError) as error:
        return fail(str(error) if isinstance(error, EcgkitError) else not_installed(error))
    except KeyboardInterrupt:
        return fail(f"interrupted: {how_to_go_on(parsed)}", code=130)
    except BrokenPipeError:
        # Whoever read the output has seen enough, as `head` does; what is left of it goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        way_out = "make room or choose another --root" if full else "see that it is there and may be read and written"
        return fail(f"{error.strerror or error}{where}; {way_out}, then run it again")
    except BrokenExecutor:
        return fail("a worker process ended before its time: free memory or lower --jobs, then run it again")
