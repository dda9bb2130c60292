"""Differences between two sessions on the same records, with intervals over patients.

Sessions are compared on fold 10 to report a difference, never to choose one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ecgkit import sessions, stats
from ecgkit.errors import EcgkitError
from ecgkit.evaluation.files import SAME, read_thresholds, stored_predictions
from ecgkit.sessions import Session
from ecgkit.stats import Floats, FoldScores
from ecgkit.stats.calibration import FEW
from ecgkit.stats.folds import TEST_FOLD, VALIDATION_FOLD
from ecgkit.stats.multiple_testing import holm
from ecgkit.stats.paired_tests import delong, paired_difference
from ecgkit.stats.resampling import RESAMPLES, count_patients, patient_weights

Thresholds = Mapping[str, Any]

ENSEMBLE = "ensemble"
"""The model of an ensemble in ``config.json``."""


@dataclass(frozen=True)
class Comparison:
    """Two sessions on the same records of one fold.

    Attributes
    ----------
    names : tuple of str
        The names of the two.
    fold : int
        The fold.
    n_records, n_patients : int
        On which they were compared.
    resamples : int
        Bootstrap resamples of patients.
    macro : DataFrame
        One row per macro mean (``auc``, ``average_precision``, and ``f1`` if there were thresholds): ``first``,
        ``second``, ``difference`` (first minus second), ``difference_low``, ``difference_high``, ``p``, ``resamples``.
    classes : DataFrame
        One row per class, the same columns of its AUC; ``p_holm``, adjusted over the classes; ``delong_p`` and
        ``delong_p_holm`` of DeLong's test, which assumes independent records, whereas the bootstrap resamples patients,
        and which is left out with fewer than ten positives or negatives.
    """

    names: tuple[str, str]
    fold: int
    n_records: int
    n_patients: int
    resamples: int
    macro: pd.DataFrame
    classes: pd.DataFrame

    @property
    def verdict(self) -> str:
        """One sentence, with "better" only where the interval of the macro AUC's difference excludes zero."""
        columns = ["difference", "difference_low", "difference_high", "p"]
        value, low, high, p = (float(number) for number in self.macro.loc["auc", columns].to_numpy())
        first, second = self.names
        if np.isnan(low):
            lacking = "macro AUC is not defined" if np.isnan(value) else "a class has too few records for an interval"
            return f"no difference shown between {first} and {second}: {lacking} on fold {self.fold}"
        if not (low > 0 or high < 0):
            return (
                f"no difference shown between {first} and {second}: macro AUC on fold {self.fold} differs by "
                f"{_signed(value)} (95 % interval {_signed(low)} to {_signed(high)}, p = {p:.3f})"
            )
        better, worse = (first, second) if low > 0 else (second, first)
        near, far = sorted((abs(low), abs(high)))
        return (
            f"{better} is better than {worse}: macro AUC on fold {self.fold} is higher by {abs(value):.4f} "
            f"(95 % interval {near:.4f} to {far:.4f}, p = {p:.3f})"
        )


def _signed(value: float) -> str:
    """Format a difference with its sign, and zero without one."""
    return f"{round(value, 4) + 0.0:+.4f}" if round(value, 4) else "0.0000"


