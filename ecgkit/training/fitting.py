"""Fit a model in a session: Lightning's loop, the best checkpoint by fold 9, and a checkpoint to resume from."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import pickle
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader

from ecgkit.datasets import Dataset
from ecgkit.errors import EcgkitError
from ecgkit.inference.batches import records_at_once
from ecgkit.inference.reference import REFERENCE
from ecgkit.inference.weights import TrainedModel, load_weights
from ecgkit.io import check_held, readable, write_atomically
from ecgkit.models import is_user_file, locate
from ecgkit.sessions import Session
from ecgkit.stats.folds import TRAIN_FOLDS, VALIDATION_FOLD
from ecgkit.training.auxiliary import auxiliary_labels
from ecgkit.training.base_config import FittingConfig
from ecgkit.training.config import TrainingConfig
from ecgkit.training.data import Batches, ShuffledBatches, check_trainable, loader
from ecgkit.training.distillation import soften
from ecgkit.training.inference import embedding_reference
from ecgkit.training.losses import make_loss
from ecgkit.training.model import new_model
from ecgkit.training.module import Module, SeededModule

METRIC_TEXTS = {"validation_macro_auc": "macro AUC {:.4f}", "validation_r2": "R2 {:.4f}"}
HISTORY = "history.csv"
MARK = b"sha256 of ecgkit:"
"""What is between a checkpoint and its checksum."""
OnEpoch = Callable[[int, float], None]
Loop = tuple[SeededModule, DataLoader[Any], DataLoader[Any]]
"""The module, the batches of folds 1-8 and those of fold 9."""


class EpochWriter(Callback):
    """Write one line of the log and one row of the history per epoch.

    Parameters
    ----------
    session : Session
        Receives them.
    config : FittingConfig
        States the number of epochs.
    metric : str
        The column of the history that is measured on fold 9 next to the loss.
    text : str
        The metric in the log, with ``{}`` for its value.
    """

    def __init__(self, session: Session, config: FittingConfig, *, metric: str, text: str) -> None:
        self.session, self.epochs, self.metric, self.text = session, config.epochs, metric, text
        self.started = time.monotonic()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Start the clock of the epoch."""
        del trainer, pl_module, batch
        if batch_idx == 0:
            self.started = time.monotonic()

    def write_epoch(self, trainer: pl.Trainer, losses: Sequence[Tensor], ending: str = "") -> float:
        """Write the epoch's row and line, and return its metric."""
        row = {
            "epoch": trainer.current_epoch + 1,
            "train_loss": float(torch.stack(list(losses)).mean()),
            "validation_loss": float(trainer.callback_metrics["validation_loss"]),
            self.metric: float(trainer.callback_metrics[self.metric]),
            "learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "seconds": round(time.monotonic() - self.started, 2),
        }
        left = add_to_history(self.session, row, self.epochs)
        self.session.log(
            f"epoch {row['epoch']:>3}/{self.epochs}  loss {row['train_loss']:.4f}"
            f"  fold 9: loss {row['validation_loss']:.4f}, {self.text.format(row[self.metric])}"
            f"  {row['seconds']:.0f} s, {left} left{ending}"
        )
        return row[self.metric]


