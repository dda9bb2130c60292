"""The course of a pretraining, and what it hides of a record."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.plots.style import COLORS, GREY, WIDTH, new_figure

COLUMNS = ("epoch", "train_loss", "validation_loss", "feature_rank", "learning_rate")


def pretraining_history(table: pd.DataFrame) -> Figure:
    """Draw the losses, the rank of the features of fold 9 and the learning rate over the epochs.

    Parameters
    ----------
    table : DataFrame
        One row per epoch, as in ``history.csv`` of a pretraining.

    Returns
    -------
    Figure

    Raises
    ------
    EcgkitError
        If a column is missing, or there is no epoch.
    """
    missing = [name for name in COLUMNS if name not in table]
    if missing or table.empty:
        what = f"no column {missing[0]!r}" if missing else "no epoch"
        raise EcgkitError(f"the history has {what}: pass the history.csv of a pretraining")
    figure = new_figure(WIDTH, 3.4)
    loss, rank, rate = figure.subplots(1, 3)
    marker = "o" if len(table) <= 30 else None
    for column, color, label in (("train_loss", COLORS[0], "folds 1-8"), ("validation_loss", COLORS[1], "fold 9")):
        loss.plot(table["epoch"], table[column], color=color, label=label, marker=marker, markersize=3)
    loss.set(title="Loss", ylabel="loss")
    rank.plot(table["epoch"], table["feature_rank"], color=COLORS[1], marker=marker, markersize=3)
    rank.set(title="Features of fold 9", ylabel="effective rank")
    rank.set_ylim(bottom=0)
    rate.plot(table["epoch"], table["learning_rate"], color=GREY, marker=marker, markersize=3)
    rate.set(title="Schedule", ylabel="learning rate")
    for axes in (loss, rank, rate):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=True)
    figure.legend(*loss.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def visible_tokens(
    signal: NDArray[np.floating], visible: Sequence[Sequence[int]], *, token_seconds: float, sampling_rate: float
) -> Figure:
    """Draw lead II of one record once per mask, with the tokens that the encoder does not see in grey.

    Parameters
    ----------
    signal : ndarray, shape (12, samples)
        Millivolts.
    visible : sequence of sequence of int
        The visible tokens of each mask.
    token_seconds : float
        Length of a token.
    sampling_rate : float
        Hz.

    Returns
    -------
    Figure
    """
    figure = new_figure(WIDTH, 1.0 + 1.1 * len(visible))
    lead, seconds = signal[1], np.arange(signal.shape[1]) / sampling_rate
    all_axes = np.atleast_1d(figure.subplots(len(visible), 1, sharex=True, sharey=True))
    for axes, shown in zip(all_axes, visible, strict=True):
        is_shown = np.isin((seconds / token_seconds + 1e-9).astype(int), shown)
        axes.plot(seconds, lead, color=GREY, linewidth=0.6, alpha=0.7, label="hidden")
        axes.plot(seconds, np.where(is_shown, lead, np.nan), color=COLORS[0], linewidth=1.2, label="visible")
        axes.set_ylabel("II (mV)")
    all_axes[-1].set_xlabel("time (s)")
    figure.legend(*all_axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure
