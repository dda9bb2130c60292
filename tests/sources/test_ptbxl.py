from __future__ import annotations

import json
import os
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest_ptbxl import tiny_signal

from ecgkit.errors import EcgkitError, UnreadableRecordError
from ecgkit.sources.base import CORE_COLUMNS
from ecgkit.sources.ptbxl.folder import PUBLISHED_ROWS
from ecgkit.sources.ptbxl.source import PtbXl
from ecgkit.sources.ptbxl.tables import LABEL_SETS

TinyPtbXl = Callable[..., Path]


def edit_table(folder: Path, edit: Callable[[pd.DataFrame], pd.DataFrame | None]) -> None:
    path = folder / "ptbxl_database.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    changed = edit(table)
    (table if changed is None else changed).to_csv(path, index=False)


def refused(folder: Path, *, sampling_rate: int = 100) -> str:
    with pytest.raises(EcgkitError) as caught:
        PtbXl(folder, sampling_rate=sampling_rate)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_columns_and_types_are_those_of_every_source(tiny_ptbxl: TinyPtbXl):
    records = PtbXl(tiny_ptbxl()).records
    columns = CORE_COLUMNS | PtbXl.columns
    assert {name: str(dtype) for name, dtype in records.dtypes.items()} == {
        name: columns[name].dtype for name in columns
    }
    assert list(records.index) == list(range(40))


def test_metadata_are_in_named_and_units(tiny_ptbxl: TinyPtbXl):
    records = PtbXl(tiny_ptbxl()).records.set_index("record_id")
    assert records.loc["2", "sex"] == "male"
    assert records.loc["1", "sex"] == "female"
    assert records.loc["13", "age"] == 90
    assert records.loc["13", "age_over_89"]
    assert np.isnan(records.loc["11", "age"])
    assert not records.loc["11", "age_over_89"]
    assert records.loc["2", "device"] == "CS-12 E"
    assert records.loc["1", "device"] == "AT-6 6"
    assert records.loc["1", "site"] == "2"
    assert pd.isna(records.loc["5", "site"])
    assert records["pacemaker"].isna().all()
    assert bool(records.loc["2", "validated_by_human"])
    assert json.loads(records.loc["2", "scp_codes"]) == {"INVA": 100.0}


def test_a_blank_sex_is_unknown_and_another_number_is_refused(tiny_ptbxl: TinyPtbXl):
    folder = tiny_ptbxl()
    edit_table(folder, lambda table: table.assign(sex=["", *table["sex"][1:]]))
    assert pd.isna(PtbXl(folder).records.loc[0, "sex"])
    edit_table(folder, lambda table: table.assign(sex=["2", *table["sex"][1:]]))
    assert "sex is '2' in row 1" in refused(folder)


def test_a_record_has_every_class_that_its_codes_map_to_whatever_the_likelihood(tiny_ptbxl: TinyPtbXl):
    source = PtbXl(tiny_ptbxl())
    assert tuple(source.labels) == LABEL_SETS
    assert list(source.labels["superclass"]) == ["NORM", "MI", "STTC", "CD", "HYP"]
    assert list(source.labels["subclass"]) == ["STX", "NORM", "MIX", "CDX", "HYX"]
    assert list(source.labels["diagnostic"]) == ["INVA", "NORM", "INFA", "INFB", "BLOC", "HYPA"]
    assert list(source.labels["form"]) == ["INVA", "FORM"]
    assert list(source.labels["rhythm"]) == ["SINU"]
    assert len(source.labels["all"].columns) == 8
    of_third = {name: set(table.columns[table.iloc[2]]) for name, table in source.labels.items()}
    assert of_third["superclass"] == {"MI", "HYP"}
    assert of_third["all"] == {"HYPA", "INFA", "INFB"}
    assert of_third["form"] == set()
    assert not source.labels["superclass"].iloc[3].any()


def test_a_record_is_read_by_its_identifier(tiny_ptbxl: TinyPtbXl):
    source = PtbXl(tiny_ptbxl(3, rates=(100, 500)), sampling_rate=500)
    ecg = source.read("2")
    assert (ecg.record_id, ecg.sampling_rate) == ("2", 500)
    np.testing.assert_allclose(ecg.signal, tiny_signal(2, 500) / 1000, atol=1e-6)
    np.testing.assert_array_equal(source.reader(["2"]).read("2").signal, ecg.signal)
    with pytest.raises(EcgkitError, match="no record '99'"):
        source.read("99")


def test_a_short_table_whose_files_are_there_is_a_part(tiny_ptbxl: TinyPtbXl):
    source = PtbXl(tiny_ptbxl())
    assert source.part is not None
    assert source.version == "unknown"


