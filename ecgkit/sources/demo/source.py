"""The demo as a source: a table of records, and each ECG generated when it is read."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.signals.ecg import ECG
from ecgkit.sources.base import Source
from ecgkit.sources.demo.anatomy import ELECTRODES, LEAD_WEIGHTS, Body, FloatArray
from ecgkit.sources.demo.beats import Rhythm, draw_beats, heart_potentials
from ecgkit.sources.demo.dipole import Heart, Physiology, diseased_heart, healthy_heart, individual_heart, segment_ends
from ecgkit.sources.demo.noise import record
from ecgkit.sources.demo.population import COLUMNS, draw_plans, make_records
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
        if sampling_rate not in SAMPLING_RATES:
            raise EcgkitError(f"sampling_rate is {sampling_rate}: the demo has 100 and 500 Hz")
        if seed < 0:
            raise EcgkitError(f"seed is {seed}: give an integer, 0 or more")
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
        """Generate one record.

        Parameters
        ----------
        record_id : str
            A value of ``records["record_id"]``.

        Returns
        -------
        ECG
            Twelve leads in mV, whole microvolts.

        Raises
        ------
        EcgkitError
            If there is no such record.
        """
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
        from scipy.signal import resample_poly

        plan, rng = self._plan(record_id)
        body, heart, rhythm = self._body(plan, rng), self._heart(plan), _rhythm(plan)
        extent = {"seconds": GENERATED_SECONDS, "sampling_rate": GENERATED_AT}
        electrodes = heart_potentials(heart, body, rhythm, **extent, rng=rng)
        if not noise_free:
            electrodes = record(electrodes, body, plan, sampling_rate=GENERATED_AT, rng=rng)
        electrodes = resample_poly(electrodes, self.sampling_rate, GENERATED_AT, axis=-1)
        margin = MARGIN * self.sampling_rate
        return LEAD_WEIGHTS @ electrodes[:, margin : margin + self.n_samples]

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
        plan, rng = self._plan(record_id)
        self._body(plan, rng)  # drawn first, so that the beats are those of `make`
        found = draw_beats(_rhythm(plan), GENERATED_SECONDS, rng)
        stretch = np.clip(found.intervals * plan["rate"] / 60, 0.6, 1.5) ** (1 / 3)
        ends = segment_ends(self._heart(plan))
        table = pd.DataFrame({"p_onset": ends["P"][0], "p_end": ends["P"][1]}, index=range(len(stretch)))
        table["qrs_onset"], table["qrs_end"] = ends["QRS"]
        table["t_end"] = ends["T"][1] + ends["T"][0] * (stretch - 1)
        table = (table / 1000).add(found.onsets - MARGIN, axis=0)
        if plan["rhythm"] == "AFIB":
            table[["p_onset", "p_end"]] = np.nan
        inside = (table[["p_onset", "qrs_onset"]].min(axis=1) >= 0) & (table["t_end"] <= SECONDS)
        return table[inside & ~found.ectopic].reset_index(drop=True)

    def _plan(self, record_id: str) -> tuple[dict[str, Any], np.random.Generator]:
        """Return what was drawn for a record, and its source of random numbers."""
        if record_id not in self._plans:
            raise EcgkitError(f"no record {record_id!r} in the demo: record_id is text, from '1' to '{self.n_records}'")
        return self._plans[record_id], np.random.default_rng([self.seed, 1, int(record_id)])

    def _body(self, plan: dict[str, Any], rng: np.random.Generator) -> Body:
        """Draw where the electrodes are: a part that the patient keeps, and one for each record."""
        build = np.random.default_rng([self.seed, 2, plan["patient_id"]]).normal(0, 0.6, (len(ELECTRODES), 3))
        placed = rng.normal(0, 0.6, (len(ELECTRODES), 3))
        return Body(plan["girth"], plan["breast"], build + placed)

    def _heart(self, plan: dict[str, Any]) -> Heart:
        """Make the waves of a patient's heart, with QT corrected for the rate (Fridericia)."""
        physiology = {name: plan[name] for name in Physiology.__dataclass_fields__}
        rng = np.random.default_rng([self.seed, 3, plan["patient_id"]])
        physiology["qt"] = 1000 * (plan["qt"] / 1000) * (60 / plan["rate"]) ** (1 / 3)
        heart = individual_heart(healthy_heart(Physiology(**physiology)), rng)
        findings = {code: s for code, s in (plan["unreported"] | plan["findings"]).items() if code != "NORM"}
        return diseased_heart(heart, findings, plan["stage"])


def _rhythm(plan: dict[str, Any]) -> Rhythm:
    """Return the rhythm that was drawn for a record."""
    return Rhythm(
        rate=plan["rate"],
        sinus_arrhythmia=plan["sinus_arrhythmia"],
        respiration=plan["respiration"],
        fibrillation=plan["rhythm"] == "AFIB",
        extrasystoles=plan["extrasystoles"],
    )
