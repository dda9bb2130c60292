"""What an encoder learns without labels: to predict the features of hidden tokens, or the token that follows."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from ecgkit.models.token_encoder import TokenEncoder, Transformer, encode_positions
from ecgkit.training.pretraining.config import STEPS_AHEAD, PretrainingConfig


class Objective(nn.Module, ABC):
    """An encoder with what its pretraining adds to it.

    Parameters
    ----------
    encoder : TokenEncoder
        The network, trained in place.
    config : PretrainingConfig
        The objective's parameters.
    """

    def __init__(self, encoder: TokenEncoder, config: PretrainingConfig) -> None:
        super().__init__()
        self.encoder, self.config = encoder, config

    @property
    def result(self) -> TokenEncoder:
        """The encoder that is kept."""
        return self.encoder

    @abstractmethod
    def loss(self, signal: Tensor, first_sample: Tensor, patients: Tensor, generator: torch.Generator) -> Tensor:
        """Compute the loss of a batch.

        Parameters
        ----------
        signal : Tensor, shape (records, leads, samples)
            Standardised crops.
        first_sample : Tensor of int64, shape (records,)
            Where each begins in its record.
        patients : Tensor of int64, shape (records,)
            Equal for records of the same patient.
        generator : torch.Generator
            On the CPU; draws what is random.

        Returns
        -------
        Tensor
            A scalar.
        """

    def after_step(self, progress: float) -> None:
        """Do what follows an optimiser's step; ``progress`` runs from 0 to 1 over the pretraining."""


