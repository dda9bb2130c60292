"""Files of a probe session: one folder per target, and ``overview.html``."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.numpy
from matplotlib.figure import Figure
from sklearn.metrics import classification_report, confusion_matrix

from ecgkit.feature_space.probes.by_layer import ALL_TOGETHER, TRAINED
from ecgkit.feature_space.probes.comparison import BETTER
from ecgkit.feature_space.probes.controls import BASELINE, END_TO_END, PERMUTATION, PROBE, SHUFFLED
from ecgkit.feature_space.probes.fit import ProbeResult
from ecgkit.feature_space.probes.linear import LinearProbe
from ecgkit.io import file_name, html_environment, nan_as_none, write_atomically
from ecgkit.plots import probes as plots
from ecgkit.plots.probes import source_name
from ecgkit.sessions import Session
from ecgkit.stats.folds import TEST_FOLD
from ecgkit.stats.labels import format_interval, metric_name, target_name

METRICS_VERSION = 2
"""Version of the layout of ``metrics.json``."""

WEIGHTS_FORMAT = "ecgkit-probe-1"
"""Format in the header of the weights' file."""

COMPARED = ("r2", "mae", "auc", "accuracy", "f1")
"""Metrics of the table of results; ``metrics.json`` has all."""

INTERVALS = (
    "In parentheses: 95 % intervals over bootstrap resamples of the patients; for several untrained encoders the "
    "lowest and the highest of them, around their mean. Differences: probe minus control, with paired intervals."
)

SIGNIFICANT = 0.05
ENDS = ("value", "low", "high")
DIFFERENCE = {"value": "difference", "low": "difference_low", "high": "difference_high", "verdict": "verdict"}
"""Columns of the differences in the table of results."""


def probe_table(results: Mapping[str, ProbeResult]) -> pd.DataFrame:
    """Return the results of all targets in one table.

    Parameters
    ----------
    results : mapping of str to ProbeResult
        As from `fit_probes`.

    Returns
    -------
    DataFrame
        One row per target, source (``"probe"`` first, then its controls) and metric: ``target``, ``source``,
        ``metric``, ``unit`` (of the metric), ``value`` with ``low`` and ``high`` on fold 10, ``difference`` (probe
        minus control) with ``difference_low`` and ``difference_high``, ``verdict``, ``p_adjusted`` (of the probe's main
        metric) and ``description`` of the source. A target without probes has one row, whose description is the reason.
    """
    rows: list[dict[str, Any]] = []
    for name, result in results.items():
        if result.skipped:
            rows.append({"target": name, "source": PROBE, "description": result.skipped})
        for source, entries in result.comparison.metrics.items():
            for metric in [metric for metric in COMPARED if metric in entries and source != PERMUTATION]:
                row = {"target": name, "source": source, "metric": metric, **entries[metric]}
                row |= {"unit": result.target.unit if metric == "mae" else "", "description": result.names.get(source)}
                if source == PROBE and metric == result.target.main_metric:
                    row["p_adjusted"] = result.comparison.p_adjusted
                difference = result.comparison.differences.get(source, {}).get(metric, {})
                row |= {DIFFERENCE[key]: value for key, value in difference.items()}
                rows.append(row)
    columns = ["target", "source", "metric", "unit", *ENDS, "p_adjusted", "description", *DIFFERENCE.values()]
    numbers = (*ENDS, "p_adjusted", *(DIFFERENCE[end] for end in ENDS))
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(numbers, float))


def readable_table(results: Mapping[str, ProbeResult]) -> pd.DataFrame:
    """Return the main metric of the probe and its controls, with 95 % intervals, one row per target.

    Parameters
    ----------
    results : mapping of str to ProbeResult
        As from `fit_probes`.

    Returns
    -------
    DataFrame of str
        Index: the targets with a probe. Columns: ``metric``, the sources, such as ``"0.55 (0.52 to 0.58)"``, and ``p``.
    """
    rows = {}
    for name, result in results.items():
        if not result.skipped:
            main, metrics = result.target.main_metric, result.comparison.metrics
            sources = [source for source in metrics if source != PERMUTATION]
            cells = {source_name(source): _number(metrics[source][main], 2) for source in sources}
            rows[name] = {"metric": metric_name(main), **cells, "p": f"{result.comparison.p_adjusted:.3f}"}
    return pd.DataFrame.from_dict(rows, orient="index").fillna("")


