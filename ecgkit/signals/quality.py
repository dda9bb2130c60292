"""Checks of the units and levels of a signal; they are nowhere else."""

from __future__ import annotations

import numpy as np

from ecgkit.errors import EcgkitError
from ecgkit.signals.ecg import ECG

LARGEST_RANGE = 20.0
"""The largest range in mV of an ECG, from the 1st to the 99th percentile, in the median over leads. Single records of
PTB-XL span 0.3 to 4 mV; in microvolts every ECG spans more than this."""


def check_units(ecg: ECG) -> None:
    """Check that the values of an ECG can be mV.

    Parameters
    ----------
    ecg : ECG
        The record.

    Raises
    ------
    EcgkitError
        If it spans more than any ECG in mV.
    """
    values = ecg.signal
    if values.max() - values.min() <= LARGEST_RANGE:  # whatever the percentiles are, and much faster to compute
        return
    low, high = np.percentile(np.where(np.isfinite(values), values, 0.0), [1, 99], axis=1)
    span = np.median(high - low)
    if span > LARGEST_RANGE:
        raise EcgkitError(
            f"ECG {ecg.record_id} spans {span:,.0f} and an ECG in mV less than {LARGEST_RANGE:g}: the signal looks "
            "like microvolts, divide it by 1000"
        )
