"""The supervised upper end of a probe: the same network, trained from scratch for that one target."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.metrics import r2_score, roc_auc_score
from torch import Tensor, nn

from ecgkit.datasets.store import Dataset
from ecgkit.errors import EcgkitError
from ecgkit.feature_space.probes.targets import TARGETS, Target
from ecgkit.inference.weights import TrainedModel, load_weights
from ecgkit.io import write_atomically
from ecgkit.models import create_model
from ecgkit.sessions import Session
from ecgkit.stats.folds import TEST_FOLD, TRAIN_FOLDS, VALIDATION_FOLD
from ecgkit.training import TrainedSession, TrainingConfig
from ecgkit.training.augmentation import Augmentation, make_augmentation
from ecgkit.training.data import Batches, ShuffledBatches
from ecgkit.training.inference import run_over_dataset
from ecgkit.training.module import make_schedule, parameter_groups

FOLDER = "supervised"
LAST = "last.ckpt"
MIN_RECORDS = 10


@dataclass(frozen=True, eq=False)
class _Task:
    """A target's values over all records, standardised with folds 1-8 if it is a number, and where they are known."""

    target: Target
    truth: NDArray[np.float64]
    mean: float
    scale: float

    def known(self, dataset: Dataset, *folds: int) -> NDArray[np.int64]:
        """Give the positions of the records of some folds whose value is known."""
        positions = dataset.folds(*folds)
        return positions[np.isfinite(self.truth[positions])]

    def score(self, positions: NDArray[np.int64], outputs: NDArray[np.floating]) -> float:
        """Give R2 of a number, or the AUC of two words; NaN if the records are all alike."""
        known = self.truth[positions]
        if len(np.unique(known)) < 2:
            return float("nan")
        return float(roc_auc_score(known, outputs) if self.target.words else r2_score(known, outputs))


def supervise(source: TrainedSession, target_name: str) -> Session:
    """Train the network of a session from scratch for one target, or go on where an earlier call was cut off.

    Recipe, augmentation and number of epochs are those of the session, without mixup and without age and sex as input;
    the loss is the squared error of a number or the cross-entropy of two words. Folds 1-8 train, fold 9 chooses the
    epoch, fold 10 is predicted once by the best. All of it lies in ``supervised/TARGET/`` of the session:
    ``weights/best.safetensors``, ``history.csv``, ``training_log.txt``, ``predictions.parquet`` (``record_id``,
    ``patient_id``, ``fold``, ``true``, ``predicted``: in the target's unit, or the probability of the second word) and
    ``DONE``, written last.

    Parameters
    ----------
    source : TrainedSession
        The training session, opened.
    target_name : str
        ``"age"``, ``"sex"``, ``"height"`` or ``"weight"``.

    Returns
    -------
    Session
        The target's folder.

    Raises
    ------
    EcgkitError
        If there is no such target, too few records know it, or the loss is no number any more.
    """
    target = find_target(target_name)
    folder = source.session.folder(FOLDER).folder(target.name)
    if folder.is_done:
        folder.log(f"{target.name} of {source.session.name} has been trained")
        return folder
    lock = folder.lock()
    try:
        _supervise(source, target, folder)
    finally:
        lock.release()
    return folder


def _supervise(source: TrainedSession, target: Target, folder: Session) -> None:
    """Train, predict folds 9 and 10, and mark the folder as done."""
    dataset, config = source.dataset, source.config
    dataset.check_splits()
    task = _make_task(target, dataset)
    trained = _new_model(source, config, target)
    _fit(folder, task, trained, config, dataset)
    best = load_weights(folder.best_weights)
    positions = np.concatenate([task.known(dataset, VALIDATION_FOLD), task.known(dataset, TEST_FOLD)])
    table = dataset.records.loc[positions, ["record_id", "patient_id", "fold"]].reset_index(drop=True)
    table["true"], table["predicted"] = task.truth[positions], _predict(best, dataset, positions, task)
    folder.write_table("predictions.parquet", table)
    (folder.path / "weights" / LAST).unlink(missing_ok=True)
    folder.write_text("DONE", target.name)


def find_target(name: str) -> Target:
    """Find a target that a network can be trained for.

    Raises
    ------
    EcgkitError
        If there is none of this name.
    """
    for target in TARGETS:
        if target.name == name:
            return target
    raise EcgkitError(f"target is {name!r}: choose from {', '.join(target.name for target in TARGETS)}")


def read_supervised(source: TrainedSession, target_name: str) -> pd.DataFrame | None:
    """Read what a network trained for a target predicts, ``record_id``, ``fold``, ``true``, ``predicted``.

    Parameters
    ----------
    source : TrainedSession
        The training session.
    target_name : str
        The target.

    Returns
    -------
    DataFrame or None
        None if `supervise` was not run, or has not finished.
    """
    folder = Session(source.session.path / FOLDER / target_name)
    return pd.read_parquet(folder.path / "predictions.parquet") if folder.is_done else None


def _make_task(target: Target, dataset: Dataset) -> _Task:
    """Read a target's values; those that are not plausible count as unknown."""
    values = target.known(dataset.records)
    fitted = values[dataset.folds(*TRAIN_FOLDS)]
    counts = {
        "folds 1-8": np.isfinite(fitted).sum(),
        "fold 9": np.isfinite(values[dataset.folds(VALIDATION_FOLD)]).sum(),
    }
    for where, count in counts.items():
        if count < MIN_RECORDS:
            raise EcgkitError(
                f"{target.name} is known for {count} records of {where}: a network needs {MIN_RECORDS} or more"
            )
    if target.words:
        return _Task(target, values, 0.0, 1.0)
    return _Task(target, values, float(np.nanmean(fitted)), float(np.nanstd(fitted)) or 1.0)


