from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from ecgkit.datasets import Dataset
from ecgkit.explain.examples import record
from ecgkit.inference.metadata import MetadataScaler
from ecgkit.inference.model_folder import ModelFolder
from ecgkit.inference.predictor import NetworkPredictor
from ecgkit.inference.weights import TrainedModel
from ecgkit.models import create_model

STEPS, BATCH, N_SAMPLES = 120, 48, 250


@pytest.fixture(scope="session")
def demo_model(demo_dataset: Dataset) -> Callable[..., NetworkPredictor]:
    """Return a function that trains a small network on crops of the demo; without steps it has random weights."""

    @cache
    def train(*, steps: int = STEPS, metadata: bool = False) -> NetworkPredictor:
        torch.manual_seed(0)
        scaler = MetadataScaler(60.0, 17.0) if metadata else None
        keywords = dict(n_leads=12, n_classes=len(demo_dataset.classes), n_samples=N_SAMPLES, sampling_rate=100)
        keywords |= dict(widths=(16, 32, 32), dropout=0.1, n_metadata=scaler.n_columns if scaler else 0)
        model = create_model("resnet1d", **keywords)
        preparation = demo_dataset.preparation(N_SAMPLES)
        records = demo_dataset.records
        columns = torch.from_numpy(scaler(records["age"], records["sex"])) if scaler else None
        signals = torch.from_numpy(np.stack([preparation(record(demo_dataset, i)) for i in range(len(demo_dataset))]))
        labels = torch.from_numpy(demo_dataset.labels.to_numpy(np.float32))
        fit(model, signals, columns, labels, rows=demo_dataset.folds(*range(1, 9)), steps=steps)
        trained = TrainedModel(
            model.eval(), "resnet1d", keywords, demo_dataset.classes, "superclass", preparation, scaler
        )
        calibration = {"classes": {name: {"method": "identity"} for name in demo_dataset.classes}}
        thresholds = {"thresholds": dict.fromkeys(demo_dataset.classes, 0.4)}
        return NetworkPredictor(ModelFolder(Path("demo model"), trained, thresholds, calibration, ""))

    return train


def fit(model, signals, columns, labels, *, rows, steps: int) -> None:
    random = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=max(steps, 1))
    for _ in range(steps):
        chosen, start = random.choice(rows, BATCH), int(random.integers(0, signals.shape[2] - N_SAMPLES))
        logits = model(signals[chosen, :, start : start + N_SAMPLES], None if columns is None else columns[chosen])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