class SessionWriter(EpochWriter):
    """Write the session's files during training: log, history, and the best weights."""

    def __init__(
        self, session: Session, trained: TrainedModel, config: TrainingConfig, on_epoch: OnEpoch | None = None
    ) -> None:
        super().__init__(session, config, metric=config.monitor, text=METRIC_TEXTS[config.monitor])
        self.trained, self.on_epoch, self.keeps_all = trained, on_epoch, config.save_every_epoch
        self.best_score, self.best_epoch = float("-inf"), 0

    def state_dict(self) -> dict[str, Any]:
        """Return what ``last.ckpt`` keeps of this object."""
        return {"best_score": self.best_score, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``last.ckpt`` kept."""
        self.best_score, self.best_epoch = state_dict["best_score"], state_dict["best_epoch"]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the weights if their score on fold 9 is the best so far."""
        assert isinstance(pl_module, Module)  # noqa: S101 - for the type checker
        check_held(self.session.path)
        kept = replace(self.trained, model=pl_module.kept)
        score = float(trainer.callback_metrics[self.metric])
        epoch = trainer.current_epoch + 1
        is_best = score > self.best_score
        if is_best:
            self.best_score, self.best_epoch = score, epoch
        if is_best and trainer.is_global_zero:
            kept.save(self.session.best_weights)
        if self.keeps_all and trainer.is_global_zero:
            kept.save(self.session.path / "weights" / f"epoch_{epoch:03d}.safetensors")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the epoch's line and its row of the history."""
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, Module)  # noqa: S101 - for the type checker
        epoch = trainer.current_epoch + 1
        best = "  best so far" if self.best_epoch == epoch else ""
        score = self.write_epoch(trainer, pl_module.train_losses, best)
        if self.on_epoch is not None:
            self.on_epoch(epoch, score)


class WholeCheckpoints(TorchCheckpointIO):
    """Write checkpoints atomically, with a checksum: Lightning copies its own from /tmp, perhaps from another disk."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Replace the previous checkpoint."""
        del storage_options
        check_held(self.session.path)
        data = io.BytesIO()
        torch.save(checkpoint, data)
        # Behind the archive, where torch.load does not look.
        write_atomically(Path(path), data.getvalue() + MARK + hashlib.sha256(data.getvalue()).digest())


class Launched(DDPStrategy):
    """Training in processes that a launcher has started, in a notebook's kernel too."""

    def _configure_launcher(self) -> None:
        self._launcher = None


def check_checkpoint(path: Path) -> bool:
    """Return True if there is a checkpoint to resume from, and refuse one that is damaged or not finite."""
    if not path.is_file():
        return False
    try:
        content, _, checksum = path.read_bytes().rpartition(MARK)
        if hashlib.sha256(content).digest() != checksum:
            raise ValueError("its contents do not match its checksum")
        state = torch.load(io.BytesIO(content), weights_only=True)
        if not all(torch.isfinite(tensor).all() for tensor in state["state_dict"].values()):
            raise ValueError("its weights are not finite")
    except (
        OSError,
        EOFError,
        AttributeError,
        LookupError,
        TypeError,
        RuntimeError,
        ValueError,
        pickle.UnpicklingError,
    ) as error:
        why = str(error).partition("\n")[0]
        raise EcgkitError(
            f"cannot resume from {path} ({why}): remove it to train again from the first epoch"
        ) from error
    return True


def read_history(session: Session, *, before: float = float("inf")) -> pd.DataFrame:
    """Read ``history.csv``, one row per epoch; empty if there is none.

    Parameters
    ----------
    session : Session
        The session.
    before : float
        Leave out the rows of this epoch and of later ones.

    Returns
    -------
    DataFrame
        ``epoch`` (from 1), ``train_loss``, ``validation_loss``, ``validation_macro_auc`` (``validation_r2`` of a
        quantity), ``learning_rate`` and ``seconds``.

    Raises
    ------
    EcgkitError
        If the file is damaged.
    """
    path = session.path / HISTORY
    if not path.is_file():
        return pd.DataFrame()
    with readable(path, "remove it, or train again"):
        history = pd.read_csv(path)
        return history[history["epoch"] < before]


