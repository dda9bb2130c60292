"""The record: what every reader returns and everything else takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""The twelve standard leads in the order that every signal of the package has."""


@dataclass(frozen=True)
class ECG:
    """One 12-lead electrocardiogram.

    Attributes
    ----------
    signal : ndarray of float32, shape (12, samples)
        Millivolts, leads in the order of `LEADS`.
    sampling_rate : float
        Samples per second, in Hz.
    record_id : str
        The name of the record in its source; empty if it has none.

    Raises
    ------
    EcgkitError
        If the signal is not ``(12, samples)`` or the sampling rate is not positive.
    """

    signal: NDArray[np.float32]
    sampling_rate: float
    record_id: str = ""

    def __post_init__(self) -> None:
        if self.signal.ndim != 2 or self.signal.shape[0] != len(LEADS):
            raise EcgkitError(f"a signal has the shape (12, samples), not {self.signal.shape}: give the leads first")
        if not self.sampling_rate > 0:
            raise EcgkitError(f"sampling_rate is {self.sampling_rate}: give a positive number of Hz")

    @property
    def n_samples(self) -> int:
        """Number of samples of each lead."""
        return int(self.signal.shape[1])

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.n_samples / self.sampling_rate


def sort_leads(signal: NDArray[np.generic], leads: list[str]) -> NDArray[np.generic]:
    """Bring the leads of a signal into the order of `LEADS`.

    Parameters
    ----------
    signal : ndarray, shape (leads, samples)
        One row a lead.
    leads : list of str
        The names of the rows; upper and lower case are the same lead (``AVR`` is ``aVR``).

    Returns
    -------
    ndarray, shape (12, samples)
        The same rows in the standard order; the very same array if they were so already.

    Raises
    ------
    EcgkitError
        If a lead is missing, twice there, or not one of the twelve.
    """
    rows = {name.strip().upper(): row for row, name in enumerate(leads)}
    wanted = [name.upper() for name in LEADS]
    if len(leads) != len(LEADS) or sorted(rows) != sorted(wanted):
        missing = [name for name in LEADS if name.upper() not in rows]
        what = f"lead {', '.join(missing)} is missing" if missing else "a lead is there twice or is no standard lead"
        raise EcgkitError(f"{what} among {', '.join(leads)}: twelve leads are needed, {', '.join(LEADS)}")
    order = [rows[name] for name in wanted]
    return signal if order == list(range(len(LEADS))) else signal[order]
