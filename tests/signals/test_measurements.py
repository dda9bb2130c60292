"""Measurements recover planted amplitudes, axis, rate and durations, at 100 Hz as at 500 Hz."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ecgkit.signals.ecg import ECG, LEADS
from ecgkit.signals.measurements import NAMES, measure_ecg, measurement_columns, wave_bounds
from ecgkit.sources.demo import Demo

Array = NDArray[np.float64]

R_PEAKS = np.arange(0.45, 9.6, 0.8)  # 75 beats/min


def arch(times: Array, first: float, last: float) -> Array:
    """A raised cosine of height 1 from ``first`` to ``last``, in s after each R peak."""
    at = np.clip((times - first) / (last - first), 0, 1)
    return (0.5 * (1 - np.cos(2 * np.pi * at))).sum(axis=0)


def planted(
    sampling_rate: int, *, axis: float = 60.0, qrs: float = 0.09, peaks: Array = R_PEAKS, jitter: float = 0.0
) -> ECG:
    """Twelve leads of a heart whose waves are known; R in the limb leads is 1 mV along the axis, 1.2 mV in V5."""
    times = np.arange(10 * sampling_rate) / sampling_rate
    around = times - (peaks + jitter)[:, None]
    r = arch(around, -qrs / 2, qrs / 2)
    p, t = arch(around, -0.2, -0.1), arch(around, 0.2, 0.36)
    st = arch(around, qrs / 2, 0.26)
    leads = {"I": np.cos(np.deg2rad(axis)) * r, "II": np.cos(np.deg2rad(axis - 60)) * r}
    leads["II"] = leads["II"] + 0.15 * p
    leads["III"] = leads["II"] - leads["I"]
    leads["aVR"], leads["aVL"] = -(leads["I"] + leads["II"]) / 2, leads["I"] - leads["II"] / 2
    leads["aVF"] = leads["II"] - leads["I"] / 2
    s = arch(around, 0.0, qrs / 2)
    q = arch(around, -qrs / 2, -qrs / 6)
    leads |= {"V1": 0.2 * arch(around, -qrs / 2, 0.0) - 1.1 * s, "V2": -0.9 * r + 0.5 * t, "V3": 0.3 * r}
    leads |= {"V4": r - 0.4 * t, "V5": 1.2 * r + 0.3 * t, "V6": arch(around, -qrs / 6, qrs / 2) - 0.2 * q + 0.1 * st}
    return ECG(np.stack([leads[name] for name in LEADS]).astype(np.float32), sampling_rate)


@pytest.mark.parametrize("sampling_rate", [100, 250, 500])
def test_the_planted_amplitudes_are_read(sampling_rate: int) -> None:
    found = measure_ecg(planted(sampling_rate))
    # At 100 Hz a QRS complex of 90 ms has nine samples: its top is between two of them, and the spline rounds it.
    expected = {"r_II": 1.0, "r_I": 0.5, "r_V5": 1.2, "s_V2": 0.9, "r_V2": 0.0, "r_V1": 0.2, "s_V1": 1.1, "q_V6": 0.2}
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=0.06, abs=0.02)
    expected = {"t_V2": 0.5, "t_V4": -0.4, "t_V5": 0.3, "p_II": 0.15, "q_II": 0.0, "q_V2": 0.0}
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=0.03, abs=0.01)
    assert found["sokolow_lyon"] == pytest.approx(found["s_V1"] + found["r_V5"])
    assert found["sokolow_lyon"] == pytest.approx(2.3, rel=0.05)


@pytest.mark.parametrize("axis", [-75, -30, 0, 15, 60, 100, 150, -160])
def test_the_axis_is_the_planted_one(axis: int) -> None:
    found = measure_ecg(planted(250, axis=axis))["qrs_axis"]
    assert (found - axis + 180) % 360 - 180 == pytest.approx(0.0, abs=3.0)


@pytest.mark.parametrize("sampling_rate", [100, 500])
def test_a_wider_complex_is_read_as_wider(sampling_rate: int) -> None:
    planted_ms = np.array([80, 100, 120, 140, 160])
    found = [measure_ecg(planted(sampling_rate, qrs=width / 1000))["qrs_duration"] for width in planted_ms]
    assert np.abs(np.array(found) - planted_ms).max() <= 12


@pytest.mark.parametrize("rate", [45, 60, 90])
def test_rate_and_qt_are_read(rate: int) -> None:
    found = measure_ecg(planted(500, peaks=np.arange(0.45, 9.5, 60 / rate)))
    assert found["heart_rate"] == pytest.approx(rate, rel=0.01)
    assert found["rr_std"] == pytest.approx(0.0, abs=0.002)
    # The tangent to a raised cosine meets the baseline before the wave has quite ended.
    steepest, slope = 0.32, np.pi / 0.16
    assert found["qt"] == pytest.approx(1000 * (steepest + 0.5 / slope + 0.045), abs=12)
    assert found["qtc"] == pytest.approx(found["qt"] / np.sqrt(60 / rate), rel=0.01)


def test_p_wave_and_pr_interval_are_read() -> None:
    found = measure_ecg(planted(500))
    # The raised cosine leaves the baseline slowly: its ends are seen some milliseconds late and early.
    assert found["pr"] == pytest.approx(200 - 45, abs=15)
    assert found["p_duration"] == pytest.approx(100, abs=25)


def test_voltages_and_the_other_correction_of_qt() -> None:
    found = measure_ecg(planted(500, axis=-30, peaks=np.arange(0.45, 9.5, 60 / 90)))
    assert found["cornell"] == pytest.approx(found["r_aVL"] + found["s_V3"])
    assert found["qtc_fridericia"] == pytest.approx(found["qt"] / np.cbrt(60 / 90), rel=0.01)


@pytest.mark.parametrize("sampling_rate", [100, 500])
def test_intervals_of_the_demo_are_within_20_ms_of_the_planted_ones(sampling_rate: int) -> None:
    demo = Demo(n_records=100, sampling_rate=sampling_rate, seed=1)
    close: dict[str, list[bool]] = {"pr": [], "qrs_duration": [], "qt": []}
    for record_id in demo.records["record_id"]:
        waves = demo.wave_boundaries(record_id)
        if waves.empty or waves["p_onset"].isna().any():
            continue
        found = measure_ecg(demo.read(record_id))
        onset = waves["qrs_onset"]
        qrs, qt = waves["qrs_end"] - onset, waves["t_end"] - onset
        for name, values in {"pr": onset - waves["p_onset"], "qrs_duration": qrs, "qt": qt}.items():
            if np.isfinite(found[name]):
                close[name] += (np.abs(found[name] - 1000 * values) <= 20).tolist()
    assert all(len(beats) > 300 for beats in close.values())
    assert min(np.mean(beats) for beats in close.values()) >= 0.95


def test_the_bounds_of_the_waves_are_the_planted_ones() -> None:
    found = wave_bounds(planted(500))
    planted_at = {"p_onset": -0.2, "p_end": -0.1, "qrs_onset": -0.045, "qrs_end": 0.045, "t_end": 0.34}
    assert found == pytest.approx(planted_at, abs=0.02)
    measured = measure_ecg(planted(500))
    assert 1000 * (found["qrs_end"] - found["qrs_onset"]) == pytest.approx(measured["qrs_duration"])
    assert np.isnan(list(wave_bounds(ECG(np.zeros((12, 1000), np.float32), 100)).values())).all()


def test_irregular_beats_have_a_spread_of_intervals() -> None:
    peaks = np.array([0.5, 1.2, 2.1, 2.7, 3.7, 4.4, 5.5, 6.1, 7.0, 7.8, 8.9])
    found = measure_ecg(planted(250, peaks=peaks))
    assert found["n_beats"] == 11
    assert found["rr_std"] == pytest.approx(np.diff(peaks).std(), abs=0.004)


def test_100_and_500_hz_agree() -> None:
    jitter = np.random.default_rng(0).uniform(-0.005, 0.005, len(R_PEAKS))
    slow, fast = (measure_ecg(planted(rate, jitter=jitter)) for rate in (100, 500))
    for name, unit in measurement_columns()["unit"].items():
        allowed = {"mV": 0.06, "ms": 12.0, "degrees": 3.0, "beats/min": 1.0, "s": 0.005, "beats": 0.0}[str(unit)]
        assert slow[str(name)] == pytest.approx(fast[str(name)], abs=allowed), name


def test_what_cannot_be_measured_is_nan() -> None:
    silent = measure_ecg(ECG(np.zeros((12, 1000), np.float32), 100))
    assert silent.pop("n_beats") == 0
    assert all(np.isnan(value) for value in silent.values())

    ecg = planted(100)
    ecg.signal[LEADS.index("V1")] = 0.3
    flat = measure_ecg(ecg)
    assert np.isnan([flat["r_V1"], flat["t_V1"], flat["st_V1"], flat["sokolow_lyon"]]).all()
    assert flat["r_V5"] == pytest.approx(1.2, rel=0.06)


def test_at_200_beats_a_minute_there_is_no_room_for_a_t_wave() -> None:
    found = measure_ecg(planted(250, peaks=np.arange(0.35, 9.7, 0.3), qrs=0.08))
    assert found["heart_rate"] == pytest.approx(200, rel=0.02)
    assert np.isnan(found["qt"])
    assert np.isnan(found["t_V5"])


def test_the_columns_are_documented_and_in_order() -> None:
    assert list(measurement_columns().index) == list(NAMES)
    assert measurement_columns().loc["st_V2"].tolist() == ["mV", "level 60 ms after the J point in V2"]


def test_a_beat_whose_fast_part_ends_before_its_highest_sample_is_measured_without_an_error() -> None:
    beat = [0.0, 0.1, 0.2, 0.1, 0.0, 0.0, -0.1, 1.0, -0.3, 0.0, 0.0, 0.0, 0.1, 0.2, 0.3, 0.3, 0.2, 0.1, 0.0, 0.0]
    lead = np.array((beat + [0.0] * 60) * 4)
    factors = np.array([0.6, 1.0, 0.4, -0.8, 0.1, 0.7, -0.4, 0.3, 0.8, 1.2, 1.1, 0.8])
    measured = measure_ecg(ECG(factors[:, None] * lead, sampling_rate=100))
    assert measured["heart_rate"] == pytest.approx(75, abs=1)  # a beat every 0.8 s


def test_a_window_in_which_everything_is_as_fast_has_no_p_wave() -> None:
    times = np.arange(1000) / 100
    wave = np.where(np.arange(12)[:, None] % 2, np.sin(8 * np.pi * times), np.cos(8 * np.pi * times))
    spikes = np.exp(-0.5 * (((times % 1) - 0.5) / 0.012) ** 2)
    found = measure_ecg(ECG((0.1 * wave + spikes).astype(np.float32), 100))
    assert found["n_beats"] == 10
    assert np.isnan([found["pr"], found["p_duration"]]).all()
