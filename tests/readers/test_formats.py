"""Every format, in files made after its specification."""

from __future__ import annotations

import base64
import copy
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import time
import zipfile
from datetime import date
from pathlib import Path

import ecg_formats as made
import numpy as np
import pandas as pd
import pytest
from ecg_formats import HINTS, MADE, RATE, SIGNAL

import ecgkit
from ecgkit.errors import EcgkitError, UnreadableRecordError
from ecgkit.readers import FORMATS, open_ecg, read_signals
from ecgkit.readers.files import find_ecg_files, record_key
from ecgkit.signals.ecg import LEADS


def test_every_format_of_the_table_has_a_file_here():
    assert {item.name for item in FORMATS} - {"WFDB"} <= set(MADE)


@pytest.mark.parametrize("name", MADE)
def test_every_format_gives_the_signal_that_was_written(name: str, tmp_path: Path):
    ecg = open_ecg(MADE[name], **HINTS.get(name, {}))
    present = [row for row, lead in enumerate(LEADS) if lead not in ecg.missing_leads]
    assert present == list(range(6 if name == "Kardia JSON" else 12))
    np.testing.assert_allclose(ecg.signal[present], SIGNAL[present], atol=1e-6)
    assert ecg.sampling_rate == HINTS.get(name, {}).get("sampling_rate", RATE)
    assert ecg.signal.dtype == np.float32
    path = tmp_path / "a file.with another.suffix"
    path.write_bytes(MADE[name])
    np.testing.assert_array_equal(ecgkit.open_ecg(path, **HINTS.get(name, {})).signal, ecg.signal)


@pytest.mark.parametrize(
    ("name", "age", "sex"),
    [("HL7 aECG", 60, "female"), ("GE MUSE XML", 1, "male"), ("Philips Sierra XML", 61, "female"),
     ("SCP-ECG", 44, "female"), ("ISHNE", 60, "female"), ("DICOM", 1, "male"),
     ("MFER", None, "male"), ("EDF", None, "female")],
)  # fmt: skip
def test_age_in_years_and_sex_are_read(name: str, age: float | None, sex: str):
    ecg = open_ecg(MADE[name])
    assert (ecg.age, ecg.sex) == (age, sex)


def test_the_four_leads_that_muse_leaves_out_are_derived_and_reported():
    ecg = open_ecg(MADE["GE MUSE XML"])
    assert ecg.findings == ("III, aVR, aVL, aVF derived from I and II",)
    assert read_signals(MADE["GE MUSE XML"]).names == made.MEASURED


def test_a_wrong_checksum_of_muse_is_a_finding():
    ecg = open_ecg(made.muse(SIGNAL, RATE, spoil_checksum=True))
    assert any("checksum" in finding for finding in ecg.findings)


def test_the_padding_of_code_and_the_calibration_of_philips_are_left_out_and_reported():
    assert open_ecg(MADE["HDF5"], **HINTS["HDF5"]).findings == ("2,896 samples of padding left out",)
    assert "1 s" in open_ecg(MADE["Philips Sierra XML"]).findings[0]


def test_a_signal_of_no_lead_is_kept_one_level_below():
    found = read_signals(MADE["EDF"])
    assert (found.names[-1], found.units[-1], found.sampling_rates[-1]) == ("Resp", "mL", 10)
    assert set(found.units[:-1]) == {"mV"}


def test_a_sampling_rate_that_is_not_whole_is_read_exactly():
    assert open_ecg(made.dicom(SIGNAL, 199.5)).sampling_rate == 199.5
    assert open_ecg(made.kardia(SIGNAL, 300.25)).sampling_rate == 300.25
    assert open_ecg(made.aecg(SIGNAL, 204.8)).sampling_rate == pytest.approx(204.8)


@pytest.mark.parametrize(
    ("data", "hints", "named"),
    [
        (made.mfer(SIGNAL, RATE, with_rate=False), {}, "sampling_rate="),
        (MADE["HDF5"], {"unit": "1e-4V"}, "record="),
        (MADE["HDF5"], {"record": 1}, "unit="),
        (MADE["HDF5"], {"record": 9, "unit": "mV"}, "9"),
        (MADE["NumPy .npy"], {"unit": "mV", "sampling_rate": RATE}, "leads="),
        (MADE["NumPy .npy"], {"unit": "mV", "leads": LEADS}, "sampling_rate="),
        (MADE["EDF"], {"record": 1}, "record"),
        (MADE["EDF"], {"sampling_rate": 2 * RATE}, "200 Hz"),
        (MADE["SCP-ECG"], {"unit": "uV"}, "uV"),
        (MADE["DICOM"], {"leads": "I,V7"}, "V7"),
    ],
)
def test_what_is_missing_or_contradicted_is_named(data: bytes, hints: dict, named: str):
    with pytest.raises(EcgkitError, match=named):
        open_ecg(data, **hints)


def test_a_record_of_many_is_chosen_by_position_or_identifier():
    by_position = open_ecg(MADE["HDF5"], record=1, unit="1e-4V")
    by_identifier = open_ecg(MADE["HDF5"], record="1001", unit="1e-4V")
    np.testing.assert_array_equal(by_position.signal, by_identifier.signal)
    with pytest.raises(UnreadableRecordError, match="zeros"):
        open_ecg(MADE["HDF5"], record=0, unit="1e-4V")


def test_a_part_of_a_long_file_is_read_and_a_whole_one_asked_about():
    long = np.tile(SIGNAL[:1], 700)
    data = made.npy(long)
    hints = {"sampling_rate": RATE, "unit": "mV", "leads": ["II"]}
    with pytest.raises(EcgkitError, match="duration="):
        open_ecg(data, **hints)
    part = open_ecg(data, **hints, start=3000, duration=12)
    np.testing.assert_allclose(part.signal[1], long[0, 600_000:602_400], atol=1e-6)
    with pytest.raises(EcgkitError, match="3600"):
        open_ecg(data, **hints, duration=4000)


def test_files_of_a_record_are_given_as_bytes_or_in_a_zip_with_folders():
    files = made.wfdb(SIGNAL, RATE)
    expected = open_ecg(files).signal
    np.testing.assert_allclose(expected, SIGNAL, atol=1e-6)
    np.testing.assert_array_equal(open_ecg(made.zipped(files, folder="some/folder/")).signal, expected)
    clutter = {"__MACOSX/._x.hea": b"\0"} | files
    np.testing.assert_array_equal(open_ecg(made.zipped(clutter)).signal, expected)
    single = made.zipped({"a/ecg.xml": MADE["HL7 aECG"]})
    np.testing.assert_allclose(open_ecg(single).signal, SIGNAL, atol=1e-6)


