from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ecgkit.plots import probes as plots


@pytest.mark.parametrize("number", [50, 1000])
def test_predictions_are_drawn_against_the_truth_and_with_their_agreement(number: int) -> None:
    random = np.random.default_rng(0)
    true = random.uniform(150, 190, number)
    agreement = {
        "bias": {"value": 3.0, "low": 2.5, "high": 3.5},
        "limit_low": {"value": -2.9, "low": -3.5, "high": -2.3},
        "limit_high": {"value": 8.9, "low": 8.3, "high": 9.5},
    }
    figure = plots.probe_regression(true, true + 3, name="height", unit="cm", agreement=agreement)
    left, right = figure.axes[:2]
    assert left.get_xlabel() == "true height (cm)"
    assert left.get_ylabel() == "predicted height (cm)"
    assert left.get_xlim() == left.get_ylim()
    assert "3.0 cm" in (left.get_title(loc="left") or left.get_title())
    assert right.get_xlabel() == "mean of true and predicted height (cm)"
    assert right.get_ylabel() == "predicted - true (cm)"
    assert [float(line.get_ydata()[0]) for line in right.lines] == [8.9, 3.0, -2.9]
    assert [text.get_text() for text in right.texts] == ["95 % limit +8.9 cm", "bias +3.0 cm", "95 % limit -2.9 cm"]
    assert len(figure.axes) == (2 if number < plots.DENSE else 3)
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
    assert names == ["probe", "untrained encoder", "baseline"]
    assert [text.get_text() for text in age.texts] == ["0.50", "0.20", "0.00"]
    np.testing.assert_allclose(age.collections[0].get_segments()[0][:, 0], [0.45, 0.55])
    assert [text.get_text() for text in sex.texts] == ["0.80", "0.50"]
    FigureCanvasAgg(figure).draw()
