from __future__ import annotations

import errno
import json
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest_ptbxl import tiny_signal
from filelock import FileLock
from numpy.typing import NDArray
from scipy import signal as scipy_signal

from ecgkit import datasets
from ecgkit.datasets import build_dataset, building, dataset_name, export_npz, open_dataset
from ecgkit.errors import EcgkitError, UnreadableRecordError
from ecgkit.signals.ecg import ECG, LEADS
from ecgkit.signals.filters import Filters
from ecgkit.sources.base import Source, record_table
from ecgkit.sources.ptbxl.source import PtbXl

TinyPtbXl = Callable[..., Path]
SAMPLES = 200
BANDPASS = Filters(bandpass=(0.5, 40.0))


class Invented(Source):
    """Records in mV made from their number; ``spoil`` changes or refuses some."""

    name, version, sampling_rates, sampling_rate, n_samples = "invented", "1", (100,), 100, SAMPLES
    all_false = dict.fromkeys(("letters", "none"), "unlabelled")

    def __init__(self, n_records: int = 40, *, spoil: Callable[[int, NDArray], NDArray] | None = None) -> None:
        ids = np.arange(100, 100 + n_records)
        self.records = record_table({"record_id": ids, "patient_id": ids, "fold": np.arange(n_records) % 10 + 1})
        common = pd.DataFrame({"A": ids % 2 == 0, "B": ids % 3 == 0, "RARE": ids == 103})
        self.labels = {"letters": common, "none": pd.DataFrame({"X": np.zeros(n_records, bool)})}
        self.spoil = spoil

    def read(self, record_id: str) -> ECG:
        signal = np.random.default_rng(int(record_id)).normal(0, 0.5, (12, SAMPLES))
        if self.spoil is not None:
            signal = self.spoil(int(record_id), signal)
        return ECG(signal.astype(np.float32), self.sampling_rate, record_id)

    def identity(self) -> dict[str, object]:
        return {"source": self.name, "n_records": len(self.records)}


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a small source have many chunks."""
    monkeypatch.setattr(building, "CHUNK_RECORDS", 6)


def quiet(source: Source, directory: Path, **keywords) -> datasets.Dataset:
    return build_dataset(source, directory, progress=False, **{"jobs": 1, **keywords})


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".") and path.suffix != ".lock"]


def test_a_store_holds_the_published_microvolts_and_nothing_else(tiny_ptbxl: TinyPtbXl, tmp_path: Path):
    source = PtbXl(tiny_ptbxl())
    dataset = quiet(source, tmp_path / "processed" / "ptbxl")
    assert dataset.signals.dtype == np.int16
    assert dataset.signals.shape == (40, 12, 1000)
    for row in (0, 17, 39):
        np.testing.assert_array_equal(dataset.signals[row], tiny_signal(row + 1, 100))
    np.testing.assert_allclose(dataset.signal(3), source.read("4").signal, atol=1e-6)
    assert dataset.signal(3).dtype == np.float32
    files = {path.relative_to(dataset.path).as_posix() for path in dataset.path.rglob("*") if path.is_file()}
    labels = {f"labels/{name}.parquet" for name in source.labels}
    assert files == {"signals.npy", ".signals.json", "records.parquet", "dataset.json"} | labels
    assert hidden(tmp_path / "processed") == []
    with pytest.raises(ValueError, match="read-only"):
        dataset.signals[0, 0, 0] = 1


def test_the_manifest_says_what_the_design_asks_for(tiny_ptbxl: TinyPtbXl, tmp_path: Path):
    dataset = quiet(PtbXl(tiny_ptbxl()), tmp_path / "filtered", filters=BANDPASS)
    manifest = json.loads((dataset.path / "dataset.json").read_text())
    assert manifest["source"]["name"] == "ptbxl"
    assert manifest["source"]["version"] == "unknown"
    assert manifest["sampling_rate"] == 100
    assert manifest["leads"] == list(LEADS)
    assert "microvolts" in manifest["units"]
    assert manifest["filters"]["bandpass"] == [0.5, 40.0]
    assert manifest["quarantined"] == {"count": 0, "records": []}
    assert manifest["labels"]["superclass"]["n_unlabelled"] == 8
    assert manifest["standardisation"]["folds"] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert len(manifest["fingerprint"]) == 64


@pytest.mark.usefixtures("small_chunks")
def test_statistics_are_exactly_those_of_folds_1_to_8(tmp_path: Path):
    dataset = quiet(Invented(50), tmp_path / "d")
    training = dataset.signals[dataset.folds(*range(1, 9))].astype(np.float64) / 1000
    training -= np.rint(1000 * training.mean(axis=2, keepdims=True)) / 1000
    np.testing.assert_allclose(dataset.mean, training.mean(axis=(0, 2)), atol=1e-9)
    np.testing.assert_allclose(dataset.std, training.std(axis=(0, 2)), rtol=1e-6)

    def spoil(record_id: int, signal: NDArray) -> NDArray:
        return signal * 20 if (record_id - 100) % 10 + 1 in (9, 10) else signal

    other = quiet(Invented(50, spoil=spoil), tmp_path / "other")
    np.testing.assert_array_equal(other.std, dataset.std)
    np.testing.assert_array_equal(other.mean, dataset.mean)


def test_filters_are_applied_as_scipy_would(tmp_path: Path, tiny_ptbxl: TinyPtbXl):
    source = PtbXl(tiny_ptbxl(5))
    dataset = quiet(source, tmp_path / "d", filters=BANDPASS)
    sections = scipy_signal.butter(3, (0.5, 40), btype="bandpass", fs=100, output="sos")
    expected = scipy_signal.sosfiltfilt(sections, source.read("3").signal.astype(float), padlen=200) * 1000
    assert np.abs(dataset.signals[2] - expected).max() <= 0.51


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_every_executor_makes_the_same_dataset(tmp_path: Path, tiny_ptbxl: TinyPtbXl, kind: str):
    source = PtbXl(tiny_ptbxl())
    alone = quiet(source, tmp_path / "alone")
    pools = {
        "threads": lambda: ThreadPoolExecutor(3),
        "processes": lambda: ProcessPoolExecutor(2, mp_context=get_context("spawn")),
    }
    with pools[kind]() as executor:
        other = quiet(source, tmp_path / kind, executor=executor)
        assert executor.submit(int, "7").result() == 7
    assert other.fingerprint == alone.fingerprint
    np.testing.assert_array_equal(other.signals, alone.signals)


@pytest.mark.usefixtures("small_chunks")
def test_the_default_pool_makes_the_same_dataset(tmp_path: Path, tiny_ptbxl: TinyPtbXl):
    source = PtbXl(tiny_ptbxl())
    assert quiet(source, tmp_path / "a", jobs=2).fingerprint == quiet(source, tmp_path / "b").fingerprint


def bad(record_id: int, signal: NDArray) -> NDArray:
    """Spoil some records, each in its way."""
    if record_id == 103:
        raise UnreadableRecordError("the checksum is wrong")
    if record_id == 104:
        signal[:] = np.nan
    if record_id == 105:
        signal = signal[:, :-1]
    if record_id == 106:
        signal[2, 50:60] = np.nan
        signal[2, :5] = np.nan
    if record_id == 107:
        signal[8] = 0.25
        signal[9] = np.nan
    if record_id == 108:
        signal[0, 0] = 40.0
        signal[1, 1] = -40.0
    if record_id == 109:
        raise OSError(errno.EIO, "Input/output error")
    return signal


@pytest.mark.usefixtures("small_chunks")
def test_bad_records_are_quarantined_repaired_or_flagged_and_counted(tmp_path: Path):
    dataset = quiet(Invented(30, spoil=bad), tmp_path / "d")
    reasons = {entry["record_id"]: entry["reason"] for entry in dataset.manifest["quarantined"]["records"]}
    assert set(reasons) == {"103", "104", "105", "109"}
    assert reasons["103"] == "the checksum is wrong"
    assert "no value" in reasons["104"]
    assert "(12, 199)" in reasons["105"]
    assert dataset.manifest["quarantined"]["count"] == 4
    assert len(dataset) == len(dataset.signals) == dataset.manifest["n_records"] == 26
    clean = Invented(30)
    for position, record_id in enumerate(dataset.records["record_id"]):
        if record_id not in ("106", "107", "108"):
            np.testing.assert_allclose(dataset.signal(position), clean.read(record_id).signal, atol=0.0006)

    records = dataset.records.set_index("record_id")
    assert records.loc["106", "nan_samples"] == 15
    assert records.loc["107", "nan_samples"] == SAMPLES
    assert records.loc["107", "flat_leads"] == "V3,V4"
    assert records["flat_leads"].notna().sum() == 1
    repaired = dataset.manifest["repaired"]
    assert (repaired["records_with_nan"], repaired["nan_samples"]) == (2, 15 + SAMPLES)
    assert (repaired["records_clipped"], repaired["clipped_samples"]) == (1, 2)


def test_other_units_are_quarantined_and_flat_records_are_kept_and_flagged(tmp_path: Path):
    factors = {103: 1e3, 104: 1e-3, 105: 0.0}

    def spoil(record_id: int, signal: NDArray) -> NDArray:
        return signal * factors.get(record_id, 1.0)

    dataset = quiet(Invented(30, spoil=spoil), tmp_path / "d")
    assert [entry["record_id"] for entry in dataset.manifest["quarantined"]["records"]] == ["103", "104"]
    flagged = dataset.records.set_index("record_id")["flat_leads"].dropna()
    assert list(flagged.index) == ["105"]
    assert flagged["105"].count(",") == 11
    assert len(quiet(Invented(30, spoil=spoil), tmp_path / "all", anyway=True)) == 30


def test_an_offset_has_no_influence_on_statistics_and_on_what_a_network_reads(tmp_path: Path):
    offsets = np.linspace(-20, 20, 12)[:, None]
    dataset = quiet(Invented(30), tmp_path / "d")
    moved = quiet(Invented(30, spoil=lambda _, signal: signal + offsets), tmp_path / "moved")
    assert np.abs(moved.signals - dataset.signals).max() > 15_000  # the offset is kept on the disk
    np.testing.assert_allclose(moved.std, dataset.std, rtol=1e-4)
    found, expected = (one.preparation().network_input(one.signals[:]) for one in (moved, dataset))
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_nan_is_interpolated_and_held_at_the_ends(tmp_path: Path):
    source = Invented(30, spoil=bad)
    dataset = quiet(source, tmp_path / "d")
    position = int(np.flatnonzero(dataset.records["record_id"] == "106")[0])
    lead, before = dataset.signal(position)[2], Invented(30).read("106").signal[2]
    np.testing.assert_allclose(lead[:5], before[5], atol=0.0006)
    np.testing.assert_allclose(lead[50:60], np.interp(np.arange(50, 60), [49, 60], before[[49, 60]]), atol=0.0006)
    assert (dataset.signal(position + 1)[9] == 0).all()
    assert dataset.signal(position + 2)[0, 0] == pytest.approx(32.767)
    assert dataset.signal(position + 2)[1, 1] == pytest.approx(-32.767)


def test_bad_records_do_not_spoil_a_filtered_store(tmp_path: Path):
    dataset = quiet(Invented(30, spoil=bad), tmp_path / "d", filters=BANDPASS)
    assert dataset.manifest["quarantined"]["count"] == 4
    assert not np.any(dataset.signals[:, 9, :] == -32768)


def test_damaged_files_are_quarantined(tmp_path: Path, tiny_ptbxl: TinyPtbXl):
    folder = tiny_ptbxl()
    records = folder / "records100" / "00000"
    (records / "00002_lr.dat").write_bytes(b"short")
    (records / "00003_lr.hea").write_text("nothing")
    spoiled = bytearray((records / "00004_lr.dat").read_bytes())
    spoiled[100] ^= 4
    (records / "00004_lr.dat").write_bytes(bytes(spoiled))
    reasons = {
        entry["record_id"]: entry["reason"]
        for entry in quiet(PtbXl(folder), tmp_path / "d").manifest["quarantined"]["records"]
    }
    assert set(reasons) == {"2", "3", "4"}
    assert "truncated" in reasons["2"]
    assert "checksum" in reasons["4"]


def test_only_a_source_without_a_readable_record_fails(tmp_path: Path):
    def spoil(record_id: int, signal: NDArray) -> NDArray:
        raise UnreadableRecordError(f"record {record_id} is gone {signal.shape}")

    with pytest.raises(EcgkitError, match=r"no record of invented can be read.*record 100 is gone"):
        quiet(Invented(20, spoil=spoil), tmp_path / "d")
    assert [path.name for path in tmp_path.iterdir()] == [".d.partial.lock"]


class Cut:
    """Counts the records that are read and raises at one of them."""

    def __init__(self, error: BaseException | None, at: int = 20) -> None:
        self.error, self.at, self.read = error, at, 0

    def __call__(self, record_id: int, signal: NDArray) -> NDArray:
        self.read += 1
        if self.error is not None and record_id == 100 + self.at:
            raise self.error
        return signal


@pytest.mark.usefixtures("small_chunks")
def test_an_interrupted_build_goes_on_where_it_stopped(tmp_path: Path):
    whole = quiet(Invented(40), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        quiet(Invented(40, spoil=Cut(KeyboardInterrupt())), tmp_path / "d")
    assert not (tmp_path / "d").exists()
    with pytest.raises(EcgkitError, match="not finished"):
        open_dataset(tmp_path / "d")
    rest = Cut(None)
    dataset = quiet(Invented(40, spoil=rest), tmp_path / "d")
    assert rest.read == 40 - 18
    assert dataset.fingerprint == whole.fingerprint
    assert hidden(tmp_path) == []


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("file", ["signals.npy", "chunks/000001.json"])
def test_a_finished_chunk_that_was_changed_is_written_again(tmp_path: Path, file: str):
    whole = quiet(Invented(40), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        quiet(Invented(40, spoil=Cut(KeyboardInterrupt())), tmp_path / "d")
    with (tmp_path / ".d.partial" / file).open("r+b") as changed:
        changed.seek(8 * 12 * SAMPLES * 2 if file == "signals.npy" else 0)  # in both cases of the second chunk
        changed.write(b"\x01\x02\x03\x04\x05\x06\x07")
    rest = Cut(None)
    dataset = quiet(Invented(40, spoil=rest), tmp_path / "d")
    assert rest.read == 40 - 12
    np.testing.assert_array_equal(dataset.signals, whole.signals)
    assert dataset.fingerprint == whole.fingerprint


@pytest.mark.usefixtures("small_chunks")
def test_a_build_cut_off_while_rows_are_removed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    expected = quiet(Invented(40, spoil=bad), tmp_path / "whole")

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(building, "make_manifest", cut)
        with pytest.raises(KeyboardInterrupt):
            quiet(Invented(40, spoil=bad), tmp_path / "d")
    dataset = quiet(Invented(40, spoil=bad), tmp_path / "d")
    assert dataset.fingerprint == expected.fingerprint
    np.testing.assert_array_equal(dataset.signals, expected.signals)


@pytest.mark.usefixtures("small_chunks")
def test_the_remains_of_another_request_are_discarded(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        quiet(Invented(40, spoil=Cut(KeyboardInterrupt())), tmp_path / "d")
    rest = Cut(None)
    dataset = quiet(Invented(40, spoil=rest), tmp_path / "d", filters=BANDPASS)
    assert rest.read == 40
    assert dataset.fingerprint == quiet(Invented(40), tmp_path / "e", filters=BANDPASS).fingerprint


@pytest.mark.usefixtures("small_chunks")
def test_a_full_disk_says_so_and_keeps_what_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(building, "_add_findings", fill)
        with pytest.raises(EcgkitError, match=r"no space left.*run again to resume") as caught:
            quiet(Invented(40), tmp_path / "d")
    assert "\n" not in str(caught.value)
    rest = Cut(None)
    quiet(Invented(40, spoil=rest), tmp_path / "d")
    assert rest.read == 0
    with monkeypatch.context() as patch:
        patch.setattr(building.shutil, "disk_usage", lambda _: type("usage", (), {"free": 1000}))
        with pytest.raises(EcgkitError, match="are needed in"):
            quiet(Invented(40), tmp_path / "e")


def test_a_write_that_meets_a_full_disk_ends_the_build_with_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fill(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(building, "write_chunk", fill)
    with pytest.raises(EcgkitError, match="no space left"):
        quiet(Invented(10), tmp_path / "d")


def test_a_worker_ends_when_its_parent_is_killed(tmp_path: Path):
    module = tmp_path / "killed.py"
    module.write_text(
        "import os, time\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from multiprocessing import get_context\n"
        "from ecgkit.processes import start_worker\n"
        "if __name__ == '__main__':\n"
        "    pool = ProcessPoolExecutor(1, mp_context=get_context('spawn'), initializer=start_worker)\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, str(module)], stdout=subprocess.PIPE, text=True, check=False, cwd=Path.cwd())
    worker = int(done.stdout)
    deadline = time.monotonic() + 20
    while _is_alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_alive(worker)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_an_identical_dataset_is_kept_and_another_is_not_replaced_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    first = quiet(Invented(20), tmp_path / "d")
    stamp = (first.path / "signals.npy").stat().st_mtime_ns
    build_dataset(Invented(20), tmp_path / "d")
    assert "nothing has changed" in capsys.readouterr().err
    assert (first.path / "signals.npy").stat().st_mtime_ns == stamp
    with pytest.raises(EcgkitError, match="holds another dataset"):
        quiet(Invented(21), tmp_path / "d")
    assert len(quiet(Invented(21), tmp_path / "d", overwrite=True)) == 21
    stamp = (first.path / "signals.npy").stat().st_mtime_ns
    quiet(Invented(21), tmp_path / "d", overwrite=True)
    assert (first.path / "signals.npy").stat().st_mtime_ns > stamp
    assert hidden(tmp_path) == []


def test_a_folder_that_is_no_dataset_is_never_replaced(tiny_ptbxl: TinyPtbXl):
    folder = tiny_ptbxl(3)
    with pytest.raises(EcgkitError, match="is not a processed dataset"):
        quiet(PtbXl(folder), folder, overwrite=True)
    assert (folder / "ptbxl_database.csv").exists()


@pytest.mark.usefixtures("small_chunks")
def test_a_source_that_cannot_be_sent_to_other_processes_says_so(tmp_path: Path):
    with pytest.raises(EcgkitError, match="pass jobs=1"):
        quiet(Invented(40, spoil=lambda _, signal: signal), tmp_path / "d", jobs=2)


def test_two_builds_of_one_dataset_do_not_meet(tmp_path: Path):
    pytest.importorskip("fcntl")
    with FileLock(tmp_path / ".d.partial.lock"), pytest.raises(EcgkitError, match="another process is building d"):
        quiet(Invented(20), tmp_path / "d")
    assert len(quiet(Invented(20), tmp_path / "d")) == 20


def test_progress_is_plain_lines_where_there_is_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    build_dataset(Invented(20), tmp_path / "d", progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 3
    assert "20/20" in lines[-2]
    assert lines[-1] == "d: 20 records"


def test_names_say_what_is_not_the_default(tiny_ptbxl: TinyPtbXl):
    folder = tiny_ptbxl(2, rates=(100, 500))
    assert dataset_name(PtbXl(folder)) == "ptbxl"
    assert dataset_name(PtbXl(folder, sampling_rate=500)) == "ptbxl_500hz"
    assert dataset_name(Invented(2), BANDPASS) == "invented_bandpass"
    filters = Filters(bandpass=(1, 30), notch=50)
    assert dataset_name(PtbXl(folder, sampling_rate=500), filters) == "ptbxl_500hz_bandpass1-30_notch50"


def test_filters_that_do_not_fit_are_refused_before_anything_is_made(tmp_path: Path):
    with pytest.raises(EcgkitError, match="Nyquist"):
        quiet(Invented(5), tmp_path / "d", filters=Filters(notch=50))
    assert [path.name for path in tmp_path.iterdir()] == []


def test_opening_with_a_label_set_leaves_out_and_counts_the_unlabelled(tmp_path: Path):
    quiet(Invented(40), tmp_path / "d")
    dataset = open_dataset(tmp_path / "d", label_set="letters")
    ids = np.arange(100, 140)
    labelled = (ids % 2 == 0) | (ids % 3 == 0) | (ids == 103)
    assert dataset.classes == ("A", "B", "RARE")
    assert repr(dataset) == f"<Dataset d: {len(dataset)} records of {SAMPLES} samples at 100 Hz, letters: A, B, RARE>"
    assert dataset.n_unlabelled == (~labelled).sum()
    assert dataset.n_unlabelled == dataset.manifest["labels"]["letters"]["n_unlabelled"]
    np.testing.assert_array_equal(dataset.records["record_id"], ids[labelled].astype(str))
    np.testing.assert_array_equal(dataset.rows, np.flatnonzero(labelled))
    np.testing.assert_allclose(dataset.signal(5), Invented().read(str(ids[labelled][5])).signal, atol=0.0006)
    for position in dataset.folds(9, 10):
        assert dataset.records.loc[position, "fold"] in (9, 10)

    rare = int(
        (labels_of_training := pd.read_parquet(tmp_path / "d" / "labels" / "letters.parquet"))["B"][
            pd.read_parquet(tmp_path / "d" / "records.parquet")["fold"] <= 8
        ].sum()
    )
    assert rare < labels_of_training["B"].sum()
    # The classes do not depend on folds 9 and 10, whichever folds are opened.
    for folds in (None, (9, 10), range(1, 10)):
        assert "B" in open_dataset(tmp_path / "d", label_set="letters", min_records=rare, folds=folds).classes
        assert "B" not in open_dataset(tmp_path / "d", label_set="letters", min_records=rare + 1, folds=folds).classes
    common = open_dataset(tmp_path / "d", label_set="letters", min_records=5)
    assert common.classes == ("A", "B")
    assert common.n_unlabelled == dataset.n_unlabelled + 1
    everything = open_dataset(tmp_path / "d")
    assert (len(everything), everything.classes, everything.n_unlabelled) == (40, (), 0)


def test_what_cannot_be_opened_gets_one_line(tmp_path: Path):
    quiet(Invented(20), tmp_path / "d")
    for call, named in (
        (lambda: open_dataset(tmp_path / "e"), "no dataset e in .*there are d"),
        (lambda: open_dataset(tmp_path / "d", label_set="superclass"), "choose one of letters, none"),
        (lambda: open_dataset(tmp_path / "d", label_set="none"), "no class of none"),
        (lambda: open_dataset(tmp_path / "d", label_set="letters", min_records=1000), "has 1000 records"),
    ):
        with pytest.raises(EcgkitError, match=named) as caught:
            call()
        assert "\n" not in str(caught.value)
    labels = tmp_path / "d" / "labels" / "letters.parquet"
    labels.write_bytes(labels.read_bytes()[:100])
    with pytest.raises(EcgkitError, match=r"letters\.parquet was changed"):
        open_dataset(tmp_path / "d", label_set="letters")
    (tmp_path / "d" / "dataset.json").write_text("{")
    with pytest.raises(EcgkitError, match="cannot be read"):
        open_dataset(tmp_path / "d")


def test_no_patient_may_be_in_two_parts_and_every_part_is_needed(tmp_path: Path):
    source = Invented(20)
    quiet(source, tmp_path / "good").check_splits()
    source.records["patient_id"] = np.where(source.records["fold"].isin([1, 2]), "1", source.records["patient_id"])
    quiet(source, tmp_path / "two_training_folds").check_splits()
    source.records["patient_id"] = np.where(source.records["fold"].isin([1, 10]), "1", source.records["patient_id"])
    with pytest.raises(EcgkitError, match=r"1 patients .* in two splits, the first is patient 1"):
        quiet(source, tmp_path / "leak").check_splits()
    source = Invented(20)
    source.records["fold"] = source.records["fold"].replace({9: 8})
    with pytest.raises(EcgkitError, match="no record in fold 9"):
        quiet(source, tmp_path / "hole").check_splits()


def test_a_dataset_without_training_folds_has_no_statistics(tmp_path: Path):
    source = Invented(20)
    source.records["fold"] = 10
    dataset = quiet(source, tmp_path / "d")
    assert np.isnan(dataset.mean).all()
    assert dataset.manifest["standardisation"]["mean"] is None


def test_a_dataset_travels_to_another_process_without_its_signals(tmp_path: Path):
    dataset = quiet(Invented(40), tmp_path / "d")
    data = pickle.dumps(dataset)
    assert len(data) < dataset.signals.nbytes / 4
    np.testing.assert_array_equal(pickle.loads(data).signals, dataset.signals)  # noqa: S301  # our own bytes


def test_the_npz_needs_no_pickles_and_says_its_units(tmp_path: Path):
    quiet(Invented(40), tmp_path / "d")
    dataset = open_dataset(tmp_path / "d", label_set="letters")
    path = export_npz(dataset, tmp_path / "out" / "letters")
    assert path.name == "letters.npz"
    assert [file.name for file in path.parent.iterdir()] == ["letters.npz"]
    with np.load(path, allow_pickle=False) as file:
        data = {name: file[name] for name in file.files}
    assert data["X"].shape == (len(dataset), SAMPLES, 12)
    assert data["X"].dtype == np.float32
    np.testing.assert_allclose(data["X"][4].T, dataset.signal(4), atol=1e-6)
    np.testing.assert_array_equal(data["y"], dataset.labels.to_numpy())
    assert tuple(data["classes"]) == dataset.classes
    assert str(data["units"]) == "mV"
    assert "mV" in str(data["about"])
    np.testing.assert_array_equal(data["record_id"], dataset.records["record_id"])
    assert set(data) >= {"patient_id", "fold", "age", "sex", "height", "weight", "device", "leads", "mean", "std"}
    with np.load(export_npz(dataset, path, standardised=True), allow_pickle=False) as file:
        expected = dataset.preparation().network_input(dataset.signals[dataset.rows[4]])
        np.testing.assert_array_equal(file["X"][4].T, expected)


@pytest.mark.real
@pytest.mark.filterwarnings("ignore:The inplace keyword")
def test_the_store_of_a_part_of_ptbxl_is_what_wfdb_reads(ptbxl_folder: Path, tmp_path: Path):
    import wfdb

    source = PtbXl(ptbxl_folder)
    keep = source.records.groupby("fold").head(30).index
    source.records = source.records.loc[keep].reset_index(drop=True)
    source.labels = {name: table.loc[keep].reset_index(drop=True) for name, table in source.labels.items()}
    dataset = quiet(source, tmp_path / "d")
    dataset.check_splits()
    for position in range(0, len(dataset), 37):
        record_id = int(dataset.records.loc[position, "record_id"])
        path = ptbxl_folder / f"records100/{record_id // 1000 * 1000:05d}/{record_id:05d}_lr"
        np.testing.assert_allclose(dataset.signal(position), wfdb.rdsamp(str(path))[0].T, atol=1e-6)
