"""The quality of a model: curves with the chosen thresholds, confusion matrices, probabilities, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from ecgkit import stats
from ecgkit.errors import check_choice
from ecgkit.plots.style import (
    COLORS,
    GREY,
    figure_of_cells,
    heat_map,
    histograms,
    legend_beside,
    line_styles,
    log_scale,
    new_axes,
    percentage,
    point_size,
    row_figure,
)
from ecgkit.stats import FoldScores
from ecgkit.stats.calibration import FEW
from ecgkit.stats.labels import metric_name, target_name
from ecgkit.stats.regression import regression_metrics

NAMED_CURVES = 10
"""With more classes than this, only the curves of the best and the worst have a colour and a line in the legend."""

LONGEST_OUTCOME = 6
"""Letters of the longest class whose name stands next to the cells of its confusion matrix."""

Point = tuple[float, float]
Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


FOLD_STYLES = {
    "fold_9": ("fold 9 (chosen on)", "D", GREY, -0.13),
    "fold_10": ("fold 10 (test)", "o", COLORS[0], 0.13),
    "outside": ("another data set", "s", COLORS[1], -0.13),
}
"""Name, marker, colour and shift of the records that a metric is from."""


def roc_curves(scores: FoldScores, thresholds: Mapping[str, Any]) -> Figure:
    """Draw the ROC curve of each class, with a dot at the threshold chosen on fold 9.

    Parameters
    ----------
    scores : FoldScores
        Outcomes and probabilities of a fold, including the calibrated ones. Of more than ten classes, the five with the
        highest and the five with the lowest AUC are named, among those with at least ten positives and ten negatives.
    thresholds : mapping
        The contents of ``thresholds.json``, or class to threshold.

    Returns
    -------
    Figure
        The legend names the classes that lack an outcome in this fold and have no curve.

    Raises
    ------
    EcgkitError
        If a threshold or the calibrated probabilities are missing.
    """
    figure, axes = _curves(scores, thresholds, "AUC", stats.auc(scores.y_true, scores.prob))
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":", zorder=0.5)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity")
    return figure


def precision_recall_curves(scores: FoldScores, thresholds: Mapping[str, Any]) -> Figure:
    """Draw the precision-recall curve of each class, with a dot at the threshold chosen on fold 9.

    Parameters, result and errors are those of `roc_curves`; the legend has the average precision (AP).
    """
    figure, axes = _curves(scores, thresholds, "AP", stats.average_precision(scores.y_true, scores.prob))
    axes.set(xlabel="recall (sensitivity)", ylabel="precision")
    return figure


def _curves(
    scores: FoldScores, thresholds: Mapping[str, Any], metric: str, summary: NDArray[np.float64]
) -> tuple[Figure, Axes]:
    """Draw one curve per class with its operating point, and the legend next to the axes."""
    decided = stats.decide(scores, thresholds)
    figure, axes = new_axes(8.6, 5.6)
    named = _named_classes(scores, summary)
    others = [int(i) for i in np.flatnonzero(~np.isnan(summary)) if i not in named]
    for i in others:
        curve = _curve(scores.y_true[:, i], scores.prob[:, i], metric)
        axes.plot(*curve, color=GREY, linewidth=0.6, alpha=0.6, gid=f"curve {scores.classes[i]}")
    for i, style in zip(named, line_styles(len(named)), strict=True):
        name, truth, prob = scores.classes[i], scores.y_true[:, i], scores.prob[:, i]
        axes.plot(*_curve(truth, prob, metric), **style, label=f"{name}  {summary[i]:.3f}", gid=f"curve {name}")
        point = _point(truth, decided[:, i], metric)
        marker: dict[str, Any] = dict(color=style["color"], markeredgecolor="white", markersize=8, zorder=3)
        axes.plot(*point, "o", **marker, gid=f"point {name}")
    if others:
        axes.plot([], [], color=GREY, linewidth=0.6, label=f"{len(others)} other classes")
    axes.plot([], [], "o", color="white", markeredgecolor="black", markersize=7, label="threshold chosen on fold 9")
    missing = [name for name, value in zip(scores.classes, summary, strict=True) if np.isnan(value)]
    if missing:
        shown = ", ".join(missing) if len(missing) <= 3 else f"{len(missing)} classes"
        axes.plot([], [], color="none", label=f"without both outcomes: {shown}")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", anchor="W")
    axes.set_title(f"Fold {scores.fold}: macro {metric} {stats.mean_of_classes(summary):.3f}")
    axes.grid(visible=True)
    legend_beside(axes, title=metric, alignment="left")
    return figure, axes


def _named_classes(scores: FoldScores, values: NDArray[np.float64]) -> list[int]:
    """Choose the classes that get a colour: all of them if few, the best and the worst of the frequent ones if many."""
    known = [int(i) for i in np.flatnonzero(~np.isnan(values))]
    if len(known) <= NAMED_CURVES:
        return known
    positives = scores.positive.sum(axis=0)
    rarer = np.minimum(positives, scores.known.sum(axis=0) - positives)
    ranked = sorted((i for i in known if rarer[i] >= FEW), key=lambda i: -values[i])
    half = NAMED_CURVES // 2
    return ranked if len(ranked) <= NAMED_CURVES else ranked[:half] + ranked[-half:]


def _curve(truth: NDArray[Any], prob: NDArray[np.float64], metric: str) -> Curve:
    """Compute a ROC curve, or for the average precision a precision-recall curve."""
    _, hits, alarms = stats.operating_points(truth, prob)
    sensitivity = np.append(0.0, hits / hits[-1])
    if metric == "AUC":
        return np.append(0.0, alarms / alarms[-1]), sensitivity
    precision = hits / (hits + alarms)
    return sensitivity, np.append(precision[0], precision)


def _point(truth: NDArray[Any], decided: NDArray[np.bool_], metric: str) -> Point:
    """Compute the position of decisions on the curve."""
    found = stats.threshold_metrics(truth, decided)
    sensitivity = float(found["sensitivity"])
    return (
        (1 - float(found["specificity"]), sensitivity) if metric == "AUC" else (sensitivity, float(found["precision"]))
    )


def confusion_matrix(scores: FoldScores, class_name: str, thresholds: Mapping[str, Any]) -> Figure:
    """Draw the confusion matrix of one class, with counts and with percentages of the row.

    Parameters
    ----------
    scores : FoldScores
        Outcomes and probabilities of a fold, including the calibrated ones.
    class_name : str
        The class.
    thresholds : mapping
        The contents of ``thresholds.json``, or class to threshold.

    Returns
    -------
    Figure

    Raises
    ------
    EcgkitError
        If there is no such class, or its threshold or the calibrated probabilities are missing.
    """
    i = scores.classes.index(check_choice("class", class_name, scores.classes))
    threshold = float(stats.class_thresholds(thresholds, [class_name])[0])
    figure, axes = new_axes(4.4, 4.2)
    _draw_matrix(axes, scores, stats.decide(scores, thresholds), i, _outcomes([class_name])[0], font=12)
    axes.set_title(f"{class_name}, fold {scores.fold}, threshold {threshold:.3f}")
    axes.set(xlabel="predicted", ylabel="true")
    return figure


def confusion_matrices(scores: FoldScores, thresholds: Mapping[str, Any]) -> Figure:
    """Draw the confusion matrices of all classes side by side; see `confusion_matrix`."""
    classes, decided = scores.classes, stats.decide(scores, thresholds)
    limits = stats.class_thresholds(thresholds, classes)
    title = f"Fold {scores.fold}: counts, and percentages of the row"
    labels = dict(x_label="predicted", y_label="true")
    figure, cells = figure_of_cells(len(classes), title=title, cell_height=1.45, gaps=(0.45, 0.6), **labels)
    for i, (axes, outcomes) in enumerate(zip(cells, _outcomes(classes), strict=True)):
        _draw_matrix(axes, scores, decided, i, outcomes, font=9)
        axes.set_title(f"{classes[i]} (at {limits[i]:.3f})", fontsize=10)
    return figure


def _outcomes(classes: Sequence[str]) -> list[list[str]]:
    """Name the rows of each matrix by its class, or those of all by "no" and "yes" if a name is too long."""
    is_short = max(map(len, classes)) <= LONGEST_OUTCOME
    return [[f"not {name}", name] if is_short else ["no", "yes"] for name in classes]


def _draw_matrix(
    axes: Axes, scores: FoldScores, decided: NDArray[np.bool_], i: int, outcomes: list[str], *, font: float
) -> None:
    """Draw the two by two matrix of a class: rows are the known truth, columns the decision, without it first."""
    known = scores.known[:, i]
    counts = np.zeros((2, 2), dtype=np.int64)
    np.add.at(counts, (scores.positive[known, i].astype(int), decided[known, i].astype(int)), 1)
    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)

    def write(row: int, column: int) -> str:
        of_row = percentage(share[row, column]) if total[row, 0] else "none"
        return f"{counts[row, column]:,}\n{of_row}"

    heat_map(axes, 100 * share, outcomes, outcomes, write, font=font)
    axes.tick_params(length=0, labelsize=font)
    axes.set_xticks([0, 1], outcomes, rotation=0)  # they fit, whatever the table of names would do
    axes.set_yticks([0, 1], outcomes, rotation=90, va="center")


def score_histograms(scores: FoldScores, thresholds: Mapping[str, Any]) -> Figure:
    """Draw the calibrated probabilities of each class, with and without the class.

    Parameters and errors are those of `roc_curves`.

    Returns
    -------
    Figure
        One histogram per class, with its threshold.
    """
    classes, calibrated = scores.classes, scores.require_calibrated()
    limits = stats.class_thresholds(thresholds, classes)
    labels = dict(x_label="calibrated probability", y_label="records")
    figure, cells = figure_of_cells(
        len(classes), title=f"Fold {scores.fold}", cell_height=1.4, gaps=(0.45, 0.55), **labels
    )
    edges = np.linspace(0, 1, 26)
    for i, axes in enumerate(cells):
        truth, prob = scores.positive[:, i], calibrated[:, i]
        negative = scores.known[:, i] & ~truth
        groups = {"without the class": (prob[negative], COLORS[0]), "with the class": (prob[truth], COLORS[1])}
        histograms(axes, groups, edges)
        axes.axvline(limits[i], color="black", linewidth=1.0, linestyle="--", label="threshold chosen on fold 9")
        log_scale(axes)
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set(xlim=(0, 1), ylim=(0.7, None))
        axes.set_title(classes[i], fontsize=10)
    figure.legend(*cells[0].get_legend_handles_labels(), loc="upper right", ncols=3)
    return figure


def reliability(
    scores: FoldScores, *, names: tuple[str, str] = ("uncalibrated", "calibrated on fold 9"), title: str = ""
) -> Figure:
    """Draw the observed frequency over the predicted probability, before and after calibration.

    Parameters
    ----------
    scores : FoldScores
        Outcomes and probabilities of a fold, with or without the calibrated ones.
    names : tuple of str
        What ``prob`` and ``calibrated`` are called.
    title : str, optional
        What the records are; by default the fold.

    Returns
    -------
    Figure
        One diagram per class with 15 bins of equal width, hollow with fewer than ten records, the number of records in
        each bin below it, and the expected calibration error (ECE) over all bins. A calibrated model is on the
        diagonal.
    """
    classes = scores.classes
    kinds = [(names[0], scores.prob, GREY, "o")]
    if scores.calibrated is not None:
        kinds.append((names[1], scores.calibrated, COLORS[0], "s"))
    labels = dict(x_label="predicted probability", y_label="records          observed frequency")
    figure, cells = figure_of_cells(
        len(classes),
        title=f"{title or f'Fold {scores.fold}'}; hollow: bins of fewer than {FEW} records",
        cell_height=2.2,
        gaps=(0.45, 0.75),
        **labels,
    )
    for i, cell in enumerate(cells):
        cell.set_axis_off()
        axes, strip = cell.inset_axes((0, 0.33, 1, 0.67)), cell.inset_axes((0, 0, 1, 0.24))
        axes.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":")
        errors = []
        for name, prob, color, marker in kinds:
            table = stats.reliability(scores.y_true[:, i], prob[:, i])
            few = table["count"] < FEW
            style: dict[str, Any] = dict(marker=marker, markersize=3.5, color=color)
            axes.plot(table["predicted"][~few], table["observed"][~few], linewidth=1.0, label=name, **style)
            axes.plot(table["predicted"][few], table["observed"][few], linestyle="", markerfacecolor="white", **style)
            counts = np.histogram(prob[scores.known[:, i], i], bins=stats.N_BINS, range=(0, 1))
            strip.stairs(*counts, color=color, linewidth=1.2)
            errors.append(f"{float(stats.ece(scores.y_true[:, i], prob[:, i])):.3f}")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.tick_params(labelbottom=False)
        axes.set_title(f"{classes[i]}\nECE {' → '.join(errors)}", fontsize=9)
        axes.grid(visible=True)
        log_scale(strip)
        strip.yaxis.set_minor_locator(NullLocator())
        strip.set(xlim=(-0.02, 1.02), ylim=(0.7, None))
    figure.legend(*axes.get_legend_handles_labels(), loc="upper right", ncols=2)
    return figure


def metric_by_class(results: Mapping[str, Any], *, metric: str = "auc") -> Figure:
    """Draw one metric of every class and of their mean, on each fold of the results.

    Parameters
    ----------
    results : mapping
        The contents of ``metrics.json``; also with the key ``outside``, of another data set.
    metric : str, default "auc"
        The metric.

    Returns
    -------
    Figure
        One row per class. A mark without an interval is hollow; a metric that is not defined has no mark.

    Raises
    ------
    EcgkitError
        If there is no such metric.
    """
    folds = [fold for fold in FOLD_STYLES if fold in results]
    groups = [name for name in results[folds[0]] if name not in ("micro", "samples")]
    check_choice("metric", metric, results[folds[0]][groups[-1]])
    height = 0.28 if len(groups) <= 30 else 0.2
    figure, axes = row_figure(groups, label=metric_name(metric), room=1.2, row=height)
    positions = np.arange(len(groups))
    for fold in folds:
        label, marker, color, shift = FOLD_STYLES[fold]
        entries = pd.DataFrame([results[fold][name][metric] for name in groups]).astype(float)
        axes.hlines(positions + shift, entries["low"], entries["high"], colors=color, linewidths=1.5)
        style: dict[str, Any] = dict(color=color, markersize=5, linestyle="")
        alone = entries["low"].isna()
        axes.plot(entries["value"].mask(alone), positions + shift, marker, **style, label=label)
        if (alone & entries["value"].notna()).any():
            few: dict[str, Any] = dict(markerfacecolor="white", label=f"{label}: too few for an interval")
            axes.plot(entries["value"].where(alone), positions + shift, marker, **style | few)
    axes.axhline(len(groups) - 1.5, color="black", linewidth=0.6)
    axes.grid(visible=True, axis="y")
    legend_beside(axes)
    return figure


def predicted_quantity(
    true: NDArray[np.floating], predicted: NDArray[np.floating], *, name: str, unit: str = "", fold: int = 10
) -> Figure:
    """Draw predicted against true values of a quantity, with the line of a perfect prediction.

    Parameters
    ----------
    true, predicted : ndarray, shape (records,)
        In ``unit``.
    name : str
        The quantity, such as ``"age"``.
    unit : str, default ""
        Its unit, for the axes.
    fold : int, default 10
        The fold, for the title.

    Returns
    -------
    Figure
    """
    found = regression_metrics(true, predicted)
    figure, axes = new_axes(6.4, 5.6)
    axes.scatter(true, predicted, s=point_size(len(true)), color=COLORS[0], alpha=0.4, linewidths=0, gid="records")
    ends = float(np.min(true)), float(np.max(true))
    axes.plot(ends, ends, color="black", linewidth=0.9, linestyle="--", label="predicted = true")
    quantity = target_name(name, unit)
    axes.set(xlabel=f"true {quantity}", ylabel=f"predicted {quantity}")
    error = f"{found['mae']:.2f} {unit}".strip()
    axes.set_title(f"Fold {fold}, {len(true):,} records: R² {found['r2']:.3f}, mean absolute error {error}")
    axes.grid(visible=True)
    axes.legend(loc="upper left")
    return figure
