"""A look into a training session: opened with its dataset, vectors made once, controls of the same architecture."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgkit import feature_space, paths, training, workflow
from ecgkit.errors import EcgkitError
from ecgkit.feature_space.embeddings import session_embeddings, write_array
from ecgkit.sessions import Session
from ecgkit.stats.folds import TEST_FOLD
from ecgkit.training import TrainedSession


def begin(root: Path, **settings: object) -> feature_space.FeatureSpaceRun:
    run = workflow.start("probe", root=root, **settings)
    return feature_space.open_space(run.session, run.config, run.root)


def inputs(root: Path, **settings: object) -> dict[str, object]:
    return feature_space.FeatureSpaceConfig.resolve(root, **settings).inputs(root)


def test_embeddings_are_made_once_in_the_order_of_the_records(trained_root: Path) -> None:
    run = begin(trained_root, training_session="latest")
    first = run.embeddings()
    assert first.shape == (len(run.dataset), 16)
    np.testing.assert_allclose(first[:7], training.embed(run.source.trained, run.dataset, np.arange(7)), rtol=1e-5)
    stored = run.source.session.path / "embeddings" / "trained" / "embedding.npy"
    stamp = stored.stat().st_mtime_ns
    np.testing.assert_array_equal(run.embeddings(), first)
    assert stored.stat().st_mtime_ns == stamp
    (control,) = run.untrained()
    assert control.shape == first.shape
    assert not np.allclose(control, first)


def test_untrained_encoders_that_are_there_stand_beside(trained_root: Path, trained_session: TrainedSession) -> None:
    run = begin(trained_root, training_session="latest", seed=3)
    before = inputs(trained_root, seed=3)
    run.untrained()
    assert inputs(trained_root, seed=3) == before  # what a run leaves itself does not make the next one another run
    session_embeddings(trained_session, encoder="untrained_8")
    assert inputs(trained_root, seed=3) != before
    seeds = run.untrained()
    assert len(seeds) >= 2
    assert len({values.tobytes() for values in seeds}) == len(seeds)


def test_foreign_vectors_are_looked_into_the_same_way(trained_root: Path, tmp_path: Path) -> None:
    whole = begin(trained_root, training_session="latest").dataset
    some = np.arange(len(whole))[::2]
    table = whole.records.iloc[some[::-1]][["record_id"]]
    table.to_parquet(tmp_path / "mine.parquet")
    path = write_array(tmp_path / "mine.npy", table["record_id"].to_numpy(dtype=np.float32)[:, None] * [1, 10])
    run = begin(trained_root, training_session="latest", vectors=str(path))
    np.testing.assert_array_equal(run.positions, some)
    np.testing.assert_array_equal(run.embeddings()[:, 0], run.records["record_id"].astype(float))
    pd.testing.assert_frame_equal(run.labels, whole.labels.iloc[some].reset_index(drop=True))
    assert (run.layers(), run.untrained(), run.head(), run.epochs()) == ({}, [], None, None)
    np.testing.assert_array_equal(run.signals([3])[0], whole.signal(int(some[3])))
    assert "vectors_sha256" in run.session.config


def test_vectors_need_records_to_learn_from_and_to_test_on(trained_root: Path, tmp_path: Path) -> None:
    records = begin(trained_root, training_session="latest").dataset.records
    for folds, message in (((10,), "no record of folds 1-8"), (tuple(range(1, 10)), "no record of fold 10")):
        some = records.loc[records["fold"].isin(folds), ["record_id"]]
        some.to_csv(tmp_path / "some.csv", index=False)
        path = write_array(tmp_path / "some.npy", np.eye(len(some)))
        with pytest.raises(EcgkitError, match=message):
            begin(trained_root, training_session="latest", vectors=str(path))


def test_a_head_that_reads_age_and_sex_is_no_head_of_embeddings(trained_root: Path) -> None:
    run = begin(trained_root, training_session="latest")
    assert run.source.trained.model.n_metadata
    assert run.head() is None


def test_labels_of_another_set_are_in_the_order_of_the_records(trained_root: Path) -> None:
    run = begin(trained_root, training_session="latest")
    pd.testing.assert_frame_equal(run.label_set("superclass"), run.labels, check_names=False)
    assert run.label_set("no_such") is None


def test_probabilities_are_those_of_the_test_fold(trained_root: Path) -> None:
    run = begin(trained_root, training_session="latest")
    assert set(run.thresholds()) == set(run.dataset.classes)
    assert TEST_FOLD in set(run.predictions()["fold"])


def test_the_configuration_is_resolved_and_bound_to_the_weights(trained_root: Path) -> None:
    config = feature_space.FeatureSpaceConfig.resolve(trained_root)
    assert (config.training_session, config.clusters) == ("session_1", 5)
    assert feature_space.FeatureSpaceConfig.resolve(trained_root, **asdict(config)) == config
    before = config.inputs(trained_root)
    weights = Session(trained_root / paths.TRAINING / "session_1").path / "weights" / "best.safetensors"
    content = weights.read_bytes()
    begin(trained_root).source.trained.untrained(9).save(weights)
    other = inputs(trained_root, training_session="1")
    weights.write_bytes(content)
    assert other["weights_sha256"] != before["weights_sha256"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clusters": 1}, "clusters is 1: give 2 or more"),
        ({"neighbours": 0}, "neighbours is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"vectors": "/nowhere.npy"}, "cannot read the vectors /nowhere.npy"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_does_not_fit_is_named(trained_root: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(EcgkitError, match=message):
        workflow.start("probe", root=trained_root, training_session="latest", **settings)
