"""Every source in the registry keeps the contract of `ecgkit.sources.base.Source`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_sources import cinc_folder, code15_folder, mimic_folder, sph_folder

from ecgkit.readers import save_ecg
from ecgkit.sources import SOURCES, base, open_source
from ecgkit.sources.base import CORE_COLUMNS, Source, record_table


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, tiny_ptbxl: Callable[..., Path], tmp_path: Path) -> Source:
    """Open a small example of each source; a new one needs a line here."""
    open_example = {
        "cinc": lambda: open_source("cinc", cinc_folder(tmp_path / "challenge")),
        "code15": lambda: open_source("code15", code15_folder(tmp_path / "code")),
        "demo": lambda: open_source("demo", n_records=20),
        "folder": lambda: open_source("folder", own_folder(tmp_path)),
        "mimic": lambda: open_source("mimic", mimic_folder(tmp_path / "boston")),
        "ptbxl": lambda: open_source("ptbxl", tiny_ptbxl(20)),
        "sph": lambda: open_source("sph", sph_folder(tmp_path / "shandong")),
    }
    return open_example[request.param]()


def own_folder(folder: Path) -> Path:
    """Write ten records of the demo as files with a table."""
    demo = open_source("demo", n_records=20)
    records = demo.records.drop_duplicates("patient_id")[:10]
    for record_id in records["record_id"]:
        save_ecg(demo.read(record_id), folder / f"{record_id}.csv")
    labels = demo.labels["superclass"].loc[records.index, ["NORM"]].astype(int)
    records[["record_id", "patient_id", "age", "sex"]].join(labels).to_csv(folder / "labels.csv", index=False)
    return folder


def test_it_has_the_core_columns_and_those_that_it_declares(source: Source) -> None:
    columns = CORE_COLUMNS | dict(source.columns)
    assert {name: str(dtype) for name, dtype in source.records.dtypes.items()} == {
        name: column.dtype for name, column in columns.items()
    }
    assert all(columns[name].unit for name in ("age", "height", "weight"))
    assert source.records[["record_id", "patient_id", "fold"]].notna().all(axis=None)
    assert source.records["record_id"].is_unique
    assert source.records["fold"].between(1, 10).all()
    assert set(source.records["sex"].dropna()) <= {"male", "female"}


def test_it_says_its_rates_label_sets_licence_and_citation(source: Source) -> None:
    kind = type(source)
    assert "unknown" not in (kind.licence, kind.citation)
    assert source.sampling_rate == kind.sampling_rates[0]
    assert set(kind.all_false) == set(source.labels)
    assert set(kind.all_false.values()) <= {"unlabelled", "negative"}
    for table in source.labels.values():
        assert len(table) == len(source.records)
        assert table.index.equals(source.records.index)
    assert json.loads(json.dumps(source.identity()))["source"] == source.name


def test_a_record_is_an_ecg_in_mv_at_its_rate(source: Source) -> None:
    record_id = source.records["record_id"].iloc[-1]
    ecg = source.read(record_id)
    assert (ecg.record_id, ecg.sampling_rate, ecg.n_samples) == (record_id, source.sampling_rate, source.n_samples)
    assert 0.05 < np.median(np.ptp(ecg.signal, axis=1)) < 5
    np.testing.assert_array_equal(source.reader([record_id]).read(record_id).signal, ecg.signal)


def test_quantities_that_nobody_has_are_unknown_in_every_source() -> None:
    columns = {"record_id": ["a", "b", "c"], "patient_id": ["a", "b", "c"], "fold": [1, 2, 3]}
    quantities = {"age": [-1, 50, 131], "height": [0, 170, 1e9], "weight": [np.inf, 70, -3]}
    table = record_table(columns | quantities)
    assert table[list(quantities)].isna().sum(axis=1).tolist() == [3, 0, 3]
    assert table.attrs["impossible"] == {"age": 2, "height": 2, "weight": 2}
    assert record_table(columns).attrs == {}


def test_the_hash_of_a_table_does_not_depend_on_how_many_rows_are_hashed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = [f"r{number}" for number in range(50)]
    table = record_table({"record_id": ids, "patient_id": ids, "fold": 1, "sex": ["male", None] * 25, "age": 50.0})
    whole = hashlib.sha256(",".join(table.columns).encode())
    whole.update(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes())
    monkeypatch.setattr(base, "HASHED_ROWS", 7)
    assert base.tables_sha256([table]) == whole.hexdigest()
