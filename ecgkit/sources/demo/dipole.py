"""The moving heart dipole: the waves of a healthy heart, and how each disease changes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ecgkit.sources.demo.anatomy import FloatArray, direction, rotate_frontal


@dataclass(frozen=True)
class Wave:
    """One part of the heart cycle, in which the dipole points in one direction.

    Attributes
    ----------
    segment : str
        ``"P"``, ``"QRS"``, ``"ST"`` or ``"T"``.
    peak : float
        Time of the peak in ms after the onset of the QRS complex; negative for P waves.
    rise, fall : float
        Standard deviations of the Gaussian before and after the peak, in ms.
    amplitude : float
        Strength of the dipole in mV: about the potential at an electrode 10 cm away in its direction.
    towards : ndarray, shape (3,)
        Direction of the dipole: left, feet, front.
    place : ndarray, shape (3,)
        Position in cm from the centre of the heart.
    """

    segment: str
    peak: float
    rise: float
    fall: float
    amplitude: float
    towards: FloatArray
    place: FloatArray


Heart = dict[str, Wave]


@dataclass(frozen=True)
class Physiology:
    """The properties of one healthy heart.

    Attributes
    ----------
    axis : float
        Electrical axis of the QRS complex in the frontal plane, in degrees.
    qrs, pr, qt : float
        Intervals in ms.
    voltage, p_voltage, t_voltage : float
        Amplitudes of QRS, P and T relative to the average.
    early_repolarisation : float
        Elevation of the J point in mV, as in young men.
    t_front : float
        Angle of the T wave to the front, in degrees.
    """

    axis: float
    qrs: float
    pr: float
    qt: float
    voltage: float
    p_voltage: float
    t_voltage: float
    early_repolarisation: float
    t_front: float


def _at(left: float, feet: float, front: float) -> FloatArray:
    """Return a position in cm."""
    return np.array([left, feet, front])


ATRIA = _at(-1.0, -4.0, -1.0)
SEPTUM = _at(-1.0, 0.0, 2.0)
APEX = _at(2.0, 1.0, 1.0)
FREE_WALL = _at(2.5, 0.0, -1.0)
REPOLARISATION = _at(1.0, 0.5, 0.0)
BASE = _at(0.0, -3.0, -3.0)
RIGHT_VENTRICLE = _at(-2.5, 0.5, 3.0)


def healthy_heart(body: Physiology) -> Heart:
    """Return the waves of a healthy heart: atria, septum, apex, left free wall, base, and repolarisation."""
    unit = body.qrs / 90
    v, p, t = body.voltage, body.p_voltage, body.t_voltage
    turn = body.axis - 58
    heart = {
        "right atrium": Wave("P", 45 - body.pr, 16, 16, 0.09 * p, direction(68, 25), ATRIA),
        "left atrium": Wave("P", 75 - body.pr, 16, 16, 0.075 * p, direction(40, -35), ATRIA),
        "septum": Wave("QRS", 16 * unit, 6 * unit, 7 * unit, 0.24 * v, direction(-165, 55), SEPTUM),
        "apex": Wave("QRS", 35 * unit, 8 * unit, 8 * unit, 0.85 * v, direction(46, 40), APEX),
        "free wall": Wave("QRS", 46 * unit, 8.5 * unit, 9.5 * unit, 1.25 * v, direction(40, -30), FREE_WALL),
        "base": Wave("QRS", 66 * unit, 10 * unit, 9 * unit, 0.42 * v, direction(-125, -62), BASE),
        "J point": Wave("ST", body.qrs + 30, 20, 75, body.early_repolarisation, direction(40, 55), APEX),
        "T": Wave("T", body.qt - 85, 52, 34, 0.36 * t, direction(42 + 0.25 * turn, body.t_front), REPOLARISATION),
    }
    for name in ("septum", "apex", "free wall", "base"):
        heart[name] = replace(heart[name], towards=rotate_frontal(heart[name].towards, turn))
    return heart


def individual_heart(heart: Heart, rng: np.random.Generator) -> Heart:
    """Vary the strength and the direction of each wave at random: no two hearts are alike."""
    varied = {}
    for name, wave in heart.items():
        towards = wave.towards + rng.normal(0, 0.14, 3)
        towards /= np.linalg.norm(towards)
        varied[name] = replace(wave, towards=towards, amplitude=wave.amplitude * float(np.exp(rng.normal(0, 0.15))))
    return varied


def scale_waves(heart: Heart, factors: dict[str, float]) -> Heart:
    """Multiply the amplitudes of some waves."""
    return heart | {name: replace(heart[name], amplitude=heart[name].amplitude * f) for name, f in factors.items()}


def stretch_qrs(heart: Heart, factor: float) -> Heart:
    """Multiply the times and widths of the QRS waves, and delay the ST segment and the T wave."""
    stretched = {}
    for name, wave in heart.items():
        slow = factor if wave.segment == "QRS" else 1.0
        stretched[name] = replace(wave, peak=wave.peak * slow, rise=wave.rise * slow, fall=wave.fall * slow)
    return _delay_repolarisation(stretched, 90 * (factor - 1))


def _delay_repolarisation(heart: Heart, by: float) -> Heart:
    """Delay ST by ``by`` ms, for a longer QRS complex, and T by a part of it."""
    share = {"ST": 1.0, "T": 0.6}
    return {name: replace(w, peak=w.peak + share.get(w.segment, 0.0) * by) for name, w in heart.items()}


# Infarction


@dataclass(frozen=True)
class Territory:
    """A region of the left ventricle: its direction from inside, its position, and the waves an infarction removes."""

    faces: FloatArray
    place: FloatArray
    lost: dict[str, float]


TERRITORIES = {
    "ASMI": Territory(direction(-35, 68), _at(0.0, 0.0, 3.5), {"septum": 0.8, "apex": 0.45}),
    "AMI": Territory(direction(10, 58), _at(2.5, 0.5, 3.5), {"septum": 0.3, "apex": 0.8}),
    "ALMI": Territory(direction(-10, 30), _at(4.0, 0.0, 2.0), {"apex": 0.6, "free wall": 0.2}),
    "LMI": Territory(direction(-18, -5), _at(4.5, -0.5, -0.5), {"free wall": 0.25}),
    "IMI": Territory(direction(96, 0), _at(0.0, 4.0, -1.0), {"apex": 0.15}),
    "ILMI": Territory(direction(58, -12), _at(3.0, 3.0, -1.5), {"apex": 0.2, "free wall": 0.2}),
}
"""The territory of each SCP code of an infarction, with the share of each wave that a full infarction removes."""


def infarct(heart: Heart, code: str, severity: float, stage: float) -> Heart:
    """Remove a territory from the heart: a Q wave, an injury current and a T wave.

    Parameters
    ----------
    heart : dict of str to Wave
        The heart before the infarction.
    code : str
        A key of `TERRITORIES`.
    severity : float
        0 to 1.
    stage : float
        0 is acute (ST elevation, upright T), 0.5 some days old (Q wave, inverted T), 1 old (a scar).

    Returns
    -------
    dict of str to Wave
    """
    territory = TERRITORIES[code]
    apex, t_wave, j_point = heart["apex"], heart["T"], heart["J point"]
    scar = severity * (0.55 + 0.45 * min(1.0, 2 * stage))
    heart = scale_waves(heart, {name: 1 - share * scar for name, share in territory.lost.items()})
    injury = (0.05 + 0.3 * severity) * (1 - stage) ** 1.5 + 0.02 + 0.05 * severity
    inversion = (0.03 + 0.33 * severity) * (np.sin(np.pi * min(1.0, stage / 0.9)) - 0.45 * max(0.0, 1 - 4 * stage))
    q_wave = 0.08 + 0.85 * scar
    away, place = -territory.faces, territory.place
    return heart | {
        f"{code} Q": Wave("QRS", 0.78 * apex.peak, 1.05 * apex.rise, 1.25 * apex.fall, q_wave, away, place),
        f"{code} ST": Wave("ST", j_point.peak + 10, 16, 85, injury, territory.faces, place),
        f"{code} T": Wave("T", t_wave.peak + 8, 45, 36, inversion, away, place),
    }


# Repolarisation


def depress_st(heart: Heart, amount: float, frontal: float = 35, front: float = 15) -> Heart:
    """Add a horizontal ST depression of ``amount`` mV in the leads of a direction."""
    peak = heart["J point"].peak + 30
    return heart | {"ST depression": Wave("ST", peak, 24, 75, amount, -direction(frontal, front), APEX)}


def invert_t(heart: Heart, amount: float, frontal: float, front: float, *, keep: float) -> Heart:
    """Reduce the T wave to a share, and add one of ``amount`` mV against a direction."""
    heart = scale_waves(heart, {"T": keep})
    wave = heart["T"]
    return heart | {
        "T inversion": replace(wave, rise=48, fall=36, amplitude=amount, towards=-direction(frontal, front))
    }


def _ischaemia(heart: Heart, s: float) -> Heart:
    """Depress ST and invert T in the lateral leads."""
    heart = scale_waves(depress_st(heart, 0.02 + 0.17 * s, 35, 20), {"J point": 0.5 - 0.4 * s})
    return invert_t(heart, 0.02 + 0.26 * s, 30, 15, keep=0.7 - 0.6 * s)


def _anterolateral_ischaemia(heart: Heart, s: float) -> Heart:
    """Invert T in the anterolateral leads."""
    heart = scale_waves(depress_st(heart, 0.02 + 0.06 * s, 0, 40), {"J point": 0.3})
    return invert_t(heart, 0.03 + 0.45 * s, 0, 42, keep=0.7 - 0.6 * s)


def _inferior_ischaemia(heart: Heart, s: float) -> Heart:
    """Invert T in the inferior leads."""
    heart = depress_st(heart, 0.01 + 0.1 * s, 92, 0)
    return invert_t(heart, 0.06 + 0.33 * s, 95, -5, keep=0.8)


# Hypertrophy


def _left_ventricular_hypertrophy(heart: Heart, s: float) -> Heart:
    """Raise the voltage of the left ventricle, with strain if severe."""
    # Relative to the amplitude of this heart, so that the final voltage is what depends on the severity.
    grown = max(1.0, (1.55 + 1.2 * s) / max(heart["free wall"].amplitude, 0.3))
    heart = scale_waves(
        heart, {"free wall": grown, "apex": 1 + 0.35 * s, "septum": 1.1, "left atrium": 1.15 + 0.35 * s}
    )
    heart = stretch_qrs(heart, 1.0 + 0.08 * s)
    return strain(heart, max(0.0, 1.2 * s - 0.45))


def strain(heart: Heart, s: float) -> Heart:
    """Add left ventricular strain: ST and T point away from the hypertrophic wall, T falls slowly and rises fast."""
    if s <= 0:
        return heart
    wall = heart["free wall"].towards
    heart = scale_waves(heart, {"T": 1 - 0.85 * min(1.0, 1.3 * s), "J point": 0.4})
    peak, t_peak = heart["J point"].peak + 45, heart["T"].peak - 8
    return heart | {
        "strain ST": Wave("ST", peak, 28, 70, 0.05 + 0.13 * s, -wall, FREE_WALL),
        "strain T": Wave("T", t_peak, 62, 28, 0.08 + 0.32 * s, -wall, FREE_WALL),
    }


def _left_atrial_enlargement(heart: Heart, s: float) -> Heart:
    """Make the second half of the P wave late and large."""
    wave = heart["left atrium"]
    late = replace(wave, peak=wave.peak + 14 + 14 * s, amplitude=wave.amplitude * (1.35 + 0.5 * s))
    return heart | {"left atrium": late}


# Conduction


def _right_bundle(heart: Heart, s: float) -> Heart:
    """Activate the right ventricle late: rSR' in V1, a broad S wave in I and V6."""
    end = 122 + 26 * s
    heart = _delay_repolarisation(scale_waves(heart, {"base": 0.5}), end - 90)
    late, t_peak = heart["free wall"].amplitude * (0.42 + 0.2 * s), heart["T"].peak
    return heart | {
        "late right ventricle": Wave("QRS", end - 36, 12, 14.5, late, direction(172, 40), RIGHT_VENTRICLE),
        "secondary T": Wave("T", t_peak, 48, 34, 0.10 + 0.1 * s, direction(-10, -60), RIGHT_VENTRICLE),
    }


