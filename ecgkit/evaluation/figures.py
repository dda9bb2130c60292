"""The figures of a session's report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from ecgkit import plots, stats
from ecgkit.evaluation.files import read_history, stored_predictions
from ecgkit.evaluation.mistakes import confident_mistakes, cooccurrence_tables
from ecgkit.sessions import Session
from ecgkit.stats import FoldScores
from ecgkit.stats.folds import TEST_FOLD, VALIDATION_FOLD
from ecgkit.stats.labels import MEANS
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
        return [name for name in self.groups if name not in MEANS] if self.has_classes else []

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
        return self.session.read_json(name) if self.has(name) else {}

    def text(self, name: str) -> str:
        """Return the text of a file of the session; empty if there is none."""
        return (self.session.path / name).read_text(encoding="utf-8") if self.has(name) else ""

    def has(self, name: str) -> bool:
        """Return True if the session has a file."""
        return (self.session.path / name).is_file()


@dataclass(frozen=True)
class ReportFigure:
    """A figure of the report.

    Attributes
    ----------
    caption : str
        Its caption.
    draw : callable
        Draws it, or returns None where it does not apply.
    needs : str
        The file without which it does not apply; empty for a figure of a quantity, which no model of classes has.
    """

    caption: str
    draw: Callable[[ReportContent], Figure | None]
    needs: str = "thresholds.json"


def _quantity(content: ReportContent) -> Figure:
    """Draw predicted against true values of a quantity."""
    (name,) = content.groups
    rows = content.predictions[content.predictions["fold"] == content.fold]
    true, predicted = rows[f"true_{name}"].to_numpy(), rows[f"predicted_{name}"].to_numpy()
    return plots.predicted_quantity(true, predicted, name=name, unit=QUANTITIES[name].unit, fold=content.fold)


def _mistakes(content: ReportContent, kind: str) -> Figure | None:
    """Draw the most confident mistakes of one kind."""
    if content.data is None:
        return None
    ids = content.predictions.loc[content.predictions["fold"] == content.fold, "record_id"].to_numpy()
    worst = confident_mistakes(content.scores, content.thresholds, n=3, kind=kind, record_ids=ids)
    position = pd.Index(content.data.records["record_id"]).get_indexer(worst["record_id"])
    signals = [content.data.signal(int(i)) for i in position]
    return plots.mistakes(signals, worst, sampling_rate=content.data.sampling_rate)


REPORT_FIGURES = {
    "history": ReportFigure(
        "Training: loss and score on fold 9 by epoch; the mark is the epoch that was kept.",
        lambda content: plots.history(read_history(content.session)),
        "history.csv",
    ),
    "predicted": ReportFigure("Predicted against true values.", _quantity, ""),
    "auc_by_class": ReportFigure(
        "AUC of each class on each fold, with 95 % intervals; choices were made on fold 9.",
        lambda content: plots.metric_by_class(content.results),
    ),
    "roc_curves": ReportFigure(
        "ROC curves; the dots are the thresholds chosen on fold 9.",
        lambda content: plots.roc_curves(content.scores, content.thresholds),
    ),
    "precision_recall_curves": ReportFigure(
        "Precision and recall; the dots are the thresholds chosen on fold 9.",
        lambda content: plots.precision_recall_curves(content.scores, content.thresholds),
    ),
    "confusion_matrices": ReportFigure(
        "Decisions at the thresholds chosen on fold 9.",
        lambda content: plots.confusion_matrices(content.scores, content.thresholds),
    ),
    "score_histograms": ReportFigure(
        "Calibrated probabilities of records with and without the class; counts on a logarithmic scale.",
        lambda content: plots.score_histograms(content.scores, content.thresholds),
    ),
    "reliability": ReportFigure(
        "Predicted probability and observed frequency.", lambda content: plots.reliability(content.scores)
    ),
    "subgroups": ReportFigure(
        "Macro AUC by subgroup, with 95 % intervals; small groups in grey, means of fewer classes hollow.",
        lambda content: plots.subgroup_forest(content.optional("subgroups.json")),
        "subgroups.json",
    ),
    "risk_coverage": ReportFigure(
        "The errors that remain if the model abstains on the records of which it is least confident.",
        lambda content: plots.risk_coverage(content.optional("selective.json")),
        "selective.json",
    ),
    "predicted_cooccurrence": ReportFigure(
        "Which classes occur together, in truth and in the model's decisions.",
        lambda content: plots.cooccurrence_compared(cooccurrence_tables(content.scores, content.thresholds)),
    ),
    "mistakes_missed": ReportFigure("The most confident false negatives.", partial(_mistakes, kind="missed")),
    "mistakes_false_alarm": ReportFigure("The most confident false positives.", partial(_mistakes, kind="false alarm")),
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
            applies = content.has(figure.needs) if figure.needs else not content.has_classes
            drawn = figure.draw(content) if applies else None
            if drawn is None:
                continue
            content.session.save_figure(drawn, name)
        captions[name] = figure.caption
    return captions
