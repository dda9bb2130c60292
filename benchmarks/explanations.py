"""Test the explanations of the shipped models.

    python benchmarks/explanations.py PTBXL_DATASET [--models resnet1d,xlstm,hybrid] [--twin resnet1d=WEIGHTS ...]
        [--records 24] [--territory 40] [--to CSV]

PTBXL_DATASET is a processed dataset (`ecgkit preprocess ptbxl`). Records are of fold 9, one per patient, equally many
of each superclass that the model predicts rightly; the first 2.5 s, which the shipped models read at once, are
explained. A twin is the same recipe with another seed: a model folder, a session, or a file of weights. Prints one
Markdown table per model (with the pointing game on the demo, and the territories), and the times of one explanation.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit import load_model
from ecgkit.datasets import Dataset, open_dataset
from ecgkit.explain import truth
from ecgkit.explain.attributions import METHODS, explain_ecg
from ecgkit.explain.examples import FOLD, choose_examples, record
from ecgkit.inference.predictor import NetworkPredictor
from ecgkit.inference.weights import load_weights
from ecgkit.sources.demo import Demo

CROP = 250  # samples at 100 Hz, which the shipped models read at once
N_BACKGROUND = 4  # normal records of folds 1-8, for gradient_shap


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, metavar="PTBXL_DATASET")
    parser.add_argument("--models", default="resnet1d,xlstm,hybrid")
    parser.add_argument("--twin", action="append", default=[], metavar="MODEL=PATH")
    parser.add_argument("--records", type=int, default=24, help="for the tests of the methods (default: 24)")
    parser.add_argument("--territory", type=int, default=40, help="of each SCP code, and demo records (default: 40)")
    parser.add_argument("--without", default="", metavar="A,B", help="methods that are not tested")
    parser.add_argument("--to", type=Path, help="write all rows as CSV")
    arguments = parser.parse_args()
    twins = dict(pair.split("=", 1) for pair in arguments.twin)
    everything = []
    dataset = open_dataset(arguments.dataset, label_set="superclass")
    for name in arguments.models.split(","):
        predictor = open_network(name)
        twin = with_weights(predictor, twins[name]) if name in twins else None
        sizes = {"n_records": arguments.records, "n_territory": arguments.territory}
        rows = check_model(predictor, twin, dataset, leave_out=arguments.without.split(","), **sizes)
        everything.append(rows.assign(model=name))
        print(f"\n{name}\n", flush=True)
        print(as_markdown(truth.summarise(rows)), flush=True)
        print_times(predictor, dataset)
    if arguments.to:
        pd.concat(everything).to_csv(arguments.to, index=False)


def with_weights(predictor: NetworkPredictor, path: str) -> NetworkPredictor:
    """Return the twin: a model, or the same model with a file of weights."""
    if not path.endswith(".safetensors"):
        return open_network(path)
    twin = open_network(predictor.name)
    twin.trained = load_weights(Path(path))
    return twin


def open_network(name: str) -> NetworkPredictor:
    """Open a model that is one network."""
    predictor = load_model(name)
    if not isinstance(predictor, NetworkPredictor):
        raise SystemExit(f"{name} is no single network")
    return predictor


def check_model(
    predictor: NetworkPredictor,
    twin: NetworkPredictor | None,
    dataset: Dataset,
    *,
    n_records: int,
    n_territory: int,
    leave_out: Sequence[str] = (),
) -> pd.DataFrame:
    """Return the rows of all tests of one model."""
    left_out = {*leave_out, *(() if has_attention(predictor) else ("attention",))}
    methods = [name for name in METHODS if name not in left_out]
    ecgs, classes = choose_examples(predictor, dataset, per_class=-(-n_records // len(predictor.classes)))
    normal = np.flatnonzero(dataset.labels["NORM"].fillna(value=False).to_numpy(bool))
    background = [
        record(dataset, int(place), CROP) for place in np.intersect1d(normal, dataset.folds(1))[:N_BACKGROUND]
    ]
    options = {"twin": twin, "background": background, "progress": True}
    rows = truth.check_records(predictor, ecgs, classes, methods=methods, **options)  # type: ignore[arg-type]
    gains = [truth.gain_over(rows, order) for order in (truth.RANDOM, truth.AMPLITUDE)]
    demo = Demo(n_records=1000, sampling_rate=predictor.sampling_rate)
    ids, named = chosen_signs(predictor, demo, n_territory)
    some = ("integrated_gradients", "input_x_gradient", "grad_cam", "occlusion_segments", "saliency")
    games = [truth.point_at_signs(predictor, demo, ids, named, method=name) for name in some]
    return pd.concat([rows, *gains, *games, territories(predictor, dataset, n_territory)], ignore_index=True)


def has_attention(predictor: NetworkPredictor) -> bool:
    """Return True if a model has attention weights."""
    return hasattr(getattr(predictor.trained.model, "pooling", None), "weights")


def chosen_signs(predictor: NetworkPredictor, demo: Demo, number: int) -> tuple[list[str], list[str]]:
    """Choose records of the demo with one diseased superclass that the model predicts."""
    labels = demo.labels["superclass"].fillna(value=False).astype(bool)
    alone = labels[(labels.sum(axis=1) == 1) & ~labels["NORM"]]
    ids, classes = list[str](), list[str]()
    for row in range(len(demo.records)):
        record_id = demo.records["record_id"].iloc[row]
        key = record_id if record_id in alone.index else row
        if key not in alone.index or len(ids) == number:
            continue
        name = str(alone.columns[int(alone.loc[key].to_numpy().argmax())])
        column = predictor.classes.index(name)
        if predictor.predict_proba([demo.read(record_id)])[0, column] >= predictor.thresholds[column]:
            ids.append(record_id)
            classes.append(name)
    return ids, classes


def territories(predictor: NetworkPredictor, dataset: Dataset, number: int) -> pd.DataFrame:
    """Return the share of the relevance in the leads that textbooks name, for some SCP codes."""
    rows = []
    codes = dataset.records["scp_codes"].astype(str)
    for code, (name, leads) in truth.TERRITORIES.items():
        column = predictor.classes.index(name)
        has_code = np.array([f'"{code}"' in text or f"'{code}'" in text for text in codes])
        positions = [position for position in dataset.folds(FOLD) if has_code[position]]
        found = 0
        for position in positions:
            if found == number:
                break
            ecg = record(dataset, position, CROP)
            if predictor.predict_proba([ecg], anyway=True)[0, column] < predictor.thresholds[column]:
                continue
            found += 1
            for method in ("integrated_gradients", "saliency", "occlusion_leads", "occlusion_segments"):
                explained = explain_ecg(predictor, ecg, method=method, classes=[name], anyway=True)
                rows.append((ecg.record_id, method, f"leads of {code}", truth.territory(explained, leads)))
    return pd.DataFrame(rows, columns=["record_id", "method", "check", "value"])


def as_markdown(summary: pd.DataFrame) -> str:
    """Write a summary with one row per method and one column per check."""
    cells = {key: f"{row['value']:.2f} ({row['low']:.2f} to {row['high']:.2f})" for key, row in summary.iterrows()}
    table = pd.Series(cells).rename_axis(["method", "check"]).reset_index(name="cell")
    wide = table.pivot_table(index="method", columns="check", values="cell", aggfunc="first", sort=False).fillna("")
    lines = ["| method | " + " | ".join(wide.columns) + " |", "|---" * (1 + len(wide.columns)) + "|"]
    lines += [
        f"| {method} | " + " | ".join(row) + " |" for method, row in zip(wide.index, wide.to_numpy(), strict=True)
    ]
    return "\n".join([*lines, "", f"records: {summary['records'].groupby('check').max().to_dict()}"])


def print_times(predictor: NetworkPredictor, dataset: Dataset) -> None:
    """Print the time of explaining 10 s, one class, the fastest of three."""
    ecg = record(dataset, 0)
    for method in ("grad_cam", "integrated_gradients"):
        taken = []
        for _ in range(3):
            start = time.perf_counter()
            explain_ecg(predictor, replace(ecg), method=method, classes=[predictor.classes[0]])
            taken.append(time.perf_counter() - start)
        print(f"{method}: {min(taken):.3f} s for one ECG of 10 s and one class")


if __name__ == "__main__":
    main()
