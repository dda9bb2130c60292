"""One preparation for training and prediction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ecgkit import ECG, EcgkitError
from ecgkit.signals import prepare
from ecgkit.signals.filters import Filters, bandpass, resample
from ecgkit.signals.prepare import Preparation

RATE = 100
TIME = np.arange(1000) / RATE
MEAN, STD = np.linspace(-0.1, 0.1, 12, dtype=np.float32), np.linspace(0.1, 0.3, 12, dtype=np.float32)
PLAIN = Preparation(RATE, 1000, MEAN, STD)


@pytest.fixture(scope="module")
def ecg() -> ECG:
    signal = np.random.default_rng(0).normal(0, 0.3, (12, 1000)) + np.sin(2 * np.pi * TIME)
    return ECG(signal.astype(np.float32), RATE, "a")


def centred(signal: np.ndarray) -> np.ndarray:
    return signal - signal.mean(axis=1, keepdims=True)


def test_repair_interpolates_and_leaves_its_argument_alone() -> None:
    signal = np.array([[np.nan, 1.0, np.nan, 3.0, np.inf], [np.nan] * 5])
    before = signal.copy()
    np.testing.assert_array_equal(prepare.repair(signal), [[1, 1, 2, 3, 3], [0] * 5])
    np.testing.assert_array_equal(signal, before)
    np.testing.assert_array_equal(prepare.repair(signal[:, 1:4][:1]), [[1, 2, 3]])


def test_the_network_reads_whole_microvolts_without_offset_standardised(ecg: ECG) -> None:
    microvolts = np.rint(ecg.signal.astype(np.float64) * 1000)
    microvolts -= np.rint(microvolts.mean(axis=1, keepdims=True))
    expected = (microvolts / 1000 - MEAN[:, None]) / STD[:, None]
    found = PLAIN(ecg)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_filters_and_rate_are_those_of_the_model(ecg: ECG) -> None:
    filtered = replace(PLAIN, filters=Filters(bandpass=(0.5, 40.0)))
    expected = centred(bandpass(ecg.signal.astype(np.float64), sampling_rate=RATE))
    np.testing.assert_allclose(filtered(ecg) * STD[:, None] + MEAN[:, None], expected, rtol=0, atol=1.1e-3)
    fast = ECG(resample(ecg.signal, sampling_rate=RATE, target_rate=500), 500)
    slow = centred(resample(fast.signal.astype(np.float64), sampling_rate=500, target_rate=RATE))
    np.testing.assert_allclose(PLAIN(fast) * STD[:, None] + MEAN[:, None], slow, rtol=0, atol=1.1e-3)


def test_large_values_are_clipped_to_what_is_stored() -> None:
    np.testing.assert_array_equal(prepare.clip_to_int16(np.array([[-4e4, -5.0, 4e4]])), [[-32767, -5, 32767]])


def test_a_preparation_survives_json() -> None:
    filtered = replace(PLAIN, filters=Filters(bandpass=(1.0, 30.0), notch=50.0))
    again = Preparation.from_dict(filtered.to_dict())
    assert again.to_dict() == filtered.to_dict()
    np.testing.assert_array_equal(again.mean, MEAN)


def test_a_short_record_is_refused(ecg: ECG) -> None:
    with pytest.raises(EcgkitError, match="ECG a is 5 s long and the model reads 10 s"):
        PLAIN(ECG(ecg.signal[:, :500], RATE, "a"))


@pytest.mark.parametrize("offset", [1.0, -30.0])
def test_an_offset_changes_nothing(ecg: ECG, offset: float) -> None:
    np.testing.assert_allclose(PLAIN(ECG(ecg.signal + np.float32(offset), RATE)), PLAIN(ecg), rtol=0, atol=0.011)
    leads = np.linspace(-3, 3, 12)[:, None].astype(np.float32)
    np.testing.assert_allclose(PLAIN(ECG(ecg.signal + leads, RATE)), PLAIN(ecg), rtol=0, atol=0.011)


def test_the_offset_of_a_longer_record_is_that_of_the_ten_seconds_around_each_sample(ecg: ECG) -> None:
    microvolts = np.rint(1000 * np.tile(ecg.signal.astype(np.float64), 4))[:, :3700]
    found = prepare.remove_offset(microvolts, sampling_rate=RATE)
    for place, first in ((0, 0), (400, 0), (500, 0), (1234, 734), (3300, 2700), (3699, 2700)):
        mean = np.rint(microvolts[:, first : first + 1000].mean(axis=1))
        np.testing.assert_array_equal(found[:, place], microvolts[:, place] - mean)


def test_a_drift_of_a_longer_record_leaves_neither_a_level_nor_a_jump() -> None:
    times = np.arange(4000) / RATE
    drift = np.outer(np.linspace(-200, 200, 12), times)  # up to 0.2 mV/s
    found = prepare.remove_offset(drift, sampling_rate=RATE)
    assert np.abs(found[:, 500:-500]).max() <= 2  # the middle of ten seconds is their mean
    assert np.abs(np.diff(found, axis=1)).max() <= 4


def test_what_is_stored_and_what_is_predicted_are_equal_to_the_last_bit(ecg: ECG) -> None:
    for offset in (0.0, 0.0004, 12.3456):
        shifted = ECG(ecg.signal + np.float32(offset), RATE)
        microvolts = prepare.to_microvolts(shifted.signal, sampling_rate=RATE, target_rate=RATE)
        stored = prepare.clip_to_int16(prepare.filter_microvolts(microvolts, Filters(), sampling_rate=RATE))
        np.testing.assert_array_equal(PLAIN.network_input(stored[None])[0], PLAIN(shifted))


def test_a_preparation_that_kept_the_offset_keeps_it(ecg: ECG) -> None:
    kept = Preparation.from_dict(replace(PLAIN, offset_seconds=0.0).to_dict())
    moved = ECG(ecg.signal + 1, RATE)
    np.testing.assert_allclose((kept(moved) - kept(ecg)) * STD[:, None], 1.0, atol=1.1e-3)
