"""Linear probes: predicted and true values, and metrics of probes and their controls, by target, layer and epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ecgkit.plots.style import (
    COLORS,
    GREY,
    SEX_COLORS,
    WIDTH,
    grid_of_axes,
    heat_map,
    histograms,
    legend_beside,
    line_styles,
    name_rows,
    new_axes,
    new_figure,
    point_size,
)
from ecgkit.stats.labels import metric_name, target_name

DENSE = 800
"""From so many points on their density is drawn."""

DENSITY = ListedColormap(mpl.colormaps["Blues"](np.linspace(0.2, 1.0, 256)))
"""Blues without the palest, in which a single record could not be seen."""

IN_UNIT = ("mae", "mae_uncapped", "bias", "limit_low", "limit_high", "calibration_intercept")
"""Metrics in the unit of the target."""

SOURCES = {
    "end_to_end": ("trained for the target", COLORS[2]),
    "probe": ("probe", COLORS[0]),
    "untrained": ("untrained encoder", COLORS[4]),
    "measurements": ("ECG measurements", COLORS[3]),
    "demographics": ("age and sex", COLORS[1]),
    "baseline": ("baseline", GREY),
    "shuffled_labels": ("shuffled labels", GREY),
}
"""Names and colours of a probe and its controls, from top to bottom."""

CHANCE = {"r2": 0.0, "auc": 0.5}
TRAINED, UNTRAINED, ALL_TOGETHER = "trained", "untrained", "all layers"
UNTRAINED_LINE: dict[str, Any] = {"linestyle": "--", "linewidth": 1.2, "markersize": 4, "markerfacecolor": "white"}


def source_name(source: str) -> str:
    """Return the name of a probe or control, the same in figures, tables and reports."""
    return SOURCES[source][0] if source in SOURCES else source.replace("_", " ")


def metric_title(metric: str) -> str:
    """Return the name of a metric for a figure, with a superscript 2."""
    return metric_name(metric).replace("R2", "R²")


def probe_regression(
    true: NDArray[np.floating],
    predicted: NDArray[np.floating],
    *,
    name: str,
    unit: str,
    agreement: Mapping[str, Mapping[str, float]],
) -> Figure:
    """Draw predicted against true values, and their differences against their means (Bland and Altman).

    Parameters
    ----------
    true, predicted : ndarray, shape (records,)
        In ``unit``.
    name : str
        Name of the target, such as ``"age"``.
    unit : str
        Its unit.
    agreement : mapping of str to mapping of str to float
        ``bias``, ``limit_low`` and ``limit_high``, each with ``value``, ``low`` and ``high``, its interval.

    Returns
    -------
    Figure
        Points, or from 800 on their density. Left with the identity line; right with lines at the bias and at the
        limits of agreement, between which 95 % of normally distributed differences are, each with its interval as a
        band.

    References
    ----------
    Bland and Altman, "Statistical methods for assessing agreement between two methods of clinical measurement", 1986,
    doi:10.1016/S0140-6736(86)90837-8.
    """
    figure = new_figure(WIDTH, 4.6)
    left, right = figure.subplots(1, 2)
    low, high = float(min(true.min(), predicted.min())), float(max(true.max(), predicted.max()))
    margin = 0.04 * (high - low or 1.0)
    limits = (low - margin, high + margin)
    _cloud(figure, left, true, predicted, (*limits, *limits))
    left.plot(limits, limits, color="black", linewidth=1, linestyle="--")
    label = target_name(name, unit)
    left.set(xlim=limits, ylim=limits, xlabel=f"true {label}", ylabel=f"predicted {label}", aspect="equal")
    error = f"mean absolute error {np.abs(predicted - true).mean():.1f} {unit}"
    left.set_title(f"{len(true):,} records, {error}; dashed: identity", fontsize=10)
    difference = predicted - true
    span = 1.08 * max(float(np.abs(difference).max()), abs(agreement["limit_low"]["low"]), 1e-9)
    _cloud(figure, right, (true + predicted) / 2, difference, (*limits, -span, span), colorbar=True)
    for key, color in (("limit_high", COLORS[1]), ("bias", "black"), ("limit_low", COLORS[1])):
        _draw_level(right, agreement[key], "bias" if key == "bias" else "95 % limit", unit, color)
    right.set(xlim=limits, ylim=(-span, span), xlabel=f"mean of true and predicted {label}")
    right.set_ylabel(f"predicted - true ({unit})")
    right.set_title("Agreement; bands: 95 % intervals", fontsize=10)
    return figure


def _draw_level(axes: Axes, entry: Mapping[str, float], name: str, unit: str, color: str) -> None:
    """Draw a horizontal line with its interval as a band, and its value."""
    axes.axhline(entry["value"], color=color, linewidth=1.2, linestyle="-" if name == "bias" else "--")
    if np.isfinite([entry["low"], entry["high"]]).all():
        axes.axhspan(entry["low"], entry["high"], color=color, alpha=0.15, linewidth=0)
    place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "right"}
    axes.annotate(f"{name} {entry['value']:+.1f} {unit}", (0.99, entry["value"]), (0, 3), color=color, **place)


def _cloud(
    figure: Figure,
    axes: Axes,
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    extent: tuple[float, float, float, float],
    *,
    colorbar: bool = False,
) -> None:
    """Draw points, or their density if there are many."""
    if len(x) < DENSE:
        axes.scatter(x, y, s=max(14.0, point_size(len(x))), color=COLORS[0], alpha=0.5, linewidths=0, rasterized=True)
        return
    drawn = axes.hexbin(x, y, gridsize=45, extent=extent, mincnt=1, cmap=DENSITY, bins="log", linewidths=0.1)
    if colorbar:
        figure.colorbar(drawn, ax=axes, label="records", shrink=0.8, format="%d")


def probe_probability(
    positive: NDArray[np.bool_], probability: NDArray[np.floating], *, categories: Sequence[str]
) -> Figure:
    """Draw histograms of the predicted probability of two categories.

    Parameters
    ----------
    positive : ndarray of bool, shape (records,)
        Whether the record is of the second category.
    probability : ndarray, shape (records,)
        The predicted probability of the second category.
    categories : sequence of two str
        Such as ``("male", "female")``, the positive one last.

    Returns
    -------
    Figure
    """
    figure, axes = new_axes(WIDTH, 3.4)
    groups = {
        f"{name} ({chosen.sum():,})": (probability[chosen], SEX_COLORS.get(name, color))
        for name, chosen, color in zip(categories, (~positive, positive), COLORS, strict=False)
    }
    histograms(axes, groups, np.linspace(0, 1, 31))
    axes.axvline(0.5, color="black", linewidth=1, linestyle="--")
    axes.set(xlabel=f"predicted probability of {categories[1]!r}", ylabel="records", xlim=(0, 1))
    axes.grid(visible=True, axis="y")
    legend_beside(axes)
    return figure


def probe_classes(
    true: pd.Series, predicted: pd.Series, *, classes: Sequence[str], name: str, unit: str = ""
) -> Figure:
    """Draw the confusion matrix of a probe.

    Parameters
    ----------
    true, predicted : Series of str
        The class of each record.
    classes : sequence of str
        All classes in order, such as the bins of age.
    name : str
        Name of the target, such as ``"age"``.
    unit : str, default ""
        Its unit.

    Returns
    -------
    Figure
        For each true class the share of its records that is predicted as each class, with the number of records.
    """
    order = list(classes)
    table = pd.crosstab(true.to_numpy(), predicted.to_numpy()).reindex(index=order, columns=order, fill_value=0)
    counts = table.to_numpy()
    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
    side = 2.6 + 0.75 * len(classes)
    figure, axes = new_axes(min(side + 1.6, WIDTH), min(side, 8.0))

    def write(row: int, column: int) -> str:
        return f"{share[row, column]:.0%}\n{counts[row, column]:,}"

    rows = [f"{word}, n = {n:,}" for word, n in zip(order, total[:, 0], strict=True)]
    image = heat_map(axes, 100 * share, order, rows, write, font=8.5, aspect="auto")
    figure.colorbar(image, ax=axes, label="of the true class (%)", shrink=0.8)
    axes.set(xlabel=f"predicted {target_name(name, unit)}", ylabel=f"true {target_name(name, unit)}")
    return figure


def probe_comparison(table: pd.DataFrame) -> Figure:
    """Draw the metrics of the probes and their controls, with intervals.

    Parameters
    ----------
    table : DataFrame
        As from `ecgkit.feature_space.probes.probe_table`: columns ``target``, ``source``, ``metric``, ``value``,
        ``low`` and ``high``.

    Returns
    -------
    Figure
        One panel per target with R2 or AUC, one line per probe or control. A grey line marks chance, 0 for R2 and 0.5
        for AUC.
    """
    known = table[table["value"].notna() & table["metric"].isin(CHANCE.keys())]
    drawn = [name for name in SOURCES if name in set(known["source"])]
    targets = list(dict.fromkeys(known["target"]))
    columns = min(3, max(len(targets), 1))
    rows = max(-(-len(targets) // columns), 1)
    figure = new_figure(WIDTH, 0.4 + rows * (0.85 + 0.24 * len(drawn)))
    for i, axes in enumerate(grid_of_axes(figure, len(targets), columns=columns)):
        here = known[known["target"] == targets[i]].set_index("source")
        metric = str(here["metric"].iloc[0])
        _draw_sources(axes, here.reindex(drawn), metric)
        axes.set_title(f"{target_name(targets[i])}: {metric_title(metric)}", fontsize=10.5)
        if i % columns:
            axes.set_yticklabels([])
    return figure


def _draw_sources(axes: Axes, table: pd.DataFrame, metric: str) -> None:
    """Draw one target's values of one metric, from top to bottom."""
    rows, colors = np.arange(len(table)), [SOURCES[str(name)][1] for name in table.index]
    axes.hlines(rows, table["low"], table["high"], colors=colors, linewidths=2.2)
    axes.scatter(table["value"], rows, color=colors, s=25, zorder=2)
    place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 9}
    for row, value in enumerate(table["value"]):
        if np.isfinite(value):
            axes.annotate(f"{round(value, 2) + 0.0:.2f}", (1.02, row), **place)
    axes.axvline(CHANCE[metric], color=GREY, linewidth=1, zorder=0.5)
    least = float(np.nanmin(table[["value", "low"]].to_numpy(dtype=np.float64)))
    axes.set_xlim(min(0.4 if metric == "auc" else 0.0, least) - 0.03, 1.02)
    name_rows(axes, [source_name(str(name)) for name in table.index])
    axes.grid(visible=True, axis="x")


