"""The life of a session: create, find, claim or start, and delete."""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from ecgkit import paths
from ecgkit.errors import EcgkitError
from ecgkit.io import TEMPORARY_SUFFIX, file_sha256, hold_folder, release_folder
from ecgkit.sessions.differences import describe_differences
from ecgkit.sessions.environment import record_environment
from ecgkit.sessions.folder import LOCK, REPRODUCTION, SESSION_VARIABLE, Session

NEW = "new"
"""The value of a notebook's parameter ``session`` for a new session."""

LATEST = "latest"
"""Stands for the newest finished session where a name is expected."""

_locks: dict[Path, FileLock] = {}  # of the sessions that this notebook's kernel started; released when it ends


def create(kind: str, root: Path) -> Session:
    """Make the folder of the next session; two callers at the same time get different numbers.

    Parameters
    ----------
    kind : str
        Name of a folder of sessions, such as ``"training_sessions"``.
    root : Path
        The folder of data sets and sessions.

    Returns
    -------
    Session
    """
    folder = root / kind
    folder.mkdir(parents=True, exist_ok=True)
    number = max((session_number(path.name) for path in folder.iterdir()), default=0)
    while True:
        number += 1
        path = folder / f"session_{number}"
        try:
            path.mkdir()  # atomic: of several callers at the same time, it succeeds for one
        except FileExistsError:
            continue
        return Session(path)


def create_locked(kind: str, root: Path) -> tuple[Session, FileLock]:
    """Make and lock the next session, or take over the last ones that were killed before they had a configuration."""
    abandoned = itertools.takewhile(_was_never_begun, reversed(list_sessions(kind, root)))
    for session in reversed(list(abandoned)):
        with suppress(EcgkitError):  # another process is just beginning it
            lock = session.lock()
            if _was_never_begun(session):
                (session.path / REPRODUCTION).unlink(missing_ok=True)
                return session, lock
            lock.release()
    while True:
        session = create(kind, root)
        with suppress(EcgkitError):  # another process took it over before it was locked
            return session, session.lock()


def _was_never_begun(session: Session) -> bool:
    """Return True if a session has nothing but what is written before its configuration."""
    names = [path.name for path in session.path.iterdir()]
    return all(name in (LOCK, "notes.txt", REPRODUCTION) or name.endswith(TEMPORARY_SUFFIX) for name in names)


def session_number(name: str) -> int:
    """Return the number in ``session_3``; 0 for any other name."""
    match = re.fullmatch(r"session_(\d+)", name)
    return int(match[1]) if match else 0


def list_sessions(kind: str, root: Path) -> list[Session]:
    """List the sessions of a kind in the order of their numbers, finished or not."""
    folder = root / kind
    found = (
        [path for path in folder.iterdir() if path.is_dir() and session_number(path.name)] if folder.is_dir() else []
    )
    return [Session(path) for path in sorted(found, key=lambda path: session_number(path.name))]


def open_session(name: str | Path, kind: str, root: Path) -> Session:
    """Open a session by its name, its number or its path.

    Parameters
    ----------
    name : str or Path
        ``session_3``, ``3``, ``training_sessions/session_3``, or a path to the folder.
    kind : str
        Name of a folder of sessions, such as ``"training_sessions"``.
    root : Path
        The folder of data sets and sessions.

    Returns
    -------
    Session

    Raises
    ------
    EcgkitError
        If there is no such session.
    """
    text = str(name)
    folder = (root / kind).absolute()
    for path in (folder / (f"session_{text}" if text.isdecimal() else text), root / text, Path(text).expanduser()):
        # The folder of sessions may be a link to a bigger disk: the session keeps the name that leads there.
        if path.is_dir() and session_number(path.name) and path.absolute().parent.resolve() == folder.resolve():
            return Session(folder / path.name)
    known = ", ".join(session.name for session in list_sessions(kind, root)) or "none yet"
    raise EcgkitError(f"no session {text!r} in {root / kind}: choose one that is there ({known})")


def open_finished(name: str | Path, kind: str, root: Path) -> Session:
    """Open a session as `open_session` does, and refuse an unfinished one; ``"latest"`` is the newest finished one.

    Raises
    ------
    EcgkitError
        If there is no such session, it has no ``DONE``, or it lacks files.
    """
    if name == LATEST:
        # An ensemble is newer than its members, but it has no network.
        finished = [s for s in list_sessions(kind, root) if s.is_done and read_config(s).get("model") != "ensemble"]
        if not finished:
            raise EcgkitError(f'no finished session in {root / kind}: make one with "ecgkit run"')
        finished[-1].check_finished()
        return finished[-1]
    session = open_session(name, kind, root)
    session.check_finished()
    return session


