"""What is written is read again, by ecgkit and by others."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from ecg_formats import made_ecg

from ecgkit.errors import EcgkitError
from ecgkit.readers import open_ecg, save_ecg
from ecgkit.signals.ecg import ECG, LEADS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # wfdb 4.3 does what pandas 3.1 has deprecated, on import
    import wfdb

SIGNAL = (made_ecg() + 0.0012).astype(np.float32)
WHOLE = ECG(SIGNAL, 250.0, "one", 61.0, "female")
GAPS = SIGNAL.copy()
GAPS[2, 100:120] = np.nan
GAPS[9] = np.nan
WITH_GAPS = ECG(GAPS, 512.5, "two")


@pytest.mark.parametrize(("suffix", "error"), [(".csv", 0), (".npz", 0), (".hea", 5.1e-4), (".edf", 5.1e-4)])
def test_an_ecg_is_read_as_it_was_written(tmp_path: Path, suffix: str, error: float):
    ecg = open_ecg(save_ecg(WHOLE, tmp_path / "new" / f"one{suffix}"))
    np.testing.assert_allclose(ecg.signal, SIGNAL, rtol=0, atol=error)
    assert (ecg.sampling_rate, ecg.record_id, ecg.sex) == (250, "one", "female")
    assert ecg.findings == ()


@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_the_age_is_kept(tmp_path: Path, suffix: str):
    assert open_ecg(save_ecg(WHOLE, tmp_path / f"one{suffix}")).age == 61


@pytest.mark.parametrize("suffix", [".csv", ".npz", ".hea"])
def test_gaps_and_missing_leads_are_kept(tmp_path: Path, suffix: str):
    ecg = open_ecg(save_ecg(WITH_GAPS, tmp_path / f"two{suffix}"))
    np.testing.assert_array_equal(np.isnan(ecg.signal), np.isnan(GAPS))
    assert ecg.missing_leads == ("V4",)
    assert ecg.sampling_rate == pytest.approx(512.5)


def test_other_programs_read_the_same(tmp_path: Path):
    import edfio

    record = wfdb.rdrecord(str(save_ecg(WHOLE, tmp_path / "one.hea").with_suffix("")))
    assert record.sig_name == list(LEADS)
    np.testing.assert_allclose(record.p_signal.T, SIGNAL, atol=5.1e-4)
    file = edfio.read_edf(save_ecg(WHOLE, tmp_path / "one.edf"))
    assert [item.label for item in file.signals] == [f"ECG {name}" for name in LEADS]
    np.testing.assert_allclose([item.data for item in file.signals], SIGNAL, atol=5.1e-4)


@pytest.mark.parametrize(
    ("ecg", "name", "named"),
    [
        (WHOLE, "one.xml", "xml"),
        (WHOLE, "one", "suffix"),
        (WITH_GAPS, "two.edf", "gaps"),
        (ECG(SIGNAL * 100, 250.0), "three.hea", "16 bits"),
        (ECG(SIGNAL * 100, 250.0), "three.edf", "16 bits"),
        (WHOLE, "a name.hea", "a name"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(tmp_path: Path, ecg: ECG, name: str, named: str):
    with pytest.raises(EcgkitError, match=named):
        save_ecg(ecg, tmp_path / name)
    assert list(tmp_path.iterdir()) == []
