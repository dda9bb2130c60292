"""Time the loading of the models that ship and their predictions.

    python benchmarks/inference.py [--data FOLDER] [--records 512] [--seconds 10]

Loading: `import ecgkit` and `load_model` in a fresh process, as a ratio to `import torch`; the minimum of several runs,
taken in turns. Predicting: records per second of `predict_proba`, of `embed` on ECGs, and of the embedding of a
processed dataset (which `ecgkit embed` runs), as ratios to the plain forward pass of the same network on prepared
signals; with one and with two threads, in float32 and, where the processor or the GPU has it, in bfloat16. With
``--data``, a processed dataset of PTB-XL, also the change of the macro AUC on fold 9 in bfloat16.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

import ecgkit
from ecgkit import stats
from ecgkit.inference.batches import (
    Arrays,
    default_device,
    has_bfloat16,
    prepared_batches,
    records_at_once,
    run_batches,
)
from ecgkit.inference.predictor import NetworkPredictor
from ecgkit.sources.demo import Demo

RUNS = 5
MOST = {"resnet1d": 1.5}
"""The largest ratio of loading to `import torch` that is accepted; 2 for the others."""
LEAST = 0.9
"""The smallest ratio of a prediction to the plain forward pass that is accepted."""


def time_process(code: str) -> float:
    """Return the seconds that a fresh process takes."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def measure_loading(names: list[str]) -> None:
    """Print the time to load each model as a ratio to `import torch`."""
    codes = {"import torch": "import torch"}
    codes |= {name: f"import ecgkit; ecgkit.load_model({name!r})" for name in names}
    times: dict[str, list[float]] = {name: [] for name in codes}
    for _ in range(RUNS):
        for name, code in codes.items():
            times[name].append(time_process(code))
    torch_alone = min(times["import torch"])
    print(f"import torch {torch_alone:.2f} s, minimum of {RUNS} runs")
    for name in names:
        ratio = min(times[name]) / torch_alone
        print(f"load_model({name!r}) {min(times[name]):.2f} s, {ratio:.2f} times (at most {MOST.get(name, 2)})")


def rates(calls: dict[str, Callable[[], object]], n_records: int, seconds: float) -> dict[str, float]:
    """Return the records per second of each call: the best of several runs, which are taken in turns."""
    best = dict.fromkeys(calls, float("inf"))
    for call in calls.values():
        call()
    end = time.perf_counter() + seconds * len(calls)
    while time.perf_counter() < end:
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            best[name] = min(best[name], time.perf_counter() - start)
    return {name: n_records / value for name, value in best.items()}


def measure_prediction(name: str, precision: str, signals: np.ndarray, seconds: float) -> None:
    """Print the rates of one model in one precision."""
    model = ecgkit.load_model(name, precision=precision)
    assert isinstance(model, NetworkPredictor)  # noqa: S101 - for the type checker
    trained, n_records = model.trained, len(signals)
    ecgs = [ecgkit.ECG(signal.astype(np.float32) / 1000, 100, age=50.0, sex="female") for signal in signals]
    metadata = None if trained.scaler is None else trained.scaler([50.0] * n_records, ["female"] * n_records)
    ready = list(prepared_batches(ecgs, trained.preparation, metadata, n_read=trained.n_samples))
    size = records_at_once(trained.n_samples, signals.shape[2])

    def stored() -> Iterator[Arrays]:
        for start in range(0, n_records, size):
            yield trained.preparation.network_input(signals[start : start + size]), None

    def run(batches: Iterator[Arrays], *, embedding: bool) -> np.ndarray:
        network = trained.model
        call = (lambda signal, _: network.embed(signal)) if embedding else network.forward
        return run_batches(network, batches, call, n_records=n_records, precision=precision)

    found = rates(
        {
            "plain": lambda: run(iter(ready), embedding=False),
            "plain embedding": lambda: run(iter(ready), embedding=True),
            "predict_proba": lambda: model.predict_proba(ecgs),
            "embed": lambda: model.embed(ecgs),
            "ecgkit embed": lambda: run(stored(), embedding=True),
        },
        n_records,
        seconds,
    )
    print(
        f"{name:<10}{precision:<10}{torch.get_num_threads()} threads: {found['plain']:7.1f} records/s plain; "
        f"predict_proba {found['predict_proba'] / found['plain']:.2f}, "
        f"embed {found['embed'] / found['plain embedding']:.2f}, "
        f"ecgkit embed {found['ecgkit embed'] / found['plain embedding']:.2f} times (at least {LEAST})",
        flush=True,
    )


def measure_bfloat16(name: str, folder: Path) -> None:
    """Print the change of the macro AUC on fold 9 in bfloat16."""
    from ecgkit.datasets import open_dataset

    dataset = open_dataset(folder, label_set="superclass")
    positions = dataset.folds(9)
    ages, sexes = (dataset.records[column].iloc[positions] for column in ("age", "sex"))
    ecgs = [
        ecgkit.ECG(
            dataset.signal(int(position)),
            dataset.sampling_rate,
            age=None if np.isnan(age) else age,
            sex=sex if isinstance(sex, str) else None,
        )
        for position, age, sex in zip(positions, ages.astype(float), sexes.astype(object), strict=True)
    ]
    truth = dataset.labels.to_numpy(bool)[positions]
    aucs = {
        precision: stats.macro_auc(truth, ecgkit.load_model(name, precision=precision).predict_proba(ecgs))
        for precision in ("float32", "bfloat16")
    }
    change = aucs["bfloat16"] - aucs["float32"]
    print(f"{name:<10}macro AUC on fold 9: float32 {aucs['float32']:.5f}, bfloat16 {change:+.5f}")


def main() -> None:
    """Run all measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a processed dataset of PTB-XL")
    parser.add_argument("--records", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=10.0, help="time for each rate")
    parser.add_argument("--no-loading", action="store_true", help="measure predictions only")
    arguments = parser.parse_args()
    names = [name for name in ecgkit.list_models() if not name.startswith("session_")]
    if not arguments.no_loading:
        measure_loading(names)
    source = Demo(n_records=arguments.records, seed=1)
    signals = np.stack([source.read_microvolts(record_id) for record_id in source.records["record_id"]])
    precisions = ["float32", *(["bfloat16"] if has_bfloat16(default_device()) else [])]
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        for name in names:
            for precision in precisions:
                measure_prediction(name, precision, signals, arguments.seconds)
    if arguments.data:
        for name in names:
            measure_bfloat16(name, arguments.data)


if __name__ == "__main__":
    main()
