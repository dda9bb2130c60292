"""One page per ECG: the trace to scale, what the model says, measurements and findings."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from ecgkit.plots.ecg import (
    LAYOUT,
    LEFT,
    MM_PER_INCH,
    MM_PER_MILLIVOLT,
    MM_PER_SECOND,
    RIGHT,
    SCALE,
    SHOWN_SECONDS,
    arrange_leads,
    draw_sheet,
    stack_rows,
)
from ecgkit.plots.style import COLORS, GREY, LIGHT_GREY, LONGEST_NAME, line_styles, new_figure, one_line
from ecgkit.signals.ecg import ECG, LEADS
from ecgkit.signals.mean_beat import beats, usual_beats
from ecgkit.signals.measurements import PRINTED
from ecgkit.signals.rhythm import r_peaks
from ecgkit.stats.labels import spelled_out

PAGE = (297.0, 210.0)
"""Width and height of A4 across, in mm."""

MARGIN = 13.5  # mm at the left and at the right
TITLE = 16.0  # mm at the top
LARGEST_DISTANCE = 27.0  # mm between the rows, so that the sheet leaves room for what stands below it
MOST_CLASSES = 12
BEAT_BEFORE, BEAT_AFTER = 0.35, 0.55  # s around the R peak of a mean beat


def dashboard(
    ecg: ECG,
    *,
    probabilities: Mapping[str, float],
    thresholds: Mapping[str, float],
    measurements: Mapping[str, float],
    unreliable: Collection[str] = (),
    findings: Sequence[str] = (),
    prediction: str = "",
    peaks: NDArray[np.int64] | None = None,
    title: str = "",
    model: str = "",
    label_set: str = "superclass",
) -> Figure:
    """Draw one ECG, to scale on A4, above the probabilities, the measurements and the findings.

    Parameters
    ----------
    ecg : ECG
        The recording; its first 10 s are drawn.
    probabilities, thresholds : mapping of str to float
        Calibrated probability and threshold of each class.
    measurements : mapping of str to float
        As from `ecgkit.signals.measurements.measure_ecg`; NaN is "not measurable".
    unreliable : collection of str
        Classes whose threshold is not to be relied on; their yes has a question mark.
    findings : sequence of str
        What a reader or a check noticed.
    prediction : str
        What stands in place of probabilities, such as why there are none.
    peaks : ndarray of int64, optional
        R peaks in samples; found here if they are not given.
    title, model : str
        The heading, and the model with its limits in a few words.
    label_set : str, default "superclass"
        The label set of the classes, whose codes are spelled out.

    Returns
    -------
    Figure
        297 mm by 210 mm: printed without scaling, it is 25 mm/s and 10 mm/mV. The offset of each lead, its median, is
        not drawn. R peaks are marked below the rhythm strip.
    """
    figure = new_figure(PAGE[0] / MM_PER_INCH, PAGE[1] / MM_PER_INCH, layout=None)
    peaks = r_peaks(ecg.signal, sampling_rate=ecg.sampling_rate) if peaks is None else peaks
    bottom = _draw_ecg(figure, ecg, peaks, title)
    if probabilities:
        place = _axes(figure, 76, 22, 64, bottom - 34)
        _draw_probabilities(place, probabilities, thresholds, unreliable, label_set)
    else:
        _write(figure, MARGIN, bottom - 6, "Prediction", fontweight="bold")
        _write(figure, MARGIN, bottom - 10.3, textwrap.fill(prediction, 75))
    _write_measurements(figure, measurements, bottom - 6)
    _write_findings(figure, findings, bottom - 6)
    limits = "Labels are independent: several may apply. For research and teaching; not a medical device."
    note = f"{SCALE}    {ecg.sampling_rate:g} Hz    {limits}"
    _write(figure, MARGIN, 8.5, f"Model: {model}" if model else "", size=8, color=GREY)
    _write(figure, MARGIN, 4.5, note, size=8, color=GREY)
    return figure


def probabilities_over_time(
    starts: ArrayLike,
    probabilities: NDArray[np.floating],
    classes: Sequence[str],
    thresholds: ArrayLike,
    *,
    seconds: float,
    title: str = "",
) -> Figure:
    """Draw the probabilities of the windows of a long recording.

    Parameters
    ----------
    starts : array-like, shape (windows,)
        Seconds after the start of the recording.
    probabilities : ndarray, shape (windows, classes)
        Calibrated.
    classes : sequence of str
        Their names.
    thresholds : array-like, shape (classes,)
        One per class.
    seconds : float
        Length of a window.
    title : str
        The heading.

    Returns
    -------
    Figure
        A panel per class, the threshold as a dashed line.
    """
    times = np.asarray(starts, dtype=float) + seconds / 2
    shown = np.argsort(-np.max(probabilities / np.asarray(thresholds), axis=0), kind="stable")[:MOST_CLASSES]
    shown = np.sort(shown)
    figure = new_figure(PAGE[0] / MM_PER_INCH, PAGE[1] / MM_PER_INCH)
    panels = figure.subplots(len(shown), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, column, style in zip(panels, shown, line_styles(len(shown)), strict=True):
        axes.plot(times, probabilities[:, column], marker=".", **style)
        axes.axhline(float(np.asarray(thresholds)[column]), color=GREY, linestyle="--", linewidth=1)
        axes.set(ylim=(0, 1), ylabel=classes[column])
        axes.grid(visible=True)
    panels[-1].set_xlabel(f"time (s), middle of each window of {seconds:g} s")
    figure.supylabel("calibrated probability; dashed: threshold")
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def mean_beats(ecg: ECG, *, peaks: NDArray[np.int64], bounds: Mapping[str, float], title: str = "") -> Figure:
    """Draw the mean beat of one ECG in each lead, with the spread of the beats and the ends of its waves.

    Parameters
    ----------
    ecg : ECG
        The recording.
    peaks : ndarray of int64
        Its R peaks in samples.
    bounds : mapping of str to float
        As from `ecgkit.signals.measurements.wave_bounds`; what is NaN is not drawn.
    title : str
        The heading.

    Returns
    -------
    Figure
        Of the size of `dashboard`. The beats that look like most, aligned at the R peak, each measured from its level
        before QRS: their mean, and a band from the 10th to the 90th percentile.
    """
    figure = new_figure(PAGE[0] / MM_PER_INCH, PAGE[1] / MM_PER_INCH)
    grid = figure.subplots(len(LAYOUT), len(LAYOUT[0]), sharex=True, sharey=True)
    cut = beats(ecg.signal, peaks, sampling_rate=ecg.sampling_rate, before=BEAT_BEFORE, after=BEAT_AFTER)
    usual = cut[usual_beats(cut)] if len(cut) else cut
    for axes, lead in zip(grid.flat, (lead for row in LAYOUT for lead in row), strict=True):
        if len(usual):
            _draw_beat(axes, usual, LEADS.index(lead), ecg.sampling_rate)
        _draw_bounds(axes, bounds, named=lead == LAYOUT[0][0])
        axes.set_title(lead, loc="left", fontsize=10, fontweight="bold")
        axes.grid(visible=True)
        axes.margins(x=0, y=0.12)  # the names of the waves have room above them
    figure.supxlabel("time after the R peak (ms)")
    figure.supylabel("amplitude (mV)")
    text = f"mean of {len(usual)} of {len(peaks)} beats; band: 10 to 90 % of them; shaded: P and QRS; line: end of T"
    heading = one_line(title, 90)
    figure.suptitle(f"{heading}\n{text}" if len(usual) else f"{heading}\nno whole beat is found", x=0.01, ha="left")
    return figure


def _draw_beat(axes: Axes, usual: NDArray[np.float32], row: int, sampling_rate: float) -> None:
    """Draw the mean and the spread of one lead."""
    times = 1000 * (np.arange(usual.shape[2]) / sampling_rate - round(BEAT_BEFORE * sampling_rate) / sampling_rate)
    of_lead = usual[:, row]
    if not np.isfinite(of_lead).all():
        axes.text(0.5, 0.5, "no values", transform=axes.transAxes, ha="center", color=GREY)
        return
    low, high = np.percentile(of_lead, (10, 90), axis=0)
    axes.fill_between(times, low, high, color=COLORS[0], alpha=0.3, linewidth=0)
    axes.plot(times, of_lead.mean(axis=0), color="black", linewidth=1.1, gid="mean beat")


def _draw_bounds(axes: Axes, bounds: Mapping[str, float], *, named: bool) -> None:
    """Mark the ends of the waves; the names are written once."""
    at_top: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "va": "top", "ha": "center", "fontsize": 9}
    for name, first, last in (("P", "p_onset", "p_end"), ("QRS", "qrs_onset", "qrs_end")):
        start, end = 1000 * bounds[first], 1000 * bounds[last]
        if np.isfinite([start, end]).all():
            axes.axvspan(start, end, color=LIGHT_GREY, alpha=0.6, linewidth=0, gid=name)
            if named:
                axes.text((start + end) / 2, 0.99, name, **at_top)
    if np.isfinite(bounds["t_end"]):
        axes.axvline(1000 * bounds["t_end"], color=GREY, linestyle="--", linewidth=1, gid="T")
        if named:
            axes.text(1000 * bounds["t_end"], 0.99, "T end", **at_top)


def _axes(figure: Figure, left: float, low: float, width: float, height: float) -> Axes:
    """Add axes at a place in mm from the lower left corner."""
    return figure.add_axes((left / PAGE[0], low / PAGE[1], width / PAGE[0], height / PAGE[1]))


def _write(figure: Figure, x: float, y: float, text: str, *, size: float = 9, **keywords: Any) -> None:
    """Write a text whose upper left corner is at a place in mm."""
    figure.text(x / PAGE[0], y / PAGE[1], text, fontsize=size, va="top", **keywords)


def _draw_ecg(figure: Figure, ecg: ECG, peaks: NDArray[np.int64], title: str) -> float:
    """Draw heading, trace and R peaks; return the lower edge of the trace in mm."""
    n_shown = min(ecg.n_samples, round(SHOWN_SECONDS * ecg.sampling_rate))
    shown = ecg.signal[:, :n_shown].astype(np.float64)
    has_values = np.isfinite(shown).any(axis=1)
    shown[has_values] -= np.nanmedian(shown[has_values], axis=1, keepdims=True)
    traces = arrange_leads(shown * MM_PER_MILLIVOLT)
    rows = stack_rows(traces, most=LARGEST_DISTANCE)
    size = (LEFT + SHOWN_SECONDS * MM_PER_SECOND + RIGHT, rows.height)
    bottom = PAGE[1] - TITLE - rows.height
    axes = _axes(figure, MARGIN, bottom, *size)
    cut = draw_sheet(axes, traces, rows, size, sampling_rate=ecg.sampling_rate)
    x = LEFT + peaks[peaks < n_shown] / ecg.sampling_rate * MM_PER_SECOND
    axes.plot(x, np.full(len(x), 1.5), "^", color=COLORS[0], markersize=4, gid="R peaks")
    patient = [
        f"{ecg.age:g} year{'s' if ecg.age != 1 else ''}" if ecg.age is not None else "age unknown",
        ecg.sex or "sex unknown",
    ]
    facts = [*patient, f"{ecg.duration:.4g} s"]
    facts += [f"the first {SHOWN_SECONDS:g} s are drawn"] if ecg.duration > SHOWN_SECONDS else []
    facts += [f"cut at the next row: {', '.join(dict.fromkeys(cut))}"] if cut else []
    _write(figure, MARGIN, PAGE[1] - 4, one_line(title, 110), size=12, fontweight="bold")
    _write(figure, MARGIN, PAGE[1] - 10.5, "    ".join(facts))
    return bottom


def _draw_probabilities(
    axes: Axes,
    probabilities: Mapping[str, float],
    thresholds: Mapping[str, float],
    unreliable: Collection[str],
    label_set: str,
) -> None:
    """Draw a bar per class, dark where it reaches its threshold, which is a line."""
    classes = list(probabilities)
    if len(classes) > MOST_CLASSES:
        nearest = sorted(classes, key=lambda name: -probabilities[name] / max(thresholds[name], 1e-6))
        classes = [name for name in classes if name in nearest[:MOST_CLASSES]]
    places = np.arange(len(classes))
    decided = [probabilities[name] >= thresholds[name] for name in classes]
    doubtful = [yes and name in unreliable for name, yes in zip(classes, decided, strict=True)]
    values = [probabilities[name] for name in classes]
    axes.barh(places, values, height=0.6, color=[COLORS[1] if yes else LIGHT_GREY for yes in decided])
    for place, name in enumerate(classes):
        axes.vlines(thresholds[name], place - 0.4, place + 0.4, color="black", linewidth=1.2)
        verdict = " yes?" if doubtful[place] else " yes" if decided[place] else ""
        axes.text(1.02, place, f"{probabilities[name]:.2f}{verdict}", va="center", fontsize=9)
    axes.set_yticks(places, [one_line(spelled_out(name, label_set), LONGEST_NAME) for name in classes], fontsize=9)
    axes.set(xlim=(0, 1), ylim=(len(classes) - 0.4, -0.6))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    doubt = "; yes?: too few ECGs for a reliable one" if any(doubtful) else ""
    axes.set_xlabel(f"calibrated probability; line: threshold{doubt}", fontsize=8, labelpad=1)
    if len(classes) < len(probabilities):
        axes.set_title(f"the {len(classes)} of {len(probabilities)} classes nearest to their thresholds", fontsize=9)


def _write_measurements(figure: Figure, measurements: Mapping[str, float], top: float) -> None:
    """Write two columns: names, and values with units."""
    present = {key: value for key, value in PRINTED.items() if key in measurements}
    texts = [
        f"{measurements[key]:.{decimals}f} {unit}" if np.isfinite(measurements[key]) else "not measurable"
        for key, (_, unit, decimals) in present.items()
    ]
    _write(figure, 160, top, "Measurements", fontweight="bold")
    for line, (name, text) in enumerate(zip((name for name, _, _ in present.values()), texts, strict=True), 1):
        _write(figure, 160, top - 4.3 * line, name)
        _write(figure, 199, top - 4.3 * line, text)


def _write_findings(figure: Figure, findings: Sequence[str], top: float) -> None:
    """Write the findings, wrapped, as far as there is room."""
    _write(figure, 228, top, "Findings", fontweight="bold")
    lines = [line for finding in findings for line in textwrap.wrap(finding, 36, subsequent_indent="   ")]
    most = 10
    if len(lines) > most:
        lines = [*lines[: most - 1], "..."]
    _write(figure, 228, top - 4.3, "\n".join(lines or ["none"]))