def _incomplete_right_bundle(heart: Heart, s: float) -> Heart:
    """Activate the right ventricle slightly late."""
    heart = scale_waves(heart, {"base": 0.55})
    late = heart["free wall"].amplitude * (0.1 + 0.22 * s)
    peak = heart["base"].peak + 6 + 6 * s
    return heart | {"late right ventricle": Wave("QRS", peak, 8.5, 9.5, late, direction(175, 48), RIGHT_VENTRICLE)}


def _left_bundle(heart: Heart, s: float) -> Heart:
    """Activate the left ventricle slowly from the right: a broad, notched R wave in I and V6."""
    scale = (132 + 26 * s) / 140
    strength = 0.55 + 0.45 * heart["free wall"].amplitude
    wall = heart["free wall"].towards
    axis = float(np.rad2deg(np.arctan2(wall[1], wall[0]))) - 15
    heart = scale_waves(heart, {"septum": 0.0, "apex": 0.12, "free wall": 0.0, "base": 0.0, "T": 0.15, "J point": 0.0})
    heart = _delay_repolarisation(heart, 140 * scale - 90)
    st_peak, t_peak = heart["J point"].peak + 10, heart["T"].peak
    across = direction(axis, -35)
    return heart | {
        "right septum": Wave("QRS", 22 * scale, 9 * scale, 10 * scale, 0.3 * strength, direction(20, 5), SEPTUM),
        "slow septum": Wave("QRS", 48 * scale, 13 * scale, 13 * scale, 1.0 * strength, direction(axis, -30), SEPTUM),
        "slow wall": Wave("QRS", 90 * scale, 17 * scale, 16 * scale, 1.15 * strength, across, FREE_WALL),
        "discordant ST": Wave("ST", st_peak, 24, 80, 0.16 * strength, -across, FREE_WALL),
        "discordant T": Wave("T", t_peak, 58, 34, 0.36 * strength, -across, FREE_WALL),
    }


