"""ECGs on millimetre paper, and what a filter did to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from scipy.signal import welch

from ecgkit.errors import check_choice
from ecgkit.plots.style import COLORS, GREY, WIDTH, legend_above, new_figure
from ecgkit.signals.ecg import ECG, LEADS

MM_PER_SECOND = 25.0
MM_PER_MILLIVOLT = 10.0
MM_PER_INCH = 25.4

LAYOUT = (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"))
"""The rows of the usual 3x4 layout; below them stands the rhythm strip."""

RHYTHM_LEAD = "II"
SHOWN_SECONDS = 10.0

PAPER = "#FFF8F6"
FINE_LINES = "#F8D3CC"
THICK_LINES = "#EBA398"

LEFT = 15.0  # mm before the traces: room for the calibration pulse
RIGHT = 5.0  # mm behind them
LABEL_HEIGHT = 5.0  # mm above the highest point of a row, for the names of the leads
LABEL_SECONDS = 0.36  # a name is this wide on paper
ROW_DISTANCE = (25.0, 45.0)  # mm between the baselines of neighbouring rows, at least and at most


@dataclass(frozen=True)
class _Row:
    """One row of the paper: names and traces in mm, side by side, and how far they reach from the baseline."""

    leads: tuple[str, ...]
    traces: tuple[NDArray[np.float64], ...]
    up: float
    down: float


def plot_ecg(
    signal: NDArray[np.floating],
    *,
    sampling_rate: float,
    title: str = "",
) -> Figure:
    """Draw a 12-lead ECG on millimetre paper, to scale: 25 mm/s and 10 mm/mV at the figure's own size.

    Four columns of a quarter of the time each, 2.5 s for a record of 10 s, that follow one another in time (I, II,
    III; aVR, aVL, aVF; V1 to V3; V4 to V6), and below them lead II throughout. A pulse of 1 mV and 0.2 s stands before
    each row. Rows move apart, up to 45 mm, where large amplitudes would overlap; what would still reach past the
    baseline of the next row is cut off, and the lead is named below the paper.

    Parameters
    ----------
    signal : ndarray, shape (12, samples)
        Millivolts, leads in the order of `ecgkit.signals.ecg.LEADS`; NaN leaves a gap.
    sampling_rate : float
        Hz.
    title : str, default ""
        A line above the paper.

    Returns
    -------
    Figure
        A record that is longer than 10 s is drawn up to there.

    Raises
    ------
    EcgkitError
        If the signal is not ``(12, samples)`` or the sampling rate is not positive.
    """
    ecg = ECG(np.asarray(signal, dtype=np.float32), sampling_rate)
    n_shown = min(ecg.n_samples, round(SHOWN_SECONDS * sampling_rate))
    rows = _rows(np.asarray(ecg.signal[:, :n_shown], dtype=np.float64) * MM_PER_MILLIVOLT)
    distances = [float(np.clip(_up_to_5(upper.down + lower.up), *ROW_DISTANCE)) for upper, lower in pairwise(rows)]
    top = min(_up_to_5(rows[0].up), ROW_DISTANCE[1])
    bottom = float(np.clip(_up_to_5(rows[-1].down + 2.0), 10.0, ROW_DISTANCE[1]))
    baselines = bottom + np.append(np.cumsum(distances[::-1])[::-1], 0.0)
    width = _up_to_5(LEFT + n_shown / sampling_rate * MM_PER_SECOND + RIGHT)
    height = float(baselines[0] + top)

    figure, axes = _paper(width, height, title)
    cut: list[str] = []
    for i, row in enumerate(rows):
        limits = (-(distances[i] if i < len(distances) else bottom), distances[i - 1] if i else top)
        _draw_row(axes, row, float(baselines[i]), limits, sampling_rate)
        cut += _cut_leads(row, limits)
    notes = [f"{MM_PER_SECOND:g} mm/s", f"{MM_PER_MILLIVOLT:g} mm/mV", f"{sampling_rate:g} Hz", "pulse: 1 mV, 0.2 s"]
    if n_shown < ecg.n_samples:
        notes.append(f"the first {SHOWN_SECONDS:g} s of {ecg.duration:g} s")
    if cut:
        notes.append(f"cut at the next row: {', '.join(dict.fromkeys(cut))}")
    figure.text(2 / width, 1.2 / MM_PER_INCH / figure.get_figheight(), "    ".join(notes), fontsize=9, va="bottom")
    return figure


def _up_to_5(value: float) -> float:
    """Round up to whole thick lines of the paper, so that baselines lie on them."""
    return float(5 * np.ceil(value / 5))


def _rows(millimetres: NDArray[np.float64]) -> list[_Row]:
    """Cut the leads into the rows of the layout."""
    edges = np.linspace(0, millimetres.shape[1], len(LAYOUT[0]) + 1).round().astype(int)
    rows = []
    for leads in (*LAYOUT, (RHYTHM_LEAD,)):
        parts = pairwise(edges) if len(leads) > 1 else [(0, millimetres.shape[1])]
        traces = tuple(millimetres[LEADS.index(lead), a:b] for lead, (a, b) in zip(leads, parts, strict=True))
        values = np.nan_to_num(np.concatenate(traces))
        # The calibration pulse is part of the row, too.
        rows.append(_Row(leads, traces, max(values.max(), MM_PER_MILLIVOLT) + LABEL_HEIGHT, max(-values.min(), 3.0)))
    return rows


def _paper(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    """Make a sheet of millimetre paper with axes in mm, whatever stands around it."""
    above, below = (9.0 if title else 2.0), 7.0
    total = above + height + below
    figure = new_figure(width / MM_PER_INCH, total / MM_PER_INCH, layout=None)
    axes = figure.add_axes((0.0, below / total, 1.0, height / total))
    axes.set(xlim=(0, width), ylim=(0, height), xticks=[], yticks=[], facecolor=PAPER)
    axes.spines[:].set_visible(False)
    for step, color, line_width in ((1.0, FINE_LINES, 0.4), (5.0, THICK_LINES, 0.7)):
        axes.vlines(np.arange(0, width + step / 2, step), 0, height, colors=color, linewidths=line_width, zorder=0.5)
        axes.hlines(np.arange(0, height + step / 2, step), 0, width, colors=color, linewidths=line_width, zorder=0.5)
    if title:
        figure.text(2 / width, 1 - 2 / total, title, fontsize=11, va="top")
    return figure, axes


def _draw_row(axes: Axes, row: _Row, baseline: float, limits: tuple[float, float], sampling_rate: float) -> None:
    """Draw the calibration pulse, the traces and the names of one row."""
    pulse_x = LEFT - 5 + np.array([-5.0, -3.0, -3.0, 2.0, 2.0, 4.0])
    pulse_y = baseline + MM_PER_MILLIVOLT * np.array([0, 0, 1, 1, 0, 0])
    axes.plot(pulse_x, pulse_y, color="black", linewidth=0.8, solid_joinstyle="miter", gid="pulse")
    window = Rectangle((0, baseline + limits[0]), axes.get_xlim()[1], limits[1] - limits[0], transform=axes.transData)
    n_label = round(LABEL_SECONDS * sampling_rate)
    highest = max(np.nan_to_num(trace[:n_label]).max(initial=3.0) for trace in row.traces)
    label_y = baseline + min(highest, limits[1] - LABEL_HEIGHT) + 1.0
    start = 0
    for lead, trace in zip(row.leads, row.traces, strict=True):
        x = LEFT + (start + np.arange(len(trace))) / sampling_rate * MM_PER_SECOND
        (line,) = axes.plot(x, baseline + trace, color="black", linewidth=0.8, solid_joinstyle="round", gid=lead)
        line.set_clip_path(window)
        if start:
            axes.vlines(x[0], baseline - 3, baseline + 3, colors="black", linewidths=0.8)
        text = axes.text(x[0] + 1, label_y, lead, fontsize=9, fontweight="bold", va="bottom")
        text.set_path_effects([withStroke(linewidth=2.5, foreground=PAPER)])
        start += len(trace)


def _cut_leads(row: _Row, limits: tuple[float, float]) -> list[str]:
    """Name the leads of a row that reach past its limits."""
    values = [np.nan_to_num(trace) for trace in row.traces]
    return [
        lead
        for lead, trace in zip(row.leads, values, strict=True)
        if trace.min() < limits[0] or trace.max() > limits[1]
    ]


def plot_filtering(
    before: NDArray[np.floating],
    after: NDArray[np.floating],
    *,
    sampling_rate: float,
    lead: str = "II",
    description: str = "filtered",
) -> Figure:
    """Draw one lead before and after filtering: its time course, and its spectrum by Welch's method.

    Parameters
    ----------
    before, after : ndarray, shape (12, samples)
        Millivolts.
    sampling_rate : float
        Hz, of both.
    lead : str, default "II"
        The lead to draw.
    description : str, default "filtered"
        What was done, such as ``"band-pass 0.5-40 Hz"``.

    Returns
    -------
    Figure

    Raises
    ------
    EcgkitError
        If there is no such lead, or the signals are not ``(12, samples)``.
    """
    row = LEADS.index(check_choice("lead", lead, LEADS))
    figure = new_figure(WIDTH, 5.6)
    course, spectrum = figure.subplots(2, 1)
    styles: Sequence[tuple[str, str]] = (("unfiltered", GREY), (description, COLORS[0]))
    for signal, (name, color) in zip((before, after), styles, strict=True):
        ecg = ECG(np.asarray(signal, dtype=np.float32), sampling_rate)
        values = ecg.signal[row].astype(np.float64)
        course.plot(np.arange(len(values)) / sampling_rate, values, color=color, linewidth=1.0, label=name)
        frequency, power = welch(
            values, sampling_rate, nperseg=min(len(values), round(4 * sampling_rate)), detrend=False
        )
        spectrum.plot(frequency, np.where(power > 0, power, np.nan), color=color, linewidth=1.2, label=name)
    course.set(title=f"Lead {lead}", xlabel="time (s)", ylabel="amplitude (mV)")
    course.margins(x=0)
    spectrum.set(
        title=f"Spectrum of lead {lead}", xlabel="frequency (Hz)", ylabel="power density (mV²/Hz)", yscale="log"
    )
    highest = max(np.nan_to_num(np.asarray(line.get_ydata(), dtype=np.float64)).max() for line in spectrum.lines)
    # What a filter leaves far below the rest would stretch the axis until nothing else is seen.
    spectrum.set(xlim=(0, sampling_rate / 2), ylim=(1e-9 * highest, 3 * highest) if highest > 0 else (1e-9, 1))
    for axes in (course, spectrum):
        axes.grid(visible=True)
        legend_above(axes)
    return figure
