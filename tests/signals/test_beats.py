"""Mean beats are means over patients, with a spread over records and differences that show a planted signal."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from ecgkit.errors import EcgkitError
from ecgkit.signals.beats import MeanBeats, beat_times, group_beats
from ecgkit.signals.ecg import LEADS

N = 60
TIMES = beat_times(100)
V2, III = LEADS.index("V2"), LEADS.index("III")


def made_beats(amplitude: ArrayLike) -> NDArray[np.float32]:
    """Beats that are a number of mV throughout, one per record."""
    heights = np.asarray(amplitude, dtype=np.float64)
    return np.broadcast_to(heights[:, None, None], (len(heights), 12, len(TIMES))).astype(np.float32)


def test_each_patient_counts_once() -> None:
    patients = [1, 1, 1, 2] + [3] * (N - 4)
    beats = made_beats([1.0, 1.0, 1.0, 3.0] + [0.0] * (N - 4))
    found = group_beats(beats, {"both": [0, 1, 2, 3]}, patients, times=TIMES)
    np.testing.assert_allclose(found.mean, 2.0, rtol=1e-6)
    assert (found.n_records, found.n_patients) == ((4,), (2,))
    assert found.reference is None
    assert found.difference is None


def test_the_spread_holds_ten_to_ninety_percent_of_the_records() -> None:
    amplitude = np.arange(N, dtype=float)
    found = group_beats(made_beats(amplitude), {"all": np.arange(N)}, np.arange(N), times=TIMES)
    np.testing.assert_allclose(found.low[0], np.percentile(amplitude, 10), rtol=1e-5)
    np.testing.assert_allclose(found.high[0], np.percentile(amplitude, 90), rtol=1e-5)


def compared(shift: float, seed: int) -> MeanBeats:
    rng = np.random.default_rng(seed)
    beats = made_beats(rng.normal(0, 0.1, N) + shift * (np.arange(N) >= N // 2))
    groups = {"low": np.arange(N // 2), "high": np.arange(N // 2, N)}
    return group_beats(beats, groups, np.arange(N), times=TIMES, reference="low", seed=seed)


def test_a_planted_difference_is_found() -> None:
    found = compared(0.3, 0)
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


def test_an_absent_difference_is_within_its_interval_nineteen_times_in_twenty() -> None:
    covered = 0
    for seed in range(40):
        found = compared(0.0, seed)
        assert found.difference_low is not None
        assert found.difference_high is not None
        covered += bool(found.difference_low[1, V2, 0] <= 0 <= found.difference_high[1, V2, 0])
    assert covered >= 33


def test_a_patient_in_both_groups_is_drawn_for_both() -> None:
    # Every patient has one record in each group, 0.2 mV apart: the difference does not depend on who is drawn.
    own = np.random.default_rng(0).normal(0, 1, N // 2)
    beats = made_beats(np.concatenate((own, own + 0.2)))
    patients = np.tile(np.arange(N // 2), 2)
    groups = {"before": np.arange(N // 2), "after": np.arange(N // 2, N)}
    found = group_beats(beats, groups, patients, times=TIMES, reference="before")
    assert found.difference_low is not None
    assert found.difference_high is not None
    np.testing.assert_allclose(found.difference_low[1], 0.2, atol=1e-4)
    np.testing.assert_allclose(found.difference_high[1], 0.2, atol=1e-4)


def test_a_record_without_a_beat_or_a_lead_does_not_count() -> None:
    beats = made_beats(np.arange(N, dtype=float))
    beats[0] = np.nan
    beats[1, III] = np.nan
    found = group_beats(beats, {"some": [0, 1, 2]}, np.arange(N), times=TIMES)
    assert found.n_records == (2,)
    np.testing.assert_allclose(found.mean[0, III], 2.0)
    np.testing.assert_allclose(found.mean[0, V2], 1.5)


def test_a_group_without_a_beat_is_left_out_and_named() -> None:
    beats = made_beats(np.arange(N, dtype=float))
    beats[0] = np.nan
    groups = {"empty": [0], "some": [1, 2], "none": []}
    found = group_beats(beats, groups, np.arange(N), times=TIMES, reference="some")
    assert (found.groups, found.left_out, found.reference) == (("some",), ("empty", "none"), "some")
    assert found.difference is not None
    without = group_beats(beats, groups, np.arange(N), times=TIMES, reference="empty")
    assert (without.groups, without.reference, without.difference) == (("some",), None, None)
    with pytest.raises(EcgkitError, match="empty, none"):
        group_beats(beats, {"empty": [0], "none": []}, np.arange(N), times=TIMES)


def test_a_missing_group_or_reference_is_refused() -> None:
    beats = made_beats(np.ones(N))
    with pytest.raises(EcgkitError, match="none"):
        group_beats(beats, {}, np.arange(N), times=TIMES)
    with pytest.raises(EcgkitError, match="MI"):
        group_beats(beats, {"NORM": [0]}, np.arange(N), times=TIMES, reference="MI")
