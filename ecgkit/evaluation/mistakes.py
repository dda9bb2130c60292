"""The errors of a model: classes that it predicts together, its most confident mistakes, and records at a threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ecgkit import stats
from ecgkit.errors import EcgkitError, check_choice
from ecgkit.stats import Bools, Floats, FoldScores
from ecgkit.stats.calibration import clipped_logit
from ecgkit.stats.validation import divide

KINDS = ("missed", "false alarm")
"""False negatives, and false positives."""

PLACES = ("below", "at", "above")
"""The position of an example relative to the threshold."""

NO_CLASS = "none"


def cooccurrence_tables(scores: FoldScores, thresholds: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Compare which classes occur together in truth and in the decisions of a model.

    Parameters
    ----------
    scores : FoldScores
        Outcomes and probabilities of a fold, including the calibrated ones.
    thresholds : mapping
        As returned by `fit_thresholds`.

    Returns
    -------
    dict of str to DataFrame
        ``truth``: the share of the records with the row's class that also carry the column's; ``predicted``: the same
        of the decisions; ``difference``: predicted minus truth. Rows and columns are the classes; a class without
        records has NaN in its row. A pair is counted over the records for which both labels are known.

    Raises
    ------
    EcgkitError
        If a class has no threshold.
    """
    decided = stats.decide(scores, thresholds) & scores.known
    truth, predicted = _shares(scores.positive, scores.known), _shares(decided, scores.known)
    tables = {"truth": truth, "predicted": predicted, "difference": predicted - truth}
    names = list(scores.classes)
    return {key: pd.DataFrame(table, index=names, columns=names) for key, table in tables.items()}


def _shares(labels: Bools, known: Bools) -> Floats:
    """Compute for each pair of classes the share of the records of the first that have the second."""
    first = labels.T.astype(np.float64)
    return divide(first @ labels, first @ known)


def confident_mistakes(
    scores: FoldScores,
    thresholds: Mapping[str, Any],
    *,
    n: int = 8,
    kind: str | None = None,
    record_ids: ArrayLike | None = None,
) -> pd.DataFrame:
    """Find the wrong decisions of which the model was most confident.

    Mistakes are ordered by the calibrated probability of a class that the record lacks, and by one minus that of a
    class that it carries. At thresholds below 0.5, as of rare classes, the first are mostly false negatives; pass a
    ``kind`` to see both.

    Parameters
    ----------
    scores : FoldScores
        Outcomes and probabilities of a fold, including the calibrated ones.
    thresholds : mapping
        As returned by `fit_thresholds`.
    n : int, default 8
        The largest number of mistakes.
    kind : {"missed", "false alarm"}, optional
        Mistakes of one kind only.
    record_ids : array-like, shape (records,), optional
        The ids of the records.

    Returns
    -------
    DataFrame
        One row per mistake, the most confident first, at most one per record: ``position`` (of the record in the
        scores), ``record_id`` if ids were passed, ``class``, ``kind``, ``calibrated`` (the probability of the class),
        ``true_labels`` and ``predicted_labels`` (such as ``"MI, STTC"``, or ``"none"``; ``"MI, HYP?"`` where HYP is
        unknown).

    Raises
    ------
    EcgkitError
        If the scores have no calibrated probabilities, a class has no threshold, ``n`` is below 1, the kind is unknown,
        or there is not one id per record.
    """
    calibrated = scores.require_calibrated()
    if n < 1:
        raise EcgkitError(f"n is {n}: give 1 or more")
    truth, decided = scores.positive, stats.decide(scores, thresholds)
    wrong = (truth != decided) & scores.known
    if kind is not None:
        wrong &= truth == (check_choice("kind", kind, KINDS) == KINDS[0])
    surprise = np.where(wrong, np.where(truth, 1 - calibrated, calibrated), -1.0)
    of_record = surprise.argmax(axis=1)
    worst = surprise.max(axis=1)
    positions = np.argsort(-worst, kind="stable")[: min(n, int((worst >= 0).sum()))]
    columns = of_record[positions]
    table = {
        "class": [scores.classes[i] for i in columns],
        "kind": [KINDS[0] if is_there else KINDS[1] for is_there in truth[positions, columns]],
        "calibrated": calibrated[positions, columns],
        "true_labels": _labels(truth[positions], scores.classes, scores.known[positions]),
        "predicted_labels": _labels(decided[positions], scores.classes),
    }
    return pd.DataFrame(_named(positions, scores, record_ids) | table)


