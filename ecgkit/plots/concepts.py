"""Where a network holds a concept: probes over layers and epochs, who lies along a direction, what goes without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ecgkit.errors import EcgkitError
from ecgkit.plots.probes import CHANCE, metric_title
from ecgkit.plots.style import COLORS, GREY, WIDTH, legend_beside, line_styles, new_figure
from ecgkit.stats.labels import target_name

TRAINED, UNTRAINED = "trained", "untrained"

TITLES = {"r2": "Numbers", "auc": "Classes"}

REMOVED = {
    "nothing": "nothing removed",
    "direction": "the probe's direction removed",
    "least_squares": "all that is linear removed",
}
"""What was removed, in words."""

LEVEL = 0.05
"""Below it a p value, corrected for the classes, says that a change is of the concept."""

Style = dict[str, Any]

UNTRAINED_LINE: Style = {"linestyle": "--", "linewidth": 1.2, "markersize": 4, "markerfacecolor": "white"}

LEGEND: Style = {"loc": "outside lower center", "ncols": 3}


def probe_by_layer(table: pd.DataFrame, *, together: str = "all layers", title: str = "") -> Figure:
    """Draw how well each target is read off each layer.

    Parameters
    ----------
    table : DataFrame
        As `ecgkit.feature_space.probes.by_layer.probe_layers` gives it.
    together : str, default "all layers"
        The name under which all layers were probed side by side, if they were; a diamond at the right that no line
        leads to.
    title : str, default ""
        A line above all.

    Returns
    -------
    Figure
        A line for each target over the layers in their order, its 95 % interval as a band; dashed and hollow, in the
        same colour, those layers of the untrained network that the table holds. R2 and AUC have panels of their own; a
        grey line marks chance. A table without any value gives a figure that says so, and why.
    """
    if table["value"].isna().all():
        return _nothing(table)
    trained = table[table["encoder"] == TRAINED]
    layers = sorted(dict.fromkeys(trained["layer"]), key=lambda name: name == together)
    figure = _panels(table, "layer", {name: float(i) for i, name in enumerate(layers)}, title, together)
    longest = max(len(str(name)) for name in layers)
    for axes in figure.axes:
        slanted: dict[str, Any] = dict(rotation=30, ha="right") if longest * len(layers) > 75 else {}
        axes.set_xticks(range(len(layers)), layers, **slanted)
        axes.set(xlim=(-0.3, len(layers) - 0.7), xlabel="layer, from the input to the head")
    return figure


def probe_by_epoch(table: pd.DataFrame, *, title: str = "") -> Figure:
    """Draw how well each target is read off the embedding after each epoch.

    Parameters
    ----------
    table : DataFrame
        As `ecgkit.feature_space.probes.by_layer.probe_epochs` gives it.
    title : str, default ""
        A line above all.

    Returns
    -------
    Figure
        As `probe_by_layer`; the untrained network is a dashed line from side to side.
    """
    if table["value"].isna().all():
        return _nothing(table)
    epochs = table["epoch"].dropna().unique()
    figure = _panels(table, "epoch", {int(epoch): float(epoch) for epoch in epochs}, title)
    for axes in figure.axes:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="epoch of the training")
    return figure


def _nothing(table: pd.DataFrame) -> Figure:
    """Say that no target could be read, and why."""
    reasons = list(dict.fromkeys(table["skipped"])) if "skipped" in table else []
    lines = ["Nothing to draw: every target was skipped.", *(reason for reason in reasons if reason)]
    figure = new_figure(WIDTH, 0.5 + 0.3 * len(lines))
    figure.text(0.01, 0.5, "\n".join(lines), va="center", fontsize=9, wrap=True)
    return figure


def _panels(table: pd.DataFrame, column: str, places: Mapping[Any, float], title: str, together: str = "") -> Figure:
    """Draw a panel for each metric, with a legend beside it."""
    known = table[table["value"].notna()]
    metrics = [name for name in TITLES if (known["metric"] == name).any()]
    figure = new_figure(WIDTH, 0.4 + 3.5 * len(metrics))
    for axes, metric in zip(figure.subplots(len(metrics), 1, squeeze=False)[:, 0], metrics, strict=True):
        rows = known[known["metric"] == metric]
        targets = list(dict.fromkeys(rows["target"]))
        axes.axhline(CHANCE[metric], color=GREY, linewidth=1.0, label="chance")
        for target, style in zip(targets, line_styles(len(targets)), strict=True):
            of_target = rows[rows["target"] == target]
            is_whole = of_target[column].astype(str) == together
            _draw_line(axes, of_target[~is_whole], column, places, style)
            _draw_whole(axes, of_target[is_whole], column, places, style)
        if (rows["encoder"] == UNTRAINED).any():
            marker = "" if column == "epoch" else "o"
            axes.plot([], [], color="black", marker=marker, label="untrained network", **UNTRAINED_LINE)
        if (rows[column].astype(str) == together).any():
            axes.plot([], [], "D", color="black", markersize=6, label="all layers side by side")
        # An R2 far below 0 says no more than one at 0, and would take the room of those above it.
        lowest = rows["value"].min()
        if metric == "r2" and lowest < -0.1:
            axes.set_ylim(bottom=-0.1)
        axes.set(ylabel=f"{metric_title(metric)} (fold 10)", title=TITLES[metric])
        axes.grid(visible=True, axis="y")
        legend_beside(axes)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure


def _draw_line(axes: Axes, rows: pd.DataFrame, column: str, places: Mapping[Any, float], style: Style) -> None:
    """Draw the line and the band of one target, and the dashed one of the untrained network."""
    if rows.empty:
        return
    color = style["color"]
    trained, untrained = (rows[rows["encoder"] == encoder] for encoder in (TRAINED, UNTRAINED))
    name = target_name(str(rows["target"].iloc[0]))
    x = [places[place] for place in trained[column]]
    axes.fill_between(x, trained["low"], trained["high"], color=color, alpha=0.15, linewidth=0)
    axes.plot(x, trained["value"], color=color, marker="o", markersize=4, label=name, gid=f"{TRAINED} {name}")
    dashed: Style = dict(color=color, gid=f"{UNTRAINED} {name}", **UNTRAINED_LINE)
    if column == "epoch":
        for value in untrained["value"]:
            axes.axhline(value, **dashed)
        return
    found = untrained[untrained[column].isin(list(places))]
    axes.plot([places[place] for place in found[column]], found["value"], marker="o", **dashed)


def _draw_whole(axes: Axes, rows: pd.DataFrame, column: str, places: Mapping[Any, float], style: Style) -> None:
    """Draw what all layers together say of one target, with its interval."""
    for row in rows.to_dict("records"):
        x, trained = places[row[column]], row["encoder"] == TRAINED
        color = style["color"]
        name = target_name(str(row["target"]))
        axes.vlines(x, row["low"], row["high"], color=color, linewidth=1.5, linestyle="-" if trained else "--")
        face = color if trained else "white"
        gid = f"{row['encoder']} {name} together"
        axes.plot(x, row["value"], "D", color=color, markerfacecolor=face, markersize=6, gid=gid)


def concept_groups(table: pd.DataFrame, *, name: str, unit: str = "", words: Sequence[str] = ()) -> Figure:
    """Draw who lies along the direction of a concept.

    Parameters
    ----------
    table : DataFrame
        As `ecgkit.feature_space.concepts.group_table` gives it.
    name : str
        The concept, such as ``"age"``.
    unit : str, default ""
        Unit of a number.
    words : sequence of str, default ()
        The two words of a binary concept.

    Returns
    -------
    Figure
        At the left the mean of the number, or the share of the second word, in each group; at the right the share of
        each class. Lines that rise or fall at the right say that the direction also follows the diagnosis.
    """
    figure = new_figure(WIDTH, 4.0)
    left, right = figure.subplots(1, 2)
    scale = 100.0 if len(words) else 1.0
    left.plot(table["position"], scale * table["true"], marker="o", color=COLORS[0])
    label = f"share of {words[1]} (%)" if len(words) else f"mean {name} ({unit})" if unit else f"mean {name}"
    if len(words):
        left.set_ylim(0, 100)
    left.set(ylabel=label, title=f"{len(table)} groups of {table['records'].min():,} records or more")
    columns = list(table.columns)
    classes = columns[columns.index("known") + 1 :]
    for of_class, style in zip(classes, line_styles(len(classes)), strict=True):
        right.plot(table["position"], 100 * table[of_class], marker="o", markersize=4, label=of_class, **style)
    right.set(ylabel="records with the class (%)", title="What else changes")
    right.set_ylim(bottom=0)
    if classes:
        legend_beside(right)
    for axes in (left, right):
        axes.grid(visible=True)
        axes.set_xlabel(f"position along the direction of {name} (SD)")
    return figure


def concept_removed(classes: pd.DataFrame, probe: pd.DataFrame, *, name: str, removed: str = "least_squares") -> Figure:
    """Draw what goes when a concept is removed from the embeddings: the concept itself, and the AUC of each class.

    Parameters
    ----------
    classes, probe : DataFrame
        As `ecgkit.feature_space.concepts.ConceptEffect` holds them.
    name : str
        The concept, such as ``"age"``.
    removed : str, default "least_squares"
        Which removal the classes are shown for.

    Returns
    -------
    Figure
        Without the classes that are too rare to be judged. At the left what the probes read of the concept, with 95 %
        intervals. Then, for each reader, the change of each class's AUC with its interval; light, the range over random
        directions, and over those that take as much variance. The ranges grow with the number of directions and are no
        test: a filled point is a change that fewer than 5 % of the directions of the same variance (p) reach, corrected
        for the classes (``matched_p_holm``).

    Raises
    ------
    EcgkitError
        If that removal is not in the table.
    """
    rows = classes[classes["removed"] == removed]
    if rows.empty:
        raise EcgkitError(f"nothing was removed by {removed!r}: choose one of {', '.join(classes['removed'].unique())}")
    readers = list(dict.fromkeys(rows["reader"]))
    rows = rows[rows["change"].notna()]  # the others are too rare to be judged
    names = list(dict.fromkeys(rows["class"]))
    figure = new_figure(WIDTH, max(3.4, 1.9 + 0.42 * len(names)))
    panels = figure.subplots(1, 1 + len(readers), squeeze=False, width_ratios=[1.0] + [1.25] * len(readers))[0]
    _draw_probe(panels[0], probe, name)
    low = float(rows[["low", "random_low", "matched_low"]].min().min()) if len(rows) else -1.0
    high = float(rows[["high", "random_high", "matched_high"]].max().max()) if len(rows) else 1.0
    margin = 0.06 * max(high - low, 1e-3)
    for axes, reader in zip(panels[1:], readers, strict=True):
        _draw_changes(axes, rows[rows["reader"] == reader], name)
        axes.set(xlim=(low - margin, high + margin), title=reader.capitalize(), xlabel="change of the AUC")
        axes.xaxis.set_major_locator(MaxNLocator(4))
    figure.suptitle(
        f"{target_name(name).capitalize()}: {REMOVED.get(removed, removed)} (fold 10)", x=0.01, ha="left", fontsize=11
    )
    panels[1].set_ylabel("class (AUC before)")
    handles = [panel.get_legend_handles_labels() for panel in panels[[0, -1]]]
    figure.legend(*(of_left + of_right for of_left, of_right in zip(*handles, strict=True)), **LEGEND)
    return figure


def _draw_probe(axes: Axes, probe: pd.DataFrame, name: str) -> None:
    """Draw what is read of the concept before and after each removal."""
    rows = probe[(probe["removed"] == "nothing") | (probe["probe"] == "refitted")]
    fixed = probe[(probe["removed"] != "nothing") & (probe["probe"] == "fixed")]
    metric = str(rows["metric"].iloc[0])
    place = {removed: i for i, removed in enumerate(rows["removed"])}
    # Bars around a number that is exactly at chance have no length, and a negative one for rounding is refused.
    for table, offset, color, label in (
        (rows, 0.0, COLORS[0], "probe fitted again"),
        (fixed, 0.25, COLORS[4], "probe as it was"),
    ):
        y = np.array([place[removed] + offset for removed in table["removed"]])
        axes.hlines(y, table["low"], table["high"], color=color, linewidth=2.0)
        axes.plot(table["value"], y, "o", color=color, markersize=6, linestyle="", label=label, gid=label)
    axes.axvline(CHANCE[metric], color=GREY, linewidth=1.0)
    words = {"nothing": "nothing", "direction": "probe's\ndirection", "least_squares": "all that\nis linear"}
    axes.set_yticks(range(len(place)), [words.get(removed, removed) for removed in place])
    axes.set_ylim(len(place) - 0.4, -0.6)
    axes.set(xlabel=f"{metric_title(metric)} of {name}; grey: chance", title=f"{name.capitalize()} after removing")
    axes.grid(visible=True, axis="x")


def _draw_changes(axes: Axes, rows: pd.DataFrame, name: str) -> None:
    """Draw what one reader loses of each class."""
    y = np.arange(len(rows))
    if rows.empty:
        axes.text(0.5, 0.5, "every class is too rare", ha="center", va="center", transform=axes.transAxes)
    ranges = (
        ("matched", "#F3D9BF", 0.66, "range: directions of the same variance"),
        ("random", GREY, 0.3, "range: random directions"),
    )
    for kind, color, height, label in ranges:
        widths = rows[f"{kind}_high"] - rows[f"{kind}_low"]
        axes.barh(y, widths, left=rows[f"{kind}_low"], height=height, color=color, label=label, gid=kind)
    axes.hlines(y, rows["low"], rows["high"], color=COLORS[0], linewidth=2.0)
    is_its_own = rows["matched_p_holm"].to_numpy(dtype=np.float64) < LEVEL
    for chosen, face, gid, label in (
        (
            is_its_own,
            COLORS[0],
            "of the concept",
            f"without {target_name(name)}: p < {LEVEL:g} (Holm)",
        ),
        (~is_its_own, "white", "not of it", f"without {target_name(name)}: p ≥ {LEVEL:g}"),
    ):
        points: Style = dict(color=COLORS[0], markerfacecolor=face, markersize=6, linestyle="", label=label, gid=gid)
        axes.plot(rows["change"][chosen], y[chosen], "o", **points)
    axes.axvline(0.0, color="black", linewidth=0.9)
    axes.set_yticks(y, [f"{row['class']} ({row['auc_before']:.3f})" for row in rows.to_dict("records")])
    axes.set_ylim(max(len(rows), 1) - 0.4, -0.6)
    axes.grid(visible=True, axis="x")
