"""A dataset whose files are not those that were written is refused, with the file and the way out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from filelock import SoftFileLock

from ecgkit import datasets, paths
from ecgkit.datasets import Dataset, build_dataset, contents, is_current, open_dataset
from ecgkit.datasets.chunks import read_report
from ecgkit.datasets.manifest import manifest_sha256
from ecgkit.errors import EcgkitError
from ecgkit.io import locked
from ecgkit.signals.ecg import ECG
from ecgkit.sources.base import Source, record_table
from ecgkit.training.config import TrainingConfig


class Clinic(Source):
    """A user's own data: atrial fibrillation yes, no or unknown, and a panel of two classes."""

    name, version, sampling_rates, sampling_rate, n_samples = "clinic", "1", (100,), 100, 100

    def __init__(self, n_records: int = 40, **columns: Any) -> None:
        ids = [f"r{i}" for i in range(n_records)]
        core = {"record_id": ids, "patient_id": ids, "fold": np.arange(n_records) % 10 + 1, "age": 50.0}
        self.records = record_table(core | columns)
        af = pd.array([i % 4 == 0 for i in range(n_records)], dtype="boolean")
        af[np.arange(n_records) % 5 == 3] = pd.NA
        self.labels = {"af": pd.DataFrame({"AF": af})}

    def read(self, record_id: str) -> ECG:
        signal = np.random.default_rng(int(record_id[1:])).normal(0, 0.5, (12, 100))
        signal[5] = 0  # the lead is not recorded
        return ECG(signal.astype(np.float32), 100, record_id)


def build(folder: Path, source: Source | None = None) -> Dataset:
    return build_dataset(source or Clinic(), folder, jobs=1, progress=False)


def reverse_rows(folder: Path) -> None:
    signals = np.load(folder / "signals.npy")
    np.save(folder / "signals.npy", signals[::-1].copy())


def flip_a_byte(folder: Path) -> None:
    with (folder / "signals.npy").open("r+b") as file:
        file.seek(5000)
        byte = file.read(1)[0]
        file.seek(5000)
        file.write(bytes([byte ^ 1]))


def use_float64(folder: Path) -> None:
    np.save(folder / "signals.npy", np.load(folder / "signals.npy").astype(np.float64))


