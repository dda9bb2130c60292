"""Unpack what arrives in several parts: a zip, or the files of a record as bytes."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ecgkit.errors import EcgkitError, UnreadableRecordError
from ecgkit.io import file_name
from ecgkit.readers.base import check_size
from ecgkit.readers.formats import SUFFIXES, find_format

MOST_FILES = 200
LARGEST = 256 * 2**20
HIGHEST_RATIO = 200


def unpack_zip(path: Path, folder: Path) -> Path:
    """Unpack a zip of one ECG into an empty folder, without its folders, and return the file to open.

    Raises
    ------
    UnreadableRecordError
        If it holds many files, is far larger inside than outside, is encrypted, or does not hold just one ECG.
    """
    with path.open("rb") as file:
        parts = read_zip(file, path.stat().st_size)
    for name, data in parts.items():
        _write(folder, name, data)
    return _choose(parts, folder, "the zip")


def read_zip(file: BinaryIO, size: int) -> dict[str, bytes]:
    """Return the files of a zip of ``size`` bytes by their names, without folders; see `unpack_zip`."""
    try:
        with zipfile.ZipFile(file) as archive:
            items = [item for item in archive.infolist() if not item.is_dir() and not _is_clutter(item.filename)]
            _check_items(items, size)
            if any(item.filename in ("[Content_Types].xml", "mimetype", "Index/Document.iwa") for item in items):
                raise UnreadableRecordError("the file is an Office document: save its table as CSV")
            names = [PurePosixPath(item.filename.replace("\\", "/")).name for item in items]
            if len(set(names)) < len(names):
                raise UnreadableRecordError("the zip has several files of one name in its folders: zip one record")
            return {name: archive.read(item) for item, name in zip(items, names, strict=True)}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
        raise UnreadableRecordError(f"the zip cannot be unpacked: {' '.join(str(error).split())[:150]}") from error


def unpack_bytes(parts: Mapping[str, bytes], folder: Path) -> Path:
    """Write the files of a record, given as bytes by their names, into an empty folder; return the one to open."""
    files = {}
    for name, data in parts.items():
        if not isinstance(name, str) or not isinstance(data, bytes):
            raise EcgkitError("several files are given as {name: bytes}")
        files[PurePosixPath(name.replace("\\", "/")).name] = data
    for name, data in files.items():
        _write(folder, name, data)
    return _choose(files, folder, "what was given")


def group_files(parts: Mapping[str, bytes]) -> dict[str, dict[str, bytes]]:
    """Sort files into records.

    Parameters
    ----------
    parts : mapping of str to bytes
        Files by their names, without folders.

    Returns
    -------
    dict of str to dict
        The files of each record by the name of the one to open: a WFDB header with the files that it names, and every
        other file by itself.
    """
    found = {name: _wfdb_files(name, parts) for name in parts if _is_header(name)}
    named = {name for header, files in found.items() for name in files if name != header}
    whole = {header: files for header, files in found.items() if header not in named}
    taken = {name for files in whole.values() for name in files}
    return {
        name: {part: parts[part] for part in sorted(whole.get(name, {name}))}
        for name in parts
        if name in whole or name not in taken
    }


def _wfdb_files(header: str, parts: Mapping[str, bytes], *, with_segments: bool = True) -> set[str]:
    """Return the names of a WFDB header, of the files that it names, and of those of its segments."""
    words = set(parts[header].decode("utf-8", "replace").lower().split())
    found = {header} | {name for name in parts if name.lower() in words}
    for name in parts:
        if with_segments and name != header and _is_header(name) and name[:-4].lower() in words:
            found |= _wfdb_files(name, parts, with_segments=False)
    return found


def _choose(parts: Mapping[str, bytes], folder: Path, what: str) -> Path:
    """Return the file to open of those unpacked into a folder: the only ECG, or the only file."""
    records = list(group_files(parts))
    if len(records) > 1:  # next to notes, or a print of the ECG
        records = [name for name in records if _is_ecg(folder / file_name(name))] or records
    if len(records) != 1:
        listed = ", ".join(sorted(parts)[:8]) or "nothing"
        raise UnreadableRecordError(f"{what} has not one ECG but {listed}: give the files of one record")
    return folder / file_name(records[0])


def _is_ecg(file: Path) -> bool:
    """Return True for a file of a known suffix, or of a format with a mark at its beginning."""
    suffix = file.suffix.lower()
    if suffix in SUFFIXES and suffix != ".ecg":  # which annotations of WFDB have as well
        return True
    try:
        return find_format(file).name not in ("CSV or TSV", "MFER", "WFDB")
    except EcgkitError:
        return False


def _is_header(name: str) -> bool:
    """Return True for the name of a WFDB header."""
    return name.lower().endswith(".hea")


def _check_items(items: list[zipfile.ZipInfo], packed: int) -> None:
    """Check the number and the sizes of the files that a zip announces."""
    if len(items) > MOST_FILES:
        raise UnreadableRecordError(f"the zip has {len(items)} files and at most {MOST_FILES} are read")
    size = sum(item.file_size for item in items)
    check_size(size, LARGEST, "the zip, unpacked,")
    if size > 2**20 and size > HIGHEST_RATIO * packed:
        raise UnreadableRecordError(f"the zip is {size // max(1, packed)} times as large unpacked: no ECG is")


def _write(folder: Path, name: str, data: bytes) -> None:
    """Write a file under its name, which leads out of no folder."""
    (folder / file_name(name)).write_bytes(data)


def _is_clutter(name: str) -> bool:
    """Return True for what archivers and systems add."""
    return name.startswith("__MACOSX/") or PurePosixPath(name).name in {".DS_Store", "Thumbs.db", "desktop.ini"}
