"""A small world whose embeddings hold age and sex, and know nothing of height and weight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray


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
            "record_id": np.arange(n) + 100,
            "patient_id": patients,
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
