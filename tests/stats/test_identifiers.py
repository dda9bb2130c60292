"""Tests of identifiers: text everywhere, and results that do not depend on the type they were read in."""

import numpy as np
import pandas as pd
import pytest

from ecgkit.stats.folds import assign_folds, patients_in_two_parts
from ecgkit.stats.identifiers import alike_patients, as_identifiers, patient_codes, patient_keys
from ecgkit.stats.resampling import patient_weights

NUMBERS = np.random.default_rng(0).integers(1, 25_000, 500)


def test_numbers_and_text_become_the_same_identifiers():
    assert as_identifiers([9, 10]).tolist() == ["9", "10"]
    assert as_identifiers([9.0, 10.0]).tolist() == ["9", "10"]
    assert as_identifiers([" 9", "HR00009", "1.50"]).tolist() == ["9", "HR00009", "1.50"]
    assert as_identifiers([9.0, np.nan]).isna().tolist() == [False, True]


@pytest.mark.parametrize("kind", ["int64", "float64", "string", "object"])
def test_the_order_of_patients_is_numerical_whatever_the_type(kind: str):
    expected = np.unique(NUMBERS, return_inverse=True)[1]
    ids = pd.Series(NUMBERS).astype("string").astype(object) if kind == "object" else pd.Series(NUMBERS).astype(kind)
    np.testing.assert_array_equal(patient_codes(ids), expected)
    np.testing.assert_array_equal(patient_weights(ids, resamples=3), patient_weights(NUMBERS, resamples=3))


def test_other_identifiers_are_numbered_without_gaps():
    codes = patient_codes(["p10", "p2", "p10", "a"])
    assert codes.tolist() == [2, 1, 2, 0]


ALIKE = (("007", "7"), ("P 12", "p12"), ("HR00009", "hr9"), ("00", "0"))
APART = (("1.05", "1.5"), ("p1", "p10"), ("12", "21"), ("a-1", "a1"), ("100", "10"))


@pytest.mark.parametrize(("first", "second"), ALIKE)
def test_identifiers_that_differ_in_zeros_blanks_or_case_are_one_patient_for_the_splits(first: str, second: str):
    others = [f"x{number}" for number in range(20)]
    assert alike_patients([first, *others, second, first]) == [(first, second)]
    labels = pd.DataFrame({"AF": [True, *[False] * 20, True]})
    for seed in range(10):
        folds = assign_folds([first, *others, second], labels, seed=seed)
        assert folds[0] == folds[-1]
    codes = patient_codes([first, *others, second])
    assert codes[0] == codes[-1]
    assert sorted(set(codes)) == list(range(21))
    shared = patients_in_two_parts(pd.DataFrame({"patient_id": [first, second, "b"], "fold": [8, 10, 9]}))
    assert sorted(shared) == sorted((first, second))


@pytest.mark.parametrize(("first", "second"), APART)
def test_other_identifiers_are_two_patients(first: str, second: str):
    assert patient_keys([first, second]).nunique() == 2
    assert alike_patients([first, second, first]) == []


def test_a_missing_identifier_has_no_key_and_no_twin():
    assert patient_keys(["7", None, pd.NA]).isna().tolist() == [False, True, True]
    assert alike_patients(["7", None, pd.NA]) == []
