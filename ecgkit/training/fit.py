"""Fit a model into a session: Lightning's loop, the best checkpoint by fold 9, and a place to go on from."""

from __future__ import annotations

import io
import logging
import os
import pickle
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins import TorchCheckpointIO

from ecgkit.datasets.store import Dataset
from ecgkit.errors import EcgkitError
from ecgkit.inference.batches import records_at_once
from ecgkit.inference.weights import TrainedModel, load_weights
from ecgkit.io import write_atomically
from ecgkit.sessions import Session
from ecgkit.stats.folds import TRAIN_FOLDS, VALIDATION_FOLD
from ecgkit.training.config import TrainingConfig
from ecgkit.training.data import Batches, OrderedBatches, ShuffledBatches, loader
from ecgkit.training.model import new_model
from ecgkit.training.module import Classifier, mean_loss

MONITOR = "validation_macro_auc"
HISTORY = "history.csv"
OnEpoch = Callable[[int, float], None]


class SessionWriter(Callback):
    """Write the session's files as training goes: a line an epoch, the history, and the best weights.

    Parameters
    ----------
    session : Session
        Where to write.
    trained : TrainedModel
        The model in training with its facts.
    config : TrainingConfig
        How many epochs there will be at most, and whether each one's weights are kept.
    on_epoch : callable, optional
        Called after each epoch with its number (from 1) and the macro AUC on fold 9.
    """

    def __init__(
        self, session: Session, trained: TrainedModel, config: TrainingConfig, on_epoch: OnEpoch | None = None
    ) -> None:
        self.session, self.trained, self.on_epoch = session, trained, on_epoch
        self.epochs, self.save_every_epoch = config.epochs, config.save_every_epoch
        self.best_auc, self.best_epoch = float("-inf"), 0
        self.started = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Give what ``last.ckpt`` keeps of this object."""
        return {"best_auc": self.best_auc, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what ``last.ckpt`` kept."""
        self.best_auc, self.best_epoch = state_dict["best_auc"], state_dict["best_epoch"]

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Start the clock of the epoch."""
        del trainer, pl_module, batch
        if batch_idx == 0:
            self.started = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights if fold 9 says that they are the best so far."""
        del pl_module
        auc = float(trainer.callback_metrics[MONITOR])
        epoch = trainer.current_epoch + 1
        is_best = auc > self.best_auc
        if is_best:
            self.best_auc, self.best_epoch = auc, epoch
        if is_best and trainer.is_global_zero:
            self.trained.save(self.session.best_weights)
        if self.save_every_epoch and trainer.is_global_zero:
            self.trained.save(self.session.path / "weights" / f"epoch_{epoch:03d}.safetensors")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the epoch's line and its row of the history."""
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, Classifier)  # noqa: S101 - for the type checker
        row = {
            "epoch": trainer.current_epoch + 1,
            "train_loss": mean_loss(pl_module.train_losses),
            "validation_loss": float(trainer.callback_metrics["validation_loss"]),
            MONITOR: float(trainer.callback_metrics[MONITOR]),
            "learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "seconds": round(time.monotonic() - self.started, 2),
        }
        history = pd.concat([read_history(self.session, before=row["epoch"]), pd.DataFrame([row])])
        write_atomically(self.session.path / HISTORY, history.to_csv(index=False).encode())
        left = timedelta(seconds=round(history["seconds"].mean() * (self.epochs - row["epoch"])))
        best = "  best so far" if self.best_epoch == row["epoch"] else ""
        self.session.log(
            f"epoch {row['epoch']:>3}/{self.epochs}  loss {row['train_loss']:.4f}"
            f"  fold 9: loss {row['validation_loss']:.4f}, macro AUC {row[MONITOR]:.4f}"
            f"  {row['seconds']:.0f} s, {left} left{best}"
        )
        if self.on_epoch is not None:
            self.on_epoch(trainer.current_epoch + 1, row[MONITOR])


class WholeCheckpoints(TorchCheckpointIO):
    """Write checkpoints whole or not at all: Lightning's own are copied in pieces where /tmp is another disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint in place of the one before."""
        del storage_options
        data = io.BytesIO()
        torch.save(checkpoint, data)
        write_atomically(Path(path), data.getvalue())


