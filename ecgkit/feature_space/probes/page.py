"""The overview of a probe session: one page with every target, its probe, its controls, and what follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ecgkit.evaluation.page import html_environment
from ecgkit.feature_space.probes.by_layer import ALL_TOGETHER, TRAINED, UNTRAINED
from ecgkit.feature_space.probes.controls import ORDER, PERMUTATION, PROBE
from ecgkit.feature_space.probes.fit import ProbeResult
from ecgkit.feature_space.probes.words import number, sentences
from ecgkit.stats.labels import metric_name, target_name

SHOWN = {"regression": ("r2", "mae", "accuracy", "f1"), "binary": ("auc", "accuracy", "f1")}
"""The metrics of a target's table."""

FIGURE_NAMES = {
    "predicted": "predicted and true values",
    "bland_altman": "agreement (Bland and Altman)",
    "probability": "probabilities",
    "classes": "confusion of classes",
    "comparison": "beside its controls",
}


def overview(
    session: str,
    results: Mapping[str, ProbeResult],
    figures: Mapping[str, Sequence[str]],
    folders: Mapping[str, str],
    by_layer: pd.DataFrame | None = None,
    *,
    subject: str = "",
) -> str:
    """Write the page; it needs no network, and its links lead to the figures and reports beside it.

    Parameters
    ----------
    session : str
        Name of the probe session.
    results : mapping of str to ProbeResult
        What `fit_probes` gave.
    figures : mapping of str to sequence of str
        For each target that was not skipped the names of its figures.
    folders : mapping of str to str
        For each target the name of its folder.
    by_layer : DataFrame, optional
        As `ecgkit.feature_space.probes.probe_layers` gives it.
    subject : str, optional
        Whose embeddings these are.

    Returns
    -------
    str
        HTML.
    """
    environment = html_environment("ecgkit.feature_space.probes")
    beside = [source for source in ORDER if source != PERMUTATION and _in_any(source, results)]
    targets = [_target(name, result, figures.get(name, ()), folders[name], beside) for name, result in results.items()]
    resamples = max((result.judgement.resamples for result in results.values()), default=0)
    return environment.get_template("overview.html").render(
        session=session,
        subject=subject,
        targets=targets,
        sources=[source.replace("_", " ") for source in beside],
        resamples=resamples,
        layers=None if by_layer is None else _layer_rows(by_layer),
    )


def _in_any(source: str, results: Mapping[str, ProbeResult]) -> bool:
    return any(source in result.judgement.metrics for result in results.values())


def _layer_rows(table: pd.DataFrame) -> list[dict[str, str]]:
    """Give for each target what the last layer and all layers together reach, and all layers of the untrained one."""
    rows = []
    for name, of_target in table.groupby("target", sort=False):
        known = of_target[of_target["value"].notna()]
        single = known[(known["encoder"] == TRAINED) & (known["layer"] != ALL_TOGETHER)]
        last = single.tail(1)
        together = known[known["layer"] == ALL_TOGETHER]
        cells = {"last": last, **{one: together[together["encoder"] == one] for one in (TRAINED, UNTRAINED)}}
        written = {key: _first(found) for key, found in cells.items()}
        rows.append(
            {
                "title": target_name(str(name)),
                "metric": metric_name(of_target["metric"].iloc[0]),
                "layer": str(last["layer"].iloc[0]) if len(last) else str(of_target["skipped"].iloc[0]),
                **written,
            }
        )
    return rows


def _first(rows: pd.DataFrame) -> str:
    """Write the number of the first row with its interval, or a dash without one."""
    if rows.empty:
        return "-"
    return number({key: float(rows[key].iloc[0]) for key in ("value", "low", "high")})


def _target(
    name: str, result: ProbeResult, figures: Sequence[str], folder: str, beside: Sequence[str]
) -> dict[str, Any]:
    """Give what the page says of one target."""
    target, metrics = result.target, result.judgement.metrics
    columns = SHOWN.get(target.kind, SHOWN["binary"])
    rows = [
        {
            "name": source.replace("_", " "),
            "what": result.names.get(source, ""),
            "cells": [number(entries[metric]) if metric in entries else "" for metric in columns],
            "is_probe": source == PROBE,
        }
        for source, entries in metrics.items()
        if source != PERMUTATION
    ]
    units = {"mae": f", {target.unit}"}
    return {
        "folder": folder,
        "title": target_name(name) + (f" ({target.unit})" if target.unit else ""),
        "headline": [number(metrics[source][target.main_metric]) if source in metrics else "-" for source in beside],
        "metric": metric_name(target.main_metric),
        "sentences": [*sentences(result), *result.notes],
        "columns": [metric_name(metric) + units.get(metric, "") for metric in columns],
        "rows": rows,
        "figures": [(f"{folder}/figures/{figure}.png", FIGURE_NAMES.get(figure, figure)) for figure in figures],
    }