class JEPA(Objective):
    """Predict the target encoder's features of hidden tokens from the visible ones.

    The target encoder is a moving average of the encoder and reads all tokens; the predictor, half as wide, reads the
    encoder's features of the visible tokens and the positions of the hidden ones. The loss is the mean absolute
    difference to the targets after a layer norm.

    References
    ----------
    Assran et al. (2023), arXiv:2301.08243; for ECGs Weimann and Conrad (2024), arXiv:2410.13867.
    """

    def __init__(self, encoder: TokenEncoder, config: PretrainingConfig) -> None:
        super().__init__(encoder, config)
        self.target = copy.deepcopy(encoder).requires_grad_(requires_grad=False)
        width = encoder.width // 2
        self.narrow, self.widen = nn.Linear(encoder.width, width), nn.Linear(width, encoder.width)
        self.predictor = Transformer(width=width, depth=2, n_heads=4, dropout=0.0)
        self.hidden_token = nn.Parameter(torch.zeros(width))

    @property
    def result(self) -> TokenEncoder:
        """The target encoder, which is less noisy than the encoder."""
        return self.target

    def loss(self, signal: Tensor, first_sample: Tensor, patients: Tensor, generator: torch.Generator) -> Tensor:
        """Compute the loss of a batch; see `Objective.loss`."""
        del patients
        with torch.no_grad():
            targets = self.target.backbone(self.target.tokens(signal, first_sample)).transpose(1, 2)
            targets = functional.layer_norm(targets.float(), targets.shape[-1:])
        tokens = self.encoder.tokens(signal, first_sample).transpose(1, 2)
        visible, hidden = self.draw_masks(len(signal), tokens.shape[1], generator)
        visible, hidden = visible.to(signal.device), hidden.to(signal.device)
        context = self.encoder.backbone(take(tokens, visible).transpose(1, 2)).transpose(1, 2)
        steps = torch.arange(tokens.shape[1], device=signal.device) + first_sample[:, None] / self.encoder.token_samples
        positions = encode_positions(steps, self.hidden_token.numel())
        asked = self.hidden_token + take(positions, hidden)
        known = self.narrow(context) + take(positions, visible)
        predicted = self.predictor(torch.cat([known, asked], dim=1).transpose(1, 2)).transpose(1, 2)
        predicted = self.widen(predicted[:, visible.shape[1] :])
        return functional.l1_loss(predicted.float(), take(targets, hidden))

    def draw_masks(self, n_records: int, n_tokens: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw the visible and the hidden tokens of each record, as sorted positions.

        Neighbours of a block get the same random number, and the tokens with the smallest numbers are visible.
        """
        low, high = self.config.least_context, self.config.most_context
        share = low + (high - low) * float(torch.rand((), generator=generator))
        n_visible = min(n_tokens - 1, max(1, round(share * n_tokens)))
        block = self.config.block_tokens
        offsets = torch.randint(block, (n_records, 1), generator=generator)
        blocks = (torch.arange(n_tokens) + offsets) // block
        numbers = torch.rand((n_records, n_tokens // block + 2), generator=generator).gather(1, blocks)
        # The order within a block: from the left, so that a block that is cut is cut at its end.
        order = (numbers + torch.arange(n_tokens) * 1e-7).argsort(dim=1)
        return order[:, :n_visible].sort(dim=1).values, order[:, n_visible:].sort(dim=1).values

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Move the target encoder towards the encoder."""
        low, high = self.config.least_momentum, self.config.most_momentum
        momentum = high - (high - low) * (1 + math.cos(math.pi * progress)) / 2
        for target, source in zip(self.target.parameters(), self.encoder.parameters(), strict=True):
            target.lerp_(source, 1 - momentum)


class CPC(Objective):
    """Tell which token follows 4, 8 or 12 tokens later, among the other tokens of the same half of a record.

    Each half of a crop is encoded by itself. Besides, the mean features of the two halves of a record are to be more
    similar than those of halves of two patients.

    References
    ----------
    van den Oord et al. (2018), arXiv:1807.03748; Mehari and Strodthoff (2022), doi:10.1016/j.compbiomed.2021.105114.
    """

    def __init__(self, encoder: TokenEncoder, config: PretrainingConfig) -> None:
        super().__init__(encoder, config)
        width = encoder.width
        self.predictors = nn.ModuleList(nn.Linear(width, width) for _ in STEPS_AHEAD)
        self.projection = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width // 2))

    def loss(self, signal: Tensor, first_sample: Tensor, patients: Tensor, generator: torch.Generator) -> Tensor:
        """Compute the loss of a batch; see `Objective.loss`."""
        del first_sample, generator
        length = signal.shape[-1] // 2 // self.encoder.token_samples * self.encoder.token_samples
        halves = torch.cat([signal[..., :length], signal[..., length : 2 * length]])
        tokens = self.encoder.tokens(halves)
        context = self.encoder.backbone(tokens).transpose(1, 2).float()
        following = functional.normalize(tokens.transpose(1, 2).float(), dim=-1)
        losses = []
        for ahead, predictor in zip(STEPS_AHEAD, self.predictors, strict=True):
            predicted = functional.normalize(predictor(context[:, :-ahead]).float(), dim=-1)
            similar = predicted @ following.transpose(1, 2) / self.config.temperature
            right = torch.arange(ahead, following.shape[1], device=signal.device).expand(len(halves), -1)
            losses.append(functional.cross_entropy(similar.flatten(0, 1), right.flatten()))
        loss = torch.stack(losses).mean()
        if self.config.agreement:
            loss = loss + self.config.agreement * self.disagreement(context.mean(dim=1), patients)
        return loss

    def disagreement(self, features: Tensor, patients: Tensor) -> Tensor:
        """Compute the contrastive loss of the two halves of each record; pairs of one patient are not negatives."""
        first, second = functional.normalize(self.projection(features).float(), dim=-1).chunk(2)
        similar = first @ second.T / self.config.temperature
        same = (patients[:, None] == patients[None]) & ~torch.eye(len(patients), dtype=torch.bool, device=first.device)
        similar = similar.masked_fill(same, -torch.inf)
        right = torch.arange(len(patients), device=first.device)
        return (functional.cross_entropy(similar, right) + functional.cross_entropy(similar.T, right)) / 2


def take(values: Tensor, positions: Tensor) -> Tensor:
    """Pick tokens of each record: ``(records, tokens, width)`` and ``(records, n)`` to ``(records, n, width)``."""
    return values.gather(1, positions[..., None].expand(-1, -1, values.shape[-1]))


OBJECTIVES: dict[str, type[Objective]] = {"jepa": JEPA, "cpc": CPC}
