"""Predictions of networks that were trained for a target, with which probes are compared."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ecgkit import paths, sessions
from ecgkit.errors import EcgkitError
from ecgkit.io import read_table
from ecgkit.sessions import Session


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
        If a session is not finished, or was not trained for a target.
    """
    found = {}
    for name in filter(None, (part.strip() for part in names.split(","))):
        session = sessions.open_finished(name, paths.TRAINING, root)
        target = session.config.get("target", "")
        if not target:
            raise EcgkitError(f"{session.name} was not trained for a target: give one of ecgkit train --target")
        found[target] = _target_predictions(session, target)
    return found


def _target_predictions(session: Session, target: str) -> pd.DataFrame:
    """Read ``record_id`` and ``predicted`` of a session that was trained for a target."""
    table = read_table(session.path / "predictions.parquet", {"record_id": "text"}, way_out="train again")
    columns = [name for name in (f"predicted_{target}", *table.columns) if name.startswith(("predicted_", "prob_"))]
    column = next(name for name in columns if name in table)
    return table[["record_id"]].assign(predicted=table[column])
