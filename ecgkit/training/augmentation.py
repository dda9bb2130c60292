"""Random changes of a training batch that leave its labels true."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """Time shift, amplitude, lead dropout, noise and baseline wander, in this order.

    Attributes
    ----------
    sampling_rate : int
        In Hz.
    time_shift : float
        Largest circular shift, in seconds, the same for all leads of a record.
    amplitude : float
        A record is multiplied by ``1 + u``, with ``u`` uniform up to this size either way.
    lead_dropout : float
        Probability that a lead is set to its mean.
    noise : float
        Standard deviation of white noise, in standard deviations of the lead.
    baseline : float
        Largest amplitude of a sine of 0.05 to 0.5 Hz on each lead, in standard deviations of the lead.
    """

    sampling_rate: int
    time_shift: float = 0.0
    amplitude: float = 0.0
    lead_dropout: float = 0.0
    noise: float = 0.0
    baseline: float = 0.0

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        """Change a batch of standardised signals, ``(records, leads, samples)``; the input stays as it is."""
        records, leads, samples = signal.shape

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator).to(signal.device)

        if self.time_shift:
            limit = min(samples // 2, round(self.time_shift * self.sampling_rate))
            shifts = ((2 * uniform(records) - 1) * limit).round().long()
            index = (torch.arange(samples, device=signal.device) - shifts[:, None]) % samples
            signal = signal.gather(2, index[:, None, :].expand(-1, leads, -1))
        if self.amplitude:
            signal = signal * (1 + self.amplitude * (2 * uniform(records, 1, 1) - 1))
        if self.lead_dropout:
            signal = signal * (uniform(records, leads, 1) >= self.lead_dropout)
        if self.noise:
            signal = signal + self.noise * torch.randn(signal.shape, generator=generator).to(signal.device)
        if self.baseline:
            seconds = torch.arange(samples, device=signal.device) / self.sampling_rate
            frequency = 0.05 + 0.45 * uniform(records, 1, 1)
            phase = 2 * math.pi * uniform(records, 1, 1)
            size = self.baseline * uniform(records, leads, 1)
            signal = signal + size * torch.sin(2 * math.pi * frequency * seconds + phase)
        return signal
