"""ECGs on millimetre paper, and the effect of a filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike, NDArray
from scipy.signal import welch

from ecgkit.errors import EcgkitError, check_choice
from ecgkit.plots.style import COLORS, GREY, LONGEST_LINE, WIDTH, legend_above, log_scale, new_figure, one_line
from ecgkit.signals.ecg import ECG, LEADS

MM_PER_SECOND = 25.0
MM_PER_MILLIVOLT = 10.0
MM_PER_INCH = 25.4
SCALE = f"{MM_PER_SECOND:g} mm/s    {MM_PER_MILLIVOLT:g} mm/mV"

LAYOUT = (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"))
"""The rows of the usual 3x4 layout, above the rhythm strip."""

RHYTHM_LEAD = "II"
SHOWN_SECONDS = 10.0

KINDS = {"missed": "false negative", "false alarm": "false positive"}
"""The kinds of mistakes, as texts name them."""

PAPER = "#FFF8F6"
FINE_LINES = "#F8D3CC"
THICK_LINES = "#EBA398"

# All in mm, but for the seconds.
LEFT, RIGHT = 15.0, 5.0  # before the traces, with room for the calibration pulse, and after them
LABEL_HEIGHT = 5.0  # above the highest point of a row, for the names of the leads
LABEL_SECONDS = 0.36  # the width of a name on paper
ROW_DISTANCE = (25.0, 45.0)  # between the baselines of neighbouring rows, at least and at most
TITLE_LINE, NOTE_HEIGHT = 5.0, 7.0
NARROWEST = 190.0  # width of a single sheet, for the title and the note


@dataclass(frozen=True)
class _Rows:
    """Rows of traces in mm: their baselines, their largest deflections, and the height of the paper."""

    baselines: tuple[float, ...]
    limits: tuple[tuple[float, float], ...]
    height: float


def stack_rows(traces: Sequence[Sequence[NDArray[np.float64]]], *, most: float = ROW_DISTANCE[1]) -> _Rows:
    """Stack rows of traces in mm, at most so far apart; each may reach to its neighbours' baselines."""
    values = [np.nan_to_num(np.concatenate(row)) for row in traces]
    # The calibration pulse is part of a row, too.
    up = [max(row.max(initial=0.0), MM_PER_MILLIVOLT) + LABEL_HEIGHT for row in values]
    down = [max(-row.min(initial=0.0), 3.0) for row in values]
    down[-1] = max(down[-1] + 2.0, 10.0)
    gaps = [float(np.clip(_up_to_5(a + b), ROW_DISTANCE[0], most)) for a, b in zip(down[:-1], up[1:], strict=True)]
    bottom, top = (min(_up_to_5(room), most) for room in (down[-1], up[0]))
    baselines = tuple((bottom + np.append(np.cumsum(gaps[::-1])[::-1], 0.0)).tolist())
    lines = [baselines[0] + top, *baselines, 0.0]
    return _Rows(baselines, tuple(zip(lines[2:], lines[:-2], strict=True)), lines[0])


def _up_to_5(value: float) -> float:
    """Round up to the thick lines of the paper, so that baselines are on them."""
    return float(5 * np.ceil(value / 5))


def plot_ecg(signal: NDArray[np.floating], *, sampling_rate: float, title: str = "") -> Figure:
    """Draw a 12-lead ECG on millimetre paper, to scale: 25 mm/s and 10 mm/mV at the figure's own size.

    Four columns of a quarter of the time each, 2.5 s for a record of 10 s, follow one another in time (I, II, III; aVR,
    aVL, aVF; V1 to V3; V4 to V6), above lead II throughout. A pulse of 1 mV and 0.2 s precedes each row. Rows move
    apart, up to 45 mm, where large amplitudes would overlap; what would still reach past the baseline of the next row
    is clipped, and the lead is named below the paper.

    Parameters
    ----------
    signal : ndarray, shape (12, samples)
        Millivolts, leads in the order of `ecgkit.signals.ecg.LEADS`; NaN leaves a gap.
    sampling_rate : float
        Hz.
    title : str, default ""
        Text above the paper.

    Returns
    -------
    Figure
        The first 10 s of the record.

    Raises
    ------
    EcgkitError
        If the signal is not ``(12, samples)`` or the sampling rate is not positive.
    """
    return plot_ecgs([signal], [title], sampling_rate=sampling_rate)


