"""Findings: each planted fault is named with its leads and its numbers, and ordinary records have none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ecgkit import ECG, EcgkitError
from ecgkit.signals.ecg import LEADS
from ecgkit.signals.filters import resample
from ecgkit.signals.findings import Finding, check_many, check_quality, refuse
from ecgkit.sources.demo import Demo

RATE = 100
N_RECORDS = 40


@pytest.fixture(scope="module")
def signals() -> list[np.ndarray]:
    """Ten seconds in which Einthoven's law holds."""
    demo = Demo(n_records=N_RECORDS, seed=4)
    return [with_limb_leads(demo.read(record_id).signal) for record_id in demo.records["record_id"]]


def with_limb_leads(signal: np.ndarray) -> np.ndarray:
    result = signal.copy()
    i, ii = result[0], result[1]
    result[2:6] = ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2
    return result


def at_electrodes(waves: np.ndarray) -> np.ndarray:
    """Return the leads of potentials at both arms, the left leg, and V1-V6."""
    right, left, leg = waves[:3]
    result = np.zeros((12, waves.shape[1]), np.float32)
    result[:2] = left - right, leg - right
    result[6:] = waves[3:] - waves[:3].mean(axis=0)
    return with_limb_leads(result)


def found(signal: np.ndarray, rate: float = RATE) -> dict[str, Finding]:
    return {finding.name: finding for finding in check_quality(ECG(signal, rate))}


def replaced(signal: np.ndarray, leads: list[str], values: np.ndarray | float) -> np.ndarray:
    result = signal.copy()
    result[[LEADS.index(lead) for lead in leads]] = values
    return result


@pytest.mark.parametrize("rate", [100, 500])
def test_ordinary_records_have_almost_no_finding(rate: int) -> None:
    demo = Demo(n_records=N_RECORDS, seed=5, sampling_rate=rate)
    n_found = sum(bool(check_quality(demo.read(record_id))) for record_id in demo.records["record_id"])
    assert n_found <= 0.05 * N_RECORDS


def test_an_offset_and_a_missing_lead_are_no_finding(signals: list[np.ndarray]) -> None:
    for signal in signals[:10]:
        assert set(found(signal + 5)) == set(found(signal))
        assert not {"flat", "gap", "einthoven", "duplicate"} & set(found(replaced(signal, ["II", "V3"], np.nan)))


def test_gaps(signals: list[np.ndarray]) -> None:
    gap = signals[0].copy()
    gap[3:5, 200:350] = np.nan
    finding = found(gap)["gap"]
    assert (finding.level, finding.leads) == ("warning", ("aVR", "aVL"))
    assert finding.evidence["seconds"] == pytest.approx(1.5)
    gap[:, 100:700] = np.inf
    assert found(gap)["gap"].level == "refused"
    assert "flat" not in found(gap)


def test_flat_leads(signals: list[np.ndarray]) -> None:
    for signal in signals[:5]:
        finding = found(replaced(signal, ["V2"], 0.3))["flat"]
        assert (finding.level, finding.leads, finding.evidence["seconds"]) == ("warning", ("V2",), 10.0)
        assert found(replaced(signal, ["V2", "V3", "V4"], 0))["flat"].level == "refused"
    part = signals[0].copy()
    part[9, 300:450] = part[9, 300]
    assert found(part)["flat"].evidence["seconds"] == pytest.approx(1.5, abs=0.03)


def test_a_clipped_lead(signals: list[np.ndarray]) -> None:
    for signal in signals[:10]:
        limit = 0.4 * np.abs(signal[10]).max()
        finding = found(replaced(signal, ["V5"], np.clip(signal[10], -limit, limit)))["clipped"]
        assert finding.leads == ("V5",)


@pytest.mark.parametrize("mark", [-32.768, 99.99, -9999.0])
def test_marks_of_missing_samples_are_no_voltages(signals: list[np.ndarray], mark: float) -> None:
    for signal in signals[:10]:
        assert "extreme" not in found(signal)
        marked = signal.copy()
        marked[11, 500:520] = mark
        finding = found(marked)["extreme"]
        assert (finding.level, finding.leads) == ("warning", ("V6",))
        assert finding.evidence["mV"] == pytest.approx(abs(mark), rel=0.05)


def test_a_lead_twice(signals: list[np.ndarray]) -> None:
    for signal in signals[:10]:
        assert found(replaced(signal, ["V3"], signal[9] + 0.2))["duplicate"].leads == ("V3", "V4")


