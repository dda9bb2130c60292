"""Every recipe that ships trains: two steps of the model at its full size."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from ecgkit.datasets import Dataset
from ecgkit.models import MODELS
from ecgkit.training.config import configure
from ecgkit.training.data import Batches, ShuffledBatches, loader
from ecgkit.training.losses import make_loss
from ecgkit.training.model import new_model
from ecgkit.training.module import Module


@pytest.mark.parametrize("model", MODELS)
def test_two_steps(model: str, demo_dataset: Dataset) -> None:
    config = configure(dataset="demo", model=model)
    # A few records show as much as a full batch does.
    config = dataclasses.replace(config, batch_size=8)
    trained = new_model(config, demo_dataset)
    before = {name: tensor.clone() for name, tensor in trained.model.named_parameters()}
    loss = make_loss(config.loss, config.loss_options, positive_share=torch.full((5,), 0.3))
    training = Module(trained.model.train(), config, loss)
    optimizer = torch.optim.AdamW(trained.model.parameters(), lr=config.learning_rate)
    batches = ShuffledBatches(demo_dataset.folds(1), batch_size=8, seed=0, repeats=config.crops_per_record)
    for step, batch in zip(range(2), loader(Batches(demo_dataset), batches), strict=False):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bfloat16"):
            loss = training.training_step(batch, step)
        assert torch.isfinite(loss)
        loss.backward()
        optimizer.step()
    assert len(training.train_losses) == 2
    unmoved = [name for name, tensor in trained.model.named_parameters() if torch.equal(tensor, before[name])]
    assert unmoved == []
