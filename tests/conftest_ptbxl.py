"""A small folder with the layout of PTB-XL, with invented records."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

LEADS = ("I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6")
STATEMENTS = """,description,diagnostic,form,rhythm,diagnostic_class,diagnostic_subclass
INVA,an invented code that is form and diagnosis,1.0,1.0,,STTC,STX
NORM,normal,1.0,,,NORM,NORM
INFA,invented infarction,1.0,,,MI,MIX
INFB,another invented infarction,1.0,,,MI,MIX
BLOC,invented block,1.0,,,CD,CDX
HYPA,invented hypertrophy,1.0,,,HYP,HYX
FORM,invented form,,1.0,,,
SINU,invented rhythm,,,1.0,,
"""
CODES = (
    "{'NORM': 100.0, 'SINU': 0.0}",
    "{'INFA': 50.0, 'BLOC': 0.0}",
    "{'INVA': 100.0}",
    "{'HYPA': 15.0, 'INFA': 0.0, 'INFB': 100.0}",
    "{'FORM': 0.0, 'SINU': 0.0}",
)


def tiny_signal(ecg_id: int, rate: int) -> np.ndarray:
    """Return the signal of an invented record in microvolts, int16, shape (12, samples)."""
    rng = np.random.default_rng(ecg_id)
    time = np.arange(10 * rate) / rate
    limbs = 800 * np.sin(2 * np.pi * 1.2 * time + rng.uniform(0, 6, (8, 1))) + rng.normal(0, 40, (8, len(time)))
    one, two, chest = limbs[0], limbs[1], limbs[2:]
    rows = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2, *chest]
    return np.rint(rows).astype(np.int16)


def write_tiny_record(path: Path, signal: np.ndarray, rate: int) -> None:
    """Write a record as PTB-XL 1.0.3 has it: format 16, gain 1000/mV, baseline 0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{path.name} 12 {rate} {signal.shape[1]}"]
    for lead, row in zip(LEADS, signal, strict=True):
        lines.append(
            f"{path.name}.dat 16 1000.0(0)/mV 16 0 {row[0]} {int(row.astype(np.int64).sum()) % 65536} 0 {lead}"
        )
    path.with_name(f"{path.name}.hea").write_text("\n".join(lines) + "\n")
    path.with_name(f"{path.name}.dat").write_bytes(signal.T.astype("<i2").tobytes())


def make_ptbxl(folder: Path, n_records: int = 40, *, rates: tuple[int, ...] = (100,)) -> Path:
    """Make the folder: record ``i`` (from 1) is of patient ``i // 2`` and of fold ``patient % 10 + 1``."""
    ids = np.arange(1, n_records + 1)
    table = pd.DataFrame({"ecg_id": ids, "patient_id": (ids // 2).astype(float)})
    ages = np.where(ids % 13 == 0, 300.0, 20.0 + ids % 60)
    table["age"] = np.where(ids % 11 == 0, np.nan, ages)
    table["sex"] = ids % 2
    table["height"] = np.where(ids % 3 == 0, 170.0, np.nan)
    table["weight"] = np.where(ids % 4 == 0, 70.0, np.nan)
    table["nurse"] = 0.0
    table["site"] = np.where(ids % 5 == 0, np.nan, 2.0)
    table["device"] = np.where(ids % 2 == 0, "CS-12   E", "AT-6     6 ")
    table["recording_date"] = "1990-01-01 10:00:00"
    table["report"] = "an invented report, of no patient"
    table["scp_codes"] = [CODES[i % len(CODES)] for i in ids]
    table["validated_by_human"] = np.where(ids % 2 == 0, "True", "False")
    blank = (
        "heart_axis",
        "infarction_stadium1",
        "infarction_stadium2",
        "baseline_drift",
        "static_noise",
        "burst_noise",
    )
    for name in (*blank, "electrodes_problems", "extra_beats", "pacemaker"):
        table[name] = ""
    table["strat_fold"] = ids // 2 % 10 + 1
    for rate, column, suffix in ((100, "filename_lr", "lr"), (500, "filename_hr", "hr")):
        table[column] = [f"records{rate}/{i // 1000 * 1000:05d}/{i:05d}_{suffix}" for i in ids]
        if rate in rates:
            for i, file in zip(ids, table[column], strict=True):
                write_tiny_record(folder / file, tiny_signal(int(i), rate), rate)
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "ptbxl_database.csv", index=False)
    (folder / "scp_statements.csv").write_text(STATEMENTS)
    return folder


def publish(folder: Path) -> Path:
    """Add the licence and the list of checksums, as on PhysioNet."""
    (folder / "LICENSE.txt").write_text("an invented licence\n")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS.txt")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.relative_to(folder).as_posix()}" for path in files]
    (folder / "SHA256SUMS.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def tiny_ptbxl(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that makes a small PTB-XL folder: ``tiny_ptbxl(n_records=40, rates=(100,)) -> Path``."""

    def make(n_records: int = 40, *, rates: tuple[int, ...] = (100,), name: str = "ptbxl") -> Path:
        return make_ptbxl(tmp_path / name, n_records, rates=rates)

    return make