def plot_ecgs(
    signals: NDArray[np.floating] | Sequence[NDArray[np.floating]], titles: Sequence[str], *, sampling_rate: float
) -> Figure:
    """Draw several 12-lead ECGs one below the other, each as `plot_ecg` does.

    Parameters
    ----------
    signals : sequence of ndarray, each of shape (12, samples)
        Millivolts, leads in the order of `ecgkit.signals.ecg.LEADS`; NaN leaves a gap.
    titles : sequence of str
        Text above each; a long line is shortened.
    sampling_rate : float
        Hz, of all.

    Returns
    -------
    Figure
        The first 10 s of each.

    Raises
    ------
    EcgkitError
        If there is no signal, or not one title for each, or as `plot_ecg`.
    """
    if len(signals) != len(titles) or not len(signals):
        raise EcgkitError(f"{len(signals)} signals and {len(titles)} titles: pass one title for each signal")
    ecgs = [ECG(np.asarray(signal, dtype=np.float32), sampling_rate) for signal in signals]
    n_shown = min(max(ecg.n_samples for ecg in ecgs), round(SHOWN_SECONDS * sampling_rate))
    sheets = [arrange_leads(ecg.signal[:, :n_shown].astype(np.float64) * MM_PER_MILLIVOLT) for ecg in ecgs]
    rows = [stack_rows(traces) for traces in sheets]
    texts = [[one_line(line, LONGEST_LINE) for line in title.splitlines()] for title in titles]
    above = [2.0 + (2.0 + TITLE_LINE * len(lines) if lines else 0.0) for lines in texts]
    width = _up_to_5(LEFT + n_shown / sampling_rate * MM_PER_SECOND + RIGHT)
    total = sum(row.height for row in rows) + sum(above) + NOTE_HEIGHT
    figure = new_figure(width / MM_PER_INCH, total / MM_PER_INCH, layout=None)
    top, cut = total, []
    for traces, row, lines, room in zip(sheets, rows, texts, above, strict=True):
        if lines:
            figure.text(2 / width, (top - 2.0) / total, "\n".join(lines), fontsize=11, va="top")
        top -= room + row.height
        axes = figure.add_axes((0.0, top / total, 1.0, row.height / total))
        cut += draw_sheet(axes, traces, row, (width, row.height), sampling_rate=sampling_rate)
    longest = max(ecg.duration for ecg in ecgs)
    _write_notes(figure, (width, total), sampling_rate=sampling_rate, seconds=longest, cut=cut)
    return figure


def draw_sheet(
    axes: Axes,
    traces: Sequence[Sequence[NDArray[np.float64]]],
    rows: _Rows,
    size: tuple[float, float],
    *,
    sampling_rate: float,
) -> list[str]:
    """Draw the paper and the traces of one ECG; return the leads that are clipped."""
    _draw_paper(axes, *size)
    cut = []
    for names, row, baseline, limits in zip(
        (*LAYOUT, (RHYTHM_LEAD,)), traces, rows.baselines, rows.limits, strict=True
    ):
        _draw_pulse(axes, baseline)
        cut += _draw_row(axes, names, row, baseline, limits, sampling_rate=sampling_rate)
    return cut


def sheet_with_room(
    signal: NDArray[np.floating], *others: NDArray[np.floating], sampling_rate: float, title: str, note: str
) -> tuple[Figure, Axes, list[tuple[str, slice, float]]]:
    """Draw the first 10 s of an ECG in mV on a figure, with room for the traces of others.

    Returns also each drawn lead with its samples and its baseline in mm; sample i is at `sample_position`.
    """
    n_shown = min(signal.shape[1], round(SHOWN_SECONDS * sampling_rate))
    all_rows = [arrange_leads(one[:, :n_shown].astype(np.float64) * MM_PER_MILLIVOLT) for one in (signal, *others)]
    room = [[trace for row in same_row for trace in row] for same_row in zip(*all_rows, strict=True)]
    rows, width = stack_rows(room), max(NARROWEST, LEFT + n_shown / sampling_rate * MM_PER_SECOND + RIGHT)
    above, below = 4.0 + TITLE_LINE * len(title.splitlines()) if title else 2.0, 8.0
    total = rows.height + above + below
    figure = new_figure(width / MM_PER_INCH, total / MM_PER_INCH, layout=None)
    axes = figure.add_axes((0.0, below / total, 1.0, rows.height / total))
    figure.text(2 / width, 1 - 2 / total, title, fontsize=11, va="top")
    figure.text(2 / width, 1.2 / total, f"{SCALE}    {note}", fontsize=9, va="bottom")
    draw_sheet(axes, all_rows[0], rows, (width, rows.height), sampling_rate=sampling_rate)
    edges = _lead_edges(n_shown)
    places = [
        (lead, slice(a, b), baseline)
        for leads, baseline in zip(LAYOUT, rows.baselines[:-1], strict=True)
        for lead, (a, b) in zip(leads, pairwise(edges), strict=True)
    ]
    return figure, axes, [*places, (RHYTHM_LEAD, slice(0, n_shown), rows.baselines[-1])]


