"""Further label sets, which heads of their own learn on the features of the same network; they are not kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ecgkit.datasets import Dataset, open_dataset
from ecgkit.models import ECGModel
from ecgkit.stats.folds import TRAIN_FOLDS
from ecgkit.training.losses import BinaryCrossEntropy


def auxiliary_labels(dataset: Dataset, label_set: str) -> NDArray[np.float32]:
    """Read another label set for the records of a dataset.

    Parameters
    ----------
    dataset : Dataset
        The records.
    label_set : str
        Another label set of the same processed dataset.

    Returns
    -------
    ndarray of float32, shape (records, classes)
        NaN where a label is unknown: for a record without a label of that set, and for all records but those of folds
        1-8, from which alone the heads learn.
    """
    other = open_dataset(dataset.path, label_set=label_set, folds=TRAIN_FOLDS)
    values = np.full((len(dataset.signals), len(other.classes)), np.nan, np.float32)
    values[other.rows] = other.labels.to_numpy(np.float32, na_value=np.nan)
    return values[dataset.rows]


class AuxiliaryHeads(nn.Module):
    """One linear head for each further label set, on the features that `ECGModel.embed` returns.

    Parameters
    ----------
    model : ECGModel
        The network.
    sizes : sequence of int
        Classes of each label set.
    weights : sequence of float
        Weight of the loss of each.

    References
    ----------
    Caruana (1997), "Multitask learning", doi:10.1023/A:1007379606734.
    """

    def __init__(self, model: ECGModel, sizes: Sequence[int], weights: Sequence[float]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(model.n_features, size) for size in sizes)
        self.sizes, self.weights, self.loss = list(sizes), list(weights), BinaryCrossEntropy()

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Compute the weighted sum of the losses of ``(records, features)`` and ``(records, all classes)``."""
        parts = zip(self.heads, labels.split(self.sizes, dim=1), self.weights, strict=True)
        losses = [weight * self.loss(head(features).float(), part) for head, part, weight in parts]
        return sum(losses, features.new_zeros(()))
