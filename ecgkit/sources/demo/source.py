"""The demo as a source: a table of records, and each ECG generated when it is read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError, check_choice, check_seed
from ecgkit.signals.ecg import ECG, SEXES
from ecgkit.sources.base import Source
from ecgkit.sources.demo.anatomy import ELECTRODES, LEAD_WEIGHTS, Body, FloatArray
from ecgkit.sources.demo.beats import Rhythm, draw_beats, heart_potentials
from ecgkit.sources.demo.dipole import Heart, Physiology, diseased_heart, healthy_heart, individual_heart, segment_ends
from ecgkit.sources.demo.noise import record
from ecgkit.sources.demo.population import COLUMNS, draw_plan, draw_plans, make_records
from ecgkit.sources.demo.signs import grow_signs
from ecgkit.sources.demo.statements import LABEL_SETS, STATEMENTS
from ecgkit.sources.scp import label_tables

SECONDS = 10
MARGIN = 1  # seconds generated on each side and removed, so that no filter's edge is seen
GENERATED_AT = 500
GENERATED_SECONDS = SECONDS + 2 * MARGIN
SAMPLING_RATES = (100, 500)
MIN_RECORDS = 20


class Demo(Source):
    """A synthetic set of 12-lead ECGs that needs no download.

    A dipole moves through each patient's heart and is measured by nine electrodes, together with baseline wander,
    mains hum and muscle noise; the twelve leads are differences of the electrodes, so Einthoven's relations hold to
    one microvolt of rounding. Everything is generated at 500 Hz and resampled.

    Parameters
    ----------
    n_records : int, default 1000
        Number of records, at least 20; from 200 on every fold has every superclass.
    sampling_rate : int, default 100
        100 or 500 Hz.
    seed : int, default 0
        Equal seeds give equal records.

    Raises
    ------
    EcgkitError
        If an argument is out of range.

    Notes
    -----
    Each disease has its textbook signs, from slight to marked. No record is of a person, and the performance of a
    model on the demo does not predict its performance on patients.
    """

    name = "demo"
    version = "1"
    sampling_rates = SAMPLING_RATES
    columns = COLUMNS
    all_false = dict.fromkeys(LABEL_SETS, "unlabelled")
    licence = "none needed: the records are synthetic"
    citation = "none needed: the records are synthetic"
    has_folder = False

    def __init__(self, *, n_records: int = 1000, sampling_rate: int = 100, seed: int = 0) -> None:
        if n_records < MIN_RECORDS:
            raise EcgkitError(f"n_records is {n_records}: ten folds by patient need at least {MIN_RECORDS}")
        _check_sampling_rate(sampling_rate)
        check_seed(seed)
        self.n_records, self.sampling_rate, self.seed = n_records, sampling_rate, seed
        self.n_samples = SECONDS * sampling_rate
        plans = draw_plans(n_records, seed)
        self.records = make_records(plans, seed)
        self.labels = label_tables([json.loads(codes) for codes in self.records["scp_codes"]], LABEL_SETS, STATEMENTS)
        rows: list[dict[str, Any]] = [{str(k): value for k, value in plan.items()} for plan in plans.to_dict("records")]
        self._plans = dict(zip(self.records["record_id"], rows, strict=True))

    def identity(self) -> dict[str, object]:
        """Return everything that the records depend on, as JSON data."""
        size = {"n_records": self.n_records, "sampling_rate": self.sampling_rate, "seed": self.seed}
        return {"source": self.name, "version": self.version, **size}

    def read(self, record_id: str) -> ECG:
        """Generate one record, in whole microvolts; see `Source.read`."""
        signal = self.read_microvolts(record_id).astype(np.float32) / np.float32(1000)
        return ECG(signal, self.sampling_rate, record_id)

    def read_microvolts(self, record_id: str) -> NDArray[np.int16]:
        """Generate one record as integers.

        Parameters
        ----------
        record_id : str
            A value of ``records["record_id"]``.

        Returns
        -------
        ndarray of int16, shape (12, samples)
            In microvolts.

        Raises
        ------
        EcgkitError
            If there is no such record.
        """
        return np.rint(1000 * self.make(record_id)).clip(-32768, 32767).astype(np.int16)

    def make(self, record_id: str, *, noise_free: bool = False) -> FloatArray:
        """Generate one record without rounding.

        Parameters
        ----------
        record_id : str
            A value of ``records["record_id"]``.
        noise_free : bool, default False
            Only the beats: no noise, no fibrillation waves, no filters of a device.

        Returns
        -------
        ndarray of float64, shape (12, samples)
            In mV.

        Raises
        ------
        EcgkitError
            If there is no such record.
        """
        plan = self._plan(record_id)
        return _draw_signal(plan, self.seed, int(record_id), sampling_rate=self.sampling_rate, noise_free=noise_free)

    def planted_signs(self, record_id: str) -> FloatArray:
        """Return what the diseases of a record change in its beats.

        Parameters
        ----------
        record_id : str
            A value of ``records["record_id"]``.

        Returns
        -------
        ndarray of float64, shape (12, samples)
            The record without noise minus the same heart without a finding, in mV; zero for a healthy one.

        Raises
        ------
        EcgkitError
            If there is no such record.
        """
        plan, number = self._plan(record_id), int(record_id)
        healthy = plan | {"findings": {}, "unreported": {}}
        with_signs, without = (
            _draw_signal(one, self.seed, number, sampling_rate=self.sampling_rate, noise_free=True)
            for one in (plan, healthy)
        )
        return with_signs - without

    def wave_boundaries(self, record_id: str) -> pd.DataFrame:
        """Return where the waves of each beat begin and end, which is known because they were planted.

        Parameters
        ----------
        record_id : str
            A value of ``records["record_id"]``.

        Returns
        -------
        DataFrame
            One row per beat that is not an extrasystole and lies wholly in the record; columns ``p_onset``, ``p_end``,
            ``qrs_onset``, ``qrs_end`` and ``t_end`` in seconds after the start of the record. P and QRS reach 2.5
            standard deviations beyond the peaks of their first and last wave; T ends where the tangent to the steepest
            fall of the dipole meets zero. P is NaN in atrial fibrillation.

        Raises
        ------
        EcgkitError
            If there is no such record.
        """
        plan, rng = self._plan(record_id), np.random.default_rng([self.seed, 1, int(record_id)])
        _body(plan, self.seed, rng)  # drawn first, so that the beats are those of `make`
        found = draw_beats(_rhythm(plan), GENERATED_SECONDS, rng)
        stretch = np.clip(found.intervals * plan["rate"] / 60, 0.6, 1.5) ** (1 / 3)
        ends = segment_ends(_heart(plan, self.seed))
        table = pd.DataFrame({"p_onset": ends["P"][0], "p_end": ends["P"][1]}, index=range(len(stretch)))
        table["qrs_onset"], table["qrs_end"] = ends["QRS"]
        table["t_end"] = ends["T"][1] + ends["T"][0] * (stretch - 1)
        table = (table / 1000).add(found.onsets - MARGIN, axis=0)
        if plan["rhythm"] == "AFIB":
            table[["p_onset", "p_end"]] = np.nan
        inside = (table[["p_onset", "qrs_onset"]].min(axis=1) >= 0) & (table["t_end"] <= SECONDS)
        return table[inside & ~found.ectopic].reset_index(drop=True)

    def _plan(self, record_id: str) -> dict[str, Any]:
        """Return what was drawn for a record."""
        if record_id not in self._plans:
            raise EcgkitError(f"no record {record_id!r} in the demo: record_id is text, from '1' to '{self.n_records}'")
        return self._plans[record_id]


def make_ecg(
    classes: Sequence[str] = ("NORM",),
    *,
    sampling_rate: int = 500,
    seconds: float = SECONDS,
    heart_rate: float | None = None,
    noise: float = 1.0,
    severity: float = 0.8,
    age: float | None = None,
    sex: str | None = None,
    signs: Mapping[str, float] | None = None,
    seed: int = 0,
) -> ECG:
    """Generate one ECG in sinus rhythm with the signs of some superclasses.

    Parameters
    ----------
    classes : sequence of str
        Superclasses; ``"NORM"`` goes with no other. Several diseases may be combined; none is a borderline ECG.
    sampling_rate : int, default 500
        In Hz: 100 or 500.
    seconds : float, default 10
        Duration, 5 to 60 s.
    heart_rate : float, optional
        In beats/min, 30 to 200; drawn by default.
    noise : float, default 1
        Baseline wander, mains hum and muscle noise relative to what was drawn, 0 to 10.
    severity : float, default 0.8
        Of the diseases, from just visible (0) to marked (1).
    age : float, optional
        In years, 18 to 97; drawn by default.
    sex : {"male", "female"}, optional
        Drawn by default.
    signs : mapping of str to float, optional
        Signs of `ecgkit.sources.demo.signs.SIGNS` and their sizes, added to the heart while the beats, the electrodes
        and the noise of the seed stay the same.
    seed : int, default 0
        Equal seeds give equal ECGs.

    Returns
    -------
    ECG
        With the age and the sex of the patient that was drawn.

    Raises
    ------
    EcgkitError
        If an argument is out of range.
    """
    for name, value, low, high in (
        ("seconds", seconds, 5, 60),
        ("heart_rate", heart_rate, 30, 200),
        ("noise", noise, 0, 10),
        ("severity", severity, 0, 1),
        ("age", age, 18, 97),
        ("seed", seed, 0, 2**32),
    ):
        if value is not None and not low <= value <= high:
            raise EcgkitError(f"{name} is {value:g}: give a number from {low} to {high}")
    check_choice("sex", sex or SEXES[0], SEXES)
    _check_sampling_rate(sampling_rate)
    plan = draw_plan(seed, classes, heart_rate=heart_rate, noise=noise, severity=severity, age=age, sex=sex)
    signal = _draw_signal(plan, seed, 1, seconds=seconds, sampling_rate=sampling_rate, signs=signs or {})
    name = f"demo {' '.join(classes) or 'borderline'} {seed}"
    return ECG(
        (np.rint(1000 * signal) / 1000).astype(np.float32),
        sampling_rate,
        name,
        plan["age"],
        "male" if plan["male"] else "female",
    )


def _draw_signal(
    plan: dict[str, Any],
    seed: int,
    number: int,
    *,
    seconds: float = SECONDS,
    sampling_rate: int,
    noise_free: bool = False,
    signs: Mapping[str, float] = MappingProxyType({}),
) -> FloatArray:
    """Generate the twelve leads of a plan in mV."""
    from scipy.signal import resample_poly

    rng = np.random.default_rng([seed, 1, number])
    body, rhythm = _body(plan, seed, rng), _rhythm(plan)
    heart = grow_signs(_heart(plan, seed), body, signs)
    electrodes = heart_potentials(
        heart, body, rhythm, seconds=seconds + 2 * MARGIN, sampling_rate=GENERATED_AT, rng=rng
    )
    if not noise_free:
        electrodes = record(electrodes, body, plan, sampling_rate=GENERATED_AT, rng=rng)
    electrodes = resample_poly(electrodes, sampling_rate, GENERATED_AT, axis=-1)
    margin = MARGIN * sampling_rate
    return LEAD_WEIGHTS @ electrodes[:, margin : margin + round(seconds * sampling_rate)]


def _check_sampling_rate(sampling_rate: int) -> None:
    """Refuse a rate that the demo does not have."""
    if sampling_rate not in SAMPLING_RATES:
        raise EcgkitError(f"sampling_rate is {sampling_rate}: the demo has 100 and 500 Hz")


def _body(plan: dict[str, Any], seed: int, rng: np.random.Generator) -> Body:
    """Draw where the electrodes are: a part that the patient keeps, and one for each record."""
    build = np.random.default_rng([seed, 2, plan["patient_id"]]).normal(0, 0.6, (len(ELECTRODES), 3))
    placed = rng.normal(0, 0.6, (len(ELECTRODES), 3))
    return Body(plan["girth"], plan["breast"], build + placed)


def _heart(plan: dict[str, Any], seed: int) -> Heart:
    """Make the waves of a patient's heart, with QT corrected for the rate (Fridericia)."""
    physiology = {name: plan[name] for name in Physiology.__dataclass_fields__}
    rng = np.random.default_rng([seed, 3, plan["patient_id"]])
    physiology["qt"] = 1000 * (plan["qt"] / 1000) * (60 / plan["rate"]) ** (1 / 3)
    heart = individual_heart(healthy_heart(Physiology(**physiology)), rng)
    findings = {code: s for code, s in (plan["unreported"] | plan["findings"]).items() if code != "NORM"}
    return diseased_heart(heart, findings, plan["stage"])


def _rhythm(plan: dict[str, Any]) -> Rhythm:
    """Return the rhythm that was drawn for a record."""
    drawn = {name: plan[name] for name in ("rate", "sinus_arrhythmia", "respiration", "extrasystoles")}
    return Rhythm(**drawn, fibrillation=plan["rhythm"] == "AFIB")
