"""The loop that runs a network over batches without gradients, for every prediction and every embedding."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError, check_choice
from ecgkit.progress import progress_bar
from ecgkit.signals.ecg import ECG

if TYPE_CHECKING:
    from torch import Tensor, nn

BATCH = 256
"""Windows that a network without gradients reads at once."""

BATCH_ON_CPU = 64
"""The same for files that are predicted without a GPU: what the layers compute stays in the cache of the processor."""

PRECISIONS = ("float32", "bfloat16")
BACKENDS = ("auto", "torch", "onnx")


class Skip(TypedDict, total=False):
    """Which steps of a record are skipped, see `ecgkit.signals.prepare.Preparation`."""

    anyway: bool
    allow_missing_leads: bool
    filtered: dict[Hashable, NDArray[np.floating]] | None


Arrays = tuple[NDArray[np.float32], NDArray[np.float32] | None]
"""Prepared signals ``(records, leads, samples)``, and metadata ``(records, columns)`` of a model that takes them."""


def default_device() -> str:
    """Return ``"cuda"`` where torch finds a GPU, else ``"cpu"``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def has_bfloat16(device: str) -> bool:
    """Return True if the GPU, or the processor (by AVX512-BF16 or AMX), has instructions for bfloat16."""
    import torch

    if device == "cuda":
        return torch.cuda.is_bf16_supported()
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def records_at_once(n_read: int, n_samples: int, *, windows: int = BATCH) -> int:
    """Return the number of records per batch, for a network that reads ``n_read`` of ``n_samples`` samples at once."""
    return max(1, windows * n_read // n_samples)


def run_batches(
    model: nn.Module,
    batches: Iterable[Arrays],
    call: Callable[[Tensor, Tensor | None], Tensor],
    *,
    n_records: int,
    precision: str = "float32",
    progress: bool = False,
) -> NDArray[np.float32]:
    """Call a function of the network on batches and stack the results.

    Parameters
    ----------
    model : Module
        The network; it is put into evaluation mode and, if there is one, on the GPU.
    batches : iterable of (signal, metadata)
        Arrays of float32 ``(records, leads, samples)``, and ``(records, columns)`` or None.
    call : callable
        Function of signal and metadata as tensors on the network's device, such as ``model`` itself.
    n_records : int
        Number of records in all batches together.
    precision : {"float32", "bfloat16"}, default "float32"
        bfloat16 is by autocast: faster where the hardware has it, with about three digits.
    progress : bool, default False
        Show a progress bar on standard error.

    Returns
    -------
    ndarray of float32, shape (records, ...)
    """
    import torch

    check_choice("precision", precision, PRECISIONS)
    device = torch.device(default_device())
    model.eval().to(device)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
    results = []
    bar = progress_bar(total=n_records, description="reading ECGs", unit="records", shown=progress)
    with torch.inference_mode(), autocast, bar:
        for signal, metadata in batches:
            columns = None if metadata is None else torch.from_numpy(metadata).to(device)
            results.append(call(torch.from_numpy(signal).to(device), columns).float().cpu().numpy())
            bar.update(len(signal))
    return np.concatenate(results)


def prepared_batches(
    ecgs: Sequence[ECG],
    prepare: Callable[..., NDArray[np.float32]],
    metadata: NDArray[np.float32] | None,
    *,
    n_read: int,
    windows: int = BATCH_ON_CPU,
    **skip: Unpack[Skip],
) -> Iterator[Arrays]:
    """Prepare ECGs for a network that reads ``n_read`` samples and yield batches of neighbours of equal length."""
    for first in range(0, len(ecgs), BATCH):
        prepared = [_prepare(ecgs, i, prepare, **skip) for i in range(first, min(first + BATCH, len(ecgs)))]
        start = 0
        for length, group in groupby(prepared, key=lambda signal: signal.shape[1]):
            signals = list(group)
            size = records_at_once(n_read, length, windows=windows)
            for i in range(0, len(signals), size):
                rows = slice(first + start + i, first + start + min(i + size, len(signals)))
                yield np.stack(signals[i : i + size]), None if metadata is None else metadata[rows]
            start += len(signals)


def _prepare(
    ecgs: Sequence[ECG], position: int, prepare: Callable[..., NDArray[np.float32]], **skip: Unpack[Skip]
) -> NDArray[np.float32]:
    """Prepare one ECG; an error about one of several without names says which one it is."""
    try:
        return prepare(ecgs[position], **skip)
    except EcgkitError as error:
        if ecgs[position].record_id or len(ecgs) == 1:
            raise
        raise EcgkitError(f"number {position} (from 0): {error}") from error
