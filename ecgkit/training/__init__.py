"""Training: configuration and recipes, augmentation, the Lightning module, fitting, and what a trained model says."""

from __future__ import annotations

from ecgkit.inference.weights import TrainedModel, load_weights
from ecgkit.training.config import TrainingConfig, configure
from ecgkit.training.fit import fit, read_history
from ecgkit.training.inference import TrainedSession, embed, open_trained, predict, predict_folds
from ecgkit.training.run import training_data

__all__ = [
    "TrainedModel",
    "TrainedSession",
    "TrainingConfig",
    "configure",
    "embed",
    "fit",
    "load_weights",
    "open_trained",
    "predict",
    "predict_folds",
    "read_history",
    "training_data",
]
