"""Training under torchrun: two processes, one session, the steps of one process; a killed process costs an epoch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from ecgkit.cli import main

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "ecgkit"]
PLAIN = """
from torch import nn
from ecgkit.models.base import ECGModel


class Plain(ECGModel):
    gradcam_layer = "trunk"

    def __init__(self, **shared):
        super().__init__(**shared)
        layers = nn.Conv1d(self.n_leads, 16, 15, stride=4), nn.ReLU(), nn.Conv1d(16, 16, 15, stride=4)
        self.trunk = nn.Sequential(*layers)
        self.build_head(16, dropout=0.0)

    def encode(self, signal):
        return self.trunk(signal).abs().mean(dim=-1)
"""
SETTINGS = ["--time-shift", "0", "--amplitude", "0", "--precision", "float32", "--no-test", "--patience", "10"]


def start(root: Path, demo_root: Path, launcher: list[str], epochs: int) -> subprocess.Popen[str]:
    """Start a training of a network without random numbers and batch statistics, whose steps depend on data alone."""
    if not root.is_dir():
        shutil.copytree(demo_root / "processed_datasets", root / "processed_datasets")
        (root / "plain.py").write_text(PLAIN)
    command = [*launcher, "train", "demo", "--model", f"{root}/plain.py:Plain", "--epochs", str(epochs)]
    settings = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *SETTINGS, "--root", str(root)],
        env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def kill_second(process: subprocess.Popen[str], checkpoint: Path) -> None:
    """Kill the second of the processes of torchrun after the first epoch."""
    while not checkpoint.is_file():
        assert process.poll() is None
        time.sleep(0.02)
    for child in psutil.Process(process.pid).children():
        if child.environ().get("RANK") == "1":
            child.kill()


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one_and_resume_after_a_kill(tmp_path: Path, demo_root: Path) -> None:
    for name, launcher in {"one": TORCHRUN[-2:], "two": TORCHRUN}.items():
        command = [sys.executable, *launcher] if name == "one" else launcher
        with start(tmp_path / name, demo_root, command, 12) as process:
            if name == "two":
                kill_second(process, tmp_path / "two/training_sessions/session_1/weights/last.ckpt")
            process.communicate()
        assert (process.returncode == 0) == (name == "one")
    with start(tmp_path / "two", demo_root, TORCHRUN, 12) as process:  # the same command again
        output, _ = process.communicate()
    assert process.returncode == 0, output
    one, two = (tmp_path / name / "training_sessions" for name in ("one", "two"))
    assert [path.name for path in two.iterdir() if path.is_dir()] == ["session_1"]
    log = (two / "session_1" / "training_log.txt").read_text()
    assert log.count("resuming") == 1
    assert "2 cpu processes" in log
    expected, found = (pd.read_csv(folder / "session_1" / "history.csv") for folder in (one, two))
    assert found["epoch"].tolist() == expected["epoch"].tolist()
    for column in ("validation_loss", "validation_macro_auc"):
        np.testing.assert_allclose(found[column], expected[column], rtol=2e-3)
    assert output.count(f"{two / 'session_1'}\n") == 2  # of the first process alone: in the notebook and at the end


def test_commands_that_need_one_process_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["sessions"]) == 2
    assert "sessions" in capsys.readouterr().err