def find(name: str | Path, root: Path, kind: str | None = None) -> Session:
    """Open a session of any kind as `open_session` does.

    Parameters
    ----------
    name : str or Path
        ``session_3``, ``3``, ``latest``, ``probe_training_sessions/session_3``, or a path to the folder.
    root : Path
        The folder of data sets and sessions.
    kind : str, optional
        Name of a folder of sessions; by default the one in the name, or else ``"training_sessions"``.

    Returns
    -------
    Session

    Raises
    ------
    EcgkitError
        If there is no such session.
    """
    parent = Path(name).parent.name
    in_name = parent if parent in paths.SESSION_KINDS else paths.TRAINING
    opened = open_finished if name == LATEST else open_session
    return opened(name, kind or in_name, root)


def original_of(session: Session) -> str | None:
    """Return the name of the session that this one reproduces; None if it reproduces none."""
    return session.json_or_empty(REPRODUCTION).get("reproduces")


def read_config(session: Session) -> dict[str, Any]:
    """Read a session's configuration; empty where it is missing or damaged, which equals no configuration."""
    return session.json_or_empty("config.json")


def matching(kind: str, root: Path, config: dict[str, Any], *, original: str | None = None) -> list[Session]:
    """List the sessions with exactly this configuration, oldest first.

    Parameters
    ----------
    kind : str
        Name of a folder of sessions.
    root : Path
        The folder of data sets and sessions.
    config : dict
        The configuration as resolved.
    original : str, optional
        Only reproductions of this session; by default only sessions that are not reproductions.

    Returns
    -------
    list of Session
    """
    return [s for s in list_sessions(kind, root) if read_config(s) == config and original_of(s) == original]


def find_finished(kind: str, root: Path, config: dict[str, Any]) -> Session | None:
    """Return the newest finished session, with all files, of this configuration, reproductions aside, or None."""
    finished = [session for session in matching(kind, root, config) if session.is_done]
    finished = [session for session in finished if not (session.missing_files or session.changed_files)]
    return finished[-1] if finished else None


@contextmanager
def claim(
    kind: str, root: Path, config: dict[str, Any], *, resume: bool | None = None, original: str | None = None
) -> Iterator[Session]:
    """Lock the newest interrupted session of this configuration, or else a new one.

    Parameters
    ----------
    kind : str
        Name of a folder of sessions.
    root : Path
        The folder of data sets and sessions.
    config : dict
        The configuration as resolved.
    resume : bool or None
        None resumes an interrupted session if there is one, True insists on one, False makes a new one.
    original : str, optional
        Resume or make a reproduction of this session.

    Yields
    ------
    Session
        With ``config.json`` and ``notes.txt``, locked against other processes.

    Raises
    ------
    EcgkitError
        If ``resume`` is True and there is nothing to resume.
    """
    unfinished = [s for s in matching(kind, root, config, original=original) if not s.is_done]
    for session in reversed([] if resume is False else unfinished):
        try:
            lock = session.lock()
        except EcgkitError:
            continue  # another process runs it
        if not session.is_done:
            break
        lock.release()  # another process has just finished it
    else:
        if resume:
            raise EcgkitError(f"no interrupted session in {root / kind} has this configuration: leave --resume out")
        session, lock = create_locked(kind, root)
    hold_folder(session.path)
    try:
        if not (session.path / "config.json").is_file():
            _begin(session, root, config, original)
        yield session
    finally:
        release_folder(session.path)
        lock.release()


def _begin(session: Session, root: Path, config: dict[str, Any], original: str | None = None) -> None:
    """Write the first files of a new session."""
    if original is not None:
        session.write_json(REPRODUCTION, {"reproduces": original})
    session.write_text("notes.txt", notes(session, root, config))
    session.write_json("config.json", config)


