"""The figures of clusters show the numbers of their tables, and nothing covers them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from ecgkit.errors import EcgkitError
from ecgkit.plots import clusters as plots
from ecgkit.plots.style import COLORS


def draw(figure: Figure) -> None:
    """Draw, and check that no legend covers axes."""
    FigureCanvasAgg(figure).draw()
    for part in (figure, *figure.subfigs):
        for legend in part.legends:
            for axes in figure.axes:
                assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def title_of(axes: Axes) -> str:
    """Return the title, wherever the style puts it."""
    return axes.get_title(loc="left") or axes.get_title()


def test_heat_map_shows_shares_and_counts_with_the_prevalence_last() -> None:
    index = ["cluster 0", "cluster 1", "noise", "all"]
    composition = pd.DataFrame({"records": [40, 0, 4, 44], "MI": [10, 0, 1, 11], "CD": [40, 0, 4, 44]}, index=index)
    figure = plots.cluster_heatmap(composition)
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts][:2] == ["25%  (10)", "100%  (40)"]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "cluster 0, n = 40",
        "cluster 1, n = 0",
        "noise, n = 4",
        "all records, n = 44",
    ]
    assert np.isnan(np.ma.filled(axes.images[0].get_array(), np.nan)[1]).all()  # an empty cluster has no shares
    draw(figure)


def test_of_many_clusters_and_classes_the_largest_are_drawn() -> None:
    random = np.random.default_rng(0)
    counts = random.integers(0, 40, (71, 71))
    composition = pd.DataFrame(counts, columns=[f"C{i}" for i in range(71)])
    composition.insert(0, "records", random.permutation(71) + 40)
    composition.index = [f"cluster {i}" for i in range(71)]
    composition.loc["all"] = composition.sum()
    figure = plots.cluster_heatmap(composition)
    axes = figure.axes[0]
    assert title_of(axes) == "The 20 largest of 71 clusters, the 20 most frequent of 71 classes"
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert set(names) == set(composition.loc["all"].drop("records").sort_values().index[-20:])
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert rows[-1].startswith("all records, n =")
    assert {int(row.split("n = ")[1]) for row in rows[:-1]} == set(range(91, 111))
    shares = np.ma.filled(axes.images[0].get_array(), np.nan)
    row, name = rows[3].split(",")[0], names[5]
    assert shares[3, 5] == pytest.approx(100 * composition.loc[row, name] / composition.loc[row, "records"])
    draw(figure)


def test_of_many_partitions_those_that_agree_the_most_are_drawn(agreement) -> None:
    names = [f"C{i}" for i in range(71)]
    table = pd.DataFrame(
        {"records": 9, "ami": np.arange(71.0), "ami_permuted": 0.0, "ami_permuted_97.5": 0.1}, index=names
    )
    table["p_adjusted"] = 0.01
    table.index = pd.MultiIndex.from_product([["KMeans"], ["class"], names], names=["method", "group", "partition"])
    labels = [tick.get_text() for tick in plots.cluster_agreement(table).axes[0].get_yticklabels()]
    assert labels == ["class (the 20 highest of 71)", *(f"C{i}, n = 9" for i in range(51, 71))]


def test_the_curves_of_the_number_of_clusters() -> None:
    table = pd.DataFrame({"k": [2, 3, 4], "inertia": [9e5, 7e5, 6e5], "silhouette": [0.1, np.nan, 0.08]})
    stabilities = np.array([0.9, 0.7, 0.3])
    table = table.assign(stability=stabilities, stability_low=stabilities - 0.1, stability_high=stabilities)
    table = table.assign(silhouette_reference=0.02, stability_reference=[0.6, 0.4, 0.2])
    figure = plots.k_selection(table, chosen=3)
    inertia, silhouette, stability = figure.axes
    assert {axes.get_xlabel() for axes in figure.axes} == {"number of clusters k"}
    assert inertia.get_ylim()[1] > 9e5
    assert silhouette.get_ylabel() == "silhouette"
    np.testing.assert_allclose(stability.lines[0].get_ydata(), [0.9, 0.7, 0.3])
    np.testing.assert_allclose(stability.lines[1].get_ydata(), [0.6, 0.4, 0.2])
    assert stability.collections[0].get_paths()[0].vertices[:, 1].min() == pytest.approx(0.2)
    draw(figure)
    unknown = [column for column in table if column.startswith(("stability", "silhouette_"))]
    draw(plots.k_selection(table.assign(**dict.fromkeys(unknown, np.nan))))


@pytest.fixture
def agreement() -> pd.DataFrame:
    rows = {
        ("KMeans", "class", "MI"): (100, 0.3, 0.0, 0.02, 0.005),
        ("KMeans", "recording", "device"): (60, 0.01, 0.001, 0.03, 0.4),
        ("Ward", "class", "MI"): (100, 0.2, 0.0, 0.04, 0.005),
        ("Ward", "recording", "device"): (60, np.nan, np.nan, np.nan, np.nan),
    }
    table = pd.DataFrame.from_dict(
        rows, orient="index", columns=["records", "ami", "ami_permuted", "ami_permuted_97.5", "p_adjusted"]
    )
    table.index = pd.MultiIndex.from_tuples(rows, names=["method", "group", "partition"])
    return table


def test_agreement_stands_beside_chance_and_is_hollow_within_it(agreement) -> None:
    figure = plots.cluster_agreement(agreement)
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [
        "class",
        "MI, n = 100",
        "recording",
        "device, n = 60",
    ]
    dots = {
        (round(float(line.get_xdata()[0]), 3), round(float(line.get_ydata()[0]))): line
        for line in axes.lines
        if line.get_marker() in "os"
    }
    assert set(dots) == {(0.3, 1), (0.2, 1), (0.01, 3)}
    assert to_hex(dots[0.01, 3].get_markerfacecolor()) == "#ffffff"
    assert to_hex(dots[0.3, 1].get_markerfacecolor()).upper() == COLORS[0]
    assert [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches] == [(0.0, 0.04), (0.001, 0.03)]
    draw(figure)
    with pytest.raises(EcgkitError, match="no partition with two kinds"):
        plots.cluster_agreement(agreement.tail(1))


def test_information_is_drawn_alone_and_given_the_other() -> None:
    questions = ("diagnosis", "diagnosis given factor", "factor", "factor given diagnosis")
    rows = {
        (factor, question): (80, value, 0.9 if value == 0 else 0.01)
        for factor in ("device", "sex")
        for question, value in zip(questions, (0.4, 0.3, 0.1, 0.0), strict=True)
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["records", "beyond", "p_adjusted"])
    table.index = pd.MultiIndex.from_tuples(rows, names=["factor", "question"])
    figure = plots.cluster_information(table)
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["device, n = 80", "sex, n = 80"]
    assert "bits" in axes.get_xlabel()
    drawn = [
        (line.get_marker(), float(line.get_xdata()[0]), to_hex(line.get_markerfacecolor()) == "#ffffff")
        for line in axes.lines
        if line.get_marker() in ("o", "s")
    ]
    assert drawn == 2 * [("o", 0.4, False), ("s", 0.3, False), ("o", 0.1, False), ("s", 0.0, True)]
    draw(figure)
