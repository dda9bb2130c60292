"""Filters and the ST segment, and spectrograms: facts of signals that are known exactly."""

from __future__ import annotations

import numpy as np
import pytest

from ecgkit.signals.ecg import ECG, LEADS
from ecgkit.signals.filter_effects import filtered_beats, spectrogram
from ecgkit.signals.filters import Filters
from ecgkit.signals.findings import noise_levels
from ecgkit.sources.demo import Demo


@pytest.mark.parametrize("rate", [100, 500])
def test_a_high_corner_frequency_moves_the_st_segment_and_a_low_one_does_not(rate: int) -> None:
    demo = Demo(n_records=50, sampling_rate=rate)
    record = demo.read(demo.records["record_id"][0])
    bands = {"none": None, "low": (0.05, 40.0), "high": (1.0, 40.0)}
    found = filtered_beats(record, {name: Filters(bandpass=band) for name, band in bands.items()})
    moved = {name: np.abs(found.st[name] - found.st["none"]).max() for name in ("low", "high")}
    assert moved["low"] < 0.03 < moved["high"]
    assert 80 < found.st_time < 180
    assert found.beats["low"].shape == (12, len(found.times))


def test_a_record_without_beats_has_no_st_segment() -> None:
    found = filtered_beats(ECG(np.zeros((12, 1000), np.float32), 100), {"none": Filters()})
    assert np.isnan(found.st_time)
    assert np.isnan(found.st["none"]).all()
    assert np.isnan(found.beats["none"]).all()


@pytest.mark.parametrize("rate", [100, 500])
def test_a_sine_is_one_line_of_the_spectrogram_with_its_power(rate: int) -> None:
    times = np.arange(10 * rate) / rate
    frequencies, centres, density = spectrogram(0.4 * np.sin(2 * np.pi * 12 * times), sampling_rate=rate)
    assert frequencies[density.argmax(axis=0)] == pytest.approx(np.full(len(centres), 12.0))
    power = density.sum(axis=0) * (frequencies[1] - frequencies[0])
    assert power == pytest.approx(np.full(len(centres), 0.4**2 / 2), rel=0.01)
    assert centres[0] == pytest.approx(0.5, abs=0.01)


def test_mains_hum_is_measured_where_the_rate_shows_it() -> None:
    rate = 500
    times = np.arange(10 * rate) / rate
    signal = np.zeros((12, len(times)), np.float32) + np.sin(2 * np.pi * times).astype(np.float32)
    signal[LEADS.index("V2")] += (0.05 * np.sin(2 * np.pi * 50 * times)).astype(np.float32)
    signal[LEADS.index("V3")] += (0.02 * np.sin(2 * np.pi * 60 * times)).astype(np.float32)
    mains = noise_levels(ECG(signal, rate))["hum"]
    assert mains[LEADS.index("V2")] == pytest.approx(0.05, rel=0.02)
    assert mains[LEADS.index("V3")] == pytest.approx(0.02, rel=0.02)
    assert np.isnan(noise_levels(ECG(signal[:, ::5], 100))["hum"]).all()
