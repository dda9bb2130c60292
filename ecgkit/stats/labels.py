"""Names of metrics, targets and threshold policies, and numbers with intervals, as they are printed."""

from __future__ import annotations

from collections.abc import Mapping

METRIC_NAMES = {
    "auc": "AUC",
    "f1": "F1",
    "f1_at_half": "F1 at 0.5",
    "brier": "Brier score",
    "ece": "ECE",
    "r2": "R2",
    "r2_uncapped": "R2 uncapped",
    "mae": "mean absolute error",
    "mae_uncapped": "mean absolute error uncapped",
    "limit_low": "lower limit of agreement",
    "limit_high": "upper limit of agreement",
}
"""Metrics whose printed name is not their key with spaces."""

MEANS = ("macro", "micro", "samples")
"""Keys of ``metrics.json`` that are not classes."""

SUPERCLASSES = {
    "NORM": "normal ECG",
    "MI": "myocardial infarction",
    "STTC": "ST/T change",
    "CD": "conduction disturbance",
    "HYP": "hypertrophy",
}
"""The five superclasses of PTB-XL, spelled out."""

STATEMENTS = {
    "NDT": "non-diagnostic T wave changes",
    "NST_": "non-specific ST changes",
    "DIG": "effect of digitalis",
    "LNGQT": "long QT interval",
    "NORM": "normal ECG",
    "IMI": "inferior infarction",
    "ASMI": "anteroseptal infarction",
    "LVH": "left ventricular hypertrophy",
    "LAFB": "left anterior fascicular block",
    "ISC_": "non-specific ischaemia",
    "IRBBB": "incomplete right bundle branch block",
    "1AVB": "first degree AV block",
    "IVCD": "intraventricular conduction delay",
    "ISCAL": "anterolateral ischaemia",
    "CRBBB": "complete right bundle branch block",
    "CLBBB": "complete left bundle branch block",
    "ILMI": "inferolateral infarction",
    "LAO/LAE": "left atrial enlargement",
    "AMI": "anterior infarction",
    "ALMI": "anterolateral infarction",
    "ISCIN": "inferior ischaemia",
    "INJAS": "anteroseptal subendocardial injury",
    "LMI": "lateral infarction",
    "ISCIL": "inferolateral ischaemia",
    "LPFB": "left posterior fascicular block",
    "ISCAS": "anteroseptal ischaemia",
    "INJAL": "anterolateral subendocardial injury",
    "ISCLA": "lateral ischaemia",
    "RVH": "right ventricular hypertrophy",
    "ANEUR": "signs of a ventricular aneurysm",
    "RAO/RAE": "right atrial enlargement",
    "EL": "electrolytes or a drug",
    "WPW": "Wolff-Parkinson-White pattern",
    "ILBBB": "incomplete left bundle branch block",
    "IPLMI": "inferoposterolateral infarction",
    "ISCAN": "anterior ischaemia",
    "IPMI": "inferoposterior infarction",
    "SEHYP": "septal hypertrophy",
    "INJIN": "inferior subendocardial injury",
    "INJLA": "lateral subendocardial injury",
    "PMI": "posterior infarction",
    "3AVB": "third degree AV block",
    "INJIL": "inferolateral subendocardial injury",
    "2AVB": "second degree AV block",
    "ABQRS": "abnormal QRS complex",
    "PVC": "premature ventricular beat",
    "STD_": "ST depression",
    "VCLVH": "voltage of left ventricular hypertrophy",
    "QWAVE": "Q waves",
    "LOWT": "low T waves",
    "NT_": "non-specific T wave changes",
    "PAC": "premature atrial beat",
    "LPR": "long PR interval",
    "INVT": "inverted T waves",
    "LVOLT": "low voltage of QRS",
    "HVOLT": "high voltage of QRS",
    "TAB_": "abnormal T waves",
    "STE_": "ST elevation",
    "PRC(S)": "premature beats",
    "SR": "sinus rhythm",
    "AFIB": "atrial fibrillation",
    "STACH": "sinus tachycardia",
    "SARRH": "sinus arrhythmia",
    "SBRAD": "sinus bradycardia",
    "PACE": "pacemaker",
    "SVARR": "supraventricular arrhythmia",
    "BIGU": "bigeminy",
    "AFLT": "atrial flutter",
    "SVTAC": "supraventricular tachycardia",
    "PSVT": "paroxysmal supraventricular tachycardia",
    "TRIGU": "trigeminy",
}
"""The 71 statements of PTB-XL, spelled out; their codes are those of SCP-ECG (EN 1064)."""

