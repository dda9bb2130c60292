"""The figures of the quality of many ECGs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from ecgkit.plots.style import COLORS, GREY, LIGHT_GREY, WIDTH, log_scale, new_figure
from ecgkit.signals.ecg import ECG, LEADS

SHOWN = ("II", "V2", "V5")
"""The leads that are drawn of a finding that is about the whole recording."""

SECONDS = 10.0


def distributions(values: Mapping[str, ArrayLike]) -> Figure:
    """Draw the distribution of each quantity over many ECGs; NaN is counted and left out.

    Parameters
    ----------
    values : mapping of str to array-like
        By the label of the axis, with the unit: one value per ECG.

    Returns
    -------
    Figure
    """
    figure = new_figure(WIDTH, 2.7)
    for axes, (label, each) in zip(figure.subplots(1, len(values), squeeze=False)[0], values.items(), strict=True):
        known = np.asarray(each, float)
        n_missing = int((~np.isfinite(known)).sum())
        known = known[np.isfinite(known)]
        is_one = len(known) and np.ptp(known) < 0.01
        bins = [known[0] - 0.5, known[0] + 0.5] if is_one else int(np.clip(2 * len(known) ** 0.5, 5, 40))
        axes.hist(known, bins=bins, color=COLORS[0], edgecolor="white", linewidth=0.5)
        title = f"{n_missing:,} not measurable" if n_missing else ""
        axes.set(xlabel=label, ylabel="ECGs", title=f"all {known[0]:g}" if is_one else title)
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def lengths_and_rates(seconds: ArrayLike, heart_rates: ArrayLike) -> Figure:
    """Draw the distributions of the lengths in s and of the heart rates per minute, as `distributions` does."""
    return distributions({"length (s)": seconds, "heart rate (beats/min)": heart_rates})


def overview(heart_rates: ArrayLike, amplitudes: ArrayLike) -> Figure:
    """Draw the distributions of heart rates per minute, and of amplitudes peak to peak in mV, medians of the leads."""
    return distributions({"heart rate (beats/min)": heart_rates, "amplitude, median of the leads (mV)": amplitudes})


def per_lead(values: Mapping[str, NDArray[np.floating]]) -> Figure:
    """Draw the distribution of each quantity in each lead.

    Parameters
    ----------
    values : mapping of str to ndarray, shape (records, 12)
        By the label of the axis; NaN where there is none.

    Returns
    -------
    Figure
        One panel per quantity: median, quartiles, and lines from the 1st to the 99th percentile, on a logarithmic axis.
    """
    figure = new_figure(WIDTH, 2.6 * len(values))
    for axes, (label, each) in zip(figure.subplots(len(values), 1, squeeze=False)[:, 0], values.items(), strict=True):
        known = [column[np.isfinite(column) & (column > 0)] for column in each.T]
        axes.boxplot(
            known,
            whis=(1, 99),
            showfliers=False,
            patch_artist=True,
            boxprops={"facecolor": LIGHT_GREY, "edgecolor": GREY},
            medianprops={"color": COLORS[0], "linewidth": 2},
        )
        axes.set_xticks(np.arange(1, len(LEADS) + 1), LEADS)
        axes.set(ylabel=label)
        if any(len(column) for column in known):
            log_scale(axes)
        axes.grid(visible=True, axis="y", color="#E3E3E3")
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def example(ecg: ECG, leads: Sequence[str] = ()) -> Figure:
    """Draw the first 10 s of up to three leads, small: those of a finding, or II, V2 and V5."""
    chosen = tuple(leads)[:3] if 0 < len(leads) < len(LEADS) else SHOWN
    figure = new_figure(4.0, 0.5 + 0.62 * len(chosen))
    times = np.arange(ecg.n_samples) / ecg.sampling_rate
    inside = times < SECONDS
    for axes, lead in zip(figure.subplots(len(chosen), 1, sharex=True, squeeze=False)[:, 0], chosen, strict=True):
        axes.plot(times[inside], ecg.signal[LEADS.index(lead), inside], color="black", linewidth=0.6)
        axes.set_ylabel(f"{lead}\n(mV)", rotation=0, ha="right", va="center", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.set_xlim(0, min(SECONDS, max(times[-1], 0.1)))
        axes.margins(y=0.15)
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("s", fontsize=8)
    return figure
