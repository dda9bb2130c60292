"""Further label sets: heads that learn from the same features, and are not kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from ecgkit import paths, sessions, training
from ecgkit.datasets import Dataset
from ecgkit.errors import EcgkitError
from ecgkit.models import create_model
from ecgkit.training.auxiliary import AuxiliaryHeads, auxiliary_labels
from ecgkit.training.config import TrainingConfig

SMALL = {"widths": [8, 8], "kernel_sizes": [5, 3], "pool": 4, "n_dense": 8}


def configure(root: Path, **settings: Any) -> TrainingConfig:
    return TrainingConfig.resolve(root, dataset="demo", model="cnn", epochs=1, model_options=SMALL, **settings)


def test_labels_of_another_set_belong_to_the_same_records(demo_dataset: Dataset) -> None:
    stored = pd.read_parquet(demo_dataset.path / "labels" / "diagnostic.parquet").to_numpy(np.float32)[
        demo_dataset.rows
    ]
    found = auxiliary_labels(demo_dataset, "diagnostic")
    training_rows = demo_dataset.folds(*range(1, 9))
    known = training_rows[stored[training_rows].any(axis=1)]
    assert len(known) > 100
    np.testing.assert_array_equal(found[known], stored[known])
    assert np.isnan(found[demo_dataset.folds(9, 10)]).all()


def test_the_loss_of_the_heads_is_the_weighted_sum_over_known_labels() -> None:
    model = create_model("cnn", n_leads=12, n_classes=2, n_samples=100, sampling_rate=100, **SMALL)
    heads = AuxiliaryHeads(model, [3, 2], [0.5, 2.0])
    features, labels = torch.randn(6, model.n_features), torch.randint(0, 2, (6, 5)).float()
    labels[0, :3] = np.nan
    first = binary_cross_entropy_with_logits(heads.heads[0](features[1:]), labels[1:, :3])
    second = binary_cross_entropy_with_logits(heads.heads[1](features), labels[:, 3:])
    torch.testing.assert_close(heads(features, labels), 0.5 * first + 2 * second)


def test_the_finished_model_has_its_own_label_set_and_another_trunk(demo_root: Path, tmp_path: Path) -> None:
    (tmp_path / paths.PROCESSED).symlink_to(demo_root / paths.PROCESSED)
    results = []
    for auxiliary in ({}, {"diagnostic": 1.0, "rhythm": 0.5}):
        config = configure(tmp_path, auxiliary=auxiliary)
        data = training.training_data(config, tmp_path)
        results.append(training.fit(sessions.create(paths.TRAINING, tmp_path), config, data))
    plain, both = results
    assert both.classes == plain.classes
    assert both.model.state_dict().keys() == plain.model.state_dict().keys()
    changed = [not torch.equal(a, both.model.state_dict()[name]) for name, a in plain.model.state_dict().items()]
    assert any(changed)


@pytest.mark.parametrize("wrong", [{"superclass": 1.0}, {"nonsense": 1.0}, {"rhythm": 0.0}, {"rhythm": True}])
def test_a_label_set_that_cannot_be_auxiliary_is_refused(wrong: dict[str, Any], demo_root: Path) -> None:
    with pytest.raises(EcgkitError, match=next(iter(wrong))):
        configure(demo_root, auxiliary=wrong)
