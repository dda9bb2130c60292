"""A source of one's own, in thirty lines, goes through the whole chain: preprocess, train, predict, probe."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgkit import datasets, evaluation, paths, training, workflow
from ecgkit.errors import EcgkitError
from ecgkit.feature_space.probes.fit import fit_probes
from ecgkit.feature_space.probes.targets import TARGETS
from ecgkit.feature_space.space import embed_space, open_space
from ecgkit.signals.ecg import ECG
from ecgkit.sources import SOURCES, check_source, open_source, source_class, source_options
from ecgkit.sources.base import Column, Source, record_table


class Ward(Source):
    """ECGs of a ward: 250 Hz, identifiers such as "w07-1", no folds, sex or device; atrial fibrillation or not."""

    name = "ward"
    version = "2"
    sampling_rates = (250,)
    columns = {"bed": Column("string"), "potassium": Column("float64", "mmol/l")}  # noqa: RUF012
    has_folder = False

    def __init__(self, *, sampling_rate: int = 250, n_patients: int = 150) -> None:
        random = np.random.default_rng(0)
        patients = np.repeat([f"w{i:02d}" for i in range(n_patients)], 2)
        fibrillates = np.repeat(random.random(n_patients) < 0.4, 2)
        self.sampling_rate, self.n_samples = sampling_rate, 5 * sampling_rate
        self.labels = {"rhythm": pd.DataFrame({"AF": fibrillates})}
        table = {
            "record_id": [f"{patient}-{i % 2}" for i, patient in enumerate(patients)],
            "patient_id": patients,
            "fold": datasets.assign_folds(patients, self.labels["rhythm"]),
            "age": np.repeat(random.integers(20, 90, n_patients), 2),
            "potassium": random.normal(4, 0.5, len(patients)),
        }
        self.records = record_table(table, self.columns)

    def read(self, record_id: str) -> ECG:
        row = self.records["record_id"].tolist().index(record_id)
        times = np.arange(self.n_samples) / self.sampling_rate
        rate = 2.1 if self.labels["rhythm"]["AF"].fillna(value=False)[row] else 1.2
        beats = np.maximum(np.sin(2 * np.pi * rate * times), 0) ** 9
        signal = beats + 0.05 * np.random.default_rng(row).normal(size=(12, self.n_samples))
        return ECG(signal.astype(np.float32), self.sampling_rate, record_id)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ward")
    datasets.build_dataset(Ward(), folder / paths.PROCESSED / "ward", progress=False, jobs=1)
    return folder


def test_the_dataset_has_what_the_source_declares(root: Path):
    source, dataset = Ward(), datasets.open_dataset(root / paths.PROCESSED / "ward", label_set="rhythm")
    assert (dataset.sampling_rate, dataset.n_samples) == (250, 1250)
    assert datasets.dataset_name(source) == "ward"
    assert dataset.manifest["columns"]["potassium"] == {"dtype": "float64", "unit": "mmol/l"}
    assert dataset.manifest["labels"]["rhythm"]["all_false"] == "negative"
    assert datasets.default_label_set(dataset.manifest) == "rhythm"
    pd.testing.assert_frame_equal(dataset.records[source.records.columns], source.records)
    assert dataset.records["sex"].isna().all()
    dataset.check_splits()


def test_no_class_means_negative_and_a_missing_label_means_unknown(tmp_path: Path):
    source = Ward()
    source.labels["rhythm"] = source.labels["rhythm"].astype("boolean")
    source.labels["rhythm"].loc[[3, 7], "AF"] = pd.NA
    dataset = datasets.build_dataset(source, tmp_path / "ward", progress=False, jobs=1)
    opened = datasets.open_dataset(dataset.path, label_set="rhythm")
    assert (len(opened), opened.n_unlabelled) == (298, 2)
    assert not opened.labels["AF"].all()
    assert dataset.records["record_id"].iloc[3] not in set(opened.records["record_id"])


@pytest.mark.slow
def test_a_source_of_ones_own_goes_through_the_whole_chain(root: Path, tmp_path: Path):
    recipe = tmp_path / "tiny.toml"
    recipe.write_text("epochs = 1\nbatch_size = 32\nmodel_options = {widths = [8, 8], blocks = 1}\n")
    run = workflow.start("train", root=root, dataset="ward", model="resnet1d", recipe=str(recipe))
    assert run.config.label_set == "rhythm"
    data = training.training_data(run.config, root)
    trained = training.fit(run.session, run.config, data)
    predictions = training.predict_folds(trained, data)
    evaluation.evaluate_session(run.session, predictions, data.classes, data=data)
    run.session.close()
    stored = pd.read_parquet(run.session.path / "predictions.parquet")
    assert stored["record_id"].tolist() == data.records["record_id"].iloc[data.folds(9, 10)].tolist()
    assert stored["prob_AF"].between(0, 1).all()

    space = open_space(run.session.name, root)
    embeddings = embed_space(space)["embedding"]
    by_name = {target.name: target for target in TARGETS}
    asked = [by_name["age"], by_name["sex"]]
    results = fit_probes(embeddings, space.records, seed=0, targets=asked, resamples=20)
    assert not results["age"].skipped
    assert results["sex"].skipped


class TestTheRegistry:
    def test_one_line_adds_a_source(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setitem(SOURCES, "ward", f"{__name__}:Ward")
        assert source_options(source_class("ward")) == {"n_patients": 150}
        source = open_source("ward", n_patients=20)
        assert (source.describe(), source.sampling_rate) == ("ward 2: 40 records of 20 patients at 250 Hz", 250)
        assert pickle.loads(pickle.dumps(source)).identity() == source.identity() != Ward().identity()  # noqa: S301

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            ({"sampling_rate": 100}, "100 Hz.*250 Hz"),
            ({"options": {"n_records": 3}}, "n_records.*n_patients"),
            ({"options": {"n_patients": "many"}}, "many"),
        ],
    )
    def test_what_does_not_fit_is_named(self, arguments: dict, named: str, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setitem(SOURCES, "ward", f"{__name__}:Ward")
        with pytest.raises(EcgkitError, match=named):
            check_source("ward", **arguments)

    def test_what_cannot_be_downloaded_says_so(self, tmp_path: Path):
        with pytest.raises(EcgkitError, match="needs no download"):
            Ward.download(tmp_path, rates=(250,))


def test_folds_are_balanced_by_patient_and_seeded():
    random = np.random.default_rng(1)
    patients = [f"p{i}" for i in random.integers(0, 400, 1000)]
    labels = pd.DataFrame({"common": random.random(1000) < 0.5, "rare": random.random(1000) < 0.05})
    folds = datasets.assign_folds(patients, labels)
    assert pd.Series(folds).groupby(patients).nunique().max() == 1
    assert set(folds) == set(range(1, 11))
    counts = labels.groupby(folds).sum()
    assert counts["rare"].max() - counts["rare"].min() <= 3
    np.testing.assert_array_equal(folds, datasets.assign_folds(patients, labels))
    assert (folds != datasets.assign_folds(patients, labels, seed=1)).any()
    with pytest.raises(EcgkitError, match="3 patients"):
        datasets.assign_folds(["a", "b", "c"], labels[:3])
    with pytest.raises(EcgkitError, match="2 records have no patient_id"):
        datasets.assign_folds([None, "a", pd.NA], labels[:3])
