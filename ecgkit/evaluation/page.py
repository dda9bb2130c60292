"""One self-contained page a session: what was trained, how good it is, and every figure, in a single HTML file."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from ecgkit import stats
from ecgkit.errors import EcgkitError
from ecgkit.evaluation.report import SHOWN
from ecgkit.sessions import Session
from ecgkit.stats.calibration import calibration_summary
from ecgkit.stats.folds import TEST_FOLD
from ecgkit.stats.labels import format_interval
from ecgkit.stats.thresholds import policy_table

PAGE = "report.html"
FIGURES = {
    "history": "Training: loss and macro AUC on fold 9, epoch by epoch; the mark is the epoch that was kept.",
    "auc_by_class": "AUC of each class on fold 9, where choices were made, and on fold 10, with 95 % intervals.",
    "roc_curves": "ROC curves on fold 10; the dots are the thresholds from fold 9.",
    "precision_recall_curves": "Precision and recall on fold 10; the dots are the thresholds from fold 9.",
    "confusion_matrices": "Decisions on fold 10 at the thresholds from fold 9.",
    "score_histograms": "Probabilities on fold 10, by truth; counts on a logarithmic scale.",
    "reliability": "Predicted probability against observed frequency on fold 10.",
    "subgroups": "Macro AUC by subgroup on fold 10, with 95 % intervals; small groups in grey.",
    "risk_coverage": "What is left of the errors if the model abstains where it is least sure.",
    "predicted_cooccurrence": "Which classes come together, in truth and in the model's decisions.",
    "mistakes_missed": "Classes that the model missed, and was surest about.",
    "mistakes_false_alarm": "Classes that the model saw, most surely, where the report has none.",
    "class_counts": "How many records carry each class.",
    "fold_sizes": "How many records each fold has.",
}
"""The figures of a session in the order of the page, with what they show."""
FACTS = ("model", "dataset", "label_set", "seed", "epochs", "batch_size", "learning_rate", "metadata")


def html_environment(package: str) -> jinja2.Environment:
    """Make what fills the templates of a package: all values are escaped, and a name that is not given is an error.

    Parameters
    ----------
    package : str
        Such as ``"ecgkit.evaluation"``, which has a folder ``templates``.

    Returns
    -------
    Environment
    """
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package, "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def write_page(session: Session) -> Path:
    """Write ``report.html`` from the files of a session; it needs no other file and no network, and fits on a phone.

    Parameters
    ----------
    session : Session
        With ``metrics.json``; what else is there is shown, too: ``config.json``, ``environment.json``,
        ``thresholds.json``, ``subgroups.json``, ``classification_report.txt``, ``history.csv`` and ``figures/``.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    EcgkitError
        If the session has no ``metrics.json``.
    """
    if not (session.path / "metrics.json").is_file():
        raise EcgkitError(f"{session.path} has no metrics.json: finish the session first")
    environment = html_environment("ecgkit.evaluation")
    environment.filters["number"] = number
    environment.filters["entry"] = format_interval
    html = environment.get_template("report.html").render(**_content(session))
    return session.write_text(PAGE, html)


def number(value: float | None, digits: int = 3) -> str:
    """Write a number for reading; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def _content(session: Session) -> dict[str, Any]:
    results, config = session.read_json("metrics.json"), session.config
    folds = [fold for fold in ("fold_10", "fold_9") if fold in results]
    classes = [name for name in results["fold_10"] if name not in ("macro", "micro", "samples")]
    return {
        "session": session.name,
        "facts": {name: config[name] for name in FACTS if config.get(name) is not None},
        "environment": _optional(session, "environment.json"),
        "results": results,
        "folds": {fold: f"Fold {fold.removeprefix('fold_')}" for fold in folds},
        "rows": [*classes, "macro"],
        "columns": SHOWN,
        "bootstrap": results.get("bootstrap", {}),
        "thresholds": _optional(session, "thresholds.json"),
        **_of_predictions(session, classes),
        "subgroups": _subgroup_rows(_optional(session, "subgroups.json")),
        "classification_report": _text(session.path / "classification_report.txt"),
        "figures": _figures(session.path / "figures"),
    }


def _optional(session: Session, name: str) -> dict[str, Any]:
    return session.read_json(name) if (session.path / name).is_file() else {}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _of_predictions(session: Session, classes: Sequence[str]) -> dict[str, Any]:
    """Give what the predictions for fold 10 say of the calibration and of each threshold."""
    path, thresholds = session.path / "predictions.parquet", _optional(session, "thresholds.json")
    found: dict[str, Any] = {"calibration": [], "policies": {}}
    if not path.is_file():
        return found
    scores = stats.fold_scores(pd.read_parquet(path), classes, TEST_FOLD)
    if scores.calibrated is not None:
        table = calibration_summary(scores).reset_index(names="class")
        found["calibration"] = [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
    if policies := thresholds.get("policies"):
        points = policy_table(scores, thresholds).to_dict("index")
        found["policies"] = {policy: {name: points[name, policy] for name in classes} for policy in policies}
    return found


def _subgroup_rows(subgroups: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give a row a group: its division, name, counts and macro AUC."""
    return [
        {
            "division": division,
            "group": name,
            "n_records": group["n_records"],
            "is_small": group["is_small"],
            "auc": group["metrics"]["macro"]["auc"],
            "sensitivity": group["metrics"]["macro"]["sensitivity"],
            "specificity": group["metrics"]["macro"]["specificity"],
        }
        for division, content in subgroups.get("divisions", {}).items()
        for name, group in content["groups"].items()
    ]


def _figures(folder: Path) -> Sequence[dict[str, str]]:
    """Give the figures as data that a page can hold, those that this module knows first and with their captions."""
    there = {path.stem: path for path in sorted(folder.glob("*.png"))}
    names = [name for name in FIGURES if name in there] + [name for name in there if name not in FIGURES]
    return [
        {
            "name": name,
            "caption": FIGURES.get(name, name.replace("_", " ")),
            "data": base64.b64encode(there[name].read_bytes()).decode(),
        }
        for name in names
    ]
