"""A source that takes its time, in a module that the workers of a cluster can import."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit.signals.ecg import ECG
from ecgkit.sources.base import Source, record_table

SECONDS = 0.004


class Slow(Source):
    """Records of a sine of their own; each takes some milliseconds to read."""

    name = "slow"
    sampling_rates = (100,)

    def __init__(self, folder: Path | None = None, n_records: int = 400) -> None:
        self.folder, self.sampling_rate, self.n_samples = folder, 100, 200
        ids = np.arange(n_records)
        self.records = record_table({"record_id": ids, "patient_id": ids, "fold": ids % 10 + 1})
        self.labels = {"labels": pd.DataFrame({"ODD": ids % 2 == 1})}

    def read(self, record_id: str) -> ECG:
        time.sleep(SECONDS)
        times = np.arange(self.n_samples) / self.sampling_rate
        waves = np.sin(2 * np.pi * np.outer(1 + np.arange(12) / 6, times) + int(record_id))
        return ECG(waves.astype(np.float32), self.sampling_rate, record_id)