def test_names_of_wfdb_files_in_capitals_are_found(tmp_path: Path):
    files = made.wfdb(SIGNAL, RATE)
    for header, samples in (("X.HEA", "X.DAT"), ("x.HEA", "x.DAT"), ("x.hea", "X.DAT")):
        folder = tmp_path / header / samples
        folder.mkdir(parents=True)
        (folder / header).write_bytes(files["x.hea"])
        (folder / samples).write_bytes(files["x.dat"])
        for name in (header, samples, "x"):
            np.testing.assert_allclose(open_ecg(folder / name).signal, SIGNAL, atol=1e-6)
        packed = made.zipped({header: files["x.hea"], samples: files["x.dat"]})
        np.testing.assert_allclose(open_ecg(packed).signal, SIGNAL, atol=1e-6)


def test_the_only_ecg_of_a_zip_is_read_next_to_notes_and_prints():
    others = {"readme.txt": b"exported on Monday", "ecg.pdf": b"%PDF-1.4"}
    for name in ("HL7 aECG", "CSV or TSV"):
        data = made.zipped({f"ecg.{'xml' if name == 'HL7 aECG' else 'csv'}": MADE[name]} | others)
        np.testing.assert_allclose(open_ecg(data).signal, SIGNAL, atol=1e-6)
    with pytest.raises(UnreadableRecordError, match="b.csv"):
        open_ecg(made.zipped({"a.csv": MADE["CSV or TSV"], "b.csv": MADE["CSV or TSV"]}))


def test_a_zip_of_a_wfdb_record_and_another_ecg_is_refused() -> None:
    files, notes = made.wfdb(SIGNAL, RATE), {"notes.txt": b"1 2\n3 4\n", "x.pdf": b"%PDF", "x.ecg": b"\0\4\0\0" * 9}
    for data in (files | notes, made.zipped(files | notes)):
        np.testing.assert_allclose(open_ecg(data).signal, SIGNAL, atol=1e-6)
    for name, kind in (("b.xml", "HL7 aECG"), ("b.csv", "CSV or TSV"), ("b", "DICOM"), ("b.ecg", "ISHNE")):
        for data in (files | {name: MADE[kind]}, made.zipped(files | {name: MADE[kind]})):
            with pytest.raises(UnreadableRecordError, match=name):
                open_ecg(data)
    several = made.wfdb_segments(SIGNAL, RATE)
    with pytest.raises(UnreadableRecordError, match="b.xml"):
        open_ecg(several | {"b.xml": MADE["HL7 aECG"]})


@pytest.mark.parametrize(
    "name", ["plain.xml", "median_beats_and_rhythm.xml", "incomplete.xml", "truncated", "median", "lead"]
)
def test_the_name_of_a_file_decides_about_nothing(name: str, tmp_path: Path) -> None:
    whole = made.muse(SIGNAL, RATE, spoil_checksum=True)
    rhythm = whole[whole.rindex(b"<Waveform>") : whole.rindex(b"</RestingECG>")]
    (tmp_path / name).write_bytes(whole.replace(b"</RestingECG>", rhythm + b"</RestingECG>"))
    findings = open_ecg(tmp_path / name).findings
    assert any("rhythm waveform" in finding for finding in findings)
    assert any("checksum" in finding for finding in findings)
    (tmp_path / name).write_bytes(made.mfer(SIGNAL, RATE)[:-1000])
    with pytest.raises(UnreadableRecordError):
        open_ecg(tmp_path / name)


@pytest.mark.parametrize(("day", "age"), [("0301", 62), ("0302", 63), ("0303", 63)])
def test_the_age_rises_on_the_birthday(day: str, age: int) -> None:
    edfio = pytest.importorskip("edfio")
    recorded = date(2023, int(day[:2]), int(day[2:]))
    patient = edfio.Patient(birthdate=date(1960, 3, 2))
    signals = [edfio.EdfSignal(SIGNAL[0], RATE, label="I", physical_dimension="mV", physical_range=(-9, 9))]
    data = edfio.Edf(signals, patient=patient, recording=edfio.Recording(startdate=recorded)).to_bytes()
    assert open_ecg(data).age == age
    born, held = b"<PatientAge>18</PatientAge><DateofBirth>03-02-1960</DateofBirth>", f"{day[:2]}-{day[2:]}-2023"
    muse = made.muse(SIGNAL, RATE).replace(b"<PatientAge>18</PatientAge><AgeUnits>MONTHS</AgeUnits>", born)
    test = f"<TestDemographics><AcquisitionDate>{held}</AcquisitionDate><AcquisitionTime>10:00:00</AcquisitionTime>"
    muse = muse.replace(b"<PatientDemographics>", f"{test}</TestDemographics><PatientDemographics>".encode())
    assert open_ecg(muse).age == age


def two_rates(name: str) -> bytes:
    """A recording at 200 Hz, with something else in the file at 199.6 Hz."""
    if name == "HL7 aECG":
        before, beat = made.aecg(SIGNAL, RATE).split(b"<derivation>")
        return before + b"<derivation>" + beat.replace(b"0.005", repr(1 / 199.6).encode())
    if name == "Kardia JSON":
        data = json.loads(made.kardia(SIGNAL, RATE))
        return json.dumps(
            data | {"data": data["data"] | {"enhanced": data["data"]["raw"] | {"frequency": 199.6}}}
        ).encode()
    pydicom, buffer = pytest.importorskip("pydicom"), io.BytesIO()
    data = pydicom.dcmread(io.BytesIO(made.dicom(SIGNAL, RATE)))
    data.WaveformSequence[1].SamplingFrequency = 199.6
    if name == "DICOM, median first":
        data.WaveformSequence = data.WaveformSequence[::-1]
    data.save_as(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["HL7 aECG", "Kardia JSON", "DICOM", "DICOM, median first"])
def test_the_sampling_rate_is_that_of_the_recording(name: str) -> None:
    ecg = open_ecg(two_rates(name))
    assert ecg.sampling_rate == RATE
    assert ecg.findings == ()


def test_a_comma_in_a_unit_is_decimal_or_refused() -> None:
    steps = {"sampling_rate": RATE, "leads": LEADS}
    for unit, factor in (("4,88uV", 0.00488), ("0,005mV", 0.005), ("1000uV", 1.0), ("4,8828uV", 0.0048828)):
        np.testing.assert_allclose(open_ecg(made.npy(SIGNAL), unit=unit, **steps).signal, SIGNAL * factor, atol=1e-6)
    for unit in ("1,000uV", "4,880uV", "12,500 nV"):
        with pytest.raises(EcgkitError, match="unit"):
            open_ecg(made.npy(SIGNAL), unit=unit, **steps)


