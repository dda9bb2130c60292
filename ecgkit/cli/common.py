"""What all commands share: how they are declared, print, ask and fail."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, Protocol

BAD_INPUT = 2
"""The exit code of bad input and a full disk."""

NOT_AS_HOPED = 1
"""The exit code of a command that did its work, of which something did not come out as it should."""

Function = Callable[[argparse.Namespace, Path], int | None]
"""A command: its arguments and the root; gives an exit code, or None for 0."""


class AddCommand(Protocol):
    """Adds a command that takes ``--root``."""

    def __call__(self, name: str, function: Function, text: str) -> argparse.ArgumentParser:
        """Give the parser of the new command, which then takes the command's own arguments."""


class OneLineParser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        """Print the line and exit with the code of bad input."""
        sys.exit(fail(f"{message}: see {self.prog} --help"))


def add_root(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add ``--root``."""
    text = "folder of data sets and sessions (default: the project's folder)"
    parser.add_argument("--root", metavar="DIR", default=default, help=text)


def say(line: str | Path) -> None:
    """Print one line of a command's result."""
    print(line, flush=True)  # noqa: T201 - a command line prints


def say_json(data: object) -> None:
    """Print JSON, which then is all that a command prints."""
    say(json.dumps(data, indent=2, allow_nan=False))


def say_columns(rows: Sequence[Sequence[str]], indent: str = "") -> None:
    """Print rows of texts with their columns under each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        say(f"{indent}{'  '.join(text.ljust(width) for text, width in zip(row, widths, strict=True))}".rstrip())


def note(message: str) -> None:
    """Print one line on standard error, where it does not mix with a command's result."""
    print(f"ecgkit: {' '.join(message.split())}", file=sys.stderr, flush=True)  # noqa: T201


def fail(message: str, code: int = BAD_INPUT) -> int:
    """Print one line on standard error and give the exit code, by default that of bad input."""
    note(message)
    return code


def on_terminal() -> bool:
    """Tell whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def says_yes(question: str) -> bool:
    """Ask a question; anything but a clear yes is a no."""
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
