"""The course of a training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
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
    missing = [name for name in (*COLUMNS, score) if name not in table]
    if missing or table.empty:
        what = f"no column {missing[0]!r}" if missing else "no epoch"
        raise EcgkitError(f"the history has {what}: pass the history.csv of a training")
    table = table.reset_index(drop=True)
    best = table.iloc[int(table[score].fillna(-np.inf).argmax())]
    epoch, highest = int(best["epoch"]), best[score]
    figure = new_figure(WIDTH, 3.6)
    loss, auc, rate = figure.subplots(1, 3)
    style: dict[str, Any] = dict(marker="o" if len(table) <= 30 else None, markersize=3)
    loss.plot(table["epoch"], table["train_loss"], color=COLORS[0], label="training", **style)
    loss.plot(table["epoch"], table["validation_loss"], color=COLORS[1], label="validation", **style)
    loss.set(title="Loss", ylabel="loss on standardised values" if score == "validation_r2" else "loss (nats)")
    auc.plot(table["epoch"], table[score], color=COLORS[1], **style)
    auc.plot(epoch, highest, "*", color="black", markersize=11, gid="best")
    auc.set(title=f"Fold 9: best {highest:.4f}", ylabel=SCORES[score])
    rate.plot(table["epoch"], table["learning_rate"], color=GREY, **style)
    rate.set(title="Schedule", ylabel="learning rate")
    for axes in (loss, auc, rate):
        axes.axvline(epoch, color="black", linewidth=0.8, linestyle=":", label=f"best epoch ({epoch})")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=True)
    figure.legend(*loss.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
