"""Readers: one module per family of file formats, and `open_ecg`, which finds the format by content."""

from __future__ import annotations

from ecgkit.readers.base import Signals
from ecgkit.readers.formats import FORMATS
from ecgkit.readers.opening import open_ecg, read_signals
from ecgkit.readers.saving import save_ecg

__all__ = ["FORMATS", "Signals", "open_ecg", "read_signals", "save_ecg"]
