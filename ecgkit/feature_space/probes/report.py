"""What a probe session keeps: for each target the log, the weights, the report, the metrics and the figures."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd
import safetensors.numpy
from matplotlib.figure import Figure
from sklearn.metrics import classification_report, confusion_matrix

from ecgkit.feature_space.probes.by_layer import ALL_TOGETHER
from ecgkit.feature_space.probes.controls import CONTROL_TASK, MEASURES, PERMUTATION, PROBE
from ecgkit.feature_space.probes.fit import ProbeResult
from ecgkit.feature_space.probes.page import FIGURE_NAMES, overview
from ecgkit.feature_space.probes.words import metric_in_words, notes_on_intervals, number, sentences
from ecgkit.io import file_name, write_atomically
from ecgkit.plots import probes as plots
from ecgkit.plots.concepts import probe_by_layer
from ecgkit.stats.folds import TEST_FOLD
from ecgkit.stats.labels import metric_name

METRICS_VERSION = 1
"""The version of the layout of ``metrics.json``."""

WEIGHTS_FORMAT = "ecgkit-probe-1"
"""What the weights' file says that it is."""

METRICS = ("r2", "mae", "auc", "accuracy", "f1")

BY_LAYER = "probes_by_layer"


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


def write_probe_session(
    session: ProbeFolder, results: Mapping[str, ProbeResult], by_layer: pd.DataFrame | None = None, *, subject: str = ""
) -> None:
    """Write one folder for each target into a probe session, and an overview of them all.

    Each holds ``training_log.txt``, ``classification_report.txt``, ``metrics.json``, and unless the target was skipped
    ``predictions.parquet`` for fold 10, ``weights/probe.safetensors`` and ``figures/``. Beside them stand
    ``figures/probe_comparison.png``, with ``by_layer`` also ``figures/probes_by_layer.png``, and ``overview.html``.
    Written again, the files are replaced, and those of a target that is now skipped go. A folder is called as its
    target, with ``-`` for what a folder's name cannot hold.

    Parameters
    ----------
    session : ProbeFolder
        The session, an `ecgkit.sessions.Session`.
    results : mapping of str to ProbeResult
        What `fit_probes` gave.
    by_layer : DataFrame, optional
        As `ecgkit.feature_space.probes.probe_layers` gives it: drawn in the overview, and what all layers together
        reach is in the metrics.
    subject : str, optional
        Whose embeddings these are, for the overview's heading.
    """
    names: dict[str, list[str]] = {}
    folders = folder_names(results)
    for name, result in results.items():
        folder = session.folder(folders[name])
        _clear(folder.path)
        folder.write_text("training_log.txt", log_text(result))
        folder.write_text("classification_report.txt", report_text(result))
        if not result.skipped:
            folder.write_table("predictions.parquet", result.predictions)
            write_atomically(folder.path / "weights" / "probe.safetensors", weights_bytes(result))
            drawn = figures(result)
            names[name] = list(drawn)
            for figure_name, figure in drawn.items():
                folder.save_figure(figure, figure_name)
        folder.write_json("metrics.json", metrics_json(result, by_layer))
    session.save_figure(plots.probe_comparison(probe_table(results)), "probe_comparison")
    if by_layer is not None:
        session.save_figure(probe_by_layer(by_layer), BY_LAYER)
    session.write_text("overview.html", overview(session.path.name, results, names, folders, by_layer, subject=subject))


def folder_names(targets: Iterable[str]) -> dict[str, str]:
    """Give each target a folder of its own, also where two names differ only in what no folder's name can hold."""
    found: dict[str, str] = {}
    for name in targets:
        plain = file_name(name)
        same = sum(file_name(other) == plain for other in found)
        found[name] = f"{plain}-{same + 1}" if same else plain
    return found


def _clear(folder: Path) -> None:
    """Remove what an earlier call wrote and this one may not write again."""
    paths = [folder / "predictions.parquet", folder / "weights" / "probe.safetensors"]
    for path in (*paths, *(folder / "figures" / f"{name}.png" for name in FIGURE_NAMES)):
        path.unlink(missing_ok=True)


