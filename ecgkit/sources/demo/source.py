"""The demo as a source: the table of records, and each record made when it is read."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.signals.ecg import ECG
from ecgkit.sources.base import Source
from ecgkit.sources.demo.anatomy import ELECTRODES, LEAD_WEIGHTS, Body, FloatArray
from ecgkit.sources.demo.beats import Rhythm, heart_potentials
from ecgkit.sources.demo.dipole import Heart, Physiology, Wave, diseased_heart, healthy_heart
from ecgkit.sources.demo.noise import (
    DEVICES,
    Band,
    Noise,
    device_response,
    fibrillation_waves,
    muscle_burst,
    noise_spectrum,
)
from ecgkit.sources.demo.population import describe, draw_plans
from ecgkit.sources.demo.statements import label_tables

SECONDS = 10
MARGIN = 1  # seconds made on each side and cut off, so that no filter's edge is seen
MADE_AT = 500
SAMPLING_RATES = (100, 500)
MIN_RECORDS = 20


class Demo(Source):
    """A synthetic 12-lead set that needs no download.

    A dipole moves through each patient's heart and is seen by nine electrodes, which also pick up baseline wander,
    mains hum and muscle noise; the twelve leads are differences of the electrodes, so Einthoven's relations hold to the
    last microvolt of rounding. Everything is made at 500 Hz and resampled.

    Parameters
    ----------
    n_records : int, default 1000
        Number of records, at least 20; from 200 on every fold has every superclass.
    sampling_rate : int, default 100
        100 or 500 Hz.
    seed : int, default 0
        Decides everything; equal seeds give equal records.

    Raises
    ------
    EcgkitError
        If an argument is out of range.

    Notes
    -----
    Each disease has the signs that a textbook gives it, in severities from slight to plain. No record is a person's,
    and nothing that a model reaches here says how it does on people.
    """

    name = "demo"
    version = "1"

    def __init__(self, *, n_records: int = 1000, sampling_rate: int = 100, seed: int = 0) -> None:
        if n_records < MIN_RECORDS:
            raise EcgkitError(f"n_records is {n_records}: ten folds by patient need at least {MIN_RECORDS}")
        if sampling_rate not in SAMPLING_RATES:
            raise EcgkitError(f"sampling_rate is {sampling_rate}: the demo is made at 100 or 500 Hz")
        if seed < 0:
            raise EcgkitError(f"seed is {seed}: give a whole number from 0 on")
        self.n_records, self.sampling_rate, self.seed = n_records, sampling_rate, seed
        self.n_samples = SECONDS * sampling_rate
        plans = draw_plans(n_records, seed)
        self.records = describe(plans, seed)
        self.labels = label_tables([json.loads(codes) for codes in self.records["scp_codes"]])
        rows: list[dict[str, Any]] = [{str(k): value for k, value in plan.items()} for plan in plans.to_dict("records")]
        self._plans = dict(zip(self.records["record_id"], rows, strict=True))

    def identity(self) -> dict[str, object]:
        """Everything that decides what the records contain, as JSON data."""
        return {
            "source": self.name,
            "version": self.version,
            "n_records": self.n_records,
            "sampling_rate": self.sampling_rate,
            "seed": self.seed,
        }

    def read(self, record_id: str) -> ECG:
        """Make one record.

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
        """Make one record as integers.

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
        """Make one record before it is rounded.

        Parameters
        ----------
        record_id : str
            A value of ``records["record_id"]``.
        noise_free : bool, default False
            Leave out noise, fibrillation waves and the device: what an ideal device would see of the heart's beats.

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

        plan = self._plan(record_id)
        rng = np.random.default_rng([self.seed, 1, int(record_id)])
        body = self._body(plan, rng)
        rhythm = Rhythm(
            rate=plan["rate"],
            sinus_arrhythmia=plan["sinus_arrhythmia"],
            respiration=plan["respiration"],
            fibrillation=plan["rhythm"] == "AFIB",
            extrasystoles=plan["extrasystoles"],
        )
        length = SECONDS + 2 * MARGIN
        heart = self._heart(plan)
        electrodes = heart_potentials(heart, body, rhythm, seconds=length, sampling_rate=MADE_AT, rng=rng)
        if not noise_free:
            electrodes = self._record(electrodes, body, plan, rng)
        electrodes = resample_poly(electrodes, self.sampling_rate, MADE_AT, axis=-1)
        cut = MARGIN * self.sampling_rate
        leads: FloatArray = LEAD_WEIGHTS @ electrodes[:, cut : cut + self.n_samples]
        return leads

    def _plan(self, record_id: str) -> dict[str, Any]:
        if record_id not in self._plans:
            raise EcgkitError(f"no record {record_id!r} in the demo: record_id is text, from '1' to '{self.n_records}'")
        return self._plans[record_id]

    def _body(self, plan: dict[str, Any], rng: np.random.Generator) -> Body:
        build = np.random.default_rng([self.seed, 2, plan["patient_id"]]).normal(0, 0.6, (len(ELECTRODES), 3))
        placed = rng.normal(0, 0.6, (len(ELECTRODES), 3))
        return Body(plan["girth"], plan["breast"], build + placed)

    def _heart(self, plan: dict[str, Any]) -> Heart:
        measures = {name: plan[name] for name in Physiology.__dataclass_fields__}
        rng = np.random.default_rng([self.seed, 3, plan["patient_id"]])
        qt = 1000 * (measures["qt"] / 1000) * (60 / plan["rate"]) ** (1 / 3)
        heart = _individual(healthy_heart(Physiology(**(measures | {"qt": qt}))), rng)
        findings = {code: s for code, s in (plan["unreported"] | plan["findings"]).items() if code != "NORM"}
        return diseased_heart(heart, findings, plan["stage"])

    def _record(self, electrodes: FloatArray, body: Body, plan: dict[str, Any], rng: np.random.Generator) -> FloatArray:
        """Add what the electrodes pick up beside the beats, and pass all of it through the device."""
        band, device, count = (
            Band.of(electrodes.shape[-1], sampling_rate=MADE_AT),
            DEVICES[plan["device"]],
            len(electrodes),
        )
        if plan["rhythm"] == "AFIB":
            electrodes = electrodes + fibrillation_waves(body, band, rng=rng)
        if plan["burst"] > 0:
            electrodes = electrodes + muscle_burst(plan["burst"], band, n_electrodes=count, rng=rng)
        spectrum = np.fft.rfft(electrodes, axis=-1) + noise_spectrum(
            Noise(plan["wander"], plan["hum"], plan["muscle"], plan["loose"]),
            band,
            respiration=plan["respiration"],
            amplifier=device.amplifier,
            n_electrodes=count,
            rng=rng,
        )
        recorded: FloatArray = np.fft.irfft(device_response(device, band) * spectrum, band.n_samples, axis=-1)
        return recorded


def _individual(heart: Heart, rng: np.random.Generator) -> Heart:
    """Vary the strength and the direction of each wave: no two hearts are alike."""
    varied = {}
    for name, wave in heart.items():
        towards = wave.towards + rng.normal(0, 0.14, 3)
        towards /= np.linalg.norm(towards)
        amplitude = wave.amplitude * float(np.exp(rng.normal(0, 0.15)))
        varied[name] = Wave(wave.segment, wave.peak, wave.rise, wave.fall, amplitude, towards, wave.place)
    return varied
