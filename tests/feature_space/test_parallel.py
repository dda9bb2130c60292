"""Mean beats and measurements of a dataset's records; the measurements are kept with the dataset."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import psutil
import pytest
from numpy.typing import NDArray

from ecgkit.datasets import Dataset, open_dataset
from ecgkit.feature_space import parallel
from ecgkit.feature_space.parallel import dataset_measurements, measure_records, record_beats
from ecgkit.sessions import Session
from ecgkit.signals.beats import beat_times, group_beats
from ecgkit.signals.ecg import LEADS
from ecgkit.signals.measurements import NAMES
from ecgkit.signals.rhythm import r_peaks
from ecgkit.training import TrainedSession

N = 60
TIMES = beat_times(100)


@pytest.fixture(scope="module")
def small(demo_dataset: Dataset) -> Dataset:
    """The first sixty records of the demo."""
    return replace(
        demo_dataset,
        records=demo_dataset.records.iloc[:N],
        labels=demo_dataset.labels.iloc[:N],
        rows=demo_dataset.rows[:N],
    )


@pytest.fixture(scope="module")
def computed(small: Dataset) -> NDArray[np.float32]:
    return record_beats(small, np.arange(len(small)))


def test_the_beat_of_a_record_is_what_its_r_peaks_show(small: Dataset, computed: NDArray[np.float32]) -> None:
    assert computed.shape == (N, 12, len(TIMES))
    assert computed.dtype == np.float32
    assert (TIMES[0], TIMES[-1]) == (-250, 440)
    zero = int(np.flatnonzero(TIMES == 0)[0])
    names = small.records["scp_codes"].to_numpy()
    for position in [i for i in range(N) if '"NORM"' in names[i]][:10]:
        signal = small.signal(position)
        peaks = r_peaks(signal, sampling_rate=100)
        size = np.abs(computed[position]).sum(axis=0)
        assert abs(int(size.argmax()) - zero) <= 3
        heights = signal[:, peaks[1:-1]] - np.median(signal, axis=1)[:, None]
        # The heights at the R peaks are the same within a few hundredths of a mV of wander and noise.
        assert np.corrcoef(np.median(heights, axis=1), computed[position, :, zero])[0, 1] > 0.98


def test_leads_keep_einthovens_law_in_the_mean(computed: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(computed[:, 0] + computed[:, 2], computed[:, 1], atol=0.004)


def test_positions_choose_rows(small: Dataset, computed: NDArray[np.float32]) -> None:
    np.testing.assert_array_equal(record_beats(small, [7, 2]), computed[[7, 2]])
    assert record_beats(small, []).shape == (0, 12, len(TIMES))
    table = measure_records(small, [5, 3, 8])
    assert list(table.columns) == list(NAMES)
    assert list(table.index) == [5, 3, 8]
    assert (table.dtypes == np.float64).all()
    assert measure_records(small, []).shape == (0, table.shape[1])


@pytest.mark.slow
def test_two_processes_give_the_same_numbers_and_end(
    small: Dataset, computed: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "BLOCK", 2)
    before = set(psutil.Process().children(recursive=True))
    np.testing.assert_array_equal(record_beats(small, [7, 2, 4], jobs=2), computed[[7, 2, 4]])
    pd.testing.assert_frame_equal(
        measure_records(small, [5, 3, 8], jobs=2), measure_records(small, [5, 3, 8]), check_exact=True
    )
    # One that waited for more work would print a traceback at the next Ctrl-C.
    left = [" ".join(process.cmdline()) for process in set(psutil.Process().children(recursive=True)) - before]
    assert [line for line in left if "resource_tracker" not in line] == []


def test_classes_differ_from_norm_as_the_textbook_says(small: Dataset, computed: NDArray[np.float32]) -> None:
    groups = {name: np.flatnonzero(small.labels[name]) for name in small.labels}
    found = group_beats(computed, groups, small.records["patient_id"], times=TIMES, reference="NORM")
    assert found.groups == ("NORM", "MI", "STTC", "CD", "HYP")
    assert found.n_records == tuple(small.labels.sum())
    assert found.difference is not None
    v5 = LEADS.index("V5")
    near_r, near_t = np.abs(TIMES) <= 20, (TIMES > 200) & (TIMES < 300)
    assert found.difference[4, v5, near_r].max() > 0.2
    assert found.difference[2, v5, near_t].mean() < -0.05


def test_the_diseases_of_the_demo_show_in_the_measurements(demo_dataset: Dataset) -> None:
    table = measure_records(demo_dataset, np.arange(len(demo_dataset)))
    codes = demo_dataset.records["scp_codes"]
    blocked, healthy, large = (codes.str.contains(f'"{code}"').to_numpy() for code in ("C[LR]BBB", "NORM", "LVH"))
    assert table.loc[blocked, "qrs_duration"].median() > 120 > table.loc[healthy, "qrs_duration"].median() + 10
    assert table.loc[large, "sokolow_lyon"].median() > 1.3 * table.loc[healthy, "sokolow_lyon"].median()
    rates = {code: table.loc[codes.str.contains(f'"{code}"').to_numpy(), "heart_rate"] for code in ("SBRAD", "STACH")}
    assert rates["SBRAD"].max() < 62
    assert rates["STACH"].min() > 98


def test_measurements_are_kept_with_the_dataset(trained_session: TrainedSession) -> None:
    dataset = trained_session.dataset
    first = dataset_measurements(dataset)
    assert len(first) == len(dataset)
    stored = dataset.path / "cache" / "measurements.parquet"
    stamp = stored.stat().st_mtime_ns
    pd.testing.assert_frame_equal(dataset_measurements(dataset), first)
    assert stored.stat().st_mtime_ns == stamp
    Session(stored.parent).write_json("measurements.json", {"version": 1, "dataset_fingerprint": "another"})
    pd.testing.assert_frame_equal(dataset_measurements(dataset), first)
    assert stored.stat().st_mtime_ns != stamp


def test_another_label_set_measures_only_what_it_adds(
    trained_session: TrainedSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = trained_session.dataset
    first = dataset_measurements(dataset)
    everything = open_dataset(dataset.path)
    measured: list[str] = []

    def spy(of: Dataset, positions: np.ndarray, *, jobs: int) -> pd.DataFrame:
        del jobs
        measured.extend(of.records["record_id"].iloc[positions])
        return measure_records(of, positions)

    monkeypatch.setattr(parallel, "measure_records", spy)
    whole = dataset_measurements(everything).set_index(everything.records["record_id"])
    assert measured
    assert set(measured) == set(everything.records["record_id"]) - set(dataset.records["record_id"])
    pd.testing.assert_frame_equal(whole.loc[dataset.records["record_id"]].reset_index(drop=True), first)
    measured.clear()
    dataset_measurements(dataset)
    assert measured == []
