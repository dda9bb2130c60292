"""Copying the model out of a training session, as it is or as an ONNX graph."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ecgkit.errors import EcgkitError, check_choice
from ecgkit.inference.missing_leads import LEAD_LOSSES
from ecgkit.inference.model_folder import (
    CALIBRATION,
    CARD,
    ENSEMBLE,
    ONNX,
    THRESHOLDS,
    WEIGHTS,
    find_folder,
    read_card,
    read_model,
)
from ecgkit.inference.reference import REFERENCE
from ecgkit.io import TEMPORARY_SUFFIX, disk_errors
from ecgkit.sessions.folder import DONE

FORMATS = ("folder", "onnx")
COPIED = (str(WEIGHTS), CARD)
COPIED_IF_THERE = (THRESHOLDS, CALIBRATION, REFERENCE, LEAD_LOSSES, "config.json", "metrics.json")


def export_model(
    session: Path,
    folder: Path,
    *,
    format: str = "folder",  # noqa: A002
    sampling_rate: int | None = None,
    force: bool = False,
) -> Path:
    """Copy the model of a finished training session, or one that ships, into a folder of its own.

    Parameters
    ----------
    session : Path
        The folder of a finished training session with a network of its own.
    folder : Path
        The folder to make. It appears with everything in it, or not at all.
    format : {"folder", "onnx"}
        A model folder, or ``model.onnx`` (see `ecgkit.inference.onnx_graph.write_onnx`) with ``model.json``, which
        says what goes in and comes out, the thresholds and the card. `load_model` opens both.
    sampling_rate : int, optional
        For ``"onnx"``, the rate in Hz from which the graph resamples; by default the network's.
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
        replaced; the model cannot be written as ONNX; or the disk is full.
    """
    check_choice("format", format, FORMATS)
    if sampling_rate is not None and format != "onnx":
        raise EcgkitError("a sampling rate is for the format onnx: a model folder resamples from any rate")
    session, folder = find_folder(session, session), folder.expanduser().absolute()
    if (session / ENSEMBLE).is_file():
        raise EcgkitError(f"{session} is an ensemble and has no network of its own: export its members")
    for name in COPIED:
        if not (session / name).is_file():
            raise EcgkitError(f"{session} has no {name}: run its training to the end again")
    _check_place(folder, force=force)
    with _draft(folder) as draft:
        if format == "onnx":
            _fill_onnx(session, draft, sampling_rate)
        else:
            _fill_folder(session, draft)
        card = read_card(draft)
        (draft / CARD).write_text(card.replace(f'"{session.name}"', f'"path/to/{folder.name}"'), encoding="utf-8")
    return folder


def _fill_folder(session: Path, draft: Path) -> None:
    """Copy the files of a model folder and open it once."""
    own_code = [path.relative_to(session).as_posix() for path in (session / WEIGHTS.parent).glob("*.py")]
    (draft / WEIGHTS).parent.mkdir()
    for name in (*COPIED, *COPIED_IF_THERE, *own_code):
        if (session / name).is_file():
            shutil.copyfile(session / name, draft / name)
    read_model(draft)


def _fill_onnx(session: Path, draft: Path, sampling_rate: int | None) -> None:
    """Write the graph and what is needed to predict with it, and open it once."""
    from ecgkit.inference.onnx_graph import output_names, shortest, write_onnx
    from ecgkit.inference.onnx_model import OnnxPredictor, write_description

    model = read_model(session)
    trained = model.trained
    write_onnx(model, draft / ONNX, sampling_rate=sampling_rate)
    for name in (THRESHOLDS, CARD, LEAD_LOSSES):
        if (session / name).is_file():
            shutil.copyfile(session / name, draft / name)
    rate = sampling_rate or trained.sampling_rate
    write_description(
        draft,
        name=trained.name,
        classes=list(trained.classes),
        label_set=trained.label_set,
        sampling_rate=rate,
        n_samples=shortest(trained, rate),
        outputs=output_names(model),
    )
    OnnxPredictor(draft)


def _check_place(folder: Path, *, force: bool) -> None:
    """Check that a folder may be made, or replaced; what is not a model is never replaced."""
    if not folder.exists():
        return
    is_model = (folder / WEIGHTS).is_file() or (folder / ONNX).is_file()
    if not is_model or (folder / DONE).is_file():
        raise EcgkitError(f"{folder} exists and is not an exported model: choose another folder, or remove it")
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