def test_limb_leads_that_contradict_each_other(signals: list[np.ndarray]) -> None:
    for signal in signals[:10]:
        assert "einthoven" not in found(signal)
        assert found(signal[[0, 1, 6, 7, 8, 9, 10, 11, 2, 3, 4, 5]])["einthoven"].level == "refused"
        assert found(replaced(signal, ["III", "aVR", "aVL", "aVF"], 0))["einthoven"].level == "refused"
        changed = replaced(signal, ["II"], 1.2 * signal[1])
        limbs = changed[:3] - changed[:3].mean(axis=1, keepdims=True)
        share = np.std(0.2 * signal[1]) / np.sqrt(np.mean(limbs**2))
        if share > 0.06:  # II is small where the axis is 60 degrees away from it
            assert found(changed)["einthoven"].evidence["share"] >= 0.95 * share


def test_a_detached_electrode_and_a_recording_without_beats(signals: list[np.ndarray]) -> None:
    random = np.random.default_rng(0)
    noise = random.normal(0, 0.1, 1000)
    hits = [found(replaced(signal, ["V4"], noise)).get("detached") for signal in signals]
    assert sum(hit is not None and hit.leads == ("V4",) for hit in hits) >= 0.85 * len(hits)
    assert "beats" in found(at_electrodes(random.normal(0, 0.02, (9, 1000))))


@pytest.mark.parametrize("rate", [100, 250, 500, 1000])
def test_wander_muscle_and_hum_at_any_rate(signals: list[np.ndarray], rate: int) -> None:
    random, n_samples = np.random.default_rng(1), 10 * rate
    times = np.arange(n_samples) / rate
    signal = resample(signals[0], sampling_rate=RATE, target_rate=rate)
    slow = 0.8 * np.sin(2 * np.pi * np.linspace(0.15, 0.35, 9)[:, None] * times + np.arange(9)[:, None])
    wander = found(signal + at_electrodes(slow), rate)
    assert set(wander) - set(found(signal, rate)) == {"wander"}
    assert wander["wander"].evidence["mV"] > 0.8
    # White noise of 0.1 mV per 50 Hz of bandwidth.
    noise = random.normal(0, 0.2 * np.sqrt(rate / 100), (9, n_samples))
    assert "muscle" in found(signal + at_electrodes(noise), rate)
    hum = 0.3 * np.linspace(0, 1, 9)[:, None] * np.sin(2 * np.pi * 50 * times)
    heard = found(signal + at_electrodes(hum), rate).get("hum")
    assert (heard is not None and heard.evidence["Hz"] == 50) == (rate > 100)  # 100 Hz cannot hold 50 Hz


def test_muscle_noise_is_told_as_its_definition_says(signals: list[np.ndarray]) -> None:
    random = np.random.default_rng(3)
    for size, signal in zip(np.linspace(0.02, 0.16, 30), signals, strict=False):
        noisy = signal + at_electrodes(random.normal(0, size, (9, signal.shape[1])))
        spectrum, frequencies = np.fft.rfft(noisy - noisy.mean(axis=1, keepdims=True)), np.fft.rfftfreq(1000, 0.01)
        band = np.fft.irfft(spectrum * ((frequencies >= 30) & (frequencies <= 45)), 1000)
        rms = np.sqrt(np.median(np.mean(band.reshape(12, 50, 20) ** 2, axis=2), axis=1))
        assert ("muscle" in found(noisy)) == (np.sort(rms)[6] > 0.04)


def swap_arms(signal: np.ndarray) -> np.ndarray:
    swapped = signal[[0, 2, 1, 4, 3, 5, 6, 7, 8, 9, 10, 11]].copy()
    swapped[0] *= -1
    return swapped


MISPLACED: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    "arms": (swap_arms, 0.9),
    "polarity": (lambda signal: -signal, 0.9),
    "chest": (lambda signal: signal[[*range(6), *range(11, 5, -1)]], 0.9),
    "rate_too_high": (lambda signal: resample(signal, sampling_rate=RATE, target_rate=50), 0.8),
    "rate_too_low": (lambda signal: resample(signal, sampling_rate=RATE, target_rate=200), 0.8),
}


@pytest.mark.parametrize("fault", MISPLACED)
def test_misplaced_leads_and_a_wrong_rate(signals: list[np.ndarray], fault: str) -> None:
    plant, at_least = MISPLACED[fault]
    assert np.mean([fault in found(plant(signal)) for signal in signals]) >= at_least


def test_findings_do_not_depend_on_the_sampling_rate(signals: list[np.ndarray]) -> None:
    for signal in signals[:10]:
        fine = resample(swap_arms(signal), sampling_rate=RATE, target_rate=500)
        assert set(found(fine, 500)) == set(found(swap_arms(signal)))


def test_a_long_recording_is_checked_in_windows(signals: list[np.ndarray]) -> None:
    long = np.tile(signals[0], 6)
    long[7, :1000] = 0
    assert "flat" not in found(long)
    long[7, :4000] = 0
    assert "4 of 6" in found(long)["flat"].text


