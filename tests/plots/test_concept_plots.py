from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ecgkit.errors import EcgkitError
from ecgkit.plots.concepts import concept_groups, concept_removed, probe_by_epoch, probe_by_layer

LAYERS = ("stem", "stage 1", "embedding", "all layers")


def make_layers() -> pd.DataFrame:
    rows = []
    for target, metric, base in (("age", "r2", 0.3), ("heart_rate", "r2", 0.2), ("sex", "auc", 0.7)):
        for encoder in ("trained", "untrained"):
            for i, layer in enumerate(LAYERS):
                value = base + 0.05 * i - (0.1 if encoder == "untrained" else 0.0)
                numbers = {"value": value, "low": value - 0.02, "high": value + 0.03}
                rows.append({"target": target, "metric": metric, "encoder": encoder, "layer": layer, **numbers})
    rows.append({"target": "weight", "metric": "r2", "encoder": "trained", "layer": "stem", "value": np.nan})
    return pd.DataFrame(rows)


def lines(figure: Figure, panel: int = 0) -> dict[str, np.ndarray]:
    return {str(line.get_gid()): np.asarray(line.get_xydata()) for line in figure.axes[panel].lines}


def lines_of(axes: Axes) -> dict[str, Line2D]:
    return {str(line.get_gid()): line for line in axes.lines}


def assert_legends_cover_no_data(figure: Figure) -> None:
    figure.draw_without_rendering()
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    assert legends
    for legend in legends:
        for axes in figure.axes:
            assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def test_layers_are_drawn_in_order_with_the_untrained_network_beside() -> None:
    table = make_layers()
    figure = probe_by_layer(table, together="all layers")
    drawn = lines(figure)
    np.testing.assert_allclose(drawn["trained age"], [[0, 0.3], [1, 0.35], [2, 0.4]])
    np.testing.assert_allclose(drawn["untrained age"], [[0, 0.2], [1, 0.25], [2, 0.3]])
    np.testing.assert_allclose(drawn["trained age together"], [[3, 0.45]])
    assert "trained heart rate" in drawn
    assert not any("weight" in name for name in drawn)
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == list(LAYERS)
    assert [axes.get_ylabel() for axes in figure.axes] == ["R² (fold 10)", "AUC (fold 10)"]
    np.testing.assert_allclose(lines(figure, 1)["trained sex"][:, 1], [0.7, 0.75, 0.8])
    untrained = next(line for line in figure.axes[0].lines if line.get_gid() == "untrained age")
    trained = next(line for line in figure.axes[0].lines if line.get_gid() == "trained age")
    assert (untrained.get_linestyle(), untrained.get_color()) == ("--", trained.get_color())
    assert_legends_cover_no_data(figure)


def test_the_band_is_the_interval() -> None:
    figure = probe_by_layer(make_layers()[lambda rows: rows["target"] == "age"], together="")
    (band,) = figure.axes[0].collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (pytest.approx(0.28), pytest.approx(0.48))
    assert len(figure.axes) == 1


def test_a_layer_that_is_worse_than_the_mean_does_not_flatten_the_others() -> None:
    table = make_layers()
    table.loc[0, ["value", "low", "high"]] = [-5.0, -6.0, -4.0]
    assert probe_by_layer(table).axes[0].get_ylim()[0] == pytest.approx(-0.1)


def test_epochs_lie_at_their_numbers_and_the_untrained_network_is_a_level() -> None:
    table = make_layers()[lambda rows: rows["target"].isin(["age", "sex"])].rename(columns={"layer": "epoch"})
    table["epoch"] = table["epoch"].map({"stem": 1, "stage 1": 2, "embedding": 10, "all layers": 20}).astype("Int64")
    table = table[(table["encoder"] == "trained") | (table["epoch"] == 1)]
    table.loc[table["encoder"] == "untrained", "epoch"] = pd.NA
    figure = probe_by_epoch(table, title="session_1")
    drawn = lines(figure)
    np.testing.assert_allclose(drawn["trained age"], [[1, 0.3], [2, 0.35], [10, 0.4], [20, 0.45]])
    np.testing.assert_allclose(drawn["untrained age"][:, 1], 0.2)
    assert "epoch" in figure.axes[0].get_xlabel()
    assert_legends_cover_no_data(figure)


def test_a_table_without_a_value_draws_the_reason() -> None:
    table = make_layers()[lambda rows: rows["target"] == "weight"].assign(skipped="weight is known for 0 records")
    for figure in (probe_by_layer(table), probe_by_epoch(table.rename(columns={"layer": "epoch"}))):
        figure.draw_without_rendering()
        assert not figure.axes
        assert figure.texts[0].get_text().endswith("every target was skipped.\nweight is known for 0 records")


