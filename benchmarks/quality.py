"""Fit and measure the checks of `ecgkit.signals.findings` on PTB-XL with planted faults.

    python benchmarks/quality.py PTBXL [--fit] [--records 9000] [--planted 500] [--auc MODEL ...]

``PTBXL`` is the unpacked data set. Records without a note on noise or electrodes are taken. ``--fit`` fits the weights
of misplaced leads on folds 1-8 (``ecgkit/signals/misplacement.json``). Then the false alarms on fold 9 are printed, and
the share of its records in which each planted fault is found, by its own check and by any, in percent with 95 %
intervals (Wilson). Noise and wander are planted in nine electrodes, and the leads derived from these. ``--auc`` prints
what each fault costs models on fold 9 instead: those that ship, by name, or model folders such as a session's, in
bfloat16 where the machine has it and the model allows it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, rfft, rfftfreq
from scipy.signal import butter, sosfiltfilt
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ecgkit import load_model
from ecgkit.signals import misplacement
from ecgkit.signals.beats import record_beat
from ecgkit.signals.ecg import ECG
from ecgkit.signals.filters import resample
from ecgkit.signals.findings import check_quality
from ecgkit.signals.rhythm import heart_rate, r_peaks
from ecgkit.sources.ptbxl.source import PtbXl

NOTES = ["baseline_drift", "static_noise", "burst_noise", "electrodes_problems"]
RATE, N = 100.0, 1000
LOW_PASS = butter(4, 40, fs=RATE, output="sos")
SWAPPED_ARMS = ([0, 2, 1, 4, 3, 5, 6, 7, 8, 9, 10, 11], [-1] + 11 * [1])
REVERSED_CHEST = [*range(6), *range(11, 5, -1)]
FALSE_ALARMS = 0.001
"""Of each kind of misplacement on folds 1-8."""

Signal = NDArray[np.float32]
Random = np.random.Generator


def from_electrodes(at: NDArray[np.floating]) -> Signal:
    """Return the leads of nine electrodes: both arms, the left leg, V1-V6."""
    right, left, leg = at[:3]
    one, two = left - right, leg - right
    limbs = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    return np.vstack([*limbs, at[3:] - (right + left + leg) / 3]).astype(np.float32)


def wander(random: Random, size: float) -> Signal:
    """Return slow waves of a height in mV from peak to peak, other ones at each electrode."""
    times = np.arange(N) / RATE
    phases, frequencies = random.uniform(0, 2 * np.pi, 9), random.uniform(0.1, 0.4, 9)
    return from_electrodes(size / 2 * np.sin(2 * np.pi * np.outer(frequencies, times) + phases[:, None]))


def muscle(random: Random, size: float) -> Signal:
    """Return noise above 20 Hz of a root mean square in mV at each electrode."""
    spectrum = rfft(random.normal(size=(9, N)), axis=1) * (rfftfreq(N, 1 / RATE) >= 20)
    noise = irfft(spectrum, N, axis=1)
    return from_electrodes(size * noise / noise.std(axis=1, keepdims=True))


def hum(signal: Signal, random: Random, frequency: float) -> tuple[Signal, float]:
    """Return the record at 500 Hz with hum of 0.3 mV at one electrode and less at the others."""
    fine = resample(signal, sampling_rate=RATE, target_rate=500)
    wave = np.sin(2 * np.pi * frequency * np.arange(fine.shape[1]) / 500 + random.uniform(0, 6))
    sizes = random.uniform(0, 0.3, 9)
    sizes[random.integers(9)] = 0.3
    return (fine + from_electrodes(np.outer(sizes, wave))).astype(np.float32), 500.0


def with_leads(signal: Signal, leads: Sequence[int], values: float | Signal) -> Signal:
    """Replace some leads."""
    result = signal.copy()
    result[list(leads)] = values
    return result


def detached(signal: Signal, random: Random) -> Signal:
    """Replace one chest lead by noise and a drift."""
    noise = random.normal(0, 0.05, N) + np.cumsum(random.normal(0, 0.02, N))
    return with_leads(signal, [int(random.integers(6, 12))], noise.astype(np.float32))


def clipped(signal: Signal, random: Random) -> Signal:
    """Clip one lead at 60 % of its largest values."""
    result, lead = signal.copy(), int(random.integers(12))
    centre = np.median(result[lead])
    limit = 0.6 * np.percentile(np.abs(result[lead] - centre), 99.5)
    result[lead] = np.clip(result[lead], centre - limit, centre + limit)
    return result


def shuffled(signal: Signal, random: Random) -> Signal:
    """Put V1-V6 into another order."""
    order = random.permutation(6)
    while (order == np.arange(6)).all():
        order = random.permutation(6)
    return signal[[*range(6), *(6 + order)]]


def neighbours(signal: Signal, random: Random) -> Signal:
    """Exchange two neighbouring chest leads."""
    first = int(random.integers(6, 11))
    order = list(range(12))
    order[first], order[first + 1] = first + 1, first
    return signal[order]


def swapped(signal: Signal) -> Signal:
    """Swap the electrodes of the arms."""
    order, signs = SWAPPED_ARMS
    return signal[order] * np.array(signs, np.float32)[:, None]


def at_rate(signal: Signal, rate: float) -> Signal:
    """Return a record with samples at another rate, which is then called 100 Hz."""
    return resample(signal, sampling_rate=RATE, target_rate=rate).astype(np.float32)


Plant = Callable[[Signal, Random], Signal | tuple[Signal, float]]

FAULTS: dict[str, tuple[str, Plant]] = {
    "lead order I II V1-V6 III aVR aVL aVF": ("einthoven", lambda s, _: s[[0, 1, 6, 7, 8, 9, 10, 11, 2, 3, 4, 5]]),
    "derived leads zero": ("einthoven", lambda s, _: with_leads(s, range(2, 6), 0)),
    "II twice as large": ("einthoven", lambda s, _: with_leads(s, [1], 2 * s[1])),
    "V1 to V6 in microvolts": ("unit", lambda s, _: with_leads(s, range(6, 12), 1000 * s[6:])),
    "V2 in microvolts": ("unit", lambda s, _: with_leads(s, [7], 1000 * s[7])),
    "V2 flat": ("flat", lambda s, _: with_leads(s, [7], 0)),
    "V2 to V6 flat": ("flat", lambda s, _: with_leads(s, range(7, 12), 0)),
    "one lead clipped": ("clipped", clipped),
    "one chest lead detached": ("detached", detached),
    "V3 is a copy of V4": ("duplicate", lambda s, _: with_leads(s, [8], s[9])),
    "1 s of NaN in all leads": ("gap", lambda s, _: np.where(np.arange(N) // 100 == 4, np.float32(np.nan), s)),
    "0.1 s of -32.768 mV in all leads": (
        "extreme",
        lambda s, _: np.where(np.arange(N) // 10 == 40, np.float32(-32.768), s),
    ),
    "wander of 1 mV": ("wander", lambda s, r: s + wander(r, 1.0)),
    "muscle noise of 0.1 mV": ("muscle", lambda s, r: s + muscle(r, 0.1)),
    "50 Hz hum of 0.3 mV": ("hum", lambda s, r: hum(s, r, 50)),
    "60 Hz hum of 0.3 mV": ("hum", lambda s, r: hum(s, r, 60)),
    "no heartbeat": ("beats", lambda s, r: s.std() * 0.1 * muscle(r, 1.0)),
    "arm leads swapped": ("arms", lambda s, _: swapped(s)),
    "V1 to V6 reversed": ("chest", lambda s, _: s[REVERSED_CHEST]),
    "V1 to V6 in a random order": ("chest", shuffled),
    "two neighbouring chest leads exchanged": ("chest", neighbours),
    "polarity inverted": ("polarity", lambda s, _: -s),
    "half of the rate (250 Hz called 500)": ("rate_too_high", lambda s, _: at_rate(s, 50)),
    "twice the rate (500 Hz called 250)": ("rate_too_low", lambda s, _: at_rate(s, 200)),
}
"""The check that should find each fault, and how it is planted."""


CHANGES: dict[str, Plant] = {
    "none": lambda s, _: s,
    "offset of up to 1 mV at each electrode": lambda s, r: s + from_electrodes(r.uniform(-1, 1, (9, 1)) + np.zeros(N)),
    "gain of 1.1": lambda s, _: np.float32(1.1) * s,
    "low-pass of 40 Hz": lambda s, _: sosfiltfilt(LOW_PASS, s).astype(np.float32),
    "limb leads flat": lambda s, _: with_leads(s, range(6), 0),
}
"""Changes that no check has to find."""


def clean_records(source: PtbXl, folds: Sequence[int]) -> list[str]:
    """List the records of folds that have no note on noise or electrodes."""
    records = source.records
    return records.loc[records["fold"].isin(folds) & records[NOTES].isna().all(axis=1), "record_id"].tolist()


def described(signal: Signal) -> NDArray[np.float64] | None:
    """Return the features of a record; None without beats."""
    peaks = r_peaks(signal, sampling_rate=RATE)
    beat = record_beat(signal, sampling_rate=RATE)
    if len(peaks) < misplacement.FEWEST_BEATS or not np.isfinite(beat).all():
        return None
    return misplacement.features(beat[None], [heart_rate(peaks, sampling_rate=RATE)], sampling_rate=RATE)[0]


def fit(source: PtbXl, n_records: int) -> None:
    """Fit the weights on records as they are and with each fault, and write them."""
    random = np.random.default_rng(0)
    chosen = random.permutation(clean_records(source, range(1, 9)))[:n_records]
    rows: list[tuple[str, NDArray[np.float64]]] = []
    kinds = ("arms", "chest", "polarity", "rate_too_high", "rate_too_low")
    plants = {"V1 to V6 reversed", "V1 to V6 in a random order"}
    for number, record_id in enumerate(chosen):
        signal = np.asarray(source.read(record_id).signal)
        planted = [("none", signal)]
        for fault, (kind, plant) in FAULTS.items():
            if kind in kinds and (kind != "chest" or fault in plants) and number % 3 == 0:
                planted.append((kind, np.asarray(plant(signal, random))))
        rows += [(kind, found) for kind, values in planted if (found := described(values)) is not None]
    labels, features = np.array([kind for kind, _ in rows]), np.array([row for _, row in rows])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500)).fit(features, labels)
    scaler, logistic = model[0], model[1]
    weights = dict(zip(logistic.classes_, logistic.coef_ / scaler.scale_, strict=True))
    result = {}
    for kind in kinds:
        slope = np.array([float(f"{value:.4g}") for value in weights[kind] - weights["none"]])
        limit = np.quantile(features[labels == "none"] @ slope, 1 - FALSE_ALARMS)
        result[kind] = [*slope.tolist(), float(f"{-limit:.6g}")]
    text = json.dumps(result, separators=(",", ":")).replace("],", "],\n")
    misplacement.WEIGHTS.write_text(text + "\n", encoding="utf-8")
    misplacement._weights.cache_clear()
    print(f"fitted on {len(chosen)} records of folds 1-8, {len(rows)} rows")


def names_found(signal: Signal, rate: float) -> set[str]:
    """Return the names of what is found."""
    return {finding.name for finding in check_quality(ECG(signal, rate))}


def share(hits: int, total: int) -> str:
    """Return a share with its interval, in percent."""
    interval = binomtest(hits, total).proportion_ci(method="wilson")
    return f"{100 * hits / total:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def measure(source: PtbXl, record_ids: Sequence[str], n_planted: int | None) -> None:
    """Print false alarms and sensitivities."""
    signals = [np.asarray(source.read(record_id).signal) for record_id in record_ids]
    start = time.process_time()
    alarms = [names_found(signal, RATE) for signal in signals]
    print(f"{1000 * (time.process_time() - start) / len(signals):.1f} ms of CPU time per record")
    print(f"| a finding in records without a fault | {share(sum(map(bool, alarms)), len(alarms))} |")
    for name in sorted(set().union(*alarms)):
        print(f"| {name} | {share(sum(name in found for found in alarms), len(alarms))} |")
    signals = signals[:n_planted]
    for fault, (check, plant) in FAULTS.items():
        random, hits, others = np.random.default_rng(1), 0, 0
        for signal in signals:
            planted = plant(signal, random)
            found = names_found(*planted) if isinstance(planted, tuple) else names_found(planted, RATE)
            hits += check in found
            others += bool(found)
        print(f"| {fault} | `{check}` | {share(hits, len(signals))} | {share(others, len(signals))} |", flush=True)


def measure_auc(source: PtbXl, record_ids: Sequence[str], names: Sequence[str]) -> None:
    """Print the macro AUC of each model without a fault, and what each fault costs it."""
    models = [load_model(name, precision="auto") for name in names]
    rows = source.records["record_id"].isin(record_ids).to_numpy()
    truth = source.labels["superclass"].loc[rows, list(models[0].classes)].to_numpy(bool)
    kept = truth.any(axis=1)
    signals = [np.asarray(source.read(record_id).signal) for record_id in record_ids]
    clean: list[float] = []
    print(f"| fault | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for fault, plant in (CHANGES | {fault: plant for fault, (_, plant) in FAULTS.items()}).items():
        random = np.random.default_rng(1)
        planted = [plant(signal, random) for signal in signals]
        ecgs = [ECG(*values) if isinstance(values, tuple) else ECG(values, RATE) for values in planted]
        predicted = [model.predict_proba(ecgs, anyway=True) for model in models]
        aucs = [float(roc_auc_score(truth[kept], prob[kept], average="macro")) for prob in predicted]
        clean = clean or aucs
        lost = aucs if fault == "none" else [one - auc for one, auc in zip(clean, aucs, strict=True)]
        print(f"| {fault} | {' | '.join(f'{value:.4f}' for value in lost)} |", flush=True)


def main() -> None:
    """Fit if asked for, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raw", type=Path)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--records", type=int, default=9000, help="of folds 1-8, for --fit (default: 9000)")
    parser.add_argument(
        "--planted", type=int, help="plant faults in the first so many records of fold 9 (default: all)"
    )
    parser.add_argument("--auc", nargs="+", metavar="MODEL")
    arguments = parser.parse_args()
    source = PtbXl(arguments.raw)
    if arguments.fit:
        fit(source, arguments.records)
    record_ids = clean_records(source, [9])
    if arguments.auc:
        measure_auc(source, record_ids[: arguments.planted], arguments.auc)
    else:
        measure(source, record_ids, arguments.planted)


if __name__ == "__main__":
    main()