def test_most_of_a_long_recording_decides_whether_it_is_refused(signals: list[np.ndarray]) -> None:
    def levels(signal: np.ndarray) -> dict[str, str]:
        return {name: finding.level for name, finding in found(signal).items()}

    long = np.tile(signals[0], 3)
    for leads in (range(6, 12), range(12)):
        gap = long.copy()
        gap[leads, 1000:] = np.nan  # in the windows after the first, no lead is left of which something could miss
        assert levels(gap)["gap"] == "refused"
        assert found(gap)["gap"].evidence["seconds"] == pytest.approx(20)
    flat = long.copy()
    flat[6, 100:250] = flat[6, 100]
    flat[:, 1000:] = 0
    assert (levels(flat)["flat"], "2 of 3" in found(flat)["flat"].text) == ("refused", True)
    flat[:, 2000:] = long[:, 2000:]
    assert (levels(flat)["flat"], found(flat)["flat"].leads) == ("warning", ("V1",))


@pytest.mark.parametrize("seconds", [0.02, 0.5, 1.0, 2.5])
@pytest.mark.parametrize("rate", [50, 100, 2000])
def test_short_recordings_and_extreme_rates_are_checked(signals: list[np.ndarray], seconds: float, rate: int) -> None:
    signal = np.tile(signals[0], 10)[:, : max(1, round(seconds * rate))]
    for finding in check_quality(ECG(signal, rate)):
        assert finding.level in ("warning", "refused")


def test_a_refused_finding_and_another_unit_are_errors(signals: list[np.ndarray]) -> None:
    ecg = ECG(signals[0], RATE, "a")
    refuse(ecg, check_quality(ecg))
    mixed = replace(ecg, signal=signals[0][[0, 1, 6, 7, 8, 9, 10, 11, 2, 3, 4, 5]])
    with pytest.raises(EcgkitError, match="ECG a"):
        refuse(mixed, check_quality(mixed))
    loud = replace(ecg, signal=1000 * signals[0])
    assert (check_quality(loud)[0].name, check_quality(ecg)) == ("unit", ())
    with pytest.raises(EcgkitError, match="microvolts"):
        refuse(loud, check_quality(loud))


def test_many_at_once_have_the_findings_of_each_alone(signals: list[np.ndarray]) -> None:
    random = np.random.default_rng(0)
    gap, long = signals[3].copy(), np.tile(signals[9], 3)
    gap[2, 200:260] = np.nan
    gap[4] = np.nan
    long[7, 500:] = 0
    planted = [
        signals[0],
        gap,
        replaced(signals[4], ["V2", "V3", "V4"], 0.3),
        signals[5] + random.normal(0, 0.2, signals[5].shape),
        signals[6][:, :640],
        signals[7] * 1000,
        np.zeros_like(signals[0]),
        -signals[8],
        long,
        np.clip(signals[10], -0.1, 0.2),
    ]
    ecgs = [ECG(signal, rate) for signal in planted for rate in (100, 250)]
    alone = [check_quality(ecg) for ecg in ecgs]
    assert len({finding.name for some in alone for finding in some}) >= 8
    together = check_many(ecgs)
    for one, many in zip(alone, together, strict=True):
        assert [(f.name, f.level, f.text, f.leads) for f in many] == [(f.name, f.level, f.text, f.leads) for f in one]
        for mine, other in zip(many, one, strict=True):
            assert mine.evidence == pytest.approx(other.evidence, rel=1e-9)


@pytest.mark.parametrize("rate", [62.5, 75, 90, 110, 257])
def test_any_sampling_rate_is_checked(rate: float) -> None:
    demo = Demo(n_records=20, seed=1, sampling_rate=500)
    for record_id in demo.records["record_id"][:3]:
        signal = resample(demo.read(record_id).signal.astype(np.float64), sampling_rate=500, target_rate=rate)
        names = {finding.name for finding in check_quality(ECG(signal, rate))}
        assert names.isdisjoint({"unit", "einthoven", "beats"})


def test_hum_of_both_mains_is_one_finding(signals: list[np.ndarray]) -> None:
    times = np.arange(5000) / 500
    signal = resample(signals[0].astype(np.float64), sampling_rate=100, target_rate=500)
    both = 0.1 * np.sin(2 * np.pi * np.outer([50, 60], times)).sum(axis=0)
    for ecg in (ECG(signal + both, 500), ECG(np.tile(signal + both, 3), 500)):
        hum = [finding for finding in check_quality(ecg) if finding.name == "hum"]
        assert [finding.evidence["Hz"] for finding in hum] == [50]
