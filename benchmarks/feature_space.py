"""Measure embeddings, linear probes and the search for similar ECGs, each compared with the plain way in the same run.

    python benchmarks/feature_space.py [--records N] [--model MODEL] [--only embedding|search|probes]

The signals are synthetic, as long as those of PTB-XL at 100 Hz, and read by a model of 2.5 s. The plain way to
embed is one record at a time; the plain search is scikit-learn's, by brute force; the plain probe is scikit-learn's
grid search over a pipeline.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, normalize
from threadpoolctl import threadpool_limits

from ecgkit.datasets import Dataset, build_dataset, open_dataset
from ecgkit.feature_space.layers import embed_layers, layer_names
from ecgkit.feature_space.probes.linear import ALPHAS, CS, Problem, fit_linear
from ecgkit.feature_space.similar import SimilarRecords
from ecgkit.inference.weights import TrainedModel
from ecgkit.models import create_model
from ecgkit.signals.prepare import Preparation
from ecgkit.sources.demo import Demo
from ecgkit.training import embed

RATE_TARGET, SEARCH_TARGET = 1500, 0.05
N_STORED, N_FEATURES = 21_388, 512
N_TRAINING, N_NUMBERS, N_CLASSES = 17_000, 6, 6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=512, help="records to embed (default: 512)")
    parser.add_argument("--model", default="resnet1d", help="default: resnet1d")
    parser.add_argument("--only", choices=("embedding", "search", "probes"), help="default: all three")
    arguments = parser.parse_args()
    if arguments.only in (None, "embedding"):
        with tempfile.TemporaryDirectory() as folder:
            path = build_dataset(Demo(n_records=300, seed=0), Path(folder) / "demo", progress=False).path
            measure_embedding(repeated(open_dataset(path, label_set="superclass"), arguments.records), arguments.model)
    if arguments.only in (None, "search"):
        measure_search()
    if arguments.only in (None, "probes"):
        measure_probes(N_TRAINING, N_FEATURES)


def repeated(dataset: Dataset, n_records: int) -> Dataset:
    """Return a dataset of so many records, the same ones repeated."""
    rows = np.resize(np.arange(len(dataset)), n_records)
    records = dataset.records.iloc[rows].reset_index(drop=True)
    return replace(
        dataset, records=records, labels=dataset.labels.iloc[rows].reset_index(drop=True), rows=dataset.rows[rows]
    )


def measure_embedding(dataset: Dataset, name: str) -> None:
    """Time the embedding alone and all layers, compared with one record at a time."""
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
    for way, call in ways.items():
        found = rate(call, len(everything))
        met = f"(target {RATE_TARGET}: {'met' if found >= RATE_TARGET else 'MISSED'})"
        print(f"{way:<32}{found:6.0f}  {found / plain:.1f} times as many  {met}")


def rate(call: Callable[[], object], n_records: int) -> float:
    """Return records per second, the better of two."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return n_records / min(times)


def measure_probes(n_records: int, n_features: int) -> None:
    """Compare our cross-validated linear probes with scikit-learn's, on made-up embeddings of the size of PTB-XL."""
    random = np.random.default_rng(0)
    patients = np.sort(random.integers(0, int(0.87 * n_records), n_records))
    scales = np.linspace(1, 0.02, n_features)  # embeddings have few directions with most of the variance
    values = (random.standard_normal((n_records, n_features)) * scales) @ random.standard_normal((n_features,) * 2)
    embeddings = (values / values.std(axis=0)).astype(np.float32)
    signal = embeddings @ random.standard_normal((n_features, N_NUMBERS + N_CLASSES)) / n_features**0.5
    truth = signal + 1.5 * random.standard_normal(signal.shape)
    numbers = {f"number {i}": Problem(truth[:, i], is_class=False) for i in range(N_NUMBERS)}
    share = np.quantile(truth[:, N_NUMBERS:], 0.8, axis=0)
    classes = {
        f"class {i}": Problem((truth[:, N_NUMBERS + i] > share[i]).astype(float), is_class=True)
        for i in range(N_CLASSES)
    }
    print(f"probes of {n_records:,} records x {n_features} features, one thread, seconds per target")
    for name, problems in (("ridge", numbers), ("logistic regression", classes)):
        ours, found = timed(partial(fit_linear, embeddings, problems, patients, seed=0, n_jobs=1))
        one = next(iter(problems))
        theirs, model = timed(partial(sklearn_probe, embeddings, problems[one], patients))
        mine, other = found[one].outputs(embeddings)[:, 0], sklearn_outputs(model, embeddings)
        error = np.abs(mine - other).max() / other.std()
        same = found[one].strength == next(v for k, v in model.best_params_.items())
        ours /= len(problems)
        shared = f"ours {ours:.2f} ({len(problems)} targets share the decompositions), scikit-learn {theirs:.2f}"
        print(f"{name:<20} {shared}: {theirs / ours:.1f} times as fast; same strength chosen: {same}")
        print(f"{'':<20} largest difference {error:.1e} SD, correlation {np.corrcoef(mine, other)[0, 1]:.7f}")


def sklearn_probe(embeddings: np.ndarray, problem: Problem, patients: np.ndarray) -> GridSearchCV:
    """Fit the same probe with scikit-learn alone."""
    step = LogisticRegression(max_iter=1000, tol=1e-4) if problem.is_class else Ridge()
    grid = {"logisticregression__C": CS} if problem.is_class else {"ridge__alpha": ALPHAS}
    folds = GroupKFold(5, shuffle=True, random_state=0)
    scoring = "neg_log_loss" if problem.is_class else "r2"
    search = GridSearchCV(make_pipeline(StandardScaler(), step), grid, cv=folds, scoring=scoring)
    with threadpool_limits(1):
        return search.fit(embeddings, problem.truth, groups=patients)


def sklearn_outputs(model: GridSearchCV, embeddings: np.ndarray) -> np.ndarray:
    """Return the predicted number, or the logit."""
    return model.decision_function(embeddings) if hasattr(model, "decision_function") else model.predict(embeddings)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds of a call and what it returned."""
    start = time.perf_counter()
    found = call()
    return time.perf_counter() - start, found


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
    """Return the median seconds of a call."""
    times = []
    for query in queries:
        start = time.perf_counter()
        call(int(query))
        times.append(time.perf_counter() - start)
    return float(np.median(times))


if __name__ == "__main__":
    main()
