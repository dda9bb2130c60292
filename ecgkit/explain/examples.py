"""Records of a dataset to explain: rightly predicted ones of each class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ecgkit.datasets import Dataset
from ecgkit.errors import EcgkitError, check_choice
from ecgkit.explain.config import ALL, split_classes
from ecgkit.inference.predictor import Predictor, QuantityPredictor
from ecgkit.signals.ecg import ECG

FOLD = 9
AT_ONCE = 64

MANY, SHOWN = 10, 5
"""Of more classes than this, so many are explained."""


def choose_classes(labels: pd.DataFrame, classes: str = "") -> list[str]:
    """Choose the classes of an explanation, in the order of the labels.

    Parameters
    ----------
    labels : DataFrame of bool, shape (records, classes)
        Of all classes of the model.
    classes : str, default ""
        As of `ecgkit.explain.config.ExplainabilityConfig`.

    Returns
    -------
    list of str
    """
    names = labels.columns.astype(str).tolist()
    if classes == ALL or not (classes or len(names) > MANY):
        return names
    chosen = split_classes(classes) or labels.sum().nlargest(SHOWN).index.tolist()
    return [name for name in names if name in chosen]


def choose_examples(
    predictor: Predictor,
    dataset: Dataset,
    *,
    per_class: int,
    classes: Sequence[str] | None = None,
    seconds: float | None = None,
    seed: int = 0,
) -> tuple[list[ECG], list[str]]:
    """Choose records of fold 9 that have a class and are predicted to have it, each of another patient.

    Parameters
    ----------
    predictor : Predictor
        The model.
    dataset : Dataset
        With the classes of the model.
    per_class : int
        Records of each class at most; of a model for a quantity, records in all.
    classes : sequence of str, optional
        Classes of the model; by default all.
    seconds : float, optional
        The beginning of each record that is taken; by default as much as the model reads at once.
    seed : int, default 0
        Of the order in which records are looked at.

    Returns
    -------
    ecgs : list of ECG
        In mV, with age and sex.
    classes : list of str
        The class of each.

    Raises
    ------
    EcgkitError
        If there is no such record.
    """
    length = round((seconds or predictor.n_samples / predictor.sampling_rate) * dataset.sampling_rate)
    order = np.random.default_rng(seed).permutation(dataset.folds(FOLD))
    patients = dataset.records["patient_id"].to_numpy()
    used, ecgs, of_class = set[str](), list[ECG](), list[str]()
    for name in predictor.classes if classes is None else classes:
        column, left = predictor.classes.index(check_choice("class", name, predictor.classes)), per_class
        is_quantity = isinstance(predictor, QuantityPredictor)
        has = np.ones(len(dataset), bool) if is_quantity else dataset.labels[name].fillna(value=False).to_numpy(bool)
        rows = order[has[order]]
        for some in (rows[i : i + AT_ONCE] for i in range(0, len(rows), AT_ONCE)):
            if not left:
                break
            found = [record(dataset, row, length) for row in some.tolist()]
            values = np.ones(len(found)) if is_quantity else predictor.predict_proba(found, anyway=True)[:, column]
            limit = 0.0 if is_quantity else predictor.thresholds[column]
            for row, ecg, value in zip(some.tolist(), found, values, strict=True):
                if left and value >= limit and patients[row] not in used:
                    used.add(patients[row])
                    ecgs.append(ecg)
                    of_class.append(name)
                    left -= 1
    if not ecgs:
        raise EcgkitError(f"{predictor.name} predicts no record of fold {FOLD} rightly: there is nothing to explain")
    return ecgs, of_class


def record(dataset: Dataset, row: int, n_samples: int | None = None) -> ECG:
    """Return one record of a dataset, or its beginning, with age and sex."""
    known = dataset.records.iloc[row]
    age, sex = known["age"], known["sex"]
    return ECG(
        dataset.signal(row)[:, :n_samples],
        dataset.sampling_rate,
        str(known["record_id"]),
        age=float(age) if np.isfinite(float(age)) else None,
        sex=sex if isinstance(sex, str) else None,
    )
