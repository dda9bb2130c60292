"""Bringing files from a place to a folder: several at once, patient with the network, strict with the bytes."""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_exponential, wait_random
from tqdm import tqdm

from ecgkit.errors import EcgkitError
from ecgkit.io import check_space, write_atomically
from ecgkit.progress import progress_bar, say
from ecgkit.sources.ptbxl.download.places import ClosedError, PassingError, Place, RefusedError

SUMS = "SHA256SUMS.txt"
"""The file that names all others with their checksums."""
MOST_REFUSALS = 10
"""So many files that cannot be had end a transfer: the place is then not what it should be."""
SECONDS_BETWEEN_NOTES = 10
SECONDS_TO_END = 5
LONG_PAUSE = 3
"""Seconds; a first failure is only spoken of where it costs more."""

FEWEST_SHOWN = 10

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Patience:
    """How long to try.

    Attributes
    ----------
    connections : int
        Files that are read at once, each on a connection of its own.
    timeout : float
        Seconds to wait for a connection, and for each further piece of an answer.
    attempts : int
        How often a file is asked for at one address.
    checksum_attempts : int
        How often a file that arrives with other bytes than it should is read.
    first_wait, longest_wait : float
        Seconds after the first failure, and at most; they double from one attempt to the next.
    """

    connections: int = 8
    timeout: float = 20.0
    attempts: int = 8
    checksum_attempts: int = 3
    first_wait: float = 0.5
    longest_wait: float = 30.0


class _Stopped(Exception):  # noqa: N818 - nothing is wrong
    """The transfer was ended from outside."""


