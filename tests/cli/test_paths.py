"""Every path on the command line is the caller's, seen from the caller's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest_ptbxl import make_ptbxl
from made_sessions import make_session

from ecgkit import paths
from ecgkit.cli import main
from ecgkit.sessions import Session

OWN_MODEL = """from ecgkit.models.cnn import CNN


class MyNet(CNN):
    pass
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the caller's folder, which is not the root."""
    folder = tmp_path / "here"
    folder.mkdir()
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def notebooks(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return the parameters with which notebooks would have been run."""
    calls: list[dict[str, Any]] = []

    def run_notebook(_: Path, values: dict[str, Any], session: Session, **__: object) -> None:
        session.path.mkdir(parents=True, exist_ok=True)
        calls.append(values)

    monkeypatch.setattr("ecgkit.workflow.run.run_notebook", run_notebook)
    monkeypatch.setattr("ecgkit.workflow.run.name_quarantined", lambda _: None)  # no dataset is made
    return calls


def test_raw_data(here: Path, notebooks: list[dict[str, Any]]) -> None:
    make_ptbxl(here / "raw")
    for raw in ("raw", "./raw", "../here/raw"):
        assert main(["preprocess", "ptbxl", "--raw", raw, "--root", "../project"]) == 0
        (values,) = notebooks
        notebooks.clear()
        assert Path(values["raw"]).is_absolute()
        assert Path(values["raw"]).resolve() == here / "raw"
        assert values["root"] == str(here.parent / "project")


def test_recipes_models_sweeps_and_spaces(here: Path, demo_root: Path, notebooks: list[dict[str, Any]]) -> None:
    root = here.parent / "project"
    (root / paths.PROCESSED).mkdir()
    (root / paths.PROCESSED / "demo").symlink_to(demo_root / paths.PROCESSED / "demo")
    (here / "mine.py").write_text(OWN_MODEL)
    (here / "own").mkdir()
    (here / "own" / "recipe.toml").write_text("epochs = 7\n")
    command = ["train", "demo", "--model", "mine.py:MyNet", "--recipe", "own/recipe.toml", "--root", "../project"]
    assert main(command) == 0
    assert notebooks[-1]["model"] == f"{here / 'mine.py'}:MyNet"
    assert notebooks[-1]["epochs"] == 7


def test_tables_of_predictions_and_model_folders(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = here.parent / "project"
    for _ in range(2):
        make_session(root)
    sessions = root / "training_sessions"
    for number in (1, 2):
        (here / f"{number}.parquet").write_bytes((sessions / f"session_{number}" / "predictions.parquet").read_bytes())
    assert main(["evaluate", "1.parquet", "--root", "../project"]) == 0
    assert main(["compare", "1.parquet", "2.parquet", "--root", "../project"]) == 0
    assert "no difference" in capsys.readouterr().out
    assert main(["sessions", "show", "../project/training_sessions/session_2", "--root", "../project"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(sessions / "session_2")
