"""Signals of many recordings at once: those of equal length and rate in one array."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

AT_ONCE = 16_000
"""Samples per lead that are computed at once, 16 recordings of 10 s at 100 Hz: they stay in the processor's cache."""


def equal_signals(
    signals: Sequence[NDArray[np.floating]], rates: Sequence[float]
) -> Iterator[tuple[list[int], NDArray[np.floating], float]]:
    """Yield groups of signals that have one shape, one type and one rate.

    Parameters
    ----------
    signals : sequence of ndarray, shape (leads, samples)
        Of any lengths.
    rates : sequence of float
        Their sampling rates in Hz.

    Yields
    ------
    positions : list of int
        Of the signals of the group in ``signals``.
    group : ndarray, shape (records, leads, samples)
        They themselves, at most `AT_ONCE` samples per lead unless there is one.
    sampling_rate : float
        In Hz.
    """
    alike: dict[tuple[object, ...], list[int]] = {}
    for i, (signal, rate) in enumerate(zip(signals, rates, strict=True)):
        alike.setdefault((signal.shape, signal.dtype, rate), []).append(i)
    for positions in alike.values():
        n_records = max(1, AT_ONCE // max(1, signals[positions[0]].shape[-1]))
        for first in range(0, len(positions), n_records):
            some = positions[first : first + n_records]
            # A group of one is not a copy: a recording may be long.
            group = np.stack([signals[i] for i in some]) if len(some) > 1 else signals[some[0]][None]
            yield some, group, rates[some[0]]
