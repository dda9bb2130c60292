"""The patients, their diseases, the properties of their hearts and recordings, and the folds.

Every column has its own stream of random numbers, so that record 17 is the same in a set of 100 and of 1,000 records
(except its fold: folds are balanced over the set).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError, check_choice
from ecgkit.sources.base import Column, record_table
from ecgkit.sources.demo.anatomy import FloatArray
from ecgkit.sources.demo.noise import DEVICES
from ecgkit.sources.demo.statements import RHYTHMS, STATEMENTS
from ecgkit.stats.folds import assign_folds
from ecgkit.stats.labels import SUPERCLASSES

POOL = 200
"""Patients among whom the one of `draw_plan` is chosen."""

GOLDEN = (np.sqrt(5) - 1) / 2

COMBINATIONS = {
    "NORM": 0.440, "MI": 0.110, "MI CD": 0.058, "MI STTC": 0.032, "MI STTC HYP": 0.017, "MI HYP": 0.010,
    "MI STTC CD": 0.012, "MI STTC CD HYP": 0.006, "STTC": 0.112, "STTC CD": 0.024, "STTC CD HYP": 0.010,
    "STTC HYP": 0.037, "HYP": 0.025, "CD HYP": 0.014, "CD": 0.074, "": 0.019,
}  # fmt: skip
"""Share of each combination of superclasses, about as in PTB-XL."""

CODES = {
    "NORM": {"NORM": 1.0},
    "MI": {"ASMI": 0.36, "IMI": 0.36, "ILMI": 0.09, "AMI": 0.06, "ALMI": 0.06, "LMI": 0.07},
    "STTC": {"NDT": 0.34, "NST_": 0.18, "ISC_": 0.22, "ISCAL": 0.16, "ISCIN": 0.10},
    "CD": {"LAFB": 0.26, "1AVB": 0.15, "IRBBB": 0.15, "CRBBB": 0.16, "CLBBB": 0.16, "IVCD": 0.12},
    "HYP": {"LVH": 1.0},
}
"""Share of each SCP code among the records of a superclass."""

UNREPORTED = {"": 0.55, "ASMI": 0.06, "IMI": 0.09, "NDT": 0.07, "NST_": 0.07, "ISC_": 0.02, "LAFB": 0.05, "LVH": 0.06}
"""Share of slight findings that are not reported: they make normal and borderline ECGs similar."""


class Streams:
    """Streams of random numbers by name; the first values of a stream do not depend on how many are drawn."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def _generator(self, name: str) -> np.random.Generator:
        """Return the generator of a stream."""
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])

    def uniform(self, name: str, size: int) -> FloatArray:
        """Draw from the uniform distribution between 0 and 1."""
        return self._generator(name).random(size)

    def normal(self, name: str, size: int) -> FloatArray:
        """Draw from the standard normal distribution."""
        return self._generator(name).standard_normal(size)

    def choice(self, name: str, shares: dict[str, float], size: int) -> NDArray[np.object_]:
        """Draw keys of ``shares``, each with its share."""
        return _pick(self.uniform(name, size), shares)


def _pick(uniform: FloatArray, shares: dict[str, float]) -> NDArray[np.object_]:
    """Turn uniform random numbers into keys of ``shares``."""
    edges = np.cumsum(list(shares.values()))
    index = np.searchsorted(edges / edges[-1], uniform, side="right")
    return np.array(list(shares), dtype=object)[np.minimum(index, len(shares) - 1)]


