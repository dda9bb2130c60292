"""The results of a search for hyperparameters: trials, importances, and values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from ecgkit.errors import EcgkitError
from ecgkit.plots.style import COLORS, GREY, WIDTH, grid_of_axes, new_figure

COLUMNS = ("trial", "state", "fold_9_macro_auc")

KINDS: dict[str, dict[str, Any]] = {
    "done": dict(color=COLORS[0], marker="o", zorder=3),
    "pruned": dict(color=GREY, marker="x", zorder=2),
}
"""The styles of trials with an AUC, by state."""


def importances(table: Mapping[str, float], *, n_trials: int) -> Figure:
    """Draw the importance of each parameter, the largest on top.

    Parameters
    ----------
    table : mapping of str to float
        The share of each parameter, from 0 to 1 and 1 in sum, by functional analysis of variance.
    n_trials : int
        The number of trials from which the shares were computed.

    Returns
    -------
    Figure

    Raises
    ------
    EcgkitError
        If there is no parameter.

    References
    ----------
    Hutter et al. (2014), "An Efficient Approach for Assessing Hyperparameter Importance", ICML.
    """
    if not table:
        raise EcgkitError("there is no parameter to draw: pass the importance of at least one")
    ordered = pd.Series(dict(table), dtype=np.float64).sort_values(kind="stable")
    figure = new_figure(WIDTH * 0.75, 1.2 + 0.3 * len(ordered))
    axes = figure.add_subplot()
    axes.barh(np.arange(len(ordered)), ordered.to_numpy(), color=COLORS[0], height=0.65)
    for row, share in enumerate(ordered):
        axes.text(share, row, f" {share:.2f}", va="center", fontsize=9)
    axes.set_yticks(np.arange(len(ordered)), ordered.index.tolist())
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, max(1e-9, 1.12 * float(ordered.max())))
    axes.set(
        title=f"Importance in {n_trials} finished trials",
        xlabel="share of the explained variance of the macro AUC on fold 9",
    )
    axes.grid(visible=True, axis="x")
    return figure


def trials(table: pd.DataFrame) -> Figure:
    """Draw the macro AUC on fold 9 of each trial by number, and the best so far.

    Parameters
    ----------
    table : DataFrame
        One row per trial, as in ``trials.csv``: ``trial``, ``state`` and ``fold_9_macro_auc``. Trials without an AUC
        are not drawn.

    Returns
    -------
    Figure

    Raises
    ------
    EcgkitError
        If a column is missing, or no trial is done.
    """
    shown = _with_an_auc(table).sort_values("trial")
    figure = new_figure(WIDTH, 3.6)
    axes = figure.add_subplot()
    _draw_kinds(axes, shown, "trial")
    done = shown[shown["state"] == "done"]
    best = done["fold_9_macro_auc"].cummax()
    axes.step(done["trial"], best, where="post", color=COLORS[1], label="best so far", zorder=2.5, gid="best")
    axes.set(xlabel="trial", ylabel="macro AUC on fold 9", title=f"Best {best.iloc[-1]:.4f}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=True)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def slices(table: pd.DataFrame, names: Sequence[str], *, log: Collection[str] = ()) -> Figure:
    """Draw the macro AUC on fold 9 of all trials over the values of each of some parameters.

    Parameters
    ----------
    table : DataFrame
        As for `trials`, with a column for each name.
    names : sequence of str
        The parameters.
    log : collection of str
        The parameters with a logarithmic axis.

    Returns
    -------
    Figure

    Raises
    ------
    EcgkitError
        If a column is missing, no name is given, or no trial is done.
    """
    if not names:
        raise EcgkitError("there is no parameter to draw: name at least one")
    shown = _with_an_auc(table, names)
    columns = min(3, len(names))
    figure = new_figure(WIDTH, 0.6 + 2.6 * -(-len(names) // columns))
    for number, (axes, name) in enumerate(zip(grid_of_axes(figure, len(names), columns=columns), names, strict=True)):
        values = shown[name]
        is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
        _draw_kinds(axes, shown if is_number else shown.assign(**{name: values.astype(str)}), name)
        axes.set(xlabel=name, ylabel="macro AUC on fold 9" if number % columns == 0 else "")
        if name in log:
            axes.set_xscale("log")
            # A range of less than a decade may contain no power of ten.
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(visible=True)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _with_an_auc(table: pd.DataFrame, names: Sequence[str] = ()) -> pd.DataFrame:
    """Return the trials that can be drawn."""
    if missing := [name for name in (*COLUMNS, *names) if name not in table]:
        raise EcgkitError(f"the trials have no column {missing[0]!r}: pass the trials.csv of a search")
    shown = table[table["state"].isin(list(KINDS)) & table["fold_9_macro_auc"].notna()]
    if not (shown["state"] == "done").any():
        raise EcgkitError("no trial is done: resume the search")
    return shown


def _draw_kinds(axes: Axes, table: pd.DataFrame, x: str) -> None:
    """Draw the trials of each state over a column."""
    for state, style in KINDS.items():
        part = table[table["state"] == state]
        if not part.empty:
            axes.plot(part[x], part["fold_9_macro_auc"], linestyle="", markersize=5, label=state, gid=state, **style)
