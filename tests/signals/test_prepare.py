"""One preparation for training and prediction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ecgkit import ECG, EcgkitError
from ecgkit.signals import prepare
from ecgkit.signals.filters import Filters, bandpass, resample
from ecgkit.signals.prepare import Preparation
from ecgkit.signals.quality import check_units

RATE = 100
TIME = np.arange(1000) / RATE
MEAN, STD = np.linspace(-0.1, 0.1, 12, dtype=np.float32), np.linspace(0.1, 0.3, 12, dtype=np.float32)
PLAIN = Preparation(RATE, 1000, MEAN, STD)


@pytest.fixture(scope="module")
def ecg() -> ECG:
    signal = np.random.default_rng(0).normal(0, 0.3, (12, 1000)) + np.sin(2 * np.pi * TIME)
    return ECG(signal.astype(np.float32), RATE, "a")


def test_repair_interpolates_and_leaves_its_argument_alone() -> None:
    signal = np.array([[np.nan, 1.0, np.nan, 3.0, np.inf], [np.nan] * 5])
    before = signal.copy()
    np.testing.assert_array_equal(prepare.repair(signal), [[1, 1, 2, 3, 3], [0] * 5])
    np.testing.assert_array_equal(signal, before)
    np.testing.assert_array_equal(prepare.repair(signal[:, 1:4][:1]), [[1, 2, 3]])


def test_the_network_reads_whole_microvolts_standardised(ecg: ECG) -> None:
    expected = (np.rint(ecg.signal.astype(np.float64) * 1000) / 1000 - MEAN[:, None]) / STD[:, None]
    found = PLAIN(ecg)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_filters_and_rate_are_those_of_the_model(ecg: ECG) -> None:
    filtered = replace(PLAIN, filters=Filters(bandpass=(0.5, 40.0)))
    expected = bandpass(ecg.signal.astype(np.float64), sampling_rate=RATE)
    np.testing.assert_allclose(filtered(ecg) * STD[:, None] + MEAN[:, None], expected, rtol=0, atol=6e-4)
    fast = ECG(resample(ecg.signal, sampling_rate=RATE, target_rate=500), 500)
    slow = resample(fast.signal.astype(np.float64), sampling_rate=500, target_rate=RATE)
    np.testing.assert_allclose(PLAIN(fast) * STD[:, None] + MEAN[:, None], slow, rtol=0, atol=6e-4)


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


def test_microvolts_are_noticed_in_each_record(ecg: ECG) -> None:
    check_units(ecg)
    spike = ecg.signal.copy()
    spike[:, 3] = 100.0  # an artefact is no unit
    spike[2] = np.nan
    check_units(ECG(spike, RATE))
    with pytest.raises(EcgkitError, match="ECG a spans .*microvolts"):
        check_units(ECG(1000 * ecg.signal, RATE, "a"))
