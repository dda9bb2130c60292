"""The project's folder, and the folders of data sets and sessions in it."""

from __future__ import annotations

import os
from pathlib import Path

from ecgkit.errors import EcgkitError

PACKAGE = Path(__file__).resolve().parent

RAW = "raw_datasets"
PROCESSED = "processed_datasets"
TRAINING = "training_sessions"
PRETRAINING = "pretraining_sessions"
PROBES = "probe_training_sessions"
EXPLANATIONS = "explanation_sessions"
DIAGNOSES = "diagnosis_sessions"
COMPARISONS = "comparison_sessions"

VERIFY_VARIABLE = "ECGKIT_VERIFY"
"""The environment variable by which ``--verify`` reaches the notebook that a step runs in."""

SESSION_KINDS = (PRETRAINING, TRAINING, PROBES, EXPLANATIONS, DIAGNOSES, COMPARISONS)
"""The folders of numbered sessions."""

WITH_NETWORK = (PRETRAINING, TRAINING, PROBES, EXPLANATIONS, DIAGNOSES)
"""Those whose sessions run a network."""


def project_root() -> Path:
    """Return the project's folder: ``ECGKIT_ROOT`` if set, else the checkout of the package, else the current folder.

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
    """Return ``root`` as an absolute path; None and "" mean the project's folder.

    Raises
    ------
    EcgkitError
        If the folder does not exist.
    """
    if root is None or str(root) == "":
        return project_root()
    path = Path(root).expanduser().resolve()
    if not path.is_dir():
        raise EcgkitError(f"no folder {path}: make it first, or choose another --root")
    return path


def is_pretraining(session: str | Path) -> bool:
    """Return True if a session is named by its path in the folder of pretrainings, as it has to be."""
    return Path(session).parent.name == PRETRAINING


def notebook_path(name: str) -> Path:
    """Return the path of one of the project's notebooks, such as ``"2_Training.ipynb"``.

    Raises
    ------
    EcgkitError
        If there is no notebook of this name.
    """
    for folder in (PACKAGE.parent / "notebooks", PACKAGE / "notebooks"):
        if (folder / name).is_file():
            return folder / name
    raise EcgkitError(f"no notebook {name} next to the package {PACKAGE}: install ecgkit from its repository")
