"""The metrics of a fold by sex, age, device, noise and co-morbidity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.evaluation.fold import bootstrap_description, fold_metrics
from ecgkit.stats import Bools, Floats, FoldScores
from ecgkit.stats.resampling import RESAMPLES, metric_intervals, several_patients, with_interval
from ecgkit.stats.subgroups import widest_gap

SUBGROUPS_VERSION = 1
"""The version of the layout of ``subgroups.json``."""

MIN_RECORDS = 50
"""A group with fewer records is small."""

MIN_OUTCOMES = 10
"""The fewest positives, and negatives, of a class on which groups are compared."""

MIN_DEVICE_RECORDS = 20
"""Devices with fewer records are put together."""

OTHER_DEVICES = "other"
SEXES = ("female", "male")
AGE_EDGES = (40.0, 60.0, 75.0)
AGE_BANDS = ("under 40", "40 to 59", "60 to 74", "75 and over")
NOISE_COLUMNS = ("baseline_drift", "static_noise", "burst_noise", "electrodes_problems")
NOISE = ("none noted", "noted")
ANNOTATIONS = ("device", "site", "recording_date", "validated_by_human", "report")
"""A record with none of them was not annotated at all, so that its noise is unknown."""

COMORBIDITY = ("no class", "one class", "several classes")

RULES = {
    "macro": "A macro mean is over the classes that are defined in the group, in each resample by itself; a class "
    "without positives or without negatives in the group has no AUC and is named under classes_without_auc.",
    "is_small": f"A group is small if it has fewer than {MIN_RECORDS} records, or no class with at least "
    f"{MIN_OUTCOMES} positives and {MIN_OUTCOMES} negatives.",
    "gaps": f"The best and the worst of the groups that are not small and have at least {MIN_OUTCOMES} positives and "
    f"{MIN_OUTCOMES} negatives of the class. For the macro AUC, of those that have them for at least half of the "
    "classes for which the whole fold has them, and over the classes that they all have. The interval allows for the "
    "choice of the two among all pairs of groups.",
    "unknown": "Records with a blank are in none of the groups of a division; in the columns on noise, a blank means "
    "that none was noted, unless nothing else was noted about the recording either. A record with an unknown label has "
    "no co-morbidity, and is left out of the metrics of the classes for which it is unknown.",
    "comorbidity": "The groups of co-morbidity are defined by the outcomes themselves, so that each has another mix of "
    "positives and negatives: a difference between them is not one between patients who are known beforehand.",
}
"""How to read ``subgroups.json``, which contains these sentences."""


@dataclass(frozen=True)
class _Fold:
    """The data from which the metrics of any group of a fold's records are computed."""

    scores: FoldScores
    thresholds: Mapping[str, Any]
    patients: NDArray[Any]
    weights: Floats


@dataclass(frozen=True)
class _Group:
    """A group's entry in the report, and the AUC of its classes: (classes,), and drawn, (resamples, classes)."""

    entry: dict[str, Any]
    auc: Floats
    drawn: Floats
    comparable: Bools


