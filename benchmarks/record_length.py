"""Measure what a model that ships loses when recordings are short, by what they are extended with to 10 s.

    python benchmarks/record_length.py PTBXL_DATASET [--model resnet1d] [--records 1500]

``PTBXL_DATASET`` is the folder of the processed dataset (``ecgkit preprocess ptbxl``). Of its first records of fold 9
only the first 5 to 9 seconds are kept. Prints a Markdown table of macro AUCs. Computed in bfloat16 where the machine
has it and the model allows it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Literal

import numpy as np

from ecgkit import load_model
from ecgkit.datasets import open_dataset
from ecgkit.stats.ranking import macro_auc

FOLD = 9
EXTENSIONS: dict[Literal["edge", "mean", "wrap"], str] = {
    "edge": "extended with the last value",
    "mean": "with the mean",
    "wrap": "repeated from its start",
}
"""Modes of `numpy.pad`."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, metavar="PTBXL_DATASET")
    parser.add_argument("--model", default="resnet1d")
    parser.add_argument("--records", type=int, default=1500)
    arguments = parser.parse_args()
    model = load_model(arguments.model, precision="auto")
    dataset = open_dataset(arguments.dataset, label_set=model.label_set)
    positions = dataset.folds(FOLD)[: arguments.records]
    signals = dataset.signals[dataset.rows[positions]].astype(np.float32) / 1000
    truth = dataset.labels.to_numpy(np.float64, na_value=np.nan)[positions]
    rate, n_samples = dataset.sampling_rate, signals.shape[2]

    def auc(whole: np.ndarray) -> float:
        return macro_auc(truth, model.predict_proba(whole, sampling_rate=rate, anyway=True))

    print(f"{len(signals)} records, whole: {auc(signals):.4f}", flush=True)
    print("| seconds kept |", " | ".join(EXTENSIONS.values()), "|")
    print("|---" * (len(EXTENSIONS) + 1) + "|")
    for seconds in range(9, 4, -1):
        missing = ((0, 0), (0, 0), (0, n_samples - seconds * rate))
        kept = signals[:, :, : seconds * rate]
        aucs = [auc(np.pad(kept, missing, mode=mode)) for mode in EXTENSIONS]
        print(f"| {seconds} |", " | ".join(f"{value:.4f}" for value in aucs), "|", flush=True)


if __name__ == "__main__":
    main()
