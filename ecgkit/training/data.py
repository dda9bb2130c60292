"""Batches of a processed dataset, standardised with the statistics of the training folds, in a seeded order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from ecgkit import paths
from ecgkit.datasets import Dataset, open_dataset
from ecgkit.errors import EcgkitError
from ecgkit.inference.metadata import MetadataScaler
from ecgkit.signals.prepare import Preparation
from ecgkit.stats.folds import TRAIN_FOLDS, VALIDATION_FOLD
from ecgkit.training.config import TrainingConfig
from ecgkit.training.initial import with_fraction
from ecgkit.training.targets import QUANTITIES, with_target

Batch = tuple[Tensor, Tensor, Tensor | None]


class Batches(TorchDataset[Batch]):
    """A dataset whose items are whole batches, read from the memory map by lists of positions.

    Parameters
    ----------
    dataset : Dataset
        Opened with a label set.
    scaler : MetadataScaler, optional
        Computes the metadata columns; without it a batch has none.
    preparation : Preparation, optional
        Standardises the signals; by default that of the dataset.
    """

    def __init__(
        self, dataset: Dataset, scaler: MetadataScaler | None = None, preparation: Preparation | None = None
    ) -> None:
        self.dataset = dataset
        self.preparation = preparation or dataset.preparation()
        self.labels = dataset.labels.to_numpy(np.float32, na_value=np.nan)
        self.metadata = dataset_metadata(dataset, scaler)

    def __getitem__(self, positions: NDArray[np.int64]) -> Batch:
        """Return the records at these positions: signal ``(records, 12, samples)``, labels, metadata or None.

        An unknown label is NaN.
        """
        rows = self.dataset.rows[positions]
        signal = self.preparation.network_input(self.dataset.signals[rows])
        metadata = torch.from_numpy(self.metadata[positions]) if self.metadata is not None else None
        return torch.from_numpy(signal), torch.from_numpy(self.labels[positions]), metadata

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.labels)


class ShuffledBatches(Sampler[NDArray[np.int64]]):
    """Lists of positions in an order that depends only on seed and epoch, so that a resumed training repeats it.

    Parameters
    ----------
    positions : ndarray of int64
        Positions of the records.
    batch_size : int
        Records per batch; a smaller last batch of an epoch is dropped (other records in each epoch).
    seed : int
        Seed of the order.
    repeats : int
        How often an epoch repeats each record.
    rank, world_size : int
        Number of this process and of all that train together, which share each batch.
    """

    def __init__(
        self,
        positions: NDArray[np.int64],
        *,
        batch_size: int,
        seed: int,
        repeats: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        positions = np.tile(positions, repeats)
        self.positions, self.batch_size, self.seed = positions, min(batch_size, len(positions)), seed
        self.rank, self.world_size, self.epoch = rank, world_size, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next order."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches."""
        return max(1, len(self.positions) // self.batch_size)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        """Yield the batches of the epoch."""
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.positions)
        for step in range(len(self)):
            batch = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield batch[self.rank :: self.world_size]


def loader(batches: TorchDataset[Any], sampler: Sampler[Any]) -> DataLoader[Any]:
    """Create a loader of the sampler's batches; reading from a memory map needs no worker processes."""
    return DataLoader(batches, sampler=sampler, batch_size=None, num_workers=0)


def fit_metadata_scaler(dataset: Dataset) -> MetadataScaler:
    """Fit the scaler of age on folds 1-8 of a dataset."""
    age = dataset.records["age"].iloc[dataset.folds(*TRAIN_FOLDS)]
    if age.nunique() < 2:
        raise EcgkitError("fewer than two ages are known in folds 1-8: train without metadata")
    return MetadataScaler(float(age.mean()), float(age.std()), bool(age.isna().any()))


def dataset_metadata(dataset: Dataset, scaler: MetadataScaler | None) -> NDArray[np.float32] | None:
    """Return the metadata columns of every record, for a model that takes them."""
    if scaler is None:
        return None
    age = dataset.records["age"].to_numpy(np.float64, na_value=np.nan)
    return scaler(age, dataset.records["sex"].astype("object").tolist())


def training_data(config: TrainingConfig, root: Path, *, test: bool | None = None) -> Dataset:
    """Open the dataset of a training with the labels or the target that it learns.

    Parameters
    ----------
    config : TrainingConfig
        The training.
    root : Path
        The folder of data sets and sessions.
    test : bool, optional
        Whether fold 10 is opened; by default as the configuration has it.

    Returns
    -------
    Dataset
        For a target, only the records whose value is known.

    Raises
    ------
    EcgkitError
        If dataset or label set is missing, a patient is in two splits, a split is empty, a class has no positives or no
        negatives in folds 1-8 or in fold 9, all records of fold 9 have the same quantity, or crops are too long.
    """
    with_test = config.test if test is None else test
    dataset = open_dataset(
        root / paths.PROCESSED / config.dataset,
        label_set=config.label_set or None,
        min_records=config.min_records,
        folds=None if with_test else (*TRAIN_FOLDS, VALIDATION_FOLD),
        negative_in=TRAIN_FOLDS if config.unlabelled == "negative" else (),
    )
    dataset = dataset.subset(np.flatnonzero(~dataset.records["fold"].isin(config.hold_out_folds)))
    dataset = with_target(dataset, config.target) if config.target else dataset
    dataset = with_fraction(dataset, config.train_fraction, config.seed) if config.train_fraction < 1 else dataset
    check_trainable(dataset, config)
    config.input_samples(dataset.n_samples, dataset.sampling_rate)
    return dataset


def check_trainable(dataset: Dataset, config: TrainingConfig) -> None:
    """Refuse splits that leak, and labels or values by which nothing is learned or no epoch is better than another."""
    dataset.check_splits()
    if config.target not in QUANTITIES:
        dataset.check_outcomes()
    elif dataset.labels.iloc[dataset.folds(VALIDATION_FOLD)].nunique().max() < 2:
        raise EcgkitError(
            f"all records of {dataset.name} in fold {VALIDATION_FOLD} have the same {config.target}, so that no "
            "epoch is better than another: use a larger dataset"
        )
