"""Small folders in the formats of published data sets, made from the demo's records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
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


def code15_folder(folder: Path, n_records: int = 30) -> Path:
    """CODE-15%: two parts that end in an empty record, in another order than the table; 7 or 10 s in 4,096 samples."""
    import h5py

    folder.mkdir(parents=True)
    signals = millivolts(n_records, 4000, 400)
    ids = np.arange(n_records) * 7 + 1169160
    part = np.arange(n_records) % 2
    for number in range(2):
        own = np.flatnonzero(part == number)[::-1]
        tracings = np.zeros((len(own) + 1, 4096, 12), np.float32)
        for row, record in enumerate(own):
            length = 2800 if record % 3 == 0 else 4000
            start = (4096 - length) // 2
            tracings[row, start : start + length] = signals[record][:, :length].T
        with h5py.File(folder / f"exams_part{number}.hdf5", "w") as file:
            file["exam_id"], file["tracings"] = np.append(ids[own], 0), tracings
    kinds = np.arange(n_records) % 5
    table = pd.DataFrame({"exam_id": ids, "age": 30 + np.arange(n_records), "is_male": np.arange(n_records) % 2 == 0})
    table["nn_predicted_age"] = 40.0
    for number, name in enumerate(("1dAVb", "RBBB", "LBBB", "SB", "ST", "AF")):
        table[name] = kinds == number + 1 if number < 4 else False
    table["patient_id"] = np.arange(n_records) // 2
    table["death"] = [("True", "False", "")[i % 3] for i in range(n_records)]
    table["timey"] = [("1.5", "2.0", "")[i % 3] for i in range(n_records)]
    table["normal_ecg"] = (kinds == 0) & (np.arange(n_records) % 10 == 0)
    table["trace_file"] = [f"exams_part{number}.hdf5" for number in part]
    table.to_csv(folder / "exams.csv", index=False)
    return folder


AHA = ("1", "22;23", "60+310;147", "106", "142+301;1")


def sph_folder(folder: Path, n_records: int = 20) -> Path:
    """SPH: one HDF5 file of half-precision floats per record, of 10 to 14 s at 500 Hz."""
    import h5py

    (folder / "records").mkdir(parents=True)
    lengths = 5000 + 1000 * (np.arange(n_records) % 3)
    for number, signal in enumerate(millivolts(n_records, 7000, 500), 1):
        with h5py.File(folder / "records" / f"A{number:05d}.h5", "w") as file:
            file["ecg"] = signal[:, : lengths[number - 1]].astype(np.float16)
    table = pd.DataFrame({"ECG_ID": [f"A{number:05d}" for number in range(1, n_records + 1)]})
    table["AHA_Code"] = [AHA[i % 5] for i in range(n_records)]
    table["Patient_ID"] = [f"S{i // 2:05d}" for i in range(n_records)]
    table["Age"], table["Sex"] = 20 + np.arange(n_records), ["M", "F"] * (n_records // 2)
    table["N"], table["Date"] = lengths, "2020-03-04"
    table.to_csv(folder / "metadata.csv", index=False)
    return folder


REPORTS = (
    ("Sinus rhythm", "Normal ECG", ""),
    ("Atrial fibrillation with rapid ventricular response", "", "Abnormal ECG"),
    ("Sinus bradycardia", "Borderline ECG", ""),
    ("Ventricular pacing", "", "Abnormal ECG"),
)


def mimic_folder(folder: Path, n_records: int = 24) -> Path:
    """MIMIC-IV-ECG: WFDB records with aVF before aVL, a gain of 200/mV, and the two tables in different orders."""
    order = [0, 1, 2, 3, 5, 4, *range(6, 12)]
    rows = []
    for number, signal in enumerate(millivolts(n_records, 5000, 500)):
        patient, study = 10_000_032 + number // 2, 40_689_238 + 13 * number
        inner = f"files/p{str(patient)[:4]}/p{patient}/s{study}"
        write_wfdb(folder / inner, str(study), signal[order], [LEADS[i] for i in order])
        rows.append((patient, study, study, "2180-07-23 08:44:00", f"{inner}/{study}"))
    columns = ["subject_id", "study_id", "file_name", "ecg_time", "path"]
    records = pd.DataFrame(rows, columns=columns)
    records.to_csv(folder / "record_list.csv", index=False)
    machine = records[["subject_id", "study_id"]].assign(cart_id=6848296, ecg_time=records["ecg_time"])
    for line in range(18):
        machine[f"report_{line}"] = [REPORTS[i % 4][line] if line < 3 else "" for i in range(n_records)]
    machine["bandwidth"], machine["filtering"] = "0.005-150 Hz", "60 Hz notch Baseline filter"
    machine["rr_interval"] = [65535 if i == 0 else 800 + i for i in range(n_records)]
    machine["p_onset"] = [29999 if i % 4 == 1 else 40 for i in range(n_records)]
    machine = machine.assign(p_end=150, qrs_onset=190, qrs_end=280, t_end=600, p_axis=32767, qrs_axis=-13, t_axis=42)
    machine[::-1].to_csv(folder / "machine_measurements.csv", index=False)
    return folder


def write_wfdb(folder: Path, name: str, signal: np.ndarray, leads: list[str]) -> None:
    """Write a record of format 16 with a gain of 200 steps per mV."""
    folder.mkdir(parents=True, exist_ok=True)
    values = np.rint(signal * 200).astype("<i2")
    values.T.tofile(folder / f"{name}.dat")
    lines = [f"{name} {len(leads)} 500 {values.shape[1]}"]
    lines += [
        f"{name}.dat 16 200.0(0)/mV 16 0 {row[0]} {int(row.astype(int).sum()) & 0xFFFF} 0 {lead}"
        for lead, row in zip(leads, values, strict=True)
    ]
    (folder / f"{name}.hea").write_text("\n".join(lines) + "\n")
