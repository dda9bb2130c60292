"""Losses of multilabel training: each maps logits and labels, ``(records, classes)``, to one number.

A label may lie between 0 and 1 (mixup makes such labels): every loss is then the mixture of its two sides.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ecgkit.errors import EcgkitError, check_choice


class BinaryCrossEntropy(nn.Module):
    """Binary cross-entropy, the mean over records and classes."""

    def __init__(self) -> None:  # without it, the signature would be that of Module, which takes anything
        super().__init__()

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Give the loss of a batch."""
        return functional.binary_cross_entropy_with_logits(logits, labels)


class ClassWeighted(nn.Module):
    """Binary cross-entropy in which the positive labels of rare classes count for more.

    Parameters
    ----------
    positive_share : Tensor, shape (classes,)
        Share of the training records that carry each class.
    power : float, default 1.0
        1 lets positives and negatives of a class weigh the same in all, 0 is plain cross-entropy, 0.5 lies between.
    """

    def __init__(self, *, positive_share: Tensor, power: float = 1.0) -> None:
        super().__init__()
        check_range("power", power, 0.0, 1.0)
        self.weight: Tensor
        weight = ((1 - positive_share) / positive_share.clamp(min=1e-6)) ** power
        # A class without a positive label in the training folds has no weight to give.
        self.register_buffer("weight", weight.where(positive_share > 0, 1.0), persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Give the loss of a batch."""
        return functional.binary_cross_entropy_with_logits(logits, labels, pos_weight=self.weight)


class Focal(nn.Module):
    """Focal loss: what is already told apart well counts for less (Lin et al., 2017, arXiv:1708.02002).

    Parameters
    ----------
    alpha : float, default 0.5
        Weight of the positive labels, the negative ones have ``1 - alpha``; the paper's detector has 0.25.
    gamma : float, default 2.0
        How strongly easy labels are discounted; 0 for none.
    """

    def __init__(self, *, alpha: float = 0.5, gamma: float = 2.0) -> None:
        super().__init__()
        check_range("alpha", alpha, 0.0, 1.0)
        check_range("gamma", gamma, 0.0, 10.0)
        self.alpha, self.gamma = alpha, gamma

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Give the loss of a batch."""
        positive = -self.alpha * torch.sigmoid(-logits) ** self.gamma * functional.logsigmoid(logits)
        negative = -(1 - self.alpha) * torch.sigmoid(logits) ** self.gamma * functional.logsigmoid(-logits)
        return (labels * positive + (1 - labels) * negative).mean()


class Asymmetric(nn.Module):
    """Asymmetric loss: easy negative labels are discounted more, very easy ones dropped (Ridnik et al., 2021).

    Parameters
    ----------
    gamma_positive : float, default 0.0
        Discount of easy positive labels.
    gamma_negative : float, default 4.0
        Discount of easy negative labels.
    clip : float, default 0.05
        Probabilities of negative labels are lowered by this much; below it they have no loss.

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

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Give the loss of a batch."""
        shifted = (torch.sigmoid(logits) - self.clip).clamp(min=0.0)
        positive = -(torch.sigmoid(-logits) ** self.gamma_positive) * functional.logsigmoid(logits)
        # With a clip of 0, 1 - p would round to 0 for large logits; the loss then is that of the paper with p < 1.
        negative = -(shifted**self.gamma_negative) * torch.log((1 - shifted).clamp(min=1e-8))
        return (labels * positive + (1 - labels) * negative).mean()


LOSSES: dict[str, type[nn.Module]] = {
    "bce": BinaryCrossEntropy,
    "weighted_bce": ClassWeighted,
    "focal": Focal,
    "asymmetric": Asymmetric,
}
"""Every loss by the name that users give."""


def make_loss(name: str, options: dict[str, Any], *, positive_share: Tensor) -> nn.Module:
    """Make a loss.

    Parameters
    ----------
    name : str
        A name of `LOSSES`.
    options : dict
        The loss's own numbers, such as ``{"gamma": 2.0}``.
    positive_share : Tensor, shape (classes,)
        Share of the training records that carry each class.

    Returns
    -------
    Module

    Raises
    ------
    EcgkitError
        If there is no loss of this name, or it has no such option, or an option is out of its range.
    """
    resolved = resolve_loss_options(name, options)
    share = {"positive_share": positive_share} if name == "weighted_bce" else {}
    return LOSSES[name](**resolved, **share)


def resolve_loss_options(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Resolve a loss's own numbers: its defaults, then what is given.

    Raises
    ------
    EcgkitError
        If there is no loss of this name, or it has no such option, or a value is no number.
    """
    check_choice("loss", name, LOSSES)
    parameters = inspect.signature(LOSSES[name]).parameters
    defaults = {key: parameter.default for key, parameter in parameters.items() if key != "positive_share"}
    for key, value in given.items():
        if key not in defaults:
            raise EcgkitError(f"the loss {name} has no option {key!r}: choose from {', '.join(defaults) or 'none'}")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise EcgkitError(f"the loss's option {key} is {value!r}: give a number")
    return defaults | given


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Refuse an option of a loss that lies outside its range."""
    if not low <= value <= high:
        raise EcgkitError(f"the loss's option {name} is {value}: give a number from {low:g} to {high:g}")
