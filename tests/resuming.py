"""A training or pretraining that is killed and resumed, compared with one in a single piece."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from ecgkit import paths, sessions, training
from ecgkit.datasets import Dataset
from ecgkit.inference.weights import TrainedModel
from ecgkit.training import TrainingConfig
from ecgkit.training.fitting import SessionWriter, read_history
from ecgkit.training.pretraining.config import PretrainingConfig
from ecgkit.training.pretraining.fitting import PretrainingWriter, pretrain


class Killed(BaseException):
    """Raised in the middle of an epoch."""


def check_resuming(config: TrainingConfig | PretrainingConfig, data: Dataset, root: Path) -> TrainedModel:
    """Kill a training in its last epoch and resume it: weights and history are those of one that was not killed."""
    is_training = isinstance(config, TrainingConfig)
    fit: Callable[..., TrainedModel] = training.fit if is_training else pretrain
    whole, cut = (sessions.create(paths.TRAINING if is_training else paths.PRETRAINING, root) for _ in range(2))
    expected = fit(whole, config, data)

    def die_in_the_last_epoch(self: Callback, trainer: Any, *_: object) -> None:
        if trainer.current_epoch == config.epochs - 1:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SessionWriter if is_training else PretrainingWriter, "on_train_batch_end", die_in_the_last_epoch)
        with pytest.raises(Killed):
            fit(cut, config, data)
    assert len(read_history(cut)) == config.epochs - 1
    resumed = fit(cut, config, data)
    for name, tensor in expected.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    pd.testing.assert_frame_equal(
        read_history(cut).drop(columns="seconds"), read_history(whole).drop(columns="seconds"), check_exact=True
    )
    return resumed