def sample_position(sample: ArrayLike, sampling_rate: float) -> NDArray[np.float64]:
    """Return how far from the left of the paper a sample is, in mm."""
    return LEFT + np.asarray(sample, np.float64) / sampling_rate * MM_PER_SECOND


def _lead_edges(n_samples: int) -> list[int]:
    """Return the samples at which the leads of a row begin, and the end of the last one."""
    edges: list[int] = np.linspace(0, n_samples, len(LAYOUT[0]) + 1).round().astype(int).tolist()
    return edges


def arrange_leads(millimetres: NDArray[np.float64]) -> list[list[NDArray[np.float64]]]:
    """Arrange the leads in the rows of the layout."""
    edges = _lead_edges(millimetres.shape[1])
    rows = [
        [millimetres[LEADS.index(lead), a:b] for lead, (a, b) in zip(leads, pairwise(edges), strict=True)]
        for leads in LAYOUT
    ]
    return [*rows, [millimetres[LEADS.index(RHYTHM_LEAD)]]]


def _draw_paper(axes: Axes, width: float, height: float) -> None:
    """Make axes in mm a sheet of millimetre paper."""
    axes.set(xlim=(0, width), ylim=(0, height), xticks=[], yticks=[], facecolor=PAPER)
    axes.spines[:].set_visible(False)
    for step, color, line_width in ((1.0, FINE_LINES, 0.4), (5.0, THICK_LINES, 0.7)):
        style: dict[str, Any] = dict(colors=color, linewidths=line_width, zorder=0.5)
        axes.vlines(np.arange(0, width + step / 2, step), 0, height, **style)
        axes.hlines(np.arange(0, height + step / 2, step), 0, width, **style)


def _draw_pulse(axes: Axes, baseline: float) -> None:
    """Draw a calibration pulse of 1 mV and 0.2 s."""
    x = LEFT + np.array([-10.0, -8.0, -8.0, -3.0, -3.0, -1.0])
    height = MM_PER_MILLIVOLT * np.array([0, 0, 1, 1, 0, 0])
    axes.plot(x, baseline + height, color="black", linewidth=0.8, solid_joinstyle="miter", gid="pulse")


def _draw_trace(
    axes: Axes, lead: str, x: NDArray[np.float64], y: NDArray[np.float64], limits: tuple[float, float]
) -> bool:
    """Draw a trace clipped to its limits; return True if it exceeds them."""
    low, high = limits
    (line,) = axes.plot(x, y, color="black", linewidth=0.8, solid_joinstyle="round", gid=lead)
    line.set_clip_path(Rectangle((0, low), axes.get_xlim()[1], high - low, transform=axes.transData))
    return bool((y < low).any() or (y > high).any())


def _draw_row(
    axes: Axes,
    leads: Sequence[str],
    traces: Sequence[NDArray[np.float64]],
    baseline: float,
    limits: tuple[float, float],
    *,
    sampling_rate: float,
) -> list[str]:
    """Draw the traces and names of one row side by side; return the leads that are clipped."""
    n_label = round(LABEL_SECONDS * sampling_rate)
    highest = max(np.nan_to_num(trace[:n_label]).max(initial=3.0) for trace in traces)
    label_y = baseline + min(highest, limits[1] - baseline - LABEL_HEIGHT) + 1.0
    start, cut = 0, []
    for lead, trace in zip(leads, traces, strict=True):
        x = sample_position(start + np.arange(len(trace)), sampling_rate)
        if _draw_trace(axes, lead, x, baseline + trace, limits):
            cut.append(lead)
        if start:
            axes.vlines(x[0], baseline - 3, baseline + 3, colors="black", linewidths=0.8)
        text = axes.text(x[0] + 1, label_y, lead, fontsize=9, fontweight="bold", va="bottom")
        text.set_path_effects([withStroke(linewidth=2.5, foreground=PAPER)])
        start += len(trace)
    return cut