def draw_patients(n_patients: int, streams: Streams) -> pd.DataFrame:
    """Draw diseases, age in years, sex, height in cm, weight in kg and number of recordings; one row per patient."""
    n = n_patients
    # Steps of the golden ratio spread the combinations evenly, so that small sets also have each class in its share.
    spread = (streams.uniform("combination", 1) + GOLDEN * np.arange(n)) % 1
    combination = _pick(spread, COMBINATIONS)
    healthy = np.isin(combination, ("NORM", ""))
    infarct = np.array([c.startswith("MI") for c in combination], dtype=bool)
    male = streams.uniform("sex", n) < np.where(infarct, 0.64, np.where(healthy, 0.47, 0.52))
    z = streams.normal("age", n)
    age = np.where(healthy, 51 + 16.5 * z, 66 + 12 * z)
    age = np.round(np.where(age < 18, 18 + (18 - age) % 12, np.minimum(age, 97)))
    height = np.where(male, 177.5, 164.5) - 0.11 * (age - 45) + np.where(male, 7.0, 6.3) * streams.normal("height", n)
    index = 26 + 0.045 * np.clip(age - 50, -32, 20) + np.where(male, 0.6, 0.0)
    weight = index * np.exp(0.155 * streams.normal("weight", n)) * (height / 100) ** 2
    return pd.DataFrame(
        {
            "combination": combination,
            "age": age,
            "male": male,
            "height": np.round(height),
            "weight": np.round(weight),
            "n_records": _pick(streams.uniform("n_records", n), {"1": 0.83, "2": 0.12, "3": 0.05}).astype(int),
            "severity": 0.04 + 0.96 * streams.uniform("severity", n) ** 1.1,
            "second_severity": 0.04 + 0.96 * streams.uniform("second_severity", n),
            "stage": streams.uniform("stage", n),
        }
    )


def draw_physiology(patients: pd.DataFrame, streams: Streams) -> pd.DataFrame:
    """Draw the properties of each patient's healthy heart, which depend on age, sex, height and weight.

    With age the axis turns left, PR and QRS become longer, voltages, T waves and respiratory sinus arrhythmia smaller.
    Women have faster rates, shorter QRS complexes, longer QT intervals, lower voltages and flatter T waves and J points
    in V2 and V3. Weight turns the axis left and increases the distance between the heart and the electrodes.

    Returns
    -------
    DataFrame
        The columns of `Physiology` (``qt`` at 60 beats per minute), ``rate``, ``sinus_arrhythmia``, ``girth`` and
        ``breast``.
    """
    n = len(patients)

    def noise(name: str, deviation: float) -> FloatArray:
        return deviation * streams.normal(name, n)

    male = patients["male"].to_numpy()
    age = patients["age"].to_numpy() - 55
    tall = patients["height"].to_numpy() - np.where(male, 177, 164)
    mass_index = patients["weight"].to_numpy() / (patients["height"].to_numpy() / 100) ** 2 - 26.5
    lvh = np.array(["HYP" in c for c in patients["combination"]])
    early = np.where(male, 0.065, 0.02)
    return pd.DataFrame(
        {
            "axis": np.clip(41 - 0.85 * age - 2.2 * mass_index + 0.7 * tall + noise("axis", 12), -22, 88),
            "qrs": np.clip(np.where(male, 93, 81.5) + 0.06 * age + 0.2 * tall + noise("qrs", 4.5), 72, 99),
            "pr": np.clip(156 + 0.65 * age + 0.3 * tall + noise("pr", 13), 118, 198),
            "qt": np.where(male, 398, 411) + 0.15 * age + noise("qt", 13),
            "voltage": np.where(male, 1.06, 0.88) * np.exp(-0.006 * age - 0.015 * mass_index + noise("voltage", 0.11)),
            "p_voltage": np.exp(0.003 * age + noise("p_voltage", 0.22)),
            "t_voltage": np.where(male, 1.1, 0.8) * np.exp(-0.008 * age + noise("t_voltage", 0.2)),
            "early_repolarisation": np.minimum(early * np.exp(-0.015 * age + noise("early", 0.4)), 0.13),
            "t_front": np.where(male, 39, 24) + noise("t_front", 7),
            "rate": np.where(male, 68, 72) + 3.5 * (~patients["combination"].isin(["NORM"])) + noise("rate", 9),
            "sinus_arrhythmia": 0.045 * np.exp(-0.032 * age + noise("arrhythmia", 0.35)),
            "girth": np.clip(1 + 0.03 * mass_index, 0.75, 1.6) * np.where(lvh, 0.97, 1.0),
            "breast": np.where(male, 1.0, 1.1),
        }
    )


