"""The figures of clusters show the numbers of their tables, and nothing lies over them."""

from __future__ import annotations

from dataclasses import dataclass, field

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
from ecgkit.signals.ecg import LEADS


def draw(figure: Figure) -> None:
    """Draw, and check that no legend lies over axes."""
    FigureCanvasAgg(figure).draw()
    for part in (figure, *figure.subfigs):
        for legend in part.legends:
            for axes in figure.axes:
                assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def title_of(axes: Axes) -> str:
    """Give the title, wherever the style puts it."""
    return axes.get_title(loc="left") or axes.get_title()


def test_heat_map_shows_shares_and_counts_with_the_prevalence_last() -> None:
    index = [np.int64(0), 1, "noise", "all"]
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
    composition.loc["all"] = composition.sum()
    figure = plots.cluster_heatmap(composition)
    axes = figure.axes[0]
    assert title_of(axes) == "The 20 largest of 71 clusters, the 20 commonest of 71 classes"
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert set(names) == set(composition.loc["all"].drop("records").sort_values().index[-20:])
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert rows[-1].startswith("all records, n =")
    assert {int(row.split("n = ")[1]) for row in rows[:-1]} == set(range(91, 111))
    shares = np.ma.filled(axes.images[0].get_array(), np.nan)
    row, name = int(rows[3].split(",")[0].split()[1]), names[5]
    assert shares[3, 5] == pytest.approx(100 * composition.loc[row, name] / composition.loc[row, "records"])
    draw(figure)


def test_of_many_partitions_those_that_agree_the_most_are_drawn(agreement) -> None:
    names = [f"C{i}" for i in range(71)]
    table = pd.DataFrame({"records": 9, "ami": np.arange(71.0), "ami_permuted": 0.0, "ami_high": 0.1}, index=names)
    table["ami_p_adjusted"] = 0.01
    table.index = pd.MultiIndex.from_product([["KMeans"], ["class"], names], names=["method", "group", "partition"])
    labels = [tick.get_text() for tick in plots.cluster_agreement(table).axes[0].get_yticklabels()]
    assert labels == ["class (the 20 highest of 71)", *(f"C{i}, n = 9" for i in range(51, 71))]


def test_the_curves_of_the_number_of_clusters() -> None:
    table = pd.DataFrame({"k": [2, 3, 4], "inertia": [9e5, 7e5, 6e5], "silhouette": [0.1, np.nan, 0.08]})
    for name, values in (("stability_seeds", [1.0, 0.9, 0.5]), ("stability_bootstraps", [0.9, 0.7, 0.3])):
        table = table.assign(**{name: values, f"{name}_low": np.array(values) - 0.1, f"{name}_high": values})
    table = table.assign(silhouette_reference=0.02, stability_reference=[0.6, 0.4, 0.2])
    figure = plots.k_selection(table, chosen=3)
    inertia, silhouette, stability = figure.axes
    assert {axes.get_xlabel() for axes in figure.axes} == {"number of clusters k"}
    assert inertia.get_ylim()[1] > 9e5
    assert silhouette.get_ylabel() == "silhouette"
    np.testing.assert_allclose(stability.lines[1].get_ydata(), [0.9, 0.7, 0.3])
    np.testing.assert_allclose(stability.lines[2].get_ydata(), [0.6, 0.4, 0.2])
    assert stability.collections[1].get_paths()[0].vertices[:, 1].min() == pytest.approx(0.2)
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
        rows, orient="index", columns=["records", "ami", "ami_permuted", "ami_high", "ami_p_adjusted"]
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
    with pytest.raises(EcgkitError, match="unknown measure 'purity': choose one of ami, ari"):
        plots.cluster_agreement(agreement, measure="purity")
    with pytest.raises(EcgkitError, match="no partition with two kinds"):
        plots.cluster_agreement(agreement.tail(1))


def test_confounding_draws_each_pair_alone_and_with_the_other_known() -> None:
    questions = ("diagnosis", "diagnosis given factor", "factor", "factor given diagnosis")
    rows = {
        (name, factor, question): (80, value, 0.9 if value == 0 else 0.01)
        for name in ("exactly one class", "MI")
        for factor in ("device", "sex")
        for question, value in zip(questions, (0.4, 0.3, 0.1, 0.0), strict=True)
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["records", "beyond", "p_adjusted"])
    table.index = pd.MultiIndex.from_tuples(rows, names=["diagnosis", "factor", "question"])
    figure = plots.cluster_confounding(table, diagnoses=["MI"])
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["MI", "device, n = 80", "sex, n = 80"]
    assert axes.get_xlabel() == "told by the cluster (bits, beyond chance)"
    drawn = [
        (line.get_marker(), float(line.get_xdata()[0]), to_hex(line.get_markerfacecolor()) == "#ffffff")
        for line in axes.lines
        if line.get_marker() in ("o", "s")
    ]
    assert drawn == 2 * [("o", 0.4, False), ("s", 0.3, False), ("o", 0.1, False), ("s", 0.0, True)]
    draw(figure)
    table.attrs["note"] = "the 12 commonest of 71 classes"
    assert title_of(plots.cluster_confounding(table).axes[0]) == "The 12 commonest of 71 classes"
    assert len(plots.cluster_confounding(table).axes[0].get_yticklabels()) == 6
    with pytest.raises(EcgkitError, match="unknown diagnosis 'CD': choose one of exactly one class, MI"):
        plots.cluster_confounding(table, diagnoses=["CD"])


