"""What a model gets wrong: classes that it puts together, its most confident mistakes, and what it hesitates over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import logit

from ecgkit import stats
from ecgkit.errors import EcgkitError, check_choice
from ecgkit.stats import Bools, Floats, FoldScores
from ecgkit.stats.calibration import CLIP
from ecgkit.stats.validation import divide

KINDS = ("missed", "false alarm")
"""A class that a record carries and the model does not predict, and one that it predicts and the record lacks."""

PLACES = ("below", "at", "above")
"""Where an example lies: among the records under the threshold, next to it, and among those over it."""

NO_CLASS = "none"


def cooccurrence_tables(scores: FoldScores, thresholds: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Compare which classes come together in truth and in the decisions of a model.

    Parameters
    ----------
    scores : FoldScores
        Outcomes and probabilities of a fold.
    thresholds : mapping
        What `ecgkit.evaluation.fit_thresholds` gave.

    Returns
    -------
    dict of str to DataFrame
        ``truth``: of the records with the row's class, the share that carries the column's, too; ``predicted``: the
        same of the decisions, so that of the records that the row's class is predicted for; ``difference``: predicted
        minus truth. Rows and columns are the classes; a class that no record has leaves its row NaN.

    Raises
    ------
    EcgkitError
        If a class has no threshold.
    """
    decided = stats.decide(scores, thresholds)
    truth, predicted = _shares(scores.y_true), _shares(decided)
    tables = {"truth": truth, "predicted": predicted, "difference": predicted - truth}
    names = list(scores.classes)
    return {key: pd.DataFrame(table, index=names, columns=names) for key, table in tables.items()}


def _shares(labels: Bools) -> Floats:
    """Give for each pair of classes the share of the records of the first that have the second."""
    both = labels.T.astype(np.float64) @ labels
    return divide(both, np.diag(both)[:, None])


def confident_mistakes(
    scores: FoldScores,
    thresholds: Mapping[str, Any],
    *,
    n: int = 8,
    kind: str | None = None,
    record_ids: ArrayLike | None = None,
) -> pd.DataFrame:
    """Find the wrong decisions that the model was most sure of.

    A mistake is the worse the more probable the calibrated model held what is not so: the probability of a class that
    the record lacks, one minus that of a class that it carries. At thresholds below 0.5, as they are for rare classes,
    the first of these are mostly misses; ask for one ``kind`` at a time to see both.

    Parameters
    ----------
    scores : FoldScores
        Outcomes and probabilities of a fold, with the calibrated ones.
    thresholds : mapping
        What `ecgkit.evaluation.fit_thresholds` gave.
    n : int, default 8
        How many at most.
    kind : {"missed", "false alarm"}, optional
        Mistakes of one kind only.
    record_ids : array-like, shape (records,), optional
        The names of the records.

    Returns
    -------
    DataFrame
        One row a mistake, the most confident first, and no record twice: of several mistakes on one record, the most
        confident. ``position`` (of the record in the scores), ``record_id`` if names were given, ``class``, ``kind``,
        ``calibrated`` (the probability of the class), ``true_labels`` and ``predicted_labels`` (such as ``"MI, STTC"``,
        or ``"none"``). Fewer rows where there are fewer mistakes.

    Raises
    ------
    EcgkitError
        If the scores have no calibrated probabilities, a class has no threshold, ``n`` is below 1, the kind is unknown,
        or there is not one name for each record.
    """
    calibrated = _calibrated(scores)
    if n < 1:
        raise EcgkitError(f"n is {n}: ask for at least one mistake")
    truth, decided = scores.y_true, stats.decide(scores, thresholds)
    wrong = truth != decided
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
        "true_labels": _labels(truth[positions], scores.classes),
        "predicted_labels": _labels(decided[positions], scores.classes),
    }
    return pd.DataFrame(_named(positions, scores, record_ids) | table)


def threshold_examples(
    scores: FoldScores, thresholds: Mapping[str, Any], *, record_ids: ArrayLike | None = None
) -> pd.DataFrame:
    """Choose for each class one record at its threshold, one below and one above, whether decided rightly or not.

    Parameters
    ----------
    scores : FoldScores
        Outcomes and probabilities of a fold, with the calibrated ones.
    thresholds : mapping
        What `ecgkit.evaluation.fit_thresholds` gave.
    record_ids : array-like, shape (records,), optional
        The names of the records.

    Returns
    -------
    DataFrame
        Up to three rows a class, in the order of ``place``: ``"below"``, the median of the records below the threshold;
        ``"at"``, the record with the least distance to it in log-odds, on either side; ``"above"``, the median of those
        at or above it. The record at the threshold is none of the others; where no record is left on a side, its row
        is left out. Then ``class``, ``position`` (of the record in the scores), ``record_id`` if names were given,
        ``prob``, ``threshold`` (which ``prob`` is compared with), ``calibrated``, ``is_true`` (whether the record
        carries the class), ``true_labels`` and ``predicted_labels``.

    Raises
    ------
    EcgkitError
        If the scores have no calibrated probabilities, a class has no threshold, or there is not one name for each
        record.
    """
    calibrated = _calibrated(scores)
    limits = stats.class_thresholds(thresholds, scores.classes)
    chosen = [
        (i, place, position)
        for i in range(len(scores.classes))
        for place, position in _around(scores.prob[:, i], limits[i]).items()
    ]
    columns, positions = np.array([i for i, _, _ in chosen]), np.array([position for _, _, position in chosen])
    first = {"class": [scores.classes[i] for i in columns], "place": [place for _, place, _ in chosen]}
    table = {
        "prob": scores.prob[positions, columns],
        "threshold": limits[columns],
        "calibrated": calibrated[positions, columns],
        "is_true": scores.y_true[positions, columns],
        "true_labels": _labels(scores.y_true[positions], scores.classes),
        "predicted_labels": _labels(stats.decide(scores, thresholds)[positions], scores.classes),
    }
    return pd.DataFrame(first | _named(positions, scores, record_ids) | table)


def _around(prob: Floats, limit: float) -> dict[str, int]:
    """Find the record nearest to a threshold, and of the others the median one on each side."""
    inside = (CLIP, 1 - CLIP)
    distance = np.abs(logit(prob.clip(*inside)) - logit(np.clip(limit, *inside)))
    nearest = int(distance.argmin())
    order = np.argsort(prob, kind="stable")
    others = order[order != nearest]
    sides = {"below": others[prob[others] < limit], "above": others[prob[others] >= limit]}
    found = {place: int(side[(len(side) - 1) // 2]) for place, side in sides.items() if len(side)} | {"at": nearest}
    return {place: found[place] for place in PLACES if place in found}


def _calibrated(scores: FoldScores) -> Floats:
    """Give the calibrated probabilities, if there are any."""
    if scores.calibrated is None:
        raise EcgkitError('the predictions have no columns "calibrated_CLASS": add them with add_calibration')
    return scores.calibrated


def _labels(labels: Bools, classes: Sequence[str]) -> list[str]:
    """Name the classes of each record."""
    return [", ".join(name for name, has in zip(classes, row, strict=True) if has) or NO_CLASS for row in labels]


def _named(positions: NDArray[np.int64], scores: FoldScores, record_ids: ArrayLike | None) -> dict[str, Any]:
    """Say which records are at these positions."""
    if record_ids is None:
        return {"position": positions}
    names = np.asarray(record_ids)
    if names.shape != (len(scores.y_true),):
        raise EcgkitError(f"{names.size:,} record_ids for {len(scores.y_true):,} records: give the name of each")
    return {"position": positions, "record_id": names[positions]}
