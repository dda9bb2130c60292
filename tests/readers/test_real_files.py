"""Files of real machines: each must give what its description says."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from ecg_files import real_file

from ecgkit.errors import EcgkitError, UnreadableRecordError
from ecgkit.readers import open_ecg, read_signals
from ecgkit.signals.ecg import LEADS


def test_scp_and_aecg_of_one_recording_have_equal_signals():
    scp = open_ecg(real_file("scp/Example.scp"))
    aecg = open_ecg(real_file("aecg/hl7_Example_aECG.xml"))
    assert scp.signal.shape == (12, 5000)
    assert scp.sampling_rate == aecg.sampling_rate == 500
    np.testing.assert_array_equal(scp.signal, aecg.signal)
    np.testing.assert_array_equal(open_ecg(real_file("aecg/subject1_0.xml")).signal, aecg.signal)
    assert (aecg.age, aecg.sex) == (46, "male")
    assert aecg.findings == ()


def test_an_aecg_has_steps_of_its_gain():
    steps = open_ecg(real_file("aecg/hl7_Example_aECG.xml")).signal.astype(np.float64) / 0.0025
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)


@pytest.mark.parametrize("name", ["sierra/1_03_129DYPRG.XML", "sierra/1_04_ad4d3d80-d165_orig.xml"])
def test_a_sierra_file_is_trimmed_to_the_ecg_before_its_calibration_pulse(name: str):
    ecg = open_ecg(real_file(name))
    assert ecg.signal.shape == (12, 5000)
    assert ecg.sampling_rate == 500
    steps = ecg.signal.astype(np.float64) / 0.005
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-2)
    assert np.ptp(ecg.signal[:, -250:], axis=0).min() > 0.05  # the leads differ to the end
    assert any("calibration" in finding for finding in ecg.findings)
    assert {len(values) for values in read_signals(real_file(name)).signals} == {5000}


def test_the_same_recording_by_another_converter_differs_by_rounding_only():
    sierra = open_ecg(real_file("sierra/1_04_ad4d3d80-d165_orig.xml"))
    aecg = open_ecg(real_file("aecg/1_04_ad4d3d80-d165_converted.xml"))
    assert aecg.signal.shape == sierra.signal.shape
    assert np.abs(aecg.signal - sierra.signal).max() <= 0.02 + 1e-6
    assert aecg.sex == sierra.sex == "female"


def test_an_ishne_holter_is_read_whole_or_in_part():
    path = real_file("ishne/ECG_P28.01.ecg")
    whole = open_ecg(path)
    assert whole.signal.shape == (12, 95573)
    assert whole.sampling_rate == 1000
    raw = np.frombuffer(path.read_bytes(), "<i2")[-12 * 95573 :].reshape(-1, 12).T
    np.testing.assert_allclose(whole.signal[0], raw[0] * 0.005, atol=1e-5)
    part = open_ecg(path, start=30, duration=10)
    np.testing.assert_array_equal(part.signal, whole.signal[:, 30_000:40_000])


def test_an_ishne_header_with_another_checksum_is_refused():
    data = bytearray(real_file("ishne/ECG_P28.01.ecg").read_bytes())
    data[130] ^= 1
    with pytest.raises(UnreadableRecordError, match="checksum"):
        open_ecg(bytes(data))


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("scp/healforce_62.SCP", "not read"),
        ("aecg/empty.xml", "No rhythm series"),
        ("aecg/minimum_aecg.xml", "0.026 s"),
        ("aecg/minimum_aecg_effectiveTime_interval.xml", "0.026 s"),
        ("sierra/invalid-doc-type.xml", "MortaraECG"),
        ("sierra/invalid-doc-version.xml", "1.05"),
        ("edf/pyedflib_test_utf8.edf", "Fp1"),
        ("edf/wfdb_test_edfann.edf", "annotations only"),
    ],
)
def test_a_file_without_a_usable_ecg_is_refused_with_the_reason(name: str, named: str):
    with pytest.raises(EcgkitError, match=named) as caught:
        open_ecg(real_file(name))
    assert "\n" not in str(caught.value)
    assert name.rpartition("/")[2] in str(caught.value)


@pytest.mark.parametrize(("name", "n_samples"), [("cinc/A0001", 7500), ("cinc/JS00001", 5000)])
def test_a_matlab_record_opens_by_any_of_its_files(name: str, n_samples: int):
    by_header = open_ecg(real_file(f"{name}.hea"))
    assert by_header.signal.shape == (12, n_samples)
    for path in (real_file(f"{name}.mat"), real_file(f"{name}.hea").with_suffix("")):
        np.testing.assert_array_equal(open_ecg(path).signal, by_header.signal)
    parts = {f"x{suffix}": real_file(name + suffix).read_bytes() for suffix in (".hea", ".mat")}
    stem = name.rpartition("/")[2]
    named = {f"{stem}{suffix}": data for suffix, data in zip((".hea", ".mat"), parts.values(), strict=True)}
    np.testing.assert_array_equal(open_ecg(named).signal, by_header.signal)


def test_leads_that_a_holter_lacks_are_derived_or_missing():
    ecg = open_ecg(real_file("wfdb/100_3chan.hea"))
    assert ecg.missing_leads == LEADS[6:]
    assert ecg.findings[-1] == "aVR, aVL, aVF derived from I and II"
    np.testing.assert_allclose(ecg.signal[3], -(ecg.signal[0] + ecg.signal[1]) / 2, atol=1e-6)


@pytest.mark.skipif(importlib.util.find_spec("pydicom") is None, reason="pydicom is not installed")
def test_the_dicom_of_pydicom_is_read_without_its_median_beat():
    import pydicom
    from pydicom.data import get_testdata_file

    path = get_testdata_file("waveform_ecg.dcm", download=False)
    ecg = open_ecg(path)
    assert ecg.signal.shape == (12, 10_000)
    assert ecg.sampling_rate == 1000
    expected = pydicom.dcmread(path).waveform_array(0).T / 1000  # uV
    np.testing.assert_allclose(ecg.signal, expected, atol=1e-5)
    assert (ecg.age, ecg.sex) == (42, "female")
