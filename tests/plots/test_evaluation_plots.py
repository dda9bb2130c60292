"""Points are on their curves, matrices show the counts, and many classes stay readable."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from scipy.special import expit

from ecgkit import evaluation, stats
from ecgkit.errors import EcgkitError
from ecgkit.plots.evaluation import (
    confusion_matrices,
    confusion_matrix,
    metric_by_class,
    precision_recall_curves,
    predicted_quantity,
    reliability,
    roc_curves,
    score_histograms,
)

CLASSES = ("NORM", "MI", "STTC")
MANY = tuple(f"C{i:02d}" for i in range(71))


def make_predictions(classes: tuple[str, ...] = CLASSES, n_records: int = 600) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    table = {"record_id": np.arange(n_records), "patient_id": np.arange(n_records)}
    table["fold"] = np.where(np.arange(n_records) < n_records // 2, 9, 10)
    for name in classes:
        score = rng.normal(-1, 1.5, n_records)
        table |= {f"true_{name}": rng.random(n_records) < expit(score), f"prob_{name}": expit(score).astype(np.float32)}
    predictions = pd.DataFrame(table)
    return evaluation.add_calibration(predictions, evaluation.fit_calibration(predictions, classes), classes)


def of_fold(predictions: pd.DataFrame, name: str, fold: int) -> tuple[np.ndarray, np.ndarray]:
    rows = predictions[predictions["fold"] == fold]
    return rows[f"true_{name}"].to_numpy(), rows[f"prob_{name}"].to_numpy()


def decisions(predictions: pd.DataFrame, name: str, fold: int, thresholds: dict[str, Any]) -> np.ndarray:
    rows = predictions[predictions["fold"] == fold]
    return rows[f"calibrated_{name}"].to_numpy() >= np.float32(thresholds["thresholds"][name])


def scores_of(predictions: pd.DataFrame, classes: tuple[str, ...] = CLASSES, fold: int = 10) -> stats.FoldScores:
    return stats.fold_scores(predictions, classes, fold)


def line_of(figure: Figure, gid: str) -> np.ndarray:
    return np.asarray(next(line.get_xydata() for line in figure.axes[0].lines if line.get_gid() == gid))


def legend_of(figure: Figure) -> list[str]:
    legend = figure.axes[0].get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize("fold", [9, 10])
def test_roc_curves_are_those_of_scikit_learn_with_the_point_on_them(fold: int) -> None:
    predictions = make_predictions()
    thresholds = evaluation.fit_thresholds(predictions, CLASSES)
    figure = roc_curves(scores_of(predictions, fold=fold), thresholds)
    for name in CLASSES:
        truth, prob = of_fold(predictions, name, fold)
        false_rate, true_rate, _ = sklearn.metrics.roc_curve(truth, prob, drop_intermediate=False)
        curve = line_of(figure, f"curve {name}")
        np.testing.assert_allclose(curve, np.column_stack([false_rate, true_rate]), atol=1e-12)
        point = line_of(figure, f"point {name}")[0]
        assert np.abs(curve - point).max(axis=1).min() < 1e-12
        decided = decisions(predictions, name, fold, thresholds)
        assert point[1] == pytest.approx(sklearn.metrics.recall_score(truth, decided))
        assert f"{name}  {sklearn.metrics.roc_auc_score(truth, prob):.3f}" in legend_of(figure)


def test_precision_recall_points_lie_on_their_curves() -> None:
    predictions = make_predictions()
    thresholds = evaluation.fit_thresholds(predictions, CLASSES)
    figure = precision_recall_curves(scores_of(predictions), thresholds)
    for name in CLASSES:
        truth, prob = of_fold(predictions, name, 10)
        curve, point = line_of(figure, f"curve {name}"), line_of(figure, f"point {name}")[0]
        assert np.abs(curve - point).max(axis=1).min() < 1e-12
        decided = decisions(predictions, name, 10, thresholds)
        assert point[1] == pytest.approx(sklearn.metrics.precision_score(truth, decided))
        assert f"{name}  {sklearn.metrics.average_precision_score(truth, prob):.3f}" in legend_of(figure)


def test_the_legend_stands_beside_the_data() -> None:
    predictions = make_predictions()
    figure = roc_curves(scores_of(predictions), evaluation.fit_thresholds(predictions, CLASSES))
    figure.draw_without_rendering()
    legend = figure.axes[0].get_legend()
    assert legend is not None
    box = legend.get_window_extent()
    assert box.x0 > figure.axes[0].get_window_extent().x1
    assert box.x1 <= figure.bbox.x1


def test_a_class_that_is_not_in_the_fold_has_no_curve_and_is_named() -> None:
    predictions = make_predictions()
    thresholds = evaluation.fit_thresholds(predictions, CLASSES)
    predictions.loc[predictions["fold"] == 10, "true_MI"] = False
    for draw in (roc_curves, precision_recall_curves):
        figure = draw(scores_of(predictions), thresholds)
        assert "curve MI" not in [line.get_gid() for line in figure.axes[0].lines]
        assert "without both outcomes: MI" in legend_of(figure)
    for draw in (confusion_matrices, score_histograms):
        draw(scores_of(predictions), thresholds).draw_without_rendering()
    reliability(scores_of(predictions)).draw_without_rendering()


def test_of_many_classes_the_best_and_the_worst_are_named() -> None:
    predictions = make_predictions(MANY, n_records=300)
    thresholds = evaluation.fit_thresholds(predictions, MANY)
    figure = roc_curves(scores_of(predictions, MANY), thresholds)
    assert len(legend_of(figure)) == 12
    assert "61 other classes" in legend_of(figure)
    aucs = {name: sklearn.metrics.roc_auc_score(*of_fold(predictions, name, 10)) for name in MANY}
    ranked = sorted(MANY, key=lambda name: -aucs[name])
    assert legend_of(figure)[0].startswith(ranked[0])
    assert any(text.startswith(ranked[-1]) for text in legend_of(figure))


def test_a_class_of_few_records_is_neither_the_best_nor_the_worst() -> None:
    predictions = make_predictions(MANY, n_records=300)
    test = np.flatnonzero(predictions["fold"] == 10)
    for name, extreme in (("C03", 1.0), ("C04", 0.0)):  # one positive each, ranked first and last
        predictions.loc[predictions["fold"] == 10, f"true_{name}"] = np.arange(len(test)) == 0
        predictions.loc[test[0], f"prob_{name}"] = np.float32(extreme)
    figure = roc_curves(scores_of(predictions, MANY), dict.fromkeys(MANY, 0.5))
    assert not [text for text in legend_of(figure) if text.startswith(("C03", "C04"))]
    assert "61 other classes" in legend_of(figure)


@pytest.mark.parametrize("classes", [("NORM", "MI", "STTC", "CD", "HYP"), ("NORM", "LAO/LAE", "MI", "CD", "HYP")])
def test_names_of_confusion_matrices_are_alike_and_do_not_overlap(classes: tuple[str, ...]) -> None:
    figure = confusion_matrices(scores_of(make_predictions(classes), classes), dict.fromkeys(classes, 0.5))
    figure.draw_without_rendering()
    labels = [axes.get_xticklabels() for axes in figure.axes]
    assert {tick.get_rotation() for ticks in labels for tick in ticks} == {0.0}
    assert len({ticks[1].get_text() == name for ticks, name in zip(labels, classes, strict=True)}) == 1
    boxes = [tick.get_window_extent() for ticks in labels for tick in ticks]
    assert not any(one.overlaps(other) for one, other in pairwise(boxes))


def test_confusion_matrices_count_with_percentages_of_the_row() -> None:
    predictions = make_predictions()
    thresholds = evaluation.fit_thresholds(predictions, CLASSES)
    truth, _ = of_fold(predictions, "MI", 10)
    counts = sklearn.metrics.confusion_matrix(truth, decisions(predictions, "MI", 10, thresholds))
    share = counts / counts.sum(axis=1, keepdims=True)
    expected = [f"{counts[i, j]:,}\n{share[i, j]:.1%}" for i in (0, 1) for j in (0, 1)]

    alone = confusion_matrix(scores_of(predictions), "MI", thresholds)
    together = confusion_matrices(scores_of(predictions), thresholds)

    assert [text.get_text() for text in alone.axes[0].texts] == expected
    assert [text.get_text() for text in together.axes[1].texts] == expected
    assert alone.axes[0].get_xlabel() == "predicted"
    assert alone.axes[0].get_ylabel() == "true"


def test_a_class_without_positives_has_an_empty_row() -> None:
    predictions = make_predictions()
    predictions["true_MI"] = False
    figure = confusion_matrix(scores_of(predictions), "MI", dict.fromkeys(CLASSES, 0.5))
    assert [text.get_text() for text in figure.axes[0].texts][2:] == ["0\nnone", "0\nnone"]


def test_histograms_hold_every_record_and_the_threshold() -> None:
    predictions = make_predictions()
    figure = score_histograms(scores_of(predictions), {"NORM": 0.3, "MI": 0.4, "STTC": 0.5})
    assert len(figure.axes) == 3
    for axes, limit in zip(figure.axes, (0.3, 0.4, 0.5), strict=True):
        outlines = [patch for patch in axes.patches if isinstance(patch, StepPatch) and not patch.get_fill()]
        assert sum(np.sum(patch.get_data()[0]) for patch in outlines) == 300
        assert np.asarray(axes.lines[0].get_xdata()).tolist() == [limit, limit]


def test_reliability_is_drawn_before_and_after_calibration() -> None:
    predictions = make_predictions()
    raw = predictions.drop(columns=[f"calibrated_{name}" for name in CLASSES])
    n_records = int((predictions["fold"] == 10).sum())
    for table, n_kinds in ((predictions, 2), (raw, 1)):
        for cell in reliability(scores_of(table)).axes:
            diagram, strip = cell.child_axes
            assert len(diagram.lines) == 1 + 2 * n_kinds
            counts = [patch.get_data()[0] for patch in strip.patches]
            assert [int(np.sum(count)) for count in counts] == [n_records] * n_kinds


def test_bins_of_few_records_are_drawn_hollow() -> None:
    truth = np.r_[np.zeros(40, bool), np.ones(30, bool), True, False, True]
    prob = np.r_[np.full(40, 0.1), np.full(30, 0.9), 0.5, 0.5, 0.5]
    scores = stats.FoldScores(10, ("MI",), truth[:, None], prob[:, None], None)
    _, many, few = reliability(scores).axes[0].child_axes[0].lines
    np.testing.assert_allclose(many.get_xydata(), [[0.1, 0.0], [0.9, 1.0]])
    np.testing.assert_allclose(few.get_xydata(), [[0.5, 2 / 3]])
    assert (many.get_markerfacecolor(), few.get_markerfacecolor()) == (many.get_color(), "white")


def test_a_metric_of_every_class_on_both_folds() -> None:
    predictions = make_predictions()
    predictions.loc[predictions["fold"] == 10, "true_MI"] = False
    results = evaluation.evaluate(predictions, CLASSES, evaluation.fit_thresholds(predictions, CLASSES))
    axes = metric_by_class(results).axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [*CLASSES, "macro"]
    values = [np.asarray(line.get_xdata()) for line in axes.lines[:2]]
    assert values[1][0] == results["fold_10"]["NORM"]["auc"]["value"]
    assert np.isnan(values[1][1])
    with pytest.raises(EcgkitError, match="unknown metric 'AUC': choose one of auc"):
        metric_by_class(results, metric="AUC")


def test_a_metric_without_an_interval_is_hollow() -> None:
    entries = {"NORM": {"value": 0.9, "low": 0.8, "high": 0.95}, "PMI": {"value": 0.98, "low": None, "high": None}}
    figure = metric_by_class({"fold_10": {name: {"auc": entries[name]} for name in entries}})
    whole, few = figure.axes[0].lines[:2]
    np.testing.assert_array_equal(np.asarray(whole.get_xdata()), [0.9, np.nan])
    np.testing.assert_array_equal(np.asarray(few.get_xdata()), [np.nan, 0.98])
    assert few.get_markerfacecolor() == "white"
    assert len(legend_of(figure)) == 2


def test_a_report_without_fold_10_has_the_metrics_of_fold_9() -> None:
    predictions = make_predictions()
    predictions = predictions[predictions["fold"] == 9]
    results = evaluation.evaluate(predictions, CLASSES, evaluation.fit_thresholds(predictions, CLASSES), resamples=20)
    axes = metric_by_class(results).axes[0]
    assert [line.get_label() for line in axes.lines[:1]] == ["fold 9 (chosen on)"]


def test_predicted_quantities_lie_on_the_line_where_they_are_right() -> None:
    true = np.linspace(20, 90, 50)
    figure = predicted_quantity(true, true, name="age", unit="years", fold=9)
    assert "R² 1.000" in figure.axes[0].title.get_text()
    assert figure.axes[0].get_xlabel() == "true age (years)"