def probe_summary(result: ProbeResult) -> str:
    """Summarise the probes of one target in one line.

    Parameters
    ----------
    result : ProbeResult
        The probes of one target.

    Returns
    -------
    str
        Such as ``"linearly present: R2 0.41 (0.35 to 0.46), p = 0.001; better than baseline, untrained encoder"``. A
        target is linearly present if the corrected p value is at most 0.05 and the probe is better than baseline and
        shuffled labels; else there is no evidence.
    """
    if result.skipped:
        return f"no probe: {result.skipped}"
    main, comparison = result.target.main_metric, result.comparison
    entries = {name: found[main] for name, found in comparison.differences.items() if name != END_TO_END}
    verdicts = {name: entry["verdict"] for name, entry in entries.items() if not math.isnan(entry["value"])}
    better = [name for name, verdict in verdicts.items() if verdict == BETTER]
    others = [name for name in verdicts if name not in better]
    present = comparison.p_adjusted <= SIGNIFICANT and not {BASELINE, SHUFFLED} & set(others)
    reached = f"{metric_name(main)} {_number(comparison.metrics[PROBE][main], 2)}, p = {comparison.p_adjusted:.3f}"
    parts = [f"{'linearly present' if present else 'no evidence'}: {reached}"]
    parts += [f"better than {', '.join(map(source_name, better))}"] if better else []
    parts += [f"not shown to be better than {', '.join(map(source_name, others))}"] if others else []
    return "; ".join(parts)


def write_probe_session(
    session: Session, results: Mapping[str, ProbeResult], by_layer: pd.DataFrame | None = None, *, subject: str = ""
) -> None:
    """Write one folder per target into a probe session, and ``overview.html``, the page of the whole session.

    Each folder has ``training_log.txt``, ``classification_report.txt``, ``metrics.json``, and unless the target was
    skipped ``predictions.parquet`` for fold 10, ``weights/probe.safetensors`` and ``figures/``. Next to the folders are
    ``probes.parquet`` (`probe_table`), ``figures/probe_comparison.png`` and with ``by_layer`` also
    ``figures/probes_by_layer.png``. Written again, folders are replaced. A folder has the name of its target, with
    ``-`` for what a folder's name cannot hold. The page shows every figure of the session, links every other file, and
    has a table per target.

    Parameters
    ----------
    session : Session
        The probe session.
    results : mapping of str to ProbeResult
        As from `fit_probes`.
    by_layer : DataFrame, optional
        As from `probe_layers`.
    subject : str, optional
        The model, for the heading of the page.
    """
    table, folders = probe_table(results), folder_names(results)
    for name, result in results.items():
        shutil.rmtree(session.path / folders[name], ignore_errors=True)
        folder = session.folder(folders[name])
        folder.write_text("training_log.txt", log_text(result))
        folder.write_text("classification_report.txt", report_text(result))
        folder.write_json("metrics.json", metrics_json(result, by_layer))
        if not result.skipped:
            folder.write_table("predictions.parquet", result.predictions)
            write_atomically(folder.path / "weights" / "probe.safetensors", weights_bytes(result))
        for figure_name, figure in probe_figures(result).items():
            folder.save_figure(figure, figure_name)
    session.write_table("probes.parquet", table)
    session.save_figure(plots.probe_comparison(table), "probe_comparison")
    if by_layer is not None:
        session.write_table("probes_by_layer.parquet", by_layer)
        session.save_figure(plots.probe_by_layer(by_layer), "probes_by_layer")
    session.write_text("overview.html", overview(session, results, folders, subject=subject))


def overview(session: Session, results: Mapping[str, ProbeResult], folders: Mapping[str, str], *, subject: str) -> str:
    """Return the page of a session whose files are written."""
    drawn = [path.stem for path in sorted((session.path / "figures").glob("*.png"))]
    table = probe_table(results).fillna({"description": ""})
    environment = html_environment("ecgkit.feature_space.probes")
    environment.filters |= {"number": _number, "metric": metric_name, "source": source_name}
    environment.filters |= {"target": target_name, "summary": probe_summary}
    return environment.get_template("overview.html").render(
        session=session.path.name,
        subject=subject,
        drawn=drawn,
        headline=readable_table(results),
        results=results,
        rows={name: rows.to_dict("records") for name, rows in table.groupby("target")},
        links={name: _files_of(session.path, folder) for name, folder in folders.items()},
        notes=INTERVALS,
        others=[path.name for pattern in ("*.html", "*.parquet") for path in sorted(session.path.glob(pattern))],
    )


def _files_of(folder: Path, name: str) -> list[str]:
    """List the files of one target, figures first."""
    paths = [path for path in (folder / name).rglob("*") if path.is_file()]
    return [str(path.relative_to(folder)) for path in sorted(paths, key=lambda path: (path.suffix != ".png", path))]


