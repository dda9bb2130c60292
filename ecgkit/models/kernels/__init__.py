"""Recurrent cells that give what the ``xlstm`` package's give, faster."""

from __future__ import annotations

from ecgkit.models.kernels.slstm import use_linear_scan

__all__ = ["use_linear_scan"]
