"""What all commands share: how they are declared, and how they print, ask and fail."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol

from ecgkit.errors import printable

BAD_INPUT = 2
"""The exit code of bad input and a full disk."""

INCOMPLETE = 1
"""The exit code of a command that ran to its end, but part of its work failed or gave other numbers."""

Function = Callable[[argparse.Namespace, Path], int | None]
"""A command: takes its arguments and the root, and returns an exit code, or None for 0."""


class OneLineParser(argparse.ArgumentParser):
    """A parser with one-line errors, whose arguments can be added when it is first used.

    Parameters
    ----------
    fill : callable, optional
        Adds the arguments to the parser.
    """

    def __init__(self, *arguments: Any, fill: Callable[[OneLineParser], None] | None = None, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.fill = fill

    def filled(self) -> OneLineParser:
        """Add the arguments, once."""
        if self.fill is not None:
            fill, self.fill = self.fill, None
            fill(self)
        return self

    def parse_known_args(self, *arguments: Any, **keywords: Any) -> Any:
        """Parse as `argparse` does."""
        return super(OneLineParser, self.filled()).parse_known_args(*arguments, **keywords)

    def format_help(self) -> str:
        """Format the help as `argparse` does."""
        return super(OneLineParser, self.filled()).format_help()

    def has_flag(self, name: str) -> bool:
        """Return True if the command has the flag of a keyword."""
        return f"--{name.replace('_', '-')}" in self.filled()._option_string_actions

    def error(self, message: str) -> NoReturn:
        """Print the line and exit with the code of bad input."""
        sys.exit(fail(f"{message}: see {self.prog} --help"))


class AddCommand(Protocol):
    """Adds a command that takes ``--root``."""

    def __call__(
        self, name: str, function: Function, text: str, fill: Callable[[OneLineParser], None] | None = None
    ) -> OneLineParser:
        """Return the parser of the new command; ``fill`` adds arguments when the command is used."""


def add_root(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add ``--root``."""
    text = "folder of data sets and sessions (default: the project's folder)"
    parser.add_argument("--root", metavar="DIR", default=default, help=text)


def echo(line: str | Path) -> None:
    """Print one line of a command's result."""
    print(printable(str(line)), flush=True)  # noqa: T201 - a command line prints


def echo_json(data: object) -> None:
    """Print JSON, and nothing else."""
    echo(json.dumps(data, indent=2, allow_nan=False))


def echo_columns(rows: Sequence[Sequence[str]], indent: str = "") -> None:
    """Print rows of texts as aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        echo(f"{indent}{'  '.join(text.ljust(width) for text, width in zip(row, widths, strict=True))}".rstrip())


def with_flags(message: str, arguments: argparse.Namespace) -> str:
    """Return a message with the flags of the command in place of the keywords of `ecgkit.open_ecg` and of predictions.

    Keywords are ``unit=``, ``anyway=True``, and the name at the beginning of "sampling_rate is -5". One for which the
    command has no flag is set in another way, such as ``--source-options unit=uV``, and stays as it is.
    """
    names = "sampling_rate|unit|leads|record|start|duration"
    keyword = (
        rf"(?<= )(?P<asked>{names})=(?=[,. ]|$)|\b(?P<skipped>anyway|allow_missing_leads)=True"
        rf"|(?:(?<=^)|(?<=: ))(?P<wrong>{names}|age|sex)(?= is )"
    )

    def flag(found: re.Match[str]) -> str:
        name = found[found.lastgroup or 0]
        return f"--{name.replace('_', '-')}" if arguments.parser.has_flag(name) else found[0]

    return re.sub(keyword, flag, message)


def note(message: str) -> None:
    """Print one line on standard error, where it does not mix with a command's result."""
    try:
        print(f"ecgkit: {printable(' '.join(message.split()))}", file=sys.stderr, flush=True)  # noqa: T201
    except BrokenPipeError:  # nobody reads it; the exit code remains
        from ecgkit.progress import discard

        discard(sys.stderr)


def fail(message: str, code: int = BAD_INPUT) -> int:
    """Print one line on standard error and return the exit code, by default that of bad input."""
    note(message)
    return code


def on_terminal() -> bool:
    """Return True if there is somebody to ask."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def confirm(question: str) -> bool:
    """Ask a question; anything but a clear yes is a no."""
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def free_name(name: str, written: set[str]) -> str:
    """Return a name that no earlier file of this call has."""
    number, free = 1, name
    while free in written:
        number += 1
        free = f"{name}-{number}"
    written.add(free)
    return free
