"""The command ``ecgkit``."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ecgkit.cli.common import fail
from ecgkit.errors import INTERRUPTED, interrupt, lacks_memory

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; see `ecgkit.cli.command.main`."""
    try:
        with interruptible_imports():
            from ecgkit.cli.command import main as run

            return run(arguments)
    except KeyboardInterrupt:
        return fail("interrupted", code=INTERRUPTED)
    except Exception as error:
        if not lacks_memory(error):
            raise
        return fail("out of memory: free some, raise the limit (ulimit -v) or lower --jobs, then run it again")


@contextmanager
def interruptible_imports() -> Iterator[None]:
    """End the process at once where Ctrl-C interrupts an import: torch aborts if an exception passes through it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
