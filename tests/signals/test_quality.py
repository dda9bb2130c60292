"""Units and levels: what cannot be an ECG in mV is refused, record by record, with the unit that it looks like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from ecgkit import ECG, EcgkitError
from ecgkit.signals.prepare import Preparation
from ecgkit.signals.quality import check_levels
from ecgkit.sources.demo import Demo

RATE = 100
SOURCE = Demo(n_records=20, seed=4)
PLAIN = Preparation(RATE, 1000, np.zeros(12, np.float32), np.full(12, 0.2, np.float32))


@pytest.fixture(scope="module")
def signals() -> list[np.ndarray]:
    return [SOURCE.read(record_id).signal for record_id in SOURCE.records["record_id"]]


def test_ordinary_records_pass_with_an_offset_and_a_missing_lead(signals: list[np.ndarray]) -> None:
    for signal in signals:
        check_levels(ECG(signal, RATE))
        check_levels(ECG(signal + 30, RATE))
        fewer = signal.copy()
        fewer[2:] = np.nan
        check_levels(ECG(fewer, RATE))
        fewer[2:] = 0
        check_levels(ECG(fewer, RATE))


@pytest.mark.parametrize(
    ("factor", "unit"),
    [(1e-3, "volts"), (1e3, "microvolts"), (1e6, "nanovolts"), (10.0, "0.1 mV"), (100.0, "0.01 mV")],
)
def test_another_unit_is_refused_by_name(signals: list[np.ndarray], factor: float, unit: str) -> None:
    for signal in signals:
        with pytest.raises(EcgkitError, match=unit):
            check_levels(ECG(signal * factor, RATE, "a"))


@pytest.mark.parametrize(
    ("rows", "factor", "named"),
    [
        (range(11, 12), 1e3, "in V6 than"),
        (range(6, 12), 1e-3, "smaller in V[123]"),
        (range(6, 12), 1e3, "mV|unit"),
        (range(6), 1e3, "mV|unit"),
        (range(3, 6), 1e-3, "smaller in aVR, aVL, aVF"),
    ],
)
def test_some_leads_in_another_unit_are_refused(
    signals: list[np.ndarray], rows: Sequence[int], factor: float, named: str
) -> None:
    for signal in signals:
        mixed = signal.copy()
        mixed[rows] *= factor
        with pytest.raises(EcgkitError, match=named):
            check_levels(ECG(mixed, RATE))


def test_a_lead_with_spikes_or_almost_flat_is_in_no_other_unit(signals: list[np.ndarray]) -> None:
    spikes = signals[0].copy()
    spikes[11, ::250] += 100
    check_levels(ECG(spikes, RATE))
    small = signals[0].copy()
    small[4] *= 0.0001  # almost flat
    check_levels(ECG(small, RATE))


def test_what_is_standardised_is_refused(signals: list[np.ndarray]) -> None:
    for signal in signals:
        scaled = (signal - signal.mean(axis=1, keepdims=True)) / signal.std(axis=1, keepdims=True)
        with pytest.raises(EcgkitError, match="standard"):
            check_levels(ECG(scaled, RATE))


@pytest.mark.parametrize("value", [0.0, 1e6, -3.0])
def test_a_flat_record_is_refused_unless_it_may_be_flat(value: float) -> None:
    ecg = ECG(np.full((12, 1000), value, np.float32), RATE, "a")
    with pytest.raises(EcgkitError, match="flat"):
        check_levels(ecg)
    check_levels(ecg, allow_flat=True)
    assert np.isfinite(PLAIN(ecg, anyway=True)).all()


def test_noise_of_an_open_input_is_refused() -> None:
    noise = np.random.default_rng(0).normal(0, 0.003, (12, 1000))
    with pytest.raises(EcgkitError, match="0.018"):
        check_levels(ECG(noise, RATE))


def test_artefacts_and_drift_are_no_unit(signals: list[np.ndarray]) -> None:
    spike = signals[0].copy()
    spike[:, 3] = 100.0
    spike[2] = np.nan
    check_levels(ECG(spike, RATE))
    check_levels(ECG(signals[0] + np.linspace(0, 8, 1000, dtype=np.float32), RATE))


def test_each_record_is_checked_and_anyway_skips_it(signals: list[np.ndarray]) -> None:
    wrong = ECG(1000 * signals[1], RATE, "b")
    with pytest.raises(EcgkitError, match="ECG b"):
        PLAIN(wrong)
    assert np.isfinite(PLAIN(wrong, anyway=True)).all()


def test_masked_samples_are_missing_samples(signals: list[np.ndarray]) -> None:
    mask = np.zeros((12, 1000), bool)
    mask[:, 100:200] = True
    expected = PLAIN(ECG(np.where(mask, np.nan, signals[0]), RATE))
    masked = ECG(np.ma.masked_array(np.where(mask, 9.0, signals[0]), mask), RATE)
    np.testing.assert_array_equal(PLAIN(masked), expected)
    with pytest.raises(EcgkitError, match="no value"):
        ECG(np.ma.masked_all((12, 1000)), RATE)


def test_integers_become_numbers_of_the_same_value_and_text_is_refused(signals: list[np.ndarray]) -> None:
    ecg = ECG(np.rint(signals[0] * 1000).astype(np.int16), RATE, "a")
    assert ecg.signal.dtype == np.float32
    with pytest.raises(EcgkitError, match="microvolts"):
        check_levels(ecg)
    for wrong in (np.full((12, 1000), "1"), [[0.0]] * 11 + [[0.0, 1.0]], np.zeros((12, 1000), complex)):
        with pytest.raises(EcgkitError):
            ECG(wrong, RATE)