def subgroup_report(
    scores: FoldScores, records: pd.DataFrame, thresholds: Mapping[str, Any], *, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """Compute every metric of a fold in each group of patients or recordings, and the gaps between the groups.

    The divisions are ``sex``, ``age_band``, ``device``, ``noise`` (whether an annotator noted any in the recording)
    and ``comorbidity`` (how many classes of the label set a record carries); those that the records have no column for
    are left out. One bootstrap of the fold's patients serves all groups, so that all intervals are paired.

    Parameters
    ----------
    scores : FoldScores
        Outcomes and probabilities of the fold, including the calibrated ones.
    records : DataFrame
        The same records in the same order: ``patient_id`` and, where known, ``sex``, ``age``, ``device`` and the
        columns `NOISE_COLUMNS`. A blank is unknown, except in the columns on noise, where it means that none was noted.
    thresholds : mapping
        As returned by `fit_thresholds`.
    resamples : int, default 1000
        Bootstrap resamples of patients.

    Returns
    -------
    dict
        The contents of ``subgroups.json``: ``version``, ``fold``, ``classes``, ``rules`` (how to read it, in
        sentences), ``all`` (the whole fold, as a group), ``divisions`` and ``bootstrap``. A division has its ``title``,
        the number of ``unknown`` records, ``groups`` and ``gaps``.

        A group has ``n_records``, ``n_patients``, ``n_positive`` (class to number), ``is_small`` (fewer than 50
        records, or no class with ten positives and ten negatives), ``comparable_classes`` (with ten of each),
        ``classes_without_auc`` (without positives or negatives, left out of macro means) and ``metrics`` as a fold of
        ``metrics.json``. Devices with fewer than 20 records are the group ``other``, with ``n_devices``.

        ``gaps`` has for ``macro`` and each class the AUC of the groups that can be compared: ``groups`` (name to
        ``{"value", "low", "high"}``), ``not_compared`` (the names of the others), ``classes`` (the classes of the mean,
        the same for every group), ``best``, ``worst``, and ``difference`` with the interval of
        `ecgkit.stats.subgroups.widest_gap`. None if fewer than two groups can be compared; see ``rules``.

    Raises
    ------
    EcgkitError
        If there is not one record per score, or a threshold or the calibrated probabilities are missing.
    """
    if len(records) != len(scores.prob):
        raise EcgkitError(f"{len(scores.prob):,} scores and {len(records):,} records: pass one of each per record")
    patients = records["patient_id"].to_numpy()
    fold = _Fold(scores, thresholds, patients, several_patients(patients, resamples=resamples))
    divisions = {name: _divide(fold, *division) for name, division in _divisions(records, scores).items()}
    if other := divisions.get("device", {"groups": {}})["groups"].get(OTHER_DEVICES):
        counts = pd.Series(_text(records["device"])).value_counts()
        other |= {"n_devices": int((counts < MIN_DEVICE_RECORDS).sum())}
    return {
        "version": SUBGROUPS_VERSION,
        "fold": f"fold_{scores.fold}",
        "classes": list(scores.classes),
        "rules": RULES,
        "all": _measure(fold, np.ones(len(records), dtype=bool)).entry,
        "divisions": divisions,
        "bootstrap": bootstrap_description(patients, resamples),
    }


def _divisions(records: pd.DataFrame, scores: FoldScores) -> dict[str, tuple[str, Any]]:
    """Divide the records in every way for which there is a column: the title, and the group of each record."""
    divisions: dict[str, tuple[str, Any]] = {}
    if "sex" in records:
        divisions["sex"] = ("sex", pd.Categorical(_text(records["sex"]), SEXES))
    if "age" in records:
        age = pd.to_numeric(records["age"]).to_numpy(dtype="float64", na_value=np.nan)
        divisions["age_band"] = ("age band", pd.cut(age, [-np.inf, *AGE_EDGES, np.inf], right=False, labels=AGE_BANDS))
    if "device" in records:
        divisions["device"] = ("recording device", _devices(_text(records["device"])))
    if set(NOISE_COLUMNS) & set(records):
        divisions["noise"] = ("noise", pd.Categorical(noted_noise(records), NOISE))
    n_classes = np.where(scores.known.all(axis=1), scores.positive.sum(axis=1).clip(max=2), -1).astype(np.int64)
    return divisions | {"comorbidity": ("co-morbidity", pd.Categorical.from_codes(n_classes, pd.Index(COMORBIDITY)))}


def _devices(device: NDArray[np.object_]) -> pd.Categorical:
    """Divide by device, the most frequent first, the rare ones together."""
    counts = pd.Series(device).value_counts().sort_index().sort_values(ascending=False, kind="stable")
    frequent = [name for name in counts.index[counts >= MIN_DEVICE_RECORDS] if name != OTHER_DEVICES]
    named = pd.Series(device).where(lambda names: names.isin(frequent) | names.isna(), OTHER_DEVICES)
    return pd.Categorical(named, [*frequent, OTHER_DEVICES])


def noted_noise(records: pd.DataFrame) -> NDArray[np.object_]:
    """Return for each record whether an annotator of the ECG noted noise.

    Parameters
    ----------
    records : DataFrame
        Records with some of the columns `NOISE_COLUMNS` and `ANNOTATIONS`.

    Returns
    -------
    ndarray of object, shape (records,)
        One of `NOISE`, or None where it is unknown: nothing else was noted about the recording either.
    """
    noted = _any_text(records, NOISE_COLUMNS)
    known = noted | (_any_text(records, ANNOTATIONS) if set(ANNOTATIONS) & set(records) else True)
    named = np.array(NOISE, dtype=object)[noted.astype(int)]
    named[~known] = None
    return named


def _any_text(records: pd.DataFrame, names: Sequence[str]) -> Bools:
    """Return which records have text in one of the existing columns."""
    there = [pd.notna(_text(records[name])) for name in names if name in records]
    return np.any([np.zeros(len(records), bool), *there], axis=0)


def _text(column: pd.Series) -> NDArray[np.object_]:
    """Return a column of text with None for missing and blank values."""
    stripped = column.astype("string").str.strip()
    return stripped.mask(stripped == "").to_numpy(dtype=object, na_value=None)  # type: ignore[call-overload] # None is what pandas takes


def _divide(fold: _Fold, title: str, group_of: pd.Categorical) -> dict[str, Any]:
    """Compute the metrics of each group of a division, and the gaps between them."""
    groups = {str(name): _measure(fold, group_of == name) for name in group_of.categories if (group_of == name).any()}
    return {
        "title": title,
        "unknown": int(group_of.isna().sum()),
        "groups": {name: group.entry for name, group in groups.items()},
        "gaps": _gaps(groups, fold.scores),
    }


def _measure(fold: _Fold, rows: Bools) -> _Group:
    """Compute every metric of some of the records, with intervals from the resamples of the whole fold."""
    scores, classes = fold.scores.take(rows), fold.scores.classes
    values = fold_metrics(scores, fold.thresholds)
    drawn = fold_metrics(scores, fold.thresholds, weights=fold.weights[:, rows])
    n_records, n_positive, comparable = len(scores.prob), scores.positive.sum(axis=0), _comparable(scores)
    auc = np.array([values[name]["auc"] for name in classes])
    entry = {
        "n_records": n_records,
        "n_patients": len(np.unique(fold.patients[rows])),
        "n_positive": dict(zip(classes, n_positive.tolist(), strict=True)),
        "is_small": bool(n_records < MIN_RECORDS or not comparable.any()),
        "comparable_classes": [name for name, enough in zip(classes, comparable, strict=True) if enough],
        "classes_without_auc": [name for name, value in zip(classes, auc, strict=True) if np.isnan(value)],
        "metrics": metric_intervals(values, drawn),
    }
    return _Group(entry, auc, np.stack([drawn[name]["auc"] for name in classes], axis=1), comparable)


def _comparable(scores: FoldScores) -> Bools:
    """Return for which classes there are enough positives and negatives to compare an AUC."""
    n_positive = scores.positive.sum(axis=0)
    enough: Bools = np.minimum(n_positive, scores.known.sum(axis=0) - n_positive) >= MIN_OUTCOMES
    return enough


def _gaps(groups: Mapping[str, _Group], scores: FoldScores) -> dict[str, Any]:
    """Compare the groups by their macro AUC, and by the AUC of each class."""
    large = {name: group for name, group in groups.items() if not group.entry["is_small"]}
    half = _comparable(scores).sum() / 2
    broad = {name: group for name, group in large.items() if group.comparable.sum() >= half}
    gaps = {"macro": _gap(broad, list(groups), scores.classes)}
    for i, name in enumerate(scores.classes):
        chosen = {key: _of_class(group, i) for key, group in large.items() if group.comparable[i]}
        gaps[name] = _gap(chosen, list(groups), (name,))
    return gaps


def _of_class(group: _Group, i: int) -> _Group:
    """Return a group with only one of its classes."""
    return replace(group, auc=group.auc[[i]], drawn=group.drawn[:, [i]], comparable=group.comparable[[i]])


def _gap(groups: Mapping[str, _Group], names: list[str], classes: tuple[str, ...]) -> dict[str, Any] | None:
    """Compare groups by their mean AUC over the classes that are comparable in all of them."""
    chosen = np.all([group.comparable for group in groups.values()], axis=0)
    if len(groups) < 2 or not chosen.any():
        return None
    values = {name: float(group.auc[chosen].mean()) for name, group in groups.items()}
    drawn = {name: group.drawn[:, chosen].mean(axis=1) for name, group in groups.items()}
    best, worst, difference = widest_gap(values, drawn)
    return {
        "classes": [name for name, is_chosen in zip(classes, chosen, strict=True) if is_chosen],
        "groups": {name: with_interval(values[name], drawn[name]) for name in groups},
        "not_compared": [name for name in names if name not in groups],
        "best": best,
        "worst": worst,
        "difference": difference,
    }
