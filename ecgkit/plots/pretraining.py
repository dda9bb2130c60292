"""What a pretraining hides of a record."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ecgkit.plots.style import COLORS, GREY, WIDTH, new_figure


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
