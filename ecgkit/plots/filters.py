"""What filters do to a beat, and the frequencies of a record over time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ecgkit.errors import check_choice
from ecgkit.plots.style import COLORS, GREY, LIGHT_GREY, WIDTH, new_figure
from ecgkit.signals.ecg import LEADS
from ecgkit.signals.filter_effects import FilteredBeats, spectrogram


def plot_filtered_beats(filtered: FilteredBeats, leads: Sequence[str] = ("II", "V2", "V5")) -> Figure:
    """Draw the mean beat of some leads through each filter, with the place where the ST segment is measured.

    Parameters
    ----------
    filtered : FilteredBeats
        As from `ecgkit.signals.filter_effects.filtered_beats`.
    leads : sequence of str
        The leads to draw.

    Returns
    -------
    Figure
        The level of the ST segment is in the legend, in mV.
    """
    figure = new_figure(WIDTH, 3.6)
    for axes, lead in zip(figure.subplots(1, len(leads), sharey=True, squeeze=False)[0], leads, strict=True):
        row = LEADS.index(check_choice("lead", lead, LEADS))
        axes.axhline(0, color=LIGHT_GREY, linewidth=0.8)
        axes.axvline(filtered.st_time, color=GREY, linewidth=0.8, linestyle=":")
        for (name, beat), color in zip(filtered.beats.items(), ("black", *COLORS), strict=False):
            label = f"{name}: ST {filtered.st[name][row]:+.2f}"
            axes.plot(filtered.times, beat[row], color=color, linewidth=1.2, label=label)
        axes.set(xlabel="time after the R peak (ms)", title=lead, xlim=(-250, 550))
        axes.legend(loc="upper right", fontsize=8, handlelength=1.2)
    figure.axes[0].set_ylabel("mV above the onset of QRS")
    return figure


def plot_spectrogram(signal: NDArray[np.floating], *, sampling_rate: float, lead: str = "II") -> Figure:
    """Draw one lead, and below it the power at each frequency over time.

    Parameters
    ----------
    signal : ndarray, shape (12, samples)
        In mV.
    sampling_rate : float
        In Hz.
    lead : str, default "II"
        The lead to draw.

    Returns
    -------
    Figure
        Power up to 100 Hz in decibels relative to 1 mV²/Hz, over the upper 60 decibels of the record.
    """
    values = np.asarray(signal[LEADS.index(check_choice("lead", lead, LEADS))], np.float64)
    frequencies, times, density = spectrogram(values, sampling_rate=sampling_rate)
    decibels = 10 * np.log10(np.maximum(density, 1e-12))
    figure = new_figure(WIDTH, 4.6)
    course, power = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2))
    course.plot(np.arange(len(values)) / sampling_rate, values, color="black", linewidth=0.7)
    course.set(ylabel=f"{lead} (mV)", xlim=(0, len(values) / sampling_rate))
    highest = float(decibels.max())
    mesh = power.pcolormesh(
        times, frequencies, decibels, vmin=highest - 60, vmax=highest, cmap="magma", rasterized=True
    )
    figure.colorbar(mesh, ax=power, label="dB relative to 1 mV²/Hz")
    power.set(xlabel="time (s)", ylabel="frequency (Hz)", ylim=(0, min(100.0, sampling_rate / 2)))
    return figure
