"""The effect of removing a concept from the embeddings: on its probe, and on the AUC of each class."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ecgkit.plots.probes import CHANCE, metric_title
from ecgkit.plots.style import COLORS, GREY, LIGHT_GREY, WIDTH, heat_map, name_rows, new_axes, new_figure
from ecgkit.signals.measurements import PRINTED
from ecgkit.stats.labels import target_name

LEVEL = 0.05
"""Below it a p value, corrected for the classes, marks a change as specific to the concept."""


def concept_removed(classes: pd.DataFrame, probe: pd.DataFrame, *, name: str) -> Figure:
    """Draw the effect of removing a concept from the embeddings.

    Parameters
    ----------
    classes, probe : DataFrame
        As in `ecgkit.explain.effect.ConceptEffect`.
    name : str
        The concept, such as ``"age"``.

    Returns
    -------
    Figure
        At the left the metric of a probe of the concept before and after the removal, with 95 % intervals. Then, for
        each reader, the change of each class's AUC with its interval, without the classes that are too rare; light, the
        range over random directions of the same variance. The range grows with the number of directions, so it is not a
        test: a filled point is a change that less than 5 % of them reach, corrected for the classes (``p_holm``).
    """
    readers = list(dict.fromkeys(classes["reader"]))
    rows = classes[classes["change"].notna()]
    names = list(dict.fromkeys(rows["class"]))
    figure = new_figure(WIDTH, max(3.4, 1.9 + 0.42 * len(names)))
    widths = [1.0] + [1.25] * len(readers)
    panels = figure.subplots(1, 1 + len(readers), squeeze=False, width_ratios=widths)[0]
    _draw_probe(panels[0], probe, name)
    low = float(rows[["low", "random_low"]].min().min()) if len(rows) else -1.0
    high = float(rows[["high", "random_high"]].max().max()) if len(rows) else 1.0
    margin = 0.06 * max(high - low, 1e-3)
    for axes, reader in zip(panels[1:], readers, strict=True):
        _draw_changes(axes, rows[rows["reader"] == reader], name)
        axes.set(xlim=(low - margin, high + margin), title=reader.capitalize(), xlabel="change of the AUC")
        axes.xaxis.set_major_locator(MaxNLocator(4))
    panels[1].set_ylabel("class (AUC before)")
    figure.suptitle(f"{target_name(name).capitalize()} removed from the embeddings (fold 10)", x=0.01, ha="left")
    figure.legend(*panels[1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def concept_moves(table: pd.DataFrame) -> Figure:
    """Draw how far each concept moves the logit of each class.

    Parameters
    ----------
    table : DataFrame
        As from `ecgkit.explain.directions.concept_moves`.

    Returns
    -------
    Figure
        One row per concept, named with how well a linear probe reads it, one column per class: the change of the logit
        per standard deviation, with a star where less than 5 % of the random concepts, corrected for all cells, move
        it as far.
    """
    concepts, classes = (list(dict.fromkeys(table[name])) for name in ("concept", "class"))
    values, p = (table[name].to_numpy(np.float64).reshape(len(concepts), -1) for name in ("change", "p_holm"))
    rows = table.drop_duplicates("concept").to_dict("records")
    names = [f"{_concept_name(row)}: {metric_title(row['metric'])} {row['value']:.2f}" for row in rows]
    largest = float(np.nanmax(np.abs(values), initial=1e-3))
    figure, axes = new_axes(3.2 + 0.9 * len(classes), 1.4 + 0.34 * len(concepts))

    def write(row: int, column: int) -> str:
        value = round(values[row, column], 2)
        return f"{f'{value:+.2f}' if value else '0.00'}{' *' if p[row, column] < LEVEL else ''}"

    heat_map(axes, values, classes, names, write, limits=(-largest, largest), colors="RdBu_r", aspect="auto")
    axes.tick_params(length=0)
    axes.set_title("change of the logit per standard deviation along the direction", fontsize=10, loc="right")
    figure.supxlabel(f"* beyond random concepts: p < {LEVEL:g} (Holm)", fontsize=9)
    return figure


def _concept_name(row: dict[Any, Any]) -> str:
    """Name a concept."""
    name = str(row["concept"])
    return PRINTED[name][0] if name in PRINTED else target_name(name.replace("st_", "ST in "))


def _draw_probe(axes: Axes, probe: pd.DataFrame, name: str) -> None:
    """Draw the metric of the probe of the concept before and after the removal."""
    metric, y = str(probe["metric"].iloc[0]), np.arange(len(probe))
    axes.hlines(y, probe["low"], probe["high"], color=COLORS[0], linewidth=2.0)
    axes.plot(probe["value"], y, "o", color=COLORS[0], markersize=6, linestyle="", gid="probe")
    axes.axvline(CHANCE[metric], color=GREY, linewidth=1.0)
    names = {"concept": target_name(name)}
    name_rows(axes, [f"{names.get(str(removed), removed)}\nremoved" for removed in probe.index])
    axes.set(xlabel=f"{metric_title(metric)} of {target_name(name)}; grey: chance", title="Probe of the concept")
    axes.grid(visible=True, axis="x")


def _draw_changes(axes: Axes, rows: pd.DataFrame, name: str) -> None:
    """Draw the change of the AUC of each class by one reader."""
    y = np.arange(len(rows))
    if rows.empty:
        axes.text(0.5, 0.5, "every class is too rare", ha="center", va="center", transform=axes.transAxes)
    span = rows["random_high"] - rows["random_low"]
    label = "random directions of equal variance"
    axes.barh(y, span, left=rows["random_low"], height=0.6, color=LIGHT_GREY, label=label, gid="random")
    axes.hlines(y, rows["low"], rows["high"], color=COLORS[0], linewidth=2.0)
    specific = rows["p_holm"].to_numpy(dtype=np.float64) < LEVEL
    for chosen, face, sign in ((specific, COLORS[0], "<"), (~specific, "white", "≥")):
        style: dict[str, Any] = {"color": COLORS[0], "markerfacecolor": face, "markersize": 6, "linestyle": ""}
        label = f"without {target_name(name)}: p {sign} {LEVEL:g} (Holm)"
        axes.plot(rows["change"][chosen], y[chosen], "o", label=label, gid=f"p {sign}", **style)
    axes.axvline(0.0, color="black", linewidth=0.9)
    name_rows(axes, [f"{row['class']} ({row['auc_before']:.3f})" for row in rows.to_dict("records")])
    axes.grid(visible=True, axis="x")
