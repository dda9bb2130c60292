from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from ecgkit import EcgkitError
from ecgkit.explain.importance import permutation_importance


@pytest.fixture(scope="module")
def model(demo_model):
    """A network with age and sex whose logit of MI is the age, and of CD the sex; the others read the signal."""
    predictor = demo_model(steps=0, metadata=True)
    branch = torch.nn.Linear(4, 16)
    torch.nn.init.zeros_(branch.weight)
    torch.nn.init.zeros_(branch.bias)
    with torch.no_grad():
        branch.weight[0, 0], branch.weight[1, 3] = 1, 1
        network = predictor.trained.model
        network.metadata_branch = branch
        head = network.head
        features = head.in_features - 16
        head.weight[:, features:] = 0
        head.weight[1:4:2] = 0
        head.weight[1, features], head.weight[3, features + 1] = 1, 1
    return predictor.trained


@pytest.fixture(scope="module")
def records() -> pd.DataFrame:
    random = np.random.default_rng(0)
    n = 600
    return pd.DataFrame(
        {
            "record_id": [str(i) for i in range(n)],
            "patient_id": [str(i // 2) for i in range(n)],
            "fold": np.where(np.arange(n) < 500, 9, 8),
            "age": random.uniform(20, 90, n),
            "sex": random.choice(["male", "female"], n),
        }
    )


@pytest.fixture(scope="module")
def data(model, records: pd.DataFrame):
    random = np.random.default_rng(1)
    embeddings = random.standard_normal((len(records), model.model.n_features)).astype(np.float32)
    labels = pd.DataFrame(random.random((len(records), 5)) < 0.4, columns=list(model.classes))
    labels["MI"] = records["age"] + random.normal(0, 15, len(records)) > 55
    labels["CD"] = (records["sex"] == "female") & (random.random(len(records)) < 0.6)
    return embeddings, records, labels


def test_only_what_the_model_reads_is_important(model, data) -> None:
    embeddings, records, labels = data
    table = permutation_importance(model, embeddings, records, labels, resamples=50).set_index(["permuted", "class"])
    own = table.loc["age", "MI"]
    fold = records["fold"] == 9
    assert own["auc"] == pytest.approx(roc_auc_score(labels["MI"][fold], records["age"][fold]))
    assert own["lost"] == pytest.approx(own["auc"] - 0.5, abs=0.03)  # exchanged, the age says nothing
    assert own["low"] < own["lost"] < own["high"]
    assert own["low"] > 0.2
    assert table.loc[("sex", "MI"), "lost"] == pytest.approx(0, abs=1e-9)
    assert table.loc[("age", "CD"), "lost"] == pytest.approx(0, abs=1e-9)
    assert table.loc[("sex", "CD"), "low"] > 0.1
    assert table.loc[("age and sex", "MI"), "lost"] == pytest.approx(own["lost"], abs=1e-9)
    others = table.loc[["age", "sex"]].drop(index=["MI", "CD"], level="class")
    assert others["lost"].to_numpy() == pytest.approx(np.zeros(len(others)), abs=1e-9)


def test_some_classes_have_the_importance_that_they_have_among_all(model, data) -> None:
    embeddings, records, labels = data
    whole = permutation_importance(model, embeddings, records, labels, n_permutations=2, resamples=20)
    some = permutation_importance(model, embeddings, records, labels[["CD"]], n_permutations=2, resamples=20)
    alone = whole[whole["class"] == "CD"].reset_index(drop=True)
    pd.testing.assert_frame_equal(some, alone)


def test_a_model_of_the_signal_alone_takes_neither(demo_model, data) -> None:
    assert permutation_importance(demo_model(steps=0).trained, *data).empty


def test_without_fold_9_there_is_nothing_to_exchange(model, data) -> None:
    embeddings, records, labels = data
    with pytest.raises(EcgkitError, match="fold 9"):
        permutation_importance(model, embeddings, records.assign(fold=8), labels)
