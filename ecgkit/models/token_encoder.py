"""``token_encoder``: tokens of 200 ms of all leads, read by a transformer, xLSTM blocks or a causal LSTM."""

from __future__ import annotations

import math
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional

from ecgkit.errors import EcgkitError, check_choice
from ecgkit.models.base import ECGModel, SharedKeywords
from ecgkit.models.layers import AttentionPooling, check_heads, run_lstm, samples_per_frame
from ecgkit.models.xlstm_blocks import BidirectionalXLSTM

BACKBONES = ("transformer", "xlstm", "causal")
POOLINGS = ("mean_std_max", "attention")


class AttentionBlock(nn.Module):
    """Self-attention, then a feed-forward layer; both after a layer norm, and with a residual connection.

    Vaswani et al. (2017), arXiv:1706.03762; the order of the layers is that of Xiong et al. (2020), arXiv:2002.04745.

    Parameters
    ----------
    width : int
        Channels per token.
    n_heads : int
        Heads; a divisor of ``width``.
    dropout : float
        Applied to what each half of the block adds.
    """

    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        check_heads(width, n_heads)
        self.n_heads = n_heads
        self.attention_norm, self.feedforward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values, self.projection = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feedforward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``(records, tokens, width)`` to the same shape."""
        heads = self.queries_keys_values(self.attention_norm(tokens)).unflatten(-1, (3, self.n_heads, -1))
        queries, keys, values = heads.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = attend(queries, keys, values)
        tokens = tokens + self.dropout(self.projection(mixed.transpose(1, 2).flatten(2)))
        return tokens + self.dropout(self.feedforward(self.feedforward_norm(tokens)))


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Compute the attention of ``(records, heads, tokens, channels)``, each to the same shape."""
    if queries.requires_grad and queries.device.type == "cpu" and queries.dtype == torch.bfloat16:
        # The gradient of PyTorch's own function is several times slower here (benchmarks/kernels.py).
        scores = queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])
        return scores.softmax(dim=-1).to(values.dtype) @ values
    return functional.scaled_dot_product_attention(queries, keys, values)


