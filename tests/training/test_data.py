"""Batches: standardised by folds 1-8 alone, in an order that seed and epoch decide."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgkit.datasets import Dataset
from ecgkit.errors import EcgkitError
from ecgkit.inference.metadata import MetadataScaler
from ecgkit.stats.folds import TRAIN_FOLDS
from ecgkit.training.config import TrainingConfig
from ecgkit.training.data import Batches, ShuffledBatches, fit_metadata_scaler, training_data


def test_training_records_are_standardised_and_only_they_decide_how(demo_dataset: Dataset) -> None:
    records = demo_dataset.manifest["n_records"]
    folds = pd.read_parquet(demo_dataset.path / "records.parquet")["fold"]
    assert records == len(folds)
    training = demo_dataset.signals[np.flatnonzero(folds.isin(TRAIN_FOLDS))].astype(np.float64) / 1000
    training -= training.mean(axis=2, keepdims=True)
    np.testing.assert_allclose(demo_dataset.mean, 0, atol=1e-4)
    np.testing.assert_allclose(demo_dataset.std, training.std(axis=(0, 2)), rtol=1e-4)


def test_a_batch_is_the_standardised_signal_with_its_labels(demo_dataset: Dataset) -> None:
    positions = demo_dataset.folds(9)[:5]
    signal, labels, metadata = Batches(demo_dataset)[positions]
    stored = np.stack([demo_dataset.signal(position) for position in positions])
    centred = stored - stored.mean(axis=2, keepdims=True)  # the offset is rounded to whole microvolts
    expected = (centred - demo_dataset.mean[:, None]) / demo_dataset.std[:, None]
    np.testing.assert_allclose(signal.numpy(), expected, atol=0.6e-3 / demo_dataset.std.min())
    np.testing.assert_array_equal(labels.numpy(), demo_dataset.labels.iloc[positions].to_numpy())
    assert metadata is None


def test_a_lead_that_is_flat_throughout_stays_a_number(demo_dataset: Dataset) -> None:
    std = demo_dataset.std.copy()
    std[3] = 0
    signal, _, _ = Batches(dataclasses.replace(demo_dataset, std=std))[demo_dataset.folds(9)[:2]]
    assert np.isfinite(signal.numpy()).all()


def test_no_patient_is_in_two_parts(demo_dataset: Dataset) -> None:
    patients = [
        set(demo_dataset.records["patient_id"].iloc[demo_dataset.folds(*folds)]) for folds in (TRAIN_FOLDS, (9,), (10,))
    ]
    assert not patients[0] & patients[1]
    assert not patients[0] & patients[2]
    assert not patients[1] & patients[2]


def test_shuffled_batches_follow_from_seed_and_epoch() -> None:
    positions = np.arange(100)
    sampler = ShuffledBatches(positions, batch_size=30, seed=1)
    first = np.concatenate(list(sampler))
    assert len(first) == 90
    assert len(set(first)) == 90
    np.testing.assert_array_equal(first, np.concatenate(list(sampler)))
    sampler.set_epoch(1)
    assert not np.array_equal(first, np.concatenate(list(sampler)))


def test_processes_share_each_batch_without_overlap() -> None:
    parts = [ShuffledBatches(np.arange(100), batch_size=10, seed=1, rank=rank, world_size=2) for rank in range(2)]
    whole = ShuffledBatches(np.arange(100), batch_size=10, seed=1)
    for batch, *shares in zip(whole, *parts, strict=True):
        assert [len(share) for share in shares] == [5, 5]
        assert set(np.concatenate(shares)) == set(batch)  # the steps of one process


def test_an_epoch_of_several_crops_comes_by_each_record_as_often() -> None:
    seen = np.concatenate(list(ShuffledBatches(np.arange(20), batch_size=10, seed=1, repeats=3)))
    np.testing.assert_array_equal(np.bincount(seen), np.full(20, 3))


def test_fewer_records_than_a_batch_still_train() -> None:
    sampler = ShuffledBatches(np.arange(7), batch_size=32, seed=0)
    assert [len(batch) for batch in sampler] == [7]


def test_age_is_scaled_and_imputed_and_sex_goes_by_words() -> None:
    training = pd.DataFrame({"age": [40.0, 60.0, np.nan], "sex": pd.array(["male", "female", pd.NA], dtype="string")})
    for has_unknown in (True, False):
        columns = MetadataScaler(50.0, np.sqrt(200.0), has_unknown)(training["age"], training["sex"].tolist())
        np.testing.assert_allclose(columns[:, 0], [-np.sqrt(0.5), np.sqrt(0.5), 0], rtol=1e-6)
        np.testing.assert_array_equal(columns[:, 1], [0, 0, has_unknown])  # 0 where the training saw none
        np.testing.assert_array_equal(columns[:, 2:], [[1, 0], [0, 1], [0.5, 0.5]])  # male, female


def test_age_cannot_be_scaled_where_it_is_unknown(demo_dataset: Dataset) -> None:
    unknown = dataclasses.replace(demo_dataset, records=demo_dataset.records.assign(age=np.nan))
    with pytest.raises(EcgkitError, match="fewer than two ages"):
        fit_metadata_scaler(unknown)


def test_the_scaler_of_age_knows_folds_1_to_8_only(demo_dataset: Dataset) -> None:
    records = demo_dataset.records
    known = records.loc[records["fold"].isin(TRAIN_FOLDS), "age"].dropna()
    scaler = fit_metadata_scaler(demo_dataset)
    assert scaler.age_mean == pytest.approx(known.mean())
    assert scaler.has_unknown == (len(known) < records["fold"].isin(TRAIN_FOLDS).sum())
    whole = dataclasses.replace(demo_dataset, records=records.assign(age=records["age"].fillna(50.0)))
    assert not fit_metadata_scaler(whole).has_unknown


def with_labels(dataset: Dataset, **classes: object) -> Dataset:
    """Replace the labels of a dataset."""
    labels = pd.DataFrame({name: pd.array(values, dtype="boolean") for name, values in classes.items()})
    return dataclasses.replace(dataset, labels=labels, classes=tuple(classes))


def test_an_unknown_label_is_nan_in_a_batch_and_does_not_weigh(demo_dataset: Dataset) -> None:
    values = demo_dataset.labels["MI"].astype("boolean").where(np.arange(len(demo_dataset)) % 3 > 0)
    _, labels, _ = Batches(with_labels(demo_dataset, MI=values))[np.arange(30)]
    np.testing.assert_array_equal(labels[:, 0].isnan(), np.arange(30) % 3 == 0)


def test_a_class_without_positives_or_negatives_is_named_with_the_way_out(demo_dataset: Dataset) -> None:
    fold = demo_dataset.records["fold"].to_numpy()
    common = np.arange(len(fold)) % 2 == 0
    rare = (fold <= 8) & (np.arange(len(fold)) % 40 == 0)
    n_rare = int(rare.sum())
    for classes, named in (
        ({"COMMON": common, "RARE": rare}, rf"no positive record of RARE in fold 9.*--min-records {n_rare + 1}"),
        ({"COMMON": common, "NEVER": common & False}, r"no positive record of NEVER in folds 1-8.*--min-records 1"),
        ({"COMMON": common, "ALWAYS": common | True}, r"no negative record of ALWAYS in folds 1-8.*another label set"),
        ({"RARE": rare}, r"no positive record of RARE in fold 9.*another label set"),
    ):
        with pytest.raises(EcgkitError, match=named):
            with_labels(demo_dataset, **classes).check_outcomes()
    unknown = pd.array(common, dtype="boolean")
    unknown[(fold == 9) & ~common] = pd.NA
    with pytest.raises(EcgkitError, match="no negative record of AF in fold 9"):
        with_labels(demo_dataset, AF=unknown).check_outcomes()
    with_labels(demo_dataset, COMMON=common).check_outcomes()


def test_records_without_a_label_are_negatives_in_the_training_folds_only(demo_root: Path) -> None:
    def opened(**settings: str) -> Dataset:
        return training_data(TrainingConfig(dataset="demo", model="cnn", **settings), demo_root)

    dropped, negative = opened(), opened(unlabelled="negative")
    left_out = dropped.unlabelled
    assert len(left_out.folds(*TRAIN_FOLDS)) > 0
    assert len(negative.folds(*TRAIN_FOLDS)) == len(dropped.folds(*TRAIN_FOLDS)) + len(left_out.folds(*TRAIN_FOLDS))
    added = ~negative.records["record_id"].isin(dropped.records["record_id"])
    assert not negative.labels[added].to_numpy().any()
    assert negative.records.loc[added, "fold"].isin(TRAIN_FOLDS).all()
    pd.testing.assert_frame_equal(
        negative.records.loc[negative.folds(9, 10)].reset_index(drop=True),
        dropped.records.loc[dropped.folds(9, 10)].reset_index(drop=True),
    )
    assert dropped.unlabelled.folds(9, 10).size == negative.unlabelled.folds(9, 10).size
