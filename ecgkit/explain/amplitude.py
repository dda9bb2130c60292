"""The amplitude check: a network trained to read the height of one wave in one lead must be explained by that wave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.errors import check_choice
from ecgkit.explain.methods import Inputs, relevance_of
from ecgkit.signals.ecg import LEADS
from ecgkit.signals.prepare import remove_offset
from ecgkit.signals.segments import SEGMENTS, wave_segments
from ecgkit.sources.demo.source import make_ecg

if TYPE_CHECKING:
    from ecgkit.models.base import ECGModel

WAVES = {"P": "P", "R": "QRS", "T": "T"}
"""The waves that are read, and the segment of each."""

RATE, SAMPLES = 100, 250
N_TRAINING, N_TESTED = 40, 10
BATCH, STEPS, LEARNING_RATE = 32, 150, 3e-3
LARGEST = 2.0
"""The wave of each record is multiplied by a factor between 0 and this."""


@dataclass(frozen=True, eq=False)
class Waves:
    """Synthetic normal ECGs whose wave in one lead can be scaled.

    Attributes
    ----------
    signals : ndarray of float32, shape (records, 12, 250)
        In mV.
    wave : ndarray of float32, shape (records, 250)
        What the wave adds in the lead to the line between its ends, in mV.
    mask : ndarray of bool, shape (records, 250)
        Where the wave is.
    row : int
        The lead.
    """

    signals: NDArray[np.float32]
    wave: NDArray[np.float32]
    mask: NDArray[np.bool_]
    row: int

    def scaled(
        self, chosen: NDArray[np.int64], factors: NDArray[np.floating]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return records with the wave multiplied, and the height of the wave in mV."""
        signals = self.signals[chosen].copy()
        signals[:, self.row] += (factors[:, None] - 1) * self.wave[chosen]
        heights = factors * np.abs(self.wave[chosen]).max(axis=1)
        return signals.astype(np.float32), heights.astype(np.float32)


def amplitude_check(wave: str, lead: str, *, methods: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """Train a small CNN to read the height of a wave in a lead, and explain it.

    Parameters
    ----------
    wave : {"P", "R", "T"}
        The wave, scaled at random in synthetic normal ECGs of 2.5 s; nothing else tells its height.
    lead : str
        The lead.
    methods : sequence of str
        Of `ecgkit.explain.attributions.METHODS`, those whose leads differ.
    seed : int, default 0
        Of weights and factors.

    Returns
    -------
    DataFrame
        Columns ``record_id``, ``method``, ``check``, ``value`` for ten other ECGs: ``amplitude WAVE`` is the share of
        the absolute relevance inside the wave of the lead, ``chance`` its share of the samples. The method
        ``"network"`` has one row with ``r2``, how well it reads the height.
    """
    check_choice("wave", wave, WAVES)
    waves = _make_waves(WAVES[wave], LEADS.index(check_choice("lead", lead, LEADS)))
    model, scale = _train(waves, seed)
    random = np.random.default_rng(seed + 1)
    tested = np.arange(N_TRAINING, N_TRAINING + N_TESTED)
    signals, heights = waves.scaled(tested, random.uniform(0.5, LARGEST, N_TESTED))
    flat, std = np.zeros(len(LEADS), np.float32), np.ones(len(LEADS), np.float32)
    inputs = Inputs(model, signals, None, np.zeros((N_TESTED, 1), np.intp), flat, std, RATE)
    read = inputs.logits(signals)[:, 0] * scale[1] + scale[0]
    error = float(np.mean((read - heights) ** 2) / heights.var())
    rows = [("all", "network", "r2", 1 - error)]
    masks = np.zeros(signals.shape, bool)
    masks[:, waves.row] = waves.mask[tested]
    for method in methods:
        relevance = np.abs(relevance_of(method, inputs)[0][:, 0])
        shares = (relevance * masks).sum(axis=(1, 2)) / relevance.sum(axis=(1, 2)).clip(1e-12)
        for number, share, mask in zip(tested.tolist(), shares.tolist(), masks, strict=True):
            rows.append((str(number), method, f"amplitude {wave}", share))
            rows.append((str(number), method, f"chance {wave}", float(mask.mean())))
    return pd.DataFrame(rows, columns=["record_id", "method", "check", "value"])


def _make_waves(segment: str, row: int) -> Waves:
    """Generate ECGs with a clear wave in the lead."""
    signals: list[NDArray[np.floating]] = []
    waves: list[NDArray[np.floating]] = []
    masks: list[NDArray[np.bool_]] = []
    seed = 0
    while len(signals) < N_TRAINING + N_TESTED:
        ecg = make_ecg(["NORM"], sampling_rate=RATE, noise=0.5, seed=seed)
        seed += 1
        mask = (wave_segments(ecg.signal, sampling_rate=RATE) == SEGMENTS.index(segment))[:SAMPLES]
        if not mask.any() or mask[0] or mask[-1]:
            continue
        signal = remove_offset(ecg.signal[:, :SAMPLES] * 1000, sampling_rate=RATE) / 1000
        places = np.arange(SAMPLES)
        line = np.interp(places, places[~mask], signal[row, ~mask])
        signals.append(signal)
        waves.append(np.where(mask, signal[row] - line, 0))
        masks.append(mask)
    return Waves(np.stack(signals).astype(np.float32), np.stack(waves).astype(np.float32), np.stack(masks), row)


def _train(waves: Waves, seed: int) -> tuple[ECGModel, tuple[float, float]]:
    """Fit the network; return it with mean and standard deviation of the heights."""
    import torch

    from ecgkit.models import create_model

    random = np.random.default_rng(seed)
    _, heights = waves.scaled(*_draw(random, 1000))
    mean, std = float(heights.mean()), float(heights.std())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        keywords: dict[str, Any] = dict(n_leads=len(LEADS), n_classes=1, n_samples=SAMPLES, sampling_rate=RATE)
        model = create_model("resnet1d", widths=(16, 32, 32), dropout=0.0, **keywords)
        optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS)
        for _ in range(STEPS):
            signals, heights = waves.scaled(*_draw(random, BATCH))
            wanted = torch.from_numpy((heights - mean) / std)
            loss = torch.nn.functional.mse_loss(model(torch.from_numpy(signals))[:, 0], wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        optimizer.zero_grad()
    return model.eval(), (mean, std)


def _draw(random: np.random.Generator, number: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Draw training records and factors."""
    return random.integers(0, N_TRAINING, number), random.uniform(0, LARGEST, number)
