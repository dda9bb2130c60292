"""Millimetre paper is to scale, and its traces are the signal."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from ecgkit.errors import EcgkitError
from ecgkit.plots.ecg import plot_ecg, plot_filtering
from ecgkit.signals.ecg import LEADS

MM_PER_INCH = 25.4


def ramps(seconds: float = 10.0, sampling_rate: int = 100, amplitude: float = 0.5) -> np.ndarray:
    """Return a sine with another phase for each lead, so that leads can be distinguished."""
    time = np.arange(round(seconds * sampling_rate)) / sampling_rate
    return amplitude * np.sin(2 * np.pi * time + np.arange(12)[:, None])


def in_millimetres(figure: Figure, axes: Axes, points: np.ndarray) -> np.ndarray:
    """Return points in mm on the figure as it is exported at its own size."""
    return figure.dpi_scale_trans.inverted().transform(axes.transData.transform(points)) * MM_PER_INCH


def baselines_of(figure: Figure) -> list[float]:
    return [line_of(figure.axes[0], "pulse", i)[0, 1] for i in range(4)]


def line_of(axes: Axes, gid: str, index: int = 0) -> np.ndarray:
    return np.asarray([line.get_xydata() for line in axes.lines if line.get_gid() == gid][index])


@pytest.mark.parametrize("dpi", [100, 150])
def test_a_second_is_25_mm_and_a_millivolt_10(dpi: int) -> None:
    signal = ramps()
    figure = plot_ecg(signal, sampling_rate=100)
    figure.set_dpi(dpi)
    axes = figure.axes[0]

    rhythm = in_millimetres(figure, axes, line_of(axes, "II", 1))
    assert rhythm[-1, 0] - rhythm[0, 0] == pytest.approx(25 * 9.99)
    np.testing.assert_allclose(np.diff(rhythm[:, 1]), 10 * np.diff(signal[1]), atol=1e-5)
    pulse = in_millimetres(figure, axes, line_of(axes, "pulse"))
    assert np.ptp(pulse[:, 1]) == pytest.approx(10)
    assert pulse[3, 0] - pulse[2, 0] == pytest.approx(5)


def test_the_usual_layout() -> None:
    signal = ramps()
    figure = plot_ecg(signal, sampling_rate=100)
    axes = figure.axes[0]

    assert [line.get_gid() for line in axes.lines].count("pulse") == 4
    names = [text.get_text() for text in axes.texts]
    assert names == ["I", "aVR", "V1", "V4", "II", "aVL", "V2", "V5", "III", "aVF", "V3", "V6", "II"]
    # Each column continues in time where the one before it ends.
    for column, leads in enumerate((("I", "II", "III"), ("aVR", "aVL", "aVF"), ("V1", "V2", "V3"), ("V4", "V5", "V6"))):
        for lead in leads:
            trace = line_of(axes, lead)
            part = signal[LEADS.index(lead), 250 * column : 250 * (column + 1)]
            np.testing.assert_allclose(trace[:, 1] - trace[0, 1], 10 * (part - part[0]), atol=1e-5)
            assert trace[0, 0] - line_of(axes, "I")[0, 0] == pytest.approx(62.5 * column)
    baselines = baselines_of(figure)
    assert np.diff(baselines).max() <= -25
    assert all(baseline % 5 == 0 for baseline in baselines)


def test_the_grid_has_a_line_every_millimetre_and_a_thick_one_every_five() -> None:
    figure = plot_ecg(ramps(), sampling_rate=100)
    axes = figure.axes[0]
    grids = [c for c in axes.collections if isinstance(c, LineCollection)][:4]
    spacing = []
    for grid, across in zip(grids, (0, 1, 0, 1), strict=True):
        ends = np.array([in_millimetres(figure, axes, segment)[0] for segment in grid.get_segments()])
        spacing.append(np.diff(ends[:, across]))
    for steps, expected in zip(spacing, (1, 1, 5, 5), strict=True):
        np.testing.assert_allclose(steps, expected, atol=1e-6)
    assert np.max(grids[2].get_linewidth()) > np.max(grids[0].get_linewidth())


def test_the_scale_is_printed() -> None:
    figure = plot_ecg(ramps(), sampling_rate=500, title="A record")
    text = " ".join(text.get_text() for text in figure.texts)
    assert "25 mm/s" in text
    assert "10 mm/mV" in text
    assert "500 Hz" in text
    assert "A record" in text


def test_no_name_of_a_lead_stands_on_its_trace() -> None:
    rng = np.random.default_rng(0)
    signal = ramps(amplitude=0.8) + rng.normal(0, 0.1, (12, 1000))
    figure = plot_ecg(signal, sampling_rate=100)
    axes = figure.axes[0]
    figure.draw_without_rendering()
    traces = [line for line in axes.lines if line.get_gid() != "pulse"]
    for text, line in zip(axes.texts, traces, strict=True):
        box = text.get_window_extent()
        points = axes.transData.transform(line.get_xydata())
        assert not any(box.contains(x, y) for x, y in points), text.get_text()


def test_large_amplitudes_move_the_rows_apart_and_are_cut_at_the_next_baseline() -> None:
    large = ramps(amplitude=1.6)
    assert np.diff(baselines_of(plot_ecg(large, sampling_rate=100))).max() <= -35

    absurd = ramps()
    absurd[LEADS.index("V2"), 600] = -9.0
    figure = plot_ecg(absurd, sampling_rate=100)
    assert figure.get_figheight() < 8
    assert figure.texts[-1].get_text().endswith("cut at the next row: V2")
    line = next(line for line in figure.axes[0].lines if line.get_gid() == "V2")
    window = line.get_clip_box()
    assert window is not None
    lowest = figure.axes[0].transData.inverted().transform(window.get_points())[:, 1].min()
    assert lowest == pytest.approx(baselines_of(figure)[2])


def test_shorter_longer_and_broken_records_are_drawn() -> None:
    short = plot_ecg(ramps(seconds=4.0), sampling_rate=100)
    trace = in_millimetres(short, short.axes[0], line_of(short.axes[0], "V4"))
    assert np.ptp(trace[:, 0]) == pytest.approx(25 * 0.99)

    long = plot_ecg(ramps(seconds=30.0), sampling_rate=100)
    assert len(line_of(long.axes[0], "II", 1)) == 1000
    assert "the first 10 s of 30 s" in long.texts[-1].get_text()

    broken = ramps()
    broken[3] = np.nan
    broken[1, 100:300] = np.nan
    figure = plot_ecg(broken, sampling_rate=100)
    figure.draw_without_rendering()
    assert np.isnan(line_of(figure.axes[0], "aVR")[:, 1]).all()


def test_samples_first_is_refused() -> None:
    with pytest.raises(EcgkitError, match=r"\(1000, 12\)"):
        plot_ecg(ramps().T, sampling_rate=100)


def test_filtering_shows_the_hum_before_and_not_after() -> None:
    time = np.arange(2000) / 200
    after = ramps(sampling_rate=200)
    before = after + 0.2 * np.sin(2 * np.pi * 50 * time)
    figure = plot_filtering(before, after, sampling_rate=200, lead="V1", description="notch 50 Hz")

    course, spectrum = figure.axes
    assert course.get_xlabel() == "time (s)"
    assert course.get_ylabel() == "amplitude (mV)"
    assert spectrum.get_ylabel() == "power density (mV²/Hz)"
    np.testing.assert_allclose(np.asarray(course.lines[0].get_ydata()), before[LEADS.index("V1")], atol=1e-6)
    frequency = np.asarray(spectrum.lines[0].get_xdata())
    at_50 = [np.asarray(line.get_ydata())[np.argmin(np.abs(frequency - 50))] for line in spectrum.lines]
    assert at_50[0] > 1e3 * at_50[1]
    # A sine of 0.2 mV has a power of 0.02 mV², whatever the resolution.
    hum = (frequency > 48) & (frequency < 52)
    power = np.asarray(spectrum.lines[0].get_ydata())[hum].sum() * (frequency[1] - frequency[0])
    assert power == pytest.approx(0.02, rel=0.02)
    with pytest.raises(EcgkitError, match="unknown lead 'V7'"):
        plot_filtering(before, after, sampling_rate=200, lead="V7")


def test_filtering_of_a_flat_or_broken_lead_is_drawn() -> None:
    flat = ramps()
    flat[0] = 0.0
    flat[1] = np.nan
    for lead in ("I", "II"):
        plot_filtering(flat, flat, sampling_rate=100, lead=lead).draw_without_rendering()
