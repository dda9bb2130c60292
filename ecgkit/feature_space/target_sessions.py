"""Predictions of networks that were trained for a target, with which probes are compared."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ecgkit import paths, sessions
from ecgkit.errors import EcgkitError, split_names
from ecgkit.io import read_table
from ecgkit.sessions import Session

PREDICTIONS = "predictions.parquet"


def read_target_sessions(names: str, root: Path) -> dict[str, pd.DataFrame]:
    """Read the predictions of networks that were trained for a target.

    Parameters
    ----------
    names : str
        Training sessions, as from ``ecgkit train NAME --target age``, separated by commas; may be empty.
    root : Path
        The folder of data sets and sessions.

    Returns
    -------
    dict of str to DataFrame
        By target: ``record_id`` and ``predicted``, in the target's unit, or the probability of the positive class.

    Raises
    ------
    EcgkitError
        If a session is not finished, was not trained for a target, or is the second for one.
    """
    found: dict[str, pd.DataFrame] = {}
    for session in _opened(names, root):
        target = session.config.get("target", "")
        if not target:
            raise EcgkitError(f"{session.name} was not trained for a target: give one of ecgkit train --target")
        if target in found:
            raise EcgkitError(f"{session.name} is a second session that was trained for {target}: give one of them")
        found[target] = _target_predictions(session, target)
    return found


def prediction_files(names: str, root: Path) -> list[Path]:
    """Return the files that `read_target_sessions` reads."""
    return [session.path / PREDICTIONS for session in _opened(names, root)]


def _opened(names: str, root: Path) -> list[Session]:
    """Open the sessions of a list of names."""
    return [sessions.open_finished(name, paths.TRAINING, root) for name in split_names(names)]


def _target_predictions(session: Session, target: str) -> pd.DataFrame:
    """Read ``record_id`` and ``predicted`` of a session that was trained for a target."""
    table = read_table(session.path / PREDICTIONS, {"record_id": "text"}, way_out="train again")
    columns = [name for name in (f"predicted_{target}", *table.columns) if name.startswith(("predicted_", "prob_"))]
    column = next((name for name in columns if name in table), None)
    if column is None:
        raise EcgkitError(f"{session.path / PREDICTIONS} has no column {columns[0]}: train again")
    return table[["record_id"]].assign(predicted=table[column])
