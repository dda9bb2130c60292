"""Measure embeddings and the search for similar ECGs, each beside the plain way in the same run.

    python benchmarks/feature_space.py [--records N] [--model MODEL]

The signals are made up, as long as those of PTB-XL at 100 Hz, and read as a model of 2.5 s reads them. The plain way to
embed is one record at a time; the plain search is scikit-learn's, by brute force.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler, normalize

from ecgkit.datasets.store import Dataset, build, open_dataset
from ecgkit.feature_space.layers import embed_layers, layer_names
from ecgkit.feature_space.similar import SimilarRecords
from ecgkit.inference.weights import TrainedModel
from ecgkit.models import create_model
from ecgkit.signals.prepare import Preparation
from ecgkit.sources import Demo
from ecgkit.training import embed

RATE_TARGET, SEARCH_TARGET = 1500, 0.05
N_STORED, N_FEATURES = 21_388, 512


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=512, help="records to embed (default: 512)")
    parser.add_argument("--model", default="resnet1d", help="default: resnet1d")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = build(Demo(n_records=300, seed=0), Path(folder) / "demo", progress=False).path
        measure_embedding(repeated(open_dataset(path, label_set="superclass"), arguments.records), arguments.model)
    measure_search()


def repeated(dataset: Dataset, n_records: int) -> Dataset:
    """Give a dataset of so many records, the same ones again and again."""
    rows = np.resize(np.arange(len(dataset)), n_records)
    records = dataset.records.iloc[rows].reset_index(drop=True)
    return replace(
        dataset, records=records, labels=dataset.labels.iloc[rows].reset_index(drop=True), rows=dataset.rows[rows]
    )


def measure_embedding(dataset: Dataset, name: str) -> None:
    """Time the embedding alone and all layers, beside one record at a time."""
    keywords: dict[str, Any] = {"n_leads": 12, "n_classes": 5, "n_samples": 250, "sampling_rate": 100}
    model = create_model(name, **keywords).eval()
    preparation = Preparation(100, 250, dataset.mean, dataset.std)
    trained = TrainedModel(model, name, keywords, dataset.classes, "superclass", preparation)
    everything, few = np.arange(len(dataset)), np.arange(min(64, len(dataset)))
    plain = rate(lambda: [embed(trained, dataset, few[i : i + 1]) for i in few], len(few))
    print(f"{name}, {len(dataset)} records, {torch.get_num_threads()} threads, records/s")
    print(f"one at a time                   {plain:6.0f}")
    ways = {
        "the embedding": lambda: embed_layers(trained, dataset, everything),
        f"all {len(layer_names(model))} layers": lambda: embed_layers(trained, dataset, everything, layer_names(model)),
    }
    for words, call in ways.items():
        found = rate(call, len(everything))
        met = f"(target {RATE_TARGET}: {'met' if found >= RATE_TARGET else 'MISSED'})"
        print(f"{words:<32}{found:6.0f}  {found / plain:.1f} times as many  {met}")


def rate(call: Callable[[], object], n_records: int) -> float:
    """Give records per second, the better of two."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return n_records / min(times)


def measure_search() -> None:
    """Time the search for one record's neighbours among as many as PTB-XL has."""
    random = np.random.default_rng(0)
    values = random.standard_normal((N_STORED, N_FEATURES)).astype(np.float32)
    ids = np.arange(N_STORED)
    index = SimilarRecords(values, pd.DataFrame({"record_id": ids, "patient_id": ids, "fold": ids % 10 + 1}))
    points = normalize(StandardScaler().fit_transform(values))
    plain = NearestNeighbors(n_neighbors=6, algorithm="brute").fit(points)
    queries = random.integers(0, N_STORED, 20)
    ours = median_time(lambda i: index.nearest(i, 5), queries)
    theirs = median_time(lambda i: plain.kneighbors(points[i : i + 1]), queries)
    met = "yes" if ours < SEARCH_TARGET else "NO"
    print(f"search among {N_STORED:,} records of {N_FEATURES} features: {1000 * ours:.0f} ms, scikit-learn "
          f"{1000 * theirs:.0f} ms (target: under {1000 * SEARCH_TARGET:.0f} ms, met: {met})")  # fmt: skip


def median_time(call: Callable[[int], object], queries: np.ndarray) -> float:
    """Give the median seconds of a call."""
    times = []
    for query in queries:
        start = time.perf_counter()
        call(int(query))
        times.append(time.perf_counter() - start)
    return float(np.median(times))


if __name__ == "__main__":
    main()
