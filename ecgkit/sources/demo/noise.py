"""What the electrodes pick up beside the heart, and what the device makes of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecgkit.sources.demo.anatomy import Body, FloatArray, direction, lead_field
from ecgkit.sources.demo.dipole import ATRIA


@dataclass(frozen=True)
class Noise:
    """Strength of each disturbance in one record, standard deviation in mV at an electrode.

    Attributes
    ----------
    wander : float
        Baseline wander: breathing and slow drift of the electrodes, below 0.5 Hz.
    hum : float
        50 Hz from the mains.
    muscle : float
        Muscle noise, 20 to 150 Hz.
    loose : int
        Index of an electrode with poor contact, or -1.
    """

    wander: float
    hum: float
    muscle: float
    loose: int


@dataclass(frozen=True)
class Device:
    """An electrocardiograph: the band that it passes, in Hz, its gain, and the noise of its amplifier in mV."""

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


@dataclass(frozen=True)
class Band:
    """The bins of a Fourier transform of ``n_samples`` samples.

    Attributes
    ----------
    n_samples : int
        Samples in time.
    frequency : ndarray
        Frequency of each bin in Hz.
    """

    n_samples: int
    frequency: FloatArray

    @classmethod
    def of(cls, n_samples: int, *, sampling_rate: int) -> Band:
        """Bins of the real Fourier transform at a sampling rate in Hz."""
        frequency: FloatArray = np.fft.rfftfreq(n_samples, 1 / sampling_rate).astype(np.float64)
        return cls(n_samples, frequency)

    def unit(self, shape: FloatArray) -> FloatArray:
        """Scale an amplitude spectrum so that noise drawn with it has variance 1 in time."""
        scaled: FloatArray = shape * (self.n_samples / (2 * np.sqrt(np.sum(shape**2))))
        return scaled

    def tone(self, frequency: float) -> FloatArray:
        """Spectrum of a sine of amplitude 1 at the bin next to a frequency in Hz."""
        spectrum = np.zeros(len(self.frequency))
        spectrum[int(np.abs(self.frequency - frequency).argmin())] = self.n_samples / 2
        return spectrum


def noise_spectrum(
    noise: Noise, band: Band, *, respiration: float, amplifier: float, n_electrodes: int, rng: np.random.Generator
) -> NDArray[np.complex128]:
    """Draw the transform of what each electrode picks up: baseline wander, mains hum, muscle and amplifier noise.

    Parameters
    ----------
    noise : Noise
        Strengths.
    band : Band
        Bins.
    respiration : float
        Breaths a second; part of the wander follows them.
    amplifier : float
        White noise in mV.
    n_electrodes : int
        Number of electrodes.
    rng : numpy.random.Generator
        Decides everything that is drawn.

    Returns
    -------
    ndarray of complex, shape (n_electrodes, bins)
        Of a signal in mV.
    """
    f = band.frequency
    contact = np.exp(0.35 * rng.standard_normal((n_electrodes, 1)))
    if noise.loose >= 0:
        contact[noise.loose] *= 5
    muscle = contact * noise.muscle * band.unit(_muscle_band(f))
    white = amplifier * band.unit(np.ones(len(f)))
    draws = rng.standard_normal((2, n_electrodes, len(f)), dtype=np.float32)
    spectrum = np.sqrt(muscle**2 + white**2) * (draws[0] + 1j * draws[1])

    low = np.flatnonzero((f > 0) & (f < 1))
    drift = band.unit(np.exp(-((f / 0.25) ** 2)) * (f > 0))[low]
    breathing = band.unit(np.exp(-(((f - respiration) / 0.05) ** 2)) * (f > 0))[low]
    own = rng.standard_normal((2, n_electrodes, len(low)))
    shared = rng.standard_normal((2, 1, len(low)))
    wander = 0.6 * drift * (own[0] + 1j * own[1]) + 0.8 * breathing * (shared[0] + 1j * shared[1])
    spectrum[:, low] += contact * noise.wander * wander

    phase = rng.normal(rng.uniform(0, 2 * np.pi), 0.5, (n_electrodes, 1))
    hum = band.tone(50.0) * np.exp(1j * phase) + 0.15 * band.tone(150.0) * np.exp(3j * phase)
    spectrum += contact * np.sqrt(2) * noise.hum * hum
    return spectrum


def _muscle_band(frequency: FloatArray) -> FloatArray:
    return np.exp(-0.5 * ((frequency - 60) / 45) ** 2) * (frequency > 15)


def _draw(band: Band, shape: FloatArray, n_signals: int, rng: np.random.Generator) -> FloatArray:
    """Gaussian noise of variance 1 with an amplitude spectrum, made only of the bins where that is not zero."""
    used = np.flatnonzero(shape > 1e-3)
    draws = rng.standard_normal((2, n_signals, len(used)))
    spectrum = np.zeros((n_signals, len(shape)), dtype=complex)
    spectrum[:, used] = band.unit(shape)[used] * (draws[0] + 1j * draws[1])
    return np.fft.irfft(spectrum, band.n_samples, axis=-1)


def muscle_burst(strength: float, band: Band, *, n_electrodes: int, rng: np.random.Generator) -> FloatArray:
    """Draw the muscle noise of a movement: about a second of it, at some of the electrodes.

    Parameters
    ----------
    strength : float
        Standard deviation at its height, in mV.
    band : Band
        Bins.
    n_electrodes : int
        Number of electrodes.
    rng : numpy.random.Generator
        Decides everything that is drawn.

    Returns
    -------
    ndarray, shape (n_electrodes, n_samples)
        In mV.
    """
    place = np.linspace(0, 1, band.n_samples)
    middle, touched = rng.uniform(0.15, 0.85), rng.random((n_electrodes, 1)) < 0.6
    envelope = strength * touched * np.exp(-0.5 * ((place - middle) / 0.035) ** 2)
    burst: FloatArray = envelope * _draw(band, _muscle_band(band.frequency), n_electrodes, rng)
    return burst


def fibrillation_waves(body: Body, band: Band, *, rng: np.random.Generator) -> FloatArray:
    """Draw the potentials of fibrillating atria at the electrodes: 5 to 8 Hz, coarsest in V1.

    Parameters
    ----------
    body : Body
        The patient's build.
    band : Band
        Bins.
    rng : numpy.random.Generator
        Decides everything that is drawn.

    Returns
    -------
    ndarray, shape (9, n_samples)
        In mV.
    """
    middle, amplitude = rng.uniform(5.5, 7.0), rng.uniform(0.015, 0.045)
    wave = _draw(band, np.exp(-0.5 * ((band.frequency - middle) / 0.6) ** 2), 2, rng)
    dipole = amplitude * (np.outer(direction(110, 40), wave[0]) + 0.5 * np.outer(direction(20, 0), wave[1]))
    potentials: FloatArray = lead_field(body, ATRIA[None])[:, 0] @ dipole
    return potentials


def device_response(device: Device, band: Band) -> FloatArray:
    """Work out the gain of a device at each bin: without phase, so that intervals stay, and 0 at 0 Hz.

    Parameters
    ----------
    device : Device
        The device.
    band : Band
        Bins.

    Returns
    -------
    ndarray, shape (bins,)
    """
    with np.errstate(divide="ignore"):
        low = 1 + (device.low / band.frequency) ** 2
    response: FloatArray = device.gain / np.sqrt(low * (1 + (band.frequency / device.high) ** 4))
    return response
