"""From a finished training to a model that stands alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from ecgkit import sessions
from ecgkit.datasets import Dataset
from ecgkit.errors import EcgkitError
from ecgkit.inference.card import model_card
from ecgkit.inference.folder import CARD, FORMAT, WEIGHTS, read_model
from ecgkit.inference.shipped import DESCRIPTION, FOLDER
from ecgkit.io import TEMPORARY_SUFFIX, disk_errors, file_sha256, json_bytes
from ecgkit.sessions import Session
from ecgkit.signals.ecg import LEADS
from ecgkit.stats.folds import PARTS
from ecgkit.training.fitting import METRIC_NAMES, read_history
from ecgkit.training.inference import TrainedSession, check_match, open_trained

COPIED = ("config.json", "thresholds.json", "calibration.json", "metrics.json")
"""The session's files that go with the model as they are."""


def export_model(session: Session, folder: Path, *, root: Path, force: bool = False) -> Path:
    """Write a finished training as a folder that stands alone: weights, what they need, results, and a card.

    Parameters
    ----------
    session : Session
        A finished training session with a network of its own.
    folder : Path
        The folder to make. It appears when all is in it, or not at all.
    root : Path
        The folder that holds the datasets' folder: the dataset says which filters its signals went through.
    force : bool, default False
        Replace a model that is there.

    Returns
    -------
    Path
        The folder, absolute.

    Raises
    ------
    EcgkitError
        If the session is not finished, is an ensemble, or lacks its weights, its report or its dataset; if something is
        in the place and may not be replaced; or if the disk is full.
    """
    if not session.is_done:
        raise EcgkitError(f"{session.path} is not finished: finish it, then export it")
    folder = folder.expanduser().absolute()
    _check_place(folder, force=force)
    opened = open_trained(session, root)
    check_match(opened.trained, opened.dataset)
    results = {name: session.read_json(name) for name in COPIED}
    with _draft(folder) as draft:
        shutil.copyfile(session.best_weights, draft / WEIGHTS)
        description = _describe(opened) | {"weights_sha256": file_sha256(draft / WEIGHTS)}
        subgroups = session.read_json("subgroups.json") if (session.path / "subgroups.json").is_file() else None
        for name, data in (results | {DESCRIPTION: description}).items():
            (draft / name).write_bytes(json_bytes(data))
        name = folder.name if folder.parent == FOLDER else f"path/to/{folder.name}"
        card = model_card(description, results, name=name, subgroups=subgroups)
        (draft / CARD).write_text(card, encoding="utf-8")
        read_model(draft)
    return folder


def _check_place(folder: Path, *, force: bool) -> None:
    """Check that a folder may be made, or replaced; what is no model is never replaced."""
    if not folder.exists():
        return
    if not (folder / DESCRIPTION).is_file():
        raise EcgkitError(f"{folder} is there and is no exported model: choose another folder, or remove it")
    if not force:
        raise EcgkitError(f"{folder} holds a model: choose another folder, or replace it by --force")


@contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    """Give a hidden folder beside the one to make, and move it into place if all went well."""
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
    """Move a finished folder into its place; a model that it replaces is gone only after that."""
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


def _describe(opened: TrainedSession) -> dict[str, Any]:
    """Say what the model's input and output mean, and what it was trained on, as JSON data without a path."""
    trained, dataset = opened.trained, opened.dataset
    packages = sessions.read_environment(opened.session).get("packages", {})
    return {
        "format": FORMAT,
        "model": trained.name,
        "n_parameters": trained.n_parameters,
        "label_set": dataset.label_set,
        "classes": list(trained.classes),
        "leads": list(LEADS),
        "units": "mV",
        "sampling_rate": trained.sampling_rate,
        "seconds": trained.keywords["n_samples"] / trained.sampling_rate,
        "metadata": ["age", "sex"] if trained.scaler else [],
        "filters": dataset.manifest["filters"],
        "dataset": _describe_dataset(dataset),
        "training": _describe_training(opened.session),
        "versions": {name: packages[name] for name in ("ecgkit", "torch") if name in packages},
    }


def _describe_dataset(dataset: Dataset) -> dict[str, Any]:
    """Say what the records are and whose."""
    source = dataset.manifest["source"]
    positions = {part: dataset.folds(*folds) for part, folds in PARTS.items()}
    return {
        "name": dataset.name,
        "source": source["name"],
        "version": source["version"],
        "is_part": bool(source.get("identity", {}).get("part")),
        "fingerprint": dataset.fingerprint,
        "seconds": dataset.n_samples / dataset.sampling_rate,
        "n_records": dataset.manifest["n_records"],
        "n_unlabelled": dataset.n_unlabelled,
        "n_patients": int(dataset.records["patient_id"].nunique()),
        "parts": {
            part: {
                "n_records": len(rows),
                "n_patients": int(dataset.records["patient_id"].iloc[rows].nunique()),
                "n_positive": {str(name): int(count) for name, count in dataset.labels.iloc[rows].sum().items()},
            }
            for part, rows in positions.items()
        },
        "age": _describe_ages(dataset.records["age"]),
        "sex": {name: int((dataset.records["sex"] == name).sum()) for name in ("female", "male")},
    }


def _describe_ages(ages: pd.Series) -> dict[str, Any]:
    """Give quartiles in years, and how many records are of children or of unknown age."""
    known = ages.dropna().astype(float)
    quartiles = known.quantile([0.25, 0.5, 0.75]).tolist() if len(known) else [None] * 3
    return {"quartiles": quartiles, "n_under_18": int((known < 18).sum()), "n_unknown": int(ages.isna().sum())}


def _describe_training(session: Session) -> dict[str, int | None]:
    """Say how many epochs were run and which one was kept."""
    history = read_history(session)
    monitor = next((name for name in METRIC_NAMES if name in history), None)
    if history.empty or monitor is None:
        return {"epochs": None, "best_epoch": None}
    best = history["epoch"].iloc[int(history[monitor].to_numpy().argmax())]
    return {"epochs": len(history), "best_epoch": int(best)}
