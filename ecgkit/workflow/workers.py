"""The processes that share a folder, on one machine or several: which of them are still there."""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

BEAT = 30.0
"""Seconds between two signs of life."""

SILENCE = 600.0
"""Seconds without one after which a process of another machine is taken for dead."""


@dataclass(frozen=True)
class Worker:
    """A process among those that share a folder.

    Attributes
    ----------
    mark : Path
        The file that it holds a lock on, and whose time it renews, as long as it lives.
    """

    mark: Path

    @property
    def name(self) -> str:
        """Machine, process and a random word; no two workers have the same."""
        return self.mark.name

    def sees(self, name: str) -> bool:
        """Tell whether another worker is alive: by its lock on this machine, by its signs of life on another one."""
        if name in ("", self.name):
            return name == self.name
        other = self.mark.with_name(name)
        if machine_of(name) == machine_of(self.name):
            return is_held(other)
        try:
            # Both times are those of the file server: the clocks of two machines need not agree.
            self.mark.touch()
            return self.mark.stat().st_mtime - other.stat().st_mtime < SILENCE
        except FileNotFoundError:
            return False


def machine_of(name: str) -> str:
    """Read the machine out of a worker's name."""
    return name.rsplit("-", 2)[0]


def is_held(mark: Path) -> bool:
    """Tell whether a process of this machine holds the lock of a mark; a mark that nobody holds is removed."""
    if not mark.is_file():
        return False
    lock = FileLock(mark, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return True
    lock.release()
    mark.unlink(missing_ok=True)
    return False


@contextmanager
def enrolled(folder: Path) -> Iterator[Worker]:
    """Make this process a worker of a folder; a process that is killed leaves its mark, but not its lock on it."""
    folder.mkdir(parents=True, exist_ok=True)
    worker = Worker(folder / f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}")
    ended = threading.Event()

    def live() -> None:
        while not ended.wait(BEAT):
            worker.mark.touch()

    thread = threading.Thread(target=live, daemon=True)
    lock = FileLock(worker.mark)
    with lock:
        thread.start()
        try:
            yield worker
        finally:
            ended.set()
            thread.join()
    worker.mark.unlink(missing_ok=True)
