"""Faults of a recording, planted in some records of a training batch, so that a network learns to read past them.

All of them keep the labels. What comes from an electrode (offset, wander, hum) is planted in the nine electrodes and
the leads are derived from these, so that Einthoven's law holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.signal import firwin
from torch import Tensor
from torch.nn import functional

N_LIMB_LEADS = 6
OFFSET, WANDER, HUM = 1.0, 1.0, 0.3
"""Largest sizes at an electrode, in mV: of an offset, and of the waves from zero to their top."""
WANDER_HZ, HUM_HZ = (0.05, 0.5), (50, 60)
GAP_SECONDS = (0.1, 1.0)
LOW_PASS = 40.0
"""In Hz, as monitors and many files have it."""

ELECTRODES = np.zeros((12, 9), np.float32)
"""The leads as sums over the electrodes right arm, left arm, left leg, V1 to V6."""
ELECTRODES[:6, :3] = np.array([[-1, 1, 0], [-1, 0, 1], [0, -1, 1], [1, -0.5, -0.5], [-0.5, 1, -0.5], [-0.5, -0.5, 1]])
ELECTRODES[6:] = np.hstack([np.full((6, 3), -1 / 3), np.eye(6)])


@dataclass(frozen=True)
class Batch:
    """Some records to plant a fault in: standardised signal, seconds of each sample, sizes of the leads.

    Attributes
    ----------
    signal : Tensor, shape (records, 12, samples)
        Standardised.
    sampling_rate : int
        In Hz.
    leads : Tensor, shape (12, 9)
        What 1 mV at an electrode is in each standardised lead.
    uniform : callable
        Draws a tensor of some shape from 0 to 1.
    """

    signal: Tensor
    sampling_rate: int
    leads: Tensor
    uniform: Callable[..., Tensor]

    def waves(self, frequency: Tensor, size: float) -> Tensor:
        """Add a sine at each electrode, of up to a size in mV."""
        records, _, samples = self.signal.shape
        seconds = torch.arange(samples, device=self.signal.device) / self.sampling_rate
        phase = 2 * math.pi * self.uniform(records, 9, 1)
        sine = torch.sin(2 * math.pi * frequency * seconds + phase)
        return self.signal + self.leads @ (size * self.uniform(records, 9, 1) * sine)


def offset(batch: Batch) -> Tensor:
    """Add a constant at each electrode."""
    return batch.signal + batch.leads @ (OFFSET * (2 * batch.uniform(len(batch.signal), 9, 1) - 1))


def wander(batch: Batch) -> Tensor:
    """Add a slow sine at each electrode, with a common scale for the record."""
    low, high = WANDER_HZ
    size = batch.uniform(len(batch.signal), 1, 1)
    added = batch.waves(low + (high - low) * batch.uniform(len(batch.signal), 9, 1), WANDER) - batch.signal
    return batch.signal + size * added


def hum(batch: Batch) -> Tensor:
    """Add mains hum of 50 or 60 Hz at each electrode, aliased as a recorder without a filter would."""
    first, second = HUM_HZ
    is_first = batch.uniform(len(batch.signal), 1, 1) < 0.5
    return batch.waves(torch.where(is_first, float(first), float(second)), HUM)


def lead(batch: Batch) -> Tensor:
    """Set one lead to zero."""
    silent = (batch.uniform(len(batch.signal), 1, 1) * 12).long()
    return batch.signal * (torch.arange(12, device=batch.signal.device)[:, None] != silent)


def leads(batch: Batch) -> Tensor:
    """Set a run of neighbouring chest leads to zero or, in one record of four, all limb leads."""
    number = torch.arange(12, device=batch.signal.device)[:, None]
    ends = N_LIMB_LEADS + (batch.uniform(2, len(batch.signal), 1, 1) * 6).long()
    chest = (number >= ends.amin(dim=0)) & (number <= ends.amax(dim=0))
    silent = torch.where(batch.uniform(len(batch.signal), 1, 1) < 0.25, number < N_LIMB_LEADS, chest)
    return batch.signal * ~silent


def gap(batch: Batch) -> Tensor:
    """Replace a stretch of some leads by a straight line, as a gap is repaired, which is held at the ends."""
    records, _, samples = batch.signal.shape
    shortest, longest = (seconds * batch.sampling_rate for seconds in GAP_SECONDS)
    length = (shortest + (longest - shortest) * batch.uniform(records, 1, 1)).round().clamp(1, samples - 1).long()
    before = (batch.uniform(records, 1, 1) * (samples - length + 1)).long() - 1
    after = before + length + 1
    time = torch.arange(samples, device=batch.signal.device)
    share = ((time - before) / (length + 1)).clamp(0, 1)

    def value(position: Tensor) -> Tensor:
        return batch.signal.gather(2, position.clamp(0, samples - 1).expand(-1, 12, 1))

    left, right = value(torch.where(before < 0, after, before)), value(torch.where(after >= samples, before, after))
    chosen = batch.uniform(records, 12, 1) < batch.uniform(records, 1, 1)
    inside = (time > before) & (time < after) & chosen
    return torch.where(inside, left + share * (right - left), batch.signal)


def low_pass(batch: Batch) -> Tensor:
    """Remove what is above 40 Hz; nothing at sampling rates that hold no more."""
    if batch.sampling_rate <= 2 * LOW_PASS:
        return batch.signal
    taps = 2 * round(0.15 * batch.sampling_rate) + 1
    kernel = torch.from_numpy(firwin(taps, LOW_PASS, fs=batch.sampling_rate)).to(batch.signal)
    padded = functional.pad(batch.signal, (taps // 2, taps // 2), mode="replicate")
    return functional.conv1d(padded.flatten(0, 1)[:, None], kernel[None, None]).view_as(batch.signal)


FAULTS: dict[str, Callable[[Batch], Tensor]] = {
    "offset": offset,
    "wander": wander,
    "hum": hum,
    "lead": lead,
    "leads": leads,
    "gap": gap,
    "low_pass": low_pass,
}
"""Every fault by the name that users give."""


@dataclass(frozen=True)
class Faults:
    """Plant each fault in a record with a probability, independently of the others.

    Attributes
    ----------
    probabilities : mapping of str to float
        Of `FAULTS`, from 0 to 1.
    sampling_rate : int
        In Hz.
    std : array-like of float, shape (12,)
        The standard deviation by which each lead was divided, in mV.
    """

    probabilities: Mapping[str, float]
    sampling_rate: int
    std: ArrayLike

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        """Return a batch of standardised signals, ``(records, 12, samples)``, with faults; the input stays as it is."""

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator).to(signal.device)

        std = np.broadcast_to(np.asarray(self.std, np.float32), 12)
        scale = np.where(np.isfinite(std) & (std > 0), std, np.float32(1))
        leads_of_electrodes = torch.from_numpy(ELECTRODES / scale[:, None]).to(signal)
        for name, probability in self.probabilities.items():
            rows = torch.nonzero(uniform(len(signal)) < probability)[:, 0]
            if len(rows):
                batch = Batch(signal[rows], self.sampling_rate, leads_of_electrodes, uniform)
                signal = signal.index_copy(0, rows, FAULTS[name](batch))
        return signal
