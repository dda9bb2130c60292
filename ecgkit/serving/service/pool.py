"""Processes that hold the models, and the queue in front of them."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from ecgkit.errors import EcgkitError, one_line
from ecgkit.processes import THREADS, share_cores
from ecgkit.serving.service.settings import Settings
from ecgkit.serving.service.work import Job, Result, Work, do, problem

LARGEST_BATCH = 8
"""Jobs that a worker takes at once, if so many queued while all workers were busy."""

GRACE = 5
"""Seconds in which a worker ends by itself."""


@dataclass(eq=False)
class Waiting:
    """A job in the queue and the future of its result."""

    job: Job
    future: asyncio.Future[Result]
    loop: asyncio.AbstractEventLoop
    since: float = field(default_factory=time.monotonic)

    def answer(self, result: Result) -> None:
        """Hand over the result, unless nobody waits for it any more."""
        self.loop.call_soon_threadsafe(self._set, result)

    def _set(self, result: Result) -> None:
        if not self.future.done():
            self.future.set_result(result)


class Pool:
    """Workers that answer jobs.

    A job goes to a worker that is free. Only what has queued while all workers were busy is answered together, so that
    a single request never waits for others. A worker that takes longer than a request may, or that ends, is replaced.

    Parameters
    ----------
    settings : Settings
        The models, the number of workers, and the seconds that a request may take.
    watch : callable, optional
        Called with the number of jobs of each batch.
    """

    def __init__(self, settings: Settings, watch: Callable[[int], None] = lambda _: None) -> None:
        self.settings, self._watch = settings, watch
        self.models: list[dict[str, Any]] = []
        self.error = ""
        self._queue: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(settings.workers)]
        self._loaded = threading.Semaphore(0)
        self._is_stopping = False

    @property
    def is_ready(self) -> bool:
        """Whether a worker has loaded the models."""
        return bool(self.models) and not self.error

    @property
    def waiting(self) -> int:
        """Jobs that no worker has taken yet."""
        return self._queue.qsize()

    def start(self) -> None:
        """Start the workers; they load the models while the service already answers ``/health``."""
        os.environ.setdefault(THREADS, share_cores(self.settings.workers))
        for thread in self._threads:
            thread.start()

    def wait(self) -> None:
        """Wait until every worker has loaded the models.

        Raises
        ------
        EcgkitError
            If a model cannot be loaded.
        """
        for _ in self._threads:
            self._loaded.acquire()
        if self.error:
            raise EcgkitError(self.error)

    def stop(self) -> None:
        """End the workers once they have finished what they have begun."""
        self._is_stopping = True
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join(self.settings.timeout + GRACE)

    async def run(self, job: Job) -> Result:
        """Return the result of a job."""
        loop = asyncio.get_running_loop()
        waiting = Waiting(job, loop.create_future(), loop)
        self._queue.put(waiting)
        return await waiting.future

    def _serve(self) -> None:
        """Hand jobs to one worker."""
        worker = Worker(self.settings)
        try:
            self.models = worker.start()
        except EcgkitError as error:
            self.error = str(error)
        finally:
            self._loaded.release()
        while not self.error and (batch := self._next_batch()) is not None:
            self._watch(len(batch))
            try:
                results = worker.ask([waiting.job for waiting in batch])
            except EcgkitError as error:  # no process starts any more
                self.error = str(error)
                results = [problem(500, "the models cannot be loaded again")] * len(batch)
            for waiting, result in zip(batch, results, strict=True):
                waiting.answer(result)
        worker.end()

    def _next_batch(self) -> list[Waiting] | None:
        """Wait for a job and take those that queued behind it; None at the end."""
        batch: list[Waiting] = []
        while not batch:
            first = self._queue.get()
            if first is None:
                return None
            batch = [first] if not first.future.done() else []
        while len(batch) < LARGEST_BATCH and not self._is_stopping:
            try:
                following = self._queue.get_nowait()
            except queue.Empty:
                break
            if following is None:
                self._queue.put(None)  # the sign to stop, which comes last
                break
            batch += [following] if not following.future.done() else []
        return batch


class Worker:
    """A process with the models.

    Parameters
    ----------
    settings : Settings
        The models, and the seconds that a request may take.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def start(self) -> list[dict[str, Any]]:
        """Start the process and return its models, see `ecgkit.serving.service.work.Work.models`.

        Raises
        ------
        EcgkitError
            If a model cannot be loaded.
        """
        context = get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=work_in_process, args=(other, self.settings), daemon=True)
        self._process.start()
        other.close()
        try:
            loaded = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise EcgkitError("a process that loads the models has ended: is there enough memory?") from error
        if isinstance(loaded, str):
            raise EcgkitError(loaded)
        models: list[dict[str, Any]] = loaded
        return models

    def ask(self, jobs: Sequence[Job]) -> list[Result]:
        """Return the results of jobs; if the process takes too long or ends, each job is tried by itself."""
        is_late = False
        try:
            self._pipe.send(jobs)
            if self._pipe.poll(self.settings.timeout):
                results: list[Result] = self._pipe.recv()
                return results
            is_late = True
        except (EOFError, OSError):  # the process has ended
            pass
        self._process.kill()
        self.end()
        self.start()
        if len(jobs) > 1:
            return [self.ask([job])[0] for job in jobs]
        if is_late:
            return [problem(504, f"the answer takes more than {self.settings.timeout} s: send a shorter ECG")]
        return [problem(500, "the process that read the ECG has ended")]

    def end(self) -> None:
        """End the process, which does so when nobody is at the other end of its pipe."""
        self._pipe.close()
        self._process.join(GRACE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def work_in_process(pipe: Connection, settings: Settings) -> None:
    """Load the models, say so, and do jobs until the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the service, which lets the workers finish
    try:
        work = Work(settings)
    except Exception as error:
        pipe.send(one_line(error))
        return
    pipe.send(work.models())
    while True:
        try:
            jobs = pipe.recv()
        except EOFError:
            return
        pipe.send(do(work, jobs))