def _left_anterior_fascicle(heart: Heart, s: float) -> Heart:
    """Turn the axis to the left."""
    # First down and to the right, then up and to the left: qR in aVL, rS in II, III and aVF.
    upwards = -34 - 30 * s
    turned = {
        "septum": direction(120, 25),
        "apex": direction(upwards + 45, 25),
        "free wall": direction(upwards, -30),
        "base": direction(upwards - 20, -30),
    }
    heart = heart | {name: replace(heart[name], towards=towards) for name, towards in turned.items()}
    return stretch_qrs(heart, 1 + 0.08 * s)


def _slow_ventricles(heart: Heart, s: float) -> Heart:
    """Widen the QRS complex."""
    return stretch_qrs(heart, (108 + 26 * s) / max(heart["base"].peak / 66 * 90, 80))


def _slow_av_node(heart: Heart, s: float) -> Heart:
    """Lengthen the PR interval."""
    atria = {name: w for name, w in heart.items() if w.segment == "P"}
    pr = 45 - heart["right atrium"].peak
    longer = max(203 + 105 * s - pr, 0)
    return heart | {name: replace(w, peak=w.peak - longer) for name, w in atria.items()}


EFFECTS: dict[str, Callable[[Heart, float], Heart]] = {
    "LVH": _left_ventricular_hypertrophy, "LAO/LAE": _left_atrial_enlargement, "LAFB": _left_anterior_fascicle,
    "IVCD": _slow_ventricles, "IRBBB": _incomplete_right_bundle, "CRBBB": _right_bundle, "CLBBB": _left_bundle,
    "1AVB": _slow_av_node,
    "NDT": lambda heart, s: invert_t(heart, 0.01 + 0.09 * s, 20, 10, keep=0.75 - 0.6 * s),
    "NST_": lambda heart, s: scale_waves(
        depress_st(heart, 0.02 + 0.12 * s), {"T": 0.9 - 0.4 * s, "J point": 0.6 - 0.5 * s}
    ),
    "ISC_": _ischaemia, "ISCAL": _anterolateral_ischaemia, "ISCIN": _inferior_ischaemia,
}  # fmt: skip
"""The effect of each SCP code other than infarctions on a heart, at a severity from 0 to 1."""


