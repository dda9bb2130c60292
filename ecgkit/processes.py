"""Processes of this machine: how many cores there are, and a pool of processes that share them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from typing import Any

THREADS = "OMP_NUM_THREADS"
"""The variable that OpenMP, OpenBLAS, MKL and PyTorch read when they are loaded."""


def n_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_cores(processes: int) -> str:
    """Return how many threads each of several processes may use, as text for `THREADS`."""
    return str(max(1, n_cores() // processes))


class WorkerPool(ProcessPoolExecutor):
    """Processes that share the cores, and start with Ctrl-C blocked.

    An interruption before their own code would be a traceback. Libraries of linear algebra choose their threads when
    they are loaded, which is before an initializer runs; if each process used all cores, they would wait for each
    other. The processes are not forked: the caller may have threads of torch, which do not survive a fork.
    """

    def __init__(self, number: int, initializer: Callable[[], None] | None = None) -> None:
        super().__init__(number, get_context("spawn"), initializer or start_worker)
        self._threads = share_cores(number)

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Future[Any]:
        """Submit a call; a process that starts for it inherits the blocked signal and the number of threads."""
        is_free = THREADS not in os.environ
        os.environ.setdefault(THREADS, self._threads)
        blocked = hasattr(signal, "pthread_sigmask")  # not on Windows
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if blocked else ()
        try:
            return super().submit(function, *arguments, **keywords)
        finally:
            if blocked:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            if is_free:
                del os.environ[THREADS]


@contextmanager
def started_workers(number: int, initializer: Callable[[], None] | None = None) -> Iterator[Executor | None]:
    """Start a pool of processes at once, and none for less than two; at the end the work that waits is dropped."""
    if number < 2:
        yield None
        return
    with WorkerPool(number, initializer) as pool:
        for _ in range(number):
            pool.submit(os.getpid)
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown(cancel_futures=True)


def start_worker() -> None:
    """Prepare a worker process: the parent handles Ctrl-C, and a worker whose parent was killed ends too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent,), daemon=True).start()


def _exit_after(parent: BaseProcess) -> None:
    """Wait for a process to end, then end this one."""
    parent.join()
    os._exit(1)
