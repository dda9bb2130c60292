"""How much of the labels can be read from an encoder's features by a linear model, next to random weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.datasets import Dataset
from ecgkit.errors import EcgkitError
from ecgkit.feature_space.probes.linear import Problem, fit_linear
from ecgkit.inference.weights import TrainedModel
from ecgkit.io import nan_as_none
from ecgkit.stats.folds import TRAIN_FOLDS, VALIDATION_FOLD
from ecgkit.stats.labels import format_interval
from ecgkit.stats.paired_tests import paired_difference
from ecgkit.stats.ranking import auc, mean_of_classes
from ecgkit.stats.resampling import RESAMPLES, patient_weights, with_interval
from ecgkit.training.inference import run_over_dataset

METRICS = "linear_probe.json"


def measure_features(
    trained: TrainedModel,
    dataset: Dataset,
    *,
    fold: int = VALIDATION_FOLD,
    seed: int = 0,
    resamples: int = RESAMPLES,
    features: Mapping[str, NDArray[np.float32]] | None = None,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Fit a linear probe for each class on folds 1-8 and score it on fold 9; the same for random weights.

    The probe is a logistic regression on the standardised features, with its penalty chosen by cross-validation over
    the patients of folds 1-8 (`ecgkit.feature_space.probes.linear.fit_linear`).

    Parameters
    ----------
    trained : TrainedModel
        The encoder.
    dataset : Dataset
        Opened with a label set.
    fold : int, default 9
        The fold to score on.
    seed : int, default 0
        Of the random weights, the splits and the resamples.
    resamples : int, default 1000
        Bootstrap resamples of the patients of this fold.
    features : mapping, optional
        What `embed_both` returns for this dataset and seed, where it is there already.

    Returns
    -------
    dict
        ``{CLASS | "macro": {"pretrained", "random": {"value", "low", "high"}, "difference": {...}}}``: AUC, and
        what `ecgkit.stats.paired_tests.paired_difference` returns; None where a class lacks an outcome in this fold.

    Raises
    ------
    EcgkitError
        If the dataset was opened without labels.
    """
    if not dataset.classes:
        raise EcgkitError(f"{dataset.name} was opened without labels: name a label set")
    scored = dataset.folds(fold)
    truth = dataset.labels.iloc[scored].to_numpy(np.float64, na_value=np.nan)
    weights = patient_weights(dataset.records["patient_id"].iloc[scored], resamples=resamples, seed=seed)
    values, drawn = {}, {}
    for name, of_records in (features or embed_both(trained, dataset, seed=seed)).items():
        scores = linear_scores(of_records, dataset, fold, seed=seed)
        values[name], drawn[name] = (
            np.append(found, np.expand_dims(mean_of_classes(found), -1), axis=-1)
            for found in (auc(truth, scores), auc(truth, scores, weights=weights))
        )
    results: dict[str, dict[str, dict[str, Any]]] = {}
    for k, label in enumerate((*dataset.classes, "macro")):
        of_class = {name: with_interval(float(values[name][k]), drawn[name][:, k]) for name in values}
        pairs = [numbers[..., k] for numbers in (*values.values(), *drawn.values())]
        results[label] = of_class | {"difference": nan_as_none(paired_difference(*pairs))}
    return results


def embed_both(
    trained: TrainedModel, dataset: Dataset, *, seed: int, progress: bool = False
) -> dict[str, NDArray[np.float32]]:
    """Return the features of all records, shape (records, features): of an encoder, and with random weights."""

    def embed(encoder: TrainedModel) -> NDArray[np.float32]:
        rows = np.arange(len(dataset))
        return run_over_dataset(
            encoder, dataset, rows, lambda signal, _: encoder.model.embed(signal), progress=progress
        )

    return {"pretrained": embed(trained), "random": embed(trained.untrained(seed))}


def linear_scores(of_records: NDArray[np.float32], dataset: Dataset, fold: int, *, seed: int) -> NDArray[np.float64]:
    """Score a fold by linear probes of the features that are fitted on folds 1-8, shape (records, classes)."""
    training, scored = dataset.folds(*TRAIN_FOLDS), dataset.folds(fold)
    labels = dataset.labels.iloc[training].to_numpy(np.float64, na_value=np.nan)
    # Of a class that folds 1-8 do not have nothing can be learned: all records score alike, an AUC of 0.5.
    problems = {k: Problem(known, is_class=True) for k, known in enumerate(labels.T) if {0.0, 1.0} <= set(known)}
    patients = dataset.records["patient_id"].to_numpy()[training]
    scores = np.zeros((len(scored), labels.shape[1]))
    for column, probe in fit_linear(of_records[training], problems, patients, seed=seed).items():
        scores[:, column] = probe.outputs(of_records[scored])[:, 0]
    return scores


def probe_table(results: dict[str, dict[str, dict[str, Any]]]) -> pd.DataFrame:
    """Tabulate what `measure_features` returns: one row per class, AUC with its interval."""

    def difference(row: dict[str, dict[str, Any]]) -> str:
        ends = {"value": "difference", "low": "difference_low", "high": "difference_high"}
        return format_interval({end: row["difference"][key] for end, key in ends.items()}, signed=True)

    return pd.DataFrame(
        {
            "pretrained": {label: format_interval(row["pretrained"]) for label, row in results.items()},
            "random weights": {label: format_interval(row["random"]) for label, row in results.items()},
            "difference": {label: difference(row) for label, row in results.items()},
        }
    )
