"""A record has twelve leads in mV, and what is unknown of it is None."""

from __future__ import annotations

import numpy as np
import pytest

from ecgkit import ECG, EcgkitError

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
