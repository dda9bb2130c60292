"""Comparisons of models: a leaderboard with intervals and published results, and paired differences."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.plots.style import COLORS, GREY, LONGEST_NAME, one_line, row_figure

LEVEL = 0.05
"""The level of adjusted p values."""

REGIMES = {
    "from scratch": (COLORS[1], "s"),
    "pretrained, fine-tuned": (COLORS[2], "^"),
    "pretrained, linear probe": (COLORS[3], "v"),
}
"""Colour and marker of published results, by how their models were trained."""


def leaderboard(table: pd.DataFrame, references: pd.DataFrame | None = None) -> Figure:
    """Draw the macro AUC of sessions or configurations with intervals, and published results below.

    Parameters
    ----------
    table : DataFrame
        ``sessions`` or ``configurations`` of an `ecgkit.evaluation.Leaderboard`: one row each as drawn, with columns
        ``fold_9_auc``, ``fold_10_auc``, ``fold_10_low``, ``fold_10_high``, and ``configuration`` and ``seed``, or
        ``seeds``, for the names.
    references : DataFrame, optional
        Rows of `ecgkit.evaluation.published`: ``model``, ``regime``, ``year``, ``macro_auc``, ``low``, ``high``.

    Returns
    -------
    Figure
        One row each, the published ones below a line and each with the year of its source and its interval, if there
        is one.

    Raises
    ------
    EcgkitError
        If there is no row.
    """
    if table.empty:
        raise EcgkitError("there is no session to draw: pass at least one")
    theirs = pd.DataFrame() if references is None else references
    names = [*_row_names(table), *(f"{row.model}, {row.year}" for row in theirs.itertuples())]
    figure, axes = row_figure(names, label="macro AUC")
    own = np.arange(len(table))
    label = "fold 10 (test), 95 % over patients"
    axes.hlines(own, table["fold_10_low"], table["fold_10_high"], colors=COLORS[0], linewidths=2.0)
    axes.plot(table["fold_10_auc"], own, "o", color=COLORS[0], markersize=6, label=label, gid="fold 10", zorder=3)
    chosen: dict[str, Any] = dict(color=GREY, markersize=5, linestyle="", zorder=2.5)
    axes.plot(table["fold_9_auc"], own + 0.2, "D", **chosen, label="fold 9 (chosen on)", gid="fold 9")
    _draw_references(axes, theirs, first_row=len(table))
    axes.grid(visible=True, axis="y")
    figure.legend(loc="outside upper left", ncols=3)
    return figure


def _draw_references(axes: Axes, references: pd.DataFrame, *, first_row: int) -> None:
    """Draw published results below a line, coloured by kind."""
    if references.empty:
        return
    axes.axhline(first_row - 0.5, color="black", linewidth=0.6)
    rows = first_row + np.arange(len(references))
    there = references["regime"].unique()
    for regime in [
        *(known for known in REGIMES if known in there),
        *(other for other in there if other not in REGIMES),
    ]:
        color, marker = REGIMES.get(regime, (GREY, "x"))
        is_it = (references["regime"] == regime).to_numpy()
        part = references[is_it]
        axes.hlines(rows[is_it], part["low"], part["high"], colors=color, linewidths=2.0)
        style: dict[str, Any] = dict(color=color, markersize=5, linestyle="", label=f"published, {regime}")
        axes.plot(part["macro_auc"], rows[is_it], marker, **style, gid=f"published {regime}")


def _row_names(table: pd.DataFrame) -> list[str]:
    """Name the rows of a leaderboard: a configuration with its number of seeds, a session with its seed."""

    def short(text: object, rest: str = "") -> str:
        room = LONGEST_NAME - len(rest)
        words = textwrap.shorten(str(text), room, placeholder=" ...")
        return (words if words.strip() != "..." else one_line(str(text), room)) + rest

    if "seeds" in table:
        named = zip(table.index, table["seeds"], strict=True)
        return [short(name, f" ({seeds} seed{'s' if seeds > 1 else ''})") for name, seeds in named]
    if "configuration" not in table:
        return [short(name) for name in table.index]
    facts = zip(table.index, table["configuration"], table["seed"], strict=True)
    return [short(configuration, f", seed {seed}: {name}") for name, configuration, seed in facts]


def paired_differences(table: pd.DataFrame, *, label: str = "difference of macro AUC") -> Figure:
    """Draw differences on the same records with their intervals, and a line at zero.

    Parameters
    ----------
    table : DataFrame
        One row each in the order drawn: ``difference``, ``difference_low``, ``difference_high`` and ``p_holm`` or
        ``p``; such as ``sessions`` or ``configurations`` of a `ecgkit.evaluation.Leaderboard`, or ``classes`` or
        ``macro`` of a `ecgkit.evaluation.Comparison`. Rows without a difference are left out.
    label : str, default "difference of macro AUC"
        The label of the x axis.

    Returns
    -------
    Figure
        Coloured where the interval excludes zero, with a hollow marker where the adjusted p value is 0.05 or more,
        otherwise grey: no difference shown.

    Raises
    ------
    EcgkitError
        If there is no difference to draw.
    """
    shown = table[table["difference"].notna()]
    if shown.empty:
        raise EcgkitError("there is no difference to draw: pass at least two sessions")
    figure, axes = row_figure(_row_names(shown), label=f"{label}, 95 % over patients")
    rows = np.arange(len(shown))
    for name, (is_it, style) in _kinds(shown).items():
        if is_it.any():
            part, at = shown[is_it], rows[is_it]
            axes.hlines(at, part["difference_low"], part["difference_high"], colors=style["color"], linewidths=2.0)
            axes.plot(part["difference"], at, linestyle="", markersize=6, label=name, gid=name, **style)
    axes.axvline(0, color="black", linewidth=0.8, zorder=1.5)
    axes.xaxis.set_major_locator(MaxNLocator(7))
    _write_p_values(axes, shown)
    figure.legend(loc="outside upper left", ncols=3)
    return figure


def _kinds(table: pd.DataFrame) -> dict[str, tuple[NDArray[np.bool_], dict[str, Any]]]:
    """Return which rows are higher, lower or neither, and their style; hollow where not significant after Holm."""
    low, high = (table[name].to_numpy(np.float64) for name in ("difference_low", "difference_high"))
    holds = table["p_holm"].to_numpy(np.float64) < LEVEL if "p_holm" in table else np.full(len(table), fill_value=True)
    kinds: dict[str, tuple[NDArray[np.bool_], dict[str, Any]]] = {}
    for name, is_it, color, marker in (("higher", low > 0, COLORS[0], "o"), ("lower", high < 0, COLORS[1], "s")):
        style = dict(color=color, marker=marker)
        kinds[name] = is_it & holds, style
        kinds[f"{name} by itself, not after Holm"] = is_it & ~holds, style | {"markerfacecolor": "white"}
    neither = ~((low > 0) | (high < 0))
    return kinds | {"no difference shown": (neither, dict(color=GREY, marker="D"))}


def _write_p_values(axes: Axes, table: pd.DataFrame) -> None:
    """Write the p value of each row to the right of the axes."""
    column = next((name for name in ("p_holm", "p") if name in table), None)
    if column is None:
        return
    place: dict[str, Any] = dict(transform=axes.get_yaxis_transform(), ha="left", fontsize=9, color="black")
    for row, value in enumerate(table[column]):
        text = "" if np.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"
        axes.text(1.015, row, text, va="center_baseline", **place)
    axes.text(1.015, -0.75, "p (Holm)" if column == "p_holm" else "p", va="bottom", **place)
