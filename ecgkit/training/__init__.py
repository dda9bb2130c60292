"""Training: configuration and recipes, augmentation, the Lightning module, fitting, predictions of a session."""

from __future__ import annotations

# ruff: noqa: F401 # a name is public by its import here
from typing import TYPE_CHECKING

from ecgkit.lazy import lazy_names

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

__getattr__, __dir__ = lazy_names(__name__)  # most need torch, and some Lightning
