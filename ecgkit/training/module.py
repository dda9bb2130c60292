"""The training and validation step, for Lightning to loop over."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from ecgkit.errors import EcgkitError
from ecgkit.models import ECGModel
from ecgkit.stats import macro_auc
from ecgkit.training.augmentation import make_augmentation, mix
from ecgkit.training.config import TrainingConfig
from ecgkit.training.data import Batch
from ecgkit.training.losses import make_loss


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split parameters into weights, which decay, and biases and normalisation, which do not."""

    def choose(*, decaying: bool) -> list[nn.Parameter]:
        return [p for p in model.parameters() if p.requires_grad and (p.ndim > 1) == decaying]

    return [
        {"params": choose(decaying=True), "weight_decay": weight_decay},
        {"params": choose(decaying=False), "weight_decay": 0.0},
    ]


class Classifier(pl.LightningModule):
    """Multilabel training with AdamW, a loss and a schedule of the learning rate.

    Parameters
    ----------
    model : ECGModel
        The network to train, in place.
    config : TrainingConfig
        Recipe and seed.
    positive_share : Tensor, shape (classes,)
        Share of the training records that carry each class.

    References
    ----------
    Loshchilov and Hutter (2019), arXiv:1711.05101 (AdamW).
    """

    def __init__(self, model: ECGModel, config: TrainingConfig, positive_share: Tensor) -> None:
        super().__init__()
        self.model, self.config = model, config
        self.loss = make_loss(config.loss, config.loss_options, positive_share=positive_share)
        self.augment = make_augmentation(config, model)
        self.generator, self.rng = torch.Generator(), np.random.default_rng()
        self.train_losses: list[Tensor] = []
        self.outputs: list[tuple[Tensor, Tensor]] = []

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Draw everything random of an epoch from (seed, epoch, rank), so that a resumed run is the run itself."""
        del batch
        if batch_idx > 0:  # the hook for the start of an epoch is not called in the epoch after a resume
            return
        seeds = np.random.SeedSequence([self.config.seed, self.current_epoch, self.global_rank]).generate_state(3)
        self.generator.manual_seed(int(seeds[0]))
        torch.manual_seed(int(seeds[1]))
        self.rng = np.random.default_rng(seeds[2])
        self.train_losses.clear()

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Give the loss of an augmented batch."""
        signal, labels, metadata = batch
        signal = self.augment(signal, self.generator)
        if self.config.mixup:
            signal, labels, metadata = mix(signal, labels, metadata, self.config.mixup, self.rng)
        loss = self.loss(self.model(signal, metadata).float(), labels)
        self.train_losses.append(loss.detach())
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """Collect the logits of a batch in float32, as the finished model will be evaluated."""
        signal, labels, metadata = batch
        with torch.autocast(self.device.type, enabled=False):
            self.outputs.append((self.model(signal, metadata).float(), labels))

    def on_validation_epoch_end(self) -> None:
        """Log loss and macro AUC of the whole fold 9; every process of several sees all of it."""
        logits, labels = (torch.cat(part) for part in zip(*self.outputs, strict=True))
        self.outputs.clear()
        if not torch.isfinite(logits).all():
            rate = self.config.learning_rate
            raise EcgkitError(
                f"epoch {self.current_epoch + 1} gave logits that are no numbers: lower learning_rate {rate}"
            )
        loss = self.loss(logits, labels)
        auc = macro_auc(labels.cpu().numpy() > 0, logits.sigmoid().cpu().numpy())
        self.log("validation_loss", loss)
        self.log("validation_macro_auc", torch.tensor(auc, dtype=torch.float32))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make AdamW and its schedule."""
        optimizer = torch.optim.AdamW(
            parameter_groups(self.model, self.config.weight_decay), lr=self.config.learning_rate
        )
        schedule = make_schedule(optimizer, self.config, steps=int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def make_schedule(optimizer: torch.optim.Optimizer, config: TrainingConfig, *, steps: int) -> LRScheduler:
    """Make the schedule of the learning rate.

    Parameters
    ----------
    optimizer : Optimizer
        With the peak as its learning rate.
    config : TrainingConfig
        Its ``warm_up`` and ``schedule``: ``"one_cycle"`` (Smith and Topin, 2018, arXiv:1708.07120), ``"cosine"`` down
        to zero (Loshchilov and Hutter, 2017, arXiv:1608.03983) or ``"constant"``, the last two after a linear rise.
    steps : int
        Of the whole training.

    Returns
    -------
    LRScheduler
        To be stepped after every batch.
    """
    if config.schedule == "one_cycle":
        # torch divides by the length of the rise less one step, so that a rise of exactly one step is an error there.
        warm_up = config.warm_up if config.warm_up * steps != 1 else 1.5 / steps
        return OneCycleLR(optimizer, max_lr=config.learning_rate, total_steps=steps, pct_start=warm_up)
    rise = round(config.warm_up * steps)

    def share_of_peak(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        if config.schedule == "constant":
            return 1.0
        return (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise))) / 2

    return LambdaLR(optimizer, share_of_peak)


def mean_loss(losses: Iterable[Tensor]) -> float:
    """Average the losses of an epoch's steps."""
    return float(torch.stack(list(losses)).mean())
