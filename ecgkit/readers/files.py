"""Which ECG files are meant by files, folders and patterns."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ecgkit.errors import EcgkitError
from ecgkit.readers.formats import SUFFIXES

TAKEN = SUFFIXES | {".zip"}
"""The suffixes of the files that are taken from a folder; a file that is named is read whatever its suffix is."""


def find_ecg_files(names: Sequence[str | Path]) -> list[Path]:
    """List the ECG files that files, folders and patterns stand for.

    Parameters
    ----------
    names : sequence of str or Path
        Files; folders, in which files that are not hidden are looked for by their suffixes, at every depth; patterns
        such as ``*.xml``.

    Returns
    -------
    list of Path
        Each file once, in the order of the names, those of a folder sorted. A WFDB record is its header.

    Raises
    ------
    EcgkitError
        If a folder or a pattern has no such file, or a folder cannot be read.
    """
    found: dict[Path, None] = {}
    for name in names:
        path = Path(name)
        if path.is_dir():
            # What cannot be opened, such as a broken link, is listed all the same: nothing is left out in silence.
            held = (Path(parent, name) for parent, _, names in os.walk(path, onerror=_refuse) for name in names)
            inside = sorted(file for file in held if _is_ecg_file(file.relative_to(path)))
            if not inside:
                raise EcgkitError(f"no ECG file in {path}: files need one of the suffixes {' '.join(sorted(TAKEN))}")
        elif glob.has_magic(str(name)) and not path.exists():
            anchor = Path(path.anchor)  # "." of a relative pattern
            inside = sorted(file for file in anchor.glob(str(path.relative_to(path.anchor))) if not file.is_dir())
            if not inside:
                raise EcgkitError(f"no file matches {name}: check the pattern")
        else:
            inside = [path]
        found |= dict.fromkeys(inside)
    return list(found)


def _refuse(error: OSError) -> NoReturn:
    """Refuse a folder that cannot be read."""
    raise EcgkitError(f"{error.filename}: {error.strerror}; make it readable, or name the files") from error


def _is_ecg_file(path: Path) -> bool:
    """Return True for a suffix of an ECG file, but for copies in hidden folders, such as those of JupyterLab."""
    return path.suffix.lower() in TAKEN and not any(part.startswith(".") for part in path.parts)


def record_key(text: str | None) -> int | str | None:
    """Return the number that a text is, such as 7; other texts, such as 007 or "7" in quotes, are identifiers."""
    if text and re.fullmatch(r"0|[1-9]\d{,17}", text, re.ASCII):
        return int(text)
    return text[1:-1] if text and re.fullmatch(r"([\"']).+\1", text) else text