def test_missing_files_are_counted_and_refused(tiny_ptbxl: TinyPtbXl):
    folder = tiny_ptbxl()
    (folder / "records100/00000/00007_lr.dat").unlink()
    (folder / "records100/00000/00009_lr.hea").unlink()
    message = refused(folder)
    assert "2 of 40 records" in message
    assert "records100/00000/00007_lr" in message
    assert "ecgkit_manifest.json" in message


def test_a_folder_without_the_rate_asked_for_is_refused(tiny_ptbxl: TinyPtbXl):
    folder = tiny_ptbxl()
    assert "40 of 40 records" in refused(folder, sampling_rate=500)
    (folder / "ecgkit_manifest.json").write_text('{"part": true}')
    assert "40 of 40 records" in refused(folder, sampling_rate=500)
    assert "100 or 500" in refused(folder, sampling_rate=250)


def test_a_folder_that_says_so_may_lack_records(tiny_ptbxl: TinyPtbXl):
    folder = tiny_ptbxl()
    (folder / "records100/00000/00007_lr.dat").unlink()
    manifest = {"part": True, "reason": "a lesson", "version": "1.0.2"}
    (folder / "ecgkit_manifest.json").write_text(json.dumps(manifest))
    source = PtbXl(folder)
    assert "7" not in set(source.records["record_id"])
    assert len(source.records) == len(source.labels["all"]) == 39
    assert source.version == "1.0.2"
    assert source.part == manifest
    assert source.describe().endswith("; a part: a lesson")


def test_a_download_says_how_many_records_count(tiny_ptbxl: TinyPtbXl):
    folder = tiny_ptbxl()
    (folder / "ecgkit_manifest.json").write_text('{"first": {"100": 12}}')
    assert PtbXl(folder).records["record_id"].tolist() == [str(i) for i in range(1, 13)]
    assert "ecgkit download ptbxl --rate 500" in refused(folder, sampling_rate=500)
    (folder / "records100/00000/00007_lr.dat").unlink()
    assert "1 of 12 records" in refused(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"part": "yes"}', '{"first": 12}', '{"first": {"100": "all"}}'])
def test_a_part_file_that_says_nothing_is_refused(tiny_ptbxl: TinyPtbXl, content: str):
    folder = tiny_ptbxl(3)
    (folder / "ecgkit_manifest.json").write_text(content)
    assert "ecgkit_manifest.json" in refused(folder)


def test_a_part_names_its_version_in_the_licence(tiny_ptbxl: TinyPtbXl):
    folder = tiny_ptbxl(3)
    (folder / "LICENSE.txt").write_text("PTB-XL, version 1.0.3\n")
    assert PtbXl(folder).version == "1.0.3"
    assert PUBLISHED_ROWS == {21837: "1.0.1", 21801: "1.0.2", 21799: "1.0.3"}


def test_a_missing_folder_names_the_way_out(tmp_path: Path, tiny_ptbxl: TinyPtbXl):
    message = refused(tmp_path / "nothing")
    assert "--raw DIR" in message
    assert "--dataset demo" in message
    inner = tiny_ptbxl(3, name="outer/ptb-xl-1.0.3")
    assert f"--raw {inner}" in refused(inner.parent)
    (inner / "scp_statements.csv").unlink()
    assert "scp_statements.csv is missing" in refused(inner)