def make_groups() -> pd.DataFrame:
    table = pd.DataFrame({"records": [50, 50], "position": [-1.0, 1.0], "true": [0.25, 0.75], "known": [50, 48]})
    return table.assign(NORM=[0.9, 0.1], MI=[0.1, 0.4])


def test_groups_show_the_concept_and_what_else_changes() -> None:
    figure = concept_groups(make_groups(), name="sex", words=("male", "female"))
    left, right = figure.axes
    np.testing.assert_allclose(np.asarray(left.lines[0].get_xydata()), [[-1, 25], [1, 75]])
    assert left.get_ylabel() == "share of female (%)"
    assert [line.get_label() for line in right.lines] == ["NORM", "MI"]
    np.testing.assert_allclose(np.asarray(right.lines[0].get_ydata()), [90, 10])
    assert_legends_cover_no_data(figure)
    number = concept_groups(make_groups(), name="age", unit="years")
    assert number.axes[0].get_ylabel() == "mean age (years)"
    np.testing.assert_allclose(np.asarray(number.axes[0].lines[0].get_ydata()), [0.25, 0.75])


def make_effect() -> tuple[pd.DataFrame, pd.DataFrame]:
    rows, probe = [], []
    for reader in ("own head", "refitted head"):
        for removed in ("direction", "least_squares"):
            for i, name in enumerate(("NORM", "MI", "CD")):
                change = -0.02 * i if removed == "least_squares" else 0.0
                row = {"reader": reader, "removed": removed, "class": name, "auc_before": 0.9, "change": change}
                row |= {"low": change - 0.01, "high": change + 0.01, "random_low": -0.002, "random_high": 0.001}
                row |= {"matched_low": -0.03, "matched_high": -0.01, "matched_p_holm": [0.2, 0.06, 0.04][i]}
                rows.append(row)
    for removed, kind, value in (
        ("nothing", "fixed", 0.5),
        ("direction", "fixed", 0.0),
        ("direction", "refitted", 0.4),
        ("least_squares", "fixed", 0.0),
        ("least_squares", "refitted", -0.01),
    ):
        numbers = {"value": value, "low": value - 0.02, "high": value + 0.02}
        probe.append({"removed": removed, "probe": kind, "metric": "r2", **numbers})
    return pd.DataFrame(rows), pd.DataFrame(probe)


def test_what_goes_without_a_concept_stands_beside_its_controls() -> None:
    classes, probe = make_effect()
    figure = concept_removed(classes, probe, name="age")
    left, own, refitted = figure.axes
    for axes in (own, refitted):
        drawn = lines_of(axes)
        np.testing.assert_allclose(drawn["not of it"].get_xydata(), [[0, 0], [-0.02, 1]])
        assert drawn["not of it"].get_markerfacecolor() == "white"
        np.testing.assert_allclose(drawn["of the concept"].get_xydata(), [[-0.04, 2]])
        assert "p < 0.05 (Holm)" in str(drawn["of the concept"].get_label())
        ranges = {kind: [bar for bar in axes.patches if bar.get_gid() == kind] for kind in ("random", "matched")}
        assert [bar.get_x() for bar in ranges["matched"]] == pytest.approx([-0.03] * 3)
        assert [bar.get_width() for bar in ranges["random"]] == pytest.approx([0.003] * 3)
        assert axes.get_xlim() == own.get_xlim()
    figure.draw_without_rendering()
    assert figure.legends[0].get_window_extent().x1 <= figure.bbox.x1
    assert [axes.title.get_window_extent().x1 <= figure.bbox.x1 for axes in figure.axes] == [True] * 3
    again = next(line for line in left.lines if line.get_gid() == "probe fitted again")
    np.testing.assert_allclose(np.asarray(again.get_xdata()), [0.5, 0.4, -0.01])
    as_it_was = next(line for line in left.lines if line.get_gid() == "probe as it was")
    np.testing.assert_allclose(np.asarray(as_it_was.get_xdata()), [0.0, 0.0])
    assert_legends_cover_no_data(figure)


def test_without_an_own_head_there_is_one_panel_less_and_another_removal_is_refused() -> None:
    classes, probe = make_effect()
    alone = classes[classes["reader"] == "refitted head"]
    assert len(concept_removed(alone, probe, name="age", removed="direction").axes) == 2
    with pytest.raises(EcgkitError, match="nothing was removed by 'rotation': choose one of direction, least_squares"):
        concept_removed(classes, probe, name="age", removed="rotation")