def _new_model(source: TrainedSession, config: TrainingConfig, target: Target) -> TrainedModel:
    """Make the session's network with one output and fresh weights; it never sees age and sex."""
    keywords = source.trained.keywords | {"n_classes": 1, "n_metadata": 0}
    torch.manual_seed(config.seed)
    model = create_model(config.model, **keywords)
    return replace(source.trained, model=model, keywords=keywords, classes=(target.name,), label_set="", scaler=None)


@dataclass(eq=False)
class _Progress:
    """What a training that was cut off needs to go on."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    history: list[dict[str, float]]

    def save(self, folder: Session) -> None:
        """Write the state behind an epoch, whole or not at all."""
        parts = {name: getattr(self, name).state_dict() for name in ("model", "optimizer", "schedule")}
        state = io.BytesIO()
        torch.save(parts | {"history": json.dumps(self.history)}, state)
        write_atomically(folder.path / "weights" / LAST, state.getvalue())
        write_atomically(folder.path / "history.csv", pd.DataFrame(self.history).to_csv(index=False).encode())

    def load(self, folder: Session) -> None:
        """Take up the state of an earlier call, if there is one."""
        path = folder.path / "weights" / LAST
        if path.is_file():
            state = torch.load(path, weights_only=True, map_location="cpu")
            for name in ("model", "optimizer", "schedule"):
                getattr(self, name).load_state_dict(state[name])
            self.history = json.loads(state["history"])


def _fit(folder: Session, task: _Task, trained: TrainedModel, config: TrainingConfig, dataset: Dataset) -> None:
    """Train, and keep the weights of the epoch that is best on fold 9."""
    (folder.path / "weights").mkdir(exist_ok=True)
    batches, training = Batches(dataset), task.known(dataset, *TRAIN_FOLDS)
    sampler = ShuffledBatches(training, batch_size=config.batch_size, seed=config.seed, repeats=config.crops_per_record)
    # Before the optimizer is made: the state that it takes up goes to where its parameters are.
    trained.model.to("cuda" if torch.cuda.is_available() else "cpu")
    optimizer = torch.optim.AdamW(parameter_groups(trained.model, config.weight_decay), lr=config.learning_rate)
    schedule = make_schedule(optimizer, config, steps=len(sampler) * config.epochs)
    progress = _Progress(trained.model, optimizer, schedule, [])
    progress.load(folder)
    augment = make_augmentation(config, trained.model)
    validation, what = task.known(dataset, VALIDATION_FOLD), "AUC" if task.target.words else "R2"
    for epoch in range(len(progress.history), config.epochs):
        started = time.monotonic()
        examples = _epoch_examples(sampler, batches, augment, task, epoch)
        loss = _train_epoch(progress, examples, nn.BCEWithLogitsLoss() if task.target.words else nn.MSELoss(), config)
        score = task.score(validation, _predict(trained, dataset, validation, task))
        if not np.isfinite(score):
            raise EcgkitError(f"epoch {epoch + 1} gave no {what} on fold 9: lower learning_rate {config.learning_rate}")
        best = score > max((row["validation_score"] for row in progress.history), default=-np.inf)
        if best:
            trained.save(folder.best_weights)
        progress.history.append({"epoch": epoch + 1, "train_loss": loss, "validation_score": score})
        progress.save(folder)
        folder.log(
            f"{task.target.name}: epoch {epoch + 1:>3}/{config.epochs}  loss {loss:.4f}  fold 9: {what} {score:.4f}"
            f"  {time.monotonic() - started:.0f} s{'  best so far' if best else ''}"
        )


def _epoch_examples(
    sampler: ShuffledBatches, batches: Batches, augment: Augmentation, task: _Task, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Give the augmented signals of an epoch with their standardised values, ``(records, 1)``."""
    # Everything random of an epoch follows from seed and epoch, so that a run that was cut off is the run itself.
    seeds = np.random.SeedSequence([sampler.seed, epoch]).generate_state(2)
    generator = torch.Generator().manual_seed(int(seeds[0]))
    torch.manual_seed(int(seeds[1]))
    sampler.set_epoch(epoch)
    for positions in sampler:
        values = (task.truth[positions] - task.mean) / task.scale
        yield augment(batches[positions][0], generator), torch.from_numpy(values.astype(np.float32))[:, None]


def _train_epoch(
    progress: _Progress, examples: Iterator[tuple[Tensor, Tensor]], loss_of: nn.Module, config: TrainingConfig
) -> float:
    """Make the steps of an epoch and give the mean loss."""
    model = progress.model.train()
    device = next(model.parameters()).device
    losses = []
    for signal, values in examples:
        autocast = torch.autocast(device.type, torch.bfloat16) if config.precision == "bfloat16" else nullcontext()
        with autocast:
            outputs = model(signal.to(device))
        loss = loss_of(outputs.float(), values.to(device))
        progress.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
        progress.optimizer.step()
        progress.schedule.step()
        losses.append(loss.detach())
    return float(torch.stack(losses).mean())


def _predict(trained: TrainedModel, dataset: Dataset, positions: NDArray[np.int64], task: _Task) -> NDArray[np.float64]:
    """Predict records in the target's unit, or the probability of the second word."""
    logits = run_over_dataset(trained, dataset, positions, lambda signal, _: trained.model(signal))[:, 0]
    outputs = logits.astype(np.float64)
    return expit(outputs) if task.target.words else outputs * task.scale + task.mean
