"""Where things lie: the project's folder and the folders of data sets and sessions in it."""

from __future__ import annotations

import os
from pathlib import Path

from ecgkit.errors import EcgkitError

PACKAGE = Path(__file__).resolve().parent

RAW = "raw_datasets"
PROCESSED = "processed_datasets"
TRAINING = "training_sessions"
PROBES = "probe_training_sessions"
COMPARISONS = "comparison_sessions"


def project_root() -> Path:
    """Find the project's folder: ``ECGKIT_ROOT`` if it is set, else the checkout that the package lies in, else here.

    Returns
    -------
    Path
        An absolute path.
    """
    if named := os.environ.get("ECGKIT_ROOT"):
        return Path(named).expanduser().resolve()
    checkout = PACKAGE.parent
    return checkout if (checkout / "notebooks").is_dir() else Path.cwd()


def resolve_root(root: str | Path | None) -> Path:
    """Turn what a user gave as ``root`` into an absolute path; nothing means the project's folder.

    Raises
    ------
    EcgkitError
        If the folder does not exist.
    """
    if root is None or str(root) == "":
        return project_root()
    path = Path(root).expanduser().resolve()
    if not path.is_dir():
        raise EcgkitError(f"no folder {path}: make it first, or give another --root")
    return path


def notebook_path(name: str) -> Path:
    """Find one of the project's notebooks, such as ``"2_Training.ipynb"``.

    Raises
    ------
    EcgkitError
        If there is none of this name.
    """
    for folder in (PACKAGE.parent / "notebooks", PACKAGE / "notebooks"):
        if (folder / name).is_file():
            return folder / name
    raise EcgkitError(f"no notebook {name} beside the package in {PACKAGE}: install ecgkit from its repository")