@pytest.mark.parametrize(
    ("column", "value", "named"),
    [
        ("scp_codes", "{'NORM': ", "scp_codes in row 1"),
        ("scp_codes", "{'WHAT': 0.0}", "'WHAT'"),
        ("scp_codes", "7", "scp_codes in row 1"),
        ("scp_codes", "{'NORM': 'much'}", "scp_codes in row 1"),
        ("scp_codes", "[" * 100_000, "scp_codes in row 1"),
        ("strat_fold", "11", "strat_fold is '11' in row 1"),
        ("strat_fold", "1.5", "strat_fold is '1.5' in row 1"),
        ("strat_fold", "nan", "strat_fold is 'nan' in row 1"),
        ("patient_id", "", "patient_id is blank in row 1"),
        ("patient_id", "15709.7", "patient_id is '15709.7' in row 1"),
        ("patient_id", "1e30", "patient_id is '1e30' in row 1"),
        ("patient_id", "-4", "patient_id is '-4' in row 1"),
        ("ecg_id", "1.7", "ecg_id is '1.7' in row 1"),
        ("ecg_id", "inf", "ecg_id is 'inf' in row 1"),
        ("ecg_id", "2", "ecg_id is '2' in rows 1 and 2"),
        ("filename_lr", "records100/00000/00002_lr", "in rows 1 and 2"),
        ("age", "old", "age is 'old' in row 1"),
        ("weight", "70 kg", "weight is '70 kg' in row 1"),
        ("site", "2.5", "site is '2.5' in row 1"),
        ("validated_by_human", "perhaps", "validated_by_human is 'perhaps' in row 1"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(tiny_ptbxl: TinyPtbXl, column: str, value: str, named: str):
    folder = tiny_ptbxl(3)
    edit_table(folder, lambda table: table.assign(**{column: [value, *table[column][1:]]}))
    assert named in refused(folder)


@pytest.mark.parametrize("column", ["height", "filename_lr", "scp_codes", "ecg_id"])
def test_a_column_that_is_absent_or_twice_is_named(tiny_ptbxl: TinyPtbXl, column: str):
    folder = tiny_ptbxl(3)
    path = folder / "ptbxl_database.csv"
    path.write_text(path.read_text().replace("nurse", column))
    assert f"two columns '{column}'" in refused(folder)
    edit_table(folder, lambda table: table.drop(columns=[column, f"{column}.1"]))
    assert f"no column '{column}'" in refused(folder)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("age", ["-5", "999", "1e308", "inf", "-inf", "nan", "131"]),
        ("height", ["-1", "0", "inf", "1e30"]),
        ("weight", ["-1", "0", "-0.0", "inf"]),
    ],
)
def test_a_quantity_that_nobody_has_is_unknown_and_counted(tiny_ptbxl: TinyPtbXl, column: str, values: list[str]):
    folder, n = tiny_ptbxl(len(values) + 1), len(values)
    edit_table(folder, lambda table: table.assign(**{column: [*values, "60"]}))
    source = PtbXl(folder)
    assert source.records[column].isna().tolist() == [True] * n + [False]
    assert f"{n - values.count('nan')} of {column}" in source.describe()
    assert not source.records["age_over_89"].any() or column != "age"


def test_flags_are_read_in_every_usual_spelling(tiny_ptbxl: TinyPtbXl):
    folder = tiny_ptbxl(8)
    spelled = ["1", "0", "True", "false", "1.0", "YES", "n", ""]
    edit_table(folder, lambda table: table.assign(validated_by_human=spelled))
    found = PtbXl(folder).records["validated_by_human"]
    assert found[:7].tolist() == [True, False, True, False, True, True, False]
    assert pd.isna(found[7])


@pytest.mark.parametrize("name", ["ptbxl_database.csv", "scp_statements.csv"])
@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 6\n", "Git LFS"),
        (b"<!DOCTYPE html><html>403, Forbidden</html>\n", "web page"),
        (b"", "not a table"),
        (b"\xfe\xfd\x00\x01" * 50, "not a table"),
        (b"a,b\n1,2,3\n", "not a table"),
        (b"a,b\n1,2\n", "no column"),
    ],
)
def test_what_is_no_table_is_named(tiny_ptbxl: TinyPtbXl, name: str, content: bytes, named: str):
    folder = tiny_ptbxl(3)
    (folder / name).write_bytes(content)
    message = refused(folder)
    assert named in message
    assert name in message


def test_a_statement_that_is_there_twice_is_refused(tiny_ptbxl: TinyPtbXl):
    folder = tiny_ptbxl(3)
    path = folder / "scp_statements.csv"
    path.write_text(path.read_text() + path.read_text().splitlines()[2] + "\n")
    assert "'NORM' in rows 2 and 9" in refused(folder)
    path.write_text(path.read_text().replace("NORM,normal", ",normal"))
    assert "blank in row 2" in refused(folder)


def test_record_folders_may_be_symbolic_links(tiny_ptbxl: TinyPtbXl, tmp_path: Path):
    folder = tiny_ptbxl()
    store = tmp_path / "store"
    (folder / "records100/00000").rename(store)
    (folder / "records100/00000").symlink_to(store)
    (store / "loop").symlink_to(folder / "records100")
    source = PtbXl(folder)
    assert len(source.records) == 40
    np.testing.assert_allclose(source.read("7").signal, tiny_signal(7, 100) / 1000, atol=1e-6)
    (store / "00007_lr.dat").unlink()
    (store / "00007_lr.dat").symlink_to(store / "gone")
    assert "00007_lr" in refused(folder)


