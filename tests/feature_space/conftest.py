"""A small world whose embeddings hold age and sex, and know nothing of height and weight."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from ecgkit import evaluation, paths, sessions, training, workflow
from ecgkit.datasets import build_dataset
from ecgkit.sources.demo import Demo
from ecgkit.training import TrainedSession


@dataclass(frozen=True)
class World:
    """Records and their embeddings."""

    records: pd.DataFrame
    embeddings: NDArray[np.float32]
    noise: NDArray[np.float32]


def make_world(n_patients: int = 1000, n_features: int = 12, seed: int = 0) -> World:
    random = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n_patients), random.integers(1, 3, n_patients))
    n = len(patients)
    age = random.uniform(20, 88, n_patients)[patients].round()
    female = random.random(n_patients)[patients] < 0.5
    records = pd.DataFrame(
        {
            "record_id": (np.arange(n) + 100).astype(str),
            "patient_id": patients.astype(str),
            "fold": patients % 10 + 1,
            "age": age,
            "age_over_89": False,
            "sex": pd.array(np.where(female, "female", "male"), dtype="string"),
            "height": np.where(random.random(n) < 0.5, random.normal(170, 9, n).round(), np.nan),
            "weight": random.normal(75, 14, n).round(),
        }
    )
    noise = random.standard_normal((n, n_features)).astype(np.float32)
    embeddings = 3 * noise + 5
    embeddings[:, 0] += 3 * (age - age.mean()) / age.std()
    embeddings[:, 1] += 6 * female
    return World(records, embeddings.astype(np.float32), noise)


@pytest.fixture(scope="session")
def world() -> World:
    return make_world()


RECIPE = """
epochs = 2
batch_size = 64
learning_rate = 1e-3
crop_seconds = 2.5
save_every_epoch = true
precision = "float32"
model_options = {widths = [8, 8], blocks = 1}
"""


@pytest.fixture(scope="session")
def trained_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project's folder with a dataset and a finished training of a model that also sees age and sex."""
    root = tmp_path_factory.mktemp("project")
    build_dataset(Demo(n_records=200, seed=1), root / paths.PROCESSED / "small", progress=False, jobs=1)
    recipe = root / "tiny.toml"
    recipe.write_text(RECIPE)
    run = workflow.start("train", root=root, dataset="small", model="resnet1d", recipe=str(recipe), metadata=True)
    data = training.training_data(run.config, root)
    trained = training.fit(run.session, run.config, data)
    evaluation.evaluate_session(run.session, training.predict_folds(trained, data), data.classes)
    run.session.close()
    return root


@pytest.fixture(scope="session")
def trained_session(trained_root: Path) -> TrainedSession:
    """Return the finished training, opened."""
    return training.open_trained(sessions.open_finished("session_1", paths.TRAINING, trained_root), trained_root)
