"""The folder of a session: its files are read, written, locked and closed here."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from ecgkit import paths
from ecgkit.errors import EcgkitError, printable
from ecgkit.io import (
    acquire,
    check_held,
    file_sha256,
    json_bytes,
    json_or_none,
    make_folder,
    read_json,
    write_atomically,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SESSION_VARIABLE = "ECGKIT_SESSION"
"""The environment variable that names the folder which the runner has locked for a notebook, and closes after it."""

before_close: dict[Path, Callable[[Path], str]] = {}
"""Called with a session's folder before ``DONE`` is written; returns what could not be kept, or nothing."""

LOCK = ".lock"
"""The file that the process which runs a session holds a lock on."""

DONE = "DONE"
"""The last file of a session: when it was finished, and the files of `LISTED` that it had then with their SHA-256."""

LISTED = ("*.json", "*.parquet", "weights/best.safetensors", "model_card.md", "*/metrics.json")
"""Patterns of the files without which a finished session is refused, but for the `REPRODUCTION`."""

REPRODUCTION = "reproduction.json"
"""The file that marks a session as a reproduction: which session it reproduces, and the result of the comparison."""

NEEDED = {paths.TRAINING: ("config.json", "predictions.parquet", "metrics.json")}
"""What a kind of session needs in any case."""


