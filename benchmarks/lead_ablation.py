"""Measure what the shipped models lose when leads are missing, on fold 9 of PTB-XL.

    python benchmarks/lead_ablation.py PTBXL_FOLDER [--models resnet1d,xlstm,hybrid] [--resamples 500]

A missing lead is zero, as in a prediction with ``--allow-missing-leads``: each lead left out in turn, the limb leads
only (from I and II, whatever derives III, aVR, aVL and aVF), I and II without the derived ones, and single leads.
Prints a Markdown table of macro AUCs and of the differences from all twelve leads, with 95 % intervals from a bootstrap
of the patients.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgkit.datasets import Dataset, build_dataset, open_dataset
from ecgkit.inference.model_folder import SHIPPED, WEIGHTS
from ecgkit.inference.weights import TrainedModel, load_weights
from ecgkit.signals.ecg import LEADS
from ecgkit.sources.ptbxl.source import PtbXl
from ecgkit.stats.paired_tests import paired_difference
from ecgkit.stats.ranking import auc
from ecgkit.stats.resampling import patient_weights
from ecgkit.training.inference import run_over_dataset

FOLD = 9
LEAD_SETS: dict[str, tuple[str, ...]] = {
    **{f"without {lead}": tuple(other for other in LEADS if other != lead) for lead in LEADS},
    "limb leads only": LEADS[:6],
    "chest leads only": LEADS[6:],
    "I and II only": LEADS[:2],
    **{f"{lead} only": (lead,) for lead in LEADS},
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raw", type=Path, metavar="PTBXL_FOLDER")
    parser.add_argument("--models", default="resnet1d,xlstm,hybrid", help="default: resnet1d,xlstm,hybrid")
    parser.add_argument("--resamples", type=int, default=500, help="default: 500")
    arguments = parser.parse_args()
    names = arguments.models.split(",")
    with tempfile.TemporaryDirectory() as temporary:
        build_dataset(PtbXl(arguments.raw), Path(temporary) / "ptbxl")
        dataset = open_dataset(Path(temporary) / "ptbxl", label_set="superclass")
        weights = patient_weights(
            dataset.records["patient_id"].iloc[dataset.folds(FOLD)], resamples=arguments.resamples
        )
        models = {name: load_weights(SHIPPED / name / WEIGHTS) for name in names}
        whole = {name: aucs(model, dataset, LEADS, weights) for name, model in models.items()}
        print("| leads |", " | ".join(names), "|\n|---|", "---|" * len(names), sep="")
        print("| all twelve |", " | ".join(f"{value:.3f}" for value, _ in whole.values()), "|")
        for lead_set, leads in LEAD_SETS.items():
            cells = [describe(aucs(model, dataset, leads, weights), whole[name]) for name, model in models.items()]
            print(f"| {lead_set} |", " | ".join(cells), "|", flush=True)


def aucs(
    trained: TrainedModel, dataset: Dataset, leads: tuple[str, ...], weights: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Return the macro AUC with some leads, and that of each resample."""
    positions = dataset.folds(FOLD)
    stored = np.array(dataset.signals[dataset.rows[positions]])
    stored[:, [lead not in leads for lead in LEADS]] = 0
    signals: Any = stored  # in memory, instead of a memory map
    zeroed = replace(dataset, signals=signals, rows=np.arange(len(positions)))
    prob = run_over_dataset(trained, zeroed, np.arange(len(positions)), trained.predict)
    truth = dataset.labels.iloc[positions].to_numpy()
    return float(auc(truth, prob).mean()), auc(truth, prob, weights=weights).mean(axis=1)


def describe(some: tuple[float, NDArray[np.float64]], whole: tuple[float, NDArray[np.float64]]) -> str:
    """Write a macro AUC and its difference from all twelve leads."""
    lost = paired_difference(some[0], whole[0], some[1], whole[1])
    low, high = lost["difference_low"], lost["difference_high"]
    return f"{some[0]:.3f} ({lost['difference']:+.3f}, {low:+.3f} to {high:+.3f})"


if __name__ == "__main__":
    main()
