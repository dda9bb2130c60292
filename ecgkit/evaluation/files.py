"""What the files of an evaluation hold, checked when they are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict, cast

import pandas as pd

from ecgkit import paths
from ecgkit.io import check_columns, read_table, readable
from ecgkit.sessions import Session

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".csv.bz2", ".csv.xz")
"""How the names of tables of predictions end."""

UNLABELLED = "unlabelled.parquet"
"""The predictions of records without a label of the set, laid out as ``predictions.parquet``."""

SAME = ("dataset_fingerprint", "label_set", "min_records")
"""The parameters that trainings must have in common for their predictions to be comparable."""

COMPARABLE = (*SAME, "target")
"""The parameters that trainings have in common whose metrics can be compared."""

EVALUATE_AGAIN = "evaluate the session again"


class Metric(TypedDict):
    """A number with its 95 % confidence interval; None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None


Groups = dict[str, dict[str, Metric]]
"""The metrics of a fold: class, ``"macro"``, ``"micro"`` or ``"samples"`` to metric."""


class Metrics(TypedDict):
    """The contents of ``metrics.json``."""

    version: int
    fold_9: NotRequired[Groups]
    fold_10: NotRequired[Groups]
    bootstrap: dict[str, dict[str, Any]]
    with_unlabelled: NotRequired[dict[str, Any]]


class Thresholds(TypedDict):
    """What is read of ``thresholds.json``."""

    thresholds: dict[str, float]
    policies: NotRequired[dict[str, dict[str, float]]]


def is_table(name: str) -> bool:
    """Return True if a name ends as that of a table of predictions."""
    return name.lower().endswith(SUFFIXES)


class EnsembleCost(TypedDict):
    """What is read of ``ensemble.json``: the sums over its members."""

    parameters: NotRequired[int | None]
    seconds: NotRequired[float | None]


def read_metrics(session: Session) -> dict[str, Any]:
    """Read ``metrics.json``; raise `EcgkitError` naming the key that is missing or of another type."""
    return cast("dict[str, Any]", session.read_json("metrics.json", Metrics, way_out=EVALUATE_AGAIN))


def all_records(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return macro ``auc``, ``low`` and ``high`` of fold 10 over all ``records``, ``unlabelled`` ones as negative.

    The last two are numbers of records; None where the results do not have them.
    """
    found = results.get("with_unlabelled", {})
    auc = found.get("fold_10", {}).get("macro", {}).get("auc", {})
    numbers = {"auc": auc.get("value"), "low": auc.get("low"), "high": auc.get("high")}
    return numbers | {name: found.get(name, {}).get("fold_10") for name in ("records", "unlabelled")}


def main_metric(session: Session, fold: str) -> tuple[str, dict[str, float | None]]:
    """Read the macro AUC of a training, or the R2 of its quantity.

    Returns
    -------
    name : {"macro_auc", "r2", ""}
        Empty where there is none.
    entry : dict
        ``value``, ``low`` and ``high``; None where it is not defined.
    """
    if session.kind == paths.TRAINING and (session.path / "metrics.json").is_file():
        groups = read_metrics(session).get(fold, {})
        metrics: dict[str, dict[str, float | None]] = groups.get("macro") or next(iter(groups.values()), {})
        for key, name in (("auc", "macro_auc"), ("r2", "r2")):
            if key in metrics:
                return name, metrics[key]
    return "", {"value": None, "low": None, "high": None}


def read_thresholds(session: Session) -> dict[str, Any]:
    """Read ``thresholds.json``; raise `EcgkitError` naming the key that is missing or of another type."""
    return cast("dict[str, Any]", session.read_json("thresholds.json", Thresholds, way_out=EVALUATE_AGAIN))


def read_history(session: Session) -> pd.DataFrame:
    """Read ``history.csv``, one row per epoch; empty where there is none, as in an ensemble."""
    path = session.path / "history.csv"
    if not path.is_file():
        return pd.DataFrame({"epoch": [], "seconds": []})
    with readable(path, EVALUATE_AGAIN):
        table = pd.read_csv(path)
    return check_columns(table, path, {"epoch": "integer", "seconds": "number"}, way_out="train the model again")


def stored_predictions(session: Session, name: str = "predictions.parquet") -> pd.DataFrame:
    """Read ``predictions.parquet``; raise `EcgkitError` naming a column that is not as it should be."""
    path = session.path / name
    table = read_table(path, {"record_id": "any", "patient_id": "any", "fold": "integer"}, way_out=EVALUATE_AGAIN)
    numbers = [str(name) for name in table if str(name).startswith(("prob_", "predicted_", "calibrated_"))]
    return check_columns(table, path, dict.fromkeys(numbers, "number"), way_out=EVALUATE_AGAIN)
