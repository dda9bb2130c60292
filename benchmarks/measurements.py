"""Compare the intervals of `measure_ecg` with the planted ones of the demo, and with those of other libraries.

    python benchmarks/measurements.py [--records N] [--sampling-rate HZ] [--others neurokit2,openecg]

The demo knows where each wave begins and ends (`Demo.wave_boundaries`). An interval of a record counts for each of its
beats: the share of beats within 20 ms of the planted interval, of those in records where it was measured. Records with
atrial fibrillation have no P wave and are counted separately. The other libraries read lead II; install them first.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd

from ecgkit.signals.ecg import ECG, LEADS
from ecgkit.signals.measurements import measure_ecg
from ecgkit.sources.demo import Demo

INTERVALS = ("p_duration", "pr", "qrs_duration", "qt")
Intervals = dict[str, float]


def main() -> None:
    """Measure and print one table per library."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=400, help="default: 400")
    parser.add_argument("--sampling-rate", type=int, default=500, choices=(100, 500), help="in Hz, default: 500")
    parser.add_argument("--seed", type=int, default=7, help="of the demo, default: 7")
    parser.add_argument("--others", default="", help="neurokit2, openecg, or both with a comma")
    arguments = parser.parse_args()
    demo = Demo(n_records=arguments.records, sampling_rate=arguments.sampling_rate, seed=arguments.seed)
    methods: dict[str, Callable[[ECG], Intervals]] = {"ecgkit": measure_ecg}
    methods |= {name: OTHERS[name] for name in arguments.others.split(",") if name}
    for name, method in methods.items():
        table, seconds, false_p = compare(demo, method)
        print(f"\n{name}, {arguments.sampling_rate} Hz: {1000 * seconds:.1f} ms of CPU time per record, {false_p}")
        print(table.to_string(float_format=lambda value: f"{value:.3f}"))


def compare(demo: Demo, method: Callable[[ECG], Intervals]) -> tuple[pd.DataFrame, float, str]:
    """Return shares and errors per interval, the seconds per record, and the P waves found in atrial fibrillation."""
    rows, seconds, fibrillating, false_p = [], [], 0, 0
    for record_id in demo.records["record_id"]:
        ecg, waves = demo.read(record_id), demo.wave_boundaries(record_id)
        if waves.empty:
            continue
        start = time.process_time()
        found = method(ecg)
        seconds.append(time.process_time() - start)
        if waves["p_onset"].isna().any():
            fibrillating += 1
            false_p += bool(np.isfinite(found["pr"]))
            continue
        planted = {
            "p_duration": waves["p_end"] - waves["p_onset"],
            "pr": waves["qrs_onset"] - waves["p_onset"],
            "qrs_duration": waves["qrs_end"] - waves["qrs_onset"],
            "qt": waves["t_end"] - waves["qrs_onset"],
        }
        for name, values in planted.items():
            rows += [(name, found[name] - 1000 * value) for value in values]
    errors = pd.DataFrame(rows, columns=["interval", "error"])
    table: pd.DataFrame = errors.groupby("interval")["error"].agg(  # type: ignore[assignment] # several columns
        measured=lambda error: error.notna().mean(),
        within_20_ms=lambda error: (error.dropna().abs() <= 20).mean(),
        median_error="median",
        q05=lambda error: error.quantile(0.05),
        q95=lambda error: error.quantile(0.95),
    )
    return table.loc[list(INTERVALS)], float(np.median(seconds)), f"P in {false_p} of {fibrillating} fibrillating"


def measure_with_neurokit2(ecg: ECG) -> Intervals:
    """Return medians over the beats of neurokit2's wavelet delineation of lead II."""
    import neurokit2

    rate, lead = round(ecg.sampling_rate), ecg.signal[LEADS.index("II")]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cleaned = neurokit2.ecg_clean(lead, sampling_rate=rate)
            peaks = neurokit2.ecg_peaks(cleaned, sampling_rate=rate)[1]["ECG_R_Peaks"]
            _, waves = neurokit2.ecg_delineate(cleaned, peaks, sampling_rate=rate, method="dwt")
    except (ValueError, IndexError, ZeroDivisionError):  # neurokit2 raises where it finds too few beats
        return dict.fromkeys(INTERVALS, float("nan"))
    at = {name: np.asarray(waves[f"ECG_{name}"], dtype=float) for name in NEUROKIT_WAVES}
    p_on, p_off, r_on, r_off, t_off = (1000 * at[name] / rate for name in NEUROKIT_WAVES)
    pairs = {"p_duration": p_off - p_on, "pr": r_on - p_on, "qrs_duration": r_off - r_on, "qt": t_off - r_on}
    return {name: float(np.nanmedian(v)) if np.isfinite(v).any() else float("nan") for name, v in pairs.items()}


def measure_with_openecg(ecg: ECG) -> Intervals:
    """Return the intervals of openecg's report of lead II, which its neural network segments."""
    import openecg

    found = openecg.report(ecg.signal[LEADS.index("II")].astype(float), fs=round(ecg.sampling_rate)).intervals_ms
    return {name: float(found.get(name) or "nan") for name in INTERVALS}


NEUROKIT_WAVES = ("P_Onsets", "P_Offsets", "R_Onsets", "R_Offsets", "T_Offsets")
OTHERS: dict[str, Callable[[ECG], Intervals]] = {
    "neurokit2": measure_with_neurokit2,
    "openecg": measure_with_openecg,
}

if __name__ == "__main__":
    main()
