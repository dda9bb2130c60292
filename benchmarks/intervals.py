"""Print the macro AUC of training sessions on fold 10 with a 95 % interval, for the table of results.

    python benchmarks/intervals.py SESSION_FOLDER [SESSION_FOLDER ...]

The interval is the 2.5 and 97.5 percentile over 1,000 bootstrap resamples of patients, with all of a patient's records.
"""  # fmt: skip

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit.metrics import fold_scores, macro_auc
from ecgkit.sessions import Session
from ecgkit.store import TEST_FOLD

RESAMPLES = 1000


def interval(session: Session, seed: int = 0) -> tuple[float, float, float]:
    """Give the macro AUC of a session on fold 10 with the ends of its interval."""
    predictions = pd.read_parquet(session.path / "predictions.parquet")
    classes = [name.removeprefix("true_") for name in predictions.columns if name.startswith("true_")]
    scores = fold_scores(predictions, classes, TEST_FOLD)
    patients = predictions.loc[predictions["fold"] == TEST_FOLD, "patient_id"].to_numpy()
    rows_of = [np.flatnonzero(patients == patient) for patient in np.unique(patients)]
    random = np.random.default_rng(seed)
    values = []
    for _ in range(RESAMPLES):
        drawn = random.integers(len(rows_of), size=len(rows_of))
        rows = np.concatenate([rows_of[i] for i in drawn])
        values.append(macro_auc(scores.y_true[rows], scores.prob[rows]))
    low, high = np.percentile(values, [2.5, 97.5])
    return macro_auc(scores.y_true, scores.prob), float(low), float(high)


def main() -> None:
    """Print one line a session."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sessions", type=Path, nargs="+")
    for path in parser.parse_args().sessions:
        session = Session(path.resolve())
        value, low, high = interval(session)
        seconds = pd.read_csv(session.path / "history.csv")["seconds"].sum()
        facts = f"{session.config['model']} seed {session.config['seed']}"
        print(f"{session.name} {facts}: {value:.4f} ({low:.3f} to {high:.3f}), {seconds / 60:.1f} minutes of training")


if __name__ == "__main__":
    main()
