"""What every model is: an encoder of the signal, an optional branch for age and sex, and a head."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NotRequired, TypedDict

import torch
from torch import Tensor, nn

from ecgkit.errors import EcgkitError
from ecgkit.models.layers import dense


class SharedKeywords(TypedDict):
    """The keywords of `ECGModel`, which every architecture takes beside its own."""

    n_leads: int
    n_classes: int
    n_samples: int
    sampling_rate: int
    n_metadata: NotRequired[int]


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
    """Name of the submodule whose output, ``(records, channels, time)``, Grad-CAM reads; for signals longer than
    ``n_samples``, a record is there once for each of its windows, in the order of `cut_windows`."""

    def __init__(
        self, *, n_leads: int, n_classes: int, n_samples: int, sampling_rate: int, n_metadata: int = 0
    ) -> None:
        super().__init__()
        self.n_leads, self.n_classes, self.n_samples = n_leads, n_classes, n_samples
        self.sampling_rate, self.n_metadata = sampling_rate, n_metadata

    @abstractmethod
    def encode(self, signal: Tensor) -> Tensor:
        """Encode at most ``n_samples`` samples at once: ``(records, n_leads, samples)`` to ``(records, features)``."""

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


def window_starts(n_samples: int, length: int, *, overlap: float = 0.5) -> list[int]:
    """Say at which samples the windows of `cut_windows` begin."""
    spare = max(0, n_samples - length)
    n_windows = 1 + math.ceil(spare / (length * (1 - overlap)))
    return [round(spare * i / max(1, n_windows - 1)) for i in range(n_windows)]


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
    starts = window_starts(signal.shape[-1], length, overlap=overlap)
    return torch.stack([signal[..., start : start + length] for start in starts], dim=1)
