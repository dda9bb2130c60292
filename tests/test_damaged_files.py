"""Every file of a dataset and of a session damaged in turn: it is named, or nothing that is read depends on it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_sessions import make_session

from ecgkit import load_model, paths
from ecgkit.cli import main
from ecgkit.datasets import open_dataset
from ecgkit.errors import EcgkitError
from ecgkit.feature_space.cache import read_manifest, write_files
from ecgkit.inference.model_folder import SHIPPED
from ecgkit.sessions import Session, claim, find_finished, open_finished
from ecgkit.sources.demo import Demo

RNG = random.Random(18)  # noqa: S311 - a test


def cut(path: Path) -> None:
    """Keep the beginning."""
    path.write_bytes(path.read_bytes()[: RNG.randrange(path.stat().st_size)])


def flip(path: Path) -> None:
    """Change one bit of one byte; of a text, a digit into another one, which is harder to notice."""
    content = bytearray(path.read_bytes())
    digits = [place for place, byte in enumerate(content) if byte in b"12345678"]
    place = RNG.choice(digits) if path.suffix == ".json" and digits else RNG.randrange(len(content))
    content[place] ^= 1
    path.write_bytes(content)


def exchange(path: Path) -> None:
    """Put in a file of the same kind that belongs to something else."""
    other = {".npy": lambda: np.save(path, np.zeros((3, 12, 1000), np.int16)), ".json": lambda: path.write_text("{}")}
    other.get(path.suffix, lambda: path.write_bytes(b"PAR1 another file PAR1"))()


DAMAGES = [cut, flip, exchange]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a root with a finished session that has the files of a model that ships."""
    root = tmp_path_factory.mktemp("damaged")
    session = make_session(root, done=False)
    for path in (SHIPPED / "resnet1d").rglob("*"):
        if path.is_file():
            copy = session.path / path.relative_to(SHIPPED / "resnet1d")
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, copy)
    session.mark_done()
    return root


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("pattern", ["signals.npy", "records.parquet", "labels/superclass.parquet", "dataset.json"])
def test_a_damaged_file_of_a_dataset_is_named(
    pattern: str, damage: Callable[[Path], None], demo_root: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(demo_root / paths.PROCESSED / "demo", tmp_path / "demo")
    damage(folder / pattern)
    with pytest.raises(EcgkitError, match=Path(pattern).name.replace(".", r"\.")):
        open_dataset(folder, label_set="superclass")


READ = (
    "config.json", "weights/best.safetensors", "thresholds.json", "calibration.json", "reference.json",
    "predictions.parquet", "metrics.json",
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", READ)
def test_a_damaged_file_of_a_session_is_named_by_whatever_reads_it(
    name: str, damage: Callable[[Path], None], trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(trained, tmp_path / "root")
    damage(root / paths.TRAINING / "session_1" / name)
    with pytest.raises(EcgkitError, match=Path(name).name.replace(".", r"\.")):
        open_finished("session_1", paths.TRAINING, root)
    with pytest.raises(EcgkitError, match=Path(name).name.replace(".", r"\.")):
        load_model("session_1", root=root)
    assert main(["sessions", "--root", str(root)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("session_1"))
    assert " damaged " in line
    assert Path(name).name in line


OTHERS = {
    paths.TRAINING: ("missing_leads.json", "unlabelled.parquet"),
    paths.PROBES: ("config.json", "probes.parquet", "age/metrics.json"),
    paths.EXPLANATIONS: ("config.json", "deletion.json", "directions.parquet"),
    paths.COMPARISONS: ("leaderboard.json", "outside.json", "predictions.parquet"),
    paths.PRETRAINING: ("config.json", "weights/best.safetensors"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in OTHERS.items() for name in names])
def test_a_damaged_file_of_any_kind_of_session_is_named_and_made_again(
    kind: str, name: str, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    needed = ("predictions.parquet", "metrics.json", "weights/best.safetensors")
    with claim(kind, tmp_path, {"a": 1}) as session:
        for file in {name, *needed} - {"config.json"}:
            session.write_text(file, '{"a": 12345678}')
        session.mark_done()
    assert find_finished(kind, tmp_path, {"a": 1}) is not None
    damage(session.path / name)
    with pytest.raises(EcgkitError, match=Path(name).name.replace(".", r"\.")):
        open_finished("session_1", kind, tmp_path)
    assert find_finished(kind, tmp_path, {"a": 1}) is None


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["embedding.npy", "embedding.parquet"])
def test_a_damaged_file_of_a_cache_is_named(name: str, damage: Callable[[Path], None], tmp_path: Path) -> None:
    facts, files = {"version": 1}, {"embedding.npy": bytes(1000), "embedding.parquet": pd.DataFrame({"a": range(9)})}
    write_files(Session(tmp_path), "embedding", files, facts)
    assert read_manifest(Session(tmp_path), "embedding", facts)["version"] == 1
    assert read_manifest(Session(tmp_path), "embedding", {"version": 2}) == {}
    damage(tmp_path / name)
    with pytest.raises(EcgkitError, match=name.replace(".", r"\.")):
        read_manifest(Session(tmp_path), "embedding", facts)
    (tmp_path / name).unlink()
    assert read_manifest(Session(tmp_path), "embedding", facts) == {}


@pytest.mark.parametrize("damage", [cut, flip])
@pytest.mark.parametrize("name", ["training_log.txt", "history.csv", "report.html", "model_card.md"])
def test_what_no_answer_depends_on_may_be_changed(
    name: str, damage: Callable[[Path], None], trained: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(trained, tmp_path / "root")
    ecg = Demo(n_records=20).read("1")
    before = load_model("session_1", root=root).predict_proba(ecg.signal[None], sampling_rate=100)
    path = root / paths.TRAINING / "session_1" / name
    path.write_text("text 1 of somebody")
    damage(path)
    again = load_model("session_1", root=root).predict_proba(ecg.signal[None], sampling_rate=100)
    np.testing.assert_array_equal(again, before)


def test_done_keeps_its_date_and_takes_new_checksums(trained: Path, tmp_path: Path) -> None:
    session = Session(shutil.copytree(trained, tmp_path / "root") / paths.TRAINING / "session_1")
    date = (session.path / "DONE").read_text().splitlines()[0]
    session.reopen()
    session.write_json("metrics.json", {"version": 2})
    session.check_finished()  # as after a run that was killed here
    session.mark_done()
    session.check_finished()
    assert (session.path / "DONE").read_text().splitlines()[0] == date
    session.write_json("metrics.json", {"version": 3})
    with pytest.raises(EcgkitError, match=r"metrics\.json"):
        session.check_finished()


def test_a_session_that_was_finished_without_checksums_is_read(trained: Path, tmp_path: Path) -> None:
    session = Session(shutil.copytree(trained, tmp_path / "root") / paths.TRAINING / "session_1")
    session.reopen()
    assert session.changed_files == session.missing_files == []
    (session.path / "metrics.json").unlink()
    with pytest.raises(EcgkitError, match=r"metrics\.json"):
        session.check_finished()