def add_to_history(session: Session, row: dict[str, float], epochs: int) -> timedelta:
    """Write the row of an epoch to ``history.csv``, in place of later ones, and return the time that is left."""
    history = pd.concat([read_history(session, before=row["epoch"]), pd.DataFrame([row])])
    write_atomically(session.path / HISTORY, history.to_csv(index=False).encode())
    return timedelta(seconds=round(history["seconds"].mean() * (epochs - row["epoch"])))


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's messages about its own set-up."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # Batches come from a memory map in the main process: worker processes would only copy them.
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
            warnings.filterwarnings("ignore", message=".*GPU available but not used.*")  # device is "cpu"
            # Every process computes the metrics of the whole fold 9.
            warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
            # Lightning's own use of torch's pytrees, which newer versions of torch call deprecated
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def interruptible() -> Iterator[None]:
    """Keep Ctrl-C a KeyboardInterrupt: Lightning turns it into an exit and leaves the signal ignored."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


def is_complete(history: pd.DataFrame, config: TrainingConfig) -> bool:
    """Return True if a training has had all its epochs or was stopped early, by its history."""
    if history.empty:
        return False
    since_best = len(history) - 1 - int(history[config.monitor].to_numpy().argmax())
    return len(history) >= config.epochs or since_best >= config.patience


def make_trainer(session: Session, config: FittingConfig, callbacks: Sequence[Callback]) -> pl.Trainer:
    """Set up Lightning for one CPU, one GPU, or all devices of a launcher such as torchrun."""
    last = ModelCheckpoint(
        dirpath=session.path / "weights", filename="last", save_on_train_epoch_end=True, enable_version_counter=False
    )
    return pl.Trainer(
        accelerator=config.device,
        **_processes(config),
        precision="bf16-mixed" if config.precision == "bfloat16" else "32-true",
        max_epochs=config.epochs,
        gradient_clip_val=config.gradient_clip,
        # On a GPU some operations have no deterministic form: Lightning warns about these.
        deterministic="warn" if config.device == "cuda" else True,
        plugins=[WholeCheckpoints(session)],
        callbacks=[*callbacks, last],
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=session.path,
    )


def _processes(config: FittingConfig) -> dict[str, Any]:
    """Return how many processes train: one, or those of a launcher, since a notebook's kernel cannot start others."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return {"devices": 1}
    if config.batch_size < world:
        raise EcgkitError(f"batch_size is {config.batch_size} for {world} processes: give {world} or more")
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    backend = "nccl" if config.device == "cuda" else "gloo"
    return {"devices": local, "num_nodes": world // local, "strategy": Launched(process_group_backend=backend)}


def fit(session: Session, config: TrainingConfig, dataset: Dataset, *, on_epoch: OnEpoch | None = None) -> TrainedModel:
    """Train a model on folds 1-8 and keep the epoch that is best on fold 9; resume an interrupted training.

    Parameters
    ----------
    session : Session
        Receives ``history.csv``, ``training_log.txt``, ``weights/best.safetensors`` and ``weights/last.ckpt``,
        ``reference.json``, and a copy of a user's own model file in ``weights/``.
    config : TrainingConfig
        The configuration, as resolved.
    dataset : Dataset
        Opened by `ecgkit.training.data.training_data`; fold 10 is not read.
    on_epoch : callable, optional
        Called after each epoch with its number (from 1) and its score on fold 9 (macro AUC, or R2 of a quantity); an
        exception that it raises ends the training.

    Returns
    -------
    TrainedModel
        The best checkpoint, read back from its file.

    Raises
    ------
    EcgkitError
        If a fold is empty, a patient is in two splits, all records of fold 9 are alike, ``last.ckpt`` cannot be read,
        the loss is not finite, or memory runs out.
    """
    check_trainable(dataset, config)
    best = session.best_weights
    if best.is_file() and is_complete(read_history(session), config):
        session.log(f"the training of {session.name} is complete: the best epoch is read")
        return _with_reference(session, dataset)
    writer = _loop(session, config, dataset, on_epoch)
    if not best.is_file():
        raise EcgkitError(
            f"no epoch of {session.path} has a score on fold 9: lower learning_rate {config.learning_rate}"
        )
    session.log(f"best epoch {writer.best_epoch}: {writer.text.format(writer.best_score)} on fold 9")
    return _with_reference(session, dataset)


def follow(session: Session, config: TrainingConfig, dataset: Dataset) -> None:
    """Train as a further process of a launcher such as torchrun, whose first process calls `fit`; writes nothing."""
    check_trainable(dataset, config)
    if not (session.best_weights.is_file() and is_complete(read_history(session), config)):
        _loop(session, config, dataset)


def _loop(session: Session, config: TrainingConfig, dataset: Dataset, on_epoch: OnEpoch | None = None) -> SessionWriter:
    """Train until the last epoch, or until the score of fold 9 stops rising."""
    trained = new_model(config, dataset)
    keep_model_file(session, config)
    writer = SessionWriter(session, trained, config, on_epoch)
    stopping = EarlyStopping(config.monitor, mode="max", patience=config.patience)
    run_loop(session, trained, config, dataset, callbacks=[writer, stopping], make=make_loop)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # what follows is done by the first process alone
    return writer


def run_loop(
    session: Session,
    trained: TrainedModel,
    config: FittingConfig,
    dataset: Dataset,
    *,
    callbacks: Sequence[Callback],
    make: Callable[..., Loop],
) -> None:
    """Run Lightning's loop, from the last checkpoint if there is one; ``make`` makes the module and the batches."""
    last = session.path / "weights" / "last.ckpt"
    resumed = check_checkpoint(last)
    with quiet_lightning():
        trainer = make_trainer(session, config, callbacks)
        module, train, validation = make(trained, config, dataset, trainer)
        if trainer.is_global_zero:
            processes = f"{trainer.world_size} {config.device} process{'es' if trainer.world_size > 1 else ''}"
            session.log(
                f"{'resuming' if resumed else 'training'} {trained.name}, {trained.n_parameters:,} parameters, on "
                f"{len(dataset.folds(*TRAIN_FOLDS)):,} records of {config.dataset}, {processes}, {trainer.precision}"
            )
        with interruptible(), memory_errors(config):
            trainer.fit(module, train, validation, ckpt_path=last if resumed else None, weights_only=True)


def _with_reference(session: Session, dataset: Dataset) -> TrainedModel:
    """Read the best checkpoint, and write the distribution of its features where it is not there yet."""
    trained = load_weights(session.best_weights)
    if not (session.path / REFERENCE).is_file():
        session.write_json(REFERENCE, embedding_reference(trained, dataset).contents())
    return trained


def make_loop(trained: TrainedModel, config: TrainingConfig, dataset: Dataset, trainer: pl.Trainer) -> Loop:
    """Create the Lightning module and the batches of folds 1-8 and of fold 9."""
    batches = Batches(dataset, trained.scaler, trained.preparation)
    if config.distill:
        batches.labels = soften(batches.labels, dataset, config)
    positions = dataset.folds(*TRAIN_FOLDS)
    train = ShuffledBatches(
        positions,
        batch_size=config.batch_size,
        seed=config.seed,
        repeats=config.crops_per_record,
        rank=trainer.global_rank,
        world_size=trainer.world_size,
    )
    size = records_at_once(trained.n_samples, dataset.n_samples)
    validation = BatchSampler(dataset.folds(VALIDATION_FOLD).tolist(), size, drop_last=False)
    scale = {"mean": trained.target.mean, "std": trained.target.std} if trained.target else {}
    positive_share = torch.from_numpy(np.nanmean(batches.labels[positions], axis=0))
    loss = make_loss(config.loss, config.loss_options, positive_share=positive_share, **scale)
    further = [auxiliary_labels(dataset, name) for name in config.auxiliary]
    batches.labels = np.hstack([batches.labels, *further])
    module = Module(trained.model, config, loss, trained.preparation.std, [part.shape[1] for part in further])
    return module, loader(batches, train), loader(batches, validation)


def keep_model_file(session: Session, config: TrainingConfig) -> None:
    """Copy a user's own model file next to the weights, which need it."""
    if is_user_file(config.model):
        file, _ = locate(config.model)
        copy = session.path / "weights" / file.name
        if file != copy.resolve():
            write_atomically(copy, file.read_bytes())


@contextmanager
def memory_errors(config: FittingConfig) -> Iterator[None]:
    """Turn a lack of memory, on the CPU or the GPU, into one line."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # On the CPU torch raises a plain RuntimeError: "DefaultCPUAllocator: can't allocate memory".
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error):
            raise EcgkitError(
                f"out of memory on {config.device} with batch_size {config.batch_size}: lower batch_size"
            ) from error
        raise
