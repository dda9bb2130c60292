from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ecgkit.plots import probes as plots


@pytest.mark.parametrize("number", [50, 1000])
def test_predictions_are_drawn_against_the_truth_with_units(number: int) -> None:
    random = np.random.default_rng(0)
    true = random.uniform(20, 90, number)
    figure = plots.probe_regression(true, true + 3, name="age", unit="years")
    left, right = figure.axes[:2]
    assert left.get_xlabel() == "true age (years)"
    assert left.get_ylabel() == "predicted age (years)"
    assert left.get_xlim() == left.get_ylim()
    assert "3.0 years" in (right.get_title(loc="left") or right.get_title())
    assert len(figure.axes) == (2 if number < plots.DENSE else 3)
    FigureCanvasAgg(figure).draw()


@pytest.mark.parametrize("number", [50, 1000])
def test_agreement_is_drawn_with_its_limits(number: int) -> None:
    random = np.random.default_rng(0)
    true = random.uniform(150, 190, number)
    predicted = true + random.normal(2, 3, number)
    agreement = {
        "bias": {"value": 2.0, "low": 1.5, "high": 2.5},
        "limit_low": {"value": -3.9, "low": -4.5, "high": -3.3},
        "limit_high": {"value": 7.9, "low": 7.3, "high": 8.5},
    }
    figure = plots.probe_agreement(true, predicted, name="height", unit="cm", agreement=agreement)
    axes = figure.axes[0]
    assert axes.get_xlabel() == "mean of true and predicted height (cm)"
    assert axes.get_ylabel() == "predicted - true (cm)"
    assert [float(line.get_ydata()[0]) for line in axes.lines] == [7.9, 2.0, -3.9]
    assert [text.get_text() for text in axes.texts] == ["95 % limit +7.9 cm", "bias +2.0 cm", "95 % limit -3.9 cm"]
    FigureCanvasAgg(figure).draw()


def test_classes_are_counted_by_their_true_class() -> None:
    true, predicted = pd.Series(["a", "a", "b"]), pd.Series(["a", "b", "b"])
    axes = plots.probe_classes(true, predicted, classes=("a", "b", "c"), name="age", unit="years").axes[0]
    assert [text.get_text() for text in axes.texts] == ["50%\n1", "50%\n1", "0%\n0", "0%\n0", "100%\n1", "0%\n0"]
    assert axes.get_xlabel() == "predicted age (years)"


def test_probabilities_are_drawn_by_sex() -> None:
    figure = plots.probe_probability(
        np.array([True, False, True]), np.array([0.9, 0.2, 0.4]), categories=("male", "female")
    )
    axes = figure.axes[0]
    assert axes.get_xlabel() == "predicted probability of 'female'"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["male (1)", "female (2)"]
    FigureCanvasAgg(figure).draw()
    assert axes.get_legend().get_window_extent().x0 >= axes.get_window_extent().x1


def comparison_table() -> pd.DataFrame:
    rows = {
        ("age", "probe"): {"r2": 0.5, "accuracy": 0.4},
        ("age", "untrained"): {"r2": 0.2, "accuracy": 0.3},
        ("age", "baseline"): {"r2": -0.001, "accuracy": 0.2},
        ("sex", "probe"): {"auc": 0.8, "accuracy": 0.7},
        ("sex", "baseline"): {"auc": 0.5, "accuracy": 0.5},
        ("height", "probe"): {"r2": np.nan},
    }
    table = pd.DataFrame(
        [(*key, metric, value) for key, values in rows.items() for metric, value in values.items()],
        columns=["target", "source", "metric", "value"],
    )
    return table.assign(low=table["value"] - 0.05, high=table["value"] + 0.05)


def test_comparison_has_a_panel_for_each_target_and_a_line_for_each_control() -> None:
    figure = plots.probe_comparison(comparison_table())
    assert [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes] == ["age: R²", "sex: AUC"]
    age, sex = figure.axes
    names = [label.get_text() for label in age.get_yticklabels()]
    assert names == ["probe", "untrained encoder", "mean or most frequent"]
    assert [text.get_text() for text in age.texts] == ["0.50", "0.20", "0.00"]
    np.testing.assert_allclose(age.lines[0].get_xdata(), [0.45, 0.55])
    assert [text.get_text() for text in sex.texts] == ["0.80", "0.50"]
    FigureCanvasAgg(figure).draw()


def test_comparison_of_chosen_metrics() -> None:
    figure = plots.probe_comparison(comparison_table(), metrics=("accuracy", "f1"))
    assert len(figure.axes) == 2  # nothing has an F1
    assert figure.axes[0].lines[-1].get_xdata()[0] == 0.2  # the baseline
    FigureCanvasAgg(figure).draw()
