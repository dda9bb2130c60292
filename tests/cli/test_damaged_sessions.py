"""A damaged session is a row that says so, and every command that reads it ends with one line."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from made_sessions import make_session

from ecgkit.cli import main
from ecgkit.errors import EcgkitError
from ecgkit.evaluation.comparison import compare_sessions
from ecgkit.evaluation.leaderboard import leaderboard
from ecgkit.sessions import Session

BAD = ["[]", "3", "", "{", "[" * 5000, '{"a":' * 200 + "1" + "}" * 200, '{"model": [1]}', '{"seed": "x"}', "\x1b[2J"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a root with two good sessions."""
    root = tmp_path_factory.mktemp("sessions")
    for _ in range(2):
        make_session(root)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """Return a copy of that root."""
    return shutil.copytree(made, tmp_path / "root")


def broken(root: Path, name: str, text: str) -> Session:
    """Replace a file of the second session."""
    session = Session(root / "training_sessions" / "session_2")
    (session.path / name).write_text(text)
    return session


@pytest.mark.parametrize("text", BAD)
@pytest.mark.parametrize("name", ["config.json", "metrics.json"])
def test_one_damaged_session_is_a_row_that_says_so(
    root: Path, name: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "metrics.json" and text.startswith('{"'):
        text = json.dumps({"version": 1, "bootstrap": {}, "fold_9": {"macro": {"auc": text}}})
    broken(root, name, text)
    assert main(["sessions", "--root", str(root)]) == 0
    good, bad = [line for line in capsys.readouterr().out.splitlines() if line.startswith("session_")]
    assert " damaged " in bad
    assert name in bad
    assert " damaged " not in good
    assert "\x1b" not in bad
    assert main(["sessions", "--json", "--root", str(root)]) == 0
    assert [row["state"] for row in json.loads(capsys.readouterr().out)] == ["done", "damaged"]
    for arguments in (["show", "2"], ["diff", "1", "2"], ["show", "2", "--json"]):
        assert main(["sessions", *arguments, "--root", str(root)]) == 0


def changed(data: Any, rng: random.Random) -> Any:
    """Replace a value somewhere in JSON data, or leave a key out."""
    if isinstance(data, dict) and data and rng.random() < 0.8:
        key = rng.choice(list(data))
        rest = {name: value for name, value in data.items() if name != key}
        return rest if rng.random() < 0.2 else data | {key: changed(data[key], rng)}
    return rng.choice([None, True, -1, 1e308, "", "x", [], {}, [[]], {"a": {}}, [1, "b"]])


def test_commands_on_mutated_sessions_end_with_one_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng, folder = random.Random(0), root / "training_sessions" / "session_2"  # noqa: S311 - a test
    names = ("config.json", "metrics.json", "thresholds.json")
    originals = {name: (folder / name).read_text() for name in names}
    predictions = (folder / "predictions.parquet").read_bytes()
    for number in range(60):
        for name in names:
            (folder / name).write_text(originals[name])
        (folder / "predictions.parquet").write_bytes(predictions)
        name = rng.choice(names)
        (folder / name).write_text(json.dumps(changed(json.loads(originals[name]), rng)))
        if number % 6 == 0:
            (folder / "predictions.parquet").write_bytes(predictions[: rng.randrange(len(predictions))])
        assert main(["sessions", "--root", str(root)]) == 0
        capsys.readouterr()
        first, second = (Session(folder.with_name(name)) for name in ("session_1", "session_2"))
        with contextlib.suppress(EcgkitError):  # nothing else may be raised
            leaderboard([first, second], resamples=3)
        with contextlib.suppress(EcgkitError):
            compare_sessions(first, second, resamples=3)
