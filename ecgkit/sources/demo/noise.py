"""Noise at the electrodes, and the filters of the recording device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkit.sources.demo.anatomy import ELECTRODES, Body, FloatArray, direction, lead_field
from ecgkit.sources.demo.dipole import ATRIA

N_ELECTRODES = len(ELECTRODES)


class Device(NamedTuple):
    """An electrocardiograph: its pass band in Hz, its gain, and the noise of its amplifier in mV."""

    low: float
    high: float
    gain: float
    amplifier: float


DEVICES = {
    "Demo A 12": Device(low=0.05, high=150.0, gain=1.0, amplifier=0.002),
    "Demo B 6": Device(low=0.15, high=75.0, gain=0.97, amplifier=0.004),
    "Demo C 3": Device(low=0.05, high=45.0, gain=1.02, amplifier=0.006),
}
"""The devices of the demo by name."""


class Spectrum:
    """The frequencies in Hz of the real Fourier transform of ``n_samples`` samples."""

    def __init__(self, n_samples: int, sampling_rate: int) -> None:
        self.n_samples = n_samples
        self.frequency: FloatArray = np.fft.rfftfreq(n_samples, 1 / sampling_rate).astype(np.float64)

    def unit_variance(self, shape: FloatArray) -> FloatArray:
        """Scale an amplitude spectrum so that noise drawn with it has variance 1 in time."""
        return shape * (self.n_samples / (2 * np.sqrt(np.sum(shape**2))))

    def tone(self, frequency: float) -> FloatArray:
        """Return the spectrum of a sine of amplitude 1 at the nearest frequency in Hz."""
        spectrum = np.zeros(len(self.frequency))
        spectrum[int(np.abs(self.frequency - frequency).argmin())] = self.n_samples / 2
        return spectrum

    def draw(self, shape: FloatArray, n_signals: int, rng: np.random.Generator) -> FloatArray:
        """Draw Gaussian noise of variance 1 with an amplitude spectrum, only where that is not zero."""
        used = np.flatnonzero(shape > 1e-3)
        draws = rng.standard_normal((2, n_signals, len(used)))
        spectrum = np.zeros((n_signals, len(shape)), dtype=complex)
        spectrum[:, used] = self.unit_variance(shape)[used] * (draws[0] + 1j * draws[1])
        return np.fft.irfft(spectrum, self.n_samples, axis=-1)


def record(
    electrodes: FloatArray, body: Body, plan: Mapping[str, Any], *, sampling_rate: int, rng: np.random.Generator
) -> FloatArray:
    """Add noise to the potentials of the heart, and filter the sum as the recording device does.

    Parameters
    ----------
    electrodes : ndarray, shape (9, samples)
        Potentials of the heart in mV.
    body : Body
        The patient's build.
    plan : mapping
        A row of `ecgkit.sources.demo.population.draw_plans`: the rhythm, the device, and the noise as the standard
        deviation in mV at an electrode: ``wander`` (below 0.5 Hz, from breathing and drift), ``hum`` (50 Hz mains),
        ``muscle`` (20 to 150 Hz), ``burst`` (muscle noise of about a second); ``loose`` is the index of an electrode
        with poor contact, or -1.
    sampling_rate : int
        In Hz.
    rng : numpy.random.Generator
        Source of the random numbers.

    Returns
    -------
    ndarray, shape (9, samples)
        In mV.
    """
    device, spectrum = DEVICES[plan["device"]], Spectrum(electrodes.shape[-1], sampling_rate)
    if plan["rhythm"] == "AFIB":
        electrodes = electrodes + _fibrillation_waves(body, spectrum, rng)
    if plan["burst"] > 0:
        electrodes = electrodes + _muscle_burst(plan["burst"], spectrum, rng)
    recorded = np.fft.rfft(electrodes, axis=-1) + _noise(plan, spectrum, device.amplifier, rng)
    return np.fft.irfft(_device_response(device, spectrum.frequency) * recorded, spectrum.n_samples, axis=-1)


def _noise(
    plan: Mapping[str, Any], spectrum: Spectrum, amplifier: float, rng: np.random.Generator
) -> NDArray[np.complex128]:
    """Draw the Fourier transform ``(9, frequencies)`` of baseline wander, mains hum, muscle and amplifier noise."""
    f = spectrum.frequency
    contact = np.exp(0.35 * rng.standard_normal((N_ELECTRODES, 1)))
    if plan["loose"] >= 0:
        contact[plan["loose"]] *= 5
    muscle = contact * plan["muscle"] * spectrum.unit_variance(_muscle_band(f))
    white = amplifier * spectrum.unit_variance(np.ones(len(f)))
    draws = rng.standard_normal((2, N_ELECTRODES, len(f)), dtype=np.float32)
    noise = np.sqrt(muscle**2 + white**2) * (draws[0] + 1j * draws[1])

    low = np.flatnonzero((f > 0) & (f < 1))
    drift = spectrum.unit_variance(np.exp(-((f / 0.25) ** 2)) * (f > 0))[low]
    breathing = spectrum.unit_variance(np.exp(-(((f - plan["respiration"]) / 0.05) ** 2)) * (f > 0))[low]
    own = rng.standard_normal((2, N_ELECTRODES, len(low)))
    shared = rng.standard_normal((2, 1, len(low)))
    wander = 0.6 * drift * (own[0] + 1j * own[1]) + 0.8 * breathing * (shared[0] + 1j * shared[1])
    noise[:, low] += contact * plan["wander"] * wander

    phase = rng.normal(rng.uniform(0, 2 * np.pi), 0.5, (N_ELECTRODES, 1))
    hum = spectrum.tone(50.0) * np.exp(1j * phase) + 0.15 * spectrum.tone(150.0) * np.exp(3j * phase)
    noise += contact * np.sqrt(2) * plan["hum"] * hum
    return noise


def _muscle_band(frequency: FloatArray) -> FloatArray:
    """Return the amplitude spectrum of muscle noise."""
    return np.exp(-0.5 * ((frequency - 60) / 45) ** 2) * (frequency > 15)


def _muscle_burst(strength: float, spectrum: Spectrum, rng: np.random.Generator) -> FloatArray:
    """Draw the muscle noise of a movement: about a second, at some of the electrodes."""
    place = np.linspace(0, 1, spectrum.n_samples)
    middle, affected = rng.uniform(0.15, 0.85), rng.random((N_ELECTRODES, 1)) < 0.6
    envelope = strength * affected * np.exp(-0.5 * ((place - middle) / 0.035) ** 2)
    return envelope * spectrum.draw(_muscle_band(spectrum.frequency), N_ELECTRODES, rng)


def _fibrillation_waves(body: Body, spectrum: Spectrum, rng: np.random.Generator) -> FloatArray:
    """Draw the potentials of fibrillating atria at the electrodes: 5 to 8 Hz, largest in V1."""
    middle, amplitude = rng.uniform(5.5, 7.0), rng.uniform(0.015, 0.045)
    wave = spectrum.draw(np.exp(-0.5 * ((spectrum.frequency - middle) / 0.6) ** 2), 2, rng)
    dipole = amplitude * (np.outer(direction(110, 40), wave[0]) + 0.5 * np.outer(direction(20, 0), wave[1]))
    return lead_field(body, ATRIA[None])[:, 0] @ dipole


def _device_response(device: Device, frequency: FloatArray) -> FloatArray:
    """Return the gain of a device at each frequency in Hz: zero phase, so that intervals stay, and 0 at 0 Hz."""
    with np.errstate(divide="ignore"):
        low = 1 + (device.low / frequency) ** 2
    return device.gain / np.sqrt(low * (1 + (frequency / device.high) ** 4))