def draw_findings(patients: pd.DataFrame, streams: Streams) -> list[dict[str, float]]:
    """Draw for each patient the SCP codes of the superclasses, with their severity from 0 to 1."""
    n = len(patients)
    code = {name: streams.uniform(f"code {name}", n) for name in SUPERCLASSES}
    own = {name: streams.uniform(f"severity {name}", n) for name in SUPERCLASSES}
    findings = []
    columns = (patients["combination"], patients["severity"], patients["second_severity"])
    for i, (combination, severity, second) in enumerate(zip(*columns, strict=True)):
        found = {}
        for name in (name for name in SUPERCLASSES if name in combination.split()):
            chosen = str(_pick(code[name][i : i + 1], _code_shares(name, combination))[0])
            found[chosen] = float(np.clip(severity + 0.5 * (own[name][i] - 0.5), 0.05, 1.0))
        if found.get("LVH", 0) > 0.6:
            found["LAO/LAE"] = float(second)
        findings.append(found)
    return findings


def draw_unreported(patients: pd.DataFrame, streams: Streams) -> list[dict[str, float]]:
    """Draw slight findings, as SCP code and severity, that are in the ECG but not in the report and the labels."""
    codes = streams.choice("unreported", UNREPORTED, len(patients))
    severities = 0.35 * streams.uniform("unreported severity", len(patients))
    return [
        {str(code): float(severity)} if code and STATEMENTS[code].superclass not in combination.split() else {}
        for code, severity, combination in zip(codes, severities, patients["combination"], strict=True)
    ]


def _code_shares(superclass: str, combination: str) -> dict[str, float]:
    """Return the shares of a superclass's codes, without those that hide the other diseases of the combination."""
    shares = CODES[superclass]
    if superclass == "CD" and combination != "CD":
        return shares | {"CLBBB": 0.25 * shares["CLBBB"]}
    if superclass == "STTC" and "MI" in combination:
        return {code: share for code, share in shares.items() if code not in ("ISCIN", "ISCAL")}
    return shares


def draw_plans(n_records: int, seed: int) -> pd.DataFrame:
    """Draw everything about each record that is known before its samples.

    Parameters
    ----------
    n_records : int
        Number of records.
    seed : int
        Seed of all random numbers.

    Returns
    -------
    DataFrame
        One row per record: the patient's columns of `draw_patients` and `draw_physiology`, ``patient_id``, ``findings``
        (SCP code to severity), ``rhythm``, ``device``, ``site`` and the strengths of the noise.
    """
    streams = Streams(seed)
    patients = _with_hearts(draw_patients(n_records, streams), streams)
    plans = patients.loc[patients.index.repeat(patients["n_records"])][:n_records].reset_index(drop=True)
    plans["visit"] = plans.groupby("patient_id").cumcount()
    return _draw_recordings(plans, streams)


def draw_plan(
    seed: int,
    classes: Sequence[str],
    *,
    heart_rate: float | None,
    noise: float,
    severity: float,
    age: float | None,
    sex: str | None,
) -> dict[str, Any]:
    """Draw one record in sinus rhythm, as a row of `draw_plans`; parameters are those of `make_ecg`."""
    for name in classes:
        check_choice("class", name, SUPERCLASSES)
    if "NORM" in classes and len(set(classes)) > 1:
        raise EcgkitError(f"classes are {', '.join(classes)}: NORM goes with no other")
    streams = Streams(seed)
    # Among many patients the nearest one, so that height and weight fit the sex and the age.
    patients = draw_patients(POOL, streams)
    distance = (patients["age"] - (patients["age"] if age is None else age)).abs()
    distance += 1000 * (patients["male"] != (sex == "male")) if sex else 0
    patient = patients.loc[[distance.idxmin()]].reset_index(drop=True)
    patient["combination"] = " ".join(name for name in SUPERCLASSES if name in classes)
    patient[["severity", "second_severity"]] = severity
    patient["age"] = patient["age"] if age is None else float(age)
    patient = _with_hearts(patient, streams).assign(fibrillates=False, visit=0)
    plan = {str(name): values[0] for name, values in _draw_recordings(patient, streams).to_dict("list").items()}
    rate = plan["rate"] if heart_rate is None else float(heart_rate)
    strengths = {name: noise * plan[name] for name in ("wander", "hum", "muscle", "burst")}
    loose = plan["loose"] if noise else -1
    return plan | strengths | {"rate": rate, "unreported": {}, "rhythm": "SR", "extrasystoles": 0, "loose": loose}


def _with_hearts(patients: pd.DataFrame, streams: Streams) -> pd.DataFrame:
    """Add what stays the same in all recordings of a patient."""
    patients = pd.concat([patients, draw_physiology(patients, streams)], axis=1)
    patients["findings"] = pd.Series(draw_findings(patients, streams))
    patients["unreported"] = pd.Series(draw_unreported(patients, streams))
    patients["fibrillates"] = _fibrillates(patients, streams)
    patients["patient_id"] = np.arange(1, len(patients) + 1)
    return patients


