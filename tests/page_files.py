"""One recording in every format, as the files that a browser uploads."""

from __future__ import annotations

import ecg_formats as formats
import numpy as np
from streamlit.testing.v1 import AppTest

from ecgkit.signals.ecg import LEADS
from ecgkit.sources.demo import make_ecg

RATE = 500


def demo_signal() -> np.ndarray:
    """Return an ECG in whole steps of 5 uV, which every format can store, shape (12, samples)."""
    return np.rint(make_ecg(["MI"], seed=2).signal.astype(np.float64) / 0.005) * 0.005


FILES = formats.files_of_each_format(demo_signal(), RATE)


def bare_table(signal: np.ndarray, names: tuple[str, ...] = LEADS) -> bytes:
    """Return a CSV that says neither its rate nor its unit."""
    rows = [",".join(names), *(",".join(f"{value:.3f}" for value in row) for row in signal.T)]
    return "\n".join(rows).encode()


def upload(page: AppTest, files: dict[str, bytes]) -> AppTest:
    """Upload files and wait for the answer."""
    page.file_uploader[0].set_value([(name, data, "application/octet-stream") for name, data in files.items()])
    return page.run()
