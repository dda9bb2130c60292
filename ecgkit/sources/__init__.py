"""Sources of ECGs: one data set a module, each with a table of records, a table of labels and ``read(record_id)``."""

from __future__ import annotations

from pathlib import Path

from ecgkit.errors import check_choice
from ecgkit.sources.base import RECORD_COLUMNS, Source
from ecgkit.sources.demo import Demo
from ecgkit.sources.ptbxl.source import PtbXl

SOURCES = ("demo", "ptbxl")
"""The names of all sources."""


def make_source(name: str, *, folder: Path, sampling_rate: int, n_records: int = 1000, seed: int = 0) -> Source:
    """Open a source by its name.

    Parameters
    ----------
    name : str
        One of `SOURCES`.
    folder : Path
        Where the raw data lie; the demo needs none.
    sampling_rate : int
        In Hz.
    n_records, seed : int
        Size and seed of the demo.

    Returns
    -------
    Source

    Raises
    ------
    EcgkitError
        If the name is unknown, or the source refuses its arguments.
    """
    check_choice("source", name, SOURCES)
    if name == "demo":
        return Demo(n_records=n_records, sampling_rate=sampling_rate, seed=seed)
    return PtbXl(folder, sampling_rate=sampling_rate)


__all__ = ["RECORD_COLUMNS", "SOURCES", "Demo", "PtbXl", "Source", "make_source"]
