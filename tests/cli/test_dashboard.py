"""ecgkit dashboard writes a page per ECG as PNG, PDF and HTML, and an overview of several."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecgkit import load_model
from ecgkit.cli import main
from ecgkit.inference import DEFAULT_MODEL
from ecgkit.inference.answers import answer_ecg
from ecgkit.inference.onnx_model import OnnxPredictor
from ecgkit.readers import save_ecg
from ecgkit.signals.ecg import ECG
from ecgkit.sources.demo import Demo

CELL = r'<td data-label="[A-Z]+"(?: class="yes")?>(\d\.\d\d)</td>'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    demo = Demo(n_records=20)
    save_ecg(demo.read("1"), tmp_path / "ecgs" / "one.npz")
    long = replace(demo.read("2"), signal=np.tile(demo.read("2").signal, 3))
    save_ecg(long, tmp_path / "ecgs" / "<img src=x>.npz")
    return tmp_path / "ecgs"


def test_png_and_pdf(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = tmp_path / "out"
    assert main(["dashboard", str(folder / "one.npz"), "--to", str(to)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(to / "one-npz.png")]
    assert (to / "one-npz.png").read_bytes().startswith(b"\x89PNG")
    assert main(["dashboard", str(folder / "one.npz"), "--to", str(to), "--format", "pdf"]) == 0
    box = re.search(rb"MediaBox \[ *0 0 ([\d.]+) ([\d.]+)", (to / "one-npz.pdf").read_bytes())
    assert box is not None
    assert [float(side) / 72 * 25.4 for side in box.groups()] == pytest.approx([297, 210], abs=0.1)


def test_html_has_the_numbers_and_an_overview_and_escapes_names(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.csv").write_text("nothing")
    to = tmp_path / "out"
    assert main(["dashboard", str(folder), "--to", str(to), "--format", "html"]) == 1
    model = load_model(DEFAULT_MODEL)
    expected = model.predict_proba([Demo(n_records=20).read("1")])[0]
    page = (to / "one-npz.html").read_text()
    assert re.findall(CELL, page) == [f"{value:.2f}" for value in expected]
    assert page.count("<svg") == 2
    index = (to / "index.html").read_text()
    assert ">broken.csv<" in index
    assert str(folder) not in index
    assert index.count('<img alt="ECG of') == 2
    long = next(path for path in to.iterdir() if "img" in path.name)
    for text in (index, long.read_text()):
        assert "<img src=x>" not in text
    assert long.read_text().count("<svg") == 3  # 30 s: the probabilities over time as well


def test_the_overview_names_files_of_several_folders_below_the_folder_that_they_share(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "more").mkdir()
    (folder / "more" / "one.npz").write_bytes((folder / "one.npz").read_bytes())
    to = tmp_path / "out"
    command = ["dashboard", str(folder / "one.npz"), str(folder / "more" / "one.npz"), "--to", str(to)]
    assert main([*command, "--format", "html"]) == 0
    index = (to / "index.html").read_text()
    assert re.findall(r'<td data-label="record"><a href="(.+?)">(.+?)</a>', index) == [
        ("one-npz.html", "one.npz"),
        ("one-npz-2.html", "more/one.npz"),
    ]


def test_age_sex_and_a_hint_are_taken(folder: Path, tmp_path: Path) -> None:
    command = ["dashboard", str(folder / "one.npz"), "--to", str(tmp_path / "out"), "--format", "html"]
    assert main([*command, "--age", "61", "--sex", "female", "--backend", "torch", "--duration", "5"]) == 0
    page = (tmp_path / "out" / "one-npz.html").read_text()
    assert "61 years" in page
    assert "female" in page
    assert "5 s" in page


def test_a_long_recording_has_a_second_png(folder: Path, tmp_path: Path) -> None:
    assert main(["dashboard", str(folder / "<img src=x>.npz"), "--to", str(tmp_path / "out")]) == 0
    assert sum(path.name.endswith("-over-time.png") for path in (tmp_path / "out").iterdir()) == 1


def test_an_ecg_that_lacks_leads_is_drawn_if_that_is_allowed(folder: Path, tmp_path: Path) -> None:
    ecg = Demo(n_records=20).read("1")
    limbs = np.where(np.arange(12)[:, None] < 6, np.tile(ecg.signal, 3), np.nan).astype(np.float32)
    save_ecg(replace(ecg, signal=limbs), folder / "limbs.npz")
    command = ["dashboard", str(folder / "limbs.npz"), "--to", str(tmp_path / "out"), "--format", "html"]
    assert main(command) == 2
    assert main([*command, "--allow-missing-leads"]) == 0
    expected = load_model(DEFAULT_MODEL).predict_proba([replace(ecg, signal=limbs)], allow_missing_leads=True)[0]
    page = (tmp_path / "out" / "limbs-npz.html").read_text()
    assert re.findall(CELL, page) == [f"{value:.2f}" for value in expected]


def test_windows_in_which_a_lead_has_no_value_are_left_out(folder: Path, tmp_path: Path) -> None:
    signal = np.tile(Demo(n_records=20).read("2").signal, 3)
    signal[6, :1500] = np.nan
    save_ecg(ECG(signal, 100.0), folder / "gap.npz")
    signal[7, 500:] = np.nan
    save_ecg(ECG(signal, 100.0), folder / "gaps.npz")
    prediction = answer_ecg(ECG(signal, 100.0), anyway=True).prediction
    assert prediction is not None
    assert prediction.windows is None
    assert [
        main(["dashboard", str(folder / name), "--to", str(tmp_path / "out"), "--anyway"])
        for name in ("gap.npz", "gaps.npz")
    ] == [0, 0]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "gap-npz.png",
        "gap-npz-beats.png",
        "gap-npz-over-time.png",
        "gaps-npz.png",
        "gaps-npz-beats.png",
    }


@pytest.mark.parametrize("arguments", [["nowhere"], ["one.npz", "--model", "vit"], ["*.x"]])
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert main(["dashboard", *arguments, "--to", "out"]) == 2
    error = capsys.readouterr().err
    assert arguments[-1] in error
    assert error.count("\n") == 1
    assert not Path("out").exists()


def test_where_the_model_looked_is_added(folder: Path, tmp_path: Path) -> None:
    command = ["dashboard", str(folder / "one.npz"), "--to", str(tmp_path / "out"), "--class", "MI,CD"]
    assert main([*command, "--explain", "grad_cam"]) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"one-npz.png", "one-npz-explained-MI.png", "one-npz-explained-CD.png"} <= names
    assert main([*command, "--format", "html", "--explain", "grad_cam"]) == 0
    page = (tmp_path / "out" / "one-npz.html").read_text()
    assert page.count("<svg") == 4
    assert "grad cam" in page
    assert main([*command, "--format", "pdf", "--explain", "grad_cam"]) == 0
    assert (tmp_path / "out" / "one-npz.pdf").read_bytes().count(b"/MediaBox") == 4


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--explain", "magic"], "magic"),
        (["--explain", "attention"], "attention"),
        (["--explain", "grad_cam", "--class", "MIX"], "MIX"),
        (["--class", "MI"], "--explain"),
    ],
)
def test_what_cannot_be_explained_is_one_line(
    more: list[str], named: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dashboard", str(folder), "--to", str(tmp_path / "out"), *more]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["dashboard", "explain"])
def test_a_graph_cannot_be_explained(
    command: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = object.__new__(OnnxPredictor)  # without the graph, which takes long to export
    graph.name, graph.classes = "exported", ("MI",)
    monkeypatch.setattr("ecgkit.inference.loading.load_model", lambda *_, **__: graph)
    files = [str(folder / "one.npz"), "--to", str(tmp_path / "out")]
    words = ["explain", "exported", *files] if command == "explain" else ["dashboard", *files, "--explain"]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "exported is an ONNX graph" in line