def compare(
    tables: Mapping[str, pd.DataFrame],
    *,
    fold: int = TEST_FOLD,
    thresholds: tuple[Thresholds, Thresholds] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare two tables of predictions for the same records by a paired bootstrap of patients.

    Each resample draws patients and takes the difference of both on the same draw.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        The names of the two, and their predictions, in any order; see `align`.
    fold : int, default 10
        10 to report, 9 to choose.
    thresholds : tuple of two mappings, optional
        As returned by `fit_thresholds` for each; without them there is no F1.
    resamples : int, default 1000
        Bootstrap resamples of patients.
    seed : int, default 0
        Of the random numbers.

    Returns
    -------
    Comparison

    Raises
    ------
    EcgkitError
        If classes, records, patients or outcomes differ, or all records are of one patient.

    References
    ----------
    Efron and Tibshirani, "An introduction to the bootstrap" (1993), chapters 10 and 13.
    """
    first, second = tables
    reference, other = align(tables).values()
    classes, patients = class_names(reference), reference.loc[reference["fold"] == fold, "patient_id"].to_numpy()
    scores = [stats.fold_scores(table, classes, fold) for table in (reference, other)]
    if (n_patients := count_patients(patients)) < 2:
        raise EcgkitError("all records are of one patient: an interval over patients needs at least two of them")
    pairs = tuple(zip(scores, thresholds or (None, None), strict=True))
    weights = patient_weights(patients, resamples=resamples, seed=seed)
    values, drawn = [_class_metrics(*pair) for pair in pairs], [_class_metrics(*pair, weights) for pair in pairs]
    macro = {
        # Both lack the same classes in a resample, since that depends on the outcomes only: the means stay paired.
        metric: _row(*(stats.mean_of_classes(part[metric]) for part in (*values, *drawn)))
        for metric in values[0]
    }
    return Comparison(
        names=(first, second),
        fold=fold,
        n_records=len(patients),
        n_patients=n_patients,
        resamples=resamples,
        macro=pd.DataFrame.from_dict(macro, orient="index").rename_axis("metric").astype({"resamples": int}),
        classes=_class_table(scores, drawn[0]["auc"], drawn[1]["auc"]),
    )


def _class_metrics(
    scores: FoldScores, thresholds: Thresholds | None, weights: Floats | None = None
) -> dict[str, Floats]:
    """Compute the compared metrics of each class; see `stats.auc` for the shapes."""
    truth, prob = scores.y_true, scores.prob
    found = {
        "auc": stats.auc(truth, prob, weights=weights),
        "average_precision": stats.average_precision(truth, prob, weights=weights),
    }
    if thresholds is not None:
        decided = stats.decide(scores, thresholds)
        found["f1"] = stats.threshold_metrics(truth, decided, weights=weights)["f1"]
    return found


def _class_table(scores: Sequence[FoldScores], drawn_first: Floats, drawn_second: Floats) -> pd.DataFrame:
    """Compare the AUC of each class, by the bootstrap and by DeLong's test."""
    (first, second), rows = scores, {}
    for i, name in enumerate(first.classes):
        test = delong(first.y_true[:, i], first.prob[:, i], second.prob[:, i])
        n_positive, n_known = int(first.positive[:, i].sum()), int(first.known[:, i].sum())
        p = test.p if min(n_positive, n_known - n_positive) >= FEW else float("nan")  # a test for large samples
        rows[name] = _row(test.first, test.second, drawn_first[:, i], drawn_second[:, i]) | {"delong_p": p}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("class").astype({"resamples": int})
    return table.assign(p_holm=holm(table["p"]), delong_p_holm=holm(table["delong_p"]))


def _row(first: ArrayLike, second: ArrayLike, drawn_first: Floats, drawn_second: Floats) -> dict[str, float]:
    """Return the comparison of one metric as a row of a table."""
    values = {"first": float(np.asarray(first)), "second": float(np.asarray(second))}
    return values | paired_difference(first, second, drawn_first, drawn_second)


def check_same(first: Session, second: Session) -> None:
    """Refuse a session of another dataset or label set than the first."""
    config, reference = second.config, first.config
    for key in SAME:
        if config.get(key) == reference.get(key):
            continue
        shown = "dataset" if key == "dataset_fingerprint" else key
        if config.get(shown) == reference.get(shown):
            raise EcgkitError(f"its dataset {config.get(shown)} had other contents than that of {first.name}")
        raise EcgkitError(f"its {shown} is {config.get(shown)}, that of {first.name} is {reference.get(shown)}")


def is_ensemble(session: Session) -> bool:
    """Return True if a session is an ensemble of others."""
    return sessions.read_config(session).get("model") == ENSEMBLE


def class_names(predictions: pd.DataFrame) -> tuple[str, ...]:
    """Return the classes of a table of predictions, in the order of its columns."""
    return tuple(str(name).removeprefix("true_") for name in predictions if str(name).startswith("true_"))


def session_predictions(session: Session) -> pd.DataFrame:
    """Read the predictions of a session for folds 9 and 10.

    Raises
    ------
    EcgkitError
        If the session is not finished, or its table is missing or damaged.
    """
    session.check_finished()
    table = stored_predictions(session)
    return table[table["fold"].isin((VALIDATION_FOLD, TEST_FOLD))].reset_index(drop=True)


def align(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Sort tables of predictions for the same records in the order of the first.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        The name of each, and its predictions: ``record_id``, ``patient_id``, ``fold``, ``true_CLASS``,
        ``prob_CLASS``.

    Returns
    -------
    dict of str to DataFrame
        The rows of each, in the first one's order.

    Raises
    ------
    EcgkitError
        If one has other records in a fold, other classes, other patients or other true labels than the first, or has a
        record twice.
    """
    reference, *others = tables
    for name, table in tables.items():
        if table["record_id"].duplicated().any():
            raise EcgkitError(f"{name} has a record twice: pass one row per record")
    aligned = {reference: tables[reference].reset_index(drop=True)}
    for name in others:
        aligned[name] = _align_one(aligned[reference], tables[name], names=(reference, name))
    return aligned


def _align_one(reference: pd.DataFrame, table: pd.DataFrame, *, names: tuple[str, str]) -> pd.DataFrame:
    """Sort one table in the order of another, after checking that they have the same records, patients and labels."""
    of_first, of_second = class_names(reference), class_names(table)
    if set(of_first) != set(of_second):
        odd = ", ".join(sorted(set(of_first) ^ set(of_second)))
        raise EcgkitError(f"{names[0]} and {names[1]} do not have the same classes ({odd}): compare one label set")
    for fold in sorted(set(reference["fold"]) | set(table["fold"])):
        ids, others = (set(part.loc[part["fold"] == fold, "record_id"]) for part in (reference, table))
        if ids != others:
            raise EcgkitError(
                f"of the {len(ids):,} records of fold {fold} in {names[0]}, {len(ids - others):,} are missing from "
                f"{names[1]}, which has {len(others - ids):,} others: compare sessions of one dataset and label set"
            )
    ordered = table.iloc[pd.Index(table["record_id"]).get_indexer(reference["record_id"])].reset_index(drop=True)
    for what, facts in {"true labels": [f"true_{name}" for name in of_first], "patients": ["patient_id"]}.items():
        both = (part[facts].astype(object).where(part[facts].notna(), None).to_numpy() for part in (ordered, reference))
        differing = np.not_equal(*both).any(axis=1)
        if differing.any():
            raise EcgkitError(
                f"{int(differing.sum()):,} records have other {what} in {names[1]} than in {names[0]}: "
                "compare predictions for one dataset"
            )
    return ordered


def compare_sessions(
    first: Session, second: Session, *, fold: int = TEST_FOLD, resamples: int = RESAMPLES, seed: int = 0
) -> Comparison:
    """Compare two finished sessions on the records of one fold, each at its own thresholds; see `compare`.

    Parameters
    ----------
    first, second : Session
        Finished training sessions of one dataset and label set.
    fold : int, default 10
        10 to report, 9 to choose.
    resamples : int, default 1000
        Bootstrap resamples of patients.
    seed : int, default 0
        Of the random numbers.

    Returns
    -------
    Comparison

    Raises
    ------
    EcgkitError
        If one is not finished, or they do not hold the same records with the same true labels.
    """
    if first.name == second.name:
        raise EcgkitError(f"{first.name} cannot be compared with a session of the same name: name another")
    return compare(
        {session.name: session_predictions(session) for session in (first, second)},
        fold=fold,
        thresholds=(read_thresholds(first), read_thresholds(second)),
        resamples=resamples,
        seed=seed,
    )
