"""Distillation: soft labels of folds 1-8 by models that have not seen the record's patient, and their use in a loss."""

from __future__ import annotations

import io
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit import paths
from ecgkit.datasets import Dataset
from ecgkit.errors import EcgkitError
from ecgkit.io import file_sha256, read_table, write_atomically
from ecgkit.sessions import Session
from ecgkit.stats import macro_auc
from ecgkit.stats.folds import TRAIN_FOLDS, VALIDATION_FOLD
from ecgkit.stats.identifiers import patient_keys
from ecgkit.training.config import TrainingConfig
from ecgkit.training.data import training_data
from ecgkit.training.inference import open_trained, predict_folds

DIGITS = 4
"""Decimals of a stored probability."""
SHARED = ("dataset", "label_set", "classes")
"""What all members have in common."""
WAY_OUT = "make it again with `ecgkit soft-labels`"


def soft_labels(members: Sequence[Session], root: Path) -> pd.DataFrame:
    """Predict folds 1-8, each record by the trainings that held out its fold, and average.

    Parameters
    ----------
    members : sequence of Session
        Finished trainings of one dataset and label set with ``hold_out_folds``, which together hold out folds 1-8.
    root : Path
        The folder of data sets and sessions.

    Returns
    -------
    DataFrame
        ``record_id``, ``fold``, and for each class the mean probability over the members; records without a label of
        the set too. ``attrs`` describes dataset, classes and members, and the macro AUC of all these predictions.

    Raises
    ------
    EcgkitError
        If a member has seen a patient that it is to predict, the members differ, or a fold is not predicted.

    References
    ----------
    Hinton et al. (2015), "Distilling the knowledge in a neural network", arXiv:1503.02531.
    """
    if not members:
        raise EcgkitError("no member is named: name trainings with --hold-out-folds")
    tables: list[pd.DataFrame] = []
    described: list[dict[str, Any]] = []
    for session in members:
        table, facts = _predict_held_out(session, root)
        if described and any(facts[key] != described[0][key] for key in SHARED):
            raise EcgkitError(f"{session.name} has another dataset or label set than {members[0].name}: leave one out")
        tables.append(table)
        described.append(facts)
    together = pd.concat(tables, ignore_index=True)
    if missing := sorted(set(TRAIN_FOLDS) - set(together["fold"])):
        folds = " ".join(map(str, missing))
        raise EcgkitError(f"no member predicts fold {folds}: add a training with --hold-out-folds {folds}")
    classes = described[0]["classes"]
    means = together.groupby("record_id", sort=False).mean(numeric_only=True).reset_index()
    labelled = means[[f"true_{name}" for name in classes]].to_numpy(np.float64, na_value=np.nan)
    found = means[["record_id", "fold"]].astype({"fold": "int64"})
    for name in classes:
        found[name] = means[f"prob_{name}"].round(DIGITS).astype(np.float32)
    auc = macro_auc(labelled, means[[f"prob_{name}" for name in classes]].to_numpy())
    common: dict[Hashable, Any] = {key: described[0][key] for key in SHARED}
    own = [{key: value for key, value in facts.items() if key not in SHARED} for facts in described]
    found.attrs = common | {"macro_auc": round(auc, 4), "members": own}
    return found


def _predict_held_out(session: Session, root: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Predict the folds that a training held out; refuse one that has seen a patient of these in any way."""
    opened = open_trained(session, root, test=False)
    config, held_out = opened.config, tuple(opened.config.hold_out_folds)
    if not held_out:
        raise EcgkitError(f"{session.name} has seen folds 1-8: train members with --hold-out-folds")
    if config.init or config.distill:
        name = "init" if config.init else "distill"
        raise EcgkitError(f"{session.name} was trained with {name}, which may have seen its folds: train without")
    whole = training_data(
        replace(config, hold_out_folds=[], train_fraction=1.0, unlabelled="negative"), root, test=False
    )
    predicted = predict_folds(opened.trained, whole, folds=held_out)
    seen = opened.dataset.records.loc[opened.dataset.folds(*TRAIN_FOLDS, VALIDATION_FOLD), "patient_id"]
    if shared := sorted({*patient_keys(predicted["patient_id"])} & {*patient_keys(seen)}):
        raise EcgkitError(
            f"{session.name} has seen patient {shared[0]}, whom it is to predict: assign folds by patient"
        )
    return predicted, {
        "dataset": whole.name,
        "label_set": config.label_set,
        "classes": list(whole.classes),
        "session": session.name,
        "model": opened.trained.name,
        "seed": config.seed,
        "trained_on": [fold for fold in TRAIN_FOLDS if fold not in held_out],
        "predicts": list(held_out),
        "weights_sha256": file_sha256(session.best_weights),
    }


def write_soft_labels(members: Sequence[str], root: Path, file: Path) -> pd.DataFrame:
    """Write the table of `soft_labels` as Parquet, with its description, and return it."""
    from ecgkit import sessions

    table = soft_labels([sessions.open_finished(name, paths.TRAINING, root) for name in members], root)
    data = io.BytesIO()
    table.to_parquet(data, index=False, compression="zstd")
    write_atomically(file, data.getvalue())
    return table


def soften(labels: NDArray[np.float32], dataset: Dataset, config: TrainingConfig) -> NDArray[np.float32]:
    """Mix the labels of folds 1-8 with soft labels; the others, and what is unknown, stay as they are.

    Parameters
    ----------
    labels : ndarray of float32, shape (records, classes)
        Of the dataset, NaN where unknown.
    dataset : Dataset
        What is trained on.
    config : TrainingConfig
        With ``distill`` and ``distill_weight``, the share of the soft labels.

    Returns
    -------
    ndarray of float32, shape (records, classes)

    Raises
    ------
    EcgkitError
        If the file cannot be read, lacks a class or a record of folds 1-8, or was made for other folds.
    """
    wanted: Mapping[str, str] = {"record_id": "any"} | dict.fromkeys(dataset.classes, "number")
    table = read_table(config.distill, wanted, way_out=WAY_OUT).set_index("record_id")
    positions = dataset.folds(*TRAIN_FOLDS)
    ids = dataset.records["record_id"].iloc[positions]
    found = table[~table.index.duplicated()].reindex(ids)
    soft = found[list(dataset.classes)].to_numpy(np.float32)
    if not ((soft >= 0) & (soft <= 1)).all():
        n_missing = int(np.isnan(soft).any(axis=1).sum())
        raise EcgkitError(
            f"{config.distill} has no probabilities of {n_missing} of {len(ids)} records of folds 1-8 of "
            f"{dataset.name}, or some that are outside 0 to 1: {WAY_OUT}"
        )
    if "fold" in found and (found["fold"].to_numpy() != dataset.records["fold"].iloc[positions].to_numpy()).any():
        raise EcgkitError(
            f"{config.distill} was made for other folds than those of {dataset.name}, so that its models may have seen "
            f"fold 9 or 10: {WAY_OUT}"
        )
    mixed = labels.copy()
    mixed[positions] = (1 - config.distill_weight) * labels[positions] + config.distill_weight * soft
    return mixed