def figures(result: ProbeResult) -> dict[str, Figure]:
    """Draw the figures of one target, by their names.

    Parameters
    ----------
    result : ProbeResult
        The probes of one target.

    Returns
    -------
    dict of str to Figure
        ``"predicted"`` and ``"bland_altman"`` of a number, ``"probability"`` of two classes; ``"classes"``, what is
        taken for what; ``"comparison"``, the probe beside its controls. Empty if the target was skipped.
    """
    if result.skipped:
        return {}
    target, table = result.target, result.predictions
    true, predicted = table["true"].to_numpy(), table[PROBE].to_numpy()
    drawn: dict[str, Figure] = {}
    if target.kind == "binary":
        words = (target.words[0], target.words[1])
        drawn["probability"] = plots.probe_probability(true == 1, predicted, words=words)
    elif target.kind == "regression":
        drawn["predicted"] = plots.probe_regression(true, predicted, name=target.name, unit=target.unit)
        agreement = result.judgement.metrics[PROBE]
        drawn["bland_altman"] = plots.probe_agreement(
            true, predicted, name=target.name, unit=target.unit, agreement=agreement
        )
    drawn["classes"] = plots.probe_classes(
        table["true_class"], table[f"{PROBE}_class"], classes=target.classes, name=target.name, unit=target.unit
    )
    compared = (target.main_metric, "accuracy", "f1")
    drawn["comparison"] = plots.probe_comparison(probe_table({target.name: result}), metrics=compared)
    return drawn


def metrics_json(result: ProbeResult, by_layer: pd.DataFrame | None = None) -> dict[str, Any]:
    """Give what ``metrics.json`` holds.

    Parameters
    ----------
    result : ProbeResult
        The probes of one target.
    by_layer : DataFrame, optional
        As of `write_probe_session`.

    Returns
    -------
    dict
        ``{"version": 1, "fold_10": {"probe" | "baseline" | ...: {METRIC: {"value", "low", "high"}}}}``; a value
        that is not defined is None, and so are ``low`` and ``high``. With ``by_layer`` there are also
        ``"all_layers"`` and ``"all_layers_untrained"``, the probes of all layers side by side, with the main
        metric. Beside it ``"differences"``, ``{CONTROL: {METRIC: {"value", "low", "high", "verdict"}}}`` of the
        probe less the control; ``"p_value"`` of the main metric among the exchanges of true values,
        ``"p_adjusted"`` the same corrected for ``"targets"`` targets; ``"bootstrap"``, how many resamples of
        how many patients; ``"selectivity"``, the difference from the shuffled labels; and ``"confusion"``,
        ``"classes"`` with a row of records for each true one. ``"skipped"`` says instead why there is nothing
        under ``"fold_10"``.
    """
    judgement = result.judgement
    data: dict[str, Any] = {
        "version": METRICS_VERSION,
        f"fold_{TEST_FOLD}": {
            source: {metric: _plain(entry) for metric, entry in entries.items()}
            for source, entries in judgement.metrics.items()
        }
        | _all_layers(result.target.name, by_layer),
    }
    if result.skipped:
        return data | {"skipped": result.skipped}
    differences: dict[str, dict[str, Any]] = {}
    for row in judgement.differences.to_dict("records"):
        entry = {"value": row["difference"], "low": row["low"], "high": row["high"]}
        differences.setdefault(row["control"], {})[row["metric"]] = _plain(entry) | {"verdict": row["verdict"]}
    table, classes = result.predictions, list(result.target.classes)
    counts = confusion_matrix(table["true_class"].tolist(), table[f"{PROBE}_class"].tolist(), labels=classes)
    return data | {
        "differences": differences,
        "selectivity": differences[CONTROL_TASK][result.target.main_metric],
        **_plain({"p_value": judgement.p_value, "p_adjusted": judgement.p_adjusted}),
        "targets": judgement.targets,
        "bootstrap": {"resamples": judgement.resamples, "patients": result.counts["test_patients"]},
        "controls": {name: result.names[name] for name in judgement.metrics if name in result.names},
        "confusion": {"classes": classes, "records": counts.tolist()},
    }


def _all_layers(name: str, by_layer: pd.DataFrame | None) -> dict[str, dict[str, dict[str, float | None]]]:
    """Give what all layers together reach."""
    if by_layer is None:
        return {}
    rows = by_layer[(by_layer["target"] == name) & (by_layer["layer"] == ALL_TOGETHER) & by_layer["value"].notna()]
    return {
        "all_layers" + ("" if row["encoder"] == "trained" else f"_{row['encoder']}"): {
            row["metric"]: _plain({key: row[key] for key in ("value", "low", "high")})
        }
        for row in rows.to_dict("records")
    }


