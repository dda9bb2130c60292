"""Fit `reference.json` of the models that ship, and measure which input is found to be unlike their training records.

    python benchmarks/unlike_training.py PTBXL_DATASET [--models resnet1d,hybrid,xlstm] [--fit] [--planted 500]

``PTBXL_DATASET`` is the folder of the processed dataset (``ecgkit preprocess ptbxl``). ``--fit`` writes the files, from
folds 1-8 with the limit of fold 9. Then a Markdown table is printed, one column per model and, of several models, one
for their mean, the ensemble: the share in percent that is beyond the limit, with 95 % intervals (Wilson), of the
records of fold 9 with and without a note on noise or electrodes, and of the first ``--planted`` records without one in
which each fault of `benchmarks/quality.py` is planted, or which are replaced by something that is no ECG. Computed in
bfloat16 where the machine has it and the model allows it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from quality import FAULTS, NOTES, Random, Signal, from_electrodes, share

from ecgkit import load_model
from ecgkit.datasets import Dataset, open_dataset
from ecgkit.inference.batches import run_batches
from ecgkit.inference.model_folder import SHIPPED
from ecgkit.inference.predictor import NetworkPredictor
from ecgkit.inference.reference import N_FITTED, REFERENCE, Reference, fit_reference
from ecgkit.io import json_bytes, write_atomically

N = 1000
TIMES = np.arange(N) / 100
IN_LEADS = np.array([1.0, 1.3, 0.3, -1.15, 0.35, 0.8, 0.6, 1.2, 1.3, 1.2, 1.0, 0.8])
"""How large a wave is in each lead."""


def wave(random: Random, shape: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Signal:
    """Return a periodic wave of 50 to 120 per minute in all leads."""
    phase = 2 * np.pi * random.uniform(0.8, 2) * TIMES + random.uniform(0, 6)
    return np.outer(IN_LEADS, 0.5 * shape(phase)).astype(np.float32)


def tiled(signal: Signal, _: Random) -> Signal:
    """Repeat the first 2.5 s four times."""
    return np.tile(signal[:, : N // 4], 4)


def photograph(signal: Signal, random: Random) -> Signal:
    """Return what a digitised print has: 2.5 s per lead, three leads each, steps of a pixel, blur, a tilted page."""
    columns = [np.tile(signal[3 * i : 3 * i + 3, N // 4 * i : N // 4 * (i + 1)], 4) for i in range(4)]
    steps = np.round(np.vstack(columns) / 0.05) * 0.05
    return (steps + random.normal(0, 0.02, steps.shape) + np.linspace(0, random.uniform(-0.5, 0.5), N)).astype("f4")


def without_phases(signal: Signal, random: Random) -> Signal:
    """Return noise with the spectrum of each lead."""
    spectrum = np.fft.rfft(signal, axis=1)
    return np.fft.irfft(spectrum * np.exp(1j * random.uniform(0, 2 * np.pi, spectrum.shape[1])), N, axis=1).astype("f4")


NO_ECG: dict[str, Callable[[Signal, Random], Signal]] = {
    "white noise of 0.3 mV": lambda _, r: r.normal(0, 0.3, (12, N)).astype(np.float32),
    "noise of 0.2 mV at the electrodes": lambda _, r: from_electrodes(r.normal(0, 0.2, (9, N))),
    "random walk at the electrodes": lambda _, r: from_electrodes(np.cumsum(r.normal(0, 0.03, (9, N)), 1)),
    "sine": lambda _, r: wave(r, np.sin),
    "square wave": lambda _, r: wave(r, lambda phase: np.sign(np.sin(phase))),
    "noise with the spectrum of an ECG": without_phases,
    "all twelve leads shuffled": lambda s, r: s[r.permutation(12)],
    "twelve times II": lambda s, _: np.repeat(s[1:2], 12, axis=0),
    "photograph-like trace": photograph,
    "10 s made of 2.5 s tiled": tiled,
    "backwards in time": lambda s, _: s[:, ::-1].copy(),
    "three times as large": lambda s, _: 3 * s,
    "the first 2.5 s": lambda s, _: s[:, : N // 4],
    "the first 5 s": lambda s, _: s[:, : N // 2],
}


def features(model: NetworkPredictor, signals: list[Signal]) -> NDArray[np.float32]:
    """Return the features of signals in mV at 100 Hz."""
    stored = [np.round(np.nan_to_num(signal) * 1000).clip(-32767, 32767).astype(np.int16) for signal in signals]
    trained = model.faster
    batches = (
        (trained.preparation.network_input(np.stack(stored[i : i + 64])), None) for i in range(0, len(stored), 64)
    )
    call = trained.model.embed
    return run_batches(trained.model, batches, lambda x, _: call(x), n_records=len(stored), precision=model.precision)


def read(dataset: Dataset, positions: NDArray[np.int64]) -> list[Signal]:
    """Return records in mV."""
    return list((dataset.signals[dataset.rows[positions]] / 1000).astype(np.float32))


def fit(model: NetworkPredictor, dataset: Dataset) -> Reference:
    """Fit and write the reference of a model, as every training does at its end."""
    drawn = np.random.default_rng(0).permutation(dataset.folds(*range(1, 9)))[:N_FITTED]
    validation = dataset.folds(9)
    text = f"{len(drawn)} records of folds 1-8 of ptbxl; limit of {len(validation)} records of fold 9"
    training, limiting = (features(model, read(dataset, positions)) for positions in (drawn, validation))
    reference = fit_reference(training, limiting, text)
    write_atomically(SHIPPED / model.name / REFERENCE, json_bytes(reference.contents()))
    return reference


def main() -> None:
    """Fit if asked for, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, metavar="PTBXL_DATASET")
    parser.add_argument("--models", default="resnet1d,hybrid,xlstm")
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--planted", type=int, default=500, help="records (default: 500)")
    arguments = parser.parse_args()
    dataset = open_dataset(arguments.dataset, label_set="superclass")
    positions = dataset.folds(9)
    is_clean = dataset.records.iloc[positions][NOTES].isna().all(axis=1).to_numpy()
    base = read(dataset, positions[is_clean][: arguments.planted])
    groups = {"fold 9 without a note": read(dataset, positions[is_clean])}
    groups["fold 9 with a note on noise or electrodes"] = read(dataset, positions[~is_clean])
    for name, plant in {**NO_ECG, **{name: plant for name, (_, plant) in FAULTS.items()}}.items():
        random = np.random.default_rng(1)
        planted = [plant(signal, random) for signal in base]
        groups[name] = [signal for signal in planted if not isinstance(signal, tuple)]  # hum is at 500 Hz
    distances: dict[str, list[NDArray[np.float64]]] = {name: [] for name, signals in groups.items() if signals}
    models = arguments.models.split(",")
    for name in models:
        model = load_model(name, precision="auto")
        assert isinstance(model, NetworkPredictor)  # noqa: S101 - for the type checker
        reference = fit(model, dataset) if arguments.fit else model.reference
        assert reference is not None  # noqa: S101 - for the type checker
        for group, found in distances.items():
            found.append(reference.distance(features(model, groups[group])))
    columns = [*models, "ensemble"] if len(models) > 1 else models
    print("| input |", " | ".join(columns), "|\n|---|", "---|" * len(columns), sep="")
    for group, found in distances.items():
        each = [*found, np.mean(found, axis=0)][: len(columns)]
        shares = [share(int(np.sum(distance > 1)), len(distance)) for distance in each]
        print(f"| {group} |", " | ".join(shares), "|")


if __name__ == "__main__":
    main()