def folder_names(targets: Iterable[str]) -> dict[str, str]:
    """Return a folder name per target, also if two names differ only in what no folder's name can hold."""
    found: dict[str, str] = {}
    for name in targets:
        plain = file_name(name)
        same = sum(file_name(other) == plain for other in (*found, "figures"))
        found[name] = f"{plain}-{same + 1}" if same else plain
    return found


def probe_figures(result: ProbeResult) -> dict[str, Figure]:
    """Draw the figures of one target.

    Parameters
    ----------
    result : ProbeResult
        The probes of one target.

    Returns
    -------
    dict of str to Figure
        ``"predicted"``, the predictions and their agreement with the truth, for a quantity, ``"probability"`` for two
        classes; ``"classes"``, the confusion matrix. Empty if the target was skipped.
    """
    if result.skipped:
        return {}
    target, table = result.target, result.predictions
    true, predicted = table["true"].to_numpy(), table[PROBE].to_numpy()
    of_target: dict[str, Any] = {"name": target.name, "unit": target.unit}
    drawn: dict[str, Figure] = {}
    if target.kind == "binary":
        drawn["probability"] = plots.probe_probability(true == 1, predicted, categories=target.categories)
    elif target.kind == "regression":
        agreement = result.comparison.metrics[PROBE]
        drawn["predicted"] = plots.probe_regression(true, predicted, **of_target, agreement=agreement)
    drawn["classes"] = plots.probe_classes(
        true=table["true_class"], predicted=table[f"{PROBE}_class"], classes=target.classes, **of_target
    )
    return drawn


def metrics_json(result: ProbeResult, by_layer: pd.DataFrame | None = None) -> dict[str, Any]:
    """Return the content of ``metrics.json``.

    Parameters
    ----------
    result : ProbeResult
        The probes of one target.
    by_layer : DataFrame, optional
        As of `write_probe_session`.

    Returns
    -------
    dict
        ``{"version": 2, "fold_10": {"probe" | "baseline" | ...: {METRIC: {"value", "low", "high"}}}}``; a value that is
        not defined is None. With ``by_layer`` also ``"all_layers"`` and ``"all_layers_untrained"`` with the main
        metric. Further ``"differences"``, ``{CONTROL: {METRIC: {"value", "low", "high", "verdict"}}}`` of the probe
        minus the control; ``"p_value"`` of the main metric and ``"p_adjusted"``, the same corrected for ``"targets"``
        targets; ``"bootstrap"``; ``"selectivity"``, the difference to the shuffled labels; ``"controls"``, their
        descriptions; and ``"confusion"``, ``"classes"`` with a row of records for each true one. ``"skipped"`` is the
        reason why there is nothing under ``"fold_10"``.
    """
    comparison = result.comparison
    fold, differences = (
        {source: {metric: nan_as_none(entry) for metric, entry in entries.items()} for source, entries in found.items()}
        for found in (comparison.metrics, comparison.differences)
    )
    data = {"version": METRICS_VERSION, f"fold_{TEST_FOLD}": fold | _all_layers(result.target.name, by_layer)}
    if result.skipped:
        return data | {"skipped": result.skipped}
    table, classes = result.predictions, list(result.target.classes)
    counts = confusion_matrix(table["true_class"].tolist(), table[f"{PROBE}_class"].tolist(), labels=classes)
    return data | {
        "differences": differences,
        "selectivity": differences[SHUFFLED][result.target.main_metric],
        **nan_as_none({"p_value": comparison.p_value, "p_adjusted": comparison.p_adjusted}),
        "targets": comparison.targets,
        "bootstrap": {"resamples": comparison.resamples, "patients": result.counts["test_patients"]},
        "controls": {name: result.names[name] for name in comparison.metrics if name in result.names},
        "confusion": {"classes": classes, "records": counts.tolist()},
    }


