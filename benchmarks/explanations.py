"""Test the explanations of the shipped models, a model and a method at a time.

    python benchmarks/explanations.py PTBXL_DATASET ROWS [--models resnet1d,xlstm,hybrid] [--twin resnet1d=WEIGHTS ...]
        [--parts A,B] [--records 200] [--randomised 50] [--territory 50] [--growth 20] [--flips 20]
    python benchmarks/explanations.py --times

PTBXL_DATASET is a processed dataset (`ecgkit preprocess ptbxl`). Records are of fold 9, one per patient, equally many
of each superclass that the model predicts rightly; the first 2.5 s, which the shipped models read at once, are
explained. A twin is the same recipe with another seed: a model folder, a session, or a file of weights. The rows of
each model and part are written to a file in the folder ROWS, and those that are there are not computed again; in the
end all of them are printed as Markdown tables. ``--times`` measures the times of one explanation.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ecgkit import load_model
from ecgkit.datasets import Dataset, open_dataset
from ecgkit.explain import truth
from ecgkit.explain.amplitude import WAVES, amplitude_check
from ecgkit.explain.attributions import METHODS, background_set, explain_ecg, network_inputs
from ecgkit.explain.counterfactuals import grow_signs, summarise_growth
from ecgkit.explain.examples import FOLD, choose_examples, record
from ecgkit.explain.flips import smallest_changes
from ecgkit.explain.methods import relevance_of
from ecgkit.inference.predictor import NetworkPredictor
from ecgkit.inference.weights import load_weights
from ecgkit.io import write_atomically
from ecgkit.signals.ecg import ECG
from ecgkit.signals.segments import SEGMENTS
from ecgkit.sources.demo import Demo
from ecgkit.sources.demo.source import make_ecg
from ecgkit.stats.labels import format_interval
from ecgkit.stats.resampling import RESAMPLES, interval, patient_weights

SLOW = {"integrated_gradients": 2, "gradient_shap": 4}
"""By how much fewer records these methods are tested on."""

PARTS = (truth.AMPLITUDE, truth.RANDOM, *METHODS, "territories", "signs", "growth", "flips", "amplitude_check")
POINTED = ("saliency", "input_x_gradient", "integrated_gradients", "grad_cam", "occlusion_segments")
IN_TERRITORIES = ("saliency", "integrated_gradients", "occlusion_leads", "occlusion_segments")
AMPLITUDES = {"R": "V4", "T": "V3", "P": "II"}
LEADS_DIFFER = ("saliency", "input_x_gradient", "integrated_gradients", "guided_grad_cam", "occlusion_segments")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, metavar="PTBXL_DATASET", nargs="?")
    parser.add_argument("rows", type=Path, metavar="ROWS", nargs="?", help="folder of the rows")
    parser.add_argument("--models", default="resnet1d,xlstm,hybrid")
    parser.add_argument("--parts", default=",".join(PARTS), help="methods and others, in the order in which they run")
    parser.add_argument("--twin", action="append", default=[], metavar="MODEL=PATH")
    parser.add_argument("--records", type=int, default=200, help="for the tests of the methods (default: 200)")
    parser.add_argument("--randomised", type=int, default=50, help="of these, with random weights (default: 50)")
    parser.add_argument("--territory", type=int, default=50, help="of each SCP code, and demo records (default: 50)")
    parser.add_argument("--growth", type=int, default=20, help="synthetic hearts in which a sign grows (default: 20)")
    parser.add_argument("--flips", type=int, default=20, help="records per class to be flipped (default: 20)")
    parser.add_argument("--times", action="store_true", help="measure times instead")
    arguments = parser.parse_args()
    if arguments.times:
        print_times(arguments.models.split(","))
        return
    if not arguments.rows:
        parser.error("give PTBXL_DATASET and ROWS, or --times")
    twins = dict(pair.split("=", 1) for pair in arguments.twin)
    dataset = open_dataset(arguments.dataset, label_set="superclass")
    benches = [Bench(name, dataset, twins.get(name, ""), arguments) for name in arguments.models.split(",")]
    parts = arguments.parts.split(",")
    for part in parts:
        for bench in benches if part != "amplitude_check" else ():
            if part != "attention" or bench.has_attention:
                bench.keep(part)
    if "amplitude_check" in parts:
        keep(arguments.rows / "amplitude_check.parquet", check_amplitudes)
    print_tables(arguments.rows, dataset)


@dataclass
class Bench:
    """The tests of one model."""

    name: str
    dataset: Dataset
    twin: str
    arguments: argparse.Namespace

    @cached_property
    def predictor(self) -> NetworkPredictor:
        """The model."""
        return open_network(self.name)

    @property
    def has_attention(self) -> bool:
        """Whether the model has attention weights."""
        return hasattr(getattr(self.predictor.trained.model, "pooling", None), "weights")

    @cached_property
    def examples(self) -> tuple[list[ECG], list[str]]:
        """The records and their classes, in an order in which the classes take turns."""
        per_class = -(-self.arguments.records // len(self.predictor.classes))
        ecgs, classes = choose_examples(self.predictor, self.dataset, per_class=per_class)
        ranks = pd.Series(classes).groupby(classes).cumcount().to_numpy()
        order = np.argsort(ranks, kind="stable").tolist()
        return [ecgs[row] for row in order], [classes[row] for row in order]

    def keep(self, part: str) -> None:
        """Compute the rows of a part, if they are not there."""
        parts: dict[str, Callable[[], pd.DataFrame]] = {"territories": self.territories, "signs": self.signs}
        parts |= {"growth": self.growth, "flips": self.flips}
        path = self.arguments.rows / f"{self.name}-{part.replace(' ', '_')}.parquet"
        keep(path, parts.get(part, lambda: self.check(part)))

    def check(self, method: str) -> pd.DataFrame:
        """Test one method."""
        number = self.arguments.records // SLOW.get(method, 1)
        ecgs, classes = self.examples[0][:number], self.examples[1][:number]
        twin = with_weights(self.predictor, self.twin) if self.twin else None
        background = background_set(self.predictor.sampling_rate) if method == "gradient_shap" else None
        trial = truth.prepare_trial(self.predictor, ecgs, classes, twin=twin, background=background)
        return trial.check(method, n_randomised=self.arguments.randomised // SLOW.get(method, 1))

    def territories(self) -> pd.DataFrame:
        """Return the share of the relevance in the leads that textbooks name, for some SCP codes."""
        tables = []
        for code, (name, leads) in truth.TERRITORIES.items():
            ecgs = list(self.with_code(code, name))
            inputs = network_inputs(self.predictor.trained, ecgs, [[name]] * len(ecgs), anyway=True)
            for method in IN_TERRITORIES:
                share = truth.territory(relevance_of(method, inputs)[0][:, 0], leads)
                check = f"leads of {code}"
                ids = [ecg.record_id for ecg in ecgs]
                tables.append(pd.DataFrame({"record_id": ids, "method": method, "check": check, "value": share}))
        return pd.concat(tables, ignore_index=True)

    def with_code(self, code: str, name: str) -> Iterator[ECG]:
        """Yield records of fold 9 with an SCP code whose class the model predicts, each of another patient."""
        codes, patients = self.dataset.records["scp_codes"].astype(str), self.dataset.records["patient_id"]
        column = self.predictor.classes.index(name)
        seen = set[str]()
        for row in self.dataset.folds(FOLD).tolist():
            if len(seen) == self.arguments.territory:
                return
            if f'"{code}"' not in codes[row].replace("'", '"') or patients[row] in seen:
                continue
            ecg = record(self.dataset, row, self.predictor.n_samples)
            if self.predictor.predict_proba([ecg], anyway=True)[0, column] >= self.predictor.thresholds[column]:
                seen.add(patients[row])
                yield ecg

    def signs(self) -> pd.DataFrame:
        """Play the pointing game with records of the demo that have one disease, which the model predicts."""
        demo = Demo(n_records=2000, sampling_rate=self.predictor.sampling_rate)
        labels = demo.labels["superclass"].fillna(value=False).astype(bool).set_axis(demo.records["record_id"])
        ids, classes = list[str](), list[str]()
        for record_id, found in labels[(labels.sum(axis=1) == 1) & ~labels["NORM"]].iterrows():
            name = str(found.index[int(found.to_numpy().argmax())])
            column = self.predictor.classes.index(name)
            ecg = demo.read(str(record_id))
            ecg = replace(ecg, signal=ecg.signal[:, : self.predictor.n_samples])
            if self.predictor.predict_proba([ecg])[0, column] >= self.predictor.thresholds[column]:
                ids.append(str(record_id))
                classes.append(name)
            if len(ids) == self.arguments.territory:
                break
        games = [truth.point_at_signs(self.predictor, demo, ids, classes, method=name) for name in POINTED]
        return pd.concat(games, ignore_index=True)

    def growth(self) -> pd.DataFrame:
        """Let each sign of a disease grow in synthetic normal ECGs."""
        return grow_signs(self.predictor, n_records=self.arguments.growth)

    def flips(self) -> pd.DataFrame:
        """Find the smallest change of each lead and segment that flips a decision."""
        chosen = choose_examples(self.predictor, self.dataset, per_class=self.arguments.flips)
        tables = []
        for ecg, name in zip(*chosen, strict=True):
            found = smallest_changes(self.predictor, ecg, name).assign(record_id=ecg.record_id)
            tables.append(found.assign(**{"class": name}))
        return pd.concat(tables, ignore_index=True)


def keep(path: Path, compute: Callable[[], pd.DataFrame]) -> None:
    """Compute rows and write them to a file, unless the file exists."""
    if path.exists():
        return
    start = time.process_time()
    rows = compute()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, rows.to_parquet())
    print(f"{path.stem}: {rows['record_id'].nunique()} records, {time.process_time() - start:.0f} s of CPU", flush=True)


def open_network(name: str) -> NetworkPredictor:
    """Open a model that is one network."""
    predictor = load_model(name)
    if not isinstance(predictor, NetworkPredictor):
        raise SystemExit(f"{name} is no single network")
    return predictor


def with_weights(predictor: NetworkPredictor, path: str) -> NetworkPredictor:
    """Return the twin: a model, or the same model with a file of weights."""
    if not path.endswith(".safetensors"):
        return open_network(path)
    twin = open_network(predictor.name)
    twin.trained = load_weights(Path(path))
    return twin


def check_amplitudes() -> pd.DataFrame:
    """Return the rows of the amplitude check."""
    return pd.concat([amplitude_check(wave, AMPLITUDES[wave], methods=LEADS_DIFFER) for wave in WAVES])


def print_tables(folder: Path, dataset: Dataset) -> None:
    """Print what the rows say."""
    patients = dict(zip(dataset.records["record_id"], dataset.records["patient_id"], strict=True))
    files = {path.stem: pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))}
    amplitudes = files.pop("amplitude_check", None)
    if amplitudes is not None:
        print("\nAmplitude check\n\n" + as_markdown(truth.summarise(amplitudes)))
    for name in dict.fromkeys(stem.split("-")[0] for stem in files):
        parts = {stem.split("-")[1]: rows for stem, rows in files.items() if stem.startswith(f"{name}-")}
        for part in ("territories", "signs"):
            if part in parts:
                known = patients if part == "territories" else None
                print(f"\n{name}: {part}\n\n" + as_markdown(truth.summarise(parts.pop(part), known)))
        if "growth" in parts:
            print(f"\n{name}: growth\n\n" + "\n".join(growth_lines(parts.pop("growth"))))
        if "flips" in parts:
            print(f"\n{name}: flips\n\n" + "\n".join(flip_lines(parts.pop("flips"))))
        if not parts.keys() & set(METHODS):  # an order alone is compared with nothing
            continue
        rows = pd.concat(parts.values(), ignore_index=True)
        orders = [order for order in (truth.RANDOM, truth.AMPLITUDE) if order in set(rows["method"])]
        gains = [truth.gain_over(rows, order) for order in orders]
        summary = truth.summarise(pd.concat([rows, *gains]), patients)
        checks = summary.index.get_level_values("check")
        is_layer = checks.str.contains("randomised")
        print(f"\n{name}\n\n" + as_markdown(summary[~is_layer | (checks == "randomised all")]))
        print("\n" + as_markdown(summary[is_layer], columns="method"))
        verdict = truth.verdict(summary)
        failed = {method: ", ".join(row.index[row != "passes"]) for method, row in verdict.iterrows()}
        print("\n" + "\n".join(f"{method}: {tests or 'survives'}" for method, tests in failed.items()))


def growth_lines(table: pd.DataFrame) -> Iterator[str]:
    """Write by sign the rank correlation of its size and the probability, and by how much the probability rises."""
    yield "| sign (class) | rank correlation | rise | followed |"
    yield "|---|---|---|---|"
    for _, row in summarise_growth(table).iterrows():
        cells = [
            format_interval({"value": row[key], "low": row[f"{key}_low"], "high": row[f"{key}_high"]}, digits=2)
            for key in ("spearman", "rise")
        ]
        yield f"| {row['label']} ({row['class']}) | {cells[0]} | {cells[1]} | {'yes' if row['follows'] else 'no'} |"


def flip_lines(table: pd.DataFrame) -> Iterator[str]:
    """Write by class the share of records of which a change flips the decision, and the median change in mV."""
    yield "| class | records | any segment | " + " | ".join(SEGMENTS) + " | smallest, most often |"
    yield "|---" * (4 + len(SEGMENTS)) + "|"
    for name, of_class in table.groupby("class", sort=False):
        cells = [flip_cell(of_class), *(flip_cell(of_class[of_class["segment"] == segment]) for segment in SEGMENTS)]
        best = of_class.assign(size=of_class["change"].abs()).dropna().sort_values("size").drop_duplicates("record_id")
        signs = np.where(best["change"] > 0, "+", "-")
        often: pd.Series = (best["segment"] + " in " + best["lead"] + ", " + signs).value_counts()
        first = f"{often.index[0]} ({often.iloc[0]} of {len(best)})" if len(often) else ""
        yield f"| {name} | {of_class['record_id'].nunique()} | " + " | ".join(cells) + f" | {first} |"


def flip_cell(table: pd.DataFrame) -> str:
    """Write the share of records that flip with its interval, and the median of their smallest changes in mV."""
    smallest = table.assign(size=table["change"].abs()).groupby("record_id")["size"].min().to_numpy()
    flips = np.isfinite(smallest)
    weights = patient_weights(np.arange(len(flips)), resamples=RESAMPLES, seed=0)
    low, high = interval(weights @ flips / weights.sum(axis=1))
    median = f"; {np.median(smallest[flips]):.2f} mV" if flips.any() else ""
    return f"{flips.mean():.2f} ({low:.2f} to {high:.2f}){median}"


def as_markdown(summary: pd.DataFrame, columns: str = "check") -> str:
    """Write a summary, by default with one row per method and one column per check."""
    cells = {key: f"{row['value']:.2f} ({row['low']:.2f} to {row['high']:.2f})" for key, row in summary.iterrows()}
    table = pd.Series(cells).rename_axis(["method", "check"]).reset_index(name="cell")
    index = "method" if columns == "check" else "check"
    wide = table.pivot_table(index=index, columns=columns, values="cell", aggfunc="first", sort=False).fillna("")
    lines = [f"| {index} | " + " | ".join(wide.columns) + " |", "|---" * (1 + len(wide.columns)) + "|"]
    lines += [f"| `{name}` | " + " | ".join(row) + " |" for name, row in zip(wide.index, wide.to_numpy(), strict=True)]
    numbers = summary["records"].groupby(columns).max()
    return "\n".join([*lines, "", f"records: {numbers.to_dict()}"])


def print_times(models: list[str]) -> None:
    """Print the time of explaining 10 s, one class, the fastest of three, and its ratio to the prediction."""
    ecg = make_ecg(["MI"], sampling_rate=100, seed=3)
    print(f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for name in models:
        predictor = open_network(name)
        calls: dict[str, Callable[[], object]] = {"predict_proba": partial(predictor.predict_proba, [ecg])}
        for method in ("grad_cam", "integrated_gradients", "occlusion_segments"):
            calls[method] = partial(explain_ecg, predictor, ecg, method=method, classes=["MI"])
        times = {call: fastest(run) for call, run in calls.items()}
        for call, (wall, busy) in times.items():
            ratio = busy / times["predict_proba"][1]
            print(f"{name} {call}: {1000 * wall:.0f} ms, {1000 * busy:.0f} ms of CPU, {ratio:.1f} predictions")


def fastest(run: Callable[[], object], repeats: int = 3) -> tuple[float, float]:
    """Return the shortest wall and processor time of a call in s, after one that is not counted."""
    run()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter(), time.process_time()
        run()
        taken.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return min(wall for wall, _ in taken), min(busy for _, busy in taken)


if __name__ == "__main__":
    main()
