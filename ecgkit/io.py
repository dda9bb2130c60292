"""Writing files safely, and reading JSON, TOML, Parquet and NumPy files that may hold anything."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import threading
import tomllib
import typing
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, SoftFileLock, Timeout

from ecgkit.errors import EcgkitError, fits, lacks_memory, one_line, printable, shown, type_name

if TYPE_CHECKING:
    import jinja2
    import numpy as np
    import pandas as pd

TEMPORARY_SUFFIX = ".ecgkit-tmp"
"""How the names of unfinished files end; one that is still there belongs to a process that was killed."""

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""How a cell begins that a spreadsheet would compute, or one that was neutralised."""

_SPARE_BYTES = 64 * 2**20

_LONGEST_NAME = 120
"""Bytes; file systems allow 255, and an ending and a temporary suffix come after it."""

MAX_BYTES = 64 * 2**20
"""The largest JSON or TOML file that is read; a search of thousands of trials stays below 10 MiB."""

MAX_DEPTH = 32
"""How deep lists and tables may be inside each other; what ecgkit writes is at most eight deep."""

_held: dict[Path, tuple[int, int]] = {}  # device and inode of the folders that this process fills


def hold_folder(folder: Path) -> None:
    """Remember a folder as it is: from now on, this process writes into no other folder of this path."""
    status = folder.stat()
    _held[folder] = (status.st_dev, status.st_ino)


def release_folder(folder: Path) -> None:
    """Forget a folder, which this process does not fill any more."""
    _held.pop(folder, None)


def check_held(path: Path) -> Path | None:
    """Return the held folder that a path is in, or None.

    Raises
    ------
    EcgkitError
        If that folder was moved, deleted or replaced.
    """
    folder = next((one for one in (path, *path.parents) if one in _held), None)
    if folder is not None:
        status = folder.stat() if folder.is_dir() else None
        if status is None or (status.st_dev, status.st_ino) != _held[folder]:
            raise EcgkitError(f"{folder} was moved or deleted during the run, which ends here: run it again")
    return folder


def make_folder(folder: Path) -> Path:
    """Make a folder and its parents, but not a held one that is gone: others may have taken its place."""
    held = check_held(folder)
    if held is None:
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    for name in folder.relative_to(held).parts:
        held /= name
        held.mkdir(exist_ok=True)
    return folder


def write_atomically(path: Path, data: bytes) -> Path:
    """Write a file under a temporary name and move it into place, so that nobody ever sees a half of it."""
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}{TEMPORARY_SUFFIX}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a disk that is full while it is written says no name
        raise
    finally:
        temporary.unlink(missing_ok=True)
    return path


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_name(name: str) -> str:
    """Make the name of a class, or of another thing that users name, a file's or a folder's.

    Parameters
    ----------
    name : str
        Such as ``"LAFB/LPFB"``.

    Returns
    -------
    str
        With ``-`` for all but letters, digits and ``_-.``, and never empty, ``.`` or ``..``: ``"LAFB-LPFB"``. A name
        that is too long for a file system ends in a hash.
    """
    kept = "".join(letter if letter.isalnum() or letter in "_-." else "-" for letter in name)
    if len(kept.encode()) > _LONGEST_NAME:
        ending = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
        kept = f"{kept.encode()[:_LONGEST_NAME].decode(errors='ignore')}-{ending}"
    return kept if kept.strip(".") else "-" * max(len(kept), 1)


def encodable(name: str | Path) -> str:
    r"""Return a name as text that every file can hold: bytes of a path that are not UTF-8 as ``\udce9``."""
    return str(name).encode(errors="backslashreplace").decode()


def csv_cell(value: object) -> object:
    """Return what is written into a cell of a CSV file: ``'`` goes before a text that a spreadsheet would compute.

    Parameters
    ----------
    value : object
        A text such as ``"=1+1"``, perhaps the name of somebody else's file; numbers stay as they are.

    Returns
    -------
    object
        The value, or such as ``"'=1+1"``, which `csv_text` reverts.
    """
    return f"'{value}" if isinstance(value, str) and _is_formula(value) else value


