"""Losses: each maps outputs and labels, both ``(records, classes)``, to one number.

Mixup makes labels between 0 and 1: the loss of labels is then the weighted mean of the losses of both labels. A label
that is NaN is unknown and has no loss; mixed with another, it makes that label unknown too.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ecgkit.errors import EcgkitError, check_choice, check_options


class LabelLoss(nn.Module):
    """The mean of a loss over the known labels of a batch."""

    def __init__(self) -> None:  # without it, the signature would be that of Module, which takes anything
        super().__init__()

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of a batch; 0 if no label is known."""
        known = (~labels.isnan()).to(logits.dtype)
        # Where all are known, this divides by 1: exactly the mean, and exactly its gradients.
        return self.mean(logits, labels.nan_to_num(), known) / known.mean().clamp(min=1 / known.numel())

    @abstractmethod
    def mean(self, logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        """Compute the mean of the weighted losses of the labels; all three are ``(records, classes)``."""


class BinaryCrossEntropy(LabelLoss):
    """Binary cross-entropy, the mean over records and classes."""

    def mean(self, logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        """Compute the mean of the weighted losses."""
        return functional.binary_cross_entropy_with_logits(logits, labels, weight)


class ClassWeighted(LabelLoss):
    """Binary cross-entropy in which the positive labels of rare classes count for more.

    Parameters
    ----------
    positive_share : Tensor, shape (classes,)
        Share of the training records that carry each class, of those for which it is known.
    power : float, default 1.0
        With 1, positives and negatives of a class have the same total weight; 0 is plain cross-entropy.
    """

    def __init__(self, *, positive_share: Tensor, power: float = 1.0) -> None:
        super().__init__()
        check_range("power", power, 0.0, 1.0)
        self.weight: Tensor
        weight = ((1 - positive_share) / positive_share.clamp(min=1e-6)) ** power
        # A class without a positive label in the training folds keeps weight 1.
        self.register_buffer("weight", weight.where(positive_share > 0, 1.0), persistent=False)

    def mean(self, logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        """Compute the mean of the weighted losses."""
        return functional.binary_cross_entropy_with_logits(logits, labels, weight, pos_weight=self.weight)


class Focal(LabelLoss):
    """Focal loss: records that are already classified well count for less (Lin et al., 2017, arXiv:1708.02002).

    Parameters
    ----------
    alpha : float, default 0.5
        Weight of the positive labels; negative ones have ``1 - alpha``. The paper's detector has 0.25.
    gamma : float, default 2.0
        How strongly easy labels are discounted; 0 for none.
    """

    def __init__(self, *, alpha: float = 0.5, gamma: float = 2.0) -> None:
        super().__init__()
        check_range("alpha", alpha, 0.0, 1.0)
        check_range("gamma", gamma, 0.0, 10.0)
        self.alpha, self.gamma = alpha, gamma

    def mean(self, logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        """Compute the mean of the weighted losses."""
        positive = -self.alpha * torch.sigmoid(-logits) ** self.gamma * functional.logsigmoid(logits)
        negative = -(1 - self.alpha) * torch.sigmoid(logits) ** self.gamma * functional.logsigmoid(-logits)
        return (weight * (labels * positive + (1 - labels) * negative)).mean()


class Asymmetric(LabelLoss):
    """Asymmetric loss: easy negative labels are discounted more, very easy ones dropped (Ridnik et al., 2021).

    Parameters
    ----------
    gamma_positive : float, default 0.0
        Discount of easy positive labels.
    gamma_negative : float, default 4.0
        Discount of easy negative labels.
    clip : float, default 0.05
        Subtracted from the probabilities of negative labels; below it they have no loss.

    References
    ----------
    Ridnik et al. (2021), "Asymmetric loss for multi-label classification", doi:10.1109/ICCV48922.2021.00015.
    """

    def __init__(self, *, gamma_positive: float = 0.0, gamma_negative: float = 4.0, clip: float = 0.05) -> None:
        super().__init__()
        check_range("gamma_positive", gamma_positive, 0.0, 10.0)
        check_range("gamma_negative", gamma_negative, 0.0, 10.0)
        check_range("clip", clip, 0.0, 0.5)
        self.gamma_positive, self.gamma_negative, self.clip = gamma_positive, gamma_negative, clip

    def mean(self, logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        """Compute the mean of the weighted losses."""
        shifted = (torch.sigmoid(logits) - self.clip).clamp(min=0.0)
        positive = -(torch.sigmoid(-logits) ** self.gamma_positive) * functional.logsigmoid(logits)
        # With a clip of 0, 1 - p would round to 0 for large logits: the logarithm is bounded.
        negative = -(shifted**self.gamma_negative) * torch.log((1 - shifted).clamp(min=1e-8))
        return (weight * (labels * positive + (1 - labels) * negative)).mean()


class SquaredError(nn.Module):
    """Squared error of a quantity that is standardised with the training folds, the mean over records.

    Parameters
    ----------
    mean, std : float
        Of the known values in folds 1-8, in the quantity's unit.
    """

    def __init__(self, *, mean: float, std: float) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, outputs: Tensor, values: Tensor) -> Tensor:
        """Compute the loss of a batch: standardised outputs against values in their unit."""
        return functional.mse_loss(outputs, (values - self.mean) / self.std)

    def in_units(self, outputs: Tensor) -> Tensor:
        """Convert standardised outputs to the quantity's unit."""
        return outputs * self.std + self.mean


LOSSES: dict[str, type[nn.Module]] = {
    "bce": BinaryCrossEntropy,
    "weighted_bce": ClassWeighted,
    "focal": Focal,
    "asymmetric": Asymmetric,
    "mse": SquaredError,
}
"""Every loss by the name that users give."""

STATISTICS = ("positive_share", "mean", "std")
"""Arguments of losses that are computed from the training folds."""


def make_loss(
    name: str, options: dict[str, Any], *, positive_share: Tensor, mean: float = 0.0, std: float = 1.0
) -> nn.Module:
    """Create a loss.

    Parameters
    ----------
    name : str
        A name of `LOSSES`.
    options : dict
        Options of the loss, such as ``{"gamma": 2.0}``.
    positive_share : Tensor, shape (classes,)
        Share of the training records that carry each class, for ``"weighted_bce"``.
    mean, std : float
        Of the quantity in the training records, for ``"mse"``.

    Returns
    -------
    Module

    Raises
    ------
    EcgkitError
        If there is no loss of this name, or it has no such option, or an option is out of its range.
    """
    resolved = resolve_loss_options(name, options)
    statistics = {"positive_share": positive_share, "mean": mean, "std": std}
    taken = inspect.signature(LOSSES[name]).parameters.keys() & statistics.keys()
    return LOSSES[name](**resolved, **{key: statistics[key] for key in taken})


def check_loss(name: str, options: dict[str, Any]) -> None:
    """Refuse a loss or an option of a loss that `make_loss` would refuse."""
    make_loss(name, options, positive_share=torch.ones(1))


def resolve_loss_options(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Resolve the options of a loss: its defaults, overridden by the given values.

    Raises
    ------
    EcgkitError
        If there is no loss of this name, or it has no such option, or a value is not a number.
    """
    check_choice("loss", name, LOSSES)
    parameters = inspect.signature(LOSSES[name], eval_str=True).parameters
    own = {key: parameter for key, parameter in parameters.items() if key not in STATISTICS}
    check_options(f"the loss {name}", given, own)
    return {key: parameter.default for key, parameter in own.items()} | given


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Refuse an option of a loss outside its range."""
    if not low <= value <= high:
        raise EcgkitError(f"the loss's option {name} is {value}: give a number from {low:g} to {high:g}")
