"""The card of a model: what it was trained on and how, how good it is, for whom, and what it must not be used for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from ecgkit.stats.labels import POLICY_DESCRIPTIONS, format_interval
from ecgkit.stats.subgroups import describe_gap

SECTIONS = (
    "What it is",
    "Data and licence",
    "Protocol",
    "Results",
    "Calibration",
    "Limits",
    "Not for clinical use",
    "Use",
)
"""The headings that every card has."""

SHOWN = {"auc": "AUC", "f1": "F1", "sensitivity": "sensitivity", "specificity": "specificity"}
SYNTHETIC = "demo"
NO_COMPARISON = "comorbidity"
"""A division by the outcomes themselves, which says nothing of patients that can be told beforehand."""


def model_card(
    description: Mapping[str, Any],
    results: Mapping[str, Mapping[str, Any]],
    *,
    name: str,
    subgroups: Mapping[str, Any] | None = None,
) -> str:
    """Write the card of a model.

    Parameters
    ----------
    description : mapping
        What ``model.json`` holds.
    results : mapping
        ``config.json``, ``thresholds.json``, ``calibration.json`` and ``metrics.json`` by name.
    name : str
        What `ecgkit.load_model` is given.
    subgroups : mapping, optional
        What ``subgroups.json`` holds; without it the card says that subgroups were not looked at.

    Returns
    -------
    str
        Markdown with the headings of `SECTIONS`.

    References
    ----------
    Mitchell et al., "Model cards for model reporting", FAT* 2019, doi:10.1145/3287560.3287596.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ecgkit.inference", "templates"),
        autoescape=jinja2.select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["entry"] = format_interval
    environment.filters["filters"] = _filters_in_words
    return environment.get_template("card.md").render(
        **description,
        name=name,
        config=results["config.json"],
        recipe=_flat(results["config.json"]),
        thresholds=results["thresholds.json"],
        policy=POLICY_DESCRIPTIONS[results["thresholds.json"].get("policy", "best_f1")],
        calibration=results["calibration.json"]["classes"],
        results=results["metrics.json"],
        bootstrap=results["metrics.json"].get("bootstrap", {}).get("fold_10", {}),
        shown=SHOWN,
        gaps=None if subgroups is None else _gaps(subgroups),
        is_synthetic=description["dataset"]["source"] == SYNTHETIC,
    )


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Give the parameters of a training one by one, without those that other sections say."""
    said = ("dataset", "dataset_fingerprint", "model", "label_set", "model_options", "loss_options", "save_every_epoch")
    flat = {key: value for key, value in config.items() if key not in said}
    for group in ("loss_options", "model_options"):
        flat |= {f"{group}.{key}": value for key, value in config.get(group, {}).items()}
    return flat


def _filters_in_words(filters: Mapping[str, Any]) -> str:
    """Say what the signals go through."""
    words = []
    if filters.get("bandpass"):
        low, high = filters["bandpass"]
        words.append(f"band-pass {low:g} to {high:g} Hz (Butterworth, order {filters['order']}, without phase shift)")
    if filters.get("notch"):
        words.append(f"notch at {filters['notch']:g} Hz")
    return ", ".join(words) or "none"


def _gaps(subgroups: Mapping[str, Any]) -> Sequence[str]:
    """Say how far apart the groups of patients and of recordings are."""
    return [describe_gap(subgroups, division) for division in subgroups["divisions"] if division != NO_COMPARISON]
