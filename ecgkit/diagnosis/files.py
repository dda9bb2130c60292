"""The files of a diagnosis: examples, three of which are refused; opened files; mean beats of the decided classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit.diagnosis.config import EXAMPLES, DiagnosisConfig
from ecgkit.errors import EcgkitError
from ecgkit.inference.files import find_ecg_files
from ecgkit.readers import open_ecg, save_ecg
from ecgkit.signals.beats import MeanBeats, beat_times, group_beats, record_beat
from ecgkit.signals.ecg import ECG
from ecgkit.sources.demo import Demo

N_EXAMPLES = 24
SUFFIXES = (".hea", ".csv", ".npz", ".edf")


def find_files(config: DiagnosisConfig, folder: Path) -> list[Path]:
    """List the files of a diagnosis; examples are made in ``folder``."""
    return make_examples(folder) if config.files == EXAMPLES else find_ecg_files(config.files.split(","))


def make_examples(folder: Path) -> list[Path]:
    """Write synthetic ECGs in four formats, and three files that are refused.

    Parameters
    ----------
    folder : Path
        Where they are written.

    Returns
    -------
    list of Path
        24 ECGs of 10 s at 500 Hz with age and sex; one whose values are microvolts though the file says mV; one without
        chest leads; and one that is no ECG.
    """
    demo = Demo(n_records=200, sampling_rate=500)
    records = demo.records.set_index("record_id")
    for position, record_id in enumerate(records.index[:N_EXAMPLES]):
        facts = {"age": float(records.loc[record_id, "age"]), "sex": records.loc[record_id, "sex"]}
        ecg = replace(demo.read(record_id), **facts)
        save_ecg(ecg, folder / f"example_{position + 1:02d}{SUFFIXES[position % len(SUFFIXES)]}")
    save_ecg(replace(ecg, signal=ecg.signal * 1000), folder / "in_microvolts.npz")
    limbs = np.where(np.arange(12)[:, None] < 6, ecg.signal, np.nan).astype(np.float32)
    save_ecg(replace(ecg, signal=limbs), folder / "limb_leads_only.csv")
    (folder / "letter.csv").write_text("Dear colleague,\nthe ECG is attached.\n")
    return find_ecg_files([folder])


def open_files(files: Sequence[Path], config: DiagnosisConfig) -> tuple[dict[str, ECG], pd.DataFrame]:
    """Open files and describe them.

    Parameters
    ----------
    files : sequence of Path
        As from `find_files`.
    config : DiagnosisConfig
        What the files do not say.

    Returns
    -------
    ecgs : dict of str to ECG
        Those that can be opened, by the names of their files.
    table : DataFrame
        One row per file: ``seconds``, ``sampling_rate`` in Hz, ``age``, ``sex``, ``missing_leads``, ``findings`` and
        ``error``.
    """
    ecgs: dict[str, ECG] = {}
    rows: dict[str, dict[str, object]] = {}
    for file in files:
        try:
            ecg = open_ecg(file, **config.hints)
        except EcgkitError as error:
            rows[str(file)] = {"error": str(error)}
            continue
        ecgs[str(file)] = ecg
        rows[str(file)] = {
            "seconds": ecg.duration,
            "sampling_rate": ecg.sampling_rate,
            "age": ecg.age,
            "sex": ecg.sex,
            "missing_leads": ", ".join(ecg.missing_leads),
            "findings": "; ".join(ecg.findings),
        }
    names = ["seconds", "sampling_rate", "age", "sex", "missing_leads", "findings", "error"]
    return ecgs, pd.DataFrame.from_dict(rows, orient="index").reindex(columns=names)


def typical_file(answers: pd.DataFrame) -> str:
    """Return the file whose largest probability is the median of all files with an answer.

    Raises
    ------
    EcgkitError
        If no file has an answer.
    """
    answered = answers[answers["error"] == ""]
    if answered.empty:
        raise EcgkitError(f"none of the files has an answer: {answers['error'].iloc[0]}")
    largest = answered.filter(like="probability_").max(axis=1)
    order = largest.sort_values().index
    return str(answered.loc[order[len(order) // 2], "record"])


def class_beats(ecgs: Mapping[str, ECG], answers: pd.DataFrame, classes: Sequence[str]) -> MeanBeats | None:
    """Average the mean beats of the files for which each class is decided.

    Parameters
    ----------
    ecgs : mapping of str to ECG
        By the names of their files.
    answers : DataFrame
        As from `ecgkit.inference.files.predict_files`.
    classes : sequence of str
        The classes of the model.

    Returns
    -------
    MeanBeats or None
        With the 10th and 90th percentile of the files; None if no class is decided for a file with a beat.
    """
    answered = answers[answers["error"] == ""]
    chosen = [ecgs[name] for name in answered["record"]]
    each = [record_beat(ecg.signal, sampling_rate=ecg.sampling_rate) for ecg in chosen]
    length = min((beat.shape[1] for beat in each), default=0)
    of_files = np.stack([beat[:, :length] for beat in each]) if each else np.zeros((0, 12, 0), np.float32)
    groups = {name: np.flatnonzero(answered[f"decision_{name}"].astype(bool)) for name in classes}
    if not any(np.isfinite(of_files[rows]).any() for rows in groups.values()):
        return None
    times = beat_times(min(ecg.sampling_rate for ecg in chosen))[:length]
    return group_beats(of_files, groups, np.arange(len(each)), times=times)
