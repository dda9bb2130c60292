"""Unpack what arrives in several parts: a zip, or the files of a record as bytes."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from ecgkit.errors import EcgkitError, UnreadableRecordError
from ecgkit.io import file_name
from ecgkit.readers.base import check_size

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
    try:
        with zipfile.ZipFile(path) as archive:
            items = [item for item in archive.infolist() if not item.is_dir() and not _is_clutter(item.filename)]
            _check_items(path, items)
            names = [PurePosixPath(item.filename.replace("\\", "/")).name for item in items]
            if len(set(names)) < len(names):
                raise UnreadableRecordError("the zip has several files of one name in its folders: zip one record")
            for item, name in zip(items, names, strict=True):
                _write(folder, name, archive.read(item))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
        raise UnreadableRecordError(f"the zip cannot be unpacked: {' '.join(str(error).split())[:150]}") from error
    return _choose(folder, "the zip")


def unpack_bytes(parts: Mapping[str, bytes], folder: Path) -> Path:
    """Write the files of a record, given as bytes by their names, into an empty folder; return the one to open."""
    for name, data in parts.items():
        if not isinstance(name, str) or not isinstance(data, bytes):
            raise EcgkitError("several files are given as {name: bytes}")
        _write(folder, PurePosixPath(name.replace("\\", "/")).name, data)
    return _choose(folder, "what was given")


def group_files(files: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes | dict[str, bytes]]]:
    """Put files that arrived together into records: a WFDB header with the files that it names, others alone.

    Parameters
    ----------
    files : iterable of (name, content)
        Of two files with one name the last one counts.

    Returns
    -------
    list of (name, file)
        What `ecgkit.open_ecg` takes, by the name of the header or the file; in the order of the files.
    """
    content = dict(files)
    headers = [name for name in content if name.lower().endswith(".hea")]
    named = {header: _named(header, content) for header in headers}
    # The header of a segment belongs to the one that names it.
    inside = {other for header in headers for other in named[header] if other != header}
    groups = {header: {name: content[name] for name in named[header]} for header in headers if header not in inside}
    return [(name, groups.get(name, content[name])) for name in content if name in groups or name not in inside]


def _named(header: str, content: Mapping[str, bytes]) -> list[str]:
    """Return a header and the files that it, or the header of a segment, names."""
    found, left = [header], [header]
    while left:
        words = set(content[left.pop()].decode("latin-1").split())
        new = [name for name in content if name not in found and (name in words or _segment(name) in words)]
        found += new
        left += [name for name in new if _segment(name)]
    return found


def _segment(name: str) -> str:
    """Return how the header of several segments names the header of one; empty for other files."""
    return name[: -len(".hea")] if name.lower().endswith(".hea") else ""


def _choose(folder: Path, what: str) -> Path:
    """Return the header of the WFDB record that was unpacked, or the only file."""
    files = sorted(folder.iterdir())
    headers = [file for file in files if file.suffix == ".hea"]
    # The header of several segments comes with those of the segments, which its lines name.
    whole = [file for file in headers if "/" in (file.read_text(errors="replace").split() or [""])[0]]
    candidates = headers if len(headers) == 1 else whole or (files if not headers else [])
    if len(candidates) != 1:
        names = ", ".join(file.name for file in files[:8]) or "nothing"
        raise UnreadableRecordError(f"{what} has not one ECG but {names}: give the files of one record")
    return candidates[0]


def _check_items(path: Path, items: list[zipfile.ZipInfo]) -> None:
    """Check the number and the sizes of the files that a zip announces."""
    if len(items) > MOST_FILES:
        raise UnreadableRecordError(f"the zip has {len(items)} files and at most {MOST_FILES} are read")
    size = sum(item.file_size for item in items)
    check_size(size, LARGEST, "the zip, unpacked,")
    if size > 2**20 and size > HIGHEST_RATIO * path.stat().st_size:
        raise UnreadableRecordError(
            f"the zip is {size // max(1, path.stat().st_size)} times as large unpacked: no ECG is"
        )


def _write(folder: Path, name: str, data: bytes) -> None:
    """Write a file under its name, which leads out of no folder."""
    (folder / file_name(name)).write_bytes(data)


def _is_clutter(name: str) -> bool:
    """Return True for what archivers and systems add."""
    return name.startswith("__MACOSX/") or PurePosixPath(name).name in {".DS_Store", "Thumbs.db", "desktop.ini"}