def change_table(name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    return lambda folder: change(pd.read_parquet(folder / name)).to_parquet(folder / name, index=False)


FAULTS = {
    "reversed rows": (reverse_rows, "signals.npy"),
    "one flipped byte": (flip_a_byte, "signals.npy"),
    "float64": (use_float64, "signals.npy"),
    "no signals": (lambda folder: (folder / "signals.npy").unlink(), "signals.npy"),
    "empty signals": (lambda folder: (folder / "signals.npy").write_bytes(b""), "signals.npy"),
    "shuffled labels": (change_table("labels/af.parquet", lambda t: t.iloc[::-1]), "labels/af.parquet"),
    "no labels": (lambda folder: (folder / "labels/af.parquet").unlink(), "labels/af.parquet"),
    "other folds": (change_table("records.parquet", lambda t: t.assign(fold=t["fold"] % 10 + 1)), "records.parquet"),
    "other ages": (change_table("records.parquet", lambda t: t.assign(age=3.0)), "records.parquet"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_change_of_a_file_is_refused_where_a_step_opens_or_skips(fault: str, tmp_path: Path) -> None:
    folder = tmp_path / paths.PROCESSED / "clinic"
    source = Clinic()
    build(folder, source)
    assert is_current(folder, source)
    change, file = FAULTS[fault]
    change(folder)
    config = TrainingConfig(dataset="clinic", model="cnn", label_set="af")
    for step in (
        lambda: open_dataset(folder),
        lambda: is_current(folder, source),
        lambda: build(folder, source),
        lambda: config.inputs(tmp_path),
    ):
        with pytest.raises(EcgkitError, match=rf"{file}.*--overwrite") as caught:
            step()
        assert "\n" not in str(caught.value)
    assert not is_current(folder, source, overwrite=True)
    assert len(build_dataset(source, folder, jobs=1, progress=False, overwrite=True)) == 40


def leaves(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the paths to all values of JSON data."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(leaf for key, value in items for leaf in leaves(value, (*path, key)))] if items else [path]


def test_every_edited_key_of_the_manifest_is_refused(tmp_path: Path) -> None:
    folder = build(tmp_path / "d").path
    path = folder / "dataset.json"
    text = path.read_text()
    keys = [key for key in leaves(json.loads(text)) if key]
    assert len(keys) > 60
    for key in keys:
        for change in (lambda value: value * 2 if type(value) in (int, float) and value else "edited", lambda _: None):
            manifest = json.loads(text)
            *parents, last = key
            inside = manifest
            for parent in parents:
                inside = inside[parent]
            if inside[last] == change(inside[last]):
                continue
            inside[last] = change(inside[last])
            path.write_text(json.dumps(manifest))
            with pytest.raises(EcgkitError, match=r"dataset\.json|format version"):
                open_dataset(folder)
    for other in ("[]", "{", "null", "[" * 10_000, '{"version": 5}', json.dumps({"version": 1}), "\x00"):
        path.write_text(other)
        with pytest.raises(EcgkitError, match=r"dataset\.json|format version"):
            open_dataset(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sampling_rate", 5),
        ("sampling_rate", "100"),
        ("n_samples", 0),
        ("leads", ["I"]),
        ("units", "millivolts"),
        ("mean", [0.0] * 11),
        ("mean", [1000.0] * 12),
        ("std", [-0.1] * 12),
        ("std", [0.0] * 12),
        ("std", None),
        ("all_false", "maybe"),
    ],
)
def test_values_out_of_range_are_refused_although_the_checksum_is_right(tmp_path: Path, key: str, value: Any) -> None:
    folder = build(tmp_path / "d").path
    manifest = json.loads((folder / "dataset.json").read_text())
    inside = manifest["standardisation"] if key in ("mean", "std") else manifest
    inside = manifest["labels"]["af"] if key == "all_false" else inside
    inside[key] = value
    (folder / "dataset.json").write_text(json.dumps(manifest | {"sha256": manifest_sha256(manifest)}))
    with pytest.raises(EcgkitError, match="standard deviation" if value == [0.0] * 12 else key):
        open_dataset(folder)


def test_a_lead_that_is_flat_in_every_record_has_a_standard_deviation_of_0(tmp_path: Path) -> None:
    dataset = build(tmp_path / "d")
    assert dataset.std[5] == 0
    assert (np.delete(dataset.std, 5) > 0).all()


def test_signals_are_read_when_they_changed_or_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build(tmp_path / "d").path
    read: list[str] = []
    whole = contents.file_sha256
    monkeypatch.setattr(contents, "file_sha256", lambda path: read.append(path.name) or whole(path))

    def opened(**keywords: Any) -> bool:
        read.clear()
        open_dataset(folder, **keywords)
        assert {"records.parquet", "af.parquet"} <= set(read)
        return "signals.npy" in read

    assert not opened()
    assert opened(verify=True)
    os.utime(folder / "signals.npy")
    assert opened()
    assert not opened()
    monkeypatch.setattr(contents, "VERIFIED", set())
    monkeypatch.setenv("ECGKIT_VERIFY", "1")
    assert opened()
    assert not opened()  # once per process


def test_a_change_that_keeps_size_and_time_is_found(tmp_path: Path) -> None:
    folder = build(tmp_path / "d").path
    stamp = (folder / "signals.npy").stat()
    flip_a_byte(folder)
    os.utime(folder / "signals.npy", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with pytest.raises(EcgkitError, match=r"signals\.npy"):
        open_dataset(folder, verify=True)
    with pytest.raises(EcgkitError, match=r"signals\.npy"):
        open_dataset(folder)  # the time of the last change of the file's entry is not that of its contents


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("fold", 11),
        ("record_id", "r0"),
        ("record_id", None),
        ("patient_id", None),
        ("age", np.inf),
        ("height", -np.inf),
        ("weight", 0.0),
        ("age", 131.0),
    ],
)
def test_tables_of_a_source_are_checked_before_anything_is_built(tmp_path: Path, column: str, value: Any) -> None:
    source = Clinic()
    source.records.loc[3, column] = value
    with pytest.raises(EcgkitError, match=rf"clinic: {column} .*row 4"):
        build(tmp_path / "d", source)
    assert not (tmp_path / "d").exists()


def test_labels_of_a_source_are_true_false_or_missing(tmp_path: Path) -> None:
    source = Clinic()
    source.labels["af"] = pd.DataFrame({"AF": ["yes"] * 40})
    with pytest.raises(EcgkitError, match="AF of label set af"):
        build(tmp_path / "d", source)
    source.labels["af"] = pd.DataFrame({"AF": [True] * 39})
    with pytest.raises(EcgkitError, match="39"):
        build(tmp_path / "d", source)


def test_negatives_are_kept_and_unknown_labels_are_missing(tmp_path: Path) -> None:
    dataset = open_dataset(build(tmp_path / "d").path)
    assert (dataset.label_set, dataset.classes) == ("af", ("AF",))  # the only one is the default
    unknown = np.arange(40) % 5 == 3
    assert len(dataset) == (~unknown).sum()
    assert dataset.n_unlabelled == unknown.sum() == dataset.manifest["labels"]["af"]["n_unlabelled"]
    assert dataset.manifest["labels"]["af"]["unknown"] == {"AF": unknown.sum()}
    np.testing.assert_array_equal(dataset.labels["AF"], (np.arange(40) % 4 == 0)[~unknown])
    assert dataset.labels["AF"].dtype == bool

    source = Clinic()
    source.labels["af"]["PVC"] = [False] * 20 + [True] * 20
    dataset = open_dataset(build(tmp_path / "two", source).path)
    assert (len(dataset), dataset.n_unlabelled) == (40, 0)
    np.testing.assert_array_equal(dataset.labels["AF"].isna(), unknown)
    path = datasets.export_npz(dataset, tmp_path / "y")
    with np.load(path) as file:
        np.testing.assert_array_equal(np.isnan(file["y"][:, 0]), unknown)


def test_where_all_false_means_unlabelled_such_records_are_left_out(tmp_path: Path) -> None:
    source = Clinic()
    source.all_false = {"af": "unlabelled"}
    dataset = open_dataset(build(tmp_path / "d", source).path, label_set="af")
    assert dataset.labels["AF"].all()
    assert len(dataset) + dataset.n_unlabelled == 40


def test_where_all_false_means_unlabelled_such_records_may_be_negatives_of_some_folds(tmp_path: Path) -> None:
    source = Clinic()
    source.all_false = {"af": "unlabelled"}
    path = build(tmp_path / "d", source).path
    number, fold = np.arange(40), source.records["fold"].to_numpy()
    positive, unknown = number % 4 == 0, number % 5 == 3
    negative = ~positive & ~unknown

    dropped = open_dataset(path, label_set="af")
    np.testing.assert_array_equal(dropped.unlabelled.rows, np.flatnonzero(negative))
    assert not dropped.unlabelled.labels.to_numpy().any()

    dataset = open_dataset(path, label_set="af", negative_in=(1, 2, 3))
    kept = (positive & ~unknown) | (negative & np.isin(fold, (1, 2, 3)))  # one that is unknown stays unknown
    np.testing.assert_array_equal(dataset.rows, np.flatnonzero(kept))
    np.testing.assert_array_equal(dataset.labels["AF"], positive[kept])
    np.testing.assert_array_equal(dataset.unlabelled.rows, np.flatnonzero(negative & ~kept))
    assert dataset.n_unlabelled == (~kept).sum()


def test_a_subset_has_the_records_in_the_order_that_was_asked_for(tmp_path: Path) -> None:
    dataset = open_dataset(build(tmp_path / "d").path)
    some = dataset.subset([5, 2])
    assert some.records["record_id"].tolist() == dataset.records["record_id"].iloc[[5, 2]].tolist()
    assert some.labels["AF"].tolist() == dataset.labels["AF"].iloc[[5, 2]].tolist()
    np.testing.assert_array_equal(some.signal(1), dataset.signal(2))


def test_a_lock_file_left_over_where_there_are_no_locks_is_named(tmp_path: Path) -> None:
    path = tmp_path / ".d.lock"
    # On a file system without locks filelock falls back on this class, for which the file alone counts.
    holder = SoftFileLock(path)
    with holder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("ecgkit.io.FileLock", SoftFileLock)
        with pytest.raises(EcgkitError, match=rf"remove {path}"), locked(path, "another process is at work"):
            pass
        messages: list[str] = []

        def wait(message: str) -> None:
            messages.append(message)
            holder.release()

        with locked(path, "waiting for another process", wait=wait):
            pass
    assert str(path) in messages[0]


@pytest.mark.parametrize("report", ["{}", "[]", '{"sums": "many"}', "[" * 10_000, '{"n_training": 1.5}'])
def test_a_damaged_report_of_an_interrupted_build_is_named(tmp_path: Path, report: str) -> None:
    (tmp_path / "chunks").mkdir()
    (tmp_path / "chunks" / "000003.json").write_text(report)
    with pytest.raises(EcgkitError, match=r"000003\.json.*remove"):
        read_report(tmp_path, 3)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build(tmp_path / "d").path

    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(contents, "file_sha256", refuse)
    with pytest.raises(EcgkitError, match=r"\.parquet.*Permission denied"):
        open_dataset(folder)
