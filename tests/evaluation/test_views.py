"""Views of a record: windows and shifts are cut as they should be, and means are means of logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit, logit

from ecgkit import stats
from ecgkit.datasets import Dataset, open_dataset
from ecgkit.evaluation.views import VIEWS, View, _window, compare_views, predict_views
from ecgkit.training import predict
from ecgkit.training.config import configure
from ecgkit.training.weights import TrainedModel, new_model


@pytest.fixture(scope="module")
def dataset(demo_dataset: Dataset) -> Dataset:
    return open_dataset(demo_dataset.path, label_set="superclass")


WHOLE = {"crop_seconds": 0.0, "crops_per_record": 1}


@pytest.fixture(scope="module", params=["resnet1d", "xlstm", "hybrid"])
def untrained(request: pytest.FixtureRequest, dataset: Dataset) -> TrainedModel:
    torch.manual_seed(0)
    return new_model(configure(dataset="demo", model=request.param, source="demo", **WHOLE), dataset)


def test_a_window_repeats_the_edge() -> None:
    signal = torch.arange(6.0).reshape(1, 1, 6)
    assert _window(signal, -2, 4).flatten().tolist() == [0, 0, 0, 1]
    assert _window(signal, 4, 4).flatten().tolist() == [4, 5, 5, 5]
    assert _window(signal, 0, 6).equal(signal)


def test_the_views_cover_the_record() -> None:
    for view in VIEWS:
        ends = [start + (view.seconds or 10) for start in view.starts]
        assert min(view.starts) <= 0
        assert max(ends) >= 10
        assert len({view.name for view in VIEWS}) == len(VIEWS)


def test_the_whole_record_is_what_the_model_says(untrained: TrainedModel, dataset: Dataset) -> None:
    positions = dataset.folds(9)
    (whole,) = predict_views(untrained, dataset, positions, [View("whole")])
    np.testing.assert_allclose(whole, predict(untrained, dataset, positions), rtol=0, atol=1e-6)


def test_a_mean_is_one_of_logits(untrained: TrainedModel, dataset: Dataset) -> None:
    positions = dataset.folds(9)[:5]
    one, other = View("a", starts=(0.2,)), View("b", starts=(-0.3,))
    first, second, both = predict_views(untrained, dataset, positions, [one, other, View("c", starts=(0.2, -0.3))])
    np.testing.assert_allclose(both, expit((logit(first) + logit(second)) / 2), rtol=0, atol=1e-5)


def test_the_table_compares_with_the_first_view(untrained: TrainedModel, dataset: Dataset) -> None:
    table = compare_views(untrained, dataset, views=VIEWS[:3], resamples=50)
    assert table.index.tolist() == [view.name for view in VIEWS[:3]]
    assert table["forward_passes"].tolist() == [1, 3, 7]
    first = table.iloc[0]
    assert (first["difference"], first["difference_low"], first["difference_high"]) == (0, 0, 0)
    positions = dataset.folds(10)
    expected = stats.macro_auc(dataset.labels.to_numpy()[positions], predict(untrained, dataset, positions))
    assert first["fold_10"] == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(table["difference"], table["fold_10"] - first["fold_10"])
    assert (table["difference_low"] <= table["difference"]).all()


def test_a_model_of_crops_reads_a_whole_record_in_windows(dataset: Dataset) -> None:
    model = new_model(configure(dataset="demo", model="cnn", crop_seconds=2.5), dataset)
    assert compare_views(model, dataset, views=VIEWS[:3], resamples=2)["forward_passes"].tolist() == [7, 9, 7]
