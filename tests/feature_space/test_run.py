"""A look into a training session: opened with its dataset, embeddings made once, controls of the same architecture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ecgkit import feature_space, paths, training
from ecgkit.errors import EcgkitError
from ecgkit.sessions import Session
from ecgkit.sources import Demo
from ecgkit.store import build


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a project's folder with a dataset and one finished training of a model that also sees age and sex."""
    root = tmp_path_factory.mktemp("project")
    build(Demo(n_records=200, seed=1), root / paths.PROCESSED / "small", progress=False, jobs=1)
    recipe = root / "tiny.toml"
    recipe.write_text(
        "epochs = 1\nbatch_size = 64\nlearning_rate = 1e-3\nmodel_options = {widths = [8, 8], blocks = 1}\n"
    )
    run = training.begin(root=root, dataset="small", model="resnet1d", recipe=str(recipe), metadata=True)
    run.train()
    run.session.close()
    return root


def test_embeddings_are_made_once_in_the_order_of_the_records(root: Path) -> None:
    run = feature_space.begin(root=root, training_session="latest")
    first = run.embeddings()
    assert first.shape == (len(run.dataset), 16)
    trained = run.plan.source.trained
    np.testing.assert_array_equal(first[:7], training.embed(trained, run.dataset, np.arange(7)))
    stored = run.session.path / "embeddings" / "trained.npy"
    stamp = stored.stat().st_mtime_ns
    np.testing.assert_array_equal(run.embeddings(), first)
    assert stored.stat().st_mtime_ns == stamp
    control = run.embeddings(trained=False)
    assert control.shape == first.shape
    assert not np.allclose(control, first)


def test_the_configuration_is_resolved_and_bound_to_the_weights(root: Path) -> None:
    planned = feature_space.plan(root=root, training_session="latest")
    assert (planned.config.training_session, planned.config.clusters) == ("session_1", 5)
    before = planned.recorded
    weights = Session(root / paths.TRAINING / "session_1").path / "weights" / "best.safetensors"
    content = weights.read_bytes()
    planned.source.trained.untrained(9).save(weights)
    assert feature_space.plan(root=root, training_session="1").recorded["weights_sha256"] != before["weights_sha256"]
    weights.write_bytes(content)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clusters": 1}, "clusters is 1: give 2 or more"),
        ({"neighbours": 0}, "neighbours is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_what_does_not_fit_is_named(root: Path, settings: dict[str, int], message: str) -> None:
    with pytest.raises(EcgkitError, match=message):
        feature_space.plan(root=root, training_session="latest", **settings)