def check_checkpoint(path: Path) -> bool:
    """Tell whether there is a checkpoint to go on from.

    Raises
    ------
    EcgkitError
        If it cannot be read.
    """
    if not path.is_file():
        return False
    try:
        torch.load(path, map_location="meta", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        why = str(error).partition("\n")[0]
        raise EcgkitError(
            f"cannot go on from {path} ({why}): remove it, and the training begins at its first epoch again"
        ) from error
    return True


def read_history(session: Session, *, before: float = float("inf")) -> pd.DataFrame:
    """Read ``history.csv``, one row an epoch, up to an epoch; empty if there is none.

    Parameters
    ----------
    session : Session
        The session.
    before : float
        Rows of this epoch and later ones are left out.

    Returns
    -------
    DataFrame
        ``epoch`` (from 1), ``train_loss``, ``validation_loss``, ``validation_macro_auc``, ``learning_rate`` and
        ``seconds``.
    """
    path = session.path / HISTORY
    if not path.is_file():
        return pd.DataFrame()
    history = pd.read_csv(path)
    return history[history["epoch"] < before]


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence what Lightning says of its own set-up; the session's log says what a user wants to know."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # Batches come from a memory map in the main process: worker processes would only copy them.
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
            # Lightning's own use of torch's pytrees, which newer versions of torch call deprecated
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C be a KeyboardInterrupt: Lightning makes it an exit and leaves the signal ignored."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


def is_complete(history: pd.DataFrame, config: TrainingConfig) -> bool:
    """Tell from the history whether a training has had all its epochs, or was stopped early."""
    if history.empty:
        return False
    since_best = len(history) - 1 - int(history[MONITOR].to_numpy().argmax())
    return len(history) >= config.epochs or since_best >= config.patience


def make_trainer(session: Session, config: TrainingConfig, writer: SessionWriter) -> pl.Trainer:
    """Set up Lightning for one CPU, one GPU, or as many as a launcher such as torchrun gives."""
    last = ModelCheckpoint(
        dirpath=session.path / "weights", filename="last", save_on_train_epoch_end=True, enable_version_counter=False
    )
    return pl.Trainer(
        accelerator="auto",
        # Several GPUs need a launcher, such as torchrun: from inside a notebook's kernel they cannot be started.
        devices="auto" if "WORLD_SIZE" in os.environ else 1,
        precision="bf16-mixed" if config.precision == "bfloat16" else "32-true",
        max_epochs=config.epochs,
        gradient_clip_val=config.gradient_clip,
        # On a GPU some operations have no deterministic form: there the run goes on and says which.
        deterministic="warn" if torch.cuda.is_available() else True,
        plugins=[WholeCheckpoints()],
        callbacks=[writer, EarlyStopping(MONITOR, mode="max", patience=config.patience), last],
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=session.path,
    )


def fit(session: Session, config: TrainingConfig, dataset: Dataset, *, on_epoch: OnEpoch | None = None) -> TrainedModel:
    """Train a model on folds 1-8, keep the epoch that is best on fold 9, and go on where an earlier call was cut off.

    Parameters
    ----------
    session : Session
        Takes ``history.csv``, ``training_log.txt``, ``weights/best.safetensors`` and ``weights/last.ckpt``.
    config : TrainingConfig
        The recipe.
    dataset : Dataset
        Opened with ``config.label_set``.
    on_epoch : callable, optional
        Called after each epoch with its number (from 1) and the macro AUC on fold 9; what it raises ends the training.

    Returns
    -------
    TrainedModel
        The best checkpoint, as read back from its file.

    Raises
    ------
    EcgkitError
        If a fold is empty, a patient is in two parts, fold 9 cannot choose an epoch, ``last.ckpt`` cannot be read, or
        the network's loss is no number any more.
    """
    dataset.check_splits()
    check_validation(dataset)
    best = session.best_weights
    if best.is_file() and is_complete(read_history(session), config):
        session.log(f"the training of {session.name} is complete; its best epoch is read back")
        return load_weights(best)
    trained = new_model(config, dataset)
    writer = SessionWriter(session, trained, config, on_epoch)
    last = session.path / "weights" / "last.ckpt"
    resumed = check_checkpoint(last)
    with quiet_lightning():
        trainer = make_trainer(session, config, writer)
        batches = Batches(dataset, trained.scaler)
        positions = dataset.folds(*TRAIN_FOLDS)
        train = ShuffledBatches(
            positions,
            batch_size=config.batch_size,
            seed=config.seed,
            repeats=config.crops_per_record,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
        )
        positive_share = torch.from_numpy(batches.labels[positions].mean(axis=0))
        validation = OrderedBatches(
            dataset.folds(VALIDATION_FOLD), batch_size=records_at_once(trained.n_samples, dataset.n_samples)
        )
        session.log(describe(trained, config, trainer, n_train=len(positions), resumed=resumed))
        with interruptible():
            trainer.fit(
                Classifier(trained.model, config, positive_share),
                train_dataloaders=loader(batches, train),
                val_dataloaders=loader(batches, validation),
                ckpt_path=last if resumed else None,
                weights_only=True,
            )
    if not best.is_file():
        raise EcgkitError(
            f"no epoch of {session.path} had a macro AUC on fold 9: lower learning_rate {config.learning_rate}"
        )
    session.log(f"best epoch {writer.best_epoch}: macro AUC {writer.best_auc:.4f} on fold 9")
    return load_weights(best)


def check_validation(dataset: Dataset) -> None:
    """Make sure that fold 9 can choose an epoch.

    Raises
    ------
    EcgkitError
        If no class is there in some records of fold 9 and not in others.
    """
    share = dataset.labels.iloc[dataset.folds(VALIDATION_FOLD)].mean()
    if not share.between(0, 1, inclusive="neither").any():
        raise EcgkitError(
            f"no class of {dataset.name} is in some records of fold {VALIDATION_FOLD} and not in others, so that no "
            "epoch is better than another: give a larger dataset or another label set"
        )


def describe(trained: TrainedModel, config: TrainingConfig, trainer: pl.Trainer, *, n_train: int, resumed: bool) -> str:
    """Write the log's first line: what is trained, on what, where."""
    how = "going on with" if resumed else "training"
    device = "GPU" if trainer.accelerator.__class__.__name__ == "CUDAAccelerator" else "CPU"
    return (
        f"{how} {trained.name}, {trained.n_parameters:,} parameters, on {n_train:,} records of {config.dataset}, "
        f"{trainer.world_size} {device} process{'es' if trainer.world_size > 1 else ''}, {trainer.precision}"
    )