@dataclass
class MadeCard:
    name: str = "cluster 2"
    records: int = 1200
    share: float = 0.25
    patients: int = 1100
    age: tuple[float, float, float] = (61.0, 50.0, 72.0)
    female: float = 0.4
    height: tuple[float, int] = (170.0, 30)
    weight: tuple[float, int] = (np.nan, 0)
    remarked: float = 0.1
    overall: dict[str, float] = field(
        default_factory=lambda: {"age": 60.0, "female": 0.48, "height": 168.0, "weight": 72.0, "remarked": 0.2}
    )
    classes: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(
            {"records": [900, 0], "share": [0.75, 0.0], "overall": [0.25, 0.0], "lift": [3.0, np.nan]},
            index=["MI", "HYP"],
        )
    )
    devices: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame({"share": [0.5], "overall": [0.1]}, index=["AT-6"])
    )
    nearest: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame({"record_id": [7, 9], "fold": [10, 10], "distance": [3.21, 4.0]})
    )


@dataclass
class MadeBeats:
    times: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    groups: tuple[str, ...] = ("cluster 1", "cluster 2")
    n_records: tuple[int, ...] = (9, 1190)


def test_a_card_tells_its_facts_and_draws_beat_and_strips() -> None:
    time = np.linspace(-250, 450, 71)
    mean = np.stack([np.zeros((12, 71)), np.outer(np.arange(12) / 10, np.exp(-((time / 20) ** 2)))])
    beats = MadeBeats(time, mean, mean - 0.1, mean + 0.1)
    signals = np.random.default_rng(0).normal(0, 0.2, (2, 12, 500)).astype(np.float32)
    figure = plots.cluster_card(MadeCard(), beats=beats, strips=signals, sampling_rate=100)
    draw(figure)
    facts = figure.axes[0].texts[0].get_text().split("\n")
    assert facts == [
        "1,200 records (25%) of 1,100 patients",
        "age 61 years (quartiles 50 to 72; all 60)",
        "female 40% (all 48%)",
        "height 170 cm (known of 30; all 168)",
        "device AT-6: 50% (all 10%)",
        "remark on quality 10% (all 20%)",
    ]
    bars = figure.axes[1]
    assert [text.get_text() for text in bars.texts] == ["75% (3.0)", "0%"]
    drawn = {axes.get_title(loc="left") or axes.get_title(): axes for axes in figure.axes[2:14]}
    assert set(drawn) == set(LEADS)
    np.testing.assert_allclose(drawn["V1"].lines[-1].get_ydata(), mean[1, LEADS.index("V1")])
    assert figure.subfigs[0].subfigs[1].get_suptitle().startswith("Mean beat of 1,190 records")
    strip = figure.axes[14]
    np.testing.assert_allclose(strip.lines[0].get_ydata(), signals[0, 1])
    assert strip.lines[0].get_xdata()[-1] == pytest.approx(4.99)
    assert "record 7, fold 10, 3.2 standard deviations" in (strip.get_title(loc="left") or strip.get_title())
    assert figure.axes[15].get_xlabel() == "time (s)"
    assert len(figure.axes) == 16
    with pytest.raises(EcgkitError, match="unknown group 'noise': choose one of cluster 1, cluster 2"):
        plots.cluster_card(MadeCard(name="noise"), beats=beats)


def test_a_card_without_beat_and_strips() -> None:
    figure = plots.cluster_card(MadeCard(age=(np.nan,) * 3))
    draw(figure)
    assert len(figure.axes) == 2
    assert "age" not in figure.axes[0].texts[0].get_text()
    for strips, rate in ((np.zeros((1, 12, 100)), 100), (np.zeros((2, 12, 100)), None)):
        with pytest.raises(EcgkitError, match="for 2 records: give one for each, and their sampling rate"):
            plots.cluster_card(MadeCard(), strips=strips, sampling_rate=rate)


def test_a_card_of_many_classes_shows_the_commonest() -> None:
    numbers = np.arange(71)
    classes = pd.DataFrame({"records": numbers, "share": numbers / 100, "overall": 0.1, "lift": 1.0})
    classes.index = [f"C{i}" for i in numbers]
    figure = plots.cluster_card(MadeCard(classes=classes))
    draw(figure)
    assert [tick.get_text() for tick in figure.axes[1].get_yticklabels()] == [f"C{i}" for i in range(59, 71)]
    assert figure.axes[1].get_xlabel() == "records with the class (%), the 12 commonest of 71"
    assert figure.get_figheight() < 8
