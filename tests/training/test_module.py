"""The schedules of the learning rate, and the average of the weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ecgkit.models import create_model
from ecgkit.training.base_config import SCHEDULES
from ecgkit.training.config import TrainingConfig
from ecgkit.training.module import Module, make_schedule

STEPS = 200


def learning_rates(schedule: str, steps: int = STEPS) -> np.ndarray:
    config = TrainingConfig(
        dataset="x", model="resnet1d", epochs=1, batch_size=8, learning_rate=0.01, schedule=schedule, warm_up=0.25
    )
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=config.learning_rate)
    made = make_schedule(optimizer, config, steps=steps)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        made.step()
    return np.array(rates)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_rises_to_the_peak_in_the_warm_up(schedule: str) -> None:
    rates = learning_rates(schedule)
    assert rates.max() == pytest.approx(0.01, rel=1e-3)
    assert (np.diff(rates[:49]) > 0).all()
    assert abs(int(rates.argmax()) - 50) <= 1


def test_cosine_and_one_cycle_fall_to_nothing_and_constant_stays() -> None:
    for schedule in ("cosine", "one_cycle"):
        rates = learning_rates(schedule)
        assert (np.diff(rates[52:]) < 0).all()
        assert rates[-1] < 1e-5
        assert rates[125] == pytest.approx(0.005, rel=0.05)  # halfway down, a cosine is at half of its height
    assert (learning_rates("constant")[50:] == 0.01).all()


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 8])
def test_every_schedule_has_room_in_a_handful_of_steps(schedule: str, steps: int) -> None:
    rates = learning_rates(schedule, steps)
    assert np.isfinite(rates).all()
    assert (rates >= 0).all()
    assert rates.max() <= 0.01 * (1 + 1e-9)


def test_the_average_of_the_weights_is_exponential_and_what_is_kept() -> None:
    model = create_model("resnet1d", n_leads=12, n_classes=2, n_samples=100, sampling_rate=100, widths=[8, 8])
    config = TrainingConfig(dataset="x", model="resnet1d", weight_average=0.75)
    module = Module(model, config, torch.nn.BCEWithLogitsLoss())
    for value in (1.0, 2.0, 5.0):
        with torch.no_grad():
            model.head.bias.fill_(value)
        module.on_train_batch_end(None, (torch.empty(0), torch.empty(0), None), 0)
    assert module.kept is not model
    expected = 0.75 * (0.75 * 1.0 + 0.25 * 2.0) + 0.25 * 5.0
    assert module.kept.head.bias.tolist() == pytest.approx([expected, expected])
    assert not any(parameter.requires_grad for parameter in module.kept.parameters())
    plain = Module(model, TrainingConfig(dataset="x", model="resnet1d"), torch.nn.BCEWithLogitsLoss())
    assert plain.kept is model
