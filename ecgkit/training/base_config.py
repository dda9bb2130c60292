"""The parameters that a training and a pretraining have in common, and their checks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from ecgkit import paths
from ecgkit.datasets import check_contents, read_manifest
from ecgkit.errors import EcgkitError, check_choice, check_seed, check_types, shown

# torch and the models are imported where they are needed: the command line only lists the fields.

AUTO = "auto"
PRECISIONS = ("float32", "bfloat16")
SCHEDULES = ("one_cycle", "cosine", "constant")
DEVICES = ("cpu", "cuda")
HARDWARE = MappingProxyType({"precision": AUTO, "device": AUTO})
"""What is taken for the fields about the machine where neither the user nor a recipe sets them."""
RANDOM = "random"
"""The ``init`` of the control of a frozen network: random weights, of which the same layers are trained."""
LONGEST_NAME = 255
"""Bytes of the name of a folder."""


@dataclass(frozen=True, kw_only=True)
class FittingConfig:
    """The parameters that a training and a pretraining have in common.

    Attributes
    ----------
    dataset : str
        Name of a processed dataset, a folder of ``processed_datasets``.
    epochs : int
        Largest number of passes over folds 1-8.
    batch_size : int
        Records per step, of all processes together.
    learning_rate : float
        Peak of the learning rate.
    weight_decay : float
        Weight decay of AdamW, applied to weights and not to biases and normalisation.
    schedule : str
        Course of the learning rate after the warm-up: one_cycle, cosine or constant.
    warm_up : float
        Share of all steps during which the learning rate rises, from 0 to below 1.
    gradient_clip : float
        Largest norm of the gradient.
    seed : int
        Seed of all that is random: weights, order of records, augmentation, dropout, crops and masks.
    precision : str
        Precision of the training steps: float32, bfloat16 (mixed precision), or auto for what the device supports.
    device : str
        Device to train on: cpu, cuda, or auto for a GPU if there is one.
    model_options : dict
        Options of the architecture, such as ``{"dropout": 0.5}``.

    Raises
    ------
    EcgkitError
        If a value has the wrong type or is not allowed.
    """

    dataset: str
    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    schedule: str = "one_cycle"
    warm_up: float = 0.25
    gradient_clip: float = 1.0
    seed: int = 0
    precision: str = "float32"
    device: str = "cpu"
    model_options: dict[str, Any] = field(default_factory=dict)
    unset: ClassVar[Mapping[str, Any]] = HARDWARE
    positive: ClassVar[tuple[str, ...]] = ("epochs", "batch_size", "learning_rate", "gradient_clip")
    not_negative: ClassVar[tuple[str, ...]] = ("weight_decay",)
    shares: ClassVar[tuple[str, ...]] = ("warm_up",)

    def __post_init__(self) -> None:
        check_types(self)
        self._check_numbers()
        check_seed(self.seed)
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("device", self.device, DEVICES)
        check_choice("schedule", self.schedule, SCHEDULES)

    def inputs(self, root: Path) -> dict[str, str]:
        """Return the fingerprint of the dataset."""
        return {"dataset_fingerprint": check_contents(root / paths.PROCESSED / self.dataset)["fingerprint"]}

    def _check_numbers(self) -> None:
        """Refuse a number that is not finite or outside the range of its name."""
        for item in dataclasses.fields(self):
            if isinstance(value := getattr(self, item.name), float) and not math.isfinite(value):
                raise EcgkitError(f"{item.name} is {value}: give a finite number")
        for names, is_allowed, needed in (
            (self.positive, lambda value: value > 0, "a positive number"),
            (self.not_negative, lambda value: value >= 0, "zero or a positive number"),
            (self.shares, lambda value: 0 <= value < 1, "a number from 0 to below 1"),
        ):
            for name in names:
                if not is_allowed(value := getattr(self, name)):
                    raise EcgkitError(f"{name} is {value}: give {needed}")


def starts_from_weights(init: str | None) -> bool:
    """Return True if ``init`` names weights, not none or random ones."""
    return init not in (None, "", RANDOM)


def named_manifest(root: Path, name: str | None) -> dict[str, Any]:
    """Read the manifest of the dataset of a configuration; its name must be that of a folder, not a path."""
    if not name:
        raise EcgkitError("no dataset is set: name one")
    if name != Path(name).name or len(name.encode()) > LONGEST_NAME or not name.isprintable():
        raise EcgkitError(f"dataset is {shown(name)}: give the name of a folder of {paths.PROCESSED}")
    return read_manifest(root / paths.PROCESSED / name)


def model_options(model: str, given: dict[str, Any]) -> dict[str, Any]:
    """Resolve an architecture's options, defaults included, with lists for tuples, as in JSON."""
    from ecgkit.models import resolve_options

    options = resolve_options(model, given)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}


def resolve_hardware(device: str, precision: str) -> dict[str, str]:
    """Return ``device`` and ``precision`` without ``"auto"``."""
    device = resolve_device(device)
    if precision == AUTO:
        from ecgkit.inference.batches import has_bfloat16

        precision = "bfloat16" if has_bfloat16(device) else "float32"
    return {"device": device, "precision": precision}


def resolve_device(device: str) -> str:
    """Return ``"cpu"`` or ``"cuda"`` for these and ``"auto"``.

    Raises
    ------
    EcgkitError
        If the device is unknown, or is ``"cuda"`` where there is no GPU.
    """
    import torch

    check_choice("device", device, (AUTO, *DEVICES))
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise EcgkitError("device is 'cuda', but torch finds no CUDA GPU here: choose cpu or auto")
    return device if device != AUTO else "cuda" if available else "cpu"
