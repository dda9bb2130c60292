"""Faster recurrent cells with the same results as those of the ``xlstm`` package.

`accelerate` puts them into any model of that package:

>>> from xlstm import xLSTMBlockStack, xLSTMBlockStackConfig, mLSTMBlockConfig, mLSTMLayerConfig
>>> mlstm = mLSTMBlockConfig(mlstm=mLSTMLayerConfig())
>>> config = xLSTMBlockStackConfig(mlstm_block=mlstm, embedding_dim=64, context_length=500)
>>> model = accelerate(xLSTMBlockStack(config))

On the CPU sLSTM is compiled by numba, which takes seconds for each new width of a head and is cached on disk. On other
devices it is a scan in plain PyTorch. mLSTM runs in chunks of plain PyTorch, linear in the length, on any device. Both
are operators of PyTorch: import this package before loading a program that ``torch.export`` saved.
"""

from __future__ import annotations

import torch
from torch import nn

from ecgkit.errors import EcgkitError, check_choice
from ecgkit.models.kernels.slstm import numba_problem

BACKENDS = ("auto", "numba", "torch")
"""Implementations of sLSTM."""

__all__ = ["BACKENDS", "accelerate", "backend"]


def accelerate(model: nn.Module, *, backend: str = "auto") -> nn.Module:
    """Replace every cell of the ``xlstm`` package in a model, in place, and the slow norms and projections around it.

    Parameters, their names and the results stay the same, so that weights load in either direction. Cells with options
    that the kernels do not support (the plain LSTM, clipped or cut gradients) are not replaced. A cell made for CUDA
    keeps its own kernels on a GPU and also runs on a CPU.

    Parameters
    ----------
    model : Module
        Any model with cells of the ``xlstm`` package.
    backend : str, default "auto"
        Implementation of sLSTM: ``"numba"`` (float32 and float64 on the CPU), ``"torch"`` (a scan in plain PyTorch,
        which can be differentiated twice), or ``"auto"``, numba where it is available.

    Returns
    -------
    Module
        The same model.

    Raises
    ------
    EcgkitError
        If the backend is unknown, or is ``"numba"`` and numba is not available.
    """
    from ecgkit.models.kernels import cells

    check_choice("kernel backend", backend, BACKENDS)
    if backend == "numba" and (problem := numba_problem()):
        raise EcgkitError(f"kernel backend 'numba' is not available, since {problem}: install numba, or choose 'torch'")
    for module in model.modules():
        cells.swap(module, backend)
    return model


def backend(device: str | None = None) -> str:
    """Describe the implementations of the recurrent cells, for a session's ``environment.json``.

    Parameters
    ----------
    device : str, optional
        Kind of the device that the model is on, such as ``"cpu"``; by default ``"cuda"`` where there is one.

    Returns
    -------
    str
        Such as ``"sLSTM: numba 0.62.1; mLSTM: chunkwise in PyTorch"``.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    problem = numba_problem() if device == "cpu" else f"numba does not support {device}"
    if problem:
        return f"sLSTM: scan in PyTorch ({problem}); mLSTM: chunkwise in PyTorch"
    import numba

    return f"sLSTM: numba {numba.__version__}; mLSTM: chunkwise in PyTorch"