class Transfer:
    """Reads files from the first of some places that has them.

    Parameters
    ----------
    places : sequence of Place
        Laid out alike. The first is asked first; one that no longer answers is left for the next.
    patience : Patience
        How long to try.
    progress : bool
        Whether to say how far it is.

    Attributes
    ----------
    places : list of Place
        In the order in which they are asked.
    n_bytes : int
        What has been read so far.
    n_failures : int
        Attempts that failed and were made again.
    """

    def __init__(self, places: Sequence[Place], patience: Patience, *, progress: bool) -> None:
        self.patience, self.progress = patience, progress
        self.n_bytes = self.n_failures = 0
        self.places = list(places)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._next_note = self._last_success = 0.0
        self._refusals: dict[Place, int] = {}

    def get(self, file: str, sha256: bytes | None = None) -> bytes:
        """Read a file, again and again if need be.

        Parameters
        ----------
        file : str
            Its path below the place.
        sha256 : bytes, optional
            What its bytes must hash to.

        Returns
        -------
        bytes

        Raises
        ------
        RefusedError
            If no place has it, or it arrives with other bytes each time.
        PassingError
            If no place answers.
        """
        for turn in range(self.patience.checksum_attempts):
            data = self._from_any_place(file, turn)
            with self._lock:
                self.n_bytes += len(data)
                self.n_failures += turn > 0
                self._last_success = time.monotonic()
            if sha256 is None or hashlib.sha256(data).digest() == sha256:
                return data
        raise RefusedError(
            f"{file} from {self.places[0].name} does not have the bytes that {SUMS} promises, "
            f"{self.patience.checksum_attempts} times in a row"
        )

    def bring(
        self, files: Mapping[str, bytes], folder: Path, what: str, disk_bytes: Callable[[str], int]
    ) -> dict[str, str]:
        """Have files in a folder: those with the right bytes stay, the others are read, several at once.

        Each comes under a temporary name and is moved into its place when its bytes are right.

        Parameters
        ----------
        files : mapping of str to bytes
            The path of each file below the place and the folder, and its SHA-256.
        folder : Path
            Where they go.
        what : str
            What they are, for the progress bar.
        disk_bytes : callable
            Gives for a file how much of the disk it takes.

        Returns
        -------
        dict of str to str
            How each file was found: ``"right"``, ``"damaged"`` or ``"missing"``.

        Raises
        ------
        RefusedError
            If files cannot be had; all others are there then, unless there are `MOST_REFUSALS` of them.
        PassingError
            If no place answers any more.
        EcgkitError
            If there is no room for them.
        OSError
            If a file cannot be written.
        """
        states = self._check(files, folder, f"checking {what}")
        todo = {name: sha256 for name, sha256 in files.items() if states[name] != "right"}
        check_space(folder, sum(disk_bytes(name) for name in todo))
        if refused := self._fetch(todo, folder, f"downloading {what}"):
            more = f" ({len(refused) - 1} others cannot be had either)" if len(refused) > 1 else ""
            raise RefusedError(f"{refused[0]}{more}")
        return states

    def _check(self, files: Mapping[str, bytes], folder: Path, description: str) -> dict[str, str]:
        """Find out which files are there with the right bytes."""
        if not any((folder / name).is_file() for name in files):
            return dict.fromkeys(files, "missing")
        states: dict[str, str] = {}
        check, stop = partial(_check_file, str(folder)), threading.Event()
        with self._bar(files, description) as bar:
            for name, state in unordered(check, files.items(), n_threads=self.patience.connections, stop=stop):
                states[name] = state
                bar.update()
        return {name: states[name] for name in files}

    def _fetch(self, files: Mapping[str, bytes], folder: Path, description: str) -> list[RefusedError]:
        """Read files; give why some could not be had, and stop at `MOST_REFUSALS` of these."""
        self._stop = threading.Event()
        self.close()  # the connection of this thread; each of the others opens its own
        refused: list[RefusedError] = []
        start, before = time.monotonic(), self.n_bytes
        save = partial(self._save, folder)
        with self._bar(files, description) as bar:
            for error in unordered(save, files.items(), n_threads=self.patience.connections, stop=self._stop):
                if error is None:
                    rate = (self.n_bytes - before) / max(time.monotonic() - start, 1e-9)
                    bar.set_postfix_str(f"{rate / 1e6:.1f} MB/s", refresh=False)
                    bar.update()
                else:
                    refused.append(error)
                if len(refused) == MOST_REFUSALS:
                    break
        self.close()
        return refused

    def _bar(self, files: Mapping[str, bytes], description: str) -> tqdm[Any]:
        shown = self.progress and len(files) >= FEWEST_SHOWN
        return progress_bar(total=len(files), description=description, unit="files", shown=shown)

    def close(self) -> None:
        """Close all places."""
        for place in self.places:
            place.close()

    def _save(self, folder: Path, item: tuple[str, bytes]) -> RefusedError | None:
        file, sha256 = item
        start = time.monotonic()
        try:
            data = self.get(file, sha256)
        except RefusedError as error:
            return error
        except PassingError as error:
            # Where other files come meanwhile, it is this one that cannot be had, and not the place that is down.
            if self._last_success > start:
                return RefusedError(f"{file}: {error}")
            raise
        if self._stop.is_set():
            raise _Stopped
        write_atomically(folder / file, data)
        return None

    def _from_any_place(self, file: str, turn: int) -> bytes:
        """Ask the places one after the other, at each further turn beginning with another."""
        places = list(self.places)
        failures: list[PassingError | RefusedError] = []
        first = turn % len(places)
        for place in places[first:] + places[:first]:
            try:
                data = self._patiently(place, file)
                self._refusals[place] = 0
                return data
            except PassingError as error:
                failures.append(error)
                self._leave(place, error)
            except RefusedError as error:
                failures.append(error)
                self._count_refusal(place, error)
        # That a place does not have a file says more than that another cannot be reached.
        raise next((error for error in failures if isinstance(error, RefusedError)), failures[0])

    def _patiently(self, place: Place, file: str) -> bytes:
        retrying = Retrying(
            retry=retry_if_exception_type(PassingError),
            stop=stop_after_attempt(self.patience.attempts),
            wait=wait_exponential(multiplier=self.patience.first_wait, max=self.patience.longest_wait)
            + wait_random(0, self.patience.first_wait),
            sleep=self._sleep,
            before_sleep=partial(self._tell, place),
            reraise=True,
        )
        return retrying(self._ask, place, file)

    def _ask(self, place: Place, file: str) -> bytes:
        while (seconds := place.pause()) > 0:
            self._sleep(seconds)
        return place.get(file)

    def _sleep(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise _Stopped

    def _tell(self, place: Place, state: RetryCallState) -> None:
        """Count a failure and, now and then, say what the transfer is waiting for."""
        error = state.outcome.exception() if state.outcome else None
        with self._lock:
            self.n_failures += 1
            now = time.monotonic()
            seconds = max(place.pause(), state.upcoming_sleep)
            if now < self._next_note or (state.attempt_number < 2 and seconds < LONG_PAUSE):
                return
            self._next_note = now + SECONDS_BETWEEN_NOTES
        say(
            f"{error} (attempt {state.attempt_number + 1} of {self.patience.attempts} in {seconds:.0f} s)",
            shown=self.progress,
        )

    def _leave(self, place: Place, error: EcgkitError) -> None:
        """Ask a place last from now on."""
        with self._lock:
            if len(self.places) == 1 or self.places[0] is not place:
                return
            self.places = [*self.places[1:], place]
        say(f"{error}: going on with {self.places[0].name}", shown=self.progress)

    def _count_refusal(self, place: Place, error: RefusedError) -> None:
        """Leave a place that gives nothing at all, or that has refused many files one after the other."""
        with self._lock:
            self._refusals[place] = self._refusals.get(place, 0) + 1
            is_closed = isinstance(error, ClosedError) or self._refusals[place] >= MOST_REFUSALS
        if is_closed:
            self._leave(place, error)


def _check_file(folder: str, item: tuple[str, bytes]) -> tuple[str, str]:
    name, sha256 = item
    try:
        with open(f"{folder}/{name}", "rb") as file:  # noqa: PTH123 - a Path for each of 43,598 files takes longer
            return name, "right" if hashlib.sha256(file.read()).digest() == sha256 else "damaged"
    except FileNotFoundError:
        return name, "missing"


def unordered(
    function: Callable[[Item], Result], items: Iterable[Item], *, n_threads: int, stop: threading.Event
) -> Iterator[Result]:
    """Call a function on items in threads, and give the results as they come.

    Parameters
    ----------
    function : callable
        What is done with an item.
    items : iterable
        The items; no more are taken than there are threads to work on them.
    n_threads : int
        Threads. After an error they get `SECONDS_TO_END` to end; Ctrl-C does not wait for them.
    stop : Event
        Set when the caller takes no more results; the threads then end after their item.

    Yields
    ------
    object
        The results.

    Raises
    ------
    Exception
        The first that the function raises.
    """
    results: queue.SimpleQueue[_Outcome[Result]] = queue.SimpleQueue()
    todo, taking = iter(items), threading.Lock()

    def work() -> None:
        last: _Outcome[Result] = _Outcome(is_last=True)
        try:
            while not stop.is_set():
                with taking:
                    item = next(todo)
                results.put(_Outcome(result=[function(item)]))
        except (StopIteration, _Stopped):
            pass
        except Exception as error:
            last = _Outcome(error=error, is_last=True)
        results.put(last)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    patience = float(SECONDS_TO_END)
    try:
        yield from _take(results, n_threads)
    except KeyboardInterrupt:
        patience = 0
        raise
    finally:
        stop.set()
        until = time.monotonic() + patience
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))


@dataclass(frozen=True)
class _Outcome(Generic[Result]):
    """What a thread has to tell: a result, an error, or that nothing more comes from it."""

    result: Sequence[Result] = ()
    error: Exception | None = None
    is_last: bool = False


def _take(outcomes: queue.SimpleQueue[_Outcome[Result]], running: int) -> Iterator[Result]:
    while running:
        try:
            # With a time limit, since on Windows Ctrl-C does not end an endless wait.
            outcome = outcomes.get(timeout=0.5)
        except queue.Empty:
            continue
        if outcome.error is not None:
            raise outcome.error
        yield from outcome.result
        running -= outcome.is_last
