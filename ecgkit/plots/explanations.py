"""Relevance on ECGs: on paper, per lead and wave, on mean beats, and for several classes side by side."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike, NDArray

from ecgkit.errors import EcgkitError
from ecgkit.plots.beats import TIME_LABEL
from ecgkit.plots.ecg import SHOWN_SECONDS, sample_position, sheet_with_room
from ecgkit.plots.style import COLORS, WIDTH, new_figure
from ecgkit.signals.ecg import LEADS
from ecgkit.signals.segments import OTHER, SEGMENTS

FOR, AGAINST = COLORS[1], COLORS[0]
"""The colours of samples that speak for a class and against it."""

SIGNED = LinearSegmentedColormap.from_list("signed", [AGAINST, "white", FOR])

STRONGEST = 99.0
"""Percentile of the absolute relevance that gets the full colour."""

STRIP = 7.0  # mm on each side of the baseline that are coloured

Floats = NDArray[np.floating]


def explained_ecg(
    signal: Floats, relevance: Floats, *, sampling_rate: float, title: str = "", unit: str = "logits"
) -> Figure:
    """Draw an ECG on millimetre paper with the relevance of each sample under the trace.

    Parameters
    ----------
    signal : ndarray, shape (12, samples)
        In mV.
    relevance : ndarray, shape (12, samples)
        Signed.
    sampling_rate : float
        In Hz.
    title : str
        Text above the paper.
    unit : str
        Of the relevance.

    Returns
    -------
    Figure
        The first 10 s, 25 mm/s and 10 mm/mV. Orange speaks for the class, blue against it; the relevance is averaged
        over 40 ms, and the strongest 1 % of it has the full colour.

    Raises
    ------
    EcgkitError
        If the shapes differ.
    """
    if signal.shape != relevance.shape or signal.ndim != 2 or len(signal) != len(LEADS):
        raise EcgkitError(
            f"a signal of shape {signal.shape} and relevance of {relevance.shape}: both are (12, samples)"
        )
    smooth = _smooth(relevance[:, : round(SHOWN_SECONDS * sampling_rate)], sampling_rate)
    largest = _largest(smooth)
    note = f"orange speaks for the class, blue against it; full colour: {largest:.2g} {unit} per sample"
    figure, axes, places = sheet_with_room(signal, sampling_rate=sampling_rate, title=title, note=note)
    limits = axes.get_xlim(), axes.get_ylim()
    for lead, part, baseline in places:
        x = sample_position([part.start, part.stop], sampling_rate)
        strip = _shade(axes, smooth[LEADS.index(lead), part], largest, (*x, baseline - STRIP, baseline + STRIP))
        strip.set_gid(f"relevance {lead}")
    axes.set(xlim=limits[0], ylim=limits[1])
    return figure


def lead_segments(
    relevance: Floats, classes: Sequence[str], *, title: str = "Relevance by lead and wave", unit: str = "logits"
) -> Figure:
    """Draw a heat map of leads and waves for each class, all on one scale.

    Parameters
    ----------
    relevance : ndarray, shape (classes, 12, 5)
        Sums over P, QRS, ST, T and all else.
    classes : sequence of str
        Their names.
    title, unit : str
        Text above, and unit of the relevance.

    Returns
    -------
    Figure
    """
    figure = new_figure(max(3.4, min(WIDTH, 2.0 * len(classes) + 1.2)), 4.2)
    panels = figure.subplots(1, len(classes), sharey=True, squeeze=False)[0]
    largest = float(np.abs(relevance).max()) or 1.0
    for axes, values, name in zip(panels, relevance, classes, strict=True):
        image = axes.imshow(values, cmap=SIGNED, vmin=-largest, vmax=largest, aspect="auto")
        axes.set_xticks(range(len(SEGMENTS) + 1), [*SEGMENTS, OTHER], fontsize=8)
        axes.set_yticks(range(len(LEADS)), LEADS)
        axes.set_title(name)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=panels, label=f"relevance ({unit})", shrink=0.85)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def beat_relevance(
    times: ArrayLike,
    beats: Floats,
    relevance: Floats,
    classes: Sequence[str],
    *,
    title: str = "",
    unit: str = "logits",
) -> Figure:
    """Draw mean beats with their mean relevance: one row per lead, one column per class, each class on its own scale.

    Parameters
    ----------
    times : array-like, shape (samples,)
        In ms after the R peak.
    beats : ndarray, shape (12, samples) or (classes, 12, samples)
        In mV: one beat for all classes, or one for each.
    relevance : ndarray, shape (classes, 12, samples)
        Signed.
    classes : sequence of str
        Their names.
    title, unit : str
        Text above, and unit of the relevance.

    Returns
    -------
    Figure
        Orange speaks for the class, blue against it.
    """
    shown = np.broadcast_to(beats, relevance.shape)
    figure = new_figure(min(WIDTH, 2.1 * len(classes) + 0.9), 9.6, layout=None)
    height = figure.get_figheight()
    grid = figure.subplots(
        len(LEADS),
        len(classes),
        sharex=True,
        sharey="row",
        squeeze=False,
        gridspec_kw={
            "left": 0.75 / figure.get_figwidth(),
            "right": 0.985,
            "top": 1 - 0.75 / height,
            "bottom": 0.8 / height,
            "wspace": 0.08,
            "hspace": 0.1,
        },
    )
    x = np.asarray(times, float)
    for column, name in enumerate(classes):
        largest = _largest(np.nan_to_num(relevance[column]))
        for row, axes in enumerate(grid[:, column]):
            axes.plot(x, shown[column, row], color="black", linewidth=1.1)
            low, high = axes.get_ylim()
            _shade(axes, np.nan_to_num(relevance[column, row]), largest, (x[0], x[-1], low - 9, high + 9))
            axes.set(xlim=(x[0], x[-1]))
            axes.spines[:].set_visible(False)
            axes.tick_params(length=2, labelsize=8)
        grid[0, column].set_title(f"{name}\nfull colour {largest:.1g}", fontsize=9)
    for row, axes in enumerate(grid[:, 0]):
        values = shown[:, row][np.isfinite(shown[:, row])]
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
        axes.set_ylim(low - 0.1 * (high - low) - 0.05, high + 0.1 * (high - low) + 0.05)
        axes.set_ylabel(LEADS[row], rotation=0, ha="right", va="center", fontweight="bold")
    figure.suptitle(title, x=0.01, y=1 - 0.08 / height, ha="left", va="top")
    figure.text(
        0.01, 0.1 / height, f"amplitude in mV; orange speaks for the class, blue against it ({unit})", fontsize=9
    )
    figure.supxlabel(TIME_LABEL, y=0.3 / height, va="bottom", fontsize=9)
    return figure


def _smooth(relevance: Floats, sampling_rate: float) -> Floats:
    """Average over 40 ms, which is about a millimetre on paper."""
    length = max(1, round(0.04 * sampling_rate))
    return np.stack([np.convolve(row, np.ones(length) / length, mode="same") for row in relevance])


def _largest(relevance: Floats) -> float:
    """Return the relevance that gets the full colour."""
    return float(np.percentile(np.abs(relevance), STRONGEST)) or float(np.abs(relevance).max()) or 1.0


def _shade(axes: Axes, relevance: Floats, largest: float, extent: tuple[float, ...]) -> AxesImage:
    """Colour a strip behind a trace: the hue is the sign, the opacity the size."""
    colors = np.zeros((1, len(relevance), 4))
    for color, sign in ((FOR, 1.0), (AGAINST, -1.0)):
        colors[0, sign * relevance > 0, :3] = mpl.colors.to_rgb(color)
    colors[0, :, 3] = 0.85 * np.asarray(Normalize(0, largest, clip=True)(np.abs(relevance)))
    left, right, low, high = extent
    return axes.imshow(colors, extent=(left, right, low, high), aspect="auto", zorder=0.8, interpolation="nearest")
