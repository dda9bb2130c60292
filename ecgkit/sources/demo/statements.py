"""The SCP statements that the demo makes, and the label sets that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd


class Statement(NamedTuple):
    """One SCP code: the diagnostic classes that it belongs to, or none if it names a rhythm, and its words."""

    superclass: str
    subclass: str
    words: str


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
"""SCP code to statement, diagnoses before rhythms."""

DIAGNOSES = tuple(code for code, statement in STATEMENTS.items() if statement.superclass)
RHYTHMS = tuple(code for code, statement in STATEMENTS.items() if not statement.superclass)
SUBCLASSES = tuple(dict.fromkeys(STATEMENTS[code].subclass for code in DIAGNOSES))


def label_tables(codes: Sequence[dict[str, float]]) -> dict[str, pd.DataFrame]:
    """Make the label sets from the SCP codes of each record.

    A record carries a label if one of its codes maps to it, whatever the likelihood.

    Parameters
    ----------
    codes : sequence of dict
        For each record, SCP code to likelihood.

    Returns
    -------
    dict of str to DataFrame
        ``superclass``, ``subclass``, ``diagnostic`` and ``rhythm``: one boolean column a class.
    """
    every = tuple(STATEMENTS)
    has = np.array([[code in record for code in every] for record in codes], dtype=bool).reshape(len(codes), len(every))
    superclass = {code: STATEMENTS[code].superclass for code in DIAGNOSES}
    subclass = {code: STATEMENTS[code].subclass for code in DIAGNOSES}
    sets = {
        "superclass": (SUPERCLASSES, superclass),
        "subclass": (SUBCLASSES, subclass),
        "diagnostic": (DIAGNOSES, {code: code for code in DIAGNOSES}),
        "rhythm": (RHYTHMS, {code: code for code in RHYTHMS}),
    }
    tables = {}
    for name, (classes, mapping) in sets.items():
        columns = {c: has[:, [mapping.get(code) == c for code in every]].any(axis=1) for c in classes}
        tables[name] = pd.DataFrame(columns, index=pd.RangeIndex(len(codes)))
    return tables
