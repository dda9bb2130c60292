"""The base class of every model: an encoder of the signal, an optional branch for age and sex, and a head."""

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
    """The keywords of `ECGModel`, which every architecture takes in addition to its own options."""

    n_leads: int
    n_classes: int
    n_samples: int
    sampling_rate: int
    n_metadata: NotRequired[int]


class ECGModel(nn.Module, ABC):
    """A multilabel classifier of 12-lead ECGs.

    A subclass builds its encoder, defines `encode`, and calls `build_head` with the number of features that it returns.

    A model made for crops (``n_samples`` below the length of a record) reads whole records in windows that overlap by
    half, and averages the features of the windows.

    Parameters
    ----------
    n_leads : int
        Leads of the signal.
    n_classes : int
        Classes, one logit each.
    n_samples : int
        Samples of each lead.
    sampling_rate : int
        In Hz; patches and kernels have lengths in seconds.
    n_metadata : int, default 0
        Columns of the metadata (age, sex); 0 for a model of the signal alone.
    """

    gradcam_layer: str
    """Name of the submodule whose output, ``(records, channels, time)``, Grad-CAM reads. For signals
    longer than ``n_samples`` it has one row per window, in the order of `cut_windows`."""

    def __init__(
        self, *, n_leads: int, n_classes: int, n_samples: int, sampling_rate: int, n_metadata: int = 0
    ) -> None:
        super().__init__()
        self.n_leads, self.n_classes, self.n_samples = n_leads, n_classes, n_samples
        self.sampling_rate, self.n_metadata = sampling_rate, n_metadata

    @abstractmethod
    def encode(self, signal: Tensor) -> Tensor:
        """Encode up to ``n_samples`` samples: ``(records, n_leads, samples)`` to ``(records, features)``."""

    def embed(self, signal: Tensor) -> Tensor:
        """Compute the features of the signal, before age and sex are added.

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
            Number of features that `embed` returns.
        dropout : float
            Before each hidden layer and before the head.
        branch : int, default 16
            Width of the layer that reads the metadata before they are joined with the features of the signal.
        hidden : sequence of int, default ()
            Widths of dense layers between the joined features and the head.
        batch_norm : bool, default False
            Whether the branch and the hidden layers end with batch normalisation.
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
        # A network that is pretrained without labels has no classes.
        self.head = nn.Linear(n_in, self.n_classes) if self.n_classes else nn.Identity()

    def forward(self, signal: Tensor, metadata: Tensor | None = None) -> Tensor:
        """Compute one logit per class.

        Parameters
        ----------
        signal : Tensor, shape (records, n_leads, samples)
            Standardised signal, as of `embed`.
        metadata : Tensor of shape (records, n_metadata), optional
            Required if the model was created with ``n_metadata``, and refused otherwise.

        Returns
        -------
        Tensor, shape (records, n_classes)

        Raises
        ------
        EcgkitError
            If metadata is missing, or is passed to a model without ``n_metadata``.
        """
        if (metadata is None) != (self.metadata_branch is None):
            raise EcgkitError(f"the model takes {self.n_metadata} metadata columns: pass exactly these, or None for 0")
        return self.classify(self.embed(signal), metadata)

    def classify(self, features: Tensor, metadata: Tensor | None = None) -> Tensor:
        """Compute the logits of the features that `embed` returned; the second half of `forward`."""
        if self.metadata_branch is not None:
            features = torch.cat([features, self.metadata_branch(metadata)], dim=1)
        return self.head(self.dropout(self.hidden(features)))


def window_starts(n_samples: int, length: int, *, overlap: float = 0.5) -> list[int]:
    """Return the first sample of each window of `cut_windows`."""
    spare = max(0, n_samples - length)
    n_windows = 1 + math.ceil(spare / (length * (1 - overlap)))
    return [round(spare * i / max(1, n_windows - 1)) for i in range(n_windows)]


def cut_windows(signal: Tensor, length: int, *, overlap: float = 0.5) -> Tensor:
    """Cut signals into windows that overlap by at least ``overlap`` and cover every sample.

    Parameters
    ----------
    signal : Tensor, shape (records, leads, samples)
        A signal shorter than ``length`` is one window.
    length : int
        Samples of a window.
    overlap : float, default 0.5
        Share of a window that the next window repeats, from 0 to below 1.

    Returns
    -------
    Tensor, shape (records, windows, leads, length)
    """
    starts = window_starts(signal.shape[-1], length, overlap=overlap)
    return torch.stack([signal[..., start : start + length] for start in starts], dim=1)
