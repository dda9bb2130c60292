"""The SCP statements of the demo, and the label sets that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd


class Statement(NamedTuple):
    """One SCP code: its diagnostic classes (empty for a rhythm), and its text in a report."""

    superclass: str
    subclass: str
    text: str


LABEL_SETS = ("superclass", "subclass", "diagnostic", "rhythm")
SUPERCLASSES = ("NORM", "MI", "STTC", "CD", "HYP")

STATEMENTS = {
    "NDT": Statement("STTC", "STTC", "non-diagnostic t abnormalities"),
    "NST_": Statement("STTC", "NST_", "non-specific st depression"),
    "NORM": Statement("NORM", "NORM", "normal ecg"),
    "IMI": Statement("MI", "IMI", "inferior myocardial infarction"),
    "ASMI": Statement("MI", "AMI", "anteroseptal myocardial infarction"),
    "LVH": Statement("HYP", "LVH", "left ventricular hypertrophy"),
    "LAFB": Statement("CD", "LAFB/LPFB", "left anterior fascicular block"),
    "ISC_": Statement("STTC", "ISC_", "st-t changes as in ischaemia"),
    "IRBBB": Statement("CD", "IRBBB", "incomplete right bundle branch block"),
    "1AVB": Statement("CD", "_AVB", "first degree av block"),
    "IVCD": Statement("CD", "IVCD", "intraventricular conduction delay"),
    "ISCAL": Statement("STTC", "ISCA", "t inversion as in anterolateral ischaemia"),
    "CRBBB": Statement("CD", "CRBBB", "complete right bundle branch block"),
    "CLBBB": Statement("CD", "CLBBB", "complete left bundle branch block"),
    "ILMI": Statement("MI", "IMI", "inferolateral myocardial infarction"),
    "LAO/LAE": Statement("HYP", "LAO/LAE", "left atrial enlargement"),
    "AMI": Statement("MI", "AMI", "anterior myocardial infarction"),
    "ALMI": Statement("MI", "AMI", "anterolateral myocardial infarction"),
    "ISCIN": Statement("STTC", "ISCI", "t inversion as in inferior ischaemia"),
    "LMI": Statement("MI", "LMI", "lateral myocardial infarction"),
    "SR": Statement("", "", "sinus rhythm"),
    "AFIB": Statement("", "", "atrial fibrillation"),
    "STACH": Statement("", "", "sinus tachycardia"),
    "SARRH": Statement("", "", "sinus arrhythmia"),
    "SBRAD": Statement("", "", "sinus bradycardia"),
}
"""The statement of each SCP code, diagnoses before rhythms."""

DIAGNOSES = tuple(code for code, statement in STATEMENTS.items() if statement.superclass)
RHYTHMS = tuple(code for code, statement in STATEMENTS.items() if not statement.superclass)
SUBCLASSES = tuple(dict.fromkeys(STATEMENTS[code].subclass for code in DIAGNOSES))


def label_tables(codes: Sequence[dict[str, float]]) -> dict[str, pd.DataFrame]:
    """Return the label sets: a record has a label if one of its codes belongs to it, whatever the likelihood.

    Parameters
    ----------
    codes : sequence of dict
        For each record, SCP code to likelihood.

    Returns
    -------
    dict of str to DataFrame
        ``superclass``, ``subclass``, ``diagnostic`` and ``rhythm``: one boolean column per class.
    """
    has = {code: np.array([code in record for record in codes], dtype=bool) for code in STATEMENTS}
    tables = {}
    for name, classes in (("superclass", SUPERCLASSES), ("subclass", SUBCLASSES)):
        members = {c: [has[code] for code in DIAGNOSES if getattr(STATEMENTS[code], name) == c] for c in classes}
        tables[name] = pd.DataFrame({c: np.any(columns, axis=0) for c, columns in members.items()})
    tables["diagnostic"] = pd.DataFrame({code: has[code] for code in DIAGNOSES})
    tables["rhythm"] = pd.DataFrame({code: has[code] for code in RHYTHMS})
    return tables