@dataclass(frozen=True)
class Session:
    """The folder of a session, or a folder inside it.

    Attributes
    ----------
    path : Path
        The folder, absolute.
    """

    path: Path

    @property
    def name(self) -> str:
        """The name of the folder, such as ``session_3``."""
        return self.path.name

    @property
    def is_done(self) -> bool:
        """Whether the session is finished."""
        return (self.path / DONE).is_file()

    @property
    def listed_files(self) -> dict[str, str]:
        """The files that a session had when it was finished, with their checksums; empty for those without one."""
        lines = (self.path / DONE).read_text(errors="replace").splitlines()[1:]
        pairs = (line.rpartition("  ") for line in lines)
        return {name: checksum for checksum, _, name in pairs}

    @property
    def changed_files(self) -> list[str]:
        """The files of a finished session that are not as they were then; sorted."""
        sums = {name: checksum for name, checksum in self.listed_files.items() if checksum}
        present = [name for name in sums if (self.path / name).is_file()]
        return sorted(name for name in present if file_sha256(self.path / name) != sums[name])

    @property
    def missing_files(self) -> list[str]:
        """The files that a finished session had, or needs in any case, and that are not there; sorted."""
        listed = self.listed_files
        network = {"weights/best.safetensors"} if not (self.path / "ensemble.json").is_file() else set()
        needed = listed or {*NEEDED.get(self.kind, ()), *(network if self.kind in NEEDED else ())}
        return sorted(name for name in needed if not (self.path / name).is_file())

    @property
    def kind(self) -> str:
        """The name of the folder of sessions that it is in, such as ``training_sessions``."""
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
        """Whether a process is running the session."""
        if not (self.path / LOCK).is_file():  # asking must not leave a file in a session
            return False
        try:
            self.lock().release()
        except EcgkitError:
            return True
        return False

    @property
    def config(self) -> dict[str, Any]:
        """The content of ``config.json``; empty if there is none yet."""
        config: dict[str, Any] = self.read_json("config.json") if (self.path / "config.json").is_file() else {}
        return config

    def folder(self, name: str) -> Session:
        """Return a folder inside the session, made if it is missing."""
        return Session(make_folder(self.path / name))

    def read_json(self, name: str, wanted: Any = dict[str, Any], *, way_out: str = "run the session again") -> Any:
        """Read one of the session's JSON files; see `ecgkit.io.read_json`.

        Raises
        ------
        EcgkitError
            If the file is missing, is not JSON, or does not hold what is wanted.
        """
        return read_json(self.path / name, wanted, way_out=way_out)

    def json_or_empty(self, name: str) -> dict[str, Any]:
        """Read one of the session's JSON files; empty where it is missing or damaged."""
        found = json_or_none(self.path / name)
        return found if isinstance(found, dict) else {}

    def check_finished(self) -> None:
        """Check that the session is finished and has its files as they were then.

        Raises
        ------
        EcgkitError
            If it has no ``DONE``, or files are missing or changed; all are named.
        """
        if not self.is_done:
            raise EcgkitError(f"{self.path} is not finished: run its command again to resume it, or choose another one")
        if missing := self.missing_files:
            raise EcgkitError(
                f"{self.path} is finished, but lacks {', '.join(missing)}: copy them back, or delete the session "
                "and run it again"
            )
        if changed := self.changed_files:
            raise EcgkitError(
                f"{self.path} is finished, but {', '.join(changed)} was changed afterwards: copy it back, or delete "
                "the session and run it again"
            )

    def write_json(self, name: str, data: object) -> Path:
        """Write a JSON file into the session, completely or not at all."""
        return write_atomically(self.path / name, json_bytes(data))

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file into the session, completely or not at all."""
        return write_atomically(self.path / name, (text.rstrip("\n") + "\n").encode())

    def write_table(self, name: str, table: pd.DataFrame) -> Path:
        """Write a Parquet table into the session, completely or not at all."""
        return write_atomically(self.path / name, table.to_parquet(index=False))

    def save_figure(self, figure: Figure, name: str, folder: str = "figures") -> Figure:
        """Save a figure as ``folder/name.png`` and return it, so that a notebook's cell shows it."""
        save_picture(figure, self.path / folder / f"{name}.png")
        return figure

    def log(self, line: str) -> None:
        """Print a line and append it to ``training_log.txt``."""
        check_held(self.path)
        print(printable(line), flush=True)  # noqa: T201 - a notebook and a batch log show the same lines as the file
        with (self.path / "training_log.txt").open("a", encoding="utf-8") as log:
            log.write(printable(line) + "\n")

    def close(self) -> str:
        """Finish the session, unless the runner does so after it has put the executed notebook in place.

        Returns
        -------
        str
            One line that names the folder.
        """
        if os.environ.get(SESSION_VARIABLE) == str(self.path):
            return f"{self.path}: complete"
        missing = before_close.pop(self.path, lambda _: "")(self.path)
        self.mark_done()
        return f"{self.path}: done" + (f"; {missing}" if missing else "")

    def keep_notebook(self, notebook: Path) -> None:
        """Copy the source notebook into the session; the runner replaces it by the executed copy."""
        check_held(self.path)
        copy = self.path / notebook.name
        if notebook.resolve() != copy.resolve():
            shutil.copyfile(notebook, copy)

    def lock(self) -> FileLock:
        """Lock the session for this process until the lock is released or the process ends.

        Raises
        ------
        EcgkitError
            If another process runs the session.
        """
        lock = FileLock(self.path / LOCK, timeout=0)
        try:
            acquire(lock)
        except Timeout as error:
            raise EcgkitError(
                f"{self.path} is being run by another process: wait for it, or start a new session "
                f"(if no process runs it, remove {self.path / LOCK})"
            ) from error
        return lock

    def mark_done(self) -> None:
        """Write ``DONE``, the last file of a session; when it was finished stays as it is."""
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        finished = ((self.path / DONE).read_text().splitlines() if self.is_done else []) or [now]
        files = sorted({path for pattern in LISTED for path in self.path.glob(pattern)})
        names = [path.relative_to(self.path).as_posix() for path in files if path.name != REPRODUCTION]
        # what people may write into has no checksum
        lines = [name if name.endswith(".md") else f"{file_sha256(self.path / name)}  {name}" for name in names]
        self.write_text(DONE, "\n".join([finished[0], *lines]))

    def reopen(self) -> None:
        """Take the checksums out of ``DONE``, before files are replaced; `mark_done` puts the new ones in."""
        finished = (self.path / DONE).read_text().splitlines()[:1]
        self.write_text(DONE, "\n".join([*finished, *self.listed_files]))


def save_picture(figure: Figure, path: Path) -> Path:
    """Save a figure as PNG, completely or not at all."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    return write_atomically(path, picture.getvalue())
