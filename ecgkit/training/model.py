"""The untrained model of a configuration."""

from __future__ import annotations

import torch

from ecgkit.datasets.store import Dataset
from ecgkit.errors import EcgkitError
from ecgkit.inference.weights import TrainedModel
from ecgkit.models import create_model
from ecgkit.signals.filters import Filters
from ecgkit.signals.prepare import Preparation
from ecgkit.training.config import TrainingConfig
from ecgkit.training.data import fit_metadata_scaler


def input_samples(config: TrainingConfig, dataset: Dataset) -> int:
    """Return the samples that a model reads at once: those of a crop, or else of a record."""
    if not config.crop_seconds:
        return dataset.n_samples
    n_samples, seconds = round(config.crop_seconds * dataset.sampling_rate), dataset.n_samples / dataset.sampling_rate
    if not 1 <= n_samples <= dataset.n_samples:
        raise EcgkitError(f"crop_seconds is {config.crop_seconds:g}: give up to {seconds:g}, the length of a record")
    return n_samples


def new_model(config: TrainingConfig, dataset: Dataset) -> TrainedModel:
    """Make the untrained model of a configuration for a dataset; its weights follow from ``config.seed``.

    Parameters
    ----------
    config : TrainingConfig
        The architecture and its options.
    dataset : Dataset
        Opened with the label set of the configuration.

    Returns
    -------
    TrainedModel

    Raises
    ------
    EcgkitError
        If the architecture has no option of a name, or crops are longer than a record.
    """
    scaler = fit_metadata_scaler(dataset) if config.metadata else None
    preparation = Preparation(
        sampling_rate=dataset.sampling_rate,
        n_samples=input_samples(config, dataset),
        mean=dataset.mean,
        std=dataset.std,
        filters=Filters.from_dict(dataset.manifest["filters"]),
    )
    keywords = {
        "n_leads": dataset.signals.shape[1],
        "n_classes": len(dataset.classes),
        "n_samples": preparation.n_samples,
        "sampling_rate": preparation.sampling_rate,
        "n_metadata": scaler.n_columns if scaler else 0,
        **config.model_options,
    }
    torch.manual_seed(config.seed)
    model = create_model(config.model, **keywords)
    return TrainedModel(model, config.model, keywords, dataset.classes, config.label_set, preparation, scaler)
