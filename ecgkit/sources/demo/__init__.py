"""The demo: a synthetic set of 12-lead ECGs, generated from a heart dipole and nine electrodes."""

from __future__ import annotations

from ecgkit.sources.demo.source import Demo, make_ecg

__all__ = ["Demo", "make_ecg"]
