"""The training and validation steps that Lightning loops over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from numpy.typing import ArrayLike
from sklearn.metrics import r2_score
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ecgkit.errors import EcgkitError
from ecgkit.models import ECGModel
from ecgkit.stats import macro_auc
from ecgkit.training.augmentation import make_augmentation, mix
from ecgkit.training.auxiliary import AuxiliaryHeads
from ecgkit.training.base_config import FittingConfig
from ecgkit.training.config import TrainingConfig
from ecgkit.training.data import Batch
from ecgkit.training.faults import Faults
from ecgkit.training.losses import SquaredError


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split the parameters into weights, which decay, and biases and normalisation, which do not."""

    def choose(*, decaying: bool) -> list[nn.Parameter]:
        return [p for p in model.parameters() if p.requires_grad and (p.ndim > 1) == decaying]

    return [
        {"params": choose(decaying=True), "weight_decay": weight_decay},
        {"params": choose(decaying=False), "weight_decay": 0.0},
    ]


class SeededModule(pl.LightningModule):
    """What a training and a pretraining have in common: random numbers that a resumed one repeats, and its losses."""

    def __init__(self, config: FittingConfig) -> None:
        super().__init__()
        self.seed = config.seed
        self.generator, self.rng = torch.Generator(), np.random.default_rng()
        self.train_losses: list[Tensor] = []

    def on_train_batch_start(self, batch: object, batch_idx: int) -> None:
        """Seed all random numbers of an epoch by the seed of the configuration, the epoch and the process."""
        del batch
        if batch_idx > 0:  # the hook for the start of an epoch is not called in the epoch after a resume
            return
        sequence = np.random.SeedSequence([self.seed, self.current_epoch, self.global_rank])
        seeds = [int(seed) for seed in sequence.generate_state(3)]
        self.generator.manual_seed(seeds[0])
        torch.manual_seed(seeds[1])
        self.rng = np.random.default_rng(seeds[2])
        self.train_losses.clear()


