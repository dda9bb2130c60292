"""Writing files safely: never a half of one, never on a disk without room, never two processes at once."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ecgkit.errors import EcgkitError

TEMPORARY_SUFFIX = ".ecgkit-tmp"
"""How the names of unfinished files end; one that is still there belongs to a process that was killed."""

_SPARE_BYTES = 64 * 2**20


def write_atomically(path: Path, data: bytes) -> Path:
    """Write a file under a temporary name and move it into place, so that nobody ever sees a half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}{TEMPORARY_SUFFIX}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def file_name(name: str) -> str:
    """Make the name of a class, or of another thing that users name, a file's or a folder's.

    Parameters
    ----------
    name : str
        Such as ``"LAFB/LPFB"``.

    Returns
    -------
    str
        With ``-`` for all but letters, digits and ``_-.``, and never empty, ``.`` or ``..``: ``"LAFB-LPFB"``.
    """
    kept = "".join(letter if letter.isalnum() or letter in "_-." else "-" for letter in name)
    return kept if kept.strip(".") else "-" * max(len(kept), 1)


def json_bytes(data: object) -> bytes:
    """Write JSON as people read it; NaN is refused, since it is no JSON."""
    return (json.dumps(data, indent=2, allow_nan=False) + "\n").encode()


def check_space(folder: Path, needed: int) -> None:
    """Check that a disk has room.

    Parameters
    ----------
    folder : Path
        An existing folder on the disk.
    needed : int
        Bytes that are going to be written.

    Raises
    ------
    EcgkitError
        If fewer are free, or hardly more.
    """
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE_BYTES:
        raise EcgkitError(
            f"{needed / 1e9:.2f} GB are needed in {folder.parent} and {free / 1e9:.2f} GB are free: "
            "make room and run again"
        )


@contextmanager
def locked(path: Path, otherwise: str, *, timeout: float = 0) -> Iterator[None]:
    """Hold a lock, which ends with the process that holds it; raise `EcgkitError` if another process has it."""
    lock = FileLock(path, timeout=timeout)
    try:
        lock.acquire()
    except Timeout as error:
        raise EcgkitError(otherwise) from error
    try:
        yield
    finally:
        lock.release()  # the file stays: to remove it would let two others lock two files of one name


@contextmanager
def disk_errors(folder: Path, kept: str) -> Iterator[None]:
    """Turn a full disk, and a folder that cannot be written, into one line.

    Parameters
    ----------
    folder : Path
        The folder that is written into.
    kept : str
        What is kept, and how to resume.

    Raises
    ------
    EcgkitError
        For every `OSError`.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise EcgkitError(f"no space left on the disk of {folder}: free some; {kept}") from error
        raise EcgkitError(
            f"{folder} cannot be written ({error.strerror or error}: {error.filename}); {kept}"
        ) from error


def to_toml(values: dict[str, Any]) -> str:
    """Write JSON data as TOML: one line a key, dictionaries inside it as inline tables, None left out."""
    return "".join(f"{key} = {toml_value(value)}\n" for key, value in values.items() if value is not None)


def toml_value(value: Any) -> str:
    """Write one value as TOML."""
    if isinstance(value, dict):
        pairs = [f"{toml_value(key)} = {toml_value(item)}" for key, item in value.items() if item is not None]
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(toml_value, value))}]"
    # Strings, booleans and finite numbers are written as in JSON, but for pairs of surrogates.
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