def probe_by_layer(table: pd.DataFrame) -> Figure:
    """Draw the metric of each target layer by layer.

    Parameters
    ----------
    table : DataFrame
        As from `ecgkit.feature_space.probes.probe_layers`.

    Returns
    -------
    Figure
        One line per target over the layers in their order, its 95 % interval as a band; dashed and hollow the layers
        of the untrained encoder; a diamond for all layers together. R2 and AUC have separate panels; a grey line
        marks chance.
    """
    trained = table[table["encoder"] == TRAINED]
    layers = sorted(dict.fromkeys(trained["layer"]), key=lambda name: name == ALL_TOGETHER)
    figure = _panels(table, "layer", {name: float(i) for i, name in enumerate(layers)})
    longest = max(len(str(name)) for name in layers)
    for axes in figure.axes:
        slanted: dict[str, Any] = {"rotation": 30, "ha": "right"} if longest * len(layers) > 75 else {}
        axes.set_xticks(range(len(layers)), layers, **slanted)
        axes.set(xlim=(-0.3, len(layers) - 0.7), xlabel="layer, from the input to the head")
    return figure


def probe_by_epoch(table: pd.DataFrame) -> Figure:
    """Draw the metric of each target after each epoch.

    Parameters
    ----------
    table : DataFrame
        As from `ecgkit.feature_space.epochs.probe_epochs`.

    Returns
    -------
    Figure
        As `probe_by_layer`; the untrained encoder is a dashed horizontal line.
    """
    figure = _panels(table, "epoch", {int(epoch): float(epoch) for epoch in table["epoch"].dropna().unique()})
    for axes in figure.axes:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="epoch of the training")
    return figure


