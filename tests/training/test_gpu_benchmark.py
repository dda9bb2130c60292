"""The benchmark for a GPU, at a small size on the CPU."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from ecgkit import paths, sessions
from ecgkit.errors import EcgkitError
from ecgkit.training.config import TrainingConfig

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    monkeypatch.setattr(gpu, "RUNS", 1)
    monkeypatch.setattr(gpu, "MODELS", ("resnet1d",))
    return gpu


@pytest.fixture
def small_root(demo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a root with the demo, where resnet1d is tiny."""
    (tmp_path / paths.PROCESSED).symlink_to(demo_root / paths.PROCESSED)
    resolve, small = TrainingConfig.resolve, {"model_options": {"widths": [8, 8]}, "epochs": 3}
    monkeypatch.setattr(TrainingConfig, "resolve", lambda *where, **settings: resolve(*where, **settings, **small))
    return tmp_path


def test_the_kernels_agree_with_the_reference_and_a_wrong_one_is_noticed(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = gpu.kernel_errors("cpu", records=2, steps=12)
    assert errors.keys() == {"sLSTM", "mLSTM"}
    assert max(errors.values()) < 1e-4

    def wrong(layer: torch.nn.Module) -> torch.nn.Module:
        for parameter in layer.parameters():
            parameter.data *= 1.02
        return layer

    monkeypatch.setattr(gpu, "accelerate", wrong)
    assert min(gpu.kernel_errors("cpu", records=2, steps=12).values()) > gpu.TOLERANCE


def test_every_part_leaves_its_numbers_in_the_file(
    gpu: ModuleType, small_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(gpu, "pretrain", lambda *what, until: asked.append((*what, until)) or {"code": 0})
    file = small_root / "found.json"
    sizes = ["--records", "2", "--steps", "8", "--target", "0.3", "--minutes", "5"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", str(small_root), "--dataset", "demo", *sizes, "--to", str(file)])
    gpu.main()
    found = json.loads(file.read_text())
    assert found["kernel errors"]["passed"]
    assert found["ms on cpu, 2 x 8"].keys() == {"torch.nn.LSTM", "sLSTM", "sLSTM of xlstm", "mLSTM", "mLSTM of xlstm"}
    assert found["records/s of resnet1d on cpu"]["training"] > 0
    assert len(found["resnet1d"]["macro_auc_fold_9"]) == 3
    assert found["resnet1d"]["seconds_to_target"] is not None
    assert found["pretrain"] == {"code": 0}
    assert asked[0][:2] == (small_root, "demo")

    monkeypatch.setattr(gpu, "TOLERANCE", 0.0)
    monkeypatch.setattr(gpu, "train_resnet1d", lambda *_, **__: {})
    with pytest.raises(EcgkitError, match="differ"):
        gpu.main()


def test_a_training_ends_when_the_time_is_over(gpu: ModuleType, small_root: Path) -> None:
    found = gpu.train_resnet1d(small_root, "demo", target=1.1, until=time.monotonic())
    assert len(found["macro_auc_fold_9"]) == 1
    assert found["seconds_to_target"] is None


def test_the_pretraining_has_as_many_epochs_as_the_time_allows(
    gpu: ModuleType, demo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / paths.PROCESSED).symlink_to(demo_root / paths.PROCESSED)
    options = {"batch_size": 128, "model_options": {"width": 16, "depth": 1, "n_heads": 2}}
    real = gpu.fitting.read_history
    monkeypatch.setattr(gpu.fitting, "read_history", lambda session: real(session).assign(seconds=10.0))
    found = gpu.pretrain(tmp_path, "demo", until=time.monotonic() + 60, **options)
    assert found["epochs"] in {4, 5}  # of 85 % of what is left of a minute, at 10 s an epoch
    assert len(real(sessions.find(found["session"], tmp_path))) == found["epochs"]
    assert 0.3 < found["macro_auc_fold_9"]["random"] < 1
    config = TrainingConfig.resolve(tmp_path, dataset="demo", init=found["session"])
    assert config.model == "token_encoder"
    assert gpu.pretrain(tmp_path, "demo", until=time.monotonic(), **options)["epochs"] == 0
