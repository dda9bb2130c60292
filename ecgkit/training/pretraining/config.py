"""The parameters of a pretraining."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ecgkit.datasets import default_label_set
from ecgkit.errors import EcgkitError, check_choice, shown
from ecgkit.training.base_config import HARDWARE, FittingConfig, model_options, named_manifest, resolve_hardware

ENCODER = "token_encoder"
METHODS = ("jepa", "cpc")
BACKBONES = {"jepa": ("transformer", "xlstm"), "cpc": ("causal",)}
"""The backbones of `ecgkit.models.token_encoder.TokenEncoder` that a method can train, its default first."""
SHORTEST = 6.0
"""Seconds of a crop, of shorter records their length."""
STEPS_AHEAD = (4, 8, 12)
"""Tokens ahead that ``cpc`` predicts, within each half of a crop."""


@dataclass(frozen=True, kw_only=True)
class PretrainingConfig(FittingConfig):
    """Every parameter of a pretraining; ``config.json`` holds these fields and those of `FittingConfig`.

    The encoder of the last epoch is kept; ``model_options`` are those of ``token_encoder``.

    Attributes
    ----------
    method : str
        jepa: predict the features of hidden tokens from the visible ones. cpc: tell the token that follows 4, 8 or 12
        tokens later from the other tokens of the record.
    backbone : str
        For jepa transformer or xlstm, for cpc causal; by default the first of these.
    crop_seconds : float
        Length of the random crop of each record.
    least_context : float
        jepa: smallest share of the tokens that are visible.
    most_context : float
        jepa: largest share of the tokens that are visible.
    block_tokens : int
        jepa: neighbouring tokens that are hidden or visible together.
    least_momentum : float
        jepa: momentum of the moving average of the target encoder at the start.
    most_momentum : float
        jepa: the same at the end.
    temperature : float
        cpc: divides the similarities.
    agreement : float
        cpc: weight of the loss by which the two halves of a record have similar features.
    label_set : str
        Label set by which the features are measured at the end; empty: the first of the dataset.

    Raises
    ------
    EcgkitError
        If a value has the wrong type or is not allowed.
    """

    method: str = "jepa"
    backbone: str = ""
    epochs: int = 100
    weight_decay: float = 0.05
    schedule: str = "cosine"
    warm_up: float = 0.1
    crop_seconds: float = 8.0
    least_context: float = 0.15
    most_context: float = 0.25
    block_tokens: int = 2
    least_momentum: float = 0.998
    most_momentum: float = 0.9995
    temperature: float = 0.1
    agreement: float = 0.1
    label_set: str = ""
    positive: ClassVar[tuple[str, ...]] = (
        *FittingConfig.positive, "crop_seconds", "least_context", "block_tokens", "temperature",
    )  # fmt: skip
    not_negative: ClassVar[tuple[str, ...]] = (*FittingConfig.not_negative, "agreement")
    shares: ClassVar[tuple[str, ...]] = (
        *FittingConfig.shares, "least_context", "most_context", "least_momentum", "most_momentum",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("method", self.method, METHODS)
        if self.backbone not in BACKBONES[self.method]:
            allowed = " or ".join(BACKBONES[self.method])
            raise EcgkitError(f"backbone is {shown(self.backbone)}: {self.method} trains {allowed}")
        for low, high in (("least_context", "most_context"), ("least_momentum", "most_momentum")):
            if getattr(self, low) > getattr(self, high):
                raise EcgkitError(f"{low} is {getattr(self, low):g}: give at most {high}, {getattr(self, high):g}")

    @property
    def skipped_tags(self) -> tuple[str, ...]:
        """Tags of the cells that need labels, for a dataset without."""
        return () if self.label_set else ("classes",)

    @classmethod
    def resolve(cls, root: Path, **settings: Any) -> PretrainingConfig:
        """Complete the settings that are not None: backbone, device, precision, and the label set.

        Raises
        ------
        EcgkitError
            If the dataset is missing, or a value is not allowed.
        """
        values = {**HARDWARE} | {name: value for name, value in settings.items() if value is not None}
        manifest = named_manifest(root, values.get("dataset"))
        if manifest["labels"] and not values.get("label_set"):
            values["label_set"] = default_label_set(manifest)
        if values.get("label_set"):
            check_choice("label set", values["label_set"], manifest["labels"])
        check_choice("method", values.setdefault("method", "jepa"), METHODS)
        values["backbone"] = values.get("backbone") or BACKBONES[values["method"]][0]
        given = values.get("model_options", {}) | {"backbone": values["backbone"]}
        values["model_options"] = model_options(ENCODER, given)
        config = cls(**values | resolve_hardware(values["device"], values["precision"]))
        config.crop_samples(manifest["n_samples"], manifest["sampling_rate"])
        return config

    def crop_samples(self, n_samples: int, sampling_rate: int) -> int:
        """Return the length of a crop in samples.

        Raises
        ------
        EcgkitError
            If records are shorter than a crop, a crop than 6 s (of shorter records, than their length), or for ``cpc``
            half a crop than what is predicted.
        """
        from ecgkit.models.token_encoder import token_samples

        cropped, seconds = round(self.crop_seconds * sampling_rate), n_samples / sampling_rate
        if cropped > n_samples or self.crop_seconds < min(SHORTEST, seconds):
            raise EcgkitError(
                f"crop_seconds is {self.crop_seconds:g}: give {min(SHORTEST, seconds):g} to {seconds:g}, the length "
                "of a record"
            )
        length = token_samples(sampling_rate, self.model_options["token_seconds"])
        least = 2 * (max(STEPS_AHEAD) + 1) * length
        if self.method == "cpc" and cropped < least:
            raise EcgkitError(
                f"crop_seconds is {self.crop_seconds:g}, and cpc predicts {max(STEPS_AHEAD)} tokens of "
                f"{length / sampling_rate:g} s ahead in each half: give {least / sampling_rate:g} or more, or choose "
                "method jepa"
            )
        return cropped
