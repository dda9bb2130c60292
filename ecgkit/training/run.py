"""The data of a training."""

from __future__ import annotations

from pathlib import Path

from ecgkit import paths
from ecgkit.datasets import Dataset, open_dataset
from ecgkit.training.config import TrainingConfig
from ecgkit.training.model import input_samples


def training_data(config: TrainingConfig, root: Path, *, folds: tuple[int, ...] | None = None) -> Dataset:
    """Open the dataset of a training with its label set, and check that it can be trained on.

    Parameters
    ----------
    config : TrainingConfig
        What is trained.
    root : Path
        The folder of data sets and sessions.
    folds : tuple of int, optional
        The folds to open; by default all.

    Returns
    -------
    Dataset

    Raises
    ------
    EcgkitError
        If dataset or label set is missing, a patient is in two splits, a fold is empty, or the crops do not fit.
    """
    folder = root / paths.PROCESSED / config.dataset
    opened = open_dataset(folder, label_set=config.label_set, min_records=config.min_records, folds=folds)
    opened.check_splits()
    input_samples(config, opened)
    return opened
