"""The schedules of the learning rate."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ecgkit.training.config import SCHEDULES, TrainingConfig
from ecgkit.training.module import make_schedule

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
