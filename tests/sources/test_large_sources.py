"""CODE-15%, SPH and MIMIC-IV-ECG, made in their formats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_sources import cinc_folder, code15_folder, millivolts, mimic_folder, sph_folder

from ecgkit import datasets
from ecgkit.datasets.manifest import labelled_rows
from ecgkit.errors import EcgkitError
from ecgkit.signals.ecg import ECG
from ecgkit.sources import source_in
from ecgkit.sources.cinc import Cinc
from ecgkit.sources.code15 import Code15
from ecgkit.sources.fitted import FittedReader
from ecgkit.sources.mimic import Mimic
from ecgkit.sources.sph import Sph, primary_codes


@pytest.fixture
def code15(tmp_path: Path) -> Path:
    return code15_folder(tmp_path / "code")


@pytest.fixture
def sph(tmp_path: Path) -> Path:
    return sph_folder(tmp_path / "shandong")


@pytest.fixture
def mimic(tmp_path: Path) -> Path:
    return mimic_folder(tmp_path / "boston")


def test_a_record_of_code15_is_found_by_its_exam_and_without_its_padding(code15: Path) -> None:
    source, expected = Code15(code15, sampling_rate=400), millivolts(30, 4000, 400)
    for number in (1, 4, 29):
        ecg = source.read(source.records["record_id"].iloc[number])
        np.testing.assert_allclose(ecg.signal, expected[number], atol=1e-6)
    short = source.read(source.records["record_id"].iloc[3]).signal
    np.testing.assert_allclose(short[:, :2800], expected[3][:, :2800], atol=1e-6)
    np.testing.assert_allclose(short[:, 2800:], np.repeat(short[:, :2800].mean(1, keepdims=True), 1200, 1), atol=1e-5)


def test_the_unit_of_code15_can_be_given(code15: Path) -> None:
    whole, half = Code15(code15), Code15(code15, scale=0.5)
    name = whole.records["record_id"].iloc[4]
    np.testing.assert_allclose(half.read(name).signal, whole.read(name).signal / 2, atol=1e-6)
    assert half.identity() != whole.identity()
    with pytest.raises(EcgkitError, match="scale"):
        Code15(code15, scale=0.0)


def test_code15_says_only_what_its_six_classes_and_normal_ecg_say(code15: Path) -> None:
    source = Code15(code15)
    assert list(source.labels["findings"]) == ["1dAVb", "RBBB", "LBBB", "SB", "ST", "AF"]
    superclass = source.labels["superclass"]
    assert superclass.loc[0].tolist() == [True, False]  # normal
    assert superclass.loc[1].tolist() == [False, True]  # a block
    assert superclass["NORM"].tolist()[4:6] == [False, False]
    assert superclass["CD"].isna().tolist()[4:6] == [True, True]  # sinus bradycardia; nothing, but not normal
    # What is not normal is a negative of NORM, whether or not it has a block.
    assert labelled_rows(superclass, source.all_false["superclass"]).all()
    assert source.records["sex"].tolist()[:2] == ["male", "female"]
    assert source.records["death"].isna().sum() == 10


def test_records_of_parts_that_are_not_there_are_left_out_and_counted(code15: Path) -> None:
    (code15 / "exams_part1.hdf5").unlink()
    source = Code15(code15)
    assert (len(source.records), source.n_absent) == (15, 15)
    assert "15" in source.describe().rpartition("left out")[2]
    (code15 / "exams_part0.hdf5").unlink()
    with pytest.raises(EcgkitError, match="exams_part"):
        Code15(code15)


def test_statements_of_sph_become_superclasses(sph: Path) -> None:
    source = Sph(sph)
    assert primary_codes("60+310;147;60") == ["60", "147"]
    found = source.labels["superclass"]
    assert found.loc[0].tolist() == [True, False, False, False, False]
    assert not found.loc[1].any()  # sinus bradycardia and arrhythmia
    assert found.loc[2].tolist() == [False, False, True, False, False]
    assert found.loc[3, "CD"]
    assert found.loc[4].tolist() == [False, False, False, False, True]  # normal, and hypertrophy: not normal
    assert source.unmapped == {}
    assert source.labels["codes"].loc[2, ["AHA60", "AHA147"]].all()


def test_a_record_of_sph_that_is_not_as_long_as_its_table_says_is_quarantined(sph: Path, tmp_path: Path) -> None:
    table = pd.read_csv(sph / "metadata.csv", dtype=str)
    table.loc[3, "N"] = "9000"
    table.to_csv(sph / "metadata.csv", index=False)
    dataset = datasets.build_dataset(Sph(sph), tmp_path / "out", progress=False, jobs=1)
    assert [entry["record_id"] for entry in dataset.manifest["quarantined"]["records"]] == ["A00004"]
    signal = dataset.signals[0] / 1000
    expected = Sph(sph, sampling_rate=500).read("A00001").signal
    np.testing.assert_allclose(signal[:, 50:-50], expected[:, ::5][:, 50:-50], atol=0.3)


def test_leads_of_mimic_are_taken_by_their_names(mimic: Path) -> None:
    source = Mimic(mimic, sampling_rate=500)
    expected = millivolts(24, 5000, 500)
    for number in (0, 23):
        signal = source.read(source.records["record_id"].iloc[number]).signal
        np.testing.assert_allclose(signal, expected[number], atol=0.0026)


def test_reports_and_measurements_of_mimic_belong_to_their_records(mimic: Path) -> None:
    source = Mimic(mimic)
    records = source.records
    assert records["report"].tolist()[:2] == [
        "Sinus rhythm | Normal ECG",
        "Atrial fibrillation with rapid ventricular response | Abnormal ECG",
    ]
    assert np.isnan(records["rr_interval"][0])
    assert records["rr_interval"][1] == 801
    assert records["p_axis"].isna().all()
    assert records["p_onset"].isna().sum() == 6
    labels = source.labels["machine_report"]
    assert labels.loc[0, ["sinus_rhythm", "normal_ecg"]].all()
    assert labels.loc[1, ["atrial_fibrillation", "abnormal_ecg"]].all()
    assert labels.sum().tolist() == [12, 6, 0, 6, 6, 12]
    (mimic / "machine_measurements.csv").unlink()
    alone = Mimic(mimic)
    assert alone.records["report"].isna().all()
    assert alone.labels["machine_report"].isna().all(axis=None)


def test_a_path_out_of_the_folder_is_refused(mimic: Path) -> None:
    table = pd.read_csv(mimic / "record_list.csv", dtype=str)
    table.loc[2, "path"] = "../secret"
    table.to_csv(mimic / "record_list.csv", index=False)
    with pytest.raises(EcgkitError, match="secret"):
        Mimic(mimic)


def test_a_file_that_was_replaced_makes_another_dataset(sph: Path, tmp_path: Path) -> None:
    challenge = cinc_folder(tmp_path / "challenge", 12)
    for kind, folder, pattern in ((Sph, sph, "*.h5"), (Cinc, challenge, "*.mat")):
        before = kind(folder).identity()
        assert kind(folder).identity() == before
        file = next(folder.rglob(pattern))
        file.write_bytes(file.read_bytes()[:-2])
        assert kind(folder).identity() != before
        file.unlink()
        assert kind(folder).identity() != before


def test_a_lead_that_begins_after_what_is_kept_is_missing(recwarn: pytest.WarningsRecorder) -> None:
    class Late:
        def read(self, record_id: str) -> ECG:
            signal = millivolts(1, 2000, 100)[0]
            signal[3, :1500] = np.nan
            return ECG(signal, 100, record_id)

        def subset(self, record_ids: Sequence[str]) -> Late:
            return self

    ecg = FittedReader(Late(), 100, 1000).read("late")
    assert ecg.missing_leads == ("aVR",)
    assert np.isfinite(np.delete(ecg.signal, 3, axis=0)).all()
    assert not recwarn.list


@pytest.mark.parametrize("kind", [Code15, Sph, Mimic])
def test_a_folder_without_the_table_is_refused_with_its_name(kind: type, tmp_path: Path) -> None:
    with pytest.raises(EcgkitError, match=f"in {tmp_path}"):
        kind(tmp_path)


def test_every_folder_is_recognised(code15: Path, sph: Path, mimic: Path) -> None:
    assert [source_in(folder) for folder in (code15, sph, mimic)] == ["code15", "sph", "mimic"]


@pytest.mark.parametrize(
    ("kind", "column", "table"), [(Code15, "patient_id", "exams.csv"), (Sph, "Patient_ID", "metadata.csv")]
)
def test_a_record_without_a_patient_is_refused(kind: type, column: str, table: str, code15: Path, sph: Path) -> None:
    folder = code15 if kind is Code15 else sph
    rows = pd.read_csv(folder / table, dtype=str)
    rows.loc[1, column] = ""
    rows.to_csv(folder / table, index=False)
    with pytest.raises(EcgkitError, match=column):
        kind(folder)


def test_opening_reads_no_signal_and_a_worker_gets_its_records_only(mimic: Path) -> None:
    for path in mimic.rglob("*.dat"):
        path.unlink()
    source = Mimic(mimic)
    reader = source.reader(source.records["record_id"].tolist()[:2])
    assert len(reader.files.files) == 2
    with pytest.raises(EcgkitError):
        reader.read(source.records["record_id"].iloc[0])