@pytest.mark.parametrize("place", ["table", "header"])
def test_a_nul_in_a_file_name_costs_one_record(tiny_ptbxl: TinyPtbXl, place: str):
    folder = tiny_ptbxl()
    path = folder / ("ptbxl_database.csv" if place == "table" else "records100/00000/00007_lr.hea")
    path.write_bytes(path.read_bytes().replace(b"00007_lr", b"0000\x007_lr"))
    source = PtbXl(folder)
    assert len(source.records) == 40
    with pytest.raises(UnreadableRecordError) as caught:
        source.read("7")
    assert str(caught.value).isprintable()
    assert source.read("8").n_samples == 1000


def test_the_identity_changes_with_tables_rate_and_files(tiny_ptbxl: TinyPtbXl):
    folder = tiny_ptbxl(4, rates=(100, 500))
    identity = PtbXl(folder).identity()
    assert json.loads(json.dumps(identity)) == identity == PtbXl(folder).identity()
    assert PtbXl(folder, sampling_rate=500).identity() != identity
    signal = next(folder.glob("records100/**/*.dat"))  # a repaired file has the size of the broken one
    os.utime(signal, ns=(0, signal.stat().st_mtime_ns + 1))
    repaired = PtbXl(folder).identity()
    assert repaired != identity
    edit_table(folder, lambda table: table.assign(age="50"))
    assert PtbXl(folder).identity() != repaired


def test_what_travels_to_a_worker_is_small(tiny_ptbxl: TinyPtbXl):
    source = PtbXl(tiny_ptbxl(40))
    assert len(pickle.dumps(source.reader(["1", "2", "3"]))) < 1000


def test_damaged_tables_end_in_a_source_or_in_one_line(tiny_ptbxl: TinyPtbXl):
    folder, random = tiny_ptbxl(6), np.random.default_rng(4)
    tokens = [
        b"",
        b",",
        b'"',
        b"\n",
        b"\x00",
        b"nan",
        b"-1",
        b"1e999",
        b"9" * 25,
        b"{",
        b"'",
        b"\xff",
        b"\x1b[2J",
        b"1.5",
    ]
    outcomes: Counter[str] = Counter()
    for _ in range(60):
        path = folder / str(random.choice(["ptbxl_database.csv", "scp_statements.csv"]))
        kept = path.read_bytes()
        data = bytearray(kept)
        for _ in range(random.integers(1, 4)):
            at = int(random.integers(0, len(data)))
            data[at : at + int(random.integers(0, 8))] = tokens[random.integers(len(tokens))]
        path.write_bytes(data)
        try:
            outcomes["read" if PtbXl(folder).describe().isprintable() else "not printable"] += 1
        except EcgkitError as error:
            outcomes["refused" if str(error).isprintable() else "not one line"] += 1
        path.write_bytes(kept)
    assert set(outcomes) == {"read", "refused"}


@pytest.mark.real
def test_the_counts_of_ptbxl_103(ptbxl_folder: Path):
    source = PtbXl(ptbxl_folder)
    superclass = source.labels["superclass"]
    assert (source.version, source.part) == ("1.0.3", None)
    assert len(source.records) == 21799
    assert superclass.any(axis=1).sum() == 21388
    assert superclass.sum().to_dict() == {"NORM": 9514, "MI": 5469, "STTC": 5235, "CD": 4898, "HYP": 2649}
    classes = {name: len(table.columns) for name, table in source.labels.items()}
    assert classes == {"superclass": 5, "subclass": 23, "diagnostic": 44, "form": 19, "rhythm": 12, "all": 71}
    assert len(source.records[["patient_id", "fold"]].drop_duplicates()) == source.records["patient_id"].nunique()
    assert source.records["age"].max() == 90
    assert source.records["age_over_89"].sum() == 293
    assert not source.records["device"].dropna().str.contains("  | $", regex=True).any()


@pytest.mark.real
@pytest.mark.filterwarnings("ignore:The inplace keyword")
def test_a_record_of_ptbxl_is_what_wfdb_reads(ptbxl_folder: Path):
    import wfdb

    source = PtbXl(ptbxl_folder)
    expected = wfdb.rdsamp(str(ptbxl_folder / "records100/21000/21837_lr"))[0].T
    np.testing.assert_allclose(source.read("21837").signal, expected, atol=1e-6)


@pytest.mark.real
def test_ptbxl_at_500_hz_is_refused_where_records_are_missing(ptbxl_folder: Path):
    if len(list((ptbxl_folder / "records500").glob("*/*.dat"))) == 21799:
        pytest.skip("this PTB-XL is whole at 500 Hz")
    assert "have no files at 500 Hz" in refused(ptbxl_folder, sampling_rate=500)
