"""A folder of PTB-XL: the names of its files, its manifest, and which records are there."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecgkit.errors import EcgkitError
from ecgkit.io import checked, read_json

FILE_COLUMNS = {100: "filename_lr", 500: "filename_hr"}
PUBLISHED_ROWS = {21837: "1.0.1", 21801: "1.0.2", 21799: "1.0.3"}
TABLES = ("ptbxl_database.csv", "scp_statements.csv")
MANIFEST = "ecgkit_manifest.json"
DOWNLOAD = "`ecgkit download ptbxl`"


def check_folder(folder: Path) -> None:
    """Raise an `EcgkitError` that names the way out unless the folder holds the tables of PTB-XL."""
    missing = [name for name in TABLES if not (folder / name).is_file()]
    if not missing:
        return
    inner = sorted(folder.glob(f"*/{TABLES[0]}")) if folder.is_dir() else []
    if inner:
        raise EcgkitError(f"no PTB-XL in {folder}, but in {inner[0].parent}: pass --raw {inner[0].parent}")
    what = f" ({missing[0]} is missing)" if folder.is_dir() else ""
    raise EcgkitError(
        f"no PTB-XL in {folder}{what}: run {DOWNLOAD}, pass its folder with --raw DIR, or pass --dataset demo"
    )


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Read ``ecgkit_manifest.json``, which describes a folder with a part of PTB-XL.

    Parameters
    ----------
    folder : Path
        Of PTB-XL or a part of it.

    Returns
    -------
    dict or None
        Its contents; None if there is no such file.

    Raises
    ------
    EcgkitError
        If it cannot be understood.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    way_out = f'write {{"part": true}} to it, or run {DOWNLOAD}'
    manifest: dict[str, Any] = read_json(path, way_out=way_out)
    for key, kind in (("first", dict[str, int]), ("part", bool), ("reason", str), ("version", str | None)):
        if key in manifest:
            checked(manifest[key], kind, f"{path}: {key}", way_out=way_out)
    if "first" not in manifest and "part" not in manifest:
        raise EcgkitError(f'{path} has neither "first" nor "part": {way_out}')
    return manifest


def n_complete(manifest: Mapping[str, Any], n_rows: int, rate: int) -> int:
    """Return how many rows of the table, from the first on, have been downloaded at a rate."""
    if "first" not in manifest:
        return n_rows
    count = int(manifest["first"].get(str(rate), 0))
    if count < 1:
        raise EcgkitError(
            f"no download of PTB-XL at {rate} Hz is complete: run or resume `ecgkit download ptbxl --rate {rate}`"
        )
    return min(count, n_rows)


def describe_part(manifest: Mapping[str, Any], n_rows: int, rate: int) -> dict[str, Any] | None:
    """Return which part of PTB-XL a folder holds; None for all of it."""
    if manifest.get("part"):
        return dict(manifest)
    count = n_complete(manifest, n_rows, rate)
    if count < n_rows:
        return {"part": True, "reason": f"the first {count:,} of {n_rows:,} records"}
    return None if n_rows in PUBLISHED_ROWS else {"part": True, "reason": f"the table lists {n_rows:,} records"}


def find_version(folder: Path, n_rows: int, manifest: Mapping[str, Any]) -> str:
    """Return the version, from the number of rows, which no two share, the manifest, or a text in the folder."""
    if n_rows in PUBLISHED_ROWS:
        return PUBLISHED_ROWS[n_rows]
    if isinstance(manifest.get("version"), str):
        return str(manifest["version"])
    for name in ("LICENSE.txt", "README.md", "README.txt"):
        path = folder / name
        text = path.read_bytes()[:10_000].decode("utf-8", "replace") if path.is_file() else ""
        if found := re.search(r"version (1\.0\.\d)\b", text):
            return found[1]
    return "unknown"


def find_record_files(folder: Path, rate: int) -> dict[str, str]:
    """Return for each record with both its files, by path without suffix, their sizes and times of change."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    for directory, subfolders, names in os.walk(folder / f"records{rate}", followlinks=True):
        if (real := os.path.realpath(directory)) in seen:  # a symbolic link to a folder above
            subfolders.clear()
            continue
        seen.add(real)
        inside = Path(directory).relative_to(folder).as_posix()
        headers = {name[:-4] for name in names if name.endswith(".hea")}
        for stem in (name[:-4] for name in names if name.endswith(".dat") and name[:-4] in headers):
            try:
                # A Path for each of 43,598 files would take longer than everything else here.
                states = [os.stat(f"{directory}/{stem}{suffix}") for suffix in (".hea", ".dat")]  # noqa: PTH116
            except OSError:  # a symbolic link to nothing
                continue
            found[f"{inside}/{stem}"] = " ".join(f"{state.st_size} {state.st_mtime_ns}" for state in states)
    return found
