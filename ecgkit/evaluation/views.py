"""What a model says of the same record seen in another way: in windows, or moved in time; and of the mean of these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ecgkit import stats
from ecgkit.datasets import Dataset
from ecgkit.models.base import ECGModel, window_starts
from ecgkit.stats import Floats
from ecgkit.stats.folds import TEST_FOLD, VALIDATION_FOLD
from ecgkit.stats.resampling import RESAMPLES, interval, patient_weights
from ecgkit.training.inference import check_match, run_batches
from ecgkit.training.weights import TrainedModel


@dataclass(frozen=True)
class View:
    """One way to look at a record.

    Attributes
    ----------
    name : str
        What a table calls it.
    starts : tuple of float
        Where the views begin, in seconds; before 0 and behind the end the record's edge is repeated.
    seconds : float or None
        Their length; None for that of the record.
    """

    name: str
    starts: tuple[float, ...] = (0.0,)
    seconds: float | None = None


VIEWS = (
    View("whole record"),
    View("windows of 5 s, half overlapping", starts=(0.0, 2.5, 5.0), seconds=5.0),
    View("windows of 2.5 s, half overlapping", starts=tuple(np.arange(0.0, 7.6, 1.25).tolist()), seconds=2.5),
    View("moved by up to 0.1 s", starts=(-0.1, -0.05, 0.0, 0.05, 0.1)),
    View("moved by up to 0.5 s", starts=(-0.5, -0.25, 0.0, 0.25, 0.5)),
)
"""The views of the study; the first is how the model reads a record by itself. The others are compared with it."""


def predict_views(
    trained: TrainedModel, dataset: Dataset, positions: np.ndarray, views: Sequence[View] = VIEWS
) -> Floats:
    """Give the probability of each class in each view: the mean of the logits of its windows or shifts.

    Parameters
    ----------
    trained : TrainedModel
        The model.
    dataset : Dataset
        Opened with the model's label set.
    positions : ndarray of int64
        Which records.
    views : sequence of View
        How they are seen.

    Returns
    -------
    ndarray of float64, shape (views, records, classes)

    Raises
    ------
    EcgkitError
        If model and dataset do not match.
    """
    check_match(trained, dataset)

    def call(signal: Tensor, metadata: Tensor | None) -> Tensor:
        logits = [_mean_logits(trained.model, signal, metadata, view, dataset.sampling_rate) for view in views]
        return torch.stack(logits, dim=1).sigmoid()

    return run_batches(trained, dataset, positions, call).transpose(1, 0, 2).astype(np.float64)


def compare_views(
    trained: TrainedModel, dataset: Dataset, *, views: Sequence[View] = VIEWS, resamples: int = RESAMPLES
) -> pd.DataFrame:
    """Compare views of the records: does a finished model gain from windows or from shifts.

    Parameters
    ----------
    trained : TrainedModel
        The model.
    dataset : Dataset
        Opened with the model's label set.
    views : sequence of View
        The first is the one that the others are compared with.
    resamples : int, default 1000
        Bootstrap resamples of patients.

    Returns
    -------
    DataFrame
        One row a view: ``forward_passes`` a record; macro AUC on ``fold_9``, where a view would be chosen, and on
        ``fold_10`` with ``low`` and ``high``; and on fold 10 the paired ``difference`` to the first view with
        ``difference_low`` and ``difference_high``.

    Raises
    ------
    EcgkitError
        If model and dataset do not match.
    """
    of_fold = {}
    for fold in (VALIDATION_FOLD, TEST_FOLD):
        positions = dataset.folds(fold)
        truth = dataset.labels.to_numpy()[positions]
        of_fold[fold] = positions, truth, predict_views(trained, dataset, positions, views)
    positions, truth, prob = of_fold[TEST_FOLD]
    weights = patient_weights(dataset.records["patient_id"].to_numpy()[positions], resamples=resamples)
    drawn = [stats.mean_of_classes(stats.auc(truth, one, weights=weights)) for one in prob]
    rows = []
    for i, view in enumerate(views):
        value, first = stats.macro_auc(truth, prob[i]), stats.macro_auc(truth, prob[0])
        low, high = interval(drawn[i])
        difference_low, difference_high = interval(drawn[i] - drawn[0])
        rows.append(
            {
                "view": view.name,
                "forward_passes": len(view.starts) * windows_of(trained.model, view, dataset),
                "fold_9": stats.macro_auc(of_fold[VALIDATION_FOLD][1], of_fold[VALIDATION_FOLD][2][i]),
                "fold_10": value,
                "low": low,
                "high": high,
                "difference": value - first,
                "difference_low": difference_low,
                "difference_high": difference_high,
            }
        )
    return pd.DataFrame(rows).set_index("view")


def windows_of(model: ECGModel, view: View, dataset: Dataset) -> int:
    """Count the windows in which a model reads one window or shift of a view."""
    n_samples = dataset.n_samples if view.seconds is None else round(view.seconds * dataset.sampling_rate)
    return len(window_starts(n_samples, model.n_samples))


def _mean_logits(
    model: Callable[[Tensor, Tensor | None], Tensor],
    signal: Tensor,
    metadata: Tensor | None,
    view: View,
    sampling_rate: int,
) -> Tensor:
    length = signal.shape[-1] if view.seconds is None else round(view.seconds * sampling_rate)
    logits = [model(_window(signal, round(start * sampling_rate), length), metadata) for start in view.starts]
    return torch.stack(logits).mean(dim=0)


def _window(signal: Tensor, start: int, length: int) -> Tensor:
    """Cut a window out; where it reaches past the record, the record's edge is repeated."""
    at = torch.arange(start, start + length, device=signal.device).clamp(0, signal.shape[-1] - 1)
    return signal[..., at]
