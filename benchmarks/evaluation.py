"""Compare the bootstrap of all metrics with a loop over scikit-learn, on as many records as fold 10 of PTB-XL has.

    python benchmarks/evaluation.py [--records N] [--classes N] [--sample N]

The predictions are simulated. The loop computes for each resample those of the metrics that scikit-learn has (AUC,
average precision, precision, recall and F1 of each class); it is measured on some of the resamples and scaled.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd
import sklearn.metrics

from ecgkit import evaluation, stats
from ecgkit.stats.resampling import RESAMPLES, patient_weights

SECONDS_TARGET = 5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=2158, help="records of each fold (default: 2158)")
    parser.add_argument("--classes", type=int, default=5, help="default: 5")
    parser.add_argument("--sample", type=int, default=20, help="resamples of the loop (default: 20)")
    arguments = parser.parse_args()
    predictions, classes = simulated(arguments.records, arguments.classes)
    calibration = evaluation.fit_calibration(predictions, classes)
    thresholds = evaluation.fit_thresholds(predictions, classes, calibration)
    scores = stats.fold_scores(evaluation.add_calibration(predictions, calibration, classes), classes, 10)
    patients = predictions.loc[predictions["fold"] == 10, "patient_id"].to_numpy()
    start = time.perf_counter()
    entries, _ = evaluation.fold_report(scores, thresholds, patients)
    ours = time.perf_counter() - start
    decided = stats.decide(scores, thresholds)
    weights = patient_weights(patients, resamples=arguments.sample).astype(int)
    start = time.perf_counter()
    for row in weights:
        loop(
            np.repeat(scores.y_true, row, axis=0), np.repeat(scores.prob, row, axis=0), np.repeat(decided, row, axis=0)
        )
    theirs = (time.perf_counter() - start) / arguments.sample * RESAMPLES
    n_numbers = sum(len(group) for group in entries.values())
    print(f"{arguments.records:,} records, {arguments.classes} classes, {RESAMPLES:,} resamples, {n_numbers} metrics")
    print(f"ecgkit {ours:.2f} s (target: under {SECONDS_TARGET} s, met: {'yes' if ours < SECONDS_TARGET else 'NO'})")
    print(f"loop over scikit-learn, fewer metrics: {theirs:.0f} s, {theirs / ours:.0f} times as long")


def simulated(n_records: int, n_classes: int) -> tuple[pd.DataFrame, list[str]]:
    """Simulate predictions for folds 9 and 10, with about 1.15 records per patient."""
    rng = np.random.default_rng(0)
    n = 2 * n_records
    classes = [f"C{i}" for i in range(n_classes)]
    table = {"record_id": np.arange(n), "patient_id": (np.arange(n) / 1.15).astype(int)}
    table["fold"] = np.where(np.arange(n) < n_records, 9, 10)
    for name in classes:
        truth = rng.random(n) < 0.25
        table |= {f"true_{name}": truth, f"prob_{name}": 1 / (1 + np.exp(-rng.normal(3 * truth - 2, 1.2)))}
    return pd.DataFrame(table), classes


def loop(truth: np.ndarray, prob: np.ndarray, decided: np.ndarray) -> None:
    """Compute some of the metrics of one resample with scikit-learn."""
    sklearn.metrics.roc_auc_score(truth, prob, average=None)
    sklearn.metrics.average_precision_score(truth, prob, average=None)
    sklearn.metrics.precision_recall_fscore_support(truth, decided, zero_division=0)


if __name__ == "__main__":
    main()
