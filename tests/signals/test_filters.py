from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import signal as scipy_signal
from scipy.signal import resample_poly

from ecgkit.errors import EcgkitError
from ecgkit.signals.ecg import check_rate
from ecgkit.signals.filters import Filters, bandpass, notch, resample, standardize

RATE = 100


def tone(frequency: float, *, rate: float = RATE, seconds: float = 20) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)


def middle(values: np.ndarray, *, rate: float = RATE) -> np.ndarray:
    return values[..., int(4 * rate) : -int(4 * rate)]


def amplitude(values: np.ndarray) -> float:
    return float(np.sqrt(2 * np.mean(middle(values) ** 2)))


def test_a_2_hz_tone_survives_the_bandpass_and_a_slow_drift_does_not():
    assert amplitude(bandpass(tone(2), sampling_rate=RATE)) == pytest.approx(1, abs=0.01)
    assert amplitude(bandpass(tone(0.05, seconds=80), sampling_rate=RATE)) < 0.01


@pytest.mark.parametrize("frequency", [0.3, 0.5, 1, 10, 40, 45])
def test_the_bandpass_has_the_squared_gain_of_the_butterworth(frequency: float):
    sections = scipy_signal.butter(3, (0.5, 40), btype="bandpass", fs=500, output="sos")
    gain = abs(scipy_signal.sosfreqz(sections, worN=[frequency], fs=500)[1][0]) ** 2
    filtered = bandpass(tone(frequency, rate=500, seconds=60), sampling_rate=500)
    measured = np.sqrt(2 * np.mean(filtered[5000:-5000] ** 2))
    assert measured == pytest.approx(gain, abs=0.005)


def test_the_bandpass_is_scipys_forward_backward_filter():
    noise = np.random.default_rng(0).normal(size=(3, 12, 700))
    sections = scipy_signal.butter(3, (0.5, 40), btype="bandpass", fs=RATE, output="sos")
    expected = scipy_signal.sosfiltfilt(sections, noise, padlen=200)
    np.testing.assert_allclose(bandpass(noise, sampling_rate=RATE), expected, atol=1e-12)


def test_the_notch_is_scipys_forward_backward_filter():
    noise = np.random.default_rng(0).normal(size=(12, 5000))
    sections = scipy_signal.tf2sos(*scipy_signal.iirnotch(50, 30, fs=500))
    expected = scipy_signal.sosfiltfilt(sections, noise, padlen=300)
    np.testing.assert_allclose(notch(noise, sampling_rate=500, frequency=50), expected, atol=1e-12)


def test_no_phase_shift():
    bump = np.exp(-(((np.arange(1000) - 417) / 4) ** 2))
    assert np.argmax(bandpass(bump, sampling_rate=RATE)) == 417
    assert np.argmax(notch(bump, sampling_rate=500, frequency=50)) == 417


def test_the_notch_removes_the_mains_and_leaves_40_hz():
    def left(frequency: float) -> float:
        return amplitude(notch(tone(frequency, rate=500), sampling_rate=500, frequency=50))

    assert left(50) < 0.01
    assert left(40) == pytest.approx(1, abs=0.01)
    assert left(60) == pytest.approx(1, abs=0.01)


def test_an_offset_does_not_ring_at_the_ends():
    filtered = bandpass(np.full(1000, 3.0), sampling_rate=RATE)
    assert np.abs(filtered).max() < 1e-6


@pytest.mark.parametrize(("source", "target"), [(500, 100), (100, 500), (360, 100), (257, 100)])
def test_resampling_keeps_a_tones_amplitude_and_frequency(source: int, target: int):
    result = resample(tone(5, rate=source), sampling_rate=source, target_rate=target)
    expected = tone(5, rate=target)
    assert len(result) == len(expected)
    np.testing.assert_allclose(middle(result, rate=target), middle(expected, rate=target), atol=0.01)


@pytest.mark.parametrize(("source", "target"), [(511.9, 100), (333.25, 100), (50.5, 100), (1999.5, 100), (257, 128)])
def test_resampling_at_any_ratio_equals_the_polyphase_filter_to_a_microvolt(source: float, target: float):
    rng = np.random.default_rng(0)
    signal = np.cumsum(rng.normal(0, 0.02, (3, round(5 * source))), axis=1)  # mV, with a drift that ends elsewhere
    ratio = Fraction(str(target)) / Fraction(str(source))
    expected = resample_poly(signal, ratio.numerator, ratio.denominator, axis=-1, padtype="line")
    result = resample(signal, sampling_rate=source, target_rate=target)
    assert result.shape == expected.shape
    assert np.abs(result - expected).max() < 0.001


def test_a_long_signal_is_resampled_in_blocks_without_a_seam():
    tones = tone(5, rate=512.3, seconds=250)
    result = resample(tones, sampling_rate=512.3, target_rate=100)
    np.testing.assert_allclose(middle(result, rate=100), middle(tone(5, rate=100, seconds=250), rate=100), atol=0.01)