def _panels(table: pd.DataFrame, column: str, places: Mapping[Any, float]) -> Figure:
    """Draw a panel per metric, with a legend at the right."""
    known = table[table["value"].notna()]
    metrics = [name for name in CHANCE if (known["metric"] == name).any()]
    figure = new_figure(WIDTH, 0.4 + 3.5 * max(len(metrics), 1))
    if not metrics:
        figure.text(0.01, 0.5, "Nothing to draw: every target was skipped.", va="center")
        return figure
    for axes, metric in zip(figure.subplots(len(metrics), 1, squeeze=False)[:, 0], metrics, strict=True):
        rows = known[known["metric"] == metric]
        targets = list(dict.fromkeys(rows["target"]))
        axes.axhline(CHANCE[metric], color=GREY, linewidth=1.0, label="chance")
        for target, style in zip(targets, line_styles(len(targets)), strict=True):
            for encoder in (TRAINED, UNTRAINED):
                here = rows[(rows["target"] == target) & (rows["encoder"] == encoder)]
                _draw_target(axes, here, column, places, str(style["color"]))
        if (rows["encoder"] == UNTRAINED).any():
            marker = "" if column == "epoch" else "o"
            axes.plot([], [], color="black", marker=marker, label="untrained encoder", **UNTRAINED_LINE)
        if (rows[column].astype(str) == ALL_TOGETHER).any():
            axes.plot([], [], "D", color="black", markersize=6, label="all layers together")
        if metric == "r2" and rows["value"].min() < -0.1:  # a layer far worse than the mean must not flatten the others
            axes.set_ylim(bottom=-0.1)
        axes.set(ylabel=f"{metric_title(metric)} (fold 10)")
        axes.grid(visible=True, axis="y")
        legend_beside(axes)
    return figure


