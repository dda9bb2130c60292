"""Counterfactuals: the probability while a sign grows, and the smallest change of an ECG that flips a decision."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.plots.ecg import MM_PER_MILLIVOLT, sample_position, sheet_with_room
from ecgkit.plots.style import COLORS, GREY, LIGHT_GREY, WIDTH, grid_of_axes, new_figure
from ecgkit.signals.ecg import LEADS

UNCHANGED = 0.01
"""mV: what differs by less is not drawn as changed."""


def sign_curves(table: pd.DataFrame, summary: pd.DataFrame, thresholds: Mapping[str, float]) -> Figure:
    """Draw the probability of a class while one sign grows, one panel per sign.

    Parameters
    ----------
    table, summary : DataFrame
        As from `ecgkit.explain.counterfactuals.grow_signs` and `summarise_growth`.
    thresholds : mapping of str to float
        By class.

    Returns
    -------
    Figure
        A grey line per record, the mean in colour, the threshold dashed; above each panel the rank correlation with its
        95 % interval. Without a sign, a line of text.
    """
    if summary.empty:
        figure = new_figure(WIDTH, 0.6)
        figure.text(0.01, 0.5, "The model knows none of the superclasses that the signs belong to.", va="center")
        return figure
    figure = new_figure(WIDTH, 3.0 * -(-len(summary) // 3))
    for axes, (sign, row) in zip(grid_of_axes(figure, len(summary), columns=3), summary.iterrows(), strict=True):
        curves = table[table["sign"] == sign].pivot_table(index="size", columns="record_id", values="probability")
        for column in curves:
            axes.plot(curves.index, curves[column], color=LIGHT_GREY, linewidth=0.9, gid="record")
        axes.plot(curves.index, curves.mean(axis=1), color=COLORS[1], linewidth=2.2, gid="mean")
        axes.axhline(thresholds[row["class"]], color=GREY, linewidth=1.0, linestyle="--")
        interval = f"({row['spearman_low']:.2f} to {row['spearman_high']:.2f})"
        axes.set_title(f"{row['class']}: rank correlation {row['spearman']:.2f}\n{interval}", fontsize=10)
        axes.set(xlabel=row["label"], ylim=(-0.02, 1.02))
    figure.supylabel("calibrated probability")
    return figure


def changed_ecg(
    before: NDArray[np.floating], after: NDArray[np.floating], *, sampling_rate: float, title: str = ""
) -> Figure:
    """Draw an ECG on millimetre paper, and over it in colour where it was changed.

    Parameters
    ----------
    before, after : ndarray, shape (12, samples)
        In mV.
    sampling_rate : float
        In Hz.
    title : str
        Text above the paper.

    Returns
    -------
    Figure
        The first 10 s, 25 mm/s and 10 mm/mV.

    Raises
    ------
    EcgkitError
        If the shapes differ.
    """
    if before.shape != after.shape:
        raise EcgkitError(f"signals of shapes {before.shape} and {after.shape}: pass an ECG and the same one changed")
    note = "black: the record; orange: with the change"
    figure, axes, places = sheet_with_room(before, after, sampling_rate=sampling_rate, title=title, note=note)
    differs = np.abs(after - before) > UNCHANGED
    for lead, part, baseline in places:
        row = LEADS.index(lead)
        y = np.where(differs[row, part], baseline + after[row, part] * MM_PER_MILLIVOLT, np.nan)
        x = sample_position(np.arange(part.start, part.stop), sampling_rate)
        axes.plot(x, y, color=COLORS[1], linewidth=1.4, gid=f"changed {lead}")
    return figure
