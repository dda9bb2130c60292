"""Folders of PhysioNet/CinC 2020 and 2021, made in their format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ecg_files import real_file
from made_sources import cinc_folder, millivolts, write_cinc
from scipy.signal import resample_poly

from ecgkit import datasets
from ecgkit.datasets.config import PreprocessingConfig
from ecgkit.errors import EcgkitError, UnreadableRecordError
from ecgkit.sources import source_in
from ecgkit.sources.cinc import Cinc, subset_of
from ecgkit.sources.codes import code_labels, code_table

DEFECTS = {
    "A00101": "no value",
    "A00102": "flat",
    "A00103": "20 mV",
    "A00104": "1000/mV",
    "A00105": "164889003 twice",
    "A00106": "2 lines",
    "A00107": "'AFIB'",
    "A00108": "no line Dx",
    "A00109": "truncated",
    "A00110": "V5, V6",
    "A00111": "3 s",
    "A00112": "''",
}


def add_defects(folder: Path) -> None:
    """Add one record per defect of published folders; its name is the key of `DEFECTS`."""
    good = millivolts(1, 5000, 500)[0]
    spike = good.copy()
    spike[3, 100] = 25.0
    signals = {"A00101": np.full_like(good, np.nan), "A00102": np.zeros_like(good), "A00103": spike}
    for name, signal in signals.items():
        write_cinc(folder, name, signal)
    write_cinc(folder, "A00104", good, gain=200, steps_per_mv=1000)
    dx = {
        "A00105": "#Dx: 164889003,426783006,164889003\n",
        "A00106": "#Dx: 164889003\n#Dx: 426783006\n",
        "A00107": "#Dx: AFIB\n",
        "A00108": "#Age: 50\n",
        "A00112": "#Dx: 164889003,,59118001\n",
    }
    for name, comments in dx.items():
        write_cinc(folder, name, good, comments=comments)
    write_cinc(folder, "A00109", good)
    whole = (folder / "A00109.mat").read_bytes()
    (folder / "A00109.mat").write_bytes(whole[: len(whole) // 2])
    write_cinc(folder, "A00110", good[:10], leads=("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4"))
    write_cinc(folder, "A00111", good[:, :1500])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty records of six data sets."""
    return cinc_folder(tmp_path_factory.mktemp("cinc") / "challenge")


def wfdb_signal(record: str) -> np.ndarray:
    """Read a record with wfdb, shape (samples, signals)."""
    import wfdb

    return wfdb.rdsamp(record)[0]