def _draw_target(axes: Axes, rows: pd.DataFrame, column: str, places: Mapping[Any, float], color: str) -> None:
    """Draw one target of one encoder: a line with its band, and a diamond for all layers together."""
    if rows.empty:
        return
    name, encoder = target_name(str(rows["target"].iloc[0])), str(rows["encoder"].iloc[0])
    gid, is_trained = f"{encoder} {name}", encoder == TRAINED
    if rows[column].isna().all():  # the untrained network, before the first epoch
        axes.axhline(float(rows["value"].iloc[0]), color=color, gid=gid, **UNTRAINED_LINE)
        return
    is_whole = rows[column].astype(str) == ALL_TOGETHER
    single = rows[~is_whole & rows[column].isin(list(places))]
    x = [places[place] for place in single[column]]
    style: dict[str, Any] = {"markersize": 4, "label": name} if is_trained else UNTRAINED_LINE
    axes.plot(x, single["value"], color=color, marker="o", gid=gid, **style)
    if is_trained:
        axes.fill_between(x, single["low"], single["high"], color=color, alpha=0.15, linewidth=0)
    for row in rows[is_whole].to_dict("records"):
        at, face = places[ALL_TOGETHER], color if is_trained else "white"
        axes.vlines(at, row["low"], row["high"], color=color, linewidth=1.5, linestyle="-" if is_trained else "--")
        axes.plot(at, row["value"], "D", color=color, markerfacecolor=face, markersize=6, gid=f"{gid} together")
