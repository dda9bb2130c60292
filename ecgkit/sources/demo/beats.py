"""The times of the beats, and the potentials of the heart at the electrodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ecgkit.sources.demo.anatomy import Body, FloatArray, lead_field
from ecgkit.sources.demo.dipole import Heart, extrasystole

BEFORE, AFTER = 0.46, 0.84  # extent of a beat before and after the onset of its QRS complex, in seconds


@dataclass(frozen=True)
class Rhythm:
    """The rhythm of one record.

    Attributes
    ----------
    rate : float
        Beats per minute.
    sinus_arrhythmia : float
        Relative change of the RR interval with respiration.
    respiration : float
        Breaths per second.
    fibrillation : bool
        Atrial fibrillation: irregular, no P waves.
    extrasystoles : int
        Number of ventricular extrasystoles.
    """

    rate: float
    sinus_arrhythmia: float
    respiration: float
    fibrillation: bool
    extrasystoles: int


@dataclass(frozen=True)
class Beats:
    """The beats of one record.

    Attributes
    ----------
    onsets : ndarray, shape (beats,)
        Onset of each QRS complex in seconds.
    intervals : ndarray, shape (beats,)
        RR interval before each beat in seconds.
    ectopic : ndarray of bool, shape (beats,)
        True for an extrasystole.
    breath : ndarray, shape (beats,)
        Phase of the respiration at each beat, from -1 to 1.
    """

    onsets: FloatArray
    intervals: FloatArray
    ectopic: np.ndarray
    breath: FloatArray


def draw_beats(rhythm: Rhythm, seconds: float, rng: np.random.Generator) -> Beats:
    """Draw the beats of ``seconds`` of a rhythm, including those that are partly before the start or after the end."""
    mean = 60 / rhythm.rate
    count = int((seconds + 3) / (0.5 * mean)) + 2
    start, phase = -1.0 - mean * rng.random(), 2 * np.pi * rng.random()
    jitter = rng.standard_normal(count)
    if rhythm.fibrillation:
        intervals = mean * np.clip(np.exp(0.22 * jitter - 0.024), 0.55, 1.9)
    else:
        breathing = np.sin(2 * np.pi * rhythm.respiration * mean * np.arange(count) + phase)
        intervals = mean * (1 + rhythm.sinus_arrhythmia * breathing + 0.008 * jitter)
    ectopic = np.zeros(count, dtype=bool)
    if rhythm.extrasystoles:
        inside = np.arange(4, max(5, int(seconds / mean)), 2)
        ectopic[rng.permutation(inside)[: rhythm.extrasystoles]] = True
        early = intervals[ectopic] * 0.38
        intervals[ectopic] -= early
        intervals[np.flatnonzero(ectopic) + 1] += early
    onsets = start + np.cumsum(intervals)
    keep = (onsets > -AFTER) & (onsets < seconds + BEFORE)
    breath = np.sin(2 * np.pi * rhythm.respiration * onsets + phase)
    return Beats(onsets[keep], intervals[keep], ectopic[keep], breath[keep])


def beat_electrodes(
    heart: Heart, body: Body, times: FloatArray, *, scale: FloatArray, interval: FloatArray, mean_interval: float
) -> FloatArray:
    """Return the potentials of beats of one kind at the electrodes.

    Parameters
    ----------
    heart : dict of str to Wave
        The waves of the beat.
    body : Body
        The patient's build.
    times : ndarray, shape (beats, samples)
        Time of each sample in ms after the onset of the QRS complex.
    scale : ndarray, shape (beats,)
        Amplitude of each beat relative to the average.
    interval : ndarray, shape (beats,)
        RR interval before each beat; repolarisation is later after a long one.
    mean_interval : float
        The RR interval that the waves are for, in the same unit.

    Returns
    -------
    ndarray, shape (beats, 9, samples)
        In mV.
    """
    waves = list(heart.values())
    field = lead_field(body, np.stack([w.place for w in waves]))
    dipoles = np.stack([w.amplitude * w.towards for w in waves])
    strength = np.einsum("ewx,wx->ew", field, dipoles)
    late = np.array([w.segment == "T" for w in waves])
    stretch = np.clip(interval / mean_interval, 0.6, 1.5) ** (1 / 3)
    peaks = np.array([w.peak for w in waves]) * np.where(late, stretch[:, None], 1.0)
    rise, fall = (np.array([[getattr(w, side)] for w in waves], dtype=np.float32) for side in ("rise", "fall"))
    # Single precision halves the time of the exponentials; the error is far below a microvolt.
    distance = times.astype(np.float32)[:, None, :] - peaks.astype(np.float32)[:, :, None]
    distance /= np.where(distance < 0, rise, fall)
    shape = np.exp(np.float32(-0.5) * distance * distance)
    return scale[:, None, None] * (strength.astype(np.float32) @ shape)


def heart_potentials(
    heart: Heart, body: Body, rhythm: Rhythm, *, seconds: float, sampling_rate: int, rng: np.random.Generator
) -> FloatArray:
    """Return the potentials of the heart at the electrodes, without noise.

    Parameters
    ----------
    heart : dict of str to Wave
        The waves of one beat.
    body : Body
        The patient's build.
    rhythm : Rhythm
        The rhythm.
    seconds : float
        Duration.
    sampling_rate : int
        In Hz.
    rng : numpy.random.Generator
        Source of the random numbers.

    Returns
    -------
    ndarray, shape (9, samples)
        In mV.
    """
    beats = draw_beats(rhythm, seconds, rng)
    scale = 1 + 0.045 * beats.breath + 0.015 * rng.standard_normal(len(beats.onsets))
    before, after = round(BEFORE * sampling_rate), round(AFTER * sampling_rate)
    grid = np.arange(-before, after) / sampling_rate
    first = np.floor(beats.onsets * sampling_rate).astype(int)
    times = 1000 * (grid + (first / sampling_rate - beats.onsets)[:, None])
    n_samples = round(seconds * sampling_rate)
    padded = np.zeros((len(body.placement), before + n_samples + before + 2 * after))
    if rhythm.fibrillation:
        heart = {name: wave for name, wave in heart.items() if wave.segment != "P"}
    for waves, chosen in ((heart, ~beats.ectopic), (extrasystole(heart), beats.ectopic)):
        if chosen.any():
            intervals = {"interval": beats.intervals[chosen], "mean_interval": 60 / rhythm.rate}
            drawn = beat_electrodes(waves, body, times[chosen], scale=scale[chosen], **intervals)
            for start, beat in zip(first[chosen] + after, drawn, strict=True):
                padded[:, start : start + before + after] += beat
    return padded[:, before + after : before + after + n_samples]
