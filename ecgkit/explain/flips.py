"""The smallest change of one segment of one lead that flips a decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError, check_choice
from ecgkit.inference.predictor import Predictor
from ecgkit.signals.ecg import ECG, LEADS
from ecgkit.signals.segments import SEGMENTS, wave_segments

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLLOWERS = {
    "I": {"I": 1.0, "III": -1.0, "aVR": -0.5, "aVL": 1.0, "aVF": -0.5},
    "II": {"II": 1.0, "III": 1.0, "aVR": -0.5, "aVL": -0.5, "aVF": 1.0},
} | {lead: {lead: 1.0} for lead in LEADS[6:]}
"""The leads that are measured independently, and by how much each other one follows (Einthoven, Goldberger)."""

LEVEL, SCALE = "level", "scale"
KINDS = {segment: LEVEL if segment == "ST" else SCALE for segment in SEGMENTS}
"""An ST segment is moved up or down; a wave is multiplied about the line between its ends."""

STEP, HALVINGS = 0.1, 4
"""mV from one tried change to the next, and how often the step in which the decision flips is halved."""

EDGE = 0.04
"""Seconds over which a moved segment returns to the trace."""

LOWEST = 0.05
"""mV: a lower wave is not multiplied, because that would enlarge its noise."""

Floats = NDArray[np.float32]
Sizes = NDArray[np.float64]
Key = tuple[str, str]


def change_segment(ecg: ECG, lead: str, segment: str, millivolts: float) -> ECG:
    """Change one segment of one lead in all beats.

    Parameters
    ----------
    ecg : ECG
        About ten seconds.
    lead : str
        I, II or V1 to V6. With I or II the leads III, aVR, aVL and aVF change as Einthoven's and Goldberger's
        relations say; a chest lead changes alone.
    segment : {"P", "QRS", "ST", "T"}
        ST is moved by ``millivolts``, with edges of 40 ms. The others are multiplied about the line between their ends,
        by as much as makes the highest point differ by ``millivolts``: positive is larger, and beyond the height of the
        wave negative is inverted.
    millivolts : float
        In mV.

    Returns
    -------
    ECG

    Raises
    ------
    EcgkitError
        If the lead or the segment is another, the segment cannot be found, or the wave is below 0.05 mV.
    """
    check_choice("lead", lead, FOLLOWERS)
    check_choice("segment", segment, SEGMENTS)
    shape = segment_shapes(ecg).get((lead, segment))
    if shape is None:
        raise EcgkitError(f"{segment} in lead {lead} is not found or below {LOWEST:g} mV: change another segment")
    return replace(ecg, signal=ecg.signal + np.float32(millivolts) * shape)


def segment_shapes(ecg: ECG) -> dict[Key, Floats]:
    """Return by lead and segment what is added per mV of change, shape (12, samples); none where there is no wave."""
    segments = wave_segments(ecg.signal, sampling_rate=ecg.sampling_rate)
    places, kernel = np.arange(ecg.n_samples), np.hanning(round(EDGE * ecg.sampling_rate) + 3)
    shapes = {}
    for number, segment in enumerate(SEGMENTS):
        inside = segments == number
        if not inside.any() or inside.all():
            continue
        level = np.convolve(inside, kernel / kernel.sum(), mode="same")
        for lead, followers in FOLLOWERS.items():
            trace = ecg.signal[LEADS.index(lead)]
            wave = np.where(inside, trace - np.interp(places, places[~inside], trace[~inside]), 0)
            height = float(np.abs(wave).max())
            if KINDS[segment] == SCALE and not height >= LOWEST:
                continue
            shape = level / level.max() if KINDS[segment] == LEVEL else wave / height
            weights = np.array([followers.get(name, 0.0) for name in LEADS])
            shapes[lead, segment] = (weights[:, None] * shape).astype(np.float32)
    return shapes


def smallest_changes(predictor: Predictor, ecg: ECG, name: str, *, largest: float = 1.0) -> pd.DataFrame:
    """Find for each lead and segment the smallest change that moves the probability of a class across its threshold.

    Parameters
    ----------
    predictor : Predictor
        The model; each changed ECG goes the whole way from the preparation to the calibrated probability.
    ecg : ECG
        About ten seconds.
    name : str
        The class.
    largest : float, default 1
        The largest change that is tried, in mV, up and down in steps of 0.1 mV; the first step in which the decision
        flips is halved four times.

    Returns
    -------
    DataFrame
        One row per ``lead`` (I, II, V1 to V6) and ``segment``, the smallest change first: ``kind`` (``"level"`` or
        ``"scale"``, see `change_segment`), ``change`` in mV, ``probability`` with it, and in every row ``before``,
        ``threshold`` and ``largest``. ``change`` is NaN where no change of up to ``largest`` flips the decision;
        ``probability`` is then the nearest to the threshold, or NaN if the wave is not found or too low.

    Raises
    ------
    EcgkitError
        If there is no such class or no wave is found.
    """
    column = predictor.classes.index(check_choice("class", name, predictor.classes))
    shapes = segment_shapes(ecg)
    if not shapes:
        raise EcgkitError(f"no wave is found in record {ecg.record_id!r}: choose an ECG with beats")
    tried = _Tried(predictor, ecg, column, shapes)
    sizes = STEP * np.arange(1, round(largest / STEP) + 1)
    paths = [(key, sign) for key in shapes for sign in (1.0, -1.0)]
    each = [(key, sign * size) for key, sign in paths for size in sizes]
    found = tried.probabilities(each).reshape(len(paths), len(sizes))
    flips = tried.is_flipped(found)
    size = np.full(len(paths), np.nan)
    probability = found[np.arange(len(paths)), np.abs(found - tried.threshold).argmin(axis=1)]
    reached, first = np.flatnonzero(flips.any(axis=1)), flips[flips.any(axis=1)].argmax(axis=1)
    ends = tried.halve([paths[i] for i in reached], STEP * first, STEP * (first + 1), found[reached, first])
    size[reached], probability[reached] = ends
    table = pd.DataFrame([key for key, _ in paths], columns=["lead", "segment"])
    table = table.assign(change=size * [sign for _, sign in paths], probability=probability, size=size)
    table["distance"] = np.where(np.isnan(size), np.abs(probability - tried.threshold), 0)
    best = table.sort_values(["size", "distance"]).drop_duplicates(["lead", "segment"])
    whole = pd.DataFrame(product(FOLLOWERS, SEGMENTS), columns=["lead", "segment"])
    result = whole.assign(kind=whole["segment"].map(KINDS)).merge(best, how="left")
    result = result.sort_values(["size", "distance"], ignore_index=True).drop(columns=["size", "distance"])
    return result.assign(before=tried.before, threshold=tried.threshold, largest=largest)


def draw_change(ecg: ECG, table: pd.DataFrame, name: str) -> Figure:
    """Draw an ECG and the smallest change that flips the decision of a class, or the ECG alone if none does.

    Parameters
    ----------
    ecg : ECG
        The record.
    table : DataFrame
        As from `ecgkit.explain.flips.smallest_changes`.
    name : str
        The class.
    """
    from ecgkit.plots.counterfactuals import changed_ecg

    row = table.iloc[0]
    title = f"Record {ecg.record_id}, {name} {row['before']:.3f}, threshold {row['threshold']:.3f}: "
    if np.isnan(row["change"]):
        text = f"no change of up to {row['largest']:g} mV of one segment flips the decision"
        return changed_ecg(ecg.signal, ecg.signal, sampling_rate=ecg.sampling_rate, title=title + text)
    changed = change_segment(ecg, row["lead"], row["segment"], row["change"])
    text = f"{row['segment']} in {row['lead']} {row['change']:+.2f} mV makes it {row['probability']:.3f}"
    return changed_ecg(ecg.signal, changed.signal, sampling_rate=ecg.sampling_rate, title=title + text)


class _Tried:
    """The probability of a class for changed ECGs."""

    def __init__(self, predictor: Predictor, ecg: ECG, column: int, shapes: Mapping[Key, Floats]) -> None:
        self.predictor, self.ecg, self.column, self.shapes = predictor, ecg, column, shapes
        self.threshold = float(predictor.thresholds[column])
        self.before = float(predictor.predict_proba([ecg], anyway=True)[0, column])

    def probabilities(self, changes: Sequence[tuple[Key, float]]) -> NDArray[np.float64]:
        """Return the probability with each change."""
        changed = [replace(self.ecg, signal=self.ecg.signal + np.float32(mv) * self.shapes[key]) for key, mv in changes]
        return self.predictor.predict_proba(changed, anyway=True)[:, self.column].astype(np.float64)

    def is_flipped(self, probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return where the decision is another than before."""
        return (probabilities >= self.threshold) != (self.before >= self.threshold)

    def halve(self, paths: Sequence[tuple[Key, float]], low: Sizes, high: Sizes, values: Sizes) -> tuple[Sizes, Sizes]:
        """Halve the steps in which decisions flip; return the sizes and the probabilities at their upper ends."""
        for _ in range(HALVINGS if paths else 0):
            middle = (low + high) / 2
            found = self.probabilities([(key, sign * size) for (key, sign), size in zip(paths, middle, strict=True)])
            flipped = self.is_flipped(found)
            low, high = np.where(flipped, low, middle), np.where(flipped, middle, high)
            values = np.where(flipped, found, values)
        return high, values
