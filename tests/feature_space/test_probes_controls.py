from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.probes.controls import demographics, exchange_patients, measurement_features
from ecgkit.feature_space.probes.targets import HEART_RATE, TARGETS

AGE, SEX, HEIGHT, _ = TARGETS
ROWS = np.arange(3)


def test_an_exchange_moves_whole_patients() -> None:
    patients = np.array([5, 3, 3, 9, 5, 9, 1])
    for order in exchange_patients(patients, 50, seed=0):
        givers = patients[order]
        for patient in np.unique(patients):
            assert len(set(givers[patients == patient])) == 1
        giver_of = {int(patient): int(givers[patients == patient][0]) for patient in np.unique(patients)}
        assert sorted(giver_of.values()) == [1, 3, 5, 9]
        for patient, giver in giver_of.items():
            theirs = np.flatnonzero(patients == giver)
            assert order[patients == patient].tolist() == np.resize(theirs, (patients == patient).sum()).tolist()


def test_an_exchange_is_as_likely_to_any_patient() -> None:
    givers = exchange_patients(np.arange(5), 4000, seed=1)[:, 0]
    assert np.bincount(givers) / 4000 == pytest.approx(np.full(5, 0.2), abs=0.03)


def test_age_and_sex_never_hold_the_target() -> None:
    records = pd.DataFrame({"age": [20.0, 40.0, np.nan, 500.0], "sex": ["male", "female", None, "female"]})
    both, name = demographics(records, HEIGHT, ROWS)
    assert name == "age and sex alone"
    np.testing.assert_allclose(both[:, 0], [-10, 10, 0, 0])  # 500 years are not believed, unknown is the median
    np.testing.assert_allclose(both[:, 1], [-0.5, 0.5, 0, 0.5])
    np.testing.assert_allclose(both[:, 2:], np.stack([both[:, 0] ** 2, both[:, 0] * both[:, 1]], axis=1))
    of_age, name = demographics(records, AGE, ROWS)
    assert (of_age.shape, name) == ((4, 1), "sex alone")
    of_sex, name = demographics(records, SEX, ROWS)
    assert (of_sex.shape, name) == ((4, 2), "age alone")
    assert demographics(records[["age"]], AGE, ROWS) is None


def test_unknown_measurements_are_the_median_of_the_training_records() -> None:
    records = pd.DataFrame(index=range(5))
    measurements = pd.DataFrame(
        {
            "heart_rate": [60, 70, 80, 90, np.nan],
            "r_V5": [1.0, np.nan, 3.0, 100.0, np.nan],
            "same": 2.0,
            "unknown": [np.nan, np.nan, np.nan, 1.0, 2.0],
        }
    )
    found, _ = measurement_features(measurements, records, HEIGHT, ROWS)
    np.testing.assert_allclose(found, np.array([[60, 70, 80, 90, 70], [1, 2, 3, 100, 2]]).T)
    without, name = measurement_features(measurements, records, HEART_RATE, ROWS)
    np.testing.assert_allclose(without, found[:, 1:])
    assert "without heart_rate" in name
    assert measurement_features(measurements[["heart_rate"]], records, HEART_RATE, ROWS) is None


def test_measurements_that_do_not_fit_are_refused() -> None:
    records = pd.DataFrame(index=range(5))
    with pytest.raises(EcgkitError, match="2 of 5"):
        measurement_features(pd.DataFrame({"a": [1.0, 2, 3]}), records, AGE, ROWS)


def test_the_axis_is_a_direction_and_not_a_number() -> None:
    records = pd.DataFrame(index=range(4))
    measurements = pd.DataFrame({"qrs_axis": [-179.0, 179.0, 0.0, 90.0]})
    found, _ = measurement_features(measurements, records, HEIGHT, np.arange(4))
    distances = np.linalg.norm(found[:, None] - found[None], axis=2)
    assert distances[0, 1] < 0.04  # two degrees apart, on a circle of radius 1
    assert distances[0, 2] == pytest.approx(2, abs=1e-3)
    assert distances[2, 3] == pytest.approx(2**0.5)
