"""Sessions: a numbered folder for each training or probing, with everything that the run was and found."""

from __future__ import annotations

import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from filelock import FileLock, Timeout

from ecgkit import __version__, paths
from ecgkit.errors import EcgkitError
from ecgkit.io import file_sha256, json_bytes, write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NEW = "new"
"""What the parameter ``session`` of a notebook says for a session of its own."""

LATEST = "latest"
"""Stands for the newest finished session where a name is asked for."""

SESSION_VARIABLE = "ECGKIT_SESSION"
"""The environment variable by which the runner names the session that it made for a notebook, and will close."""

CLOSED = ".closed"
"""What a notebook's last cell leaves for the runner, which puts the executed notebook in place and writes DONE."""

LOCK = ".lock"
"""Held by whoever runs a session, so that a second run does not go on with it as if it had been cut off."""

HELD_LOCKS: dict[Path, FileLock] = {}
"""The sessions that a notebook's kernel began by itself; their locks end with the process."""

REPRODUCTION = "reproduction.json"
"""Makes a session a reproduction of another one: which it is, and once it has been compared, what came of it."""

RECORDED_PACKAGES = ("torch", "lightning", "xlstm", "numpy", "scipy", "pandas", "scikit-learn", "umap-learn")


@dataclass(frozen=True)
class Session:
    """A session's folder, or a folder inside one.

    Attributes
    ----------
    path : Path
        The folder, absolute.
    """

    path: Path

    @property
    def name(self) -> str:
        """The folder's name, such as ``session_3``."""
        return self.path.name

    @property
    def is_done(self) -> bool:
        """Whether the session is finished."""
        return (self.path / "DONE").is_file()

    @property
    def kind(self) -> str:
        """The name of the folder of sessions that it lies in, such as ``training_sessions``."""
        return self.path.parent.name

    @property
    def label(self) -> str:
        """Kind and name, such as ``training_sessions/session_3``."""
        return f"{self.kind}/{self.name}"

    @property
    def best_weights(self) -> Path:
        """The weights of a training's best epoch on fold 9."""
        return self.path / "weights" / "best.safetensors"

    @property
    def is_running(self) -> bool:
        """Whether a process is at work in it."""
        if not (self.path / LOCK).is_file():  # asking must not leave a file in a session
            return False
        try:
            self.lock().release()
        except EcgkitError:
            return True
        return False

    @property
    def config(self) -> dict[str, Any]:
        """What ``config.json`` says; empty if the session has not come so far."""
        return self.read_json("config.json") if (self.path / "config.json").is_file() else {}

    def folder(self, name: str) -> Session:
        """Give a folder inside the session the same methods."""
        path = self.path / name
        path.mkdir(parents=True, exist_ok=True)
        return Session(path)

    def read_json(self, name: str) -> dict[str, Any]:
        """Read one of the session's JSON files.

        Raises
        ------
        EcgkitError
            If the file is missing or is not JSON.
        """
        try:
            return json.loads((self.path / name).read_text())
        except (OSError, ValueError) as error:
            raise EcgkitError(f"cannot read {self.path / name}: {error}; run the session again") from error

    def write_json(self, name: str, data: object) -> Path:
        """Write a JSON file into the session, whole or not at all."""
        return write_atomically(self.path / name, json_bytes(data))

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file into the session, whole or not at all."""
        return write_atomically(self.path / name, (text.rstrip("\n") + "\n").encode())

    def write_table(self, name: str, table: pd.DataFrame) -> Path:
        """Write a Parquet table into the session, whole or not at all."""
        return write_atomically(self.path / name, table.to_parquet(index=False))

    def save_figure(self, figure: Figure, name: str, folder: str = "figures") -> Figure:
        """Save a figure as ``folder/name.png`` and hand it back, so that a notebook's cell shows it."""
        save_picture(figure, self.path / folder / f"{name}.png")
        return figure

    def log(self, line: str) -> None:
        """Print a line and append it to ``training_log.txt``."""
        print(line, flush=True)  # noqa: T201 - a notebook and a batch log show the same lines as the file
        with (self.path / "training_log.txt").open("a") as log:
            log.write(line + "\n")

    def close(self) -> str:
        """Finish the session, unless the runner will do so after it has put the executed notebook in place.

        Returns
        -------
        str
            One line that says where everything is.
        """
        if os.environ.get(SESSION_VARIABLE) == str(self.path):
            (self.path / CLOSED).touch()
            return f"{self.path}: complete; the runner closes it"
        self.mark_done()
        return f"{self.path}: done"

    def keep_notebook(self, notebook: Path) -> None:
        """Copy the source notebook into the session; the runner later puts the executed copy in its place."""
        copy = self.path / notebook.name
        if notebook.resolve() != copy.resolve():
            shutil.copyfile(notebook, copy)

    def lock(self) -> FileLock:
        """Take the session for this process until the lock is released or the process ends.

        Raises
        ------
        EcgkitError
            If another process runs the session.
        """
        lock = FileLock(self.path / LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise EcgkitError(
                f"{self.path} is being run by another process: wait for it, or start a new session"
            ) from error
        return lock

    def mark_done(self) -> None:
        """Write ``DONE``, the last file of a session."""
        write_atomically(self.path / "DONE", f"{datetime.now().astimezone().isoformat(timespec='seconds')}\n".encode())


def save_picture(figure: Figure, path: Path) -> Path:
    """Save a figure as PNG, whole or not at all."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    return write_atomically(path, picture.getvalue())


def create(kind: str, root: Path) -> Session:
    """Make the folder of the next session; of two callers at once, each gets a number of its own.

    Parameters
    ----------
    kind : str
        ``"training_sessions"`` or ``"probe_training_sessions"``.
    root : Path
        The folder that holds the sessions' folder.

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
            path.mkdir()  # atomic: it fails for all but one of those who try at once
        except FileExistsError:
            continue
        return Session(path)


def session_number(name: str) -> int:
    """Read the number out of ``session_3``; 0 for any other name."""
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
        ``"training_sessions"`` or ``"probe_training_sessions"``.
    root : Path
        The folder that holds the sessions' folder.

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
    raise EcgkitError(f"no session {text!r} in {root / kind}: give one of those there ({known})")


def open_finished(name: str | Path, kind: str, root: Path) -> Session:
    """Open a session as `open_session` does, and refuse one that is not finished; ``"latest"`` is the newest that is.

    Raises
    ------
    EcgkitError
        If there is no such session, or it has no ``DONE``.
    """
    if name == LATEST:
        # An ensemble of the trainings is newer than they are, but has no network to go on with.
        finished = [s for s in list_sessions(kind, root) if s.is_done and read_config(s).get("model") != "ensemble"]
        if not finished:
            raise EcgkitError(f'no finished session in {root / kind}: make one by "ecgkit run"')
        return finished[-1]
    session = open_session(name, kind, root)
    if not session.is_done:
        raise EcgkitError(
            f'{session.path} is not finished: go on with it by "ecgkit train ... --resume", or give another'
        )
    return session


def find(name: str | Path, root: Path, kind: str | None = None) -> Session:
    """Open a session of any kind as `open_session` does.

    Parameters
    ----------
    name : str or Path
        ``session_3``, ``3``, ``latest``, ``probe_training_sessions/session_3``, or a path to the folder.
    root : Path
        The folder that holds the sessions' folders.
    kind : str, optional
        ``"training_sessions"`` or ``"probe_training_sessions"``; by default what the name says, or else the former.

    Returns
    -------
    Session

    Raises
    ------
    EcgkitError
        If there is no such session.
    """
    parent = Path(name).parent.name
    said = parent if parent in (paths.TRAINING, paths.PROBES, paths.COMPARISONS) else paths.TRAINING
    opened = open_finished if name == LATEST else open_session
    return opened(name, kind or said, root)


def original_of(session: Session) -> str | None:
    """Name the session that this one reproduces; None if it reproduces none."""
    try:
        return session.read_json(REPRODUCTION).get("reproduces")
    except EcgkitError:
        return None


def matching(kind: str, root: Path, config: dict[str, Any], *, original: str | None = None) -> list[Session]:
    """List the sessions with exactly this configuration, oldest first.

    Parameters
    ----------
    kind : str
        ``"training_sessions"`` or ``"probe_training_sessions"``.
    root : Path
        The folder that holds the sessions' folder.
    config : dict
        The configuration as resolved.
    original : str, optional
        Only reproductions of this session; by default none that is a reproduction, since one is made beside its
        original and not in its place.

    Returns
    -------
    list of Session
    """
    return [s for s in list_sessions(kind, root) if read_config(s) == config and original_of(s) == original]


def find_finished(kind: str, root: Path, config: dict[str, Any]) -> Session | None:
    """Find the newest finished session with exactly this configuration that is no reproduction of another one."""
    finished = [session for session in matching(kind, root, config) if session.is_done]
    return finished[-1] if finished else None


@contextmanager
def claim(
    kind: str, root: Path, config: dict[str, Any], *, resume: bool | None = None, original: str | None = None
) -> Iterator[Session]:
    """Take the newest session of this configuration that was cut off, or else a new one, and hold its lock.

    Parameters
    ----------
    kind : str
        ``"training_sessions"`` or ``"probe_training_sessions"``.
    root : Path
        The folder that holds the sessions' folder.
    config : dict
        The configuration as resolved.
    resume : bool or None
        None goes on with a session that was cut off if there is one, True insists on one, False makes a new one.
    original : str, optional
        Go on with a reproduction of this session only; by default with none.

    Yields
    ------
    Session
        No other process goes on with it meanwhile.

    Raises
    ------
    EcgkitError
        If ``resume`` is True and there is nothing to go on with.
    """
    unfinished = [s for s in matching(kind, root, config, original=original) if not s.is_done]
    for session in reversed([] if resume is False else unfinished):
        try:
            lock = session.lock()
        except EcgkitError:
            continue  # somebody is at work in it
        if not session.is_done:
            break
        lock.release()  # somebody has just finished it
    else:
        if resume:
            raise EcgkitError(f"no session in {root / kind} with this configuration was cut off: leave --resume out")
        session = create(kind, root)
        lock = session.lock()
    try:
        yield session
    finally:
        lock.release()


def read_config(session: Session) -> dict[str, Any]:
    """Read a session's configuration; empty where it is missing or damaged, which equals no configuration."""
    try:
        return session.config
    except EcgkitError:
        return {}


def begin(
    kind: str,
    root: Path,
    *,
    config: dict[str, Any],
    notebook: Path,
    session: str = NEW,
    kernel_backend: str | None = None,
) -> Session:
    """Begin a session, or go on with one, and write down what it is going to do.

    Parameters
    ----------
    kind : str
        ``"training_sessions"`` or ``"probe_training_sessions"``.
    root : Path
        The folder that holds the sessions' folder.
    config : dict
        The configuration as resolved; it becomes ``config.json``.
    notebook : Path
        The source notebook; a copy goes into the session.
    session : str, default "new"
        ``"new"``, or the name of an unfinished session with this very configuration.
    kernel_backend : str, optional
        What runs the recurrent cells, for ``environment.json``.

    Returns
    -------
    Session

    Raises
    ------
    EcgkitError
        If the session named is finished or was begun with another configuration.
    """
    if session == NEW:
        prepared = os.environ.get(SESSION_VARIABLE)
        begun = Session(Path(prepared)) if prepared else create(kind, root)
        if not prepared:
            HELD_LOCKS[begun.path] = begun.lock()
    else:
        begun = open_session(session, kind, root)
        if begun.is_done:
            raise EcgkitError(f'{begun.path} is finished: set session to "new", or evaluate_only to True')
        HELD_LOCKS[begun.path] = HELD_LOCKS.get(begun.path) or begun.lock()
    before = begun.config
    if before and before != config:
        changed = ", ".join(difference(before, config))
        raise EcgkitError(f'{begun.path} was begun with another configuration ({changed}): set session to "new"')
    if not before:
        begun.write_text("notes.txt", notes(begun, kind, root, config))
        begun.write_json("config.json", config)
    begun.write_json("environment.json", _environment_of(begun, environment(kernel_backend)))
    begun.keep_notebook(notebook)
    return begun


def _environment_of(session: Session, now: dict[str, Any]) -> dict[str, Any]:
    """Add to the environment what was another one before the session was cut off; the earliest values stay."""
    recorded = read_environment(session)
    if not recorded:
        return now
    begun_with = recorded.pop("begun_with", {})
    other = {key: old for key, (old, _) in differences(recorded, now).items()} | begun_with
    return now | ({"begun_with": other} if other else {})


def reopen(session: Session) -> None:
    """Take a finished session to work on it again: it is not finished until it is closed again.

    Raises
    ------
    EcgkitError
        If another process runs the session.
    """
    HELD_LOCKS[session.path] = HELD_LOCKS.get(session.path) or session.lock()
    (session.path / "DONE").unlink(missing_ok=True)


def differences(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Find what differs between two configurations or environments.

    Parameters
    ----------
    before, after : dict
        JSON data.

    Returns
    -------
    dict of str to tuple
        Both values of each key that differs, None where there is none. A key inside another is ``outer.inner``.
    """
    old, new = flatten(before), flatten(after)
    keys = sorted(old.keys() | new.keys())
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def flatten(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn dictionaries inside a dictionary into keys of it such as ``model_options.dropout``."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def difference(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Name what differs between two configurations, one text a key such as ``epochs: 10 -> 12``."""
    return [f"{key}: {old} -> {new}" for key, (old, new) in differences(before, after).items()]


def notes(session: Session, kind: str, root: Path, config: dict[str, Any]) -> str:
    """Write the first lines of ``notes.txt``: what changed against the session before, or the one reproduced."""
    original = original_of(session)
    earlier = [s for s in list_sessions(kind, root) if session_number(s.name) < session_number(session.name)]
    if original:
        earlier = [s for s in earlier if s.name == original]
    if not earlier:
        changed = ["The first session of its kind."]
    else:
        lines = difference(read_config(earlier[-1]), config)
        changed = [f"Against {earlier[-1].name}:", *(lines or ["nothing changed"])]
    opening = [f"This is a reproduction of {original}."] if original else []
    return "\n".join([session.name, "", *opening, *changed, "", "Your own notes:", ""])


def probes_of(training: Session, root: Path) -> list[Session]:
    """List the probe sessions that were made from a training session, by its name and the checksum of its weights."""
    weights = training.best_weights
    checksum = file_sha256(weights) if weights.is_file() else None
    of_name = [s for s in list_sessions(paths.PROBES, root) if read_config(s).get("training_session") == training.name]
    # A number can be given again after its session was deleted; the weights tell whose probe it is.
    return [s for s in of_name if read_config(s).get("weights_sha256") in (checksum, None)]


def reproductions_of(original: Session, root: Path) -> list[Session]:
    """List the sessions that reproduce this one."""
    return [session for session in list_sessions(original.kind, root) if original_of(session) == original.name]


def delete(session: Session) -> None:
    """Delete a session: it is gone as a session at once, however long its files take.

    Parameters
    ----------
    session : Session
        The session; what was made from it stays.

    Raises
    ------
    EcgkitError
        If another process runs the session.
    """
    for leftover in session.path.parent.glob(".session_*.deleted"):  # of an earlier call that was cut off
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


def read_environment(session: Session) -> dict[str, Any]:
    """Read a session's ``environment.json``; empty where it is missing or damaged, which says nothing."""
    try:
        return session.read_json("environment.json")
    except EcgkitError:
        return {}


def environment(kernel_backend: str | None = None) -> dict[str, Any]:
    """Say what the run runs on: versions, the commit, the hardware and the kernel backend.

    Parameters
    ----------
    kernel_backend : str, optional
        What runs the recurrent cells.

    Returns
    -------
    dict
        JSON data, as ``environment.json`` keeps it.
    """
    torch = sys.modules.get("torch")  # asked, not imported: this floor knows no torch
    cuda = torch is not None and torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "packages": {"ecgkit": __version__}
        | {name: metadata.version(name) for name in RECORDED_PACKAGES if installed(name)},
        "commit": commit(),
        "platform": platform.platform(),
        "processor": processor(),
        "cpu_count": os.cpu_count(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability() if torch else None,
        "threads": torch.get_num_threads() if torch else None,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch and cuda else [],
        "kernel_backend": kernel_backend,
    }


def describe_environment() -> str:
    """Say in one line what the run runs on: versions, processor and GPU."""
    facts = environment()
    packages = ", ".join(
        f"{name} {facts['packages'][name]}" for name in ("ecgkit", "torch") if name in facts["packages"]
    )
    gpus = ", ".join(facts["gpus"]) or "no GPU"
    return f"Python {facts['python']}, {packages}, {facts['cpu_count']} cores of {facts['processor']}, {gpus}"


def installed(package: str) -> bool:
    """Tell whether a distribution is installed."""
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def processor() -> str:
    """Name the processor as the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def commit() -> str | None:
    """Name the commit of the checkout that runs, with ``+changes`` where files differ from it; None outside one."""
    git = shutil.which("git")
    if git is None:
        return None

    def ask(*arguments: str) -> str | None:
        command = [git, "-C", str(paths.PACKAGE), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        return result.stdout.strip() if result.returncode == 0 else None

    head = ask("rev-parse", "HEAD")
    return f"{head}+changes" if head and ask("status", "--porcelain", "--untracked-files=no") else head
