"""The demo: a synthetic set of 12-lead ECGs, made on the spot from a heart dipole that nine electrodes see."""

from __future__ import annotations

from ecgkit.sources.demo.source import Demo

__all__ = ["Demo"]