SUBCLASSES = {
    "LAFB/LPFB": "left anterior or posterior fascicular block",
    "_AVB": "AV block",
    "ISCA": "anterior ischaemia",
    "ISCI": "inferior ischaemia",
    "STTC": "ST/T change",
}
"""The subclasses of PTB-XL that are no statement of the same name, spelled out."""

CODED_SETS = ("subclass", "diagnostic", "form", "rhythm", "all")
"""The label sets of PTB-XL whose classes are SCP codes or groups of them."""

POLICY_DESCRIPTIONS = {
    "best_f1": "the one with the highest F1",
    "sensitivity_90": "the one with the highest specificity at a sensitivity of at least 0.90",
    "specificity_95": "the one with the highest sensitivity at a specificity of at least 0.95",
    "youden": "the one with the highest sum of sensitivity and specificity",
}
"""The criterion of each threshold policy."""


SHOWN_METRICS = (
    *("auc", "average_precision", "sensitivity", "specificity", "precision", "f1", "brier", "ece"),
    *("r2", "mae"),
)
"""The metrics that a reader is shown first."""


def metric_name(metric: str) -> str:
    """Return the printed name of a metric, such as ``"AUC"`` for ``"auc"``."""
    return METRIC_NAMES.get(metric, metric.replace("_", " "))


def meaning(name: str, label_set: str) -> str:
    """Return what the code of a class stands for, such as ``"inferior infarction"``; empty where it is not known.

    A code of the user's own labels may have another meaning than the same letters in PTB-XL, so that codes other than
    the superclasses are spelled out in the label sets of PTB-XL only.
    """
    return (STATEMENTS | SUBCLASSES if label_set in CODED_SETS else SUPERCLASSES).get(name, "")


def spelled_out(name: str, label_set: str) -> str:
    """Return the code of a class with what it stands for, such as ``"IMI, inferior infarction"``."""
    return ", ".join(filter(None, (name, meaning(name, label_set))))


def target_name(name: object, unit: str = "") -> str:
    """Return the printed name of a target or a column, such as ``"body mass index (kg/m²)"`` for ``"bmi"``."""
    printed = "body mass index" if name == "bmi" else str(name).replace("_", " ")
    return f"{printed} ({unit})" if unit else printed


def format_interval(entry: Mapping[str, float | None], *, digits: int = 3, signed: bool = False) -> str:
    """Format a number with its 95 % interval, such as ``"0.927 (0.919 to 0.934)"``.

    Parameters
    ----------
    entry : mapping
        ``value``, ``low`` and ``high``, as in ``metrics.json``; None where a number is not defined.
    digits : int, default 3
        Digits after the decimal point.
    signed : bool, default False
        Write a plus before positive numbers and zero, as for differences.

    Returns
    -------
    str
        ``"-"`` without a value, and the value alone without an interval.
    """
    numbers, sign = (entry[name] for name in ("value", "low", "high")), "+" if signed else ""
    # A negative zero would read as a small negative number.
    value, low, high = (None if x is None else f"{round(x, digits) + 0.0:{sign}.{digits}f}" for x in numbers)
    if value is None:
        return "-"
    return f"{value} ({low} to {high})" if low is not None and high is not None else value
