"""The records, vectors and controls of a feature space, and its configuration."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgkit import load_model, paths, sessions, training, workflow
from ecgkit.errors import EcgkitError
from ecgkit.explain.config import ExplainabilityConfig
from ecgkit.explain.effect import own_head
from ecgkit.explain.examples import record
from ecgkit.feature_space.config import FeatureSpaceConfig
from ecgkit.feature_space.embeddings import session_embeddings
from ecgkit.feature_space.space import (
    embed_space,
    embed_untrained,
    open_space,
    read_label_set,
    read_probabilities,
)
from ecgkit.feature_space.target_sessions import read_target_sessions
from ecgkit.inference.model_folder import SHIPPED
from ecgkit.sessions import Session
from ecgkit.stats.folds import TEST_FOLD
from ecgkit.training import TrainedSession


def inputs(root: Path, **settings: object) -> dict[str, object]:
    return FeatureSpaceConfig.resolve(root, **settings).inputs(root)


def test_embeddings_are_computed_once_in_the_order_of_the_records(trained_root: Path) -> None:
    space = open_space("latest", trained_root)
    layers = embed_space(space, n_layers=2)
    assert list(layers) == ["trunk.2", "trunk.4", "embedding"]
    first = embed_space(space)["embedding"]
    assert first.shape == (len(space.records), 16)
    np.testing.assert_allclose(first[:7], training.embed(space.source.trained, space.dataset, np.arange(7)), rtol=1e-5)
    stored = space.source.session.path / "cache" / "embeddings" / "trained" / "embedding.npy"
    stamp = stored.stat().st_mtime_ns
    np.testing.assert_array_equal(embed_space(space)["embedding"], first)
    assert stored.stat().st_mtime_ns == stamp
    control, *_ = embed_untrained(space, seed=0)
    assert control.shape == first.shape
    assert not np.allclose(control, first)


def test_other_untrained_encoders_are_used_if_they_are_there(
    trained_root: Path, trained_session: TrainedSession
) -> None:
    space = open_space("latest", trained_root)
    before = inputs(trained_root, seed=3)
    embed_untrained(space, seed=3)
    assert inputs(trained_root, seed=3) == before  # a run does not make the next one another run
    session_embeddings(trained_session, encoder="untrained_8")
    assert inputs(trained_root, seed=3) != before
    seeds = embed_untrained(space, seed=3)
    assert len(seeds) >= 2
    assert len({values.tobytes() for values in seeds}) == len(seeds)


def test_vectors_of_another_program_are_analysed_the_same_way(trained_root: Path, tmp_path: Path) -> None:
    whole = open_space("latest", trained_root).dataset
    some = np.arange(len(whole))[::2]
    table = whole.records.iloc[some[::-1]][["record_id"]]
    table.to_parquet(tmp_path / "mine.parquet")
    path = tmp_path / "mine.npy"
    np.save(path, table["record_id"].to_numpy(dtype=np.float32)[:, None] * [1, 10])
    space = open_space("latest", trained_root, vectors=str(path))
    np.testing.assert_array_equal(space.positions, some)
    layers = embed_space(space, n_layers=3)
    assert list(layers) == ["embedding"]
    np.testing.assert_array_equal(layers["embedding"][:, 0], space.records["record_id"].astype(float))
    pd.testing.assert_frame_equal(space.labels, whole.labels.iloc[some].reset_index(drop=True))
    assert embed_untrained(space, seed=0) == []
    np.testing.assert_array_equal(space.signals([3])[0], whole.signal(int(some[3])))
    before = inputs(trained_root, vectors=str(path))
    table.iloc[::-1].to_parquet(tmp_path / "mine.parquet")  # the same vectors of other records
    assert inputs(trained_root, vectors=str(path)) != before


def test_a_head_that_reads_age_and_sex_is_not_a_head_of_embeddings(trained_session: TrainedSession) -> None:
    assert trained_session.trained.model.n_metadata
    assert own_head(trained_session.trained) is None


def test_a_model_that_ships_is_explained_on_a_dataset_and_its_folder_stays_as_it_is(trained_root: Path) -> None:
    before = sorted(SHIPPED.rglob("*"))
    config = ExplainabilityConfig.resolve(trained_root, training_session="resnet1d", dataset="small")
    assert (config.training_session, config.dataset, config.resamples) == ("resnet1d", "small", 200)
    assert ExplainabilityConfig.resolve(trained_root, **asdict(config)) == config
    space = open_space("resnet1d", trained_root, dataset="small")
    assert space.name == "resnet1d"
    vectors = embed_space(space)["embedding"]
    ecgs = [record(space.dataset, row) for row in (0, 5)]
    np.testing.assert_allclose(vectors[[0, 5]], load_model("resnet1d").embed(ecgs), rtol=1e-3, atol=1e-3)
    assert (space.dataset.path / "cache" / "resnet1d" / "embeddings" / "trained" / "embedding.npy").is_file()
    assert sorted(SHIPPED.rglob("*")) == before
    session = ExplainabilityConfig.resolve(trained_root, training_session="session_1").inputs(trained_root)
    inputs = config.inputs(trained_root)
    assert inputs["dataset_fingerprint"] == session["dataset_fingerprint"]
    assert inputs["weights_sha256"] != session["weights_sha256"]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"training_session": "resnet1d"}, "ptbxl"),  # the dataset of its training, which is not there
        ({"training_session": "ensemble", "dataset": "small"}, "xlstm"),
        ({"training_session": "session_1", "dataset": "small"}, "session_1"),
        ({"training_session": "session_1", "classes": "MI, XYZ"}, "XYZ"),
        ({"training_session": "resnet1d", "dataset": "small", "classes": "XYZ"}, "XYZ"),
        ({"training_session": "nothing"}, "nothing"),
    ],
)
def test_what_cannot_be_explained_on_a_dataset_is_refused(
    trained_root: Path, settings: dict[str, str], named: str
) -> None:
    with pytest.raises(EcgkitError, match=named):
        ExplainabilityConfig.resolve(trained_root, **settings)


def test_a_model_folder_says_its_dataset_and_keeps_fold_10_closed(trained_root: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained_root / paths.TRAINING / "session_1", tmp_path / "mine")
    config = ExplainabilityConfig.resolve(trained_root, training_session=str(folder), classes="MI,CD")
    assert (config.training_session, config.dataset) == (str(folder), "small")
    metrics = Session(folder).read_json("metrics.json")
    Session(folder).write_json("metrics.json", {"version": 1, "fold_9": metrics["fold_9"]})
    with pytest.raises(EcgkitError, match="evaluate"):
        ExplainabilityConfig.resolve(trained_root, training_session=str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(EcgkitError, match="--dataset"):
        ExplainabilityConfig.resolve(trained_root, training_session=str(folder))


def test_labels_and_probabilities_are_in_the_order_of_the_records(trained_root: Path) -> None:
    space = open_space("latest", trained_root)
    pd.testing.assert_frame_equal(read_label_set(space, "superclass"), space.labels, check_names=False)
    assert read_label_set(space, "no_such") is None
    probabilities, thresholds = read_probabilities(space)
    assert set(thresholds) == set(probabilities) == set(space.dataset.classes)
    predicted = probabilities.notna().all(axis=1)
    assert (predicted == space.records["fold"].isin((9, 10))).all()
    assert (space.records["fold"].iloc[space.test_rows] == TEST_FOLD).all()


def test_only_sessions_trained_for_a_target_are_compared_with_probes(trained_root: Path) -> None:
    assert read_target_sessions("", trained_root) == {}
    with pytest.raises(EcgkitError, match="session_1"):
        read_target_sessions("session_1", trained_root)
    source = sessions.open_finished("session_1", paths.TRAINING, trained_root)
    fake = Session(trained_root / paths.TRAINING / "session_90")
    fake.write_json("config.json", source.config | {"target": "age"})
    fake.write_table("predictions.parquet", pd.DataFrame({"record_id": ["1"], "true_age": 50.0, "predicted_age": 60.0}))
    fake.write_text("DONE", "\nconfig.json\npredictions.parquet")
    try:
        table = read_target_sessions("session_90", trained_root)["age"]
        with pytest.raises(EcgkitError, match="second session.*age"):
            read_target_sessions("session_90, session_90", trained_root)
        chosen = {"training_session": "session_1", "target_sessions": "session_90"}
        before = inputs(trained_root, **chosen)
        fake.write_table("predictions.parquet", table.rename(columns={"predicted": "predicted_age"}))
        assert inputs(trained_root, **chosen) != before
        fake.write_table("predictions.parquet", table[["record_id"]])
        with pytest.raises(EcgkitError, match="predicted_age"):
            read_target_sessions("session_90", trained_root)
    finally:
        (fake.path / "DONE").unlink()
    assert table.to_dict("list") == {"record_id": ["1"], "predicted": [60.0]}


def test_the_configuration_is_resolved_and_depends_on_the_weights(
    trained_root: Path, trained_session: TrainedSession
) -> None:
    config = FeatureSpaceConfig.resolve(trained_root, training_session="session_1")
    assert (config.training_session, config.clusters, config.resamples, config.layers) == ("session_1", 5, 200, 2)
    assert FeatureSpaceConfig.resolve(trained_root, **asdict(config)) == config
    before = config.inputs(trained_root)
    weights = trained_session.session.path / "weights" / "best.safetensors"
    content = weights.read_bytes()
    trained_session.trained.untrained(9).save(weights)
    trained_session.session.mark_done()
    other = inputs(trained_root, training_session="1")
    weights.write_bytes(content)
    trained_session.session.mark_done()
    assert other["weights_sha256"] != before["weights_sha256"]


def test_a_training_for_a_target_is_refused_before_anything_is_computed(
    trained_root: Path, trained_session: TrainedSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "config", trained_session.session.config | {"target": "age", "label_set": ""})
    for resolve in (FeatureSpaceConfig.resolve, ExplainabilityConfig.resolve):
        with pytest.raises(EcgkitError, match="session_1 was trained for age"):
            resolve(trained_root, training_session="session_1")


def test_a_training_with_fold_10_closed_is_refused_until_it_is_evaluated(
    trained_root: Path, trained_session: TrainedSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = trained_session.session.config | {"test": False}
    monkeypatch.setattr(Session, "config", closed)
    assert len(open_space("session_1", trained_root).test_rows)  # metrics.json has fold 10: it has been evaluated since
    path = trained_session.session.path / "metrics.json"
    content = path.read_bytes()
    metrics = trained_session.session.read_json("metrics.json")
    trained_session.session.write_json("metrics.json", {"version": 1, "fold_9": metrics["fold_9"]})
    trained_session.session.mark_done()
    try:
        for resolve in (FeatureSpaceConfig.resolve, ExplainabilityConfig.resolve):
            with pytest.raises(EcgkitError, match="ecgkit evaluate session_1"):
                resolve(trained_root, training_session="session_1")
    finally:
        path.write_bytes(content)
        trained_session.session.mark_done()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clusters": 1}, "clusters is 1"),
        ({"neighbours": 0}, "neighbours is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "seed is 4294967296"),
        ({"resamples": 1}, "resamples is 1"),
        ({"vectors": "/nowhere.npy"}, "/nowhere.npy"),
        ({"target_sessions": "session_1"}, "session_1 was not trained for a target"),
        ({"target_sessions": "session_77"}, "session_77"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_settings_that_do_not_fit_are_named(trained_root: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(EcgkitError, match=message):
        workflow.start("probe", root=trained_root, training_session="session_1", **settings)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not a table", None])
def test_a_damaged_file_of_the_cache_is_named_with_the_way_out(trained_root: Path, content: bytes | None) -> None:
    space = open_space("latest", trained_root)
    embed_space(space)
    path = space.source.session.path / "cache" / "embeddings" / "trained" / "embedding.parquet"
    before = path.read_bytes()
    path.write_bytes(before[: len(before) // 2] if content is None else content)
    try:
        with pytest.raises(EcgkitError, match=r"embedding\.parquet.*delete"):
            embed_space(space)
    finally:
        path.write_bytes(before)
