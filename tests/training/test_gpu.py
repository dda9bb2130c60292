"""Trainings on a GPU; skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ecgkit import paths, sessions
from ecgkit.datasets import Dataset
from ecgkit.errors import EcgkitError
from ecgkit.training.config import TrainingConfig, configure
from ecgkit.training.fitting import fit, read_history
from ecgkit.training.inference import predict

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def make_config(device: str, **settings: object) -> TrainingConfig:
    return configure(dataset="demo", model="resnet1d", source="demo", epochs=1, device=device, **settings)


def test_a_gpu_learns_what_a_cpu_learns(demo_dataset: Dataset, tmp_path: Path) -> None:
    results = {}
    for device in ("cpu", "cuda"):
        session = sessions.create(paths.TRAINING, tmp_path)
        # Without dropout, whose random numbers differ between devices.
        config = make_config(device, precision="float32", model_options={"dropout": 0.0})
        trained = fit(session, config, demo_dataset)
        results[device] = predict(trained, demo_dataset, demo_dataset.folds(9))
        assert f"1 {device} process" in (session.path / "training_log.txt").read_text()
    # Convolutions in TF32 and another order of sums: at most 0.06 on an H200.
    assert np.abs(results["cpu"] - results["cuda"]).mean() < 0.02


def test_auto_takes_the_gpu_and_its_bfloat16(demo_dataset: Dataset, tmp_path: Path) -> None:
    config = make_config("auto")
    assert (config.device, config.precision) == ("cuda", "bfloat16")
    session = sessions.create(paths.TRAINING, tmp_path)
    fit(session, config, demo_dataset)
    assert np.isfinite(read_history(session)["train_loss"]).all()


def test_out_of_gpu_memory_names_the_batch_size(demo_dataset: Dataset, tmp_path: Path) -> None:
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.0005)
    try:
        with pytest.raises(EcgkitError, match="out of memory on cuda with batch_size 512"):
            fit(sessions.create(paths.TRAINING, tmp_path), make_config("cuda", batch_size=512), demo_dataset)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
