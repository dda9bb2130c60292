"""Memory layout shared by the operator of sLSTM and its compiled kernels."""

from __future__ import annotations

SAVED = 7
"""Values per unit and step that the fused backward pass needs: input gate, forget gate, cell input, output gate, the
derivative of the forget gate's logarithm, cell and normaliser."""
