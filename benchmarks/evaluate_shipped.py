"""Evaluate the models that ship on folds 9 and 10 of PTB-XL, and the mean of their probabilities.

    python benchmarks/evaluate_shipped.py DATASET [--models resnet1d,xlstm,hybrid] [--to FOLDER] [--offsets]

``DATASET`` is the folder of the processed dataset ``ptbxl``. Calibration and thresholds are fitted on fold 9 and fold
10 is evaluated, as a training does it (1,000 bootstrap resamples of patients, seed 0). With ``--to``, the files of the
reports go into ``FOLDER/MODEL`` and ``FOLDER/ensemble``; without it, the numbers are printed. ``--offsets`` also prints
what the removal of each lead's offset changes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from ecgkit import evaluation
from ecgkit.datasets import Dataset, open_dataset
from ecgkit.evaluation.card import describe, model_card
from ecgkit.evaluation.ensembles import combine_unlabelled, fit_ensemble, weights_sha256
from ecgkit.inference.model_folder import SHIPPED, WEIGHTS
from ecgkit.inference.weights import TrainedModel, load_weights
from ecgkit.sessions import Session
from ecgkit.training.inference import predict_folds, predict_unlabelled, run_over_dataset

FOLDS = (9, 10)


def predict(trained: TrainedModel, dataset: Dataset, fold: int, *, offset: float = 0.0) -> np.ndarray:
    """Predict the records of a fold, with an offset in mV added to each lead."""
    positions = dataset.folds(fold)
    stored = dataset.signals[dataset.rows[positions]].astype(np.int32) + round(1000 * offset)
    signals: Any = np.clip(stored, -32767, 32767).astype(np.int16)  # in memory, instead of a memory map
    moved = replace(dataset, signals=signals, rows=np.arange(len(positions)))
    return run_over_dataset(trained, moved, np.arange(len(positions)), trained.predict)


def print_offsets(name: str, trained: TrainedModel, dataset: Dataset) -> None:
    """Print the macro AUC with the offset removed and kept, and with 1 mV added on fold 9."""
    kept = replace(trained, preparation=replace(trained.preparation, offset_seconds=0.0))
    for what, model in (("removed", trained), ("kept", kept)):
        for fold, offset in ((9, 0.0), (9, 1.0), (10, 0.0)):
            truth = dataset.labels.to_numpy()[dataset.folds(fold)]
            auc = roc_auc_score(truth, predict(model, dataset, fold, offset=offset), average="macro")
            print(f"{name}: fold {fold}, {offset:g} mV added, offset {what}: macro AUC {auc:.4f}", flush=True)


def report(name: str, trained: TrainedModel, dataset: Dataset, folder: Path) -> None:
    """Fit calibration and thresholds on fold 9, evaluate both folds, and write the files of a report."""
    (folder / WEIGHTS.parent).mkdir(parents=True, exist_ok=True)
    for file in (WEIGHTS, Path("config.json")):
        (folder / file).write_bytes((SHIPPED / name / file).read_bytes())
    predictions = predict_folds(trained, dataset, folds=FOLDS)
    unlabelled = predict_unlabelled(trained, dataset, folds=FOLDS)
    results = evaluation.evaluate_session(
        Session(folder), predictions, classes=dataset.classes, unlabelled=unlabelled, data=dataset
    )
    print_macro(name, results)


def print_macro(name: str, results: Mapping[str, Any]) -> None:
    """Print macro AUC and F1 with their intervals."""
    for fold in FOLDS:
        auc, f1 = (results[f"fold_{fold}"]["macro"][metric] for metric in ("auc", "f1"))
        print(f"{name}: fold {fold}: macro AUC {auc}, macro F1 {f1}", flush=True)
        counted = results["with_unlabelled"]
        auc, n_records = counted[f"fold_{fold}"]["macro"]["auc"], counted["records"][f"fold_{fold}"]
        print(f"{name}: fold {fold}, all {n_records} records: macro AUC {auc}", flush=True)


def report_ensemble(names: Sequence[str], dataset: Dataset, folder: Path) -> None:
    """Combine the models by the mean of their probabilities, and write the files of a model folder."""
    tables = {name: pd.read_parquet(folder.parent / name / "predictions.parquet") for name in names}
    ensemble = fit_ensemble(tables, "mean_prob")
    session = Session(folder)
    folder.mkdir(parents=True, exist_ok=True)
    unlabelled = combine_unlabelled([Session(folder.parent / name) for name in names], ensemble.description)
    results = evaluation.evaluate_session(
        session, ensemble.predictions, classes=dataset.classes, unlabelled=unlabelled, data=dataset
    )
    shipped = [Session(SHIPPED / name) for name in names]
    session.write_json("ensemble.json", ensemble.description | weights_sha256(shipped))
    config = {"model": "ensemble", "method": "mean_prob", "members": list(names), "label_set": "superclass", "seed": 0}
    session.write_json("config.json", config | {"dataset": dataset.name})
    members = [load_weights(SHIPPED / name / WEIGHTS) for name in names]
    model = f"mean of {', '.join(names)}"
    described = describe(Session(SHIPPED / names[0]), members[0], dataset)
    described |= {"model": model, "n_parameters": sum(member.n_parameters for member in members), "versions": {}}
    files = ("config.json", "thresholds.json", "calibration.json", "subgroups.json", "metrics.json")
    card = model_card(described, {name: session.read_json(name) for name in files}, name="ensemble")
    card = card.replace("The network was fitted on folds 1-8.", "Each network was fitted on folds 1-8, see its card.")
    card = card.replace(
        f"SHA-256 of the weights: `{described['weights_sha256']}`", "The weights are those of the members."
    )
    session.write_text("model_card.md", card)
    print_macro("ensemble", results)


def main() -> None:
    """Evaluate the models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--models", default="resnet1d,xlstm,hybrid")
    parser.add_argument("--to", type=Path)
    parser.add_argument("--offsets", action="store_true")
    arguments = parser.parse_args()
    dataset = open_dataset(arguments.dataset, label_set="superclass")
    with tempfile.TemporaryDirectory() as temporary:
        names, folder = arguments.models.split(","), arguments.to or Path(temporary)
        for name in names:
            trained = load_weights(SHIPPED / name / WEIGHTS)
            if arguments.offsets:
                print_offsets(name, trained, dataset)
            report(name, trained, dataset, folder / name)
        if len(names) > 1:
            report_ensemble(names, dataset, folder / "ensemble")


if __name__ == "__main__":
    main()
