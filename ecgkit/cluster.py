"""A Dask cluster as an executor: what a pool of processes does here, its workers do on other machines."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import platform
import socket
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ecgkit import paths
from ecgkit.errors import EcgkitError, one_line, require
from ecgkit.sessions.environment import installed_versions

CONNECT_SECONDS = 3.0
"""How long the scheduler may take to answer."""

WORKER_SECONDS = 10.0
"""How long the first worker may take to appear."""


@contextmanager
def workers(scheduler: str | None, *, sees: Iterable[Path] = ()) -> Iterator[Executor | None]:
    """Yield an executor whose calls run on the workers of a Dask cluster; None without a scheduler.

    A call whose worker is lost runs again on another one.

    Parameters
    ----------
    scheduler : str or None
        Address of the scheduler, such as ``"tcp://host:8786"``.
    sees : iterable of Path
        Folders that every worker needs at the same path.

    Raises
    ------
    EcgkitError
        If no scheduler answers, it has no workers, it is lost, or a worker has another version of Python, of ecgkit or
        of a package that determines results, or lacks a folder. Workers that join later are checked too.
    """
    if scheduler is None:
        yield None
        return
    distributed = require("distributed", "cluster")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # every failure becomes one line
    needs = Needs(versions(), tuple(str(path) for path in sees))
    _check_scheduler(distributed, scheduler)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Dask's own about versions, which are compared here
        client = distributed.Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
    try:
        with client:
            _check_workers(client, scheduler, needs)
            yield _Checked(client.get_executor(pure=False), needs)
    except distributed.KilledWorker as error:
        raise EcgkitError(
            f"several workers were lost with the same part of the work, such as for lack of memory: {error.last_worker}"
        ) from error
    except (CancelledError, distributed.comm.CommClosedError) as error:
        raise EcgkitError(
            f"the Dask scheduler at {scheduler} was lost: start it again, and the same command resumes"
        ) from error


def check_places(jobs: int | None, scheduler: str | None) -> None:
    """Refuse processes of this machine together with a cluster."""
    if jobs is not None and scheduler is not None:
        raise EcgkitError(f"jobs is {jobs} and scheduler {scheduler}: choose processes of this machine or a cluster")


@dataclass(frozen=True)
class Needs:
    """What a worker needs, so that it computes what the client would.

    Attributes
    ----------
    versions : dict of str to str
        As `versions` returns them.
    folders : tuple of str
        Absolute paths.
    """

    versions: dict[str, str]
    folders: tuple[str, ...]

    def check(self) -> None:
        """Raise an `EcgkitError` if this process lacks something."""
        here, found = f"the worker on {socket.gethostname()}", versions()
        for name in dict.fromkeys([*self.versions, *found]):
            if (wanted := self.versions.get(name)) != (other := found.get(name)):
                raise EcgkitError(f"{here} has {name} {other}, not {wanted} as here: install the same versions")
        for folder in self.folders:
            if not Path(folder).is_dir():
                raise EcgkitError(f"{here} does not see {folder}: mount it there at the same path")


class _Checked(Executor):
    """An executor whose calls check first that their worker has what it needs."""

    def __init__(self, executor: Executor, needs: Needs) -> None:
        self.executor, self.needs = executor, needs

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Future[Any]:
        """Submit a call."""
        return self.executor.submit(_call, self.needs, function, *arguments, **keywords)


def _call(needs: Needs, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Check what this worker has, then call."""
    needs.check()
    return function(*arguments, **keywords)


@cache
def versions() -> dict[str, str]:
    """Return the versions that determine results: of Python, packages, and the code of ecgkit itself."""
    code = hashlib.sha256()
    for path in sorted(paths.PACKAGE.rglob("*.py")):
        code.update(path.relative_to(paths.PACKAGE).as_posix().encode() + path.read_bytes())
    return {"Python": platform.python_version(), **installed_versions(), "code of ecgkit": code.hexdigest()[:12]}


def _check_scheduler(distributed: Any, address: str) -> None:
    """Refuse an address at which no Dask scheduler answers; a client would retry and complain when it is deleted."""

    async def ask() -> dict[str, Any]:
        connection = distributed.Security().get_connection_args("client")
        async with distributed.rpc(address, timeout=CONNECT_SECONDS, connection_args=connection) as server:
            found: dict[str, Any] = await asyncio.wait_for(server.identity(), CONNECT_SECONDS)
            return found

    try:
        with ThreadPoolExecutor(1) as thread:  # a notebook has a running loop already
            kind = thread.submit(asyncio.run, ask()).result()["type"]
    except Exception as error:  # of whatever kind, since any server may answer
        raise EcgkitError(
            f"no Dask scheduler at {address}: start one with `dask scheduler` ({one_line(error)})"
        ) from error
    if kind != "Scheduler":
        raise EcgkitError(f"at {address} is a Dask {kind.lower()}, not a scheduler: give the address of the scheduler")


def _check_workers(client: Any, scheduler: str, needs: Needs) -> None:
    """Wait for a worker, and refuse one that lacks something."""
    try:
        client.wait_for_workers(1, timeout=WORKER_SECONDS)
    except TimeoutError as error:
        raise EcgkitError(
            f"the Dask scheduler at {scheduler} has no workers: start some with `dask worker {scheduler}`"
        ) from error
    for address, found in client.run(needs.check, on_error="return").items():
        if isinstance(found, EcgkitError):
            raise found
        if isinstance(found, Exception):  # such as of a worker without ecgkit
            raise EcgkitError(
                f"the worker {address} cannot run ecgkit {needs.versions['ecgkit']}: {one_line(found)}"
            ) from found