class Module(SeededModule):
    """The training and validation steps: AdamW, a loss and a schedule of the learning rate.

    Parameters
    ----------
    model : ECGModel
        The network, which is trained in place.
    config : TrainingConfig
        Recipe and seed.
    loss : Module
        Made by `ecgkit.training.losses.make_loss`.
    std : array-like of float, shape (12,), optional
        Standard deviation of each lead, in mV, which faults need; see `ecgkit.training.faults.Faults`.
    sizes : sequence of int, default ()
        Classes of each further label set of ``config.auxiliary``, whose labels follow those of the model in a batch.

    References
    ----------
    Loshchilov and Hutter (2019), arXiv:1711.05101 (AdamW).
    """

    def __init__(
        self,
        model: ECGModel,
        config: TrainingConfig,
        loss: nn.Module,
        std: ArrayLike = 1.0,
        sizes: Sequence[int] = (),
    ) -> None:
        super().__init__(config)
        self.model, self.config, self.loss = model, config, loss
        self.augment = make_augmentation(config, model)
        self.faults = Faults(config.robustness, model.sampling_rate, std)
        self.auxiliary = AuxiliaryHeads(model, sizes, list(config.auxiliary.values())) if sizes else None
        self.average: AveragedModel | None = None
        if config.weight_average:
            self.average = AveragedModel(
                model, multi_avg_fn=get_ema_multi_avg_fn(config.weight_average), use_buffers=True
            ).requires_grad_(requires_grad=False)
        self.outputs: list[tuple[Tensor, Tensor]] = []

    def on_train_batch_start(self, batch: object, batch_idx: int) -> None:
        """Seed the epoch, and keep frozen layers as they are."""
        super().on_train_batch_start(batch, batch_idx)
        if self.config.freeze and batch_idx == 0:  # statistics of batch normalisation stay too; nothing is dropped out
            for module in self.model.modules():
                module.train(any(parameter.requires_grad for parameter in module.parameters()))

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Compute the loss of an augmented batch."""
        signal, labels, metadata = batch
        signal = self.faults(self.augment(signal, self.generator), self.generator)
        if self.config.mixup:
            signal, labels, metadata = mix(signal, labels, metadata, self.config.mixup, self.rng)
        own, others = labels[:, : self.model.n_classes], labels[:, self.model.n_classes :]
        if self.auxiliary is None:
            loss = self.loss(self.model(signal, metadata).float(), own)
        else:
            features = self.model.embed(signal)
            loss = self.loss(self.model.classify(features, metadata).float(), own) + self.auxiliary(features, others)
        self.train_losses.append(loss.detach())
        return loss

    @property
    def kept(self) -> ECGModel:
        """The network that fold 9 reads and that is saved: the average of the weights, if there is one."""
        return self.model if self.average is None else cast("ECGModel", self.average.module)

    def on_train_batch_end(self, outputs: object, batch: Batch, batch_idx: int) -> None:
        """Add the weights after a step to their average (Polyak and Juditsky, 1992, doi:10.1137/0330046)."""
        del outputs, batch, batch_idx
        if self.average is not None:
            self.average.update_parameters(self.model)

    def validation_step(self, batch: Batch, _: int) -> None:
        """Collect the outputs for a batch in float32, as the finished model will be evaluated."""
        signal, labels, metadata = batch
        with torch.autocast(self.device.type, enabled=False):
            self.outputs.append((self.kept(signal, metadata).float(), labels[:, : self.model.n_classes]))

    def on_validation_epoch_end(self) -> None:
        """Log the loss and the monitored metric of fold 9, which every process reads as a whole."""
        outputs, labels = (torch.cat(part) for part in zip(*self.outputs, strict=True))
        self.outputs.clear()
        if not torch.isfinite(outputs).all():
            rate = self.config.learning_rate
            raise EcgkitError(
                f"the outputs of epoch {self.current_epoch + 1} are not finite: lower learning_rate {rate}"
            )
        self.log("validation_loss", self.loss(outputs, labels))
        self.log(self.config.monitor, torch.tensor(self.score(outputs, labels), dtype=torch.float32))

    def score(self, outputs: Tensor, labels: Tensor) -> float:
        """Compute the macro AUC of the classes, or R2 of a quantity."""
        if isinstance(self.loss, SquaredError):
            return float(r2_score(labels.cpu().numpy(), self.loss.in_units(outputs).cpu().numpy()))
        return macro_auc(labels.cpu().numpy(), outputs.sigmoid().cpu().numpy())

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Create AdamW and its schedule."""
        trained = nn.ModuleList([self.model, self.auxiliary or nn.Identity()])
        return make_optimizer(trained, self.config, steps=int(self.trainer.estimated_stepping_batches))


def make_optimizer(network: nn.Module, config: FittingConfig, *, steps: int) -> OptimizerLRScheduler:
    """Create AdamW for the parameters that are trained, and its schedule, as Lightning takes them."""
    optimizer = torch.optim.AdamW(parameter_groups(network, config.weight_decay), lr=config.learning_rate)
    schedule = make_schedule(optimizer, config, steps=steps)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def make_schedule(optimizer: torch.optim.Optimizer, config: FittingConfig, *, steps: int) -> LRScheduler:
    """Create the schedule of the learning rate.

    Parameters
    ----------
    optimizer : Optimizer
        Its learning rate is the peak.
    config : FittingConfig
        Its ``warm_up`` and ``schedule``: ``"one_cycle"`` (Smith and Topin, 2018, arXiv:1708.07120), ``"cosine"`` down
        to zero (Loshchilov and Hutter, 2017, arXiv:1608.03983) or ``"constant"``, both after a linear warm-up.
    steps : int
        Number of steps of the whole training.

    Returns
    -------
    LRScheduler
        To step after every batch.
    """
    if config.schedule == "one_cycle":
        # torch divides by the length of the warm-up minus one step, so that exactly one step is an error there.
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
