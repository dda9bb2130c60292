"""What a training or a pretraining would refuse after its session was made, refused before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from ecgkit.models import create_model, refused
from ecgkit.signals.ecg import LEADS
from ecgkit.training.base_config import named_manifest
from ecgkit.training.config import TrainingConfig
from ecgkit.training.data import training_data
from ecgkit.training.distillation import soften
from ecgkit.training.model import new_model
from ecgkit.training.pretraining.config import ENCODER, PretrainingConfig
from ecgkit.training.pretraining.objectives import OBJECTIVES

if TYPE_CHECKING:
    from ecgkit.models.token_encoder import TokenEncoder


def check_training(config: TrainingConfig, root: Path, *others: TrainingConfig) -> None:
    """Open the data of a training without fold 10, read its soft labels, and make its network.

    So are the networks of ``others``, which are trained on the same data.

    Raises
    ------
    EcgkitError
        As `training_data`, `soften` and `new_model`.
    """
    dataset = training_data(config, root, test=False)
    if config.distill:
        soften(dataset.labels.to_numpy(np.float32, na_value=np.nan), dataset, config)
    with torch.random.fork_rng(devices=[]):
        for one in (config, *others):
            new_model(one, dataset)


def check_pretraining(config: PretrainingConfig, root: Path) -> None:
    """Make the encoder of a pretraining, and compute the loss of two records.

    Raises
    ------
    EcgkitError
        If the encoder cannot be made with its options, or be trained by the method.
    """
    manifest = named_manifest(root, config.dataset)
    shape = {"n_samples": manifest["n_samples"], "sampling_rate": manifest["sampling_rate"]}
    crop = config.crop_samples(**shape)
    signal, first, patients = torch.zeros(2, len(LEADS), crop), torch.zeros(2, dtype=torch.int64), torch.arange(2)
    with torch.random.fork_rng(devices=[]):
        encoder = create_model(ENCODER, n_leads=len(LEADS), n_classes=0, **shape, **config.model_options)
        try:
            objective = OBJECTIVES[config.method](cast("TokenEncoder", encoder), config)
            objective.loss(signal, first, patients, torch.Generator())
        except (RuntimeError, ValueError) as error:
            raise refused(ENCODER, config.model_options, crop, error) from error
