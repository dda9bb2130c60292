"""What every model is: an encoder of the signal, an optional branch for age and sex, and a head."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ecgkit.errors import EcgkitError


class ECGModel(nn.Module, ABC):
    """A multilabel classifier of 12-lead ECGs.

    A subclass builds its encoder, defines `encode`, and calls `build_head` with the number of features it gives.

    A model made for crops (``n_samples`` below the record's length) takes whole records as well: it reads them in
    windows that overlap by half, and averages the features of the windows.

    Parameters
    ----------
    n_leads : int
        Leads of the signal.
    n_classes : int
        Classes, one logit each.
    n_samples : int
        Samples of each lead.
    sampling_rate : int
        Samples per second, in Hz; patches and kernels are laid out in seconds.
    n_metadata : int, default 0
        Columns of the metadata (age, sex); 0 for a model that sees the signal alone.
    """

    gradcam_layer: str
    """Name of the submodule whose output, ``(records, channels, time)``, Grad-CAM reads."""

    def __init__(
        self, *, n_leads: int, n_classes: int, n_samples: int, sampling_rate: int, n_metadata: int = 0
    ) -> None:
        super().__init__()
        self.n_leads, self.n_classes, self.n_samples = n_leads, n_classes, n_samples
        self.sampling_rate, self.n_metadata = sampling_rate, n_metadata

    @abstractmethod
    def encode(self, signal: Tensor) -> Tensor:
        """Encode a signal of ``n_samples`` samples: ``(records, n_leads, n_samples)`` to ``(records, features)``."""

    def embed(self, signal: Tensor) -> Tensor:
        """Encode the signal alone, before age and sex come in.

        Parameters
        ----------
        signal : Tensor, shape (records, n_leads, samples)
            Standardised signal. Where it is longer than ``n_samples``, the features of its windows are averaged.

        Returns
        -------
        Tensor, shape (records, features)
        """
        if signal.shape[-1] <= self.n_samples:
            return self.encode(signal)
        windows = cut_windows(signal, self.n_samples)
        return self.encode(windows.flatten(0, 1)).unflatten(0, windows.shape[:2]).mean(dim=1)

    def build_head(
        self, n_features: int, *, dropout: float, branch: int = 16, hidden: Sequence[int] = (), batch_norm: bool = False
    ) -> None:
        """Add the metadata branch, if there is metadata, the layers that read both, and the linear head.

        Parameters
        ----------
        n_features : int
            What `embed` gives.
        dropout : float
            Before each hidden layer and before the head.
        branch : int, default 16
            Features that the metadata become before they join those of the signal.
        hidden : sequence of int, default ()
            Widths of dense layers between the joined features and the head.
        batch_norm : bool, default False
            Whether the branch and the hidden layers end in batch normalisation.
        """
        self.n_features = n_features
        self.metadata_branch = (
            nn.Sequential(*dense(self.n_metadata, branch, batch_norm=batch_norm)) if self.n_metadata else None
        )
        n_in = n_features + (branch if self.n_metadata else 0)
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Dropout(dropout), *dense(n_in, width, batch_norm=batch_norm)]
            n_in = width
        self.hidden = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(n_in, self.n_classes)

    def forward(self, signal: Tensor, metadata: Tensor | None = None) -> Tensor:
        """Give one logit a class.

        Parameters
        ----------
        signal : Tensor, shape (records, n_leads, samples)
            Standardised signal, as of `embed`.
        metadata : Tensor of shape (records, n_metadata), optional
            Needed exactly if the model was made with ``n_metadata``.

        Returns
        -------
        Tensor, shape (records, n_classes)

        Raises
        ------
        EcgkitError
            If metadata is given to a model that takes none, or the other way round.
        """
        if (metadata is None) != (self.metadata_branch is None):
            raise EcgkitError(f"the model takes {self.n_metadata} metadata columns: give exactly these, or none for 0")
        features = self.embed(signal)
        if self.metadata_branch is not None:
            features = torch.cat([features, self.metadata_branch(metadata)], dim=1)
        return self.head(self.dropout(self.hidden(features)))


def cut_windows(signal: Tensor, length: int, *, overlap: float = 0.5) -> Tensor:
    """Cut signals into windows that overlap by at least a given share and reach from the first sample to the last.

    Parameters
    ----------
    signal : Tensor, shape (records, leads, samples)
        If shorter than ``length``, a signal is one window.
    length : int
        Samples of a window.
    overlap : float, default 0.5
        Share of a window that the next one reads again, from 0 to below 1.

    Returns
    -------
    Tensor, shape (records, windows, leads, length)
    """
    spare = max(0, signal.shape[-1] - length)
    n_windows = 1 + math.ceil(spare / (length * (1 - overlap)))
    starts = [round(spare * i / max(1, n_windows - 1)) for i in range(n_windows)]
    return torch.stack([signal[..., start : start + length] for start in starts], dim=1)


def dense(n_in: int, n_out: int, *, batch_norm: bool = False) -> list[nn.Module]:
    """Make a linear layer with ReLU and, if asked for, batch normalisation behind it."""
    layers: list[nn.Module] = [nn.Linear(n_in, n_out), nn.ReLU()]
    return [*layers, nn.BatchNorm1d(n_out)] if batch_norm else layers


class MeanMaxPooling(nn.Module):
    """Mean and maximum over time, side by side: ``(records, channels, time)`` to ``(records, 2 * channels)``."""

    def forward(self, features: Tensor) -> Tensor:
        """Pool over the last axis."""
        return torch.cat([features.mean(dim=-1), features.amax(dim=-1)], dim=1)


class AttentionPooling(nn.Module):
    """Weighted mean over time with one learned softmax weight a token and head (Bahdanau et al., 2015).

    Parameters
    ----------
    n_channels : int
        Channels of the input, ``(records, n_channels, time)``; the output is ``(records, n_channels)``.
    n_heads : int, default 4
        Groups of channels that have weights of their own.
    """

    def __init__(self, n_channels: int, n_heads: int = 4) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.score = nn.Sequential(
            nn.Conv1d(n_channels, n_channels // 2, 1), nn.Tanh(), nn.Conv1d(n_channels // 2, n_heads, 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Pool over the last axis."""
        weights = self.score(features).softmax(dim=-1)
        grouped = features.unflatten(1, (self.n_heads, -1))
        return torch.einsum("bht,bhct->bhc", weights, grouped).flatten(1)


def make_pooling(name: str, n_channels: int) -> tuple[nn.Module, int]:
    """Make the pooling over time called ``"mean_max"`` or ``"attention"``, and say how many features it gives.

    Raises
    ------
    EcgkitError
        If there is no pooling of this name.
    """
    if name == "mean_max":
        return MeanMaxPooling(), 2 * n_channels
    if name == "attention":
        return AttentionPooling(n_channels), n_channels
    raise EcgkitError(f"unknown pooling {name!r}: choose one of mean_max, attention")
