"""What a probe session keeps: for each target the log, the weights, the report, the metrics and the figures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd
import safetensors.numpy
from matplotlib.figure import Figure
from sklearn.metrics import classification_report

from ecgkit._files import write_atomically
from ecgkit.feature_space.probes import BASELINE, PROBE, ProbeResult
from ecgkit.plots import feature_space as plots
from ecgkit.store import TEST_FOLD

METRICS_VERSION = 1
"""The version of the layout of ``metrics.json``."""

WEIGHTS_FORMAT = "ecgkit-probe-1"
"""What the weights' file says that it is."""

METRICS = ("r2", "mae", "auc", "accuracy", "f1")


class ProbeFolder(Protocol):
    """What the report needs of the session it is written into."""

    @property
    def path(self) -> Path:
        """The folder."""

    def folder(self, name: str) -> Self:
        """Give a folder inside it the same methods."""

    def write_json(self, name: str, data: object) -> Path:
        """Write a JSON file."""

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file."""

    def write_table(self, name: str, table: pd.DataFrame) -> Path:
        """Write a Parquet table."""

    def save_figure(self, figure: Figure, name: str) -> Figure:
        """Write a figure."""


def write_probe_session(session: ProbeFolder, results: Mapping[str, ProbeResult]) -> None:
    """Write one folder for each target into a probe session.

    Each holds ``training_log.txt``, ``classification_report.txt``, ``metrics.json``, and unless the target was skipped
    ``predictions.parquet`` for fold 10, ``weights/probe.safetensors`` and ``figures/``. Written again, the files are
    replaced.

    Parameters
    ----------
    session : ProbeFolder
        The session, an `ecgkit.sessions.Session`.
    results : mapping of str to ProbeResult
        What `fit_probes` gave.
    """
    for name, result in results.items():
        folder = session.folder(name)
        folder.write_text("training_log.txt", log_text(result))
        folder.write_text("classification_report.txt", report_text(result))
        if not result.skipped:
            folder.write_table("predictions.parquet", result.predictions)
            write_atomically(folder.path / "weights" / "probe.safetensors", weights_bytes(result))
            for figure_name, figure in figures(result).items():
                folder.save_figure(figure, figure_name)
        folder.write_json("metrics.json", metrics_json(result))


def figures(result: ProbeResult) -> dict[str, Figure]:
    """Draw the figures of one target, by their names: predicted against true values, and the classes."""
    target, table = result.target, result.predictions
    confusion = plots.probe_classes(
        table["true_class"], table[f"{PROBE}_class"], classes=target.classes, name=target.name, unit=target.unit
    )
    true, predicted = table["true"].to_numpy(), table[PROBE].to_numpy()
    if target.kind == "binary":
        first = plots.probe_probability(true == 1, predicted, words=(target.words[0], target.words[1]))
        return {"probability": first, "classes": confusion}
    first = plots.probe_regression(true, predicted, name=target.name, unit=target.unit)
    return {"predicted": first, "classes": confusion}


def metrics_json(result: ProbeResult) -> dict[str, Any]:
    """Give what ``metrics.json`` holds.

    Parameters
    ----------
    result : ProbeResult
        The probes of one target.

    Returns
    -------
    dict
        ``{"version": 1, "fold_10": {"probe" | "baseline" | "untrained": {METRIC: {"value", "low", "high"}}}}``; a
        value that is not defined is None, and so are ``low`` and ``high``. ``"skipped"`` says why there is nothing
        under ``"fold_10"``.
    """
    numbers = {
        name: {
            metric: {"value": None if math.isnan(value) else value, "low": None, "high": None}
            for metric, value in values.items()
        }
        for name, values in result.metrics.items()
    }
    data: dict[str, Any] = {"version": METRICS_VERSION, f"fold_{TEST_FOLD}": numbers}
    return data | ({"skipped": result.skipped} if result.skipped else {})


def weights_bytes(result: ProbeResult) -> bytes:
    """Give the contents of ``weights/probe.safetensors``.

    Parameters
    ----------
    result : ProbeResult
        The probes of one target, not skipped.

    Returns
    -------
    bytes
        float64 tensors ``value.mean``, ``value.scale`` (features,), ``value.coefficients`` (outputs, features) and
        ``value.intercepts`` (outputs,), for a number the same four of ``bins``: an output is
        ``coefficients @ ((embedding - mean) / scale) + intercepts``. The header says what the outputs are.
    """
    tensors: dict[str, np.ndarray] = {}
    facts = {"format": WEIGHTS_FORMAT, "target": result.target.name, "unit": result.target.unit}
    for part, probe in result.probes[PROBE].items():
        tensors |= {
            f"{part}.mean": probe.scaler.mean,
            f"{part}.scale": probe.scaler.scale,
            f"{part}.coefficients": probe.coefficients,
            f"{part}.intercepts": probe.intercepts,
        }
        facts[f"{part}.classes"] = json.dumps([result.target.classes[i] for i in probe.classes])
        facts[f"{part}.{probe.strength_name}"] = str(probe.strength)
    if result.target.words:
        facts["positive"] = result.target.words[1]
    return safetensors.numpy.save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, facts)


def log_text(result: ProbeResult) -> str:
    """Give what ``training_log.txt`` says: counts, what was tried within folds 1-8, and what was chosen."""
    counts, unit = result.counts, f" ({result.target.unit})" if result.target.unit else ""
    lines = [
        f"{result.target.name}{unit}: linear probes on frozen embeddings",
        *_count_lines(counts),
        *result.notes,
    ]
    if result.skipped:
        return "\n".join([*lines, f"skipped: {result.skipped}"])
    lines += ["", "Strength chosen within folds 1-8, by cross-validation with each patient on one side:"]
    for encoder, probes in result.probes.items():
        for part, probe in probes.items():
            lines += ["", *_trial_lines(encoder, part, probe)]
    lines += ["", f"Fold {TEST_FOLD}:"]
    for name, values in result.metrics.items():
        lines.append(f"  {name:<10} " + "  ".join(f"{metric} {value:.4f}" for metric, value in values.items()))
    return "\n".join(lines)


def _count_lines(counts: Mapping[str, int]) -> list[str]:
    """Say how many records there are to learn from and to read."""
    return [
        f"{where}: {counts[part]:,} records of {counts[f'{part}_patients']:,} patients, "
        f"{counts[f'{part}_unknown']:,} unknown left out"
        for where, part in (("folds 1-8", "training"), (f"fold {TEST_FOLD}", "test"))
    ]


def _trial_lines(encoder: str, part: str, probe: Any) -> list[str]:
    """Lay out the strengths tried for one fit."""
    strengths, scores = probe.trials.iloc[:, 0], probe.trials.iloc[:, 1]
    kind = "ridge regression" if not probe.classes else f"logistic regression of {len(probe.classes)} classes"
    lines = [f"{encoder}, {part}: {kind}"]
    for strength, value in zip(strengths, scores, strict=True):
        chosen = "  <- chosen" if strength == probe.strength else ""
        lines.append(f"  {probe.strength_name} {strength:<12.4g} {probe.trials.columns[1]} {value:.4f}{chosen}")
    if probe.n_iterations:
        lines.append(f"  final fit: {probe.n_iterations} iterations")
    return lines


def report_text(result: ProbeResult) -> str:
    """Give what ``classification_report.txt`` says: numbers with units first, then scikit-learn's report."""
    target = result.target
    head = [f"{target.name}, linear probe on frozen embeddings, fitted on folds 1-8, read on fold {TEST_FOLD}"]
    head += [*_count_lines(result.counts), *result.notes]
    if result.skipped:
        return "\n".join([*head, f"skipped: {result.skipped}"])
    head.append("")
    for name, values in result.metrics.items():
        head.append(f"{name:<10} {_in_words(values, target.unit)}")
    if target.kind == "binary":
        what = f'sex, "{target.words[1]}" is the positive class' if target.name == "sex" else target.name
        head += ["", f"Decided at a probability of 0.5 ({what}):"]
    else:
        bins = ", ".join(target.classes)
        head += ["", f"In bins of {target.name} ({target.unit}): {bins}:"]
    table = result.predictions
    present = set(table["true_class"]) | set(table[f"{PROBE}_class"])
    body = classification_report(
        table["true_class"].tolist(),
        table[f"{PROBE}_class"].tolist(),
        labels=[name for name in target.classes if name in present],
        digits=3,
        zero_division=0,
    )
    if set(table["true_class"]) != present:
        body += f"\nA class without records in fold {TEST_FOLD} counts as 0 in the averages above, but not in f1.\n"
    return "\n".join(head) + "\n\n" + body