def _fibrillates(patients: pd.DataFrame, streams: Streams) -> NDArray[np.bool_]:
    """Draw who has atrial fibrillation: never with a normal ECG or a first degree AV block, more often with age."""
    chance = 0.14 * np.clip((patients["age"] - 50) / 25, 0, 1.5)
    chance *= patients["combination"].map({"NORM": 0.0, "": 3.0}).fillna(1.0)
    blocked = np.array(["1AVB" in f for f in patients["findings"]])
    return ((streams.uniform("fibrillation", len(patients)) < chance) & ~blocked).to_numpy()


def _draw_recordings(plans: pd.DataFrame, streams: Streams) -> pd.DataFrame:
    """Add what changes from one recording of a patient to the next."""
    n = len(plans)

    def strength(name: str, typical: float, spread: float) -> FloatArray:
        return typical * np.exp(spread * streams.normal(name, n))

    plans["rate"] = np.clip(plans["rate"] + 5 * streams.normal("rate today", n), 42, 125)
    fast = (streams.uniform("fast", n) < 0.035) & ~plans["fibrillates"]
    plans["rate"] = np.where(fast, 101 + 22 * streams.uniform("how fast", n), plans["rate"])
    plans.loc[plans["fibrillates"], "rate"] += 14
    plans["respiration"] = 0.25 * np.exp(0.15 * streams.normal("respiration", n))
    plans["site"] = site = streams.choice("site", {"0": 0.5, "1": 0.3, "2": 0.2}, n)
    shares = {"0": (0.8, 0.1, 0.1), "1": (0.15, 0.75, 0.1), "2": (0.1, 0.2, 0.7)}
    devices = zip(site, streams.uniform("device", n), strict=True)
    plans["device"] = [list(DEVICES)[int(np.searchsorted(np.cumsum(shares[s])[:2], u))] for s, u in devices]
    noisy = np.where(site == "2", 1.5, 1.0)
    plans["wander"] = strength("wander", 0.05, 0.7)
    plans["hum"] = strength("hum", 0.006, 0.8) * noisy
    plans["muscle"] = strength("muscle", 0.012, 0.6) * noisy
    plans["burst"] = np.where(streams.uniform("burst", n) < 0.05, strength("burst size", 0.06, 0.4), 0.0)
    loose = streams.uniform("loose", n)
    plans["loose"] = np.where(loose < 0.02, 3 + (loose * 300).astype(int), -1)
    ectopic = streams.uniform("ectopic", n)
    chance = 0.06 * (plans["combination"] != "NORM") + 0.015
    plans["extrasystoles"] = np.where(ectopic < chance, 1 + (ectopic < 0.3 * chance), 0)
    plans["rhythm"] = np.select(
        [plans["fibrillates"], plans["rate"] > 100, plans["rate"] < 56, plans["sinus_arrhythmia"] > 0.1],
        ["AFIB", "STACH", "SBRAD", "SARRH"],
        "SR",
    )
    return plans


def scp_codes(plans: pd.DataFrame) -> list[dict[str, float]]:
    """Return the likelihood of each record's SCP codes in percent; higher if severe, 0 (unknown) for rhythms."""
    steps = np.array([15.0, 35.0, 50.0, 80.0, 100.0])
    codes = []
    for findings, rhythm in zip(plans["findings"], plans["rhythm"], strict=True):
        likelihood = {c: float(steps[np.searchsorted((0.12, 0.22, 0.35, 0.6), s)]) for c, s in findings.items()}
        if "NORM" in likelihood:
            likelihood["NORM"] = max(80.0, likelihood["NORM"])
        codes.append(likelihood | {rhythm: 0.0})
    return codes


def draw_folds(plans: pd.DataFrame) -> NDArray[np.int64]:
    """Assign folds by patient, balanced by superclass."""
    members = {name: [name in combination.split() for combination in plans["combination"]] for name in SUPERCLASSES}
    return assign_folds(plans["patient_id"], pd.DataFrame(members), seed=None)


