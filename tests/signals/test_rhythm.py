"""R peaks are where the heart of the demo beat, whatever the lead, the sign, the rate or the noise."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import ecgkit.sources.demo.beats as demo_beats
from ecgkit.errors import EcgkitError
from ecgkit.signals.beats import record_beat
from ecgkit.signals.ecg import ECG
from ecgkit.signals.mean_beat import aligned_mean_beat, beats, usual_beats
from ecgkit.signals.measurements import measure_ecg
from ecgkit.signals.rhythm import heart_rate, medians, r_peaks, r_peaks_of_many, rr_intervals
from ecgkit.sources.demo import Demo

Array = NDArray[np.float64]


def pulses(
    times: list[float] | Array, *, sampling_rate: int, seconds: float = 10.0, n_leads: int = 12, t_wave: float = 0.3
) -> Array:
    """QRS complexes of 1 mV, 80 ms wide, at these times, each with a T wave 280 ms later; amplitudes by lead."""
    at = np.arange(round(seconds * sampling_rate)) / sampling_rate - np.asarray(times)[:, None]
    shape = np.exp(-0.5 * (at / 0.015) ** 2) + t_wave * np.exp(-0.5 * ((at - 0.28) / 0.04) ** 2)
    return np.linspace(-1.0, 1.5, n_leads)[:, None] * shape.sum(axis=0) if n_leads > 1 else shape.sum(axis=0)[None]


@pytest.fixture(scope="module")
def demo() -> Demo:
    return Demo(n_records=200, seed=1)


def read(demo: Demo, record_id: str, patch: pytest.MonkeyPatch) -> tuple[NDArray[np.float32], demo_beats.Beats]:
    """Read a record, and return it with the beats that were generated."""
    drawn: list[demo_beats.Beats] = []
    draw = demo_beats.draw_beats

    def listen(rhythm: demo_beats.Rhythm, seconds: float, rng: np.random.Generator) -> demo_beats.Beats:
        drawn.append(draw(rhythm, seconds, rng))
        return drawn[-1]

    patch.setattr(demo_beats, "draw_beats", listen)
    return demo.read(record_id).signal, drawn[0]


def scores(demo: Demo, record_ids: list[str], *, noise: float = 0.0) -> tuple[float, float]:
    """Sensitivity and positive predictive value of the peaks; an R peak is within 100 ms of the middle of its QRS."""
    found = missed = wrong = 0
    for record_id in record_ids:
        with pytest.MonkeyPatch.context() as patch:
            signal, drawn = read(demo, record_id, patch)
        onsets = drawn.onsets - 1.0  # a second is generated on each side and removed
        signal = signal + noise * np.random.default_rng(int(record_id)).standard_normal(signal.shape)
        distance = np.abs(r_peaks(signal, sampling_rate=100)[:, None] / 100 - onsets - 0.06) < 0.1
        inside = (onsets > 0.05) & (onsets < 9.8)
        found += int(distance.any(axis=0)[inside].sum())
        missed += int((~distance.any(axis=0))[inside].sum())
        wrong += int((~distance.any(axis=1)).sum())
    return found / (found + missed), found / (found + wrong)


def test_finds_every_beat_of_the_demo_and_nothing_else(demo: Demo) -> None:
    sensitivity, predictive_value = scores(demo, [str(i) for i in range(1, 61)])
    assert sensitivity >= 0.99
    assert predictive_value >= 0.99


@pytest.mark.parametrize("code", ["CLBBB", "CRBBB", "AFIB", "STACH", "SBRAD", "LVH"])
def test_wide_fast_slow_and_irregular_beats_are_found(demo: Demo, code: str) -> None:
    of_code = demo.records.loc[demo.records["scp_codes"].str.contains(f'"{code}"'), "record_id"]
    assert len(of_code) >= 2
    sensitivity, predictive_value = scores(demo, of_code.tolist()[:15])
    assert sensitivity >= 0.99
    assert predictive_value >= 0.99


def test_extrasystoles_are_found(demo: Demo) -> None:
    with pytest.MonkeyPatch.context() as patch:
        ectopic = [i for i in map(str, range(1, 101)) if read(demo, i, patch)[1].ectopic.any()]
    assert len(ectopic) >= 3
    assert min(scores(demo, ectopic)) >= 0.99


def test_white_noise_of_a_tenth_of_a_millivolt_hides_no_beat(demo: Demo) -> None:
    sensitivity, predictive_value = scores(demo, [str(i) for i in range(1, 21)], noise=0.1)
    assert sensitivity >= 0.99
    assert predictive_value >= 0.99


@pytest.mark.parametrize("sampling_rate", [100, 128, 250, 500])
@pytest.mark.parametrize("rate", [30, 60, 120, 210])
def test_planted_pulses_are_found_to_the_sample(sampling_rate: int, rate: int) -> None:
    times = np.arange(0.31, 9.7, 60 / rate)
    found = r_peaks(pulses(times, sampling_rate=sampling_rate, t_wave=0.2), sampling_rate=sampling_rate)
    assert len(found) == len(times)
    assert np.abs(found - times * sampling_rate).max() <= 1.0
    assert heart_rate(found, sampling_rate=sampling_rate) == pytest.approx(rate, rel=0.02)


@pytest.mark.parametrize("sampling_rate", [100, 250, 500, 1000])
@pytest.mark.parametrize("rate", [25, 40, 75, 150, 250, 300])
def test_the_heart_rate_of_clean_signals_is_within_2_percent(sampling_rate: int, rate: int) -> None:
    signal = pulses(np.arange(0.31, 9.8, 60 / rate), sampling_rate=sampling_rate, t_wave=0.15 if rate < 200 else 0.0)
    assert measure_ecg(ECG(signal, sampling_rate))["heart_rate"] == pytest.approx(rate, rel=0.02)


@pytest.mark.parametrize("n_leads", [1, 3, 12])
@pytest.mark.parametrize("seconds", [2.5, 180.0])
def test_any_number_of_leads_and_any_length(n_leads: int, seconds: float) -> None:
    times = np.arange(0.4, seconds - 0.3, 0.8)
    found = r_peaks(pulses(times, sampling_rate=100, seconds=seconds, n_leads=n_leads), sampling_rate=100)
    assert len(found) == len(times)
    assert np.abs(found - times * 100).max() <= 1.0


def test_a_tall_t_wave_is_no_beat_and_a_small_beat_is_one() -> None:
    signal = pulses(np.arange(0.5, 9.6, 1.0), sampling_rate=100, t_wave=1.0)
    assert len(r_peaks(signal, sampling_rate=100)) == 10
    # The sixth beat has a third of the others' voltage: only the search for a missing beat takes it.
    small = pulses(np.delete(np.arange(0.5, 9.6, 1.0), 5), sampling_rate=100)
    small += pulses([5.5], sampling_rate=100) / 3
    assert len(r_peaks(small, sampling_rate=100)) == 10


def test_turning_leads_over_changes_no_peak(demo: Demo) -> None:
    signal = demo.read("5").signal
    turned = signal * np.where(np.arange(12) % 2, -1, 1)[:, None]
    np.testing.assert_array_equal(r_peaks(signal, sampling_rate=100), r_peaks(-signal, sampling_rate=100))
    np.testing.assert_array_equal(r_peaks(signal, sampling_rate=100), r_peaks(turned, sampling_rate=100))


def test_100_and_500_hz_agree_to_a_sample() -> None:
    slow, fast = (Demo(n_records=40, seed=2, sampling_rate=rate) for rate in (100, 500))
    distances: list[float] = []
    for record_id in map(str, range(1, 31)):
        at_100 = r_peaks(slow.read(record_id).signal, sampling_rate=100) / 100
        at_500 = r_peaks(fast.read(record_id).signal, sampling_rate=500) / 500
        distances += np.abs(at_100[:, None] - at_500).min(axis=1).tolist()
    assert len(distances) > 250
    # A complex with two tops of one height may be marked at either.
    assert np.mean(np.array(distances) <= 0.01) >= 0.99


def test_a_loose_or_missing_lead_changes_no_beat(demo: Demo) -> None:
    signal = demo.read("7").signal
    expected = r_peaks(signal, sampling_rate=100)
    broken = signal.copy()
    broken[0] = np.nan
    broken[3] = 0.25
    broken[7, 200:320] = np.nan
    broken[9] += 2.0 * np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    found = r_peaks(broken, sampling_rate=100)
    assert len(found) == len(expected)
    assert np.abs(found - expected).max() <= 2
    assert np.isnan(broken[0]).all()


@pytest.mark.parametrize("value", [0.0, 1.5, np.nan])
@pytest.mark.parametrize("shape", [(12, 1000), (1, 250), (12, 10), (0, 100), (12, 0)])
def test_no_beat_in_a_flat_or_empty_signal(value: float, shape: tuple[int, int]) -> None:
    found = r_peaks(np.full(shape, value), sampling_rate=100)
    assert found.dtype == np.int64
    assert found.shape == (0,)


def test_below_60_hz_no_beat_is_found_and_nothing_is_measured() -> None:
    signal = pulses(np.arange(0.5, 9.6, 0.8), sampling_rate=55, n_leads=12)
    assert not len(r_peaks(signal, sampling_rate=55))
    measured = measure_ecg(ECG(signal, 55.0))
    assert measured.pop("n_beats") == 0
    assert np.isnan(list(measured.values())).all()
    assert np.isnan(record_beat(signal.astype(np.float32), sampling_rate=55)).all()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_leads", [1, 12])
def test_no_beat_in_noise_alone(seed: int, n_leads: int) -> None:
    noise = 0.1 * np.random.default_rng(seed).standard_normal((n_leads, 1000))
    assert not len(r_peaks(noise, sampling_rate=100))


def test_heart_rate_is_the_mean_ventricular_rate() -> None:
    peaks = np.array([0, 100, 200, 260, 390])  # an early beat and its pause
    assert heart_rate(peaks, sampling_rate=100) == pytest.approx(60 * 4 / 3.9)
    np.testing.assert_allclose(rr_intervals(peaks, sampling_rate=200), [0.5, 0.5, 0.3, 0.65])
    assert np.isnan(heart_rate(peaks[:2], sampling_rate=100))
    assert rr_intervals([], sampling_rate=100).shape == (0,)


def test_twelve_beats_of_bigeminy_give_their_mean_rate_and_their_intervals() -> None:
    times = np.cumsum([0.4, *np.tile([0.5, 1.1], 6)])[:12]
    found = r_peaks(pulses(times, sampling_rate=500), sampling_rate=500)
    assert len(found) == 12
    assert heart_rate(found, sampling_rate=500) == pytest.approx(60 * 11 / (times[-1] - times[0]), rel=0.01)
    np.testing.assert_allclose(rr_intervals(found, sampling_rate=500), np.diff(times), atol=0.02)


@pytest.mark.parametrize("sampling_rate", [100, 250, 500, 1000])
@pytest.mark.parametrize("rate", [25, 240, 280, 300])
def test_slow_and_fast_rhythms_are_counted(sampling_rate: int, rate: int) -> None:
    times = np.arange(0.31, 9.8, 60 / rate)
    noise = 0.01 * np.random.default_rng(0).standard_normal((12, 10 * sampling_rate))
    found = r_peaks(pulses(times, sampling_rate=sampling_rate, t_wave=0.0) + noise, sampling_rate=sampling_rate)
    assert len(found) == len(times)
    assert heart_rate(found, sampling_rate=sampling_rate) == pytest.approx(rate, rel=0.02)


@pytest.mark.parametrize("frequency", [50, 60])
@pytest.mark.parametrize("amplitude", [0.3, 0.5])
def test_mains_hum_adds_and_moves_no_beat(frequency: int, amplitude: float) -> None:
    times = np.arange(0.4, 9.7, 0.8)
    clean = pulses(times, sampling_rate=500)
    expected = r_peaks(clean, sampling_rate=500)
    at = np.arange(5000) / 500
    for phase in np.linspace(0, 2 * np.pi, 8, endpoint=False):
        hum = amplitude * np.sin(2 * np.pi * frequency * at + phase)
        found = r_peaks(clean + hum, sampling_rate=500)
        assert len(found) == len(expected)
        assert np.abs(found - expected).max() <= 10  # 20 ms


def test_beats_lie_wholly_inside_and_start_from_the_pr_level() -> None:
    times = np.array([0.2, 1.2, 2.2, 3.2, 9.7])
    signal = pulses(times, sampling_rate=100) + 0.7
    cut = beats(signal, np.rint(times * 100), sampling_rate=100)
    assert cut.shape == (3, 12, 70)
    assert cut.dtype == np.float32
    np.testing.assert_allclose(cut[:, :, 25], np.tile(np.linspace(-1, 1.5, 12), (3, 1)), atol=2e-3)
    assert beats(signal, [], sampling_rate=100).shape == (0, 12, 70)


def test_the_mean_beat_leaves_an_extrasystole_out() -> None:
    usual = pulses(np.arange(0.5, 9.6, 1.0), sampling_rate=100)
    signal = usual.copy()
    wide = np.exp(-0.5 * ((np.arange(1000) / 100 - 5.5) / 0.06) ** 2)
    signal[:, 520:590] = -2 * wide[520:590]
    peaks = np.arange(50, 1000, 100)
    cut = beats(signal, peaks, sampling_rate=100)
    assert (~usual_beats(cut)).nonzero()[0].tolist() == [5]
    np.testing.assert_allclose(cut[usual_beats(cut)].mean(axis=0), beats(usual, peaks, sampling_rate=100)[0], atol=1e-5)


def test_without_a_beat_the_mean_beat_is_unknown() -> None:
    cut = beats(np.zeros((12, 500)), [], sampling_rate=100)
    mean = aligned_mean_beat(cut, sampling_rate=100, rate=100)
    assert mean.shape == (12, 70)
    assert np.isnan(mean).all()


def test_many_recordings_have_the_peaks_of_each_alone(demo: Demo) -> None:
    signals = [demo.read(record_id).signal for record_id in demo.records["record_id"][:12]]
    signals[1][3] = 0
    signals[2][5:] = np.nan
    signals[3][:, 100:140] = np.nan
    signals[4] = signals[4][:, :777]
    signals[5][:] = 0
    rates = [100.0] * 8 + [90.0] * 4
    together = r_peaks_of_many(signals, rates)
    assert [len(peaks) for peaks in together].count(0) == 1
    for peaks, signal, rate in zip(together, signals, rates, strict=True):
        np.testing.assert_array_equal(peaks, r_peaks(signal, sampling_rate=rate))


@pytest.mark.parametrize("number", [1, 2, 9, 10])
def test_medians_are_those_of_numpy(number: int) -> None:
    values = np.random.default_rng(number).normal(size=(4, number, 6)).astype(np.float32)
    values[1, 0, 2] = np.nan
    np.testing.assert_array_equal(medians(values, axis=1), np.median(values, axis=1))
    assert medians(values, axis=1).dtype == np.float32


def test_bad_input_is_refused_in_one_line() -> None:
    with pytest.raises(EcgkitError, match=r"a signal of shape \(1000,\): give \(leads, samples\)"):
        r_peaks(np.zeros(1000), sampling_rate=100)
    with pytest.raises(EcgkitError, match="sampling_rate is 40: .* 50 "):
        r_peaks(np.zeros((12, 1000)), sampling_rate=40)
    with pytest.raises(EcgkitError, match="sampling_rate is 0: "):
        heart_rate([1, 2, 3], sampling_rate=0)
    with pytest.raises(EcgkitError, match=r"a beat from 0.1 s before to 0.4 s after the R peak"):
        beats(np.zeros((12, 1000)), [500], sampling_rate=100, before=0.1, after=0.4)


@pytest.mark.parametrize("sampling_rate", [100, 125, 128, 250, 360, 500])
def test_the_r_peak_of_the_mean_beat_is_where_it_is_said_to_be(sampling_rate: int) -> None:
    times = np.arange(10 * sampling_rate) / sampling_rate
    signal = sum(np.exp(-0.5 * ((times - beat) / 0.02) ** 2) for beat in np.arange(0.5, 9.6, 0.8))[None]
    peaks = r_peaks(signal, sampling_rate=sampling_rate)
    cut = beats(signal, peaks, sampling_rate=sampling_rate, before=0.3, after=0.4)
    mean = aligned_mean_beat(cut, sampling_rate=sampling_rate, before=0.3, rate=500)
    assert abs(int(mean[0].argmax()) - 150) <= 1
