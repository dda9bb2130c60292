"""Vectors of another program: what is read, and what is refused before anything is computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import ArrayLike

from ecgkit.cli import main
from ecgkit.errors import EcgkitError
from ecgkit.feature_space.space import open_space
from ecgkit.feature_space.vectors import read_vectors

RECORDS = pd.DataFrame({"record_id": [str(i) for i in range(200)], "fold": [i % 10 + 1 for i in range(200)]})


def write(folder: Path, values: ArrayLike, ids: ArrayLike | None = None) -> Path:
    path = folder / "vectors.npy"
    np.save(path, np.asarray(values))
    pd.DataFrame({"record_id": RECORDS["record_id"] if ids is None else ids}).to_csv(path.with_suffix(".csv"))
    return path


def normal(n_features: int = 3) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((len(RECORDS), n_features))


def test_vectors_are_taken_in_the_order_of_the_dataset(tmp_path: Path) -> None:
    values = normal()
    path = write(tmp_path, np.concatenate([values[::-1], values[:1]]), [*RECORDS["record_id"][::-1], "other"])
    positions, vectors = read_vectors(path, RECORDS)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(positions, np.arange(200))
    np.testing.assert_array_equal(vectors, values.astype(np.float32))
    positions, vectors = read_vectors(path, RECORDS[RECORDS["record_id"].astype(int) >= 50].reset_index(drop=True))
    np.testing.assert_array_equal(vectors, values[50:].astype(np.float32))


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "vectors.npy"
    with pytest.raises(EcgkitError, match="no file .*vectors.npy"):
        read_vectors(path, RECORDS)
    np.save(path, normal())
    with pytest.raises(EcgkitError, match=r"vectors\.parquet or .*vectors\.csv"):
        read_vectors(path, RECORDS)
    pd.DataFrame({"id": RECORDS["record_id"]}).to_csv(path.with_suffix(".csv"))
    with pytest.raises(EcgkitError, match="record_id"):
        read_vectors(path, RECORDS)
    np.save(path, np.array(["a"]))
    with pytest.raises(EcgkitError, match="numbers"):
        read_vectors(path, RECORDS)
    path.write_bytes(b"PNG")
    with pytest.raises(EcgkitError, match=r"vectors\.npy cannot be read"):
        read_vectors(path, RECORDS)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (np.full((200, 4), 0.5), "0 of the 4 columns"),
        (normal(1), "1 of the 1 columns"),
        (normal(1)[:, 0], r"\(200,\)"),
        (np.concatenate([normal(1), np.ones((200, 5))], axis=1), "1 of the 6 columns"),
        (np.where((RECORDS["fold"] == 10).to_numpy()[:, None], normal(), 1.0), "0 of the 3 columns"),
        (np.where(normal() > 2, np.nan, normal()), "not finite"),
        (normal() * 1e300, "not finite"),
        (normal()[:-1], r"\(199, 3\)"),
    ],
)
def test_vectors_that_hold_too_little_are_refused_by_name(tmp_path: Path, values: np.ndarray, named: str) -> None:
    with pytest.raises(EcgkitError, match=named):
        read_vectors(write(tmp_path, values), RECORDS)


def test_vectors_of_too_few_records_are_refused(tmp_path: Path) -> None:
    for rows in (RECORDS["fold"] == 10, RECORDS["fold"] < 10, RECORDS.index < 90):
        some = RECORDS[rows]
        with pytest.raises(EcgkitError, match=f"of {(some['fold'] < 9).sum()} records of folds 1-8 and"):
            read_vectors(write(tmp_path, normal()[rows], some["record_id"]), RECORDS)
    with pytest.raises(EcgkitError, match="compare their record_id"):
        read_vectors(write(tmp_path, normal(), [f"x{i}" for i in range(200)]), RECORDS)
    with pytest.raises(EcgkitError, match="record 7 has two vectors"):
        read_vectors(write(tmp_path, normal()[[3, 7, 7]], ["3", "7", "7"]), RECORDS)


def test_the_command_refuses_useless_vectors_before_it_starts(
    trained_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = open_space("latest", trained_root).dataset.records["record_id"]
    path = write(tmp_path, np.full((len(ids), 8), 0.5), ids)
    before = sorted(trained_root.glob("*/*"))
    assert main(["probe", "1", "--vectors", str(path), "--root", str(trained_root)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line
    assert sorted(trained_root.glob("*/*")) == before