def diseased_heart(heart: Heart, findings: dict[str, float], stage: float) -> Heart:
    """Apply findings to a healthy heart: muscle, then conduction, then repolarisation.

    Parameters
    ----------
    heart : dict of str to Wave
        From `healthy_heart`.
    findings : dict of str to float
        SCP code to severity, 0 to 1.
    stage : float
        Age of the infarction, see `infarct`.

    Returns
    -------
    dict of str to Wave
    """
    muscle = ("LVH", "LAO/LAE", "LAFB")
    order = [code for code in muscle if code in findings]
    order += [code for code in TERRITORIES if code in findings]
    order += [code for code in EFFECTS if code in findings and code not in muscle]
    for code in order:
        severity = findings[code]
        heart = infarct(heart, code, severity, stage) if code in TERRITORIES else EFFECTS[code](heart, severity)
    return heart


def extrasystole(heart: Heart) -> Heart:
    """Return the waves of a ventricular extrasystole: no P wave, a wide QRS complex, and a discordant T wave."""
    strength = 0.8 + 0.5 * heart["free wall"].amplitude
    return {
        "early": Wave("QRS", 40, 16, 16, strength, direction(75, -10), RIGHT_VENTRICLE),
        "late": Wave("QRS", 85, 18, 20, 1.1 * strength, direction(60, -45), FREE_WALL),
        "T": Wave("T", 300, 60, 45, 0.4 * strength, -direction(65, -30), FREE_WALL),
    }


