"""``report.html``: what was trained, how good it is, and the figures, in one file."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from ecgkit import stats
from ecgkit.errors import EcgkitError
from ecgkit.evaluation.figures import ReportContent, draw_figures
from ecgkit.evaluation.files import read_metrics
from ecgkit.io import html_environment
from ecgkit.sessions import Session
from ecgkit.stats.calibration import calibration_summary
from ecgkit.stats.folds import TEST_FOLD, VALIDATION_FOLD
from ecgkit.stats.labels import SHOWN_METRICS, format_interval, meaning, metric_name
from ecgkit.stats.thresholds import policy_table

if TYPE_CHECKING:
    from ecgkit.datasets import Dataset

PAGE = "report.html"
PARAMETERS = ("model", "dataset", "label_set", "target", "seed", "epochs", "batch_size", "learning_rate", "metadata")
"""The parameters of a training that the page lists."""

FILES = (
    *("model_card.md", "classification_report.txt", "2_Training.ipynb", "predictions.parquet", "thresholds.json"),
    *("calibration.json", "subgroups.json", "selective.json", "config.json", "environment.json", "ensemble.json"),
    *("unlabelled.parquet", "history.csv", "training_log.txt", "notes.txt", "weights/best.safetensors"),
)
"""The files of a session that the page links, relative to it."""


def write_page(
    session: Session,
    results: Mapping[str, Any] | None = None,
    *,
    data: Dataset | None = None,
    redraw: bool = False,
) -> Path:
    """Write ``report.html`` of a session, self-contained and readable on a phone, and the figures that it lacks.

    Parameters
    ----------
    session : Session
        With ``predictions.parquet`` and, for classes, ``thresholds.json``; the other files of a session are shown if
        they exist.
    results : mapping, optional
        The contents of ``metrics.json``; by default they are read.
    data : Dataset, optional
        The dataset, for figures of ECGs.
    redraw : bool, default False
        Draw the figures again that the session has.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    EcgkitError
        If there are no results and no ``metrics.json``.
    """
    if results is None:
        if not (session.path / "metrics.json").is_file():
            raise EcgkitError(f"{session.path} has no metrics.json: finish the session first")
        results = read_metrics(session)
    content = ReportContent(session, results, data)
    captions = draw_figures(content, redraw=redraw)
    environment = html_environment("ecgkit.evaluation")
    environment.filters |= {"number": number, "entry": format_interval, "metric": metric_name, "cell": cell}
    figures = [embedded(session, name, caption) for name, caption in captions.items()]
    page = environment.get_template(PAGE).render(**_values(content), figures=figures)
    return session.write_text(PAGE, page)


def embedded(session: Session, name: str, caption: str) -> dict[str, str]:
    """Return a figure of a session as a page embeds it."""
    png = session.path / "figures" / f"{name}.png"
    return {"caption": caption, "file": f"figures/{name}.png", "data": base64.b64encode(png.read_bytes()).decode()}


def _positives(content: ReportContent) -> dict[int, dict[str, int]]:
    """Count the records that carry each class, by fold."""
    folds = [fold for fold in (VALIDATION_FOLD, TEST_FOLD) if f"fold_{fold}" in content.results]
    found = [stats.fold_scores(content.predictions, content.classes, fold).positive.sum(axis=0) for fold in folds]
    return {
        fold: dict(zip(content.classes, of_fold.tolist(), strict=True))
        for fold, of_fold in zip(folds, found, strict=True)
    }


def number(value: float | None, digits: int = 3) -> str:
    """Format a number, or a dash for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def cell(entry: Mapping[str, float | None]) -> Markup:
    """Format a number with its interval below it, so that a table of eight metrics fits a page."""
    value, _, interval = format_interval(entry).partition(" (")
    return Markup("{}<small>{}</small>").format(value, interval.rstrip(")")) if interval else escape(value)


def _values(content: ReportContent) -> dict[str, Any]:
    """Collect the values of the page's template."""
    session, config = content.session, content.optional("config.json")
    main, calibration, policies = (next(iter(content.groups)), "r2"), [], {}
    if content.has_classes:
        main = ("macro", "auc")
        calibration = calibration_summary(content.scores).reset_index(names="class").to_dict("records")
        points = policy_table(content.scores, content.thresholds).to_dict("index")
        policies = {
            policy: {name: points[name, policy] for name in content.classes}
            for policy in content.thresholds["policies"]
        }
    return {
        "session": session.name,
        "parameters": {name: config[name] for name in PARAMETERS if config.get(name) not in (None, "")},
        "environment": content.optional("environment.json"),
        "results": content.results,
        "with_unlabelled": content.results.get("with_unlabelled"),
        "fold": content.fold,
        "folds": [fold for fold in (10, 9) if f"fold_{fold}" in content.results],
        "main": main,
        "rows": [name for name in content.groups if name not in ("micro", "samples")],
        "columns": [name for name in SHOWN_METRICS if name in content.groups[main[0]]],
        "bootstrap": content.results["bootstrap"][f"fold_{content.fold}"],
        "policy": content.thresholds.get("policy", ""),
        "calibration": calibration,
        "policies": policies,
        "divisions": content.optional("subgroups.json").get("divisions", {}),
        "counts": _positives(content) if content.has_classes else {},
        "class_names": {name: text for name in content.classes if (text := meaning(name, config.get("label_set", "")))},
        "files": [name for name in FILES if content.has(name)],
        "classification_report": content.text("classification_report.txt"),
    }
