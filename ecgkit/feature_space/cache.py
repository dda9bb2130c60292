"""Files that are computed once and kept under ``cache``, with what they were computed from and their checksums."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ecgkit.errors import EcgkitError
from ecgkit.io import file_sha256, write_atomically
from ecgkit.sessions import Session

CACHED = "delete the folder cache, which is computed again"


def read_manifest(folder: Session, name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest of kept files; empty if there is none, or it states other facts.

    Raises
    ------
    EcgkitError
        Naming the file that was changed after it was written.
    """
    if not (folder.path / f"{name}.json").is_file():
        return {}
    stored: dict[str, Any] = folder.read_json(f"{name}.json", way_out=CACHED)
    sums = stored.get("files")
    if not isinstance(sums, dict) or not all((folder.path / file).is_file() for file in sums):
        return {}
    if any(stored.get(key) != value for key, value in facts.items()):
        return {}
    for file, checksum in sums.items():
        if file_sha256(folder.path / file) != checksum:
            raise EcgkitError(f"{folder.path / file} was changed after it was written: {CACHED}")
    return stored


def write_files(
    folder: Session, name: str, files: Mapping[str, bytes | pd.DataFrame], facts: Mapping[str, Any]
) -> None:
    """Write files and then the manifest that states what they were computed from."""
    (folder.path / f"{name}.json").unlink(missing_ok=True)
    for file, content in files.items():
        data = content if isinstance(content, bytes) else content.to_parquet(index=False)
        write_atomically(folder.path / file, data)
    sums = {file: file_sha256(folder.path / file) for file in files}
    folder.write_json(f"{name}.json", {**facts, "files": sums})
