"""Training: configuration and recipes, augmentation, the Lightning module, fitting, and what a trained model says."""

from __future__ import annotations

from ecgkit.inference.weights import TrainedModel, load_weights
from ecgkit.training.config import TrainingConfig, configure
from ecgkit.training.fit import fit, read_history
from ecgkit.training.inference import TrainedSession, embed, open_trained, predict, predict_folds
from ecgkit.training.run import NOTEBOOK, TrainingPlan, TrainingRun, begin, plan

__all__ = [
    "NOTEBOOK",
    "TrainedModel",
    "TrainedSession",
    "TrainingConfig",
    "TrainingPlan",
    "TrainingRun",
    "begin",
    "configure",
    "embed",
    "fit",
    "load_weights",
    "open_trained",
    "plan",
    "predict",
    "predict_folds",
    "read_history",
]
