"""The figures of a session's report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from ecgkit import plots, stats
from ecgkit.evaluation.files import read_history, stored_predictions
from ecgkit.evaluation.mistakes import confident_mistakes, cooccurrence_tables
from ecgkit.sessions import Session
from ecgkit.stats import FoldScores
from ecgkit.stats.folds import TEST_FOLD, VALIDATION_FOLD
from ecgkit.training.targets import QUANTITIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ecgkit.datasets import Dataset


@dataclass(frozen=True)
class ReportContent:
    """The data of a report's figures.

    Attributes
    ----------
    session : Session
        With the files of the report, apart from ``metrics.json``.
    results : mapping
        The contents of ``metrics.json``.
    data : Dataset or None
        The dataset, for figures of records and ECGs.
    """

    session: Session
    results: Mapping[str, Any]
    data: Dataset | None = None

    @property
    def fold(self) -> int:
        """The fold that the report is about."""
        return TEST_FOLD if f"fold_{TEST_FOLD}" in self.results else VALIDATION_FOLD

    @property
    def groups(self) -> Mapping[str, Any]:
        """The metrics of that fold: class, mean or quantity to metric."""
        metrics: Mapping[str, Any] = self.results[f"fold_{self.fold}"]
        return metrics

    @property
    def classes(self) -> list[str]:
        """The classes; empty for a quantity."""
        return [name for name in self.groups if name not in ("macro", "micro", "samples")] if self.has_classes else []

    @property
    def has_classes(self) -> bool:
        """False where the model predicts a quantity."""
        return "macro" in self.groups

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """The table of predictions."""
        return stored_predictions(self.session)

    @cached_property
    def scores(self) -> FoldScores:
        """Outcomes and probabilities of the fold."""
        return stats.fold_scores(self.predictions, self.classes, self.fold)

    @cached_property
    def thresholds(self) -> dict[str, Any]:
        """The contents of ``thresholds.json``."""
        return self.optional("thresholds.json")

    def optional(self, name: str) -> dict[str, Any]:
        """Return the contents of a JSON file of the session; empty if there is none."""
        return self.session.read_json(name) if (self.session.path / name).is_file() else {}

    def has(self, name: str) -> bool:
        """Return True if the session has a file."""
        return (self.session.path / name).is_file()


@dataclass(frozen=True)
class ReportFigure:
    """A figure of the report: its caption, and the function that draws it or returns None where it does not apply."""

    caption: str
    draw: Callable[[ReportContent], Figure | None]


def _history(content: ReportContent) -> Figure | None:
    """Draw the history of the training, except that of an ensemble."""
    history = read_history(content.session)
    return plots.history(history) if len(history) else None


def _quantity(content: ReportContent) -> Figure | None:
    """Draw predicted against true values of a quantity."""
    if content.has_classes:
        return None
    (name,) = content.groups
    rows = content.predictions[content.predictions["fold"] == content.fold]
    true, predicted = rows[f"true_{name}"].to_numpy(), rows[f"predicted_{name}"].to_numpy()
    return plots.predicted_quantity(true, predicted, name=name, unit=QUANTITIES[name].unit, fold=content.fold)


def _of_classes(
    draw: Callable[[ReportContent], Figure | None], *files: str
) -> Callable[[ReportContent], Figure | None]:
    """Restrict a figure to models of classes, and to sessions that have some files."""
    return lambda content: draw(content) if content.has_classes and all(map(content.has, files)) else None


def _mistakes(kind: str) -> Callable[[ReportContent], Figure | None]:
    """Return the function that draws the most confident mistakes of one kind."""

    def draw(content: ReportContent) -> Figure | None:
        if content.data is None:
            return None
        ids = content.predictions.loc[content.predictions["fold"] == content.fold, "record_id"].to_numpy()
        worst = confident_mistakes(content.scores, content.thresholds, n=3, kind=kind, record_ids=ids)
        position = pd.Index(content.data.records["record_id"]).get_indexer(worst["record_id"])
        signals = [content.data.signal(int(i)) for i in position]
        return plots.mistakes(signals, worst, sampling_rate=content.data.sampling_rate)

    return _of_classes(draw)


REPORT_FIGURES = {
    "history": ReportFigure(
        "Training: loss and score on fold 9 by epoch; the mark is the epoch that was kept.", _history
    ),
    "predicted": ReportFigure("Predicted against true values.", _quantity),
    "auc_by_class": ReportFigure(
        "AUC of each class on each fold, with 95 % intervals; choices were made on fold 9.",
        _of_classes(lambda content: plots.metric_by_class(content.results)),
    ),
    "roc_curves": ReportFigure(
        "ROC curves; the dots are the thresholds chosen on fold 9.",
        _of_classes(lambda content: plots.roc_curves(content.scores, content.thresholds)),
    ),
    "precision_recall_curves": ReportFigure(
        "Precision and recall; the dots are the thresholds chosen on fold 9.",
        _of_classes(lambda content: plots.precision_recall_curves(content.scores, content.thresholds)),
    ),
    "confusion_matrices": ReportFigure(
        "Decisions at the thresholds chosen on fold 9.",
        _of_classes(lambda content: plots.confusion_matrices(content.scores, content.thresholds)),
    ),
    "score_histograms": ReportFigure(
        "Calibrated probabilities of records with and without the class; counts on a logarithmic scale.",
        _of_classes(lambda content: plots.score_histograms(content.scores, content.thresholds)),
    ),
    "reliability": ReportFigure(
        "Predicted probability and observed frequency.", _of_classes(lambda content: plots.reliability(content.scores))
    ),
    "subgroups": ReportFigure(
        "Macro AUC by subgroup, with 95 % intervals; small groups in grey.",
        _of_classes(lambda content: plots.subgroup_forest(content.optional("subgroups.json")), "subgroups.json"),
    ),
    "risk_coverage": ReportFigure(
        "The errors that remain if the model abstains on the records of which it is least confident.",
        _of_classes(lambda content: plots.risk_coverage(content.optional("selective.json")), "selective.json"),
    ),
    "predicted_cooccurrence": ReportFigure(
        "Which classes occur together, in truth and in the model's decisions.",
        _of_classes(lambda c: plots.cooccurrence_compared(cooccurrence_tables(c.scores, c.thresholds))),
    ),
    "mistakes_missed": ReportFigure("The most confident false negatives.", _mistakes("missed")),
    "mistakes_false_alarm": ReportFigure("The most confident false positives.", _mistakes("false alarm")),
}
"""The figures of ``report.html``, in order."""


def draw_figures(content: ReportContent, *, redraw: bool = False) -> dict[str, str]:
    """Draw and save the figures of a report that the session does not have yet.

    Parameters
    ----------
    content : ReportContent
        What they are drawn from.
    redraw : bool, default False
        Also draw those that the session has.

    Returns
    -------
    dict of str to str
        The name of each figure of the report in ``figures/``, and its caption.
    """
    captions = {}
    for name, figure in REPORT_FIGURES.items():
        if redraw or not content.has(f"figures/{name}.png"):
            drawn = figure.draw(content)
            if drawn is None:
                continue
            content.session.save_figure(drawn, name)
        captions[name] = figure.caption
    return captions
