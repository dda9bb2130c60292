"""Fit an encoder without labels in a session: one line per epoch, and a checkpoint to resume from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import BatchSampler
from torch.utils.data import Dataset as TorchDataset

from ecgkit import paths
from ecgkit.datasets import Dataset, open_dataset
from ecgkit.errors import EcgkitError
from ecgkit.inference.weights import TrainedModel, load_weights
from ecgkit.io import check_held
from ecgkit.models import create_model
from ecgkit.models.token_encoder import TokenEncoder
from ecgkit.sessions import Session
from ecgkit.stats.folds import TRAIN_FOLDS, VALIDATION_FOLD
from ecgkit.stats.identifiers import patient_codes
from ecgkit.training.data import ShuffledBatches, loader
from ecgkit.training.fitting import EpochWriter, Loop, read_history, run_loop
from ecgkit.training.module import SeededModule, make_optimizer
from ecgkit.training.pretraining.config import ENCODER, PretrainingConfig
from ecgkit.training.pretraining.objectives import OBJECTIVES

Batch = tuple[Tensor, Tensor]


def pretraining_data(config: PretrainingConfig, root: Path, *, labels: bool = False) -> Dataset:
    """Open folds 1-9 of the dataset: every record without its labels, or those with labels, to measure features.

    Raises
    ------
    EcgkitError
        If the dataset is missing or damaged, a fold is empty, or a patient is in two splits.
    """
    dataset = open_dataset(
        root / paths.PROCESSED / config.dataset,
        label_set=config.label_set if labels else None,
        folds=(*TRAIN_FOLDS, VALIDATION_FOLD),
    )
    dataset.check_splits()
    return dataset


def new_encoder(config: PretrainingConfig, dataset: Dataset) -> TrainedModel:
    """Create the encoder with random weights that follow from the seed; it reads whole records and has no classes."""
    preparation = dataset.preparation()
    keywords = {
        "n_leads": dataset.signals.shape[1],
        "n_classes": 0,
        "n_samples": preparation.n_samples,
        "sampling_rate": preparation.sampling_rate,
        "n_metadata": 0,
        **config.model_options,
    }
    torch.manual_seed(config.seed)
    return TrainedModel(create_model(ENCODER, **keywords), ENCODER, keywords, (), "", preparation)


class UnlabelledBatches(TorchDataset[Batch]):
    """A dataset whose items are batches of standardised signals with a number for each record's patient."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.preparation = dataset, dataset.preparation()
        self.patients = patient_codes(dataset.records["patient_id"])

    def __getitem__(self, positions: NDArray[np.int64]) -> Batch:
        """Return signal ``(records, 12, samples)`` and patients ``(records,)``."""
        signal = self.preparation.network_input(self.dataset.signals[self.dataset.rows[positions]])
        return torch.from_numpy(signal), torch.from_numpy(self.patients[positions])

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.dataset)


