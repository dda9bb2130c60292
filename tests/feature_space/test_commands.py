"""The commands on a feature space: their output and files, and one line for each error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgkit import paths
from ecgkit.cli import main
from ecgkit.feature_space.similar import SimilarRecords
from ecgkit.training import TrainedSession

PNG = b"\x89PNG"


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_embed_prints_the_files_that_it_leaves(trained_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["embed", "1", "--layer", "trunk.3,embedding", "--folds", "9,10", "--root", str(trained_root)]) == 0
    output = lines(capsys)
    folder = trained_root / paths.TRAINING / "session_1" / "cache" / "embeddings" / "trained"
    assert [line.split("  ")[0] for line in output] == [str(folder / "trunk.3.npy"), str(folder / "embedding.npy")]
    assert np.load(folder / "trunk.3.npy").shape[1] == 3 * 8
    assert main(["embed", "1", "--list", "--root", str(trained_root)]) == 0
    assert lines(capsys) == ["trunk.2", "trunk.3", "trunk.4", "embedding"]


def test_similar_draws_the_record_and_its_neighbours(
    trained_root: Path, trained_session: TrainedSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = trained_session.dataset
    record = str(dataset.records["record_id"].iloc[4])
    picture = tmp_path / "five.png"
    assert main(["similar", record, "-n", "2", "--to", str(picture), "--root", str(trained_root)]) == 0
    output = lines(capsys)
    assert output[-1] == str(picture)
    assert picture.read_bytes().startswith(PNG)
    values = np.load(trained_root / paths.TRAINING / "session_1" / "cache" / "embeddings" / "trained" / "embedding.npy")
    expected = SimilarRecords(values, dataset.records).nearest(4, 2)
    assert [line.split(",")[0].split(":")[0] for line in output[:-1]] == [
        f"record {name}" for name in [record, *expected["record_id"]]
    ]
    assert main(["similar", record, "--root", str(trained_root)]) == 0
    drawn = trained_root / paths.TRAINING / "session_1" / "cache" / f"similar_{record}.png"
    assert lines(capsys)[-1] == str(drawn)


def test_probed_epochs_are_kept(
    trained_root: Path, trained_session: TrainedSession, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = trained_session.session.path / "cache" / "probed_epochs.parquet"
    assert not stored.is_file()
    assert main(["probe-epochs", "1", "--root", str(trained_root)]) == 0
    table = pd.read_parquet(stored)
    of_age = table[table["target"] == "age"]
    assert of_age["epoch"].dropna().tolist() == [1, 2]
    assert of_age["encoder"].nunique() == 2
    assert lines(capsys)[-2:] == [str(stored), str(stored.with_suffix(".png"))]
    stamp = stored.stat().st_mtime_ns
    assert main(["probe-epochs", "1", "--root", str(trained_root)]) == 0
    assert stored.stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["embed", "7"], "no session '7'"),
        (["embed", "1", "--layer", "conv"], "no layer 'conv': choose from trunk.2"),
        (["embed", "1", "--folds", "9-10"], "--folds is '9-10': give numbers such as 9,10"),
        (["embed", "1", "--folds", "11"], "fold 11"),
        (["embed", "1", "--encoder", "best"], "encoder is 'best'"),
        (["similar", "no_such"], "no record no_such: give one of the dataset's"),
        (["similar", "1", "-n", "0"], "-n is 0"),
        (["similar", "1", "--to", "a.jpg"], "--to is 'a.jpg': give a file that ends in .png"),
        (["similar", "1", "--to", "/nowhere/a.png"], "no folder /nowhere"),
    ],
)
def test_bad_input_is_one_line(
    trained_root: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--root", str(trained_root)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
