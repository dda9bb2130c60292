"""Training: configuration and recipes, augmentation, the Lightning module, fitting, predictions of a session."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ecgkit.inference.weights import TrainedModel, load_weights
    from ecgkit.training.base_config import FittingConfig
    from ecgkit.training.config import TrainingConfig, configure
    from ecgkit.training.data import Batches, training_data
    from ecgkit.training.fitting import fit, read_history
    from ecgkit.training.inference import (
        TrainedSession,
        embed,
        open_model_on,
        open_trained,
        predict,
        predict_folds,
        predict_unlabelled,
    )
    from ecgkit.training.model import new_model

__all__ = [
    "Batches", "FittingConfig", "TrainedModel", "TrainedSession", "TrainingConfig", "configure", "embed", "fit",
    "load_weights", "new_model", "open_model_on", "open_trained", "predict", "predict_folds", "predict_unlabelled",
    "read_history", "training_data",
]  # fmt: skip


def __getattr__(name: str) -> object:
    """Import a public name on first use, since most of them need torch, and some Lightning."""
    if name in __all__:
        for module in ("base_config", "config", "data", "model", "inference", "fitting"):
            if (found := getattr(importlib.import_module(f"{__name__}.{module}"), name, None)) is not None:
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