def test_one_sample_stays_what_it_is():
    np.testing.assert_array_equal(resample([[2.0]], sampling_rate=500, target_rate=100), [[2.0]])


@pytest.mark.parametrize("rate", [np.float32(512), np.int64(512), np.array(512), torch.tensor(512.0), 512])
def test_a_rate_may_be_any_kind_of_number(rate: object):
    assert check_rate(rate) == 512.0


@pytest.mark.parametrize("rate", ["512", None, True, np.True_, 1e-9, -5, np.nan, np.inf, [500.0], {}, 3000, b"500"])
def test_what_is_no_sampling_rate_is_refused_by_value(rate: object):
    with pytest.raises(EcgkitError, match="sampling_rate is") as caught:
        check_rate(rate)
    assert repr(rate) in str(caught.value)


def test_resampling_removes_what_would_alias():
    assert amplitude(resample(tone(70, rate=500), sampling_rate=500, target_rate=100)) < 0.02


def test_an_offset_survives_resampling_up_to_the_ends():
    result = resample(np.full((12, 5000), 2.0), sampling_rate=500, target_rate=100)
    np.testing.assert_allclose(result, 2.0, atol=1e-9)


def test_standardised_leads_have_mean_0_and_deviation_1():
    signal = np.random.default_rng(1).normal(3, 7, (50, 12, 400)).astype(np.float32)
    result = standardize(signal, signal.mean(axis=(0, 2)), signal.std(axis=(0, 2)))
    np.testing.assert_allclose(result.mean(axis=(0, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(result.std(axis=(0, 2)), 1, atol=1e-4)


def test_a_lead_that_is_flat_throughout_stays_finite():
    result = standardize(np.ones((12, 10)), np.ones(12), np.zeros(12))
    assert (result == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_precision_is_that_of_the_signal(dtype: type):
    signal = np.zeros((12, 1000), dtype)
    assert bandpass(signal, sampling_rate=RATE).dtype == dtype
    assert notch(signal, sampling_rate=500, frequency=50).dtype == dtype
    assert resample(signal, sampling_rate=500, target_rate=100).dtype == dtype
    assert Filters().apply(signal, sampling_rate=RATE).dtype == dtype


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda x: bandpass(x, sampling_rate=100, high=50), "Nyquist frequency of 50 Hz"),
        (lambda x: notch(x, sampling_rate=100, frequency=50), "Nyquist frequency of 50 Hz"),
        (lambda x: bandpass(x, sampling_rate=100, low=40, high=10), "lower edge first"),
        (lambda x: bandpass(x, sampling_rate=100, low=10, high=10), "lower edge first"),
        (lambda x: bandpass(x, sampling_rate=100, low=-1), "positive"),
        (lambda x: bandpass(x, sampling_rate=0), "sampling_rate is 0"),
        (lambda x: bandpass(x, sampling_rate=100, order=0), "order"),
        (lambda x: notch(x, sampling_rate=500, frequency=50, q=0), "quality"),
        (lambda x: resample(x, sampling_rate=100, target_rate=0), "target_rate is 0"),
        (lambda x: bandpass(np.where(np.arange(1000) == 5, np.nan, x), sampling_rate=100), "NaN"),
        (lambda x: standardize(x, np.zeros(11), np.ones(12)), "shape"),
        (lambda x: standardize(x, np.full(12, np.nan), np.ones(12)), "not finite"),
        (lambda _: bandpass([1.0], sampling_rate=100), "1 samples"),
    ],
)
def test_bad_input_gets_one_line(call, named: str):
    with pytest.raises(EcgkitError, match=named) as caught:
        call(np.zeros((12, 1000)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("filters", "suffix"),
    [
        (Filters(), ""),
        (Filters(bandpass=(0.5, 40)), "bandpass"),
        (Filters(bandpass=(1, 30)), "bandpass1-30"),
        (Filters(bandpass=(0.5, 40), notch=50), "bandpass_notch50"),
        (Filters(notch=60, notch_q=20), "notch60q20"),
        (Filters(bandpass=(0.5, 40), order=2), "bandpassorder2"),
    ],
)
def test_filters_name_themselves_and_come_back_from_json(filters: Filters, suffix: str):
    assert filters.name_suffix() == suffix
    assert bool(filters) == bool(suffix)
    assert Filters.from_dict(filters.to_dict()) == filters


def test_filters_apply_both_and_say_early_what_cannot_be():
    signal = tone(10, rate=500) + tone(50, rate=500) + 4
    result = Filters(bandpass=(0.5, 100), notch=50).apply(signal, sampling_rate=500)
    assert amplitude(result - tone(10, rate=500)) < 0.02
    with pytest.raises(EcgkitError, match="Nyquist"):
        Filters(notch=50).check(sampling_rate=100)
    with pytest.raises(EcgkitError, match="notsch"):
        Filters.from_dict({"notsch": 50})
