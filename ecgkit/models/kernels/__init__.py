"""Recurrent cells that give what the ``xlstm`` package's give, faster."""

from __future__ import annotations

from ecgkit.models.kernels.slstm import use_linear_scan

BACKEND = "sLSTM: scan in PyTorch; mLSTM: parallel form of xlstm"
"""What runs the recurrent cells, for a session's ``environment.json``."""

__all__ = ["BACKEND", "use_linear_scan"]
