"""Your own data: a folder of files of several formats with a table of labels."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgkit import datasets, readers
from ecgkit.cli import main
from ecgkit.datasets.config import PreprocessingConfig
from ecgkit.errors import EcgkitError
from ecgkit.readers import opening
from ecgkit.sessions import Session
from ecgkit.signals.ecg import ECG, LEADS
from ecgkit.sources.folder import Folder
from ecgkit.workflow.run import name_quarantined

N_RECORDS = 24


def make_ecg(number: int, *, sampling_rate: int = 500, seconds: float = 10.0) -> ECG:
    """A record whose lead I is a sine of its own frequency, so that records can be told apart at any rate."""
    times = np.arange(round(seconds * sampling_rate)) / sampling_rate
    signal = np.tile(0.5 * np.sin(2 * np.pi * (1 + number / 10) * times), (12, 1))
    return ECG((signal + np.arange(12)[:, None] / 100).astype(np.float32), sampling_rate, f"r{number}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """24 records of 12 patients in three formats and at two depths; the labels of record r3 are unknown."""
    made = tmp_path / "my data"
    (made / "ward").mkdir(parents=True)
    for number in range(N_RECORDS):
        suffix = (".hea", ".csv", ".npz")[number % 3]
        readers.save_ecg(make_ecg(number), made / ("ward" if number % 2 else "") / f"r{number}{suffix}")
    table = pd.DataFrame(
        {
            "record_id": [f"r{number}" for number in range(N_RECORDS)],
            "patient_id": [f"p{number // 2}" for number in range(N_RECORDS)],
            "sex": ["M", "female"] * (N_RECORDS // 2),
            "age": [50, ""] * (N_RECORDS // 2),
            "AF": [number % 2 for number in range(N_RECORDS)],
            "LVH": ["true", "false", ""] * (N_RECORDS // 3),
            "potassium": [4.1, ""] * (N_RECORDS // 2),
            "ward": ["A", "B"] * (N_RECORDS // 2),
        }
    )
    table.to_csv(made / "labels.csv", index=False)
    return made


def edit(folder: Path, **columns: object) -> None:
    """Replace columns of the table; None removes one."""
    table = pd.read_csv(folder / "labels.csv", dtype=str, keep_default_na=False)
    for name, values in columns.items():
        table = table.drop(columns=name) if values is None else table.assign(**{name: values})
    table.to_csv(folder / "labels.csv", index=False)


def test_files_of_any_format_become_a_dataset_at_one_rate(folder: Path, tmp_path: Path) -> None:
    source = Folder(folder)
    assert list(source.labels["labels"]) == ["AF", "LVH"]
    assert source.labels["labels"]["LVH"].isna().sum() == N_RECORDS // 3
    assert source.records["sex"].tolist()[:2] == ["male", "female"]
    assert source.records["age"].isna().sum() == N_RECORDS // 2
    assert (source.columns["potassium"].dtype, source.columns["ward"].dtype) == ("float64", "string")
    assert pickle.loads(pickle.dumps(source.reader(["r5"]))).read("r5").record_id == "r5"  # noqa: S301
    dataset = datasets.build_dataset(source, tmp_path / "mine", progress=False, jobs=1)
    assert (dataset.sampling_rate, dataset.n_samples, len(dataset)) == (100, 1000, N_RECORDS)
    for number in (0, 1, 2, 23):
        expected = make_ecg(number, sampling_rate=100).signal
        # inside of what the resampling filter reaches beyond the ends
        error = np.abs(dataset.signals[number, :, 20:-20] / 1000 - expected[:, 20:-20]).max()
        assert error < 0.004
    opened = datasets.open_dataset(dataset.path, label_set="labels")
    opened.check_splits()
    assert opened.records.groupby("patient_id")["fold"].nunique().max() == 1


def test_short_records_are_filled_and_long_ones_cut(folder: Path, tmp_path: Path) -> None:
    for path in folder.glob("r0.*"):
        path.unlink()
    readers.save_ecg(make_ecg(0, seconds=6), folder / "r0.npz")
    readers.save_ecg(make_ecg(2, seconds=30), folder / "r2.npz")
    dataset = datasets.build_dataset(Folder(folder), tmp_path / "mine", progress=False, jobs=1)
    assert dataset.records.set_index("record_id")["nan_samples"].loc[["r0", "r2"]].tolist() == [12 * 400, 0]


def test_an_unreadable_file_is_quarantined_with_its_reason(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "r2.npz").write_bytes(b"no archive")
    dataset = datasets.build_dataset(Folder(folder), tmp_path / "mine", progress=False, jobs=1)
    assert [entry["record_id"] for entry in dataset.manifest["quarantined"]["records"]] == ["r2"]
    assert len(dataset) == N_RECORDS - 1
    name_quarantined(Session(dataset.path))
    assert "r2: " in capsys.readouterr().out


def test_the_example_is_the_first_record_that_can_be_read(folder: Path) -> None:
    source = Folder(folder)
    for path in folder.glob("r0.*"):
        path.unlink()
    (folder / "ward" / "r1.csv").write_text("I,II\n0.1,0.2\n")  # too short to be an ECG
    assert source.example().record_id == "r2"


def test_all_records_with_a_fault_are_named_at_once(folder: Path) -> None:
    table = pd.read_csv(folder / "labels.csv", dtype=str, keep_default_na=False)
    table["record_id"] = table["record_id"].replace({"r4": "r400", "r6": "r600", "r9": "r8"})
    table.to_csv(folder / "labels.csv", index=False)
    (folder / "ward" / "r10.csv").write_bytes((folder / "ward" / "r1.csv").read_bytes())
    with pytest.raises(EcgkitError) as caught:
        Folder(folder)
    for named in ("r400", "r600", "r8", "r10", "r4.csv", "r6.hea"):
        assert named in str(caught.value)


def test_files_without_a_row_are_left_out_and_named(folder: Path) -> None:
    readers.save_ecg(make_ecg(30), folder / "more.csv")
    source = Folder(folder)
    assert (source.surplus, len(source.records)) == (["more.csv"], N_RECORDS)
    assert "more.csv" in source.describe()


def test_a_path_tells_files_of_one_name_apart(folder: Path) -> None:
    readers.save_ecg(make_ecg(30), folder / "ward" / "r0.csv")
    with pytest.raises(EcgkitError, match="r0"):
        Folder(folder)
    ids = pd.read_csv(folder / "labels.csv")["record_id"].replace({"r0": "r0.hea"})
    edit(folder, record_id=ids)
    assert len(Folder(folder).records) == N_RECORDS


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"sex": ["0"] * N_RECORDS}, "'0'.*male"),
        ({"fold": ["11"] * N_RECORDS}, "'11'"),
        ({"patient_id": [""] * N_RECORDS}, "patient_id"),
        ({"patient_id": None}, "patient_id"),
        ({"AF": None, "LVH": None}, "--labels"),
        ({"age": ["old"] * N_RECORDS}, "'old'"),
        ({"fold": ["1", "9"] * (N_RECORDS // 2)}, "'p0'.*two of the splits"),
        ({"height": ["1.75", "1.8"] * (N_RECORDS // 2)}, "'1.75'.*cm"),
        ({"height": ["175", "1.8"] * (N_RECORDS // 2)}, "'1.8'.*cm"),
        ({"patient_id": ["p1", "NA"] * (N_RECORDS // 2)}, "'NA'"),
        ({"Fold": ["1"] * N_RECORDS}, "'Fold'.*fold"),
        ({"Patient ID": ["1"] * N_RECORDS}, "'Patient ID'.*patient_id"),
        ({"AF ": ["1"] * N_RECORDS}, "two columns 'AF'"),
        ({"macro": ["1"] * N_RECORDS}, "'macro'"),
        ({"nan_samples": ["5"] * N_RECORDS}, "'nan_samples'"),
    ],
)
def test_a_wrong_table_is_refused_with_the_value(folder: Path, columns: dict[str, object], named: str) -> None:
    edit(folder, **columns)
    with pytest.raises(EcgkitError, match=named):
        Folder(folder)


@pytest.mark.parametrize(
    ("separator", "encoding"),
    [(";", "utf-8"), ("\t", "utf-8"), (", ", "utf-8-sig"), (",", "utf-16"), (";", "utf-16-le")],
)
def test_a_table_is_read_as_spreadsheets_write_it(folder: Path, separator: str, encoding: str) -> None:
    path, comma = folder / "labels.csv", separator in (";", "\t")
    edit(folder, age=["63,5" if comma else "63.5"] * N_RECORDS, lab=["0,25" if comma else "0.25"] * N_RECORDS)
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    lines = [separator.join(row) for row in [list(rows), *rows.to_numpy().tolist()]]
    text = "\ufeff" * encoding.endswith("le") + "\n".join(lines)
    path.write_bytes(text.encode(encoding))
    source = Folder(folder)
    assert list(source.labels["labels"]) == ["AF", "LVH"]
    assert set(source.records["age"]) == {63.5}
    assert set(source.records["lab"]) == {0.25}


def test_paths_of_windows_and_of_a_shell_name_their_files(folder: Path) -> None:
    ids = pd.read_csv(folder / "labels.csv")["record_id"].replace({"r1": "ward\\r1", "r2": "./r2.npz"})
    edit(folder, record_id=ids)
    assert Folder(folder).read("ward\\r1").n_samples == 1000
    assert Folder(folder).surplus == []


@pytest.mark.parametrize("labels", ["AF,LVH", ["AF,LVH"], ["AF", "LVH"], ["AF, LVH"]])
def test_classes_are_named_one_by_one_or_with_commas(folder: Path, labels: list[str] | str) -> None:
    assert list(Folder(folder, labels=labels).labels["labels"]) == ["AF", "LVH"]


@pytest.mark.parametrize("name", ["nowhere", "labels.csv"])
def test_what_is_no_folder_is_named_as_such(folder: Path, name: str) -> None:
    with pytest.raises(EcgkitError, match=rf"{name} (does not exist|is a file)"):
        Folder(folder / name)


def test_a_name_with_a_backslash_is_that_of_a_file_first(folder: Path) -> None:
    (folder / "r2.npz").rename(folder / "$\\frac{.npz")
    edit(folder, record_id=pd.read_csv(folder / "labels.csv")["record_id"].replace({"r2": "$\\frac{.npz"}))
    assert Folder(folder).read("$\\frac{.npz").n_samples == 1000


def test_what_is_a_class_and_what_is_kept_is_said(folder: Path) -> None:
    edit(folder, AF=["yes", "no"] * (N_RECORDS // 2))
    assert "classes: LVH; further columns: AF, potassium, ward" in Folder(folder).describe()


def test_named_classes_and_own_folds_are_kept(folder: Path) -> None:
    folds = [str(number // 2 % 10 + 1) for number in range(N_RECORDS)]
    edit(folder, fold=folds)
    source = Folder(folder, labels="LVH")
    assert list(source.labels["labels"]) == ["LVH"]
    assert "AF" in source.columns
    assert source.records["fold"].astype(str).tolist() == folds
    with pytest.raises(EcgkitError, match="'MI'"):
        Folder(folder, labels=["MI"])


def test_identifiers_that_look_alike_are_named_and_never_in_two_splits(folder: Path) -> None:
    patients = [f"p{number // 2}" for number in range(N_RECORDS)]
    patients[5] = "P 02"
    edit(folder, patient_id=patients)
    source = Folder(folder)
    assert "1 (p2 and P 02)" in source.describe()
    assert source.records["patient_id"].tolist() == patients
    assert source.records["fold"].iloc[4] == source.records["fold"].iloc[5]
    edit(folder, fold=["10" if name == "P 02" else "1" for name in patients])
    with pytest.raises(EcgkitError, match="'p2'.*two of the splits"):
        Folder(folder)


def test_a_changed_file_changes_the_identity(folder: Path) -> None:
    before = Folder(folder).identity()
    assert Folder(folder).identity() == before
    (folder / "r2.npz").write_bytes(b"another")
    assert Folder(folder).identity() != before


def test_the_path_of_a_folder_is_a_source(folder: Path, tmp_path: Path) -> None:
    config = PreprocessingConfig.resolve(tmp_path, source=str(folder), rate=250, labels=["AF"])
    source = config.open_source(tmp_path)
    assert (source.sampling_rate, source.n_samples, list(source.labels["labels"])) == (250, 2500, ["AF"])
    assert config.folder(tmp_path).name == "my-data_250hz"
    with pytest.raises(EcgkitError, match=r"no_such.*labels\.csv"):
        PreprocessingConfig.resolve(tmp_path, source="./no_such").open_source(tmp_path)
    with pytest.raises(EcgkitError, match="demo.*labels"):
        PreprocessingConfig.resolve(tmp_path, source="demo", labels=["AF"])


def test_another_split_is_made_by_patient(tmp_path: Path) -> None:
    options = {"n_records": 400}
    config = PreprocessingConfig.resolve(tmp_path, source="demo", split=[0.7, 0.15, 0.15], source_options=options)
    source = config.open_source(tmp_path)
    records = source.records
    parts = np.digitize(records["fold"], [9, 10])
    assert records.groupby("patient_id")["fold"].nunique().max() == 1
    np.testing.assert_allclose(np.bincount(parts) / len(records), [0.7, 0.15, 0.15], atol=0.02)
    labels = next(iter(source.labels.values()))
    shares = labels.groupby(parts).mean()
    assert (shares.max() - shares.min()).max() < 0.04
    assert config.folder(tmp_path).name == "demo_split_70_15_15"
    for wrong in ([0.7, 0.3], [0.7, 0.2, 0.2], [1.0, 0.0, 0.0]):
        with pytest.raises(EcgkitError, match="split"):
            PreprocessingConfig.resolve(tmp_path, source="demo", split=wrong)


@pytest.mark.parametrize("word", ["NA", "NaN", "null", "None", "n/a"])
def test_what_programs_write_for_an_unknown_value_is_unknown(folder: Path, word: str) -> None:
    pairs = {
        "AF": ["1", word],
        "age": ["60", word],
        "sex": ["F", word],
        "potassium": ["4.1", word],
        "ward": ["A", word],
    }
    edit(folder, **{name: values * (N_RECORDS // 2) for name, values in pairs.items()})
    source = Folder(folder)
    assert source.labels["labels"]["AF"].tolist()[::2] == [True] * (N_RECORDS // 2)
    assert source.labels["labels"]["AF"][1::2].isna().all()
    assert source.records[["age", "sex", "potassium"]][1::2].isna().all(axis=None)
    assert source.records["potassium"][0] == 4.1
    assert source.records["ward"][1] == word  # a text is what it is


def test_a_class_with_a_mistake_is_no_further_column(folder: Path) -> None:
    edit(folder, AF=["11", *["0", "1"] * (N_RECORDS // 2)][:N_RECORDS])
    with pytest.raises(EcgkitError, match=r"AF is '11' in row 1.*--labels"):
        Folder(folder)
    assert Folder(folder, labels="LVH").columns["AF"].dtype == "float64"


def test_what_a_spreadsheet_adds_is_left_out(folder: Path) -> None:
    path = folder / "labels.csv"
    lines = path.read_text().splitlines()
    blank = "," * (lines[0].count(",") + 2)
    path.write_text("\r\n".join([*(f"{line},," for line in lines), blank, blank]))
    source = Folder(folder)
    assert len(source.records) == N_RECORDS
    assert list(source.columns) == ["potassium", "ward"]
    path.write_text("\n".join(f",{lines[0]}" if row == 0 else f"{row % 2},{line}" for row, line in enumerate(lines)))
    assert list(Folder(folder).labels["labels"]) == ["AF", "LVH"]  # an index without a name is no class


def test_a_file_is_opened_once_with_options_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    find_format = opening.find_format
    monkeypatch.setattr(opening, "find_format", lambda path: opened.append(path) or find_format(path))
    without_unit = folder / "r2.npz"
    with np.load(without_unit) as arrays:
        np.savez(without_unit, **{name: arrays[name] for name in arrays if name != "unit"})
    source = Folder(folder, unit="mV", leads=LEADS)
    opened.clear()
    for number in (0, 1, 2):
        assert source.read(f"r{number}").record_id
    assert len(opened) == 3


def test_options_are_for_the_files_that_do_not_say_it(folder: Path) -> None:
    (folder / "r2.npz").unlink()
    np.save(folder / "r2.npy", 1000 * make_ecg(2, sampling_rate=250).signal)  # no names, unit or rate
    with pytest.raises(EcgkitError, match="leads="):
        Folder(folder).read("r2")
    with pytest.raises(EcgkitError, match="unit="):
        Folder(folder, leads=",".join(LEADS)).read("r2")
    with pytest.raises(EcgkitError, match="file_rate="):
        Folder(folder, leads=LEADS, unit="uV").read("r2")
    source = Folder(folder, leads=LEADS, unit="uV", file_rate=250)
    for number in (0, 1, 2):
        expected = make_ecg(number, sampling_rate=100).signal[:, 20:-20]
        assert np.abs(source.read(f"r{number}").signal[:, 20:-20] - expected).max() < 0.004
    assert "unit of files that do not say it: uV" in source.describe()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"unit": "furlong"}, "unit is 'furlong'"),
        ({"file_rate": -5}, "file_rate is -5"),
        ({"seed": -1}, "seed is -1"),
        ({"seconds": 0}, "seconds is 0"),
        ({"labels": 5}, "labels of folder is 5"),
        ({"unit": 5}, "unit of folder is 5"),
        ({"seconds": "5"}, "seconds of folder is '5'"),
    ],
)
def test_a_wrong_option_is_named_as_it_was_given(
    folder: Path, tmp_path: Path, options: dict[str, object], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(EcgkitError, match=named):
        PreprocessingConfig.resolve(tmp_path, source=str(folder), source_options=options).folder(tmp_path)
    given = [f"{name}={json.dumps(value)}" for name, value in options.items()]
    assert main(["preprocess", str(folder), "--root", str(tmp_path), "--source-options", *given]) == 2
    message = capsys.readouterr().err
    assert named in message
    assert "--" not in message


def test_an_integer_serves_where_a_number_is_meant(folder: Path, tmp_path: Path) -> None:
    config = PreprocessingConfig.resolve(tmp_path, source=str(folder), source_options={"seconds": 5, "file_rate": 500})
    assert config.open_source(tmp_path).n_samples == 500


@pytest.mark.parametrize("name", [" ", "a\nb", "a/b", "..", ".hidden", "a\u202eb"])
def test_a_dataset_has_a_name_that_can_be_read(name: str, tmp_path: Path) -> None:
    with pytest.raises(EcgkitError, match="name is"):
        PreprocessingConfig.resolve(tmp_path, source="demo", name=name)


def test_classes_are_named_in_one_place(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EcgkitError, match="labels"):
        PreprocessingConfig.resolve(tmp_path, source=str(folder), labels=["AF"], source_options={"labels": "LVH"})


def test_leads_that_a_file_lacks_stay_missing(folder: Path) -> None:
    ecg = make_ecg(2)
    ecg.signal[LEADS.index("V6")] = np.nan
    readers.save_ecg(ecg, folder / "r2.npz")
    assert Folder(folder).read("r2").missing_leads == ("V6",)


def test_the_chain_takes_a_folder(folder: Path, tmp_path: Path) -> None:
    from ecgkit.workflow.chain import check_trainings, is_raw

    assert is_raw(str(folder), tmp_path)
    assert not is_raw("my_data", tmp_path)
    check_trainings(tmp_path, str(folder), ["cnn"], None, {"label_set": "labels"})
    check_trainings(tmp_path, str(folder), ["cnn"], None, {})
    with pytest.raises(EcgkitError, match="superclass"):
        check_trainings(tmp_path, str(folder), ["cnn"], None, {"label_set": "superclass"})
    (tmp_path / "processed_datasets" / "ward").mkdir(parents=True)
    assert not is_raw("ward", tmp_path)
