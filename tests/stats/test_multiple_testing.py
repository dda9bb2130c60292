"""Corrections for multiple testing agree with known examples and with their definitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ecgkit.errors import EcgkitError
from ecgkit.stats.multiple_testing import benjamini_hochberg, holm


def test_holm_on_a_known_example() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, np.nan, 0.9]), [1.0, np.nan, 1.0])
    assert holm([]).shape == (0,)


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_the_closed_test_of_bonferroni(seed: int) -> None:
    p_values = np.random.default_rng(seed).beta(0.3, 1.0, 6)
    subsets = [list(s) for size in range(1, 7) for s in itertools.combinations(range(6), size)]
    expected = [max(min(1.0, len(s) * p_values[s].min()) for s in subsets if i in s) for i in range(6)]
    np.testing.assert_allclose(holm(p_values), expected)


def test_holm_refuses_what_is_no_p_value() -> None:
    with pytest.raises(EcgkitError, match="outside 0 to 1"):
        holm([0.5, 1.5])


def test_p_values_are_adjusted_for_their_number_as_benjamini_and_hochberg_did() -> None:
    # The example of their paper (1995, section 4.1): 15 tests, of which 4 are found at 0.05.
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528]
    p += [0.7590, 1.0]
    assert (benjamini_hochberg(p) <= 0.05).sum() == 4
    with_unknown = benjamini_hochberg([np.nan, *p])
    assert np.isnan(with_unknown[0])
    np.testing.assert_allclose(with_unknown[1:], benjamini_hochberg(p))
    assert np.isnan(benjamini_hochberg([np.nan])).all()
