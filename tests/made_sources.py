"""Small folders in the formats of published data sets, made from the demo's records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.io import savemat

from ecgkit.signals.ecg import LEADS
from ecgkit.sources import open_source

DX = ("426783006", "59118001,426783006", "164865005", "164934002", "164873001,164909002")


def millivolts(n_records: int, n_samples: int, sampling_rate: int) -> np.ndarray:
    """Signals of the demo at another rate, repeated to the length that is asked for; shape (n, 12, samples)."""
    from ecgkit.signals.filters import resample

    demo = open_source("demo", n_records=20, sampling_rate=500)
    found = []
    for record_id in demo.records["record_id"][:n_records]:
        signal = resample(demo.read(record_id).signal, sampling_rate=500, target_rate=sampling_rate)
        found.append(np.tile(signal, -(-n_samples // signal.shape[1]))[:, :n_samples])
    return np.stack([found[i % len(found)] for i in range(n_records)])


def write_cinc(
    folder: Path,
    name: str,
    signal: np.ndarray,
    *,
    rate: int = 500,
    comments: str = "#Age: 60\n#Sex: Male\n#Dx: 426783006\n",
    gain: int = 1000,
    steps_per_mv: int | None = None,
    leads: tuple[str, ...] = LEADS,
) -> None:
    """Write one record as PhysioNet/CinC does: a Matlab 4 file whose first 24 bytes WFDB skips, and a header."""
    folder.mkdir(parents=True, exist_ok=True)
    steps = np.rint(signal * (steps_per_mv or gain))
    values = np.where(np.isnan(steps), -32768, np.clip(steps, -32767, 32767)).astype("<i2")
    savemat(folder / f"{name}.mat", {"val": values}, format="4")
    lines = [f"{name} {len(leads)} {rate} {values.shape[1]} 12-May-2020 12:33:59"]
    lines += [
        f"{name}.mat 16+24 {gain}/mV 16 0 {row[0]} {int(row.astype(int).sum()) & 0xFFFF} 0 {lead}"
        for lead, row in zip(leads, values, strict=True)
    ]
    (folder / f"{name}.hea").write_text("\n".join(lines) + "\n" + comments)


def cinc_folder(folder: Path, n_records: int = 30) -> Path:
    """Records of all data sets of the challenge, in nested folders, each with its rate and length."""
    kinds = [("A", 500, 15), ("Q", 500, 10), ("E", 500, 10), ("JS", 500, 10), ("HR", 500, 10), ("S", 1000, 38)]
    signals = millivolts(n_records, 5000, 500)
    for number in range(n_records):
        prefix, rate, seconds = kinds[number % len(kinds)]
        signal = np.tile(np.repeat(signals[number], rate // 500, axis=1), 4)[:, : rate * seconds]
        sex = ("Male", "F", "female", "Unknown", "M")[number % 5]
        comments = f"# Age: {(57, 'NaN', 300, 41)[number % 4]}\n# Sex: {sex}\n# Dx: {DX[number % 5]}\n# Rx: Unknown\n"
        write_cinc(
            folder / prefix / f"g{number % 2 + 1}", f"{prefix}{number:05d}", signal, rate=rate, comments=comments
        )
    return folder