def _all_layers(name: str, by_layer: pd.DataFrame | None) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return the metric of all layers together."""
    if by_layer is None:
        return {}
    rows = by_layer[(by_layer["target"] == name) & (by_layer["layer"] == ALL_TOGETHER)].dropna(subset="value")
    return {
        "all_layers" + ("" if row["encoder"] == TRAINED else f"_{row['encoder']}"): {
            row["metric"]: nan_as_none({key: row[key] for key in ENDS})
        }
        for row in rows.to_dict("records")
    }


def _number(entry: Mapping[Any, Any], digits: int) -> str:
    """Format a number with its interval."""
    return format_interval(nan_as_none({key: entry[key] for key in ENDS}), digits=digits)


def weights_bytes(result: ProbeResult) -> bytes:
    """Return the content of ``weights/probe.safetensors``.

    Parameters
    ----------
    result : ProbeResult
        The probes of one target, not skipped.

    Returns
    -------
    bytes
        float64 tensors ``value.mean``, ``value.scale`` (features,), ``value.coefficients`` (outputs, features) and
        ``value.intercepts`` (outputs,), for a quantity the same four of ``bins``: an output is
        ``coefficients @ ((embedding - mean) / scale) + intercepts``. The header describes the outputs.
    """
    tensors: dict[str, np.ndarray] = {}
    header = {"format": WEIGHTS_FORMAT, "target": result.target.name, "unit": result.target.unit}
    for part, probe in result.probes[PROBE].items():
        tensors |= {
            f"{part}.mean": probe.scaler.mean,
            f"{part}.scale": probe.scaler.scale,
            f"{part}.coefficients": probe.coefficients,
            f"{part}.intercepts": probe.intercepts,
        }
        header[f"{part}.classes"] = json.dumps([result.target.classes[i] for i in probe.classes])
        header[f"{part}.{probe.strength_name}"] = str(probe.strength)
    if result.target.categories:
        header["positive"] = result.target.categories[1]
    return safetensors.numpy.save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, header)


def _head_lines(result: ProbeResult) -> list[str]:
    """Return the first lines of log and report: the numbers of records, and the remarks."""
    counts, unit = result.counts, f" ({result.target.unit})" if result.target.unit else ""
    lines = [f"{result.target.name}{unit}: linear probe on frozen embeddings, fitted on folds 1-8, scored on fold 10"]
    lines += [
        f"{where}: {counts[part]:,} records of {counts[f'{part}_patients']:,} patients, "
        f"{counts[f'{part}_unknown']:,} unknown left out"
        for where, part in (("folds 1-8", "training"), (f"fold {TEST_FOLD}", "test"))
    ]
    lines += [f"{kind}: {counts[kind]:,} records" for kind in ("implausible", "rare", "capped") if counts[kind]]
    return [*lines, *result.notes, *([f"skipped: {result.skipped}"] if result.skipped else [])]


def log_text(result: ProbeResult) -> str:
    """Return the content of ``training_log.txt``: counts, and the strengths tried and chosen within folds 1-8."""
    fits = [
        f"\n{source_name(source)}, {part}: {_describe_fit(probe)}"
        for source, probes in result.probes.items()
        for part, probe in probes.items()
    ]
    return "\n".join([*_head_lines(result), *fits])


def _describe_fit(probe: LinearProbe) -> str:
    """Name the model, its strength, and the cross-validated scores that chose it."""
    kind = f"logistic regression of {len(probe.classes)} classes" if probe.classes else "ridge regression"
    chosen = f"{kind}, {probe.strength_name} {probe.strength:.4g}"
    if probe.trials.iloc[:, 1].isna().all():
        return f"{chosen}, as for the probe"
    return f"{chosen}, chosen within folds 1-8 with each patient on one side:\n{probe.trials.to_string(index=False)}"


def report_text(result: ProbeResult) -> str:
    """Return the content of ``classification_report.txt``: a summary, all metrics, and scikit-learn's report."""
    target, lines = result.target, _head_lines(result)
    if result.skipped:
        return "\n".join(lines)
    metrics = {
        source_name(source): {
            metric_name(name) + (f" ({target.unit})" if name in plots.IN_UNIT else ""): _number(entry, 3)
            for name, entry in entries.items()
        }
        for source, entries in result.comparison.metrics.items()
    }
    decided = f"at a probability of 0.5, {target.categories[-1]!r} is positive" if target.kind == "binary" else ""
    lines += ["", probe_summary(result), "", INTERVALS, "", pd.DataFrame(metrics).fillna("").to_string(), ""]
    lines += [f"Classes of {target.name}: {', '.join(target.classes)}", *([f"Decided {decided}"] if decided else [])]
    true, predicted = (result.predictions[name].tolist() for name in ("true_class", f"{PROBE}_class"))
    present = [name for name in target.classes if name in {*true, *predicted}]
    lines += ["", classification_report(true, predicted, labels=present, digits=3, zero_division=0)]
    if set(true) != set(present):
        lines += [f"A class without records in fold {TEST_FOLD} counts as 0 in the averages above, but not in F1."]
    return "\n".join(lines)
