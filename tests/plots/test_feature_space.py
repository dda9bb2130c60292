from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from ecgkit.errors import EcgkitError
from ecgkit.plots import feature_space as plots

N = 60


@pytest.fixture
def points() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((N, 2)).astype(np.float32)


@pytest.fixture
def records() -> pd.DataFrame:
    sex = ["female"] * 30 + ["male"] * 25 + [None] * 5
    device = ["A"] * 20 + ["B"] * 10 + list("CDEFGHIJ") * 3 + [None] * 6
    return pd.DataFrame(
        {
            "age": np.where(np.arange(N) < 12, np.nan, np.arange(N)),
            "height": np.nan,
            "sex": pd.array(sex, dtype="string"),
            "device": pd.array(device, dtype="string"),
        }
    )


def assert_legend_covers_no_data(figure: Figure) -> None:
    FigureCanvasAgg(figure).draw()
    for axes in figure.axes:
        if axes.get_legend() is not None:
            assert not axes.get_legend().get_window_extent().overlaps(axes.get_window_extent())


def test_map_grid_colours_each_class_and_counts_it(points) -> None:
    labels = pd.DataFrame({"MI": np.arange(N) < 15, "CD": np.arange(N) % 2 == 0})
    figure = plots.map_grid(points, labels)
    assert [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes] == [
        "MI: 15 of 60 (25%)",
        "CD: 30 of 60 (50%)",
    ]
    drawn = figure.axes[0].collections[0]
    colors = [to_hex(color).upper() for color in drawn.get_facecolors()]
    assert colors.count(plots.COLORS[0].upper()) == 15
    carriers = np.array(colors) == plots.COLORS[0].upper()
    assert {tuple(row) for row in drawn.get_offsets()[carriers].tolist()} == {
        tuple(row) for row in points[:15].tolist()
    }
    assert figure.axes[0].get_xlabel() == "UMAP 1"


def test_map_grid_draws_the_commonest_of_many_classes(points) -> None:
    labels = pd.DataFrame({f"C{i}": np.arange(N) <= i for i in range(20)})
    figure = plots.map_grid(points, labels, title="All statements")
    assert len(figure.axes) == 12
    assert figure.get_suptitle() == "All statements (the 12 commonest of 20 classes)"


def test_points_lie_in_a_random_order_so_that_no_group_covers_another(points) -> None:
    labels = pd.DataFrame({"MI": np.arange(N) < 30})
    colors = plots.map_grid(points, labels).axes[0].collections[0].get_facecolors()
    last = {to_hex(color) for color in colors[-15:]}
    assert len(last) == 2


def test_map_of_a_number_has_a_unit_and_counts_the_unknown(points, records) -> None:
    figure = plots.map_by(points, records, "age")
    assert figure.axes[1].get_ylabel() == "age (years)"
    assert figure.axes[0].get_legend().get_texts()[0].get_text() == "unknown (12 of 60)"
    grey, known = figure.axes[0].collections
    assert len(grey.get_offsets()) == 12
    assert len(known.get_offsets()) == 48
    assert_legend_covers_no_data(figure)
    assert len(plots.map_by(points, records, "height").axes) == 1  # nothing is known: no colour bar


def test_map_of_words_has_its_legend_beside(points, records) -> None:
    figure = plots.map_by(points, records, "sex")
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts == ["female (30)", "male (25)", "unknown (5)"]
    colors = [to_hex(color).upper() for color in figure.axes[0].collections[0].get_facecolors()]
    assert colors.count(plots.SEX_COLORS["female"].upper()) == 30
    assert colors.count(plots.LIGHT_GREY.upper()) == 5
    assert_legend_covers_no_data(figure)


def test_rare_words_become_other(points, records) -> None:
    figure = plots.map_by(points, records, "device")
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts[:2] == ["A (20)", "B (10)"]
    assert texts[-2:] == ["other, 4 kinds (12)", "unknown (6)"]
    assert len(texts) == 8


def test_rows_that_do_not_fit_and_unknown_columns_are_refused(points, records) -> None:
    with pytest.raises(EcgkitError, match="coordinates of shape"):
        plots.map_by(points[1:], records, "age")
    with pytest.raises(EcgkitError, match="no column 'weight': choose one of age"):
        plots.map_by(points, records, "weight")


def test_heat_map_shows_shares_and_counts_with_the_prevalence_last() -> None:
    composition = pd.DataFrame({"records": [40, 0, 40], "MI": [10, 0, 10], "CD": [40, 0, 40]}, index=[0, 1, "all"])
    figure = plots.cluster_heatmap(composition)
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts][:2] == ["25%  (10)", "100%  (40)"]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "cluster 0, n = 40",
        "cluster 1, n = 0",
        "all records, n = 40",
    ]
    assert np.isnan(np.ma.filled(axes.images[0].get_array(), np.nan)[1]).all()  # an empty cluster has no shares
    FigureCanvasAgg(figure).draw()


def test_curves_have_their_axes_named() -> None:
    table = pd.DataFrame({"k": [2, 3, 4], "inertia": [9e5, 7e5, 6e5], "silhouette": [0.1, np.nan, 0.08]})
    left, right = plots.k_selection(table, chosen=3).axes
    assert left.get_xlabel() == right.get_xlabel() == "number of clusters k"
    assert left.get_ylim()[1] > 9e5
    figure = plots.explained_variance(np.array([0.6, 0.32, 0.08]))
    assert [text.get_text() for text in figure.axes[1].texts] == ["50 % with 1", "90 % with 2"]
    np.testing.assert_allclose(figure.axes[1].lines[0].get_ydata(), [60, 92, 100])


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


def test_classes_are_counted_by_their_true_class() -> None:
    true, predicted = pd.Series(["a", "a", "b"]), pd.Series(["a", "b", "b"])
    axes = plots.probe_classes(true, predicted, classes=("a", "b", "c"), name="age", unit="years").axes[0]
    assert [text.get_text() for text in axes.texts] == ["50%\n1", "50%\n1", "0%\n0", "0%\n0", "100%\n1", "0%\n0"]
    assert axes.get_xlabel() == "predicted age (years)"


def test_probabilities_are_drawn_by_sex() -> None:
    figure = plots.probe_probability(np.array([True, False, True]), np.array([0.9, 0.2, 0.4]))
    assert figure.axes[0].get_xlabel() == "predicted probability of 'female'"
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["male (1)", "female (2)"]
    assert_legend_covers_no_data(figure)


def test_comparison_has_a_bar_for_each_encoder() -> None:
    rows = {
        ("age", "probe"): (0.5, np.nan, 0.4, 0.3),
        ("age", "untrained"): (0.2, np.nan, 0.3, 0.2),
        ("age", "baseline"): (-0.001, np.nan, 0.2, 0.1),
        ("sex", "probe"): (np.nan, 0.8, 0.7, 0.7),
        ("sex", "baseline"): (np.nan, 0.5, 0.5, 0.3),
        ("height", "probe"): (np.nan,) * 4,
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["r2", "auc", "accuracy", "f1"])
    table.index = pd.MultiIndex.from_tuples(table.index, names=["target", "encoder"])
    figure = plots.probe_comparison(table)
    assert [len(axes.patches) for axes in figure.axes] == [3, 2, 5, 5]
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.50", "0.20", "0.00"]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["age"]
    FigureCanvasAgg(figure).draw()
