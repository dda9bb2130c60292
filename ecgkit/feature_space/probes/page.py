"""The overview of a probe session: one page with every target, its probe, its controls, and what follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from ecgkit.feature_space.probes.controls import PERMUTATION, PROBE
from ecgkit.feature_space.probes.fit import ProbeResult
from ecgkit.feature_space.probes.words import METRIC_WORDS, number, sentences, spoken

SHOWN = {"regression": ("r2", "mae", "accuracy", "f1"), "binary": ("auc", "accuracy", "f1")}
"""The metrics of a target's table."""

FIGURE_NAMES = {
    "predicted": "predicted and true values",
    "bland_altman": "agreement (Bland and Altman)",
    "probability": "probabilities",
    "classes": "confusion of classes",
    "comparison": "beside its controls",
}


def overview(session: str, results: Mapping[str, ProbeResult], figures: Mapping[str, Sequence[str]]) -> str:
    """Write the page; it needs no network, and its links lead to the figures and reports beside it.

    Parameters
    ----------
    session : str
        Name of the probe session.
    results : mapping of str to ProbeResult
        What `fit_probes` gave.
    figures : mapping of str to sequence of str
        For each target that was not skipped the names of its figures.

    Returns
    -------
    str
        HTML.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ecgkit.feature_space.probes", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    targets = [_target(name, result, figures.get(name, ())) for name, result in results.items()]
    resamples = max((result.judgement.resamples for result in results.values()), default=0)
    return environment.get_template("overview.html").render(session=session, targets=targets, resamples=resamples)


def _target(name: str, result: ProbeResult, figures: Sequence[str]) -> dict[str, Any]:
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
        "name": name,
        "title": spoken(name) + (f" ({target.unit})" if target.unit else ""),
        "headline": number(metrics[PROBE][target.main_metric]) if metrics else "-",
        "metric": METRIC_WORDS[target.main_metric],
        "sentences": [*sentences(result), *result.notes],
        "columns": [METRIC_WORDS[metric] + units.get(metric, "") for metric in columns],
        "rows": rows,
        "figures": [(f"{name}/figures/{figure}.png", FIGURE_NAMES.get(figure, figure)) for figure in figures],
    }
