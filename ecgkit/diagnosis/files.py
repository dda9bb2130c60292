"""The files of a diagnosis: examples, three of which are refused; their contents; mean beats of the decided classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit.diagnosis.config import EXAMPLES, DiagnosisConfig
from ecgkit.errors import EcgkitError
from ecgkit.inference.answers import Answer
from ecgkit.readers import save_ecg
from ecgkit.readers.files import find_ecg_files
from ecgkit.readers.saving import WRITERS
from ecgkit.signals.beats import MeanBeats, beat_times, group_beats, record_beat
from ecgkit.sources.demo import Demo

N_EXAMPLES = 24


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
        chest leads; and one that is not an ECG.
    """
    demo, suffixes = Demo(n_records=200, sampling_rate=500), list(WRITERS)
    records = demo.records.set_index("record_id")
    for position, record_id in enumerate(records.index[:N_EXAMPLES]):
        facts = {"age": float(records.loc[record_id, "age"]), "sex": records.loc[record_id, "sex"]}
        ecg = replace(demo.read(record_id), **facts)
        save_ecg(ecg, folder / f"example_{position + 1:02d}{suffixes[position % len(suffixes)]}")
    save_ecg(replace(ecg, signal=ecg.signal * 1000), folder / "in_microvolts.npz")
    limbs = np.where(np.arange(12)[:, None] < 6, ecg.signal, np.nan).astype(np.float32)
    save_ecg(replace(ecg, signal=limbs), folder / "limb_leads_only.csv")
    (folder / "letter.csv").write_text("Dear colleague,\nthe ECG is attached.\n")
    return find_ecg_files([folder])


def describe(answers: Sequence[Answer]) -> pd.DataFrame:
    """Describe the recordings behind answers.

    Parameters
    ----------
    answers : sequence of Answer
        As from `ecgkit.inference.answers.answer_ecgs`.

    Returns
    -------
    DataFrame
        One row per file: ``seconds``, ``sampling_rate`` in Hz, ``age``, ``sex``, ``missing_leads``, ``findings`` and
        ``error``, which is empty unless the file cannot be opened.
    """
    columns = ["record", "seconds", "sampling_rate", "age", "sex", "missing_leads", "findings", "error"]
    table = pd.DataFrame([answer.to_dict() for answer in answers], columns=columns).set_index("record")
    table["missing_leads"] = table["missing_leads"].map(", ".join)
    table["findings"] = ["; ".join(finding.text for finding in answer.findings) for answer in answers]
    table["error"] = [answer.refusal if answer.ecg is None else "" for answer in answers]
    return table


def typical_answer(answers: Sequence[Answer]) -> Answer:
    """Return the answer whose largest probability is the median of all files with a prediction.

    Raises
    ------
    EcgkitError
        If no file has a prediction.
    """
    predicted = [answer for answer in answers if answer.prediction]
    if not predicted:
        raise EcgkitError(f"none of the files has an answer: {answers[0].refusal}")
    order = sorted(predicted, key=lambda answer: max(answer.probabilities.values(), default=0.0))
    return order[len(order) // 2]


def class_beats(answers: Sequence[Answer], classes: Sequence[str]) -> MeanBeats | None:
    """Average the mean beats of the files for which each class is decided.

    Parameters
    ----------
    answers : sequence of Answer
        As from `ecgkit.inference.answers.answer_ecgs`.
    classes : sequence of str
        The classes of the model.

    Returns
    -------
    MeanBeats or None
        With the 10th and 90th percentile of the files; None if no class is decided for a file with a beat.
    """
    read = [(answer.ecg, answer.peaks, answer.prediction) for answer in answers]
    known = [(ecg, peaks, said.decisions) for ecg, peaks, said in read if ecg and said and len(said.decisions)]
    each = [record_beat(ecg.signal, peaks, sampling_rate=ecg.sampling_rate) for ecg, peaks, _ in known]
    length = min((beat.shape[1] for beat in each), default=0)
    of_files = np.stack([beat[:, :length] for beat in each]) if each else np.zeros((0, 12, 0), np.float32)
    decided = np.array([decisions for _, _, decisions in known], bool).reshape(len(known), len(classes))
    groups = {name: np.flatnonzero(column) for name, column in zip(classes, decided.T, strict=True)}
    if not any(np.isfinite(of_files[rows]).any() for rows in groups.values()):
        return None
    times = beat_times(min(ecg.sampling_rate for ecg, _, _ in known))[:length]
    return group_beats(of_files, groups, np.arange(len(each)), times=times)