def _plain(entry: Mapping[str, float]) -> dict[str, float | None]:
    """Write a number as JSON can hold it."""
    return {key: None if math.isnan(value) else float(value) for key, value in entry.items()}


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
    lines += ["", f"Fold {TEST_FOLD}:", *notes_on_intervals(result)]
    for name, entries in result.judgement.metrics.items():
        of_metrics = "  ".join(f"{metric} {number(entry, 4)}" for metric, entry in entries.items())
        lines.append(f"  {name:<12} {of_metrics}")
    return "\n".join([*lines, "", *sentences(result)])


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
    if scores.isna().all():
        return [*lines, f"  {probe.strength_name} {probe.strength:<12.4g} as of the probe"]
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
    head += ["", *sentences(result), ""]
    for name, entries in result.judgement.metrics.items():
        shown = [metric_in_words(metric, entry, target.unit) for metric, entry in entries.items() if metric in METRICS]
        head.append(f"{name:<12} {', '.join(shown)}")
    head += ["", *notes_on_intervals(result), *_agreement_lines(result)]
    if target.kind == "binary":
        what = f'sex, "{target.words[1]}" is the positive class' if target.name == "sex" else target.name
        head += ["", f"Decided at a probability of 0.5 ({what}):"]
    else:
        what = f"In bins of {target.name} ({target.unit})" if target.kind == "regression" else f"For each {target.name}"
        head += ["", f"{what}: {', '.join(target.classes)}:"]
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


def _agreement_lines(result: ProbeResult) -> list[str]:
    """Say how far a predicted number can be taken at its word."""
    entries = result.judgement.metrics[PROBE]
    others = [metric for metric in entries if metric not in METRICS]
    if not others:
        return []
    lines = ["", "Of the probe, with differences as predicted less true, and the line of the true over the predicted:"]
    return lines + [f"  {metric_in_words(metric, entries[metric], _unit_of(metric, result))}" for metric in others]


def _unit_of(metric: str, result: ProbeResult) -> str:
    return "" if metric == "calibration_slope" else result.target.unit


def probe_table(results: Mapping[str, ProbeResult]) -> pd.DataFrame:
    """Lay out the metrics of all targets.

    Parameters
    ----------
    results : mapping of str to ProbeResult
        What `fit_probes` gave.

    Returns
    -------
    DataFrame
        Index ``target`` and ``encoder`` (``"probe"`` first, then its controls); columns ``unit``, ``records`` (of fold
        10), ``r2``, ``mae`` (in the unit), ``auc``, ``accuracy``, ``f1``, NaN where a metric does not apply,
        ``skipped``, the reason if there are no probes, in one row for the target, ``left_out``, the ECG measures that
        were kept from the control ``measures`` since they tell the target, and for each metric ``METRIC_low`` and
        ``METRIC_high``.
    """
    rows = []
    for name, result in results.items():
        facts = {"target": name, "unit": result.target.unit, "records": result.counts["test"]}
        if result.skipped:
            rows.append({**facts, "encoder": PROBE, "skipped": result.skipped, "left_out": ""})
        for source, entries in result.judgement.metrics.items():
            if source != PERMUTATION:
                of_metrics = {metric: entry for metric, entry in entries.items() if metric in METRICS}
                numbers = {metric: entry["value"] for metric, entry in of_metrics.items()}
                ends = {f"{m}_{end}": entry[end] for m, entry in of_metrics.items() for end in ("low", "high")}
                left_out = result.names[MEASURES].partition("(without ")[2].rstrip(")") if source == MEASURES else ""
                rows.append({**facts, "encoder": source, "skipped": "", "left_out": left_out, **numbers, **ends})
    ends_of_all = [f"{metric}_{end}" for metric in METRICS for end in ("low", "high")]
    columns = ["target", "encoder", "unit", "records", *METRICS, "skipped", "left_out", *ends_of_all]
    table = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys([*METRICS, *ends_of_all], float))
    return table.set_index(["target", "encoder"])


def readable_table(results: Mapping[str, ProbeResult]) -> pd.DataFrame:
    """Lay out the metrics of all targets for reading, with their intervals.

    Parameters
    ----------
    results : mapping of str to ProbeResult
        What `fit_probes` gave.

    Returns
    -------
    DataFrame of str
        Index ``target`` and ``encoder``; columns ``R2``, ``mean absolute error``, ``AUC``, ``accuracy`` and ``macro
        F1``, such as ``"0.55 (0.52 to 0.58)"``, empty where a metric does not apply.
    """
    table = probe_table(results)
    table = table[table["skipped"] == ""]
    columns: dict[str, list[str]] = {}
    for metric in METRICS:
        triples = zip(table[metric], table[f"{metric}_low"], table[f"{metric}_high"], strict=True)
        units = [f" {unit}" if metric == "mae" else "" for unit in table["unit"]]
        columns[metric_name(metric)] = [
            "" if math.isnan(value) else number({"value": value, "low": low, "high": high}) + unit
            for (value, low, high), unit in zip(triples, units, strict=True)
        ]
    return pd.DataFrame(columns, index=table.index)
