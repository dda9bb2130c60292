"""Mean beats are means over patients, with a spread over records and differences that a planted signal shows in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from ecgkit.datasets.store import Dataset
from ecgkit.errors import EcgkitError
from ecgkit.feature_space.beats import MeanBeats, beat_times, class_beats, group_beats, record_beats
from ecgkit.signals.ecg import LEADS
from ecgkit.signals.rhythm import r_peaks

N = 60
TIMES = beat_times(100)
V2, III = LEADS.index("V2"), LEADS.index("III")


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
    return record_beats(small)


def made_beats(amplitude: NDArray[np.floating]) -> NDArray[np.float32]:
    """Beats that are a number of mV throughout, one for each record."""
    return np.broadcast_to(amplitude[:, None, None], (len(amplitude), 12, len(TIMES))).astype(np.float32)


def with_patients(dataset: Dataset, patients: NDArray[np.integer]) -> Dataset:
    return replace(dataset, records=dataset.records.assign(patient_id=patients))


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
        # The leads' heights at the R peaks come back but for a few hundredths of a mV of wander and noise.
        assert np.corrcoef(np.median(heights, axis=1), computed[position, :, zero])[0, 1] > 0.98


def test_leads_keep_einthovens_law_in_the_mean(computed: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(computed[:, 0] + computed[:, 2], computed[:, 1], atol=0.004)


def test_positions_choose_rows(small: Dataset, computed: NDArray[np.float32]) -> None:
    np.testing.assert_array_equal(record_beats(small, [7, 2]), computed[[7, 2]])
    assert record_beats(small, []).shape == (0, 12, len(TIMES))


@pytest.mark.slow
def test_two_processes_give_the_same_beats(small: Dataset, computed: NDArray[np.float32]) -> None:
    np.testing.assert_array_equal(record_beats(small, [7, 2, 4], jobs=2), computed[[7, 2, 4]])


def test_each_patient_counts_once(small: Dataset) -> None:
    dataset = with_patients(small, np.array([1, 1, 1, 2] + [3] * (N - 4)))
    beats = made_beats(np.array([1.0, 1.0, 1.0, 3.0] + [0.0] * (N - 4)))
    found = group_beats(dataset, {"both": [0, 1, 2, 3]}, of_records=beats)
    np.testing.assert_allclose(found.mean, 2.0, rtol=1e-6)
    assert (found.n_records, found.n_patients) == ((4,), (2,))
    assert found.reference is None
    assert found.difference is None


def test_the_spread_holds_ten_to_ninety_percent_of_the_records(small: Dataset) -> None:
    amplitude = np.arange(N, dtype=float)
    found = group_beats(small, {"all": np.arange(N)}, of_records=made_beats(amplitude))
    np.testing.assert_allclose(found.low[0], np.percentile(amplitude, 10), rtol=1e-5)
    np.testing.assert_allclose(found.high[0], np.percentile(amplitude, 90), rtol=1e-5)


def compared(small: Dataset, shift: float, seed: int) -> MeanBeats:
    rng = np.random.default_rng(seed)
    beats = made_beats(rng.normal(0, 0.1, N) + shift * (np.arange(N) >= N // 2))
    dataset = with_patients(small, np.arange(N))
    groups = {"low": np.arange(N // 2), "high": np.arange(N // 2, N)}
    return group_beats(dataset, groups, reference="low", of_records=beats, seed=seed)


def test_a_planted_difference_is_found(small: Dataset) -> None:
    found = compared(small, 0.3, 0)
    assert found.reference == "low"
    assert found.difference is not None
    assert found.difference_low is not None
    assert found.difference_high is not None
    np.testing.assert_allclose(found.difference[0], 0.0, atol=1e-7)
    assert 0.2 < found.difference[1, V2, 0] < 0.4
    assert found.difference_low[1].min() > 0.2
    # The interval is as wide as the standard error of a difference of two means of thirty, twice on each side.
    width = float(found.difference_high[1, V2, 0] - found.difference_low[1, V2, 0])
    assert width == pytest.approx(2 * 1.96 * 0.1 * np.sqrt(2 / 30), rel=0.35)


def test_an_absent_difference_is_within_its_interval_nineteen_times_in_twenty(small: Dataset) -> None:
    covered = 0
    for seed in range(40):
        found = compared(small, 0.0, seed)
        assert found.difference_low is not None
        assert found.difference_high is not None
        covered += bool(found.difference_low[1, V2, 0] <= 0 <= found.difference_high[1, V2, 0])
    assert covered >= 33


def test_a_patient_in_both_groups_is_drawn_for_both(small: Dataset) -> None:
    # Every patient has one record in each group, 0.2 mV apart: the difference does not depend on who is drawn.
    own = np.random.default_rng(0).normal(0, 1, N // 2)
    beats = made_beats(np.concatenate((own, own + 0.2)))
    dataset = with_patients(small, np.tile(np.arange(N // 2), 2))
    groups = {"before": np.arange(N // 2), "after": np.arange(N // 2, N)}
    found = group_beats(dataset, groups, reference="before", of_records=beats)
    assert found.difference_low is not None
    assert found.difference_high is not None
    np.testing.assert_allclose(found.difference_low[1], 0.2, atol=1e-4)
    np.testing.assert_allclose(found.difference_high[1], 0.2, atol=1e-4)


def test_a_record_without_a_beat_or_a_lead_does_not_count(small: Dataset) -> None:
    beats = made_beats(np.arange(N, dtype=float))
    beats[0] = np.nan
    beats[1, III] = np.nan
    found = group_beats(with_patients(small, np.arange(N)), {"some": [0, 1, 2]}, of_records=beats)
    assert found.n_records == (2,)
    np.testing.assert_allclose(found.mean[0, III], 2.0)
    np.testing.assert_allclose(found.mean[0, V2], 1.5)


def test_a_group_without_a_beat_is_left_out_and_named(small: Dataset) -> None:
    beats = made_beats(np.arange(N, dtype=float))
    beats[0] = np.nan
    groups = {"empty": [0], "some": [1, 2], "none": []}
    found = group_beats(small, groups, reference="some", of_records=beats)
    assert (found.groups, found.left_out, found.reference) == (("some",), ("empty", "none"), "some")
    assert found.difference is not None
    without = group_beats(small, groups, reference="empty", of_records=beats)
    assert (without.groups, without.reference, without.difference) == (("some",), None, None)
    with pytest.raises(EcgkitError, match="no record with a beat in empty, none: give groups of other records"):
        group_beats(small, {"empty": [0], "none": []}, of_records=beats)


def test_classes_differ_from_norm_as_the_textbook_says(small: Dataset, computed: NDArray[np.float32]) -> None:
    found = class_beats(small, of_records=computed)
    assert found.groups == ("NORM", "MI", "STTC", "CD", "HYP")
    assert found.n_records == tuple(small.labels.sum())
    assert found.difference is not None
    v5 = LEADS.index("V5")
    near_r, near_t = np.abs(TIMES) <= 20, (TIMES > 200) & (TIMES < 300)
    assert found.difference[4, v5, near_r].max() > 0.2
    assert found.difference[2, v5, near_t].mean() < -0.05


def test_a_class_needs_a_record_and_the_labels_those_of_the_dataset(
    small: Dataset, computed: NDArray[np.float32]
) -> None:
    labels = pd.DataFrame({"NORM": np.arange(N) < 5, "RARE": np.arange(N) == N - 1, "NONE": False})
    found = class_beats(small, labels, np.arange(N // 2), of_records=computed)
    assert (found.groups, found.n_records, found.left_out) == (("NORM",), (5,), ("RARE", "NONE"))
    other = class_beats(small, labels.rename(columns={"NORM": "SR"}), of_records=computed)
    assert (other.groups, other.reference, other.difference) == (("SR", "RARE"), None, None)
    without_norm = class_beats(small, labels, [N - 1], of_records=computed)
    assert (without_norm.groups, without_norm.reference) == (("RARE",), None)
    with pytest.raises(EcgkitError, match="labels of 5 records for a dataset of 60: give one row a record"):
        class_beats(small, labels.iloc[:5])
    with pytest.raises(EcgkitError, match="unknown reference 'MI': choose one of NORM, RARE, NONE"):
        class_beats(small, labels, reference="MI")


def test_few_records_are_drawn_by_the_seed(small: Dataset) -> None:
    beats = made_beats(np.arange(N, dtype=float))
    found = [group_beats(small, {"all": range(N)}, of_records=beats, max_records=10, seed=seed) for seed in (0, 0, 1)]
    assert [result.n_records for result in found] == [(10,)] * 3
    np.testing.assert_array_equal(found[0].mean, found[1].mean)
    assert not np.array_equal(found[0].mean, found[2].mean)


def test_bad_input_is_refused_in_one_line(small: Dataset) -> None:
    with pytest.raises(EcgkitError, match="there is no group of records to average"):
        group_beats(small, {})
    with pytest.raises(EcgkitError, match=r"beats of shape \(3, 12, 139\), not \(60, 12, 139\): give what"):
        group_beats(small, {"all": [0]}, of_records=np.zeros((3, 12, 139), np.float32))
    with pytest.raises(EcgkitError, match="jobs is -1"):
        record_beats(small, jobs=-1)
