"""Random changes of a training batch: augmentation, which keeps the labels, and mixup, which mixes them too."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ecgkit.models import ECGModel
from ecgkit.training.config import TrainingConfig


@dataclass(frozen=True)
class Augmentation:
    """Crop or time shift, amplitude, lead dropout, noise and baseline wander, in this order.

    Attributes
    ----------
    sampling_rate : int
        In Hz.
    crop : int
        Length of the random crop of each record, in samples, the same for all leads; 0 for the whole record.
    time_shift : float
        Largest circular shift, in seconds, the same for all leads of a record; crops are not shifted.
    amplitude : float
        A record is multiplied by ``1 + u``, with ``u`` uniform from minus to plus this value.
    lead_dropout : float
        Probability that a lead is set to its mean.
    noise : float
        Standard deviation of white noise, in standard deviations of the lead.
    baseline : float
        Largest amplitude of a sine of 0.05 to 0.5 Hz on each lead, in standard deviations of the lead.
    """

    sampling_rate: int
    crop: int = 0
    time_shift: float = 0.0
    amplitude: float = 0.0
    lead_dropout: float = 0.0
    noise: float = 0.0
    baseline: float = 0.0

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        """Augment a batch of standardised signals, ``(records, leads, samples)``, without changing the input.

        Returns
        -------
        Tensor, shape (records, leads, samples)
            With crops, as many samples as a crop has.
        """

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator).to(signal.device)

        signal = self._place(signal, uniform(len(signal)))
        records, leads, samples = signal.shape
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

    def _place(self, signal: Tensor, where: Tensor) -> Tensor:
        """Crop or shift each record; ``where`` holds a position from 0 to 1 for each."""
        _, leads, samples = signal.shape
        if self.crop:
            starts = (where * (samples - self.crop + 1)).long()
            index = starts[:, None] + torch.arange(self.crop, device=signal.device)
        elif self.time_shift:
            limit = min(samples // 2, round(self.time_shift * self.sampling_rate))
            shifts = ((2 * where - 1) * limit).round().long()
            index = (torch.arange(samples, device=signal.device) - shifts[:, None]) % samples
        else:
            return signal
        return signal.gather(2, index[:, None, :].expand(-1, leads, -1))


def make_augmentation(config: TrainingConfig, model: ECGModel) -> Augmentation:
    """Create the augmentation of a configuration for a model's sampling rate and input length."""
    sizes = {name: getattr(config, name) for name in ("time_shift", "amplitude", "lead_dropout", "noise", "baseline")}
    return Augmentation(sampling_rate=model.sampling_rate, crop=model.n_samples if config.crop_seconds else 0, **sizes)


def mix(
    signal: Tensor, labels: Tensor, metadata: Tensor | None, alpha: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Mix each record of a batch with another record (mixup, Zhang et al., 2018, arXiv:1710.09412).

    Parameters
    ----------
    signal : Tensor, shape (records, leads, samples)
        Standardised signals.
    labels : Tensor, shape (records, classes)
        From 0 to 1; NaN where unknown, which makes the mixed label unknown.
    metadata : Tensor of shape (records, columns), optional
        Age and sex.
    alpha : float
        Both parameters of the beta distribution that the share of the first record is drawn from.
    rng : Generator
        Draws shares and partners.

    Returns
    -------
    tuple
        Mixed signal, labels and metadata, with the same shares.
    """
    share = torch.from_numpy(rng.beta(alpha, alpha, len(signal)).astype(np.float32)).to(signal.device)
    partner = torch.from_numpy(rng.permutation(len(signal))).to(signal.device)

    def mixed(values: Tensor) -> Tensor:
        weight = share.view(-1, *[1] * (values.ndim - 1))
        return weight * values + (1 - weight) * values[partner]

    return mixed(signal), mixed(labels), None if metadata is None else mixed(metadata)