NAMES = (
    *("age_over_89", "recording_date", "heart_axis", "infarction_stadium1", "validated_by_human", "baseline_drift"),
    *("static_noise", "burst_noise", "electrodes_problems", "extra_beats", "report", "scp_codes"),
)
COLUMNS = dict.fromkeys(NAMES, Column("string")) | {
    "age_over_89": Column("bool"), "validated_by_human": Column("boolean"),
}  # fmt: skip
"""The columns after the core ones, named as in PTB-XL; ``scp_codes`` is JSON, SCP code to likelihood."""
AXES = {"ALAD": (-180, -30), "LAD": (-30, 30), "MID": (30, 90), "RAD": (90, 120), "ARAD": (120, 180)}
"""The frontal axis in degrees for each abbreviation of PTB-XL."""


def make_records(plans: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return the table of records: the columns that every source has, and `COLUMNS`.

    Parameters
    ----------
    plans : DataFrame
        From `draw_plans`.
    seed : int
        Seed for missing values and the time of day.

    Returns
    -------
    DataFrame
        One row per record.
    """
    n, streams = len(plans), Streams(seed)
    codes, axis = scp_codes(plans), _axis_names(plans)
    stadium = np.select([plans["stage"] < 0.2, plans["stage"] < 0.5], ["Stadium I", "Stadium II"], "Stadium III")
    day = (plans["patient_id"].to_numpy() * 1_000_003 % 5_000 + 200 * plans["visit"]).to_numpy()
    minutes = day * 1440 + 420 + (660 * streams.uniform("hour", n)).astype(int)
    dates = np.datetime64("2004-01-01T00:00:00") + minutes.astype("timedelta64[m]")
    table = {
        "record_id": np.arange(1, n + 1),
        "patient_id": plans["patient_id"],
        "fold": draw_folds(plans),
        "age": np.minimum(plans["age"], 90),
        "age_over_89": plans["age"] > 89,
        "sex": np.where(plans["male"], "male", "female"),
        "height": plans["height"].mask(streams.uniform("no height", n) < 0.2),
        "weight": plans["weight"].mask(streams.uniform("no weight", n) < 0.15),
        "device": plans["device"],
        "site": plans["site"],
        "recording_date": [str(date).replace("T", " ") for date in dates],
        "heart_axis": pd.Series(axis).mask(streams.uniform("no axis", n) < 0.4),
        "infarction_stadium1": pd.Series(stadium).where(plans["combination"].str.startswith("MI")),
        "validated_by_human": pd.Series(streams.uniform("validated", n) < 0.75),
        "baseline_drift": _note(plans["wander"] > 0.13, "all leads"),
        "static_noise": _note((plans["muscle"] > 0.03) | (plans["hum"] > 0.02), "all leads"),
        "burst_noise": _note(plans["burst"] > 0, "all leads"),
        "electrodes_problems": _note(plans["loose"] >= 0, [f"V{k - 2}" for k in plans["loose"]]),
        "extra_beats": _note(plans["extrasystoles"] > 0, [f"{k}VES" for k in plans["extrasystoles"]]),
        "report": [_report(list(c), a) for c, a in zip(codes, axis, strict=True)],
        "scp_codes": [json.dumps(c) for c in codes],
    }
    return record_table(table, COLUMNS)


def _axis_names(plans: pd.DataFrame) -> list[str]:
    """Return the key of `AXES` for each record; a left anterior block turns the axis beyond -30 degrees."""
    axis = np.where([("LAFB" in f) for f in plans["findings"]], -50.0, plans["axis"])
    return [next(name for name, (low, high) in AXES.items() if low <= a < high) for a in axis]


def _note(present: pd.Series, text: str | list[str]) -> pd.Series:
    """Return a column with a text where it applies, and missing values elsewhere."""
    return pd.Series(text, index=present.index, dtype="object").where(present)


def _report(codes: list[str], axis: str) -> str:
    """Write a report from SCP codes and the axis: rhythm, axis, diagnoses."""
    turned = {"ALAD": "marked left axis deviation", "LAD": "left axis", "MID": "normal axis"}.get(axis, "right axis")
    rhythm = [STATEMENTS[code].text for code in codes if code in RHYTHMS]
    found = [STATEMENTS[code].text for code in codes if code not in RHYTHMS]
    return ". ".join([*rhythm, turned, *found]) + "."
