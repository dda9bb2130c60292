"""The untrained model of a configuration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ecgkit.datasets import Dataset
from ecgkit.errors import EcgkitError
from ecgkit.inference.metadata import TargetScale
from ecgkit.inference.weights import TrainedModel
from ecgkit.io import file_sha256
from ecgkit.models import create_model, is_user_file, locate, refused
from ecgkit.models.user_file import check_model
from ecgkit.stats.folds import TRAIN_FOLDS
from ecgkit.training.base_config import starts_from_weights
from ecgkit.training.config import TrainingConfig
from ecgkit.training.data import fit_metadata_scaler
from ecgkit.training.initial import read_initial, start_from
from ecgkit.training.targets import QUANTITIES


def new_model(config: TrainingConfig, dataset: Dataset) -> TrainedModel:
    """Create the untrained model of a configuration for a dataset; its weights follow from ``config.seed``.

    Parameters
    ----------
    config : TrainingConfig
        The architecture and its options.
    dataset : Dataset
        Opened with the label set or the target of the configuration.

    Returns
    -------
    TrainedModel

    Raises
    ------
    EcgkitError
        If the architecture cannot be made with its options or cannot read the records, or crops are longer than these.
    """
    preparation = dataset.preparation(config.input_samples(dataset.n_samples, dataset.sampling_rate))
    initial = read_initial(config.init) if starts_from_weights(config.init) else None
    scaler, target = None, None
    if initial:  # its weights go with its scales
        preparation = replace(preparation, mean=initial.mean, std=initial.std)
        scaler = initial.scaler
        target = initial.target if initial.target and initial.target.name == config.target else None
    if config.metadata and scaler is None:
        scaler = fit_metadata_scaler(dataset)
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
    name, sha256 = config.model, ""
    try:
        check_model(model)
    except EcgkitError as error:
        if is_user_file(config.model):
            raise
        raise refused(config.model, config.model_options, model.n_samples, error.__cause__ or error) from error
    if is_user_file(config.model):
        file, class_name = locate(config.model)
        name, sha256 = f"{file.name}:{class_name}", file_sha256(file)
    trained = TrainedModel(
        model=model,
        name=name,
        keywords=keywords,
        classes=dataset.classes,
        label_set=config.label_set,
        preparation=preparation,
        scaler=scaler,
        target=target or fit_target_scale(config.target, dataset),
        sha256=sha256,
    )
    if config.init:
        start_from(trained, initial, freeze=config.freeze)
    return trained


def fit_target_scale(target: str, dataset: Dataset) -> TargetScale | None:
    """Compute mean and standard deviation of a quantity over folds 1-8; None for any other target."""
    if target not in QUANTITIES:
        return None
    values = dataset.labels[target].to_numpy(np.float64)[dataset.folds(*TRAIN_FOLDS)]
    return TargetScale(target, QUANTITIES[target].unit, float(values.mean()), float(values.std()) or 1.0)
