"""Progress that is alive on a terminal and quiet in a log."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

from ecgkit.errors import printable

T = TypeVar("T")


def progress_bar(*, total: int, description: str, unit: str, shown: bool = True) -> tqdm[Any]:
    """Make a progress bar: alive on a terminal, elsewhere plain lines, at most one every 30 s.

    Parameters
    ----------
    total : int
        Number of units to do.
    description, unit : str
        The task, and the unit of its parts.
    shown : bool
        Whether it is shown at all.

    Returns
    -------
    tqdm
        To be updated and closed.
    """
    alive = sys.stderr.isatty()
    file = sys.stderr if alive else _Lines()
    interval = 0.2 if alive else 30.0
    # maxinterval would print lines sooner than mininterval on a slow machine
    return tqdm(
        total=total, desc=printable(description), unit=f" {unit}", disable=not shown, file=file, ascii=not alive,
        mininterval=interval, maxinterval=interval, ncols=None if alive else 90, dynamic_ncols=alive,
    )  # fmt: skip


@contextmanager
def counted(items: Iterable[T], total: int, *, description: str, unit: str, shown: bool) -> Iterator[Iterator[T]]:
    """Show the progress while items pass. The bar ends before an error that occurs between them is reported."""
    with progress_bar(total=total, description=description, unit=unit, shown=shown) as bar:

        def passing() -> Iterator[T]:
            for item in items:
                yield item
                bar.update()

        yield passing()


def say(text: str, *, shown: bool = True) -> None:
    """Write a line on standard error, above a progress bar if there is one."""
    if shown:
        with outlives_reader(sys.stderr):
            tqdm.write(printable(text), file=sys.stderr)


@contextmanager
def outlives_reader(stream: TextIO) -> Iterator[None]:
    """Discard what is printed once the reader of a pipe, such as ``head``, has closed it: the work continues."""
    try:
        yield
    except BrokenPipeError:
        discard(stream)


def discard(stream: TextIO) -> None:
    """Discard what has been printed and has not been read, and whatever is printed from now on."""
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


class Continued:
    """A stream of text for a step whose result is a folder, not what it prints: it continues without a reader."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text."""
        with outlives_reader(self.stream):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        with outlives_reader(self.stream):
            self.stream.flush()


class _Lines:
    """A text file that turns the carriage returns of a progress bar into lines."""

    def write(self, text: str) -> int:
        line = text.strip("\r\n")
        return Continued(sys.stderr).write(f"{line}\n") if line.strip() else 0

    def flush(self) -> None:
        Continued(sys.stderr).flush()
