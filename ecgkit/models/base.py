"""What every model is: an encoder of the signal, an optional branch for age and sex, and a linear head."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ecgkit.errors import EcgkitError


class ECGModel(nn.Module, ABC):
    """A multilabel classifier of 12-lead ECGs.

    A subclass builds its encoder, defines `embed`, and calls `build_head` with the number of features it gives.

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
    def embed(self, signal: Tensor) -> Tensor:
        """Encode the signal alone, before age and sex come in.

        Parameters
        ----------
        signal : Tensor, shape (records, n_leads, n_samples)
            Standardised signal.

        Returns
        -------
        Tensor, shape (records, features)
        """

    def build_head(self, n_features: int, *, dropout: float) -> None:
        """Add the metadata branch, if there is metadata, and the linear head."""
        self.n_features = n_features
        branch = 16 if self.n_metadata else 0
        self.metadata_branch = nn.Sequential(nn.Linear(self.n_metadata, branch), nn.ReLU()) if branch else None
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(n_features + branch, self.n_classes)

    def forward(self, signal: Tensor, metadata: Tensor | None = None) -> Tensor:
        """Give one logit a class.

        Parameters
        ----------
        signal : Tensor, shape (records, n_leads, n_samples)
            Standardised signal.
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
        return self.head(self.dropout(features))


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