def start(
    kind: str,
    root: Path,
    config: dict[str, Any],
    *,
    notebook: Path,
    session: str = NEW,
    kernel_backend: str | None = None,
) -> Session:
    """Start the session of a notebook: the one that the runner has claimed for it, a new one, or an unfinished one.

    Parameters
    ----------
    kind : str
        Name of a folder of sessions.
    root : Path
        The folder of data sets and sessions.
    config : dict
        The configuration as resolved; it becomes ``config.json``.
    notebook : Path
        The source notebook; a copy goes into the session.
    session : str, default "new"
        ``"new"``, or the name of an unfinished session with this configuration.
    kernel_backend : str, optional
        The backend of the recurrent cells, for ``environment.json``.

    Returns
    -------
    Session
        Locked until the process ends.

    Raises
    ------
    EcgkitError
        If the session is finished, or was begun with another configuration.
    """
    if claimed := os.environ.get(SESSION_VARIABLE):
        started = Session(Path(claimed))
    elif session == NEW:
        started, lock = create_locked(kind, root)
        _locks[started.path] = lock
    else:
        started = open_session(session, kind, root)
        if started.is_done:
            raise EcgkitError(f'{started.path} is finished: set session to "new"')
        _locks[started.path] = _locks.get(started.path) or started.lock()
    hold_folder(started.path)
    before = started.config
    if before and before != config:
        changed = ", ".join(describe_differences(before, config))
        raise EcgkitError(f'{started.path} was begun with another configuration ({changed}): set session to "new"')
    if not before:
        _begin(started, root, config)
    record_environment(started, kernel_backend)
    started.keep_notebook(notebook)
    return started


def is_held_here(session: Session) -> bool:
    """Return True if this process started the session: a notebook whose cell was interrupted can resume it."""
    return session.path in _locks


def notes(session: Session, root: Path, config: dict[str, Any]) -> str:
    """Return the first lines of ``notes.txt``: what changed compared with the session before, or the original."""
    original = original_of(session)
    earlier = [s for s in list_sessions(session.kind, root) if session_number(s.name) < session_number(session.name)]
    if original:
        earlier = [s for s in earlier if s.name == original]
    # A training is compared with a training, an ensemble with an ensemble, and nothing with a damaged configuration.
    is_ensemble = config.get("model") == "ensemble"
    configs = {s: read_config(s) for s in earlier}
    earlier = [s for s, before in configs.items() if before and (before.get("model") == "ensemble") == is_ensemble]
    if not earlier:
        changed = ["The first session of its kind."]
    else:
        lines = describe_differences(configs[earlier[-1]], config)
        changed = [f"Compared with {earlier[-1].name}:", *(lines or ["nothing changed"])]
    opening = [f"This is a reproduction of {original}."] if original else []
    return "\n".join([session.name, "", *opening, *changed, "", "Your own notes:", ""])


def probes_of(training: Session, root: Path) -> list[Session]:
    """List the sessions that analyse a training session, by its name and the checksum of its weights."""
    weights = training.best_weights
    checksum = file_sha256(weights) if weights.is_file() else None
    found = [session for kind in (paths.PROBES, paths.EXPLANATIONS) for session in list_sessions(kind, root)]
    of_name = [session for session in found if read_config(session).get("training_session") == training.name]
    # A number can be used again after its session was deleted; the weights identify the training.
    return [session for session in of_name if read_config(session).get("weights_sha256") in (checksum, None)]


def reproductions_of(original: Session, root: Path) -> list[Session]:
    """List the sessions that reproduce this one."""
    return [session for session in list_sessions(original.kind, root) if original_of(session) == original.name]


def delete(session: Session) -> None:
    """Delete a session; it disappears from the list at once, however long its files take.

    Parameters
    ----------
    session : Session
        The session; sessions that were made from it stay.

    Raises
    ------
    EcgkitError
        If another process runs the session.
    """
    for leftover in session.path.parent.glob(".session_*.deleted"):  # of an earlier call that was interrupted
        shutil.rmtree(leftover, ignore_errors=True)
    hidden = session.path.with_name(f".{session.name}.deleted")
    try:
        lock = session.lock()
    except EcgkitError as error:
        raise EcgkitError(f"{session.path} is being run by another process: wait for it, then delete it") from error
    try:
        if os.name == "nt":
            lock.release()  # Windows does not rename a folder in which a file is open
        session.path.rename(hidden)
    finally:
        lock.release()
    shutil.rmtree(hidden)
    session.path.with_name(f"{session.name}.failed.ipynb").unlink(missing_ok=True)