class PretrainingModule(SeededModule):
    """The training and validation steps of a pretraining."""

    def __init__(self, trained: TrainedModel, config: PretrainingConfig) -> None:
        super().__init__(config)
        if not isinstance(trained.model, TokenEncoder):
            raise EcgkitError(f"{trained.name} cannot be pretrained: choose {ENCODER}")
        self.config = config
        self.objective = OBJECTIVES[config.method](trained.model, config)
        self.crop = config.crop_samples(trained.n_samples, trained.sampling_rate)
        self.validation_losses: list[tuple[Tensor, int]] = []
        self.features: list[Tensor] = []

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Compute the loss of random crops."""
        loss = self.loss(batch, self.generator)
        if not torch.isfinite(loss):
            raise EcgkitError(
                f"the loss of epoch {self.current_epoch + 1} is not finite: lower learning_rate "
                f"{self.config.learning_rate}"
            )
        self.train_losses.append(loss.detach())
        return loss

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Crop a batch and compute its loss."""
        signal, patients = batch
        first = torch.randint(signal.shape[-1] - self.crop + 1, (len(signal),), generator=generator).to(signal.device)
        index = first[:, None] + torch.arange(self.crop, device=signal.device)
        cropped = signal.gather(2, index[:, None].expand(-1, signal.shape[1], -1))
        return self.objective.loss(cropped, first, patients, generator)

    def on_train_batch_end(self, outputs: object, batch: object, batch_idx: int) -> None:
        """Move what follows the encoder."""
        del outputs, batch, batch_idx
        self.objective.after_step(self.global_step / float(self.trainer.estimated_stepping_batches))

    def validation_step(self, batch: Batch, number: int) -> None:
        """Compute the loss of fold 9 with the same crops in every epoch, and the features of whole records."""
        generator = torch.Generator().manual_seed(number)
        with torch.autocast(self.device.type, enabled=False):
            self.validation_losses.append((self.loss(batch, generator), len(batch[0])))
            self.features.append(self.objective.result.embed(batch[0]).float())

    def on_validation_epoch_end(self) -> None:
        """Log the loss of fold 9, and over how many directions its features are spread."""
        losses, sizes = zip(*self.validation_losses, strict=True)
        weights = torch.tensor(sizes, dtype=torch.float32, device=losses[0].device)
        self.log("validation_loss", (torch.stack(losses) * weights).sum() / weights.sum())
        self.log("feature_rank", effective_rank(torch.cat(self.features)))
        self.validation_losses.clear()
        self.features.clear()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Create AdamW and its schedule."""
        return make_optimizer(self.objective, self.config, steps=int(self.trainer.estimated_stepping_batches))


def effective_rank(features: Tensor) -> Tensor:
    """Compute the exponential of the entropy of the singular values: 1 if all features vary together.

    Roy and Vetterli (2007), "The effective rank"; as a measure of collapse by Garrido et al. (2023), arXiv:2210.02885.
    """
    values = torch.linalg.svdvals(features - features.mean(dim=0))
    shares = values / values.sum().clamp_min(1e-12) + 1e-12
    return torch.exp(-(shares * shares.log()).sum())


class PretrainingWriter(EpochWriter):
    """Write the session's files during pretraining: log, history, and the encoder of the last epoch."""

    def __init__(self, session: Session, trained: TrainedModel, config: PretrainingConfig) -> None:
        super().__init__(session, config, metric="feature_rank", text="rank of the features {:.1f}")
        self.trained = trained

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the encoder, and write the epoch's line and its row of the history."""
        if not trainer.is_global_zero or not isinstance(pl_module, PretrainingModule):
            return
        check_held(self.session.path)
        save_encoder(self.session, self.trained, pl_module)
        self.write_epoch(trainer, pl_module.train_losses)


def save_encoder(session: Session, trained: TrainedModel, module: PretrainingModule) -> None:
    """Write the encoder that a pretraining keeps."""
    replace(trained, model=module.objective.result).save(session.best_weights)


def pretrain(session: Session, config: PretrainingConfig, dataset: Dataset) -> TrainedModel:
    """Pretrain an encoder on folds 1-8 without labels; resume an interrupted pretraining.

    Parameters
    ----------
    session : Session
        Receives ``history.csv``, ``training_log.txt``, ``weights/best.safetensors`` (the encoder after the last epoch)
        and ``weights/last.ckpt``.
    config : PretrainingConfig
        The configuration, as resolved.
    dataset : Dataset
        Opened by `pretraining_data`; fold 10 is not read.

    Returns
    -------
    TrainedModel
        The encoder, without classes.

    Raises
    ------
    EcgkitError
        If ``last.ckpt`` cannot be read, the loss is not finite, or memory runs out.
    """
    best = session.best_weights
    if best.is_file() and len(read_history(session)) >= config.epochs:
        session.log(f"the pretraining of {session.name} is complete: its encoder is read")
        return load_weights(best)
    trained = new_encoder(config, dataset)
    writer = PretrainingWriter(session, trained, config)
    run_loop(session, trained, config, dataset, callbacks=[writer], make=make_loop)
    return load_weights(best)


def make_loop(trained: TrainedModel, config: PretrainingConfig, dataset: Dataset, trainer: pl.Trainer) -> Loop:
    """Create the Lightning module and the batches of folds 1-8 and of fold 9."""
    batches = UnlabelledBatches(dataset)
    train = ShuffledBatches(
        dataset.folds(*TRAIN_FOLDS),
        batch_size=config.batch_size,
        seed=config.seed,
        rank=trainer.global_rank,
        world_size=trainer.world_size,
    )
    validation = BatchSampler(dataset.folds(VALIDATION_FOLD).tolist(), config.batch_size, drop_last=False)
    return PretrainingModule(trained, config), loader(batches, train), loader(batches, validation)
