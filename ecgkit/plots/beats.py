"""Mean beats in twelve leads: several groups together, and one group compared with a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError, check_choice
from ecgkit.plots.ecg import LAYOUT
from ecgkit.plots.style import COLORS, GREY, WIDTH, new_figure
from ecgkit.signals.ecg import LEADS

if TYPE_CHECKING:
    from ecgkit.signals.beats import MeanBeats

TIME_LABEL, VOLTAGE_LABEL = "time after the R peak (ms)", "amplitude (mV)"
LEGEND_LETTERS = 135
"""Letters that fit into the width of a figure."""


def beat_grid(result: MeanBeats, *, ordered: bool = False, title: str = "Mean beats") -> Figure:
    """Draw the mean beats of groups in the twelve leads, all on one scale.

    Parameters
    ----------
    result : MeanBeats
        The groups, as from `ecgkit.signals.beats.group_beats`.
    ordered : bool, default False
        Whether the groups are steps along one direction, drawn in the colours of a scale from dark to light.
    title : str, default "Mean beats"
        Title of the figure.

    Returns
    -------
    Figure
        Three rows and four columns as on paper. Up to two groups are drawn with a band from the 10th to the 90th
        percentile of the records.

    Raises
    ------
    EcgkitError
        If there is no group.
    """
    if not result.groups:
        raise EcgkitError("there is no group to draw: pass at least one")
    shaded = len(result.groups) <= 2
    figure = new_figure(WIDTH, 6.6, layout=None)
    grid = figure.subplots(len(LAYOUT), len(LAYOUT[0]), sharex=True, sharey=True, gridspec_kw=_margins(6.6))
    colors = _colors(len(result.groups), ordered=ordered)
    for lead, axes in _by_lead(grid):
        for row, color in enumerate(colors):
            _draw_group(axes, result, row, lead, color, shaded=shaded)
    _finish_scale(grid, result.times, VOLTAGE_LABEL)
    _finish(figure, grid[0, 0], f"{title}, band: 10 to 90 % of the records" if shaded else title)
    return figure


def beat_difference(result: MeanBeats, group: str) -> Figure:
    """Draw the mean beat of one group with that of the reference, and below each lead their difference.

    Parameters
    ----------
    result : MeanBeats
        The groups, with a reference.
    group : str
        The group to draw.

    Returns
    -------
    Figure
        The band around a mean is 10 to 90 % of the records, that around a difference its 95 % interval.

    Raises
    ------
    EcgkitError
        If the result has no reference, or the group is not in it.
    """
    low, high = result.difference_low, result.difference_high
    if result.reference is None or result.difference is None or low is None or high is None:
        raise EcgkitError("the beats were averaged without a reference: pass one to group_beats")
    row = result.groups.index(check_choice("group", group, result.groups))
    figure = new_figure(WIDTH, 10.0, layout=None)
    shape: dict[str, Any] = {"height_ratios": [3, 2] * len(LAYOUT), "gridspec_kw": _margins(10.0)}
    cells = figure.subplots(2 * len(LAYOUT), len(LAYOUT[0]), sharex=True, **shape)
    upper, lower = cells[0::2], cells[1::2]
    for part in (upper, lower):
        for axes in part.flat[1:]:
            axes.sharey(part.flat[0])
    for lead, axes in _by_lead(upper):
        _draw_group(axes, result, result.groups.index(result.reference), lead, GREY, shaded=True)
        _draw_group(axes, result, row, lead, COLORS[1], shaded=True)
    for lead, axes in _by_lead(lower, named=False):
        axes.fill_between(result.times, low[row, lead], high[row, lead], color=COLORS[0], alpha=0.3, linewidth=0)
        axes.plot(result.times, result.difference[row, lead], color=COLORS[0], linewidth=1.2, gid="difference")
    _finish_scale(upper, result.times, "mean (mV)")
    _finish_scale(lower, result.times, "difference (mV)")
    for axes in upper.flat:
        axes.set_xlabel("")
    bands = "bands: 10 to 90 % of the records; of the difference, its 95 % interval"
    _finish(figure, upper[0, 0], f"{group} and {result.reference}, and the difference of their means; {bands}")
    return figure


def _margins(height: float) -> dict[str, float]:
    """Return the margins of a figure of the twelve leads; a layout engine takes seconds for so many axes."""
    room = {"left": 0.065, "right": 0.99, "wspace": 0.22, "hspace": 0.28}
    return room | {"top": 1 - 0.6 / height, "bottom": 0.95 / height}


def _colors(number: int, *, ordered: bool) -> list[str]:
    """Return one colour per group; of an ordered scale without its light end, which is lost on white."""
    if ordered:
        return [mpl.colors.to_hex(color) for color in mpl.colormaps["viridis"](np.linspace(0.0, 0.88, number))]
    return [COLORS[i % len(COLORS)] for i in range(number)]


def _by_lead(grid: NDArray[np.object_], *, named: bool = True) -> list[tuple[int, Axes]]:
    """Return the axes of each lead, arranged as on paper, titled with its name."""
    places = [(LEADS.index(lead), grid[i, j]) for i, row in enumerate(LAYOUT) for j, lead in enumerate(row)]
    for lead, axes in places:
        axes.axhline(0, color=GREY, linewidth=0.6, zorder=0.5)
        axes.axvline(0, color=GREY, linewidth=0.6, zorder=0.5)
        if named:
            axes.set_title(LEADS[lead], fontweight="bold", fontsize=10, pad=2)
    return places


def _draw_group(axes: Axes, result: MeanBeats, row: int, lead: int, color: str, *, shaded: bool) -> None:
    """Draw the mean beat of one group in one lead."""
    name = f"{result.groups[row]} ({result.n_records[row]:,} records)"
    if shaded:
        low, high = result.low[row, lead], result.high[row, lead]
        axes.fill_between(result.times, low, high, color=color, alpha=0.2, linewidth=0)
    axes.plot(result.times, result.mean[row, lead], color=color, linewidth=1.4, label=name, gid=result.groups[row])


def _finish_scale(grid: NDArray[np.object_], times: NDArray[np.float64], label: str) -> None:
    """Set limits, ticks and labels of all leads."""
    axes: Axes
    for axes in grid.flat:  # type: ignore[assignment] # numpy has no type for arrays of axes
        axes.set_xlim(float(times[0]), float(times[-1]))
        axes.xaxis.set_major_locator(MultipleLocator(200))
        axes.grid(visible=True)
    for axes in grid[:, 0]:
        axes.set_ylabel(label)
    for axes in grid[-1]:
        axes.set_xlabel(TIME_LABEL)


def _finish(figure: Figure, axes: Axes, title: str) -> None:
    """Write the title, and one legend for all leads below the figure, in as many columns as fit."""
    figure.suptitle(title, x=0.01, y=1 - 0.1 / figure.get_figheight(), ha="left", va="top")
    handles, names = axes.get_legend_handles_labels()
    columns = max(1, min(len(names), LEGEND_LETTERS // (max(map(len, names)) + 6)))
    figure.legend(handles, names, loc="lower center", ncols=columns, handlelength=1.2, columnspacing=1.5)