def test_mfer_of_fewer_sequences_than_announced_is_refused() -> None:
    n_samples = SIGNAL.shape[1]
    blocks = made.steps(SIGNAL).reshape(12, 4, n_samples // 4).transpose(1, 0, 2)
    whole = made.mfer(SIGNAL, RATE).replace(made.steps(SIGNAL).tobytes(), blocks.tobytes())
    whole = whole.replace(b"\4\4" + struct.pack("<I", n_samples), b"\4\4" + struct.pack("<I", n_samples // 4))
    whole = whole.replace(b"\6\4" + struct.pack("<I", 1), b"\6\4" + struct.pack("<I", 4))
    np.testing.assert_allclose(open_ecg(whole).signal, SIGNAL, atol=1e-6)
    with pytest.raises(UnreadableRecordError):
        open_ecg(whole.replace(b"\6\4" + struct.pack("<I", 4), b"\6\4" + struct.pack("<I", 5)))


def npz(**arrays: object) -> bytes:
    """An archive of NumPy."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def hdf5(arrays: dict[str, object], attributes: dict[str, object], *, on_dataset: bool) -> bytes:
    """HDF5 with arrays and attributes."""
    h5py, buffer = pytest.importorskip("h5py"), io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, array in arrays.items():
            file[name] = array
        (file[next(iter(arrays))] if on_dataset else file).attrs.update(attributes)
    return buffer.getvalue()


KNOWN = {"sampling_rate": RATE, "unit": "mV"}
ENCODED = np.array([name.encode() for name in LEADS])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(npz(waveform=SIGNAL, sampling_rate=RATE, unit="mV", leads=LEADS), id="another name"),
        pytest.param(
            npz(ecg=SIGNAL, labels=np.arange(5), fs=RATE, unit=b"mV", leads=ENCODED, sex=b"female"), id="bytes"
        ),
        pytest.param(
            hdf5({"ecg": SIGNAL}, {"fs": RATE, "unit": "mV", "leads": list(LEADS)}, on_dataset=True), id="HDF5"
        ),
        pytest.param(
            hdf5({"x": SIGNAL.T, "leads": ENCODED}, {"fs": RATE, "units": b"mV"}, on_dataset=False), id="HDF5 T"
        ),
        pytest.param(
            hdf5(dict(zip(LEADS, SIGNAL, strict=True)), {"fs": RATE, "unit": "mV"}, on_dataset=False), id="leads"
        ),
        pytest.param(
            hdf5({"a/b/ecg": SIGNAL}, {"fs": RATE, "unit": "mV", "leads": ",".join(LEADS)}, on_dataset=True), id="group"
        ),
        pytest.param(
            hdf5(
                {f"leads/{name}": row for name, row in zip(LEADS, SIGNAL, strict=True)},
                {"fs": RATE, "unit": "mV"},
                on_dataset=False,
            ),
            id="leads in a group",
        ),
        pytest.param(npz(x=SIGNAL, fs=f"{RATE:g} Hz", lead_names=",".join(LEADS), unit="mV"), id="texts"),
        pytest.param(
            npz(
                x=SIGNAL * np.where(np.arange(12) < 6, 1, 1000)[:, None],
                fs=RATE,
                leads=LEADS,
                units=["mV"] * 6 + ["uV"] * 6,
            ),
            id="a unit per lead",
        ),
    ],
)
def test_arrays_are_found_by_their_names(data: bytes):
    ecg = open_ecg(data)
    np.testing.assert_allclose(ecg.signal, SIGNAL, atol=1e-6)
    assert ecg.sampling_rate == RATE


@pytest.mark.parametrize("key", ["gain", "adc_gain", "scale_factor"])
def test_whole_numbers_with_a_gain_are_not_taken_for_millivolts(key: str) -> None:
    steps, facts = made.steps(SIGNAL), {"fs": RATE, "unit": "mV", "leads": list(LEADS), key: 200}
    per_lead = dict(zip(LEADS, steps.astype(float), strict=True))
    for data in (
        npz(x=steps, **facts),
        npz(x=steps.astype(np.float32), **facts),
        npz(**per_lead, **facts),
        hdf5({"x": steps}, facts, on_dataset=True),
    ):
        with pytest.raises(EcgkitError, match=key):
            open_ecg(data)
    assert open_ecg(npz(x=SIGNAL, **facts)).sampling_rate == RATE  # already converted


def test_only_records_as_long_as_those_of_code_have_its_rate() -> None:
    data = hdf5({"tracings": SIGNAL.T[None]}, {}, on_dataset=False)
    with pytest.raises(EcgkitError, match="sampling_rate="):
        open_ecg(data, unit="mV")
    assert open_ecg(data, unit="mV", sampling_rate=RATE).sampling_rate == RATE
    assert open_ecg(MADE["HDF5"], record=1, unit="1e-4V").sampling_rate == 400


def hdf5_with(datasets: dict[str, tuple[object, dict[str, object]]], **of_file: object) -> bytes:
    """HDF5 whose datasets have attributes of their own."""
    h5py, buffer = pytest.importorskip("h5py"), io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, (array, attributes) in datasets.items():
            file[name] = array
            file[name].attrs.update(attributes)
        file.attrs.update(of_file)
    return buffer.getvalue()


TRACINGS = np.tile(SIGNAL, 4)[:, :4096].T[None]  # as long as the records of CODE


@pytest.mark.parametrize(
    "data",
    [
        hdf5_with({"tracings": (TRACINGS, {})}, sampling_rate=500, unit="mV"),
        hdf5_with({"tracings": (TRACINGS, {"fs": 500, "unit": "mV"})}),
        hdf5_with({"tracings": (TRACINGS, {}), "fs": (500.0, {"unit": "Hz"}), "units": ("mV", {})}),
        hdf5_with({"tracings": (1000 * TRACINGS, {"unit": "uV"}), "fs": ([500], {}), "leads": (ENCODED, {})}),
    ],
)
def test_what_a_file_says_next_to_tracings_comes_before_what_is_known_of_code(data: bytes) -> None:
    ecg = open_ecg(data, sampling_rate=500)
    assert ecg.sampling_rate == open_ecg(data).sampling_rate == 500
    np.testing.assert_allclose(ecg.signal, TRACINGS[0].T, atol=1e-6)
    with pytest.raises(EcgkitError, match="400"):
        open_ecg(data, sampling_rate=400)


@pytest.mark.parametrize("place", ["Sampling rate", "freq", "meta/fs", "SamplingFrequency"])
def test_the_rate_of_code_is_not_taken_where_another_name_could_say_it(place: str) -> None:
    data = hdf5_with({"tracings": (TRACINGS, {}), place: (500, {})})
    with pytest.raises(EcgkitError, match="sampling_rate="):
        open_ecg(data, unit="mV")
    assert open_ecg(data, unit="mV", sampling_rate=500).sampling_rate == 500


def test_the_caller_knows_better_than_the_layout_of_code() -> None:
    data, other = hdf5_with({"tracings": (TRACINGS, {})}), (*LEADS[6:], *LEADS[:6])
    assert open_ecg(data, unit="mV").sampling_rate == 400
    ecg = open_ecg(data, unit="mV", sampling_rate=500, leads=other)
    assert ecg.sampling_rate == 500
    np.testing.assert_allclose(ecg.signal[6:], TRACINGS[0].T[:6], atol=1e-6)
    assert open_ecg(data, unit="mV", leads=LEADS[:2]).missing_leads == LEADS[6:]


def test_the_leads_and_the_patient_next_to_tracings_are_read() -> None:
    facts = {"age": ([40, 63], {}), "sex": ([b"male", b"female"], {}), "fs": ([250, 500], {})}
    tracings = np.concatenate([0 * TRACINGS, TRACINGS[..., ::-1]])
    ecg = open_ecg(hdf5_with({"tracings": (tracings, {}), "leads": (ENCODED[::-1], {})} | facts), record=1, unit="mV")
    np.testing.assert_allclose(ecg.signal, TRACINGS[0].T, atol=1e-6)
    assert (ecg.age, ecg.sex, ecg.sampling_rate) == (63, "female", 500)
    unknown = hdf5_with({"tracings": (TRACINGS[..., ::-1], {}), "channel_order": (ENCODED[::-1], {})})
    with pytest.raises(EcgkitError, match="leads="):
        open_ecg(unknown, unit="mV")


def test_each_dataset_of_hdf5_has_attributes_of_its_own() -> None:
    facts = [{"unit": "uV" if lead == "V1" else "mV", "fs": RATE} for lead in LEADS]
    factors = np.where(np.array(LEADS) == "V1", 1000, 1)[:, None]
    leads = dict(zip(LEADS, zip(factors * SIGNAL, facts, strict=True), strict=True))
    np.testing.assert_allclose(open_ecg(hdf5_with(leads)).signal, SIGNAL, atol=1e-6)
    faster = leads | {"V6": (SIGNAL[-1], {"unit": "mV", "fs": 2 * RATE})}
    with pytest.raises(EcgkitError, match="different sampling rates"):
        open_ecg(hdf5_with(faster))
    pulse = {"ppg": (SIGNAL[0], {"fs": 125, "unit": "V"}), "leads": (ENCODED, {"unit": "names"})}
    ecg = open_ecg(hdf5_with({"ecg": (SIGNAL, {"fs": RATE, "unit": "mV"})} | pulse))
    np.testing.assert_allclose(ecg.signal, SIGNAL, atol=1e-6)
    assert ecg.sampling_rate == RATE


@pytest.mark.parametrize("of_file", [{"sampling_rate": 250}, {"unit": "uV"}, {"leads": list(LEADS[::-1])}])
def test_a_file_that_contradicts_itself_is_refused(of_file: dict[str, object]) -> None:
    facts = {"fs": RATE, "unit": "mV", "leads": list(LEADS)}
    assert open_ecg(hdf5_with({"ecg": (SIGNAL, facts)}, sampling_rate=RATE, units="millivolts")).duration == 6
    for data in (hdf5_with({"ecg": (SIGNAL, facts)}, **of_file), npz(ecg=SIGNAL, **facts, lead_names=LEADS[::-1])):
        with pytest.raises(EcgkitError):
            open_ecg(data)


@pytest.mark.parametrize("kind", ["HDF5", "NPZ", "of floats", "of bytes"])
def test_a_number_that_is_the_position_of_one_record_and_the_identifier_of_another_is_refused(kind: str) -> None:
    records = np.stack([factor * SIGNAL.T for factor in range(1, 5)])
    ids = np.array([3, 1169160, 2, 271011], {"of floats": float, "of bytes": "S8"}.get(kind, int))
    facts = {"exam_id": ids, "fs": RATE, "unit": "mV", "leads": ENCODED}
    data = npz(x=records, **facts) if kind == "NPZ" else hdf5({"tracings": records} | facts, {}, on_dataset=False)
    for record in (3, np.int64(3)):
        with pytest.raises(EcgkitError, match=r"\b3\b.*position 0.*271011"):
            open_ecg(data, record=record)
    for record, position in ((0, 0), (1, 1), (2, 2), (271011, 3), ("271011", 3), ("3", 0), (record_key('"3"'), 0)):
        np.testing.assert_allclose(open_ecg(data, record=record).signal, records[position].T, atol=1e-6)
    for record in ("0", "7", 7, 2.7):
        with pytest.raises(EcgkitError, match="record"):
            open_ecg(data, record=record)


def test_an_identifier_of_several_records_is_refused() -> None:
    facts = {"exam_id": np.array([7, 8, 7]), "fs": RATE, "unit": "mV", "leads": ENCODED}
    data = npz(x=np.stack([SIGNAL.T] * 3), **facts)
    assert open_ecg(data, record=8).duration == 6
    with pytest.raises(EcgkitError, match="2 records"):
        open_ecg(data, record=7)


def test_hdf5_of_several_groups_names_them() -> None:
    data = hdf5({"one/x": SIGNAL, "two/x": SIGNAL}, {}, on_dataset=False)
    with pytest.raises(UnreadableRecordError, match="one, two"):
        open_ecg(data)


@pytest.mark.parametrize("ids", [["a", "b"], [1, 2]])
def test_a_table_of_parquet_of_two_records_is_refused(ids: list[object]) -> None:
    frame = pd.DataFrame(SIGNAL.T, columns=list(LEADS)).assign(patient_id=np.repeat(ids, SIGNAL.shape[1] // 2))
    for end, is_read in ((SIGNAL.shape[1], False), (SIGNAL.shape[1] // 2, True)):
        buffer = io.BytesIO()
        frame[:end].to_parquet(buffer)
        if is_read:
            assert open_ecg(buffer.getvalue(), **KNOWN).duration == 3
            continue
        with pytest.raises(UnreadableRecordError, match="one recording"):
            open_ecg(buffer.getvalue(), **KNOWN)


@pytest.mark.parametrize("form", ["index", "sample", "times", "segment"])
def test_a_restart_in_a_table_of_parquet_is_refused(form: str) -> None:
    frame = pd.DataFrame(SIGNAL.T, columns=list(LEADS))
    starts = np.arange(len(frame)) % (len(frame) // 2)
    if form == "index":
        frame.index = starts
    elif form == "times":
        frame = frame.assign(moment=pd.Timestamp("2024-01-01") + pd.to_timedelta(starts / RATE, unit="s"))
    else:
        frame = frame.assign(**{form: starts if form == "sample" else np.cumsum(starts == 0)})
    frame.to_parquet(buffer := io.BytesIO())
    with pytest.raises(UnreadableRecordError, match="one recording"):
        open_ecg(buffer.getvalue(), **KNOWN)


def dicom_groups(parts: list[tuple[list[int], float, int]], tmp_path: Path) -> Path:
    """DICOM whose leads are in groups: for each its leads, its start in ms and a factor."""
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.dcmread(io.BytesIO(made.dicom(SIGNAL, RATE)))
    whole, median = data.WaveformSequence
    samples, groups = np.frombuffer(whole.WaveformData, "<i2").reshape(-1, 12), []
    for leads, start, factor in parts:
        group = copy.deepcopy(whole)
        group.NumberOfWaveformChannels, group.MultiplexGroupTimeOffset = len(leads), start
        group.WaveformData = (factor * samples[:, leads]).tobytes()
        group.ChannelDefinitionSequence = [group.ChannelDefinitionSequence[lead] for lead in leads]
        groups.append(group)
    data.WaveformSequence = [groups[0], median, *groups[1:]]
    data.save_as(tmp_path / "x.dcm")
    return tmp_path / "x.dcm"


def test_leads_in_several_groups_of_dicom_are_one_recording(tmp_path: Path) -> None:
    thirds = [list(range(row, row + 3)) for row in range(0, 12, 3)]
    ecg = open_ecg(dicom_groups([(leads, 0, 1) for leads in thirds], tmp_path))
    np.testing.assert_allclose(ecg.signal, SIGNAL, atol=1e-6)
    assert ecg.findings == ()
    later = open_ecg(dicom_groups([(leads, 2500 * row, 1) for row, leads in enumerate(thirds)], tmp_path))
    assert later.missing_leads == LEADS[6:]  # recorded one after another
    assert "3 more recordings" in later.findings[0]
    twice = open_ecg(dicom_groups([(list(range(12)), 0, 1), (list(range(12)), 0, 2)], tmp_path))
    np.testing.assert_allclose(twice.signal, SIGNAL, atol=1e-6)
    assert "1 more recordings" in twice.findings[0]


def skewed_dicom(signal: np.ndarray, keyword: str, skews: list[float]) -> bytes:
    """DICOM whose channels begin at other times than their group."""
    pydicom, buffer = pytest.importorskip("pydicom"), io.BytesIO()
    data = pydicom.dcmread(io.BytesIO(made.dicom(signal, RATE)))
    for channel, skew in zip(data.WaveformSequence[0].ChannelDefinitionSequence, skews, strict=True):
        setattr(channel, keyword, str(skew))
    data.save_as(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(("keyword", "unit"), [("ChannelSampleSkew", 1), ("ChannelTimeSkew", 1 / RATE)])
def test_channels_of_dicom_that_begin_later_stay_where_they_were_recorded(keyword: str, unit: float) -> None:
    stored = SIGNAL.copy()
    stored[6:, :-3] = SIGNAL[6:, 3:]
    n_samples = SIGNAL.shape[1]
    ecg = open_ecg(skewed_dicom(stored, keyword, [0] * 6 + [3 * unit] * 6))
    np.testing.assert_allclose(ecg.signal[6:, 3:n_samples], SIGNAL[6:, 3:], atol=1e-6)
    np.testing.assert_allclose(ecg.signal[:6, :n_samples], SIGNAL[:6], atol=1e-6)
    assert np.isnan(ecg.signal[6:, :3]).all()
    in_turn = open_ecg(skewed_dicom(SIGNAL, keyword, [round(k / 12 * unit, 9) for k in range(12)]))
    np.testing.assert_allclose(in_turn.signal, SIGNAL, atol=1e-6)
    late = open_ecg(skewed_dicom(SIGNAL, keyword, [100 * unit] * 12))
    np.testing.assert_allclose(late.signal, SIGNAL, atol=1e-6)  # all of them
    with pytest.raises(UnreadableRecordError):
        open_ecg(skewed_dicom(SIGNAL, keyword, [0] * 11 + [1e30]))


def test_leads_that_begin_later_stay_where_they_were_recorded() -> None:
    ecg = open_ecg(made.scp(SIGNAL, RATE, late=100))
    np.testing.assert_allclose(ecg.signal[:, 100:], SIGNAL[:, 100:], atol=1e-6)
    assert np.isnan(ecg.signal[6:, :100]).all()
    np.testing.assert_allclose(ecg.signal[:6, :100], SIGNAL[:6, :100], atol=1e-6)
    late = made.muse(SIGNAL, RATE).replace(
        b"</LeadSampleSize>", b"</LeadSampleSize><LeadTimeOffset>2500</LeadTimeOffset>"
    )
    np.testing.assert_allclose(open_ecg(late).signal, SIGNAL, atol=1e-6)  # all of them
    with pytest.raises(UnreadableRecordError, match="LeadTimeOffset"):
        open_ecg(late.replace(b"2500</LeadTimeOffset>", b"0</LeadTimeOffset>", 12))


def test_one_of_many_records_of_hdf5_is_read():
    data = hdf5({"X": np.stack([0 * SIGNAL, SIGNAL])}, {"fs": RATE, "unit": "mV"}, on_dataset=False)
    np.testing.assert_allclose(open_ecg(data, record=1, leads=LEADS).signal, SIGNAL, atol=1e-6)
    with pytest.raises(EcgkitError, match="record="):
        open_ecg(data, leads=LEADS)


def test_an_archive_of_two_signals_is_not_guessed_at():
    for data in (npz(train=SIGNAL, test=SIGNAL), hdf5({"train": SIGNAL, "test": SIGNAL}, {}, on_dataset=False)):
        with pytest.raises(UnreadableRecordError, match=r"train.*test|test.*train"):
            open_ecg(data)
    facts = {"fs": RATE, "unit": "mV", "leads": list(LEADS)}
    with pytest.raises(EcgkitError, match="signal, ecg"):
        open_ecg(npz(ecg=SIGNAL, signal=2 * SIGNAL, **facts))
    np.testing.assert_allclose(open_ecg(npz(ecg=SIGNAL, x=np.arange(9), **facts)).signal, SIGNAL, atol=1e-6)


def dicom_without_units() -> bytes:
    """DICOM whose channels have a sensitivity of 5 and no unit of it."""
    pydicom = pytest.importorskip("pydicom")
    data, buffer = pydicom.dcmread(io.BytesIO(made.dicom(SIGNAL, RATE))), io.BytesIO()
    for channel in data.WaveformSequence[0].ChannelDefinitionSequence:
        del channel.ChannelSensitivityUnitsSequence
    data.save_as(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (made.muse(SIGNAL, RATE).replace(b"MICROVOLTS", b"LSB"), 0.0),
        (made.aecg(SIGNAL, RATE).replace(b'scale value="5" unit="uV"', b'scale value="5"'), 0.0),
        (
            made.aecg(SIGNAL, RATE)
            .replace(b'scale value="5" unit="uV"', b'scale value="5"')
            .replace(b'origin value="0" unit="uV"', b'origin value="100"'),
            0.1,
        ),
        (dicom_without_units(), 0.0),
    ],
    ids=["GE MUSE XML", "HL7 aECG", "HL7 aECG with an origin", "DICOM"],
)
def test_the_unit_that_a_file_lacks_is_that_of_its_scaled_values(data: bytes, offset: float) -> None:
    with pytest.raises(EcgkitError, match="unit="):
        open_ecg(data)
    np.testing.assert_allclose(open_ecg(data, unit="uV").signal[6:], SIGNAL[6:] + offset, atol=1e-6)


def test_the_group_of_dicom_that_was_recorded_comes_before_a_derived_one(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.dcmread(dicom_groups([(list(range(12)), 0, 2), (list(range(12)), 0, 1)], tmp_path))
    derived, _, recorded = data.WaveformSequence
    derived.WaveformOriginality = "DERIVED"
    for group in (derived, recorded):
        del group.MultiplexGroupLabel
    data.WaveformSequence = [derived, recorded]
    data.save_as(tmp_path / "y.dcm")
    np.testing.assert_allclose(open_ecg(tmp_path / "y.dcm").signal, SIGNAL, atol=1e-6)


@pytest.mark.parametrize("unit", [b"microV", b"uVolt", b"uVolts"])
def test_a_unit_of_edf_may_be_abbreviated_in_several_ways(unit: bytes) -> None:
    data = MADE["EDF"].replace(b"uV".ljust(8), unit.ljust(8))
    np.testing.assert_allclose(open_ecg(data).signal, SIGNAL, atol=1e-6)


def test_an_inverted_lead_is_not_taken_for_the_lead() -> None:
    data = MADE["EDF"].replace(b"ECG aVR".ljust(16), b"ECG -aVR".ljust(16))
    assert open_ecg(data).findings == ("aVR derived from I and II",)
    hyphen = MADE["EDF"].replace(b"ECG aVR".ljust(16), b"ECG-aVR".ljust(16))
    assert open_ecg(hyphen).findings == ()


def test_a_column_of_parquet_may_hold_decimals_but_no_lists() -> None:
    import pyarrow as pa
    from pyarrow import parquet

    columns = dict(zip(LEADS, np.round(SIGNAL, 3), strict=True))
    decimals = {name: pa.array(row).cast(pa.decimal128(9, 3), safe=False) for name, row in columns.items()}
    for table, named in ((decimals, ""), ({name: [row.tolist()] for name, row in columns.items()}, "column I ")):
        parquet.write_table(pa.table(table), buffer := io.BytesIO())
        if named:
            with pytest.raises(UnreadableRecordError, match=named):
                open_ecg(buffer.getvalue(), **KNOWN)
        else:
            np.testing.assert_allclose(open_ecg(buffer.getvalue(), **KNOWN).signal, SIGNAL, atol=1e-6)


def test_edf_of_records_without_length_has_no_sampling_rate() -> None:
    data = MADE["EDF"]
    with pytest.raises(UnreadableRecordError, match="0 s"):
        open_ecg(data[:244] + b"0".ljust(8) + data[252:])


def test_a_name_that_is_not_utf_8_becomes_text(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"Jos\xe9.csv")
    path.write_bytes(MADE["CSV or TSV"])
    assert open_ecg(path).record_id == r"Jos\udce9"


def test_nothing_in_a_folder_is_left_out_in_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.csv").symlink_to(tmp_path / "nothing")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "folder.csv" / "a.csv").write_bytes(MADE["CSV or TSV"])
    assert find_ecg_files([tmp_path]) == [tmp_path / "broken.csv", tmp_path / "folder.csv" / "a.csv"]
    assert find_ecg_files([tmp_path / "*.csv"]) == [tmp_path / "broken.csv"]
    scan = os.scandir

    def closed(path: str) -> object:
        if os.fspath(path).endswith("folder.csv"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(EcgkitError, match="folder.csv: Permission denied"):
        find_ecg_files([tmp_path])


def test_an_array_with_a_name_per_column_is_a_table():
    buffer = io.BytesIO()
    np.save(buffer, np.rec.fromarrays(list(SIGNAL), names=list(LEADS)))
    np.testing.assert_allclose(open_ecg(buffer.getvalue(), sampling_rate=RATE, unit="mV").signal, SIGNAL, atol=1e-6)


@pytest.mark.parametrize("kind", ["timedelta", "datetime", "numbers", "count", "clock"])
def test_the_index_of_a_table_of_parquet_is_its_time(kind: str):
    seconds = np.arange(SIGNAL.shape[1]) / RATE
    spans = pd.to_timedelta(seconds, unit="s")
    moments = pd.Timestamp("2024-01-01 10:00") + spans
    index = {"timedelta": spans, "datetime": moments, "clock": [moment.time() for moment in moments],
             "numbers": pd.Index(seconds, name="time_s"), "count": pd.RangeIndex(len(seconds))}[kind]  # fmt: skip
    frame = pd.DataFrame(SIGNAL.T, columns=list(LEADS), index=index).assign(
        patient="a", visited=pd.Timestamp("2024-01-01")
    )
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    ecg = open_ecg(buffer.getvalue(), unit="mV", **({"sampling_rate": RATE} if kind == "count" else {}))
    np.testing.assert_allclose(ecg.signal, SIGNAL, atol=1e-6)
    assert ecg.sampling_rate == RATE


def test_the_micro_sign_of_an_edf_header_may_be_in_another_encoding():
    data = MADE["EDF"].replace(b"uV      ", b"\xb5V      ")
    np.testing.assert_allclose(open_ecg(data).signal, SIGNAL, atol=1e-6)


def test_what_the_caller_says_is_no_finding():
    data = made.mfer(SIGNAL, RATE, with_rate=False)
    assert open_ecg(data, sampling_rate=RATE).findings == ()
    unstated = MADE["EDF"][:236] + b"-1      " + MADE["EDF"][244:]
    assert len(open_ecg(unstated).findings) == 1


def bomb() -> bytes:
    """A small zip of a large file of zeros."""
    return made.zipped({"x.csv": bytes(64 * 2**20)})


def climbing() -> bytes:
    """A zip whose names lead out of the folder."""
    return made.zipped({f"../../{name}": data for name, data in made.wfdb(SIGNAL, RATE).items()})


def test_a_zip_never_writes_outside_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    room = tmp_path / "a" / "b"
    room.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(room))
    np.testing.assert_allclose(open_ecg(climbing()).signal, SIGNAL, atol=1e-6)
    assert list(tmp_path.rglob("x.*")) == []


ENTITIES = (
    b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbbbbbbbbbbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">'
    b'<!ENTITY d SYSTEM "file:///etc/passwd">]><AnnotatedECG xmlns="urn:hl7-org:v3">&c;&d;</AnnotatedECG>'
)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(bomb(), id="zip bomb"),
        pytest.param(made.zipped({f"{i}.csv": b"1" for i in range(300)}), id="zip of many"),
        pytest.param(made.zipped({"a.hea": b"a 1 100\n", "b.hea": b"b 1 100\n"}), id="zip of two records"),
        pytest.param(made.zipped({"inner.zip": made.zipped({"x": b"1"})}), id="zip in a zip"),
        pytest.param(made.zipped({}), id="empty zip"),
        pytest.param(ENTITIES, id="entities"),
        pytest.param(pickle.dumps({"a": 1}), id="pickle"),
        pytest.param(made.dicom(SIGNAL, RATE, syntax="1.2.840.10008.1.2.1.99"), id="deflated DICOM"),
        pytest.param(b"%PDF-1.7\n%\xe2\xe3", id="PDF"),
        pytest.param(b"\x89PNG\r\n\x1a\n\0\0", id="picture"),
        pytest.param(b"\x1f\x8b\x08\0\0\0\0", id="gzip"),
        pytest.param(b'<?xml version="1.0"?><HealthData locale="de"></HealthData>', id="Apple export"),
        pytest.param(b"<html><body>not found</body></html>", id="HTML"),
        pytest.param(b'{"a": 1}', id="JSON"),
        pytest.param(b"[[0.1, 0.2], [0.3, 0.4]]", id="JSON list"),
        pytest.param(made.zipped({"[Content_Types].xml": b"<a/>", "xl/workbook.xml": b"<a/>"}), id="workbook"),
        pytest.param(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), id="old workbook"),
        pytest.param(b"ARROW1\0\0" + bytes(100), id="Feather"),
        pytest.param(b"a.xml".ljust(257, b"\0") + b"ustar\x0000" + bytes(300), id="tar"),
        pytest.param(b"", id="empty"),
        pytest.param(made.wfdb(SIGNAL, RATE)["x.hea"], id="header alone"),
        pytest.param(np.array([0, 12, 5, 0, 4], "<i4").tobytes() + b"val\0" + bytes(120), id="MATLAB alone"),
        pytest.param(made.zipped({"x.hea": made.wfdb(SIGNAL, RATE)["x.hea"]}), id="header alone in a zip"),
        pytest.param(b"\0" * 5000, id="zeros"),
    ],
)
def test_what_is_no_ecg_or_dangerous_is_refused_in_one_line(data: bytes):
    with pytest.raises(UnreadableRecordError) as caught:
        open_ecg(data)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert "/ecgkit-" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "way_out"),
    [
        (b"%PDF-1.7\n1 0 obj\n0.1 0.2 0.3\n", "export"),
        (b"%!PS-Adobe-3.0\n0.1 0.2 moveto\n0.1 0.2\n", "export"),
        (made.zipped({"mimetype": b"x", "content.xml": b"<a/>", "styles.xml": b"<a/>"}), "CSV"),
        (made.zipped({"Index/Document.iwa": b"x", "preview.jpg": b"\xff\xd8"}), "CSV"),
    ],
    ids=["PDF", "PostScript", "OpenDocument", "Numbers"],
)
def test_printed_pages_and_workbooks_of_any_office_say_what_to_do(data: bytes, way_out: str) -> None:
    with pytest.raises(UnreadableRecordError, match=way_out):
        open_ecg(data)


def test_an_array_of_objects_is_not_unpickled(tmp_path: Path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    for save in (np.save, lambda file, array: np.savez(file, signal=array)):
        buffer = io.BytesIO()
        save(buffer, np.array([Evil(), Evil()], dtype=object))
        with pytest.raises(UnreadableRecordError):
            open_ecg(buffer.getvalue())
    assert not (tmp_path / "made").exists()


def test_hdf5_that_leads_to_another_file_is_refused(tmp_path: Path):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "other.h5").write_bytes(MADE["HDF5"])
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["tracings"] = h5py.ExternalLink("other.h5", "tracings")
    with h5py.File(tmp_path / "external.h5", "w") as file:
        file.create_dataset("tracings", (1, 4096, 12), "f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout((1, 1400, 12), "f4")
        layout[0] = h5py.VirtualSource("other.h5", "tracings", (3, 1400, 12))[1]
        file.create_virtual_dataset("tracings", layout)
    for name in ("link", "external", "virtual"):
        with pytest.raises(UnreadableRecordError, match="copy it into the file"):
            open_ecg(tmp_path / f"{name}.h5", unit="mV", record=0)


def test_only_regular_files_are_opened(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for path, named in ((tmp_path / "pipe", "regular"), (tmp_path, "folder"), (tmp_path / "none.xml", "No such file")):
        with pytest.raises(UnreadableRecordError, match=named):
            open_ecg(path)
    with pytest.raises(UnreadableRecordError, match="regular"):
        open_ecg("/dev/zero")
    with pytest.raises(EcgkitError, match="int"):
        open_ecg(7)


@pytest.mark.parametrize("name", sorted(set(MADE) - {"CSV or TSV", "NumPy .npz", "Parquet", "HDF5", "zip"}))
def test_a_truncated_file_is_never_read_as_a_shorter_ecg(name: str):
    data = MADE[name]
    for part in (0.99, 0.7, 0.4):
        with pytest.raises(EcgkitError):
            open_ecg(data[: int(part * len(data)) // 24 * 24 + 1], **HINTS.get(name, {}))


def test_a_minute_of_twelve_leads_opens_in_half_a_second():
    signal = made.made_ecg(60 * 500)
    files = {
        "aECG": made.aecg(signal, 500), "MUSE": made.muse(signal, 500), "SCP": made.scp(signal, 500),
        "DICOM": made.dicom(signal, 500), "EDF": made.edf(signal, 500), "CSV": made.csv(signal, 500),
        "ISHNE": made.ishne(signal, 500), "MFER": made.mfer(signal, 500), "Sierra": made.sierra(signal, 500),
    }  # fmt: skip
    for name, data in files.items():
        times = []
        for _ in range(3):
            begin = time.perf_counter()
            open_ecg(data)
            times.append(time.perf_counter() - begin)
        assert min(times) < 0.5, name


@pytest.mark.parametrize("package", ["ecgdatakit", "edfio", "h5py"])
def test_a_missing_package_names_its_extra(package: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, package, None)
    data = {"ecgdatakit": MADE["HL7 aECG"], "edfio": MADE["EDF"], "h5py": MADE["HDF5"]}[package]
    with pytest.raises(EcgkitError, match=r"ecgkit-notebooks\[formats\]"):
        open_ecg(data)


def test_opening_a_table_or_an_array_needs_no_package_of_an_extra(tmp_path: Path):
    for name in ("CSV or TSV", "NumPy .npy", "NumPy .npz", "Parquet", "zip"):
        (tmp_path / name.replace(" ", "_")).write_bytes(MADE[name])
    code = f"""
import sys
from ecgkit.errors import EXTRAS
sys.modules.update(dict.fromkeys(EXTRAS))
import ecgkit
from pathlib import Path
for path in sorted(Path({str(tmp_path)!r}).iterdir()):
    hints = dict(sampling_rate=200, unit="mV", leads=ecgkit.LEADS) if path.name.endswith(".npy") else {{}}
    print(ecgkit.open_ecg(path, **hints).signal.shape)
print({{"torch"}} & set(sys.modules))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stdout.split("\n")[:6] == ["(12, 1200)"] * 5 + ["set()"], result.stderr


def test_a_kardia_recording_of_twelve_leads_says_that_it_is_not_read():
    with pytest.raises(UnreadableRecordError, match="12L"):
        open_ecg(json.dumps({"recordedAt": "x", "id": "y", "duration": 1, "data12L": {}}).encode())


def test_an_encrypted_zip_is_refused():
    data = bytearray(made.zipped(made.wfdb(SIGNAL, RATE)))
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as archive:
        offset = archive.infolist()[0].header_offset
    data[offset + 6] |= 1
    central = bytes(data).index(b"PK\1\2")
    data[central + 8] |= 1
    with pytest.raises(UnreadableRecordError):
        open_ecg(bytes(data))


def refusal(data: bytes, **hints) -> str:
    """Return the message with which a file is refused, or nothing if it opens."""
    try:
        open_ecg(data, **hints)
    except EcgkitError as error:
        return str(error)
    return ""


ARRAYS = hdf5({"x": SIGNAL.T, "leads": ENCODED}, {"fs": RATE, "units": b"mV"}, on_dataset=False)


@pytest.mark.parametrize(("n_damaged", "seed"), [(50, 11), pytest.param(500, 12, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", [*MADE, "HDF5 of other names"])
def test_a_damaged_file_raises_nothing_but_an_error_of_one_line(name: str, n_damaged: int, seed: int):
    rng, data = np.random.default_rng(seed), MADE.get(name, ARRAYS)
    for number in range(n_damaged):
        begin = time.process_time()
        assert "\n" not in refusal(made.mutate(data, rng), **HINTS.get(name, {})), number
        assert time.process_time() - begin < 5, number


def test_a_few_bytes_that_announce_a_great_deal_are_refused_at_once():
    table = ("1," * 5000 + "1\n") * 500
    codes = np.array([0, *range(256, 1022), *[1021] * 20_000])  # each string is one longer than the one before
    packed = np.packbits((codes[:, None] >> np.arange(9, -1, -1)) & 1).tobytes()
    sierra = made.sierra(SIGNAL, RATE).decode("utf-16")
    bomb = len(packed).to_bytes(4, "little") + bytes(4) + packed
    growing = sierra.replace(sierra[sierra.index("'I II") : sierra.index("</parsed")], "'I' compression='XLI'>")
    files = {
        "tags": b"<AnnotatedECG>" + b"<a>" * 300_000,
        "channels": made.mfer(SIGNAL, RATE).replace(b"\x05\x04\x0c\0\0\0", b"\x05\x04\xff\xff\xff\0"),
        "columns": table.encode(),
        "longer": growing.replace("</parsed", base64.b64encode(bomb).decode() + "</parsed").encode("utf-16"),
    }
    for named, data in files.items():
        begin = time.process_time()
        with pytest.raises(UnreadableRecordError, match=named):
            open_ecg(data)
        assert time.process_time() - begin < 2, named


@pytest.mark.parametrize("kind", ["EDF", "BDF", "ISHNE", "WFDB"])
@pytest.mark.parametrize("start", [0.0, 3.3, 7.0])
def test_a_part_of_a_long_file_is_that_part_of_the_whole(kind: str, start: float, tmp_path: Path) -> None:
    signal = np.tile(made.SIGNAL, 20)[:, : 20 * made.RATE]
    if kind == "WFDB":
        data = made.zipped(made.wfdb(signal, made.RATE))
    else:
        data = made.ishne(signal, made.RATE) if kind == "ISHNE" else made.edf(signal, made.RATE, kind=kind)
    path = tmp_path / "long"
    path.write_bytes(data)
    whole, part = open_ecg(path), open_ecg(path, start=start, duration=2.5)
    first = round(start * made.RATE)
    np.testing.assert_array_equal(part.signal, whole.signal[:, first : first + round(2.5 * made.RATE)])
    end = open_ecg(path, start=start)
    np.testing.assert_array_equal(end.signal, whole.signal[:, first:])
    with pytest.raises(EcgkitError, match="pass the end of the file, 20 s"):
        open_ecg(path, start=19.0, duration=2.0)
    with pytest.raises(EcgkitError, match="30 s"):
        open_ecg(path, start=30.0)


@pytest.mark.parametrize("kind", ["EDF", "ISHNE"])
def test_of_a_file_larger_than_what_is_read_a_part_is_read(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "long"
    path.write_bytes(MADE[kind])
    whole = open_ecg(path)
    size = len(MADE[kind]) * 2 // 3
    monkeypatch.setattr("ecgkit.readers.edf.LARGEST", size)
    monkeypatch.setattr("ecgkit.readers.clinical.LARGEST_BINARY", size)
    with pytest.raises(EcgkitError, match="take a part"):
        open_ecg(path)
    np.testing.assert_array_equal(
        open_ecg(path, start=1.0, duration=1.0).signal, whole.signal[:, made.RATE : 2 * made.RATE]
    )


def test_edf_with_interruptions_is_refused_and_without_is_read(tmp_path: Path) -> None:
    import edfio

    signal = [edfio.EdfSignal(row * 1000.0, made.RATE, label=name, physical_dimension="uV",
                              physical_range=(-32768, 32767), digital_range=(-32768, 32767))
              for name, row in zip(LEADS, made.SIGNAL, strict=True)]  # fmt: skip
    continuous = edfio.Edf(signal, annotations=[edfio.EdfAnnotation(1, None, "note")]).to_bytes()
    assert continuous[192:197] == b"EDF+C"
    marked = continuous[:192] + b"EDF+D" + continuous[197:]
    expected = open_ecg(continuous).signal
    np.testing.assert_array_equal(open_ecg(marked).signal, expected)
    np.testing.assert_array_equal(
        open_ecg(continuous, start=3.0, duration=2.0).signal, expected[:, 3 * made.RATE : 5 * made.RATE]
    )
    assert marked.count(b"+5\x14\x14") == 1
    gap = marked.replace(b"+5\x14\x14", b"+8\x14\x14")
    for part in ({}, {"start": 0.0, "duration": 2.0}):
        with pytest.raises(EcgkitError, match="interrupted"):
            open_ecg(gap, **part)
