from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ecgkit.plots.concepts import concept_removed
from ecgkit.plots.probes import probe_by_epoch, probe_by_layer

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
    figure = probe_by_layer(table)
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
    figure = probe_by_layer(make_layers()[lambda rows: (rows["target"] == "age") & (rows["layer"] != "all layers")])
    (band,) = figure.axes[0].collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (pytest.approx(0.28), pytest.approx(0.43))
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
    figure = probe_by_epoch(table)
    drawn = lines(figure)
    np.testing.assert_allclose(drawn["trained age"], [[1, 0.3], [2, 0.35], [10, 0.4], [20, 0.45]])
    np.testing.assert_allclose(drawn["untrained age"][:, 1], 0.2)
    assert "epoch" in figure.axes[0].get_xlabel()
    assert_legends_cover_no_data(figure)


def test_a_table_without_a_value_draws_the_reason() -> None:
    table = make_layers()[lambda rows: rows["target"] == "weight"].assign(skipped="weight is known for 0 records")
    for figure in (probe_by_layer(table), probe_by_epoch(table.rename(columns={"layer": "epoch"}).assign(epoch=1))):
        figure.draw_without_rendering()
        assert not figure.axes
        assert "skipped" in figure.texts[0].get_text()


def make_effect() -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = []
    for reader in ("own head", "refitted head"):
        for i, name in enumerate(("NORM", "MI", "CD")):
            change = -0.02 * i
            row = {"reader": reader, "class": name, "auc_before": 0.9, "change": change}
            row |= {"low": change - 0.01, "high": change + 0.01, "p_holm": [0.2, 0.06, 0.04][i]}
            rows.append(row | {"random_low": -0.03, "random_high": -0.01})
    probe = pd.DataFrame({"metric": "r2", "value": [0.5, -0.01]}, index=["nothing", "concept"])
    return pd.DataFrame(rows), probe.assign(low=probe["value"] - 0.02, high=probe["value"] + 0.02)


def test_the_effect_of_a_concept_is_drawn_with_random_directions() -> None:
    classes, probe = make_effect()
    figure = concept_removed(classes, probe, name="age")
    left, own, refitted = figure.axes
    for axes in (own, refitted):
        drawn = lines_of(axes)
        np.testing.assert_allclose(drawn["p ≥"].get_xydata(), [[0, 0], [-0.02, 1]])
        assert drawn["p ≥"].get_markerfacecolor() == "white"
        np.testing.assert_allclose(drawn["p <"].get_xydata(), [[-0.04, 2]])
        assert "p < 0.05 (Holm)" in str(drawn["p <"].get_label())
        ranges = [bar for bar in axes.patches if bar.get_gid() == "random"]
        assert [bar.get_x() for bar in ranges] == pytest.approx([-0.03] * 3)
        assert axes.get_xlim() == own.get_xlim()
    figure.draw_without_rendering()
    assert figure.legends[0].get_window_extent().x1 <= figure.bbox.x1
    assert [axes.title.get_window_extent().x1 <= figure.bbox.x1 for axes in figure.axes] == [True] * 3
    probes = next(line for line in left.lines if line.get_gid() == "probe")
    np.testing.assert_allclose(np.asarray(probes.get_xdata()), [0.5, -0.01])
    assert_legends_cover_no_data(figure)


def test_without_an_own_head_there_is_one_panel_less() -> None:
    classes, probe = make_effect()
    alone = classes[classes["reader"] == "refitted head"]
    assert len(concept_removed(alone, probe, name="age").axes) == 2