def _in_words(values: Mapping[str, float], unit: str) -> str:
    """Write metrics in one line."""
    words = []
    for metric, value in values.items():
        if metric == "mae":
            words.append(f"mean absolute error {value:.2f} {unit}")
        else:
            words.append(f"{ {'r2': 'R2', 'auc': 'AUC', 'f1': 'macro F1'}.get(metric, metric) } {value:.3f}")
    return ", ".join(words)


def probe_table(results: Mapping[str, ProbeResult]) -> pd.DataFrame:
    """Lay out the metrics of all targets for reading.

    Parameters
    ----------
    results : mapping of str to ProbeResult
        What `fit_probes` gave.

    Returns
    -------
    DataFrame
        Index ``target`` and ``encoder`` (``"probe"``, ``"untrained"``, ``"baseline"``); columns ``unit``, ``records``
        (of fold 10), ``r2``, ``mae`` (in the unit), ``auc``, ``accuracy``, ``f1``, NaN where a metric does not apply,
        and ``skipped``, the reason if there are no probes, in one row for the target.
    """
    rows = []
    for name, result in results.items():
        facts = {
            "target": name,
            "unit": result.target.unit,
            "records": result.counts["test"],
            "skipped": result.skipped,
        }
        order = sorted(result.metrics, key=lambda encoder: (encoder == BASELINE, encoder != PROBE))
        rows += [{**facts, "encoder": encoder, **result.metrics[encoder]} for encoder in order or ()]
        if result.skipped:
            rows.append({**facts, "encoder": PROBE})
    columns = ["target", "encoder", "unit", "records", *METRICS, "skipped"]
    table = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(METRICS, float))
    return table.set_index(["target", "encoder"])