def csv_text(cell: str) -> str:
    """Return the text that `csv_cell` has written into a cell."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell) else cell


def csv_bytes(table: pd.DataFrame) -> bytes:
    """Write a table as CSV, with every text as `csv_cell` writes it."""
    return table.map(csv_cell).to_csv(index=False).encode()


def _is_formula(text: str) -> bool:
    """Return True if a spreadsheet would compute a text, once it has no ``'`` in front; it computes no number."""
    try:
        float(text)
    except ValueError:
        return _FORMULA.match(text) is not None
    return False


def json_bytes(data: object) -> bytes:
    """Write JSON as people read it; NaN is refused, since it is not JSON."""
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
            f"{needed / 1e9:.2f} GB and a reserve of {_SPARE_BYTES / 1e9:.2f} GB are needed in {folder.parent}, and "
            f"{free / 1e9:.2f} GB are free: make room and run again"
        )


@contextmanager
def locked(
    path: Path, otherwise: str, *, timeout: float = 0, wait: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Hold a lock, which ends with the process that holds it.

    Parameters
    ----------
    path : Path
        The lock's file.
    otherwise : str
        What the other process does, and the way out.
    timeout : float
        Seconds to wait without a word.
    wait : callable, optional
        Receives the message, after which the lock is waited for as long as it takes; without it, the message is an
        `EcgkitError`.

    Raises
    ------
    EcgkitError
        If another process has the lock. Where the file system has no locks, the file alone counts: the message names
        it, since it may be left over from a process that was killed.
    """
    lock = FileLock(path, timeout=timeout)
    try:
        acquire(lock)
    except Timeout as error:
        left_over = isinstance(lock, SoftFileLock)
        message = f"{otherwise}; if no such process runs, remove {path}" if left_over else otherwise
        if wait is None:
            raise EcgkitError(message) from error
        wait(message)
        acquire(lock, timeout=-1)
    try:
        yield
    finally:
        lock.release()  # the file stays: to remove it would let two others lock two files of one name


def acquire(lock: FileLock, timeout: float | None = None) -> None:
    """Acquire a lock, without the warning where the file system has none and the existence of the file counts."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="flock not supported")
        lock.acquire(timeout=timeout)


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


def read_json(path: str | Path, wanted: Any = dict[str, Any], *, way_out: str = "make it again") -> Any:
    """Read a JSON file.

    Parameters
    ----------
    path : str or Path
        The file, in UTF-8.
    wanted : type, default dict
        The type of its content, checked to the last value: ``dict[str, float]``, ``list[str]``, ``str | None``, or a
        `TypedDict`, whose keys must be there (with ``NotRequired``: may be there) and which ignores further keys.
    way_out : str
        The end of the message, such as ``"train the model again"``.

    Returns
    -------
    dict or list
        The content.

    Raises
    ------
    EcgkitError
        Naming the file, the key and the value, if the file cannot be read, is too large or too deeply nested, has a
        key twice, or a value is missing or of another type.
    """
    return _parse(lambda: parse_json(_text(Path(path))), str(path), wanted, way_out)


def nan_as_none(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry as JSON can hold it, None where a number is not defined."""
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in entry.items()}


def json_or_none(path: Path) -> Any:
    """Return the contents of a JSON file; None where there is none, or it is damaged."""
    try:
        return read_json(path, Any)
    except EcgkitError:
        return None


def read_toml(path: str | Path, wanted: Any = dict[str, Any]) -> Any:
    """Read a TOML file, checked as `read_json` checks JSON; it raises the same errors."""
    return _parse(lambda: tomllib.loads(_text(Path(path))), str(path), wanted, "correct the file or its path")


def parse_json(text: str) -> Any:
    """Parse JSON strictly: NaN, infinity and a key that occurs twice are a `ValueError`."""
    return json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_refuse)


def parsed_json(text: str, where: str, wanted: Any = dict[str, Any], *, way_out: str = "make it again") -> Any:
    """Parse JSON that is inside another file, ``where`` says in which, checked as `read_json` checks a file."""
    return _parse(lambda: parse_json(text), where, wanted, way_out)


def checked(data: Any, wanted: Any, where: str, *, way_out: str = "make it again") -> Any:
    """Return JSON data if it is of a type, as `read_json` checks it; ``where`` names the file in the message."""
    for key, found, hint in _problems(data, wanted, ""):
        place = f"{where}: {key}" if key else where
        if found is _MISSING:
            raise EcgkitError(f"{place} is missing: {way_out}")
        kind = "a table" if isinstance(found, dict) else f"a {type(found).__name__}"
        raise EcgkitError(f"{place} is {shown(found)}, {kind}, not of type {type_name(hint)}: {way_out}")
    return data


def read_table(
    path: str | Path, columns: Mapping[str, str] | None = None, *, way_out: str = "make it again"
) -> pd.DataFrame:
    """Read a Parquet file.

    Parameters
    ----------
    path : str or Path
        The file.
    columns : mapping of str to str, optional
        Columns that must be there, each with what it holds: ``"text"``, ``"number"``, ``"integer"``, ``"bool"``
        or ``"any"``.
    way_out : str
        The end of the message.

    Returns
    -------
    DataFrame

    Raises
    ------
    EcgkitError
        Naming the file and the column, if the file cannot be read, or a column is missing, occurs twice or holds
        something else.
    """
    from pyarrow import parquet

    with readable(Path(path), way_out):
        # By this thread alone: where memory is too short to start another, Arrow waits for it without end.
        table = parquet.ParquetFile(path, pre_buffer=False).read(use_threads=False).to_pandas(use_threads=False)
    if not table.columns.is_unique or not all(isinstance(name, str) for name in table.columns):
        raise EcgkitError(f"{path}: the names of its columns are not texts that differ: {way_out}")
    return check_columns(table, path, columns or {}, way_out=way_out)


def check_columns(table: pd.DataFrame, path: str | Path, columns: Mapping[str, str], *, way_out: str) -> pd.DataFrame:
    """Return a table if its columns hold what `read_table` says; raise `EcgkitError` naming file and column."""
    for name, wanted in columns.items():
        if name not in table:
            raise EcgkitError(f"{path}: column {name} is missing: {way_out}")
        if not _holds(table[name], wanted):
            raise EcgkitError(f"{path}: column {name} is of type {table[name].dtype}, not {wanted}: {way_out}")
    return table


def read_array(path: str | Path, *, way_out: str = "make it again") -> np.memmap[Any, Any]:
    """Open an ``.npy`` file as a memory map, so that a header which claims more than is there allocates nothing.

    Raises
    ------
    EcgkitError
        If the file cannot be read, is shorter than its header says, or holds Python objects.
    """
    import numpy as np

    with readable(Path(path), way_out):
        return np.lib.format.open_memmap(Path(path), mode="r")


@contextmanager
def readable(path: Path, way_out: str) -> Iterator[None]:
    """Turn what the reader of a file raises on contents of any kind into one line.

    Raises
    ------
    EcgkitError
        Naming the file.
    """
    try:
        if not path.exists() or path.is_file():
            yield
        else:
            raise EcgkitError(f"{path} is not a file: {way_out}")
    except EcgkitError:
        raise
    except FileNotFoundError as error:
        raise EcgkitError(f"no file {path}: {way_out}") from error
    except RecursionError as error:
        raise EcgkitError(f"{path} is nested more than {MAX_DEPTH} levels deep: {way_out}") from error
    except Exception as error:  # pyarrow and NumPy raise nearly every kind on damaged files
        reason = getattr(error, "strerror", None) or one_line(error).removeprefix("ValueError: ")
        if lacks_memory(error):  # or the file is damaged, and claims to be large
            way_out = f"free memory; if enough is free, {way_out}"
        raise EcgkitError(f"{path} cannot be read ({reason}): {way_out}") from error


_MISSING = object()


def _text(path: Path) -> str:
    """Read a text file of ordinary size."""
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ValueError(f"it has {size / 2**20:.0f} MiB, more than {MAX_BYTES / 2**20:.0f}")
    return path.read_bytes().decode("utf-8-sig")


def _parse(read: Callable[[], Any], where: str, wanted: Any, way_out: str) -> Any:
    with readable(Path(where), way_out):
        data = read()
        _check_values(data)
    return checked(data, wanted, where, way_out=way_out)


def _check_values(data: Any) -> None:
    """Refuse data that are nested too deep, integers of more than 64 bits, and texts that cannot be written."""
    level = [data]
    for _ in range(MAX_DEPTH):
        if large := next((item for item in level if isinstance(item, int) and abs(item) >= 2**63), None):
            raise ValueError(f"an integer of {large.bit_length()} bits, where 64 are the most")
        texts = [item for item in level if isinstance(item, str)]
        texts += [key for item in level if isinstance(item, dict) for key in item]
        for text in texts:
            if not text.isascii():
                text.encode()  # a lone surrogate is a UnicodeEncodeError
        level = [part for item in level if isinstance(item, (dict, list)) for part in _items(item)]
        if not level:
            return
    raise RecursionError


def _items(data: dict[str, Any] | list[Any]) -> list[Any]:
    return list(data.values()) if isinstance(data, dict) else data


def _problems(data: Any, wanted: Any, key: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield the key, the value and the type that it should have, of what is missing or of another type."""
    kind, parts = typing.get_origin(wanted) or wanted, typing.get_args(wanted)
    if typing.is_typeddict(wanted) and isinstance(data, dict):
        for name, hint in typing.get_type_hints(wanted, include_extras=True).items():
            may_be_absent = typing.get_origin(hint) is typing.NotRequired
            inside = f"{key}.{name}".lstrip(".")
            if name in data:
                yield from _problems(data[name], typing.get_args(hint)[0] if may_be_absent else hint, inside)
            elif not may_be_absent:
                yield inside, _MISSING, hint
    elif kind in (dict, list) and parts and isinstance(data, kind):
        pairs: Any = data.items() if isinstance(data, dict) else enumerate(data)
        for name, item in pairs:
            yield from _problems(item, parts[-1], f"{key}.{name}".lstrip("."))
    elif typing.is_typeddict(wanted) or not fits(data, wanted):
        yield key, data, wanted


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {printable(twice)!r} occurs twice")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _holds(column: pd.Series[Any], wanted: str) -> bool:
    """Return True if a column holds values of a kind; a column without any value holds every kind."""
    from pandas.api import types

    is_bool = types.is_bool_dtype(column)
    checks: dict[str, Callable[[], bool]] = {
        "any": lambda: True,
        "bool": lambda: is_bool,
        "integer": lambda: types.is_integer_dtype(column),
        "number": lambda: types.is_numeric_dtype(column) and not types.is_complex_dtype(column) and not is_bool,
        "text": lambda: types.infer_dtype(column, skipna=True) in ("string", "empty"),
    }
    return checks[wanted]() or bool(column.isna().all())


def toml_value(value: Any) -> str:
    """Write one value as TOML."""
    if isinstance(value, dict):
        pairs = [f"{toml_value(key)} = {toml_value(item)}" for key, item in value.items() if item is not None]
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(toml_value, value))}]"
    # Strings, booleans and finite numbers are written as in JSON, but for pairs of surrogates.
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def script_json(data: object) -> str:
    """Return JSON for a script element, which ends at the first ``</script``, also inside a string.

    Control characters and marks of direction in texts are written as in `html_environment`.
    """
    text = json.dumps(_with_printable_texts(data), allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _with_printable_texts(data: object) -> object:
    """Return JSON data whose texts, also those in lists and mappings, are printable."""
    if isinstance(data, dict):
        return {name: _with_printable_texts(value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_with_printable_texts(value) for value in data]
    return printable(data) if isinstance(data, str) else data


def html_environment(package: str) -> jinja2.Environment:
    """Make the jinja2 environment of a package's ``templates``: values are escaped, and undefined names are errors.

    Control characters and marks of direction in values are escaped as in `printable`: no name reorders a page.

    Parameters
    ----------
    package : str
        Such as ``"ecgkit.evaluation"``. Its pages may extend ``page.html`` of ``ecgkit/templates``.

    Returns
    -------
    Environment
    """
    import jinja2

    return jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(name) for name in (package, "ecgkit")]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,  # not of markup, a subclass
    )