def _write_notes(
    figure: Figure, size: tuple[float, float], *, sampling_rate: float, seconds: float, cut: Sequence[str]
) -> None:
    """Write the scale, and what is not shown, below the paper; the size of the figure is in mm."""
    width, height = size
    notes = [SCALE, f"{sampling_rate:g} Hz", "pulse: 1 mV, 0.2 s"]
    if seconds > SHOWN_SECONDS:
        notes.append(f"the first {SHOWN_SECONDS:g} s of {seconds:g} s")
    if cut:
        notes.append(f"cut at the next row: {', '.join(dict.fromkeys(cut))}")
    figure.text(2 / width, 1.2 / height, "    ".join(notes), fontsize=9, va="bottom")


def mistakes(
    signals: NDArray[np.floating] | Sequence[NDArray[np.floating]], table: pd.DataFrame, *, sampling_rate: float
) -> Figure:
    """Draw the ECGs of wrong decisions in all leads, with truth and prediction above each.

    Parameters
    ----------
    signals : sequence of ndarray, each of shape (12, samples)
        Millivolts, one ECG per row of the table.
    table : DataFrame
        As returned by `ecgkit.evaluation.confident_mistakes`.
    sampling_rate : float
        Hz.

    Returns
    -------
    Figure
        As `plot_ecgs`; without a mistake, a line of text.

    Raises
    ------
    EcgkitError
        If there is not one signal per row, or as `plot_ecgs`.
    """
    if not len(table) and not len(signals):
        figure = new_figure(WIDTH, 0.6)
        figure.text(0.01, 0.5, "There is no such mistake.", va="center")
        return figure
    titles = [
        f"{_record(row)}: {row['class']} {KINDS[row['kind']]}, calibrated probability {row['calibrated']:.3f}\n"
        f"{_labels(row)}"
        for row in table.to_dict("records")
    ]
    return plot_ecgs(signals, titles, sampling_rate=sampling_rate)


def threshold_examples(
    signals: NDArray[np.floating] | Sequence[NDArray[np.floating]], table: pd.DataFrame, *, sampling_rate: float
) -> Figure:
    """Draw ECGs below, at and above the threshold of a class.

    Parameters, result and errors are those of `mistakes`, with rows of `ecgkit.evaluation.threshold_examples`.
    """
    titles = [
        f"{_record(row)}, {row['place']} the threshold of {row['class']}: calibrated probability "
        f"{row['calibrated']:.3f}, threshold {row['threshold']:.3f}\n{_labels(row)}"
        for row in table.to_dict("records")
    ]
    return plot_ecgs(signals, titles, sampling_rate=sampling_rate)


def _record(row: dict[Any, Any]) -> str:
    """Name the record of a row."""
    return f"Record {row['record_id']}" if "record_id" in row else f"Record at position {row['position']}"


def _labels(row: dict[Any, Any]) -> str:
    """Name the true and predicted labels of a row."""
    return f"truth: {row['true_labels']}; predicted: {row['predicted_labels']}"


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
        The filter, such as ``"band-pass 0.5-40 Hz"``.

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
    spectrum.set(title=f"Spectrum of lead {lead}", xlabel="frequency (Hz)", ylabel="power density (mV²/Hz)")
    log_scale(spectrum)
    highest = max(np.nan_to_num(np.asarray(line.get_ydata(), dtype=np.float64)).max() for line in spectrum.lines)
    # Values far below the rest would stretch the axis until nothing else can be seen.
    spectrum.set(xlim=(0, sampling_rate / 2), ylim=(1e-9 * highest, 3 * highest) if highest > 0 else (1e-9, 1))
    for axes in (course, spectrum):
        axes.grid(visible=True)
        legend_above(axes)
    return figure
