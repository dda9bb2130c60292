"""The figures of mean beats show the means of the groups, on one scale, in the leads' places on paper."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ecgkit.errors import EcgkitError
from ecgkit.plots.beats import beat_difference, beat_grid
from ecgkit.signals.beats import MeanBeats, beat_times
from ecgkit.signals.ecg import LEADS

GROUPS = ("NORM", "MI", "a group with a rather long name", "CD", "HYP")


@pytest.fixture
def result() -> MeanBeats:
    times = beat_times(100)
    wave = np.exp(-0.5 * (times / 15) ** 2)
    mean = (np.arange(1, 6)[:, None, None] * np.linspace(-0.5, 0.5, 12)[:, None] * wave).astype(np.float32)
    difference = mean - mean[0]
    return MeanBeats(
        times,
        GROUPS,
        mean,
        mean - 0.1,
        mean + 0.2,
        (4000, 300, 20, 10, 5),
        (3500, 280, 20, 10, 5),
        "NORM",
        difference,
        difference - 0.05,
        difference + 0.05,
    )


def lines(figure: Figure, gid: str) -> dict[str, np.ndarray]:
    """Return the lines of a group, by the lead in the title of the axes."""
    return {
        axes.get_title(loc="left") or axes.get_title(): np.asarray(line.get_ydata())
        for axes in figure.axes
        for line in axes.lines
        if line.get_gid() == gid
    }


def width_of(figure: Figure) -> tuple[float, float]:
    """Left and right end of the legend, as shares of the figure."""
    FigureCanvasAgg(figure).draw()
    box = figure.legends[0].get_window_extent()
    return box.x0 / figure.bbox.width, box.x1 / figure.bbox.width


def covers_axes(figure: Figure) -> bool:
    legend = figure.legends[0].get_window_extent()
    return any(legend.overlaps(axes.get_window_extent()) for axes in figure.axes)


def test_each_lead_shows_its_means_in_its_place_on_one_scale(result: MeanBeats) -> None:
    figure = beat_grid(result)
    drawn = lines(figure, "MI")
    assert list(drawn) == ["I", "aVR", "V1", "V4", "II", "aVL", "V2", "V5", "III", "aVF", "V3", "V6"]
    for lead, values in drawn.items():
        np.testing.assert_array_equal(values, result.mean[1, LEADS.index(lead)])
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    assert {axes.get_ylabel() for axes in figure.axes} == {"", "amplitude (mV)"}
    assert {axes.get_xlabel() for axes in figure.axes} == {"", "time after the R peak (ms)"}


def test_the_legend_names_the_groups_outside_the_axes_and_inside_the_figure(result: MeanBeats) -> None:
    figure = beat_grid(result)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names[0] == "NORM (4,000 records)"
    assert len(names) == 5
    low, high = width_of(figure)
    assert low >= 0
    assert high <= 1
    assert not covers_axes(figure)


def bands(axes: Axes) -> int:
    return len(axes.collections)


def test_the_spread_is_shaded_for_one_or_two_groups(result: MeanBeats) -> None:
    assert bands(beat_grid(result).axes[0]) == 0
    arrays = {name: getattr(result, name)[1:2] for name in ("mean", "low", "high", "n_records")}
    one = beat_grid(replace(result, groups=("MI",), **arrays))
    assert bands(one.axes[0]) == 1
    box = one.axes[0].collections[0].get_datalim(one.axes[0].transData)
    assert (box.ymin, box.ymax) == pytest.approx((result.low[1, 0].min(), result.high[1, 0].max()))


def test_ordered_groups_go_from_dark_to_light(result: MeanBeats) -> None:
    colors = [line.get_color() for line in beat_grid(result, ordered=True).axes[0].lines if line.get_gid() in GROUPS]
    light = [sum(int(str(color)[i : i + 2], 16) * w for i, w in ((1, 0.3), (3, 0.59), (5, 0.11))) for color in colors]
    assert light == sorted(light)
    assert len(set(colors)) == 5


def test_the_difference_stands_below_each_lead(result: MeanBeats) -> None:
    figure = beat_difference(result, "CD")
    assert result.difference is not None
    np.testing.assert_array_equal(lines(figure, "CD")["V5"], result.mean[3, LEADS.index("V5")])
    np.testing.assert_array_equal(lines(figure, "NORM")["V5"], result.mean[0, LEADS.index("V5")])
    below = [axes for axes in figure.axes if any(line.get_gid() == "difference" for line in axes.lines)]
    assert len(below) == 12
    last = next(line for line in below[-1].lines if line.get_gid() == "difference")
    np.testing.assert_array_equal(np.asarray(last.get_ydata()), result.difference[3, LEADS.index("V6")])
    assert len({axes.get_ylim() for axes in below}) == 1
    assert len({axes.get_ylim() for axes in figure.axes if axes not in below}) == 1
    width_of(figure)
    assert not covers_axes(figure)


def test_a_missing_group_or_reference_is_refused(result: MeanBeats) -> None:
    with pytest.raises(EcgkitError, match="XX"):
        beat_difference(result, "XX")
    with pytest.raises(EcgkitError, match="there is no group to draw"):
        beat_grid(replace(result, groups=()))
    with pytest.raises(EcgkitError, match="reference"):
        beat_difference(replace(result, reference=None, difference=None), "MI")
