"""The page of one ECG is to scale on A4 and says what the model says."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from ecgkit.plots.dashboard import (
    BEAT_AFTER,
    BEAT_BEFORE,
    MOST_CLASSES,
    PAGE,
    dashboard,
    mean_beats,
    probabilities_over_time,
)
from ecgkit.plots.ecg import LAYOUT
from ecgkit.plots.survey import overview
from ecgkit.signals.ecg import ECG
from ecgkit.signals.mean_beat import beats, usual_beats
from ecgkit.signals.measurements import BOUNDS, measure_ecg, wave_bounds
from ecgkit.signals.rhythm import r_peaks
from ecgkit.sources.demo import Demo


@pytest.fixture(scope="module")
def ecg() -> ECG:
    return Demo(n_records=20, sampling_rate=500).read("1")


def draw(ecg: ECG, probabilities: dict[str, float], threshold: float = 0.5):
    thresholds = dict.fromkeys(probabilities, threshold)
    return dashboard(ecg, probabilities=probabilities, thresholds=thresholds, measurements=measure_ecg(ecg))


def test_the_page_is_a4_and_the_trace_is_to_scale(ecg: ECG) -> None:
    figure = draw(ecg, {"MI": 0.7, "CD": 0.2})
    np.testing.assert_allclose(figure.get_size_inches() * 25.4, PAGE)
    axes = figure.axes[0]
    box = axes.get_position()
    mm_per_unit = box.width * PAGE[0] / np.diff(axes.get_xlim())[0], box.height * PAGE[1] / np.diff(axes.get_ylim())[0]
    assert mm_per_unit == pytest.approx((1, 1))
    pulses = [line for line in axes.lines if line.get_gid() == "pulse"]
    assert {float(np.ptp(line.get_ydata())) for line in pulses} == {10.0}  # 1 mV
    (strip,) = [line for line in axes.lines if line.get_gid() == "II" and len(line.get_xdata()) == ecg.n_samples]
    assert np.ptp(strip.get_xdata()) == pytest.approx(25 * (ecg.n_samples - 1) / 500)
    assert np.ptp(strip.get_ydata()) == pytest.approx(10 * np.ptp(ecg.signal[1]), rel=1e-5)
    (marks,) = [line for line in axes.lines if line.get_gid() == "R peaks"]
    peaks = r_peaks(ecg.signal, sampling_rate=500)
    np.testing.assert_allclose(marks.get_xdata(), strip.get_xdata()[peaks])


def test_bars_are_the_probabilities_and_dark_from_the_threshold_on(ecg: ECG) -> None:
    bars = draw(ecg, {"MI": 0.5, "CD": 0.2, "HYP": 0.8}).axes[1].patches
    assert [bar.get_width() for bar in bars] == [0.5, 0.2, 0.8]
    first, second, third = (to_hex(bar.get_facecolor()) for bar in bars)
    assert first == third != second


def test_a_yes_of_an_unreliable_threshold_is_a_question(ecg: ECG) -> None:
    probabilities = {"MI": 0.7, "CD": 0.2, "HYP": 0.8}
    thresholds, measured = dict.fromkeys(probabilities, 0.5), measure_ecg(ecg)
    figure = dashboard(
        ecg, probabilities=probabilities, thresholds=thresholds, measurements=measured, unreliable={"CD", "HYP"}
    )
    assert [text.get_text() for text in figure.axes[1].texts] == ["0.70 yes", "0.20", "0.80 yes?"]


def test_the_longest_names_are_on_the_page(ecg: ECG) -> None:
    probabilities = dict.fromkeys(("VCLVH", "PSVT", "CRBBB", "IVCD", "INJIL"), 0.5)
    measured = measure_ecg(ecg)
    figure = dashboard(
        ecg, probabilities=probabilities, thresholds=probabilities, measurements=measured, label_set="all"
    )
    figure.canvas.draw()
    assert all(name.get_window_extent().x0 > 0 for name in figure.axes[1].get_yticklabels())


def test_of_many_classes_those_nearest_to_their_thresholds_are_drawn(ecg: ECG) -> None:
    bars = draw(ecg, {f"class{i}": i / 40 for i in range(40)}).axes[1].patches
    assert [bar.get_width() for bar in bars] == [i / 40 for i in range(40 - MOST_CLASSES, 40)]


def test_what_cannot_be_measured_is_said(ecg: ECG) -> None:
    measured = measure_ecg(ecg) | {"pr": float("nan")}
    thresholds = {"MI": 0.5}
    figure = dashboard(
        ecg, probabilities={"MI": 0.1}, thresholds=thresholds, measurements=measured, findings=["V1 is noisy"]
    )
    texts = [text.get_text() for text in figure.texts]
    assert texts[texts.index("PR") + 1] == "not measurable"
    assert texts[texts.index("QRS") + 1] == f"{measured['qrs_duration']:.0f} ms"
    assert "V1 is noisy" in texts


def test_an_offset_does_not_move_the_trace_off_the_paper(ecg: ECG) -> None:
    moved = ECG(ecg.signal + np.float32(30), 500)
    for plain, shifted in zip(draw(ecg, {"MI": 0}).axes[0].lines, draw(moved, {"MI": 0}).axes[0].lines, strict=True):
        np.testing.assert_allclose(plain.get_ydata(), shifted.get_ydata(), atol=1e-3)


def test_probabilities_over_time_have_their_thresholds() -> None:
    prob = np.array([[0.1, 0.9], [0.3, 0.8], [0.6, 0.7]])
    figure = probabilities_over_time([0, 10, 20], prob, ["MI", "CD"], [0.5, 0.4], seconds=10)
    for axes, column, threshold in zip(figure.axes, prob.T, (0.5, 0.4), strict=True):
        course, line = axes.lines
        np.testing.assert_array_equal(course.get_xdata(), [5, 15, 25])
        np.testing.assert_array_equal(course.get_ydata(), column)
        assert set(line.get_ydata()) == {threshold}


def test_the_overview_counts_what_has_no_rate() -> None:
    rates, amplitudes = overview([60, 70, float("nan")], [1.0, 1.2, 1.1]).axes
    assert sum(bar.get_height() for bar in rates.patches) == 2
    assert "1" in rates.get_title(loc="center")
    assert sum(bar.get_height() for bar in amplitudes.patches) == 3


def test_mean_beats_have_the_ends_of_their_waves(ecg: ECG) -> None:
    peaks = r_peaks(ecg.signal, sampling_rate=500)
    bounds = wave_bounds(ecg, peaks)
    figure = mean_beats(ecg, peaks=peaks, bounds=bounds)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [lead for row in LAYOUT for lead in row]
    for axes in figure.axes:
        ends = {patch.get_gid(): patch.get_extents().transformed(axes.transData.inverted()) for patch in axes.patches}
        assert ends["QRS"].width == pytest.approx(measure_ecg(ecg)["qrs_duration"], abs=2.5)
        assert ends["P"].x0 == pytest.approx(1000 * bounds["p_onset"])
        (line,) = [line for line in axes.lines if line.get_gid() == "T"]
        assert line.get_xdata()[0] == pytest.approx(1000 * bounds["t_end"])
    lead = figure.axes[0]
    (mean,) = [line for line in lead.lines if line.get_gid() == "mean beat"]
    cut = beats(ecg.signal, peaks, sampling_rate=500, before=BEAT_BEFORE, after=BEAT_AFTER)
    np.testing.assert_allclose(mean.get_ydata(), cut[usual_beats(cut)][:, 0].mean(axis=0))


def test_mean_beats_of_a_recording_without_beats_say_so() -> None:
    silent = ECG(np.full((12, 500), 0.1, np.float32), 100)
    figure = mean_beats(silent, peaks=np.zeros(0, np.int64), bounds=dict.fromkeys(BOUNDS, float("nan")))
    assert "no whole beat" in figure.get_suptitle()
