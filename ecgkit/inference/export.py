"""Copying the model out of a training session."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ecgkit.errors import EcgkitError
from ecgkit.inference.model_folder import (
    CALIBRATION,
    CARD,
    DONE,
    ENSEMBLE,
    THRESHOLDS,
    WEIGHTS,
    find_folder,
    read_model,
)
from ecgkit.io import TEMPORARY_SUFFIX, disk_errors

COPIED = (str(WEIGHTS), CARD)
COPIED_IF_THERE = (THRESHOLDS, CALIBRATION, "config.json", "metrics.json")


def export_model(session: Path, folder: Path, *, force: bool = False) -> Path:
    """Copy the model of a finished training session into a folder of its own.

    Parameters
    ----------
    session : Path
        The folder of a finished training session with a network of its own.
    folder : Path
        The folder to make. It appears with everything in it, or not at all.
    force : bool, default False
        Replace a model that is there.

    Returns
    -------
    Path
        The folder, absolute.

    Raises
    ------
    EcgkitError
        If the session is not finished, is an ensemble, or lacks a file; something is in the place and may not be
        replaced; or the disk is full.
    """
    session, folder = find_folder(session, session), folder.expanduser().absolute()
    if (session / ENSEMBLE).is_file():
        raise EcgkitError(f"{session} is an ensemble and has no network of its own: export its members")
    for name in COPIED:
        if not (session / name).is_file():
            raise EcgkitError(f"{session} has no {name}: run its training to the end again")
    _check_place(folder, force=force)
    own_code = [path.relative_to(session).as_posix() for path in (session / WEIGHTS.parent).glob("*.py")]
    with _draft(folder) as draft:
        (draft / WEIGHTS).parent.mkdir()
        for name in (*COPIED, *COPIED_IF_THERE, *own_code):
            if (session / name).is_file():
                shutil.copyfile(session / name, draft / name)
        card = (draft / CARD).read_text(encoding="utf-8")
        (draft / CARD).write_text(card.replace(f'"{session.name}"', f'"path/to/{folder.name}"'), encoding="utf-8")
        read_model(draft)
    return folder


def _check_place(folder: Path, *, force: bool) -> None:
    """Check that a folder may be made, or replaced; what is no model is never replaced."""
    if not folder.exists():
        return
    if not (folder / WEIGHTS).is_file() or (folder / DONE).is_file():
        raise EcgkitError(f"{folder} exists and is no exported model: choose another folder, or remove it")
    if not force:
        raise EcgkitError(f"{folder} contains a model: choose another folder, or replace it by --force")


@contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder next to the one to make, and move it into place if all went well."""
    draft = folder.with_name(f".{folder.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        with disk_errors(folder.parent, "nothing is left of the export, run it again"):
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
            yield draft
            _move(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _move(draft: Path, folder: Path) -> None:
    """Move a finished folder into its place; a model that it replaces is removed only after that."""
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old{TEMPORARY_SUFFIX}")
    if folder.exists():
        folder.rename(old)
    try:
        draft.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
