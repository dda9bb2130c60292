from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.probes.targets import BMI, TARGETS, Target, all_targets, join_targets

AGE, SEX, HEIGHT, WEIGHT = TARGETS


def test_bins_begin_at_their_lower_edge() -> None:
    assert AGE.classes == ("under 30", "30-39", "40-49", "50-59", "60-69", "70-79", "80 and over")
    assert AGE.bin(np.array([2.0, 29.9, 30.0, 79.0, 80.0, 90.0])).tolist() == [0, 0, 1, 5, 6, 6]
    assert HEIGHT.classes[0] == "under 150"
    assert len(WEIGHT.classes) == len(WEIGHT.edges) + 1
    assert BMI.classes[:3] == ("under 18.5", "18.5 to under 25", "25 to under 30")
    assert BMI.bin(np.array([18.4, 18.5, 24.9, 25.0])).tolist() == [0, 1, 1, 2]


def test_body_mass_index_needs_a_plausible_height_and_weight() -> None:
    table = join_targets(pd.DataFrame({"height": [180.0, 6.0, np.nan, 170.0], "weight": [81.0, 70.0, 70.0, 0.0]}))
    np.testing.assert_allclose(table["bmi"], [25.0, np.nan, np.nan, np.nan])


def test_classes_and_heart_rate_are_joined_by_the_index() -> None:
    records = pd.DataFrame({"fold": [1, 2, 10], "age": 50.0}, index=[4, 7, 9])
    labels = pd.DataFrame({"MI": [True, False, True, False]}, index=[9, 7, 4, 2])
    measurements = pd.DataFrame({"heart_rate": [90.0, 70.0, 40.0], "qt": 1.0}, index=[9, 7, 4])
    table = join_targets(records, labels, measurements)
    assert table["MI"].tolist() == ["with MI", "without MI", "with MI"]
    assert table["heart_rate"].tolist() == [40, 70, 90]
    assert "qt" not in table
    assert [target.name for target in all_targets(table, ("MI",))] == ["age", "heart_rate", "MI"]
    np.testing.assert_array_equal(all_targets(table, ("MI",))[-1].raw_values(table), [1, 0, 1])
    with pytest.raises(EcgkitError, match="1 of 3"):
        join_targets(records, labels[1:])
    with pytest.raises(EcgkitError, match="age"):
        join_targets(records, labels.rename(columns={"MI": "age"}))


def test_devices_are_those_with_enough_records_of_folds_1_to_8() -> None:
    device = ["A"] * 120 + ["B"] * 100 + ["C"] * 99 + ["D"] * 300
    records = pd.DataFrame({"device": device, "fold": [1] * 319 + [10] * 300})
    (target,) = all_targets(records)
    assert (target.categories, target.kind, target.partial) == (("A", "B"), "binary", True)
    assert np.isnan(target.raw_values(records)[220:319]).all()  # C is too rare
    assert all_targets(records[:120]) == ()


def test_devices_that_are_numbers_are_found_again() -> None:
    numbers = pd.DataFrame({"device": [3] * 120 + [12] * 100, "fold": 1})
    for column in (numbers["device"], numbers["device"].astype(float), numbers["device"].astype("Int64")):
        records = numbers.assign(device=column)
        if column.dtype != np.int64:
            records.loc[0, "device"] = None
        (target,) = all_targets(records)
        assert target.categories == ("12", "3")
        np.testing.assert_array_equal(target.raw_values(records)[1:], [1] * 119 + [0] * 100)


def test_what_is_not_plausible_is_not_known() -> None:
    records = pd.DataFrame({"height": [180.0, 6.0, np.nan]})
    np.testing.assert_array_equal(HEIGHT.raw_values(records), [180, 6, np.nan])
    np.testing.assert_array_equal(HEIGHT.values(records), [180, np.nan, np.nan])


def test_another_category_is_unknown_to_a_partial_target_and_an_error_to_others() -> None:
    target = Target("device", categories=("A", "B", "C"), partial=True)
    values = target.raw_values(pd.DataFrame({"device": ["C", None, "Z", "A"]}))
    np.testing.assert_array_equal(values, [2, np.nan, np.nan, 0])
    assert (target.kind, target.main_metric, target.classes) == ("multiclass", "auc", ("A", "B", "C"))
    with pytest.raises(EcgkitError, match="'Z'"):
        replace(target, partial=False).raw_values(pd.DataFrame({"device": ["Z"]}))
