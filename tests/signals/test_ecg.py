"""A record has twelve leads in mV, and what is unknown of it is None."""

from __future__ import annotations

import numpy as np
import pytest

from ecgkit import ECG, LEADS, EcgkitError
from ecgkit.signals.ecg import sort_leads

SIGNAL = np.arange(24, dtype=np.float32).reshape(12, 2)


def test_unknown_is_none() -> None:
    ecg = ECG(SIGNAL, 500)
    assert (ecg.record_id, ecg.age, ecg.sex, ecg.metadata, tuple(ecg.findings)) == ("", None, None, {}, ())
    assert ecg.missing_leads == ()
    assert (ecg.n_samples, ecg.duration) == (2, 0.004)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"signal": SIGNAL.T}, r"\(2, 12\)"),
        ({"signal": SIGNAL * np.nan}, "no value"),
        ({"sampling_rate": 0}, "sampling_rate is 0"),
        ({"sampling_rate": np.inf}, "sampling_rate is inf"),
        ({"sampling_rate": np.nan}, "sampling_rate is nan"),
        ({"age": 300}, "age is 300"),
        ({"age": -1}, "age is -1"),
        ({"age": np.nan}, "age is nan"),
        ({"sex": "M"}, "'M'"),
    ],
)
def test_what_cannot_be_is_refused(keywords: dict[str, object], message: str) -> None:
    with pytest.raises(EcgkitError, match=message):
        ECG(**({"signal": SIGNAL, "sampling_rate": 500} | keywords))


def test_leads_are_sorted_and_an_absent_one_is_nan() -> None:
    order = [*range(11, -1, -1)]
    names = [LEADS[row].upper() for row in order]
    np.testing.assert_array_equal(sort_leads(SIGNAL[order], names), SIGNAL)
    assert sort_leads(SIGNAL, LEADS) is SIGNAL
    two = sort_leads(SIGNAL[[1, 0]].astype(np.int16), ["II", "I"])
    np.testing.assert_array_equal(two[:2], SIGNAL[:2])
    assert ECG(two, 500).missing_leads == LEADS[2:]
    np.testing.assert_array_equal(sort_leads(SIGNAL[[0, 1, 2]], ["vx", "ii", "I"])[0], SIGNAL[2])


@pytest.mark.parametrize("names", [["I", "i"], ["X", "Y"]])
def test_leads_that_occur_twice_or_not_at_all_are_refused(names: list[str]) -> None:
    with pytest.raises(EcgkitError, match="I"):
        sort_leads(SIGNAL[:2], names)
