"""Single signs of disease that grow by a known amount while everything else in an ECG stays the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ecgkit.errors import EcgkitError, check_choice
from ecgkit.signals.ecg import LEADS
from ecgkit.sources.demo.anatomy import LEAD_WEIGHTS, Body, FloatArray, direction, lead_field
from ecgkit.sources.demo.dipole import APEX, FREE_WALL, Heart, Wave, scale_waves, stretch_qrs

Growth = Callable[[Heart, Body, float], Heart]


@dataclass(frozen=True)
class Sign:
    """One sign of disease.

    Attributes
    ----------
    text : str
        What is measured, with its leads.
    unit : str
        Of the size.
    superclass : str
        The superclass whose textbook sign it is.
    sizes : tuple of float
        From none, or normal, to marked.
    grow : callable
        From a heart, the body and a size to the heart with the sign.
    """

    text: str
    unit: str
    superclass: str
    sizes: tuple[float, ...]
    grow: Growth


def _dipole(wave: Wave, leads: tuple[str, ...], sign: float) -> Growth:
    """Return a growth that adds a wave, whose peak has the size in mV on average over the leads."""

    def grow(heart: Heart, body: Body, size: float) -> Heart:
        peak = heart["T"].peak if wave.segment == "T" else heart["J point"].peak + wave.peak
        potentials: FloatArray = lead_field(body, wave.place[None])[:, 0] @ wave.towards
        in_leads = LEAD_WEIGHTS[[LEADS.index(lead) for lead in leads]] @ potentials
        return heart | {"sign": replace(wave, peak=peak, amplitude=sign * size / float(in_leads.mean()))}

    return grow


def _qrs_to(heart: Heart, body: Body, size: float) -> Heart:
    """Stretch the QRS complex to a duration in ms; repolarisation follows."""
    del body
    return stretch_qrs(heart, size / (heart["base"].peak / 66 * 90))


def _pr_to(heart: Heart, body: Body, size: float) -> Heart:
    """Set the PR interval in ms."""
    del body
    longer = size - (45 - heart["right atrium"].peak)
    return {name: replace(w, peak=w.peak - longer) if w.segment == "P" else w for name, w in heart.items()}


def _raise_voltage(heart: Heart, body: Body, size: float) -> Heart:
    """Multiply the amplitude of the left ventricle."""
    del body
    return scale_waves(heart, {"apex": size, "free wall": size})


_TO_THE_LEFT = direction(15, 5)
SIGNS = {
    "st_elevation": Sign(
        "ST elevation in V2 to V4",
        "mV",
        "MI",
        (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4),
        _dipole(Wave("ST", 10, 16, 85, 1.0, direction(10, 58), APEX), ("V2", "V3", "V4"), 1.0),
    ),
    "st_depression": Sign(
        "ST depression in V5 and V6",
        "mV",
        "STTC",
        (0.0, 0.025, 0.05, 0.075, 0.1, 0.125, 0.15, 0.175, 0.2),
        _dipole(Wave("ST", 30, 24, 75, 1.0, _TO_THE_LEFT, FREE_WALL), ("V5", "V6"), -1.0),
    ),
    "t_inversion": Sign(
        "T lowered in V4 to V6",
        "mV",
        "STTC",
        (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
        _dipole(Wave("T", 0, 52, 34, 1.0, _TO_THE_LEFT, APEX), ("V4", "V5", "V6"), -1.0),
    ),
    "qrs_duration": Sign("QRS duration", "ms", "CD", (90, 100, 110, 120, 130, 140, 150, 160, 170), _qrs_to),
    "pr_interval": Sign("PR interval", "ms", "CD", (150, 170, 190, 210, 230, 250, 270, 290, 310), _pr_to),
    "voltage": Sign(
        "voltage of the left ventricle", "times", "HYP", (1, 1.2, 1.4, 1.6, 1.8, 2, 2.2, 2.4, 2.6), _raise_voltage
    ),
}
"""The signs by name."""


def grow_signs(heart: Heart, body: Body, sizes: Mapping[str, float]) -> Heart:
    """Add signs of some sizes to a heart.

    Raises
    ------
    EcgkitError
        If there is no such sign, or a size is outside the range of its ``sizes``.
    """
    for name, size in sizes.items():
        sign = SIGNS[check_choice("sign", name, SIGNS)]
        low, high = sign.sizes[0], sign.sizes[-1]
        if not (np.isfinite(size) and low <= size <= high):
            raise EcgkitError(f"{name} is {size:g} {sign.unit}: give a number from {low:g} to {high:g}")
        heart = sign.grow(heart, body, float(size))
    return heart
