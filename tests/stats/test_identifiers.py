"""Tests of identifiers: text everywhere, and results that do not depend on the type they were read in."""

import numpy as np
import pandas as pd
import pytest

from ecgkit.stats.identifiers import as_identifiers, patient_codes
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
