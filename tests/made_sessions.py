"""Invented training sessions: the files that a training writes, with predictions of a chosen quality."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

from ecgkit import evaluation, paths, sessions
from ecgkit.sessions import Session
from ecgkit.training.config import TrainingConfig

CLASSES = ("NORM", "MI", "STTC", "CD", "HYP")
CONFIG = TrainingConfig(dataset="ptbxl", model="resnet1d", epochs=3, batch_size=64, learning_rate=1e-3)


def make_predictions(noise: float, *, seed: int, n_records: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    true_logit = rng.normal(-1, 1.5, (n_records, len(CLASSES)))
    truth = rng.random(true_logit.shape) < expit(true_logit)
    prob = expit(true_logit + np.random.default_rng(seed + 1).normal(0, noise, true_logit.shape))
    ids = np.arange(n_records)
    table = pd.DataFrame({"record_id": ids, "patient_id": ids // 2, "fold": np.where(ids % 4 < 2, 9, 10)})
    for i, name in enumerate(CLASSES):
        table[f"true_{name}"], table[f"prob_{name}"] = truth[:, i], prob[:, i].astype(np.float32)
    return table


@functools.cache
def evaluated(noise: float, seed: int) -> dict[str, bytes]:
    """Return the files that an evaluation writes, by their names; made once, because of a thousand resamples."""
    with tempfile.TemporaryDirectory() as folder:
        evaluation.evaluate_session(Session(Path(folder)), make_predictions(noise, seed=seed), CLASSES)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}


def make_session(
    root: Path, config: TrainingConfig = CONFIG, *, noise: float = 1.0, fingerprint: str = "abc", done: bool = True
) -> Session:
    """Write the files of a training session that a leaderboard reads, as the training writes them."""
    session = sessions.create(paths.TRAINING, root)
    session.write_json("config.json", asdict(config) | {"dataset_fingerprint": fingerprint})
    session.write_text("training_log.txt", f"training {config.model}, 1,234,567 parameters, on 17,418 records of ptbxl")
    (session.path / "history.csv").write_text("epoch,train_loss,seconds\n1,0.5,10.5\n2,0.4,9.5\n")
    for name, content in evaluated(noise, config.seed).items():
        (session.path / name).write_bytes(content)
    if done:
        session.mark_done()
    return session
