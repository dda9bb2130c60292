"""Recurrent cells that give what the ``xlstm`` package's give, faster.

`accelerate` puts them into any model of that package, also where nothing else of ecgkit is used:

>>> from xlstm import xLSTMBlockStack, xLSTMBlockStackConfig, mLSTMBlockConfig, mLSTMLayerConfig
>>> mlstm = mLSTMBlockConfig(mlstm=mLSTMLayerConfig())
>>> config = xLSTMBlockStackConfig(mlstm_block=mlstm, embedding_dim=64, context_length=500)
>>> model = accelerate(xLSTMBlockStack(config))

On the CPU sLSTM is compiled by numba, without any compiler on the user's side: seconds for each new width of a head,
then kept on the disk. Elsewhere, a GPU included, it is a scan in plain PyTorch. mLSTM runs in chunks of plain PyTorch,
linear in the length, on any device. Both are operators of PyTorch: a program that ``torch.export`` saved needs this
package imported before it is loaded.
"""

from __future__ import annotations

import torch
from torch import nn

from ecgkit.errors import EcgkitError, check_choice
from ecgkit.models.kernels.slstm import numba_problem

BACKENDS = ("auto", "numba", "torch")
"""What may run sLSTM."""

__all__ = ["BACKENDS", "accelerate", "backend"]


def accelerate(model: nn.Module, *, backend: str = "auto") -> nn.Module:
    """Swap every cell of the ``xlstm`` package inside a model, in place, and the slow norms and projections around it.

    Parameters, their names and the results stay as they are: weights of either load into the other. Cells with options
    that the kernels do not know (the plain LSTM, clipped or cut gradients) are left alone; a cell made for CUDA goes on
    using its own kernels on a GPU, and runs on a CPU too.

    Parameters
    ----------
    model : Module
        Any model with cells of the ``xlstm`` package in it.
    backend : str, default "auto"
        What runs sLSTM: ``"numba"`` (float32 and float64 on the CPU), ``"torch"`` (a scan in plain PyTorch, which can
        be differentiated twice), or ``"auto"``, numba where it can serve.

    Returns
    -------
    Module
        The model itself.

    Raises
    ------
    EcgkitError
        If the backend is unknown, or is ``"numba"`` and numba cannot serve here.
    """
    from ecgkit.models.kernels import cells

    check_choice("kernel backend", backend, BACKENDS)
    if backend == "numba" and (problem := numba_problem()):
        raise EcgkitError(f"kernel backend 'numba' cannot serve, since {problem}: install numba, or choose 'torch'")
    for module in model.modules():
        cells.swap(module, backend)
    return model


def backend(device: str | None = None) -> str:
    """Say what runs the recurrent cells, for a session's ``environment.json``.

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
    problem = numba_problem() if device == "cpu" else f"numba does not serve {device}"
    if problem:
        return f"sLSTM: scan in PyTorch ({problem}); mLSTM: chunkwise in PyTorch"
    import numba

    return f"sLSTM: numba {numba.__version__}; mLSTM: chunkwise in PyTorch"
