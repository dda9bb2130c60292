"""The page about many ECGs counts what was planted: faults, copies, unreadable files."""

from __future__ import annotations

import base64
import io
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ecgkit import paths
from ecgkit.cli import main
from ecgkit.datasets.survey import dataset_to_survey, duplicates, files_to_survey, survey
from ecgkit.readers import save_ecg
from ecgkit.signals.ecg import ECG, LEADS
from ecgkit.signals.findings import noise_levels
from ecgkit.sources.demo import Demo

RATE = 500


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give files: two ECGs, a copy of the first in another format, one with a flat lead, one that is not an ECG."""
    made = tmp_path_factory.mktemp("survey")
    demo = Demo(n_records=20, sampling_rate=RATE)
    first, second = demo.read("1"), demo.read("2")
    flat = second.signal.copy()
    flat[7] = 0
    save_ecg(first, made / "first.npz")
    save_ecg(second, made / "second.csv")
    save_ecg(first, made / "again.npz")
    (made / "inside").mkdir()
    save_ecg(replace(second, signal=flat), made / "inside" / os.fsdecode(b"fl\xe9t.npz"))
    (made / "letter.csv").write_text("Dear colleague,\nthe ECG is attached.\n")
    return made


def test_each_row_is_what_the_signal_says(folder: Path) -> None:
    names, read = files_to_survey(folder)
    table = survey(names, read, progress=False).set_index("record")
    assert set(table.index) == {"again.npz", "first.npz", r"inside/fl\udce9t.npz", "letter.csv", "second.csv"}
    ecg = read("first.npz")
    row = table.loc["first.npz"]
    assert (row["seconds"], row["sampling_rate"], row["error"]) == (10, RATE, "")
    amplitudes = row[[f"amplitude_{lead}" for lead in LEADS]].to_numpy(float)
    np.testing.assert_allclose(amplitudes, np.ptp(ecg.signal, axis=1), rtol=1e-6)
    assert table.loc["letter.csv", "error"] != ""
    assert np.isnan(table.loc["letter.csv", "heart_rate"])
    (finding,) = table.loc[r"inside/fl\udce9t.npz", "findings"]
    assert (finding.name, finding.leads) == ("flat", ("V2",))
    assert np.isnan(table.loc[r"inside/fl\udce9t.npz", "muscle_V2"])
    assert duplicates(table.reset_index()) == [["again.npz", "first.npz"]]


def test_noise_is_measured_in_its_lead() -> None:
    times = np.arange(5000) / RATE
    signal = np.zeros((12, 5000), np.float32)
    signal[1] = 0.5 * np.sin(2 * np.pi * 0.1 * times)  # 1 mV from peak to peak, slowly
    signal[6] = 0.1 * np.sin(2 * np.pi * 40 * times)
    signal[8] = 0.07 * np.sin(2 * np.pi * 60 * times)
    levels = noise_levels(ECG(signal, RATE))
    assert levels["hum"][8] == pytest.approx(0.07, rel=0.05)
    assert levels["hum"][6] < 0.01
    assert np.isnan(noise_levels(ECG(signal[:, ::5], RATE / 5))["hum"]).all()  # 100 Hz cannot hold it
    assert levels["wander"][1] == pytest.approx(1, abs=0.06)
    assert levels["muscle"][6] == pytest.approx(0.1 / np.sqrt(2), rel=0.05)
    assert levels["wander"][6] < 0.01 > levels["muscle"][1]
    assert np.isnan(levels["wander"][[0, 2, 3, 4, 5, 7, 9, 10, 11]]).all()


def test_the_page_contains_everything(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "new" / "page.html"
    assert main(["quality", str(folder), "--to", str(page), "--jobs", "2"]) == 0
    assert capsys.readouterr().out.strip() == str(page)
    text = page.read_text()
    for expected in ("<dd>5</dd>", r"inside/fl\udce9t.npz", "V2: flat for", "again.npz, first.npz", "letter.csv"):
        assert expected in text
    assert re.search(r"(src|href)=\"(?!data:|#)", text) is None  # nothing is loaded from elsewhere
    images = [Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r"base64,([^\"]+)", text)]
    assert len(images) == 3  # two with distributions, one example
    assert all(np.asarray(image.convert("L")).std() > 5 for image in images)


def test_a_processed_dataset_is_surveyed_whole(demo_root: Path, tmp_path: Path) -> None:
    names, read = dataset_to_survey(demo_root / paths.PROCESSED / "demo")
    table = survey(names[:3], read, progress=False)
    demo = Demo(n_records=len(names))
    assert len(names) > 3
    assert list(table["record"]) == names[:3]
    assert (table["error"] == "").all()
    assert read(names[0]).signal.shape == demo.read(names[0]).signal.shape
    page = tmp_path / "demo.html"
    assert main(["quality", "demo", "--to", str(page), "--limit", "3", "--root", str(demo_root)]) == 0
    assert "<dd>3</dd>" in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nowhere", "--to", "a.html"], "nowhere"),
        ([".", "--to", "a.txt"], "a.txt"),
        ([".", "--to", "a.html", "--limit", "0"], "--limit is 0"),
        ([".", "--to", "a.html"], "no ECG file"),
    ],
)
def test_what_cannot_be_surveyed_is_one_line(
    arguments: list[str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["quality", *arguments]) == 2
    message = capsys.readouterr().err
    assert named in message
    assert message.count("\n") == 1