def test_headers_say_who_the_patient_is_and_which_data_set_it_is(folder: Path) -> None:
    source = Cinc(folder)
    records = source.records.set_index("record_id")
    assert source.name == "challenge"
    assert records.loc["HR00004", ["age", "sex", "subset"]].tolist() == [57, "male", "PTB-XL"]
    over = records.loc["HR00010"]
    assert (over["age"], over["age_over_89"]) == (90, True)
    assert pd.isna(records.loc["Q00001", "age"])
    assert records.loc["JS00003", "sex"] is pd.NA
    assert records.loc["S00005", ["file_rate", "file_seconds"]].tolist() == [1000, 38]
    assert [subset_of(name) for name in ("JS10646", "JS10647", "I0001", "X1", "a")] == [
        "Chapman-Shaoxing", "Ningbo", "St Petersburg", None, None,
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore:The inplace keyword")
def test_a_record_holds_what_wfdb_reads_at_another_rate(folder: Path) -> None:
    ecg = Cinc(folder, sampling_rate=500).read("S00005")
    signal = wfdb_signal(str(next(folder.rglob("S00005.hea")).with_suffix("")))
    assert ecg.signal.shape == (12, 5000)
    expected = resample_poly(signal.T, 1, 2, axis=1)[:, :5000]
    np.testing.assert_allclose(ecg.signal[:, 20:], expected[:, 20:], atol=1e-3)
    long = Cinc(folder, sampling_rate=500).read("A00000")
    signal = wfdb_signal(str(next(folder.rglob("A00000.hea")).with_suffix("")))
    np.testing.assert_allclose(long.signal, signal.T[:, :5000], atol=1e-6)


def test_codes_become_superclasses_by_the_table() -> None:
    codes = [["426783006"], ["426783006", "427393009"], ["426783006", "164889003"], ["59118001", "426783006"], []]
    labels, unmapped = code_labels([*codes, ["164873001", "99999999"]], "snomed")
    found = labels["superclass"]
    assert found.loc[0].tolist() == [True, False, False, False, False]
    assert found["NORM"].tolist()[1:4] == [True, False, False]
    assert found.loc[3, "CD"]
    assert found.loc[4].isna().all()
    # a code that the table lacks could mean any class, so only what is known to be there is known
    assert found.loc[5, "HYP"]
    assert found.loc[5, ["MI", "STTC", "CD"]].isna().all()
    assert unmapped == {"99999999": 1}
    assert labels["codes"].loc[5, ["LVH", "99999999"]].tolist() == [True, True]


def test_every_row_of_the_table_has_a_source() -> None:
    for system, n_codes in (("snomed", 133), ("aha", 117)):
        table = code_table(system)
        assert table.index.is_unique
        assert table["class"].is_unique
        assert len(table) == n_codes
        assert set(table["superclass"]) == {"", "NORM", "MI", "STTC", "CD", "HYP"}
        assert (table["source"] != "").all()


@pytest.mark.real
def test_statements_that_ptbxl_has_too_have_its_superclass(ptbxl_folder: Path) -> None:
    ptbxl_statements = pd.read_csv(ptbxl_folder / "scp_statements.csv", index_col=0)
    for system in ("snomed", "aha"):
        table = code_table(system)
        rows = table[table["source"].str.startswith("PTB-XL ")]
        of_ptbxl = rows["source"].str.removeprefix("PTB-XL ").map(ptbxl_statements["diagnostic_class"])
        assert of_ptbxl.tolist() == rows["superclass"].tolist()


def test_defective_records_are_quarantined_with_the_reason(tmp_path: Path) -> None:
    made = cinc_folder(tmp_path / "made", 12)
    add_defects(made / "A" / "g3")
    dataset = datasets.build_dataset(Cinc(made), tmp_path / "out", progress=False, jobs=1)
    reasons = {entry["record_id"]: entry["reason"] for entry in dataset.manifest["quarantined"]["records"]}
    assert set(reasons) == set(DEFECTS)
    for name, part in DEFECTS.items():
        assert part in reasons[name] or (name == "A00109" and "samples" in reasons[name]), reasons[name]
    assert len(dataset) == 12
    assert "quarantined" in dataset.manifest["source"]["identity"]["length"]


def test_a_gain_that_is_wrong_in_most_records_of_a_data_set_is_wrong_in_all(tmp_path: Path) -> None:
    signals = millivolts(8, 5000, 500)
    spans = np.median(np.ptp(signals, axis=2), axis=1)
    for number, signal in enumerate(signals):
        # Georgia holds microvolts, one of them of low voltage; in CPSC the same gain is right
        level = 0.3 if number == 3 else 2.0
        write_cinc(tmp_path / "E", f"E0000{number}", level * signal / spans[number], gain=200, steps_per_mv=1000)
        write_cinc(tmp_path / "A", f"A000{number}", level * signal / spans[number], gain=200)
    source = Cinc(tmp_path)
    for number in range(8):
        with pytest.raises(UnreadableRecordError, match="1000/mV"):
            source.read(f"E0000{number}")
        assert source.read(f"A000{number}").signal.shape == (12, 1000)


def test_a_defect_after_what_is_kept_does_not_matter(tmp_path: Path) -> None:
    signal = np.tile(millivolts(1, 5000, 500)[0], 3)
    signal[3, 9000] = 25.0
    made = cinc_folder(tmp_path / "made", 12)
    write_cinc(made, "I0001", signal)
    assert Cinc(made).read("I0001").signal.shape == (12, 1000)
    with pytest.raises(UnreadableRecordError, match="20 mV"):
        Cinc(made, seconds=20.0).read("I0001")


def test_copies_of_a_record_are_of_one_patient(tmp_path: Path) -> None:
    made = cinc_folder(tmp_path / "made", 12)
    for folder in ("2020", "2021"):
        write_cinc(made / folder, "E90000", millivolts(1, 5000, 500)[0])
    records = Cinc(made).records.set_index("record_id")
    copies = records.loc[["2020/E90000", "2021/E90000"]]
    assert copies["patient_id"].nunique() == copies["fold"].nunique() == 1
    assert records["patient_id"].nunique() == 13


def test_a_short_record_ends_in_what_is_zero_for_a_network(tmp_path: Path) -> None:
    made = cinc_folder(tmp_path / "made", 12)
    write_cinc(made, "E90000", millivolts(1, 3500, 500)[0])
    dataset = datasets.build_dataset(Cinc(made), tmp_path / "out", progress=False, jobs=1)
    row = int(np.flatnonzero(dataset.records["record_id"] == "E90000")[0])
    prepared = dataset.preparation().network_input(np.array(dataset.signals[row]))
    expected = -dataset.mean / dataset.std  # 0 mV after the offset is removed
    np.testing.assert_allclose(prepared[:, 700:], np.repeat(expected[:, None], 300, axis=1), atol=0.02)
    assert dataset.records["file_seconds"].iloc[row] == 7


def test_unmapped_codes_are_counted_in_the_manifest_and_in_the_description(tmp_path: Path) -> None:
    made = cinc_folder(tmp_path / "made", 12)
    for number in (1, 2):
        write_cinc(made, f"E9000{number}", millivolts(1, 5000, 500)[0], comments="#Dx: 10725009\n")
    source = Cinc(made)
    dataset = datasets.build_dataset(source, tmp_path / "out", progress=False, jobs=1)
    assert dataset.manifest["unmapped_codes"] == {"10725009": 2}
    assert "10725009 (2)" in source.describe()


def test_consecutive_records_of_ptb_with_one_age_and_sex_count_as_one_patient(tmp_path: Path) -> None:
    made = cinc_folder(tmp_path / "made", 12)
    ages = (81, 81, 81, 40, 81)
    for number, age in enumerate(ages, 1):
        comments = f"#Age: {age}\n#Sex: Female\n#Dx: 164865005\n"
        for prefix in ("S", "E"):
            write_cinc(made, f"{prefix}9000{number}", millivolts(1, 5000, 500)[0], comments=comments)
    patients = Cinc(made).records.set_index("record_id")["patient_id"]
    assert patients[[f"S9000{number}" for number in range(1, 6)]].tolist() == [
        "S90001", "S90001", "S90001", "S90004", "S90005",
    ]  # fmt: skip
    assert patients[patients.index.str.startswith("E")].is_unique


def test_a_folder_is_recognised_by_its_contents(folder: Path, tmp_path: Path) -> None:
    assert source_in(folder) == "cinc"
    config = PreprocessingConfig.resolve(tmp_path, source=str(folder))
    assert (config.source, config.folder(tmp_path).name) == ("cinc", "challenge")
    assert source_in(tmp_path) == "folder"


def test_a_folder_without_codes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EcgkitError, match=tmp_path.name):
        Cinc(tmp_path)
    write_cinc(tmp_path, "x", millivolts(1, 5000, 500)[0], comments="")
    with pytest.raises(EcgkitError, match="Dx"):
        Cinc(tmp_path)


@pytest.mark.filterwarnings("ignore:The inplace keyword")
def test_real_records_are_read() -> None:
    from ecgkit.sources.cinc import CincFiles, _read_fields

    folder = real_file("cinc/A0001.hea").parent
    fields = {path.stem: _read_fields(path) for path in folder.glob("*.hea")}
    assert {name: (one.age, one.sex, one.codes) for name, one in fields.items()} == {
        "A0001": (74, "male", ("59118001",)),
        "JS00001": (85, "male", ("164889003", "59118001", "164934002")),
    }
    ecg = CincFiles(str(folder), {name: name for name in fields}).read("JS00001")
    np.testing.assert_allclose(ecg.signal.T, wfdb_signal(str(folder / "JS00001")), atol=1e-6)
