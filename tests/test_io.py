"""Files that may hold anything are read with one error, which names the file and the key."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NotRequired, TypedDict

import numpy as np
import pandas as pd
import pytest

from ecgkit.errors import EcgkitError, one_line, printable
from ecgkit.io import MAX_BYTES, check_space, file_name, read_array, read_json, read_table, read_toml


class Metric(TypedDict):
    """What the tests read."""

    value: float | None
    names: NotRequired[list[str]]


def message(function: Any, *arguments: Any, **keywords: Any) -> str:
    """Call a function, and return the message of its error."""
    with pytest.raises(EcgkitError) as caught:
        function(*arguments, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "[" * 40 + "]" * 40, '{"a":' * 500 + "1" + "}" * 500, "", "\0", "nul", "NaN", '{"a": Infinity}',
     "7" * 5000, '{"a": 1, "a": 2}', '{"a": "\\ud800"}', '{"\\udfff": 1}', "[]", "3", "null", '"text"', "\ufeff"],
)  # fmt: skip
def test_json_that_is_no_table_of_ordinary_values_is_one_line_with_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    assert str(path) in message(read_json, path)


def test_other_bytes_folders_and_missing_files_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    assert str(path) in message(read_json, path)
    path.write_bytes(b"\xff\xfe{\0}\0")
    assert str(path) in message(read_json, path)
    assert str(tmp_path) in message(read_json, tmp_path)
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert "MiB" in message(read_json, path)


def test_json_that_is_read_is_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    data = {"value": 1, "names": ["é", "\U0001f600"], "more": {"deep": [[[{}]]]}, "none": None}
    path.write_text(json.dumps(data))
    assert read_json(path, Metric) == read_json(path) == data


@pytest.mark.parametrize(
    ("data", "wanted", "key"),
    [
        ({"value": "x"}, Metric, "value"),
        ({"value": True}, Metric, "value"),
        ({}, Metric, "value"),
        ({"value": None, "names": ["a", 3]}, Metric, "names.1"),
        ({"auc": {"value": 1}, "f1": {"value": []}}, dict[str, Metric], "f1.value"),
        ({"auc": []}, dict[str, Metric], "auc"),
        ({"a": {"b": 1.5}}, dict[str, dict[str, int]], "a.b"),
    ],
)
def test_a_wrong_type_names_file_and_key(tmp_path: Path, data: Any, wanted: Any, key: str) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(data))
    text = message(read_json, path, wanted, way_out="train the model again")
    assert f"{path}: {key} is " in text
    assert text.endswith("train the model again")


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = 1\na = 2", "a = \xff", "=", f"{'a.' * 50}b = 1"])
def test_toml_that_cannot_be_read_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(text.encode("latin-1"))
    assert str(path) in message(read_toml, path)


def test_a_table_names_the_column_that_is_missing_or_of_another_type(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    columns = {"record_id": "text", "fold": "integer", "prob_MI": "number", "true_MI": "bool"}
    good = pd.DataFrame({"record_id": ["1", None], "fold": [9, 10], "prob_MI": [0.1, np.nan], "true_MI": [True, False]})
    good.to_parquet(path)
    pd.testing.assert_frame_equal(read_table(path, columns), good)
    for name in columns:
        good.drop(columns=name).to_parquet(path)
        assert f"column {name} " in message(read_table, path, columns)
        good.assign(**{name: [[1.0], [2.0]]}).to_parquet(path)
        assert f"column {name} " in message(read_table, path, columns)
    good.assign(true_MI=[0, 1]).to_parquet(path)
    assert "column true_MI " in message(read_table, path, columns)


def test_damaged_tables_are_one_line(tmp_path: Path) -> None:
    path, rng = tmp_path / "a.parquet", random.Random(0)  # noqa: S311 - a test
    pd.DataFrame({"record_id": list("abc"), "x": [1.0, 2.0, 3.0]}).to_parquet(path)
    whole = path.read_bytes()
    for _ in range(200):
        data = bytearray(whole[: rng.choice([len(whole), rng.randrange(len(whole))])])
        for _ in range(rng.randrange(1, 6)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        try:
            read_table(path, {"record_id": "text", "x": "number"})
        except EcgkitError as error:
            assert str(path) in str(error)  # noqa: PT017 - either is right


def test_an_array_whose_header_claims_more_than_there_is_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    for shape in [(10**15,), (10**30, 10**30), (2**62, 3), (-5,)]:
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
            file.write(bytes(64))
        assert str(path) in message(read_array, path)
    np.save(path, np.array([{}], dtype=object))
    assert str(path) in message(read_array, path)
    np.save(path, np.arange(6).reshape(2, 3))
    assert np.array_equal(read_array(path), [[0, 1, 2], [3, 4, 5]])


def test_what_a_terminal_would_act_on_is_written_as_text() -> None:
    assert printable("\x1b[31mred\x07\x9b2J\u202egnp\r.exe\ud800") == r"\x1b[31mred\x07\x9b2J\u202egnp\r.exe\ud800"
    assert printable("Ünï µV 心電図 a\nb") == "Ünï µV 心電図 a\nb"
    assert one_line(EcgkitError("a\n\x1b[2J b")) == r"a \x1b[2J b"
    assert one_line(KeyError("a")) == "KeyError: 'a'"


def test_a_file_name_has_no_control_characters_and_fits_a_file_system(tmp_path: Path) -> None:
    for name in ("\x1b[2J", "a\0b", "\u202egnp.exe", "x" * 1000, "é" * 400, "../../a", ".."):
        made = file_name(name)
        assert made.isprintable()
        (tmp_path / made).mkdir()
        assert (tmp_path / made).parent == tmp_path
    assert file_name("x" * 1000 + "a") != file_name("x" * 1000 + "b")
    assert file_name("LAFB/LPFB") == "LAFB-LPFB"


def mutate(data: Any, rng: random.Random) -> Any:
    """Change one value somewhere in JSON data."""
    if isinstance(data, dict) and data and rng.random() < 0.9:
        key = rng.choice(list(data))
        return data | {key: mutate(data[key], rng)}
    return rng.choice([None, True, -1, 1e308, "", "x", [], {}, [[]], {"a": {}}, 10**400])


def test_mutated_data_are_read_or_refused(tmp_path: Path) -> None:
    rng, path = random.Random(0), tmp_path / "a.json"  # noqa: S311 - a test
    for _ in range(300):
        path.write_text(json.dumps(mutate({"auc": {"value": 0.5, "names": ["a"]}, "f1": {"value": None}}, rng)))
        try:
            read_json(path, dict[str, Metric])
        except EcgkitError as error:
            assert str(path) in str(error)  # noqa: PT017 - either is right


def test_toml_is_read_as_the_standard_library_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    text = 'a = 1\nb = [1.5, "x"]\n[t]\nc = true\n'
    path.write_text(text)
    assert read_toml(path) == tomllib.loads(text)


def test_the_message_about_disk_space_names_its_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2_020_000_000))
    check_space(tmp_path, 1_950_000_000)
    with pytest.raises(EcgkitError, match=r"2\.00 GB and a reserve of 0\.07 GB.*2\.02 GB"):
        check_space(tmp_path, 2_000_000_000)


def test_a_table_is_read_without_threads(tmp_path: Path) -> None:
    """Where memory is too short to start one, Arrow would wait for it without end."""
    pd.DataFrame({"record_id": ["1", "2"], "x": [0.5, 1.5]}).to_parquet(tmp_path / "table.parquet")
    code = (
        "import os, sys; import pandas; from pyarrow import parquet; from ecgkit.io import read_table;"
        "before = len(os.listdir('/proc/self/task')); read_table(sys.argv[1]);"
        "print(len(os.listdir('/proc/self/task')) - before)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "table.parquet")]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == "0"


@pytest.mark.parametrize("error", [MemoryError(), OSError(12, "Cannot allocate memory")])
def test_where_memory_is_short_it_is_the_first_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A file that is whole must not be made again because of it."""

    def read(*_: object, **__: object) -> None:
        raise error

    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "table.parquet")
    monkeypatch.setattr("pyarrow.parquet.ParquetFile.read", read)
    assert ": free memory" in message(read_table, tmp_path / "table.parquet")