class Transformer(nn.Module):
    """A stack of attention blocks with a final layer norm.

    Parameters
    ----------
    width, n_heads, dropout
        As for `AttentionBlock`.
    depth : int
        Number of blocks.
    """

    def __init__(self, *, width: int, depth: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*[AttentionBlock(width, n_heads, dropout) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(records, width, tokens)`` to the same shape."""
        return self.norm(self.blocks(features.transpose(1, 2))).transpose(1, 2)


class CausalLSTM(nn.Module):
    """LSTM layers that read the tokens forwards only, with a final layer norm.

    Parameters
    ----------
    width : int
        Channels per token.
    depth : int
        Number of layers.
    dropout : float
        Between the layers.
    """

    def __init__(self, *, width: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, depth, dropout=dropout if depth > 1 else 0.0)
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(records, width, tokens)`` to the same shape."""
        return self.norm(run_lstm(self.lstm, features).transpose(1, 2)).transpose(1, 2)


class MeanStdMaxPooling(nn.Module):
    """Mean, standard deviation and maximum over time: ``(records, channels, time)`` to ``(records, 3 * channels)``."""

    def forward(self, features: Tensor) -> Tensor:
        """Pool over the last axis."""
        std = (features.var(dim=-1, correction=0) + 1e-6).sqrt()
        return torch.cat([features.mean(dim=-1), std, features.amax(dim=-1)], dim=1)


class CausalConvolutions(nn.Sequential):
    """Three convolutions that make one token of 200 ms, none of which reads a sample behind its token.

    Parameters
    ----------
    n_leads : int
        Channels of the input.
    length : int
        Samples of a token, a multiple of four.
    width : int
        Channels per token.
    """

    def __init__(self, n_leads: int, length: int, width: int) -> None:
        strides = (length // 4, 2, 2)
        channels = (n_leads, width // 4, width // 2, width)
        layers: list[nn.Module] = []
        for n_in, n_out, stride in zip(channels[:-1], channels[1:], strides, strict=True):
            # Twice the stride, padded on the left: the window ends where the token ends.
            layers += [nn.ConstantPad1d((stride, 0), 0.0), nn.Conv1d(n_in, n_out, 2 * stride, stride), nn.GELU()]
        super().__init__(*layers)


class TokenEncoder(ECGModel):
    """Tokens of 200 ms of all leads, a network over them, and pooling; the encoder of ``ecgkit pretrain``.

    Parameters
    ----------
    backbone : str
        ``"transformer"``, ``"xlstm"`` (bidirectional mLSTM and sLSTM blocks in turn), or ``"causal"``: convolutions
        and an LSTM that read no later sample.
    width : int
        Channels per token.
    depth : int
        Blocks, or layers of the LSTM.
    n_heads : int
        Heads of each block.
    token_seconds : float
        Length of a token, rounded to a multiple of four samples.
    clip : float
        The standardised signal is clipped to this many standard deviations.
    pooling : str
        ``"mean_std_max"`` over the tokens, or ``"attention"``, whose weights are learned.
    dropout : float
        Inside the blocks and before the head.
    **shared
        Keywords of `ECGModel`.

    References
    ----------
    Assran et al. (2023), "Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture",
    arXiv:2301.08243; van den Oord et al. (2018), "Representation Learning with Contrastive Predictive Coding",
    arXiv:1807.03748.
    """

    gradcam_layer = "backbone"

    def __init__(
        self,
        *,
        backbone: str = "transformer",
        width: int = 192,
        depth: int = 4,
        n_heads: int = 6,
        token_seconds: float = 0.2,
        clip: float = 10.0,
        pooling: str = "mean_std_max",
        dropout: float = 0.0,
        **shared: Unpack[SharedKeywords],
    ) -> None:
        super().__init__(**shared)
        check_choice("backbone", backbone, BACKBONES)
        check_choice("pooling", pooling, POOLINGS)
        self.width, self.clip = width, clip
        self.token_samples = token_samples(self.sampling_rate, token_seconds)
        self.is_causal = backbone == "causal"
        self.patches: nn.Module
        self.backbone: nn.Module
        if self.is_causal:
            self.patches = CausalConvolutions(self.n_leads, self.token_samples, width)
            self.backbone = CausalLSTM(width=width, depth=depth, dropout=dropout)
        else:
            self.patches = nn.Conv1d(self.n_leads, width, self.token_samples, self.token_samples)
            if backbone == "xlstm":
                layout = ("ms" * depth)[:depth]
                self.backbone = BidirectionalXLSTM(width=width, layout=layout, n_heads=n_heads, dropout=dropout)
            else:
                self.backbone = Transformer(width=width, depth=depth, n_heads=n_heads, dropout=dropout)
        self.pooling = MeanStdMaxPooling() if pooling == "mean_std_max" else AttentionPooling(width)
        self.build_head(3 * width if pooling == "mean_std_max" else width, dropout=dropout)

    def tokens(self, signal: Tensor, first_sample: Tensor | None = None) -> Tensor:
        """Turn signals into tokens, with their position in the record added unless the network is causal.

        Parameters
        ----------
        signal : Tensor, shape (records, n_leads, samples)
            Standardised; zeros complete the last token.
        first_sample : Tensor of shape (records,), optional
            Where in its record a crop begins, in samples; by default 0.

        Returns
        -------
        Tensor, shape (records, width, tokens)
        """
        missing = -signal.shape[-1] % self.token_samples
        tokens: Tensor = self.patches(functional.pad(signal.clamp(-self.clip, self.clip), (0, missing)))
        if self.is_causal:
            return tokens
        steps = torch.arange(tokens.shape[-1], device=tokens.device, dtype=torch.float32)[None]
        if first_sample is not None:
            steps = steps + first_sample[:, None] / self.token_samples
        return tokens + encode_positions(steps, self.width).transpose(1, 2).to(tokens.dtype)

    def encode(self, signal: Tensor) -> Tensor:
        """Encode ``(records, n_leads, n_samples)`` to ``(records, features)``."""
        return self.pooling(self.backbone(self.tokens(signal)))


def token_samples(sampling_rate: int, token_seconds: float) -> int:
    """Return the samples of a token: about so many seconds, in a multiple of four."""
    if not token_seconds > 0:
        raise EcgkitError(f"token_seconds is {token_seconds}: give a positive number of seconds")
    return 4 * samples_per_frame(sampling_rate, 4 / token_seconds)


def encode_positions(steps: Tensor, width: int) -> Tensor:
    """Return sines and cosines of positions (Vaswani et al., 2017): ``(..., tokens)`` to ``(..., tokens, width)``."""
    half = width // 2
    rates = torch.exp(-math.log(1e4) / half * torch.arange(half, device=steps.device, dtype=torch.float32))
    angles = steps[..., None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
