"""Positions of the electrodes, their potentials in the field of a dipole, and the twelve leads they make."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

ELECTRODES = ("RA", "LA", "LL", "V1", "V2", "V3", "V4", "V5", "V6")
"""The electrodes with a signal; the one on the right leg is the ground."""

POSITIONS = np.array(
    [
        (-20.0, -17.0, -3.0), (14.0, -19.0, -3.0), (5.0, 40.0, 0.0),
        (-6.0, 1.0, 7.0), (-1.5, 1.0, 6.5), (3.5, 1.5, 6.5), (7.5, 2.0, 4.5), (10.0, 2.5, 1.5), (12.5, 2.5, -4.0),
    ]
)  # fmt: skip
"""Positions of `ELECTRODES` in cm from the centre of the heart: to the patient's left, to the feet, to the front."""

CONDUCTION_EXPONENT = 0.7
REFERENCE_DISTANCE = 10.0
FIELD_STRENGTH = 1.1


@dataclass(frozen=True)
class Body:
    """The build of a patient, as far as it changes the potentials at the electrodes.

    Attributes
    ----------
    girth : float
        Size of the chest relative to the average one: tissue between the heart and the electrodes.
    breast : float
        Additional distance of V3 to V6 relative to the average chest.
    placement : ndarray, shape (9, 3)
        Displacement of each electrode from its textbook position in cm.
    """

    girth: float
    breast: float
    placement: FloatArray


def direction(frontal: float, front: float) -> FloatArray:
    """Return the unit vector of two angles: its components to the left, to the feet and to the front.

    Parameters
    ----------
    frontal : float
        Angle in the frontal plane in degrees, in the hexaxial system: 0 points to the left (lead I), 90 to the feet
        (aVF), -90 to the head.
    front : float
        Angle out of that plane in degrees; positive towards the chest wall.

    Returns
    -------
    ndarray, shape (3,)
    """
    in_plane, out_of_plane = np.deg2rad(frontal), np.deg2rad(front)
    flat = np.cos(out_of_plane)
    return np.array([flat * np.cos(in_plane), flat * np.sin(in_plane), np.sin(out_of_plane)])


def rotate_frontal(vectors: FloatArray, degrees: float | FloatArray) -> FloatArray:
    """Rotate vectors ``(..., 3)`` in the frontal plane; positive from the left towards the feet."""
    angle = np.deg2rad(degrees)
    cosine, sine = np.cos(angle), np.sin(angle)
    x, y, z = np.moveaxis(vectors, -1, 0)
    return np.stack([cosine * x - sine * y, sine * x + cosine * y, z], axis=-1)


def lead_field(body: Body, sources: FloatArray) -> FloatArray:
    """Return the potential of unit dipoles at each electrode, for several positions in the heart.

    The potential of a current dipole is the cosine of the angle to the electrode divided by a power of the distance.
    That power is 2 in an infinite conductor and smaller in the finite torso; with 0.7 the lead vectors agree in
    direction (cosine above 0.93) and length with those measured by Dower et al. [1]_.

    Parameters
    ----------
    body : Body
        The patient's build.
    sources : ndarray, shape (sources, 3)
        Positions of the dipoles in cm from the centre of the heart.

    Returns
    -------
    ndarray, shape (9, sources, 3)
        For each of `ELECTRODES`, mV per mV of dipole to the left, to the feet and to the front.

    References
    ----------
    .. [1] G. E. Dower, H. B. Machado, J. A. Osborne, "On deriving the electrocardiogram from vectorcardiographic
       leads", Clinical Cardiology 3 (1980) 87-95.
    """
    girth = np.full((len(ELECTRODES), 1), body.girth)
    girth[5:] *= body.breast
    electrodes = POSITIONS * girth + body.placement
    path = electrodes[:, None, :] - sources[None, :, :]
    distance = np.linalg.norm(path, axis=-1, keepdims=True)
    return FIELD_STRENGTH * path / distance * (REFERENCE_DISTANCE / distance) ** CONDUCTION_EXPONENT


def _lead_weights() -> FloatArray:
    """Return the weights ``(12, 9)`` of the electrodes in each lead; V1-V6 are against Wilson's central terminal."""
    right, left, leg = np.eye(3, len(ELECTRODES))
    wilson = (right + left + leg) / 3
    limb = [left - right, leg - right, leg - left]
    augmented = [right - (left + leg) / 2, left - (right + leg) / 2, leg - (right + left) / 2]
    return np.stack([*limb, *augmented, *(np.eye(len(ELECTRODES))[3:] - wilson)])


LEAD_WEIGHTS = _lead_weights()
"""Array ``(12, 9)``: the weight of each electrode in each lead, in the order of `ecgkit.signals.ecg.LEADS`."""