def threshold_examples(
    scores: FoldScores, thresholds: Mapping[str, Any], *, record_ids: ArrayLike | None = None
) -> pd.DataFrame:
    """Choose for each class one record at its threshold, one below and one above, decided correctly or not.

    Parameters
    ----------
    scores : FoldScores
        Outcomes and probabilities of a fold, including the calibrated ones.
    thresholds : mapping
        As returned by `fit_thresholds`.
    record_ids : array-like, shape (records,), optional
        The ids of the records.

    Returns
    -------
    DataFrame
        Up to three rows per class, by ``place``: ``"below"``, the median of the records below the threshold; ``"at"``,
        the record nearest to it in log-odds; ``"above"``, the median of those at or above it. A side without further
        records has no row; records for which the class is unknown are not chosen. Columns ``class``, ``place``,
        ``position`` (of the record in the scores), ``record_id`` if ids were passed, ``calibrated``, ``threshold``,
        ``is_true`` (whether the record carries the class), ``true_labels`` and ``predicted_labels``.

    Raises
    ------
    EcgkitError
        If the scores have no calibrated probabilities, a class has no threshold, or there is not one name for each
        record.
    """
    calibrated = scores.require_calibrated()
    limits = stats.class_thresholds(thresholds, scores.classes)
    chosen = [
        (i, place, position)
        for i in range(len(scores.classes))
        for place, position in _around(calibrated[:, i], limits[i], np.flatnonzero(scores.known[:, i])).items()
    ]
    columns, positions = (np.array([one[k] for one in chosen], np.int64) for k in (0, 2))
    first = {"class": [scores.classes[i] for i in columns], "place": [place for _, place, _ in chosen]}
    table = {
        "calibrated": calibrated[positions, columns],
        "threshold": limits[columns],
        "is_true": scores.positive[positions, columns],
        "true_labels": _labels(scores.positive[positions], scores.classes, scores.known[positions]),
        "predicted_labels": _labels(stats.decide(scores, thresholds)[positions], scores.classes),
    }
    return pd.DataFrame(first | _named(positions, scores, record_ids) | table)


def _around(prob: Floats, limit: float, rows: NDArray[np.int64]) -> dict[str, int]:
    """Find among some records the one nearest to a threshold, and the median of the others on each side."""
    if not len(rows):
        return {}
    distance = np.abs(clipped_logit(prob[rows]) - clipped_logit(np.array(limit)))
    nearest = int(rows[distance.argmin()])
    order = rows[np.argsort(prob[rows], kind="stable")]
    others = order[order != nearest]
    sides = {"below": others[prob[others] < limit], "above": others[prob[others] >= limit]}
    found = {place: int(side[(len(side) - 1) // 2]) for place, side in sides.items() if len(side)} | {"at": nearest}
    return {place: found[place] for place in PLACES if place in found}


def _labels(labels: Bools, classes: Sequence[str], known: Bools | None = None) -> list[str]:
    """Name the classes of each record, with a question mark those that are unknown."""
    marks = np.where(labels, "", "?")
    shown = labels if known is None else labels | ~known
    rows = (
        [f"{name}{mark}" for name, mark, is_shown in zip(classes, *row, strict=True) if is_shown]
        for row in zip(marks, shown, strict=True)
    )
    return [", ".join(names) or NO_CLASS for names in rows]


def _named(positions: NDArray[np.int64], scores: FoldScores, record_ids: ArrayLike | None) -> dict[str, Any]:
    """Return the positions, and the ids of their records."""
    if record_ids is None:
        return {"position": positions}
    names = np.asarray(record_ids)
    if names.shape != (len(scores.y_true),):
        raise EcgkitError(f"{names.size:,} record_ids for {len(scores.y_true):,} records: pass one per record")
    return {"position": positions, "record_id": names[positions]}
