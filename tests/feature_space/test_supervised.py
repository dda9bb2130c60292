"""A network trained for one target: learned from folds 1-8, chosen on fold 9, and gone on with where it was cut off."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ecgkit.errors import EcgkitError
from ecgkit.feature_space import supervised
from ecgkit.feature_space.supervised import read_supervised, supervise
from ecgkit.training import TrainedSession, load_weights


@pytest.fixture(autouse=True)
def fresh(trained_session: TrainedSession) -> Iterator[None]:
    """Let no test find the networks of another."""
    yield
    shutil.rmtree(trained_session.session.path / supervised.FOLDER, ignore_errors=True)


def test_folds_9_and_10_are_predicted_in_the_unit_of_the_target(trained_session: TrainedSession) -> None:
    folder = supervise(trained_session, "age")
    table = read_supervised(trained_session, "age")
    assert table is not None
    assert set(table["fold"]) == {9, 10}
    dataset = trained_session.dataset
    known = dataset.records.set_index("record_id")["age"]
    np.testing.assert_array_equal(table["true"], known[table["record_id"]])
    # An untaught output is at the mean of folds 1-8, and years lie around it, not around 0.
    assert table["predicted"].between(10, 110).mean() > 0.9
    history = pd.read_csv(folder.path / "history.csv")
    assert list(history["epoch"]) == [1, 2]
    assert load_weights(folder.path / "weights" / "best.safetensors").keywords["n_metadata"] == 0


def test_the_second_word_is_what_is_predicted(trained_session: TrainedSession) -> None:
    supervise(trained_session, "sex")
    table = read_supervised(trained_session, "sex")
    assert table is not None
    assert table["predicted"].between(0, 1).all()
    sex = trained_session.dataset.records.set_index("record_id")["sex"][table["record_id"]]
    np.testing.assert_array_equal(table["true"] == 1, (sex == "female").to_numpy(bool))


def test_a_training_that_was_cut_off_ends_as_if_it_had_not_been(
    trained_session: TrainedSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervise(trained_session, "sex")
    whole = read_supervised(trained_session, "sex")
    shutil.rmtree(trained_session.session.path / supervised.FOLDER)
    with monkeypatch.context() as patch:
        patch.setattr(supervised, "_train_epoch", cut_off_in_the_second(supervised._train_epoch))
        with pytest.raises(KeyboardInterrupt):
            supervise(trained_session, "sex")
    assert read_supervised(trained_session, "sex") is None
    supervise(trained_session, "sex")
    pd.testing.assert_frame_equal(read_supervised(trained_session, "sex"), whole)


def cut_off_in_the_second(train_epoch):  # type: ignore[no-untyped-def]
    calls = []

    def train(*arguments: object) -> float:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train_epoch(*arguments)

    return train


def test_fold_10_takes_no_part_in_the_training(
    trained_session: TrainedSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    whole = supervised.Batches.__getitem__

    def spy(self: supervised.Batches, positions: np.ndarray) -> object:
        read.extend(positions)
        return whole(self, positions)

    monkeypatch.setattr(supervised.Batches, "__getitem__", spy)
    monkeypatch.setattr(supervised, "load_weights", lambda path: pytest.fail(f"trained: {path}"))
    with pytest.raises(pytest.fail.Exception, match="trained"):
        supervise(trained_session, "age")
    assert 10 not in set(trained_session.dataset.records["fold"].iloc[read])


def test_a_second_call_finds_what_is_there(trained_session: TrainedSession) -> None:
    folder = supervise(trained_session, "sex")
    stamp = (folder.path / "weights" / "best.safetensors").stat().st_mtime_ns
    supervise(trained_session, "sex")
    assert (folder.path / "weights" / "best.safetensors").stat().st_mtime_ns == stamp


def test_what_cannot_be_learned_is_named(trained_session: TrainedSession) -> None:
    with pytest.raises(EcgkitError, match="target is 'shoe_size': choose from age, sex, height, weight"):
        supervise(trained_session, "shoe_size")
    dataset = trained_session.dataset
    nobody = replace(dataset, records=dataset.records.assign(height=np.nan))
    with pytest.raises(EcgkitError, match="height is known for 0 records of folds 1-8: a network needs 10 or more"):
        supervise(replace(trained_session, dataset=nobody), "height")