def segment_ends(heart: Heart) -> dict[str, tuple[float, float]]:
    """Return onset and end of P and of QRS, and peak and end of T, in ms after the onset of QRS.

    P and QRS reach 2.5 standard deviations beyond the peaks of their first and last wave; waves below 5 % of the
    largest do not count. T ends where the tangent to the steepest fall of the dipole meets zero.
    """

    def waves(segment: str) -> list[Wave]:
        members = [wave for wave in heart.values() if wave.segment == segment]
        largest = max(wave.amplitude for wave in members)
        return [wave for wave in members if wave.amplitude >= 0.05 * largest]

    def ends(segment: str) -> tuple[float, float]:
        members = waves(segment)
        return min(w.peak - 2.5 * w.rise for w in members), max(w.peak + 2.5 * w.fall for w in members)

    times = np.arange(heart["T"].peak - 100, heart["T"].peak + 200)
    dipole = np.zeros((3, len(times)))
    for wave in waves("T"):
        distance = times - wave.peak
        shape = np.exp(-0.5 * (distance / np.where(distance < 0, wave.rise, wave.fall)) ** 2)
        dipole += wave.amplitude * wave.towards[:, None] * shape
    size = np.linalg.norm(dipole, axis=0)
    slope = np.gradient(size)
    peak, steepest = int(np.argmax(size)), int(np.argmin(slope))
    return {"P": ends("P"), "QRS": ends("QRS"), "T": (times[peak], times[steepest] - size[steepest] / slope[steepest])}
