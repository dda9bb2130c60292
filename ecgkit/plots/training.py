"""The course of a training or a pretraining."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ecgkit.errors import EcgkitError
from ecgkit.plots.style import COLORS, GREY, WIDTH, new_figure

COLUMNS = ("epoch", "train_loss", "validation_loss", "learning_rate")
SCORES = {"validation_macro_auc": "macro AUC", "validation_r2": "R²"}
"""The columns of scores, of which a history has one, and their names."""


def history(table: pd.DataFrame) -> Figure:
    """Draw the losses, the score on fold 9 and the learning rate over the epochs, with the best epoch marked.

    Parameters
    ----------
    table : DataFrame
        One row per epoch, as in ``history.csv``: ``epoch``, ``train_loss``, ``validation_loss``,
        ``validation_macro_auc`` or ``validation_r2``, ``learning_rate``.

    Returns
    -------
    Figure
        The best epoch is the first with the highest score.

    Raises
    ------
    EcgkitError
        If a column is missing, or there is no epoch.
    """
    score = next((name for name in SCORES if name in table), "validation_macro_auc")
    figure, (loss, middle, rate) = _course(table, score, "training")
    best = table.iloc[int(table[score].fillna(-np.inf).to_numpy().argmax())]
    epoch, highest = int(best["epoch"]), best[score]
    loss.set_ylabel("loss on standardised values" if score == "validation_r2" else "loss (nats)")
    middle.plot(epoch, highest, "*", color="black", markersize=11, gid="best")
    middle.set(title=f"Fold 9: best {highest:.4f}", ylabel=SCORES[score])
    for axes in (loss, middle, rate):
        axes.axvline(epoch, color="black", linewidth=0.8, linestyle=":", label=f"best epoch ({epoch})")
    figure.legend(*loss.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


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
    figure, (loss, rank, _) = _course(table, "feature_rank", "pretraining")
    loss.set_ylabel("loss")
    rank.set(title="Features of fold 9", ylabel="effective rank")
    rank.set_ylim(bottom=0)
    figure.legend(*loss.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _course(table: pd.DataFrame, measure: str, of: str) -> tuple[Figure, tuple[Axes, Axes, Axes]]:
    """Draw losses, what is measured on fold 9, and learning rate over the epochs; refuse an incomplete history."""
    missing = [name for name in (*COLUMNS, measure) if name not in table]
    if missing or table.empty:
        what = f"no column {missing[0]!r}" if missing else "no epoch"
        raise EcgkitError(f"the history has {what}: pass the history.csv of a {of}")
    figure = new_figure(WIDTH, 3.6)
    loss, middle, rate = figure.subplots(1, 3)
    style: dict[str, Any] = dict(marker="o" if len(table) <= 30 else None, markersize=3)
    loss.plot(table["epoch"], table["train_loss"], color=COLORS[0], label="training", **style)
    loss.plot(table["epoch"], table["validation_loss"], color=COLORS[1], label="validation", **style)
    middle.plot(table["epoch"], table[measure], color=COLORS[1], **style)
    rate.plot(table["epoch"], table["learning_rate"], color=GREY, **style)
    loss.set_title("Loss")
    rate.set(title="Schedule", ylabel="learning rate")
    for axes in (loss, middle, rate):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=True)
    return figure, (loss, middle, rate)
