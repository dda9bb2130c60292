"""The SCP statements of the demo, and the label sets that follow from them."""

from __future__ import annotations

from typing import NamedTuple


class Statement(NamedTuple):
    """One SCP code: its diagnostic classes (empty for a rhythm), and its text in a report."""

    superclass: str
    subclass: str
    text: str


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
LABEL_SETS = {
    "superclass": {code: STATEMENTS[code].superclass for code in DIAGNOSES},
    "subclass": {code: STATEMENTS[code].subclass for code in DIAGNOSES},
    "diagnostic": {code: code for code in DIAGNOSES},
    "rhythm": {code: code for code in RHYTHMS},
}
"""For each label set the class of its codes."""
