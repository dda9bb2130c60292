"""ecgkit predict: every format gives the probabilities of the array call; bad files are rows; interruptions resume."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import ecg_formats as formats
import numpy as np
import pytest

from ecgkit import load_model, open_ecg
from ecgkit.cli import main, predict
from ecgkit.cli.predict import default_jobs
from ecgkit.inference import DEFAULT_MODEL, batches
from ecgkit.inference.answers import answer_ecgs
from ecgkit.inference.model_folder import SHIPPED
from ecgkit.inference.predictor import Predictor
from ecgkit.readers import FORMATS, save_ecg
from ecgkit.readers.files import find_ecg_files
from ecgkit.signals.ecg import ECG, LEADS
from ecgkit.signals.filters import resample
from ecgkit.sources.demo import Demo

RATE = 500
Files = dict[str, dict[str, bytes]]
FLAGS: dict[str, list[str]] = {
    "NumPy .npy": ["--sampling-rate", "500", "--unit", "mV", "--leads", ",".join(LEADS)],
    "HDF5": ["--record", "1", "--unit", "1e-4V"],
    "rows": ["--sampling-rate", "500", "--unit", "mV"],
    "Kardia JSON": ["--allow-missing-leads"],
    "Apple": ["--allow-missing-leads"],
}
"""What has to be said for a file that does not say it."""

NAMES = (
    *(
        "HL7 aECG",
        "GE MUSE XML",
        "Philips Sierra XML",
        "Mortara XML",
        "SCP-ECG",
        "ISHNE",
        "MFER",
        "DICOM",
        "EDF",
        "BDF",
    ),
    *("Parquet", "NumPy .npz", "CSV or TSV", "WFDB", "zip", "German table", "MATLAB", "segments"),
    *("NumPy .npy", "rows"),
)


@pytest.fixture(scope="module")
def signal() -> np.ndarray:
    """Ten seconds in whole steps of 5 uV, in which Einthoven's law holds."""
    return formats.storable(Demo(n_records=20, sampling_rate=RATE).read("1").signal)


@pytest.fixture(scope="module")
def model() -> Predictor:
    return load_model(DEFAULT_MODEL)


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture(scope="module")
def files(signal: np.ndarray) -> Files:
    """The files of that ECG in each format, by their names; the first one is opened."""
    german = [";".join(["Zeit (s)", *(f"Ableitung {name} [µV]" for name in LEADS)])]
    for number, values in enumerate(signal.T):
        german.append(";".join(f"{value:.3f}".replace(".", ",") for value in (number / RATE, *values * 1000)))
    rows = [",".join([name, *map("{:.4f}".format, values)]) for name, values in zip(LEADS, signal, strict=True)]
    return formats.files_of_each_format(signal, RATE) | {
        "NumPy .npy": {"o.npy": formats.npy(signal)},
        "MATLAB": formats.wfdb_matlab(signal, RATE),
        "segments": formats.wfdb_segments(signal, RATE),
        "German table": {"p.txt": "\n".join(german).encode("cp1252")},
        "rows": {"q.csv": "\n".join(rows).encode()},
    }


def written(files: dict[str, bytes], folder: Path) -> Path:
    """Write the files of a recording and return the one to open."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder / next((name for name in files if name == "x.hea"), next(iter(files)))


def answer_of(path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Return the row that the command writes for a file."""
    assert main(["predict", str(path), "--format", "csv", *flags]) == 0
    (row,) = rows_of(capsys.readouterr().out)
    return row


@pytest.mark.parametrize("name", NAMES)
def test_every_format_gives_the_probabilities_of_the_array(
    name: str, files: Files, model: Predictor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signal = np.load(io.BytesIO(files["NumPy .npy"]["o.npy"])).T
    row = answer_of(written(files[name], tmp_path), FLAGS.get(name, []), capsys)
    expected = model.predict_proba(signal[None], sampling_rate=RATE)[0]
    found = np.array([float(row[f"probability_{label}"]) for label in model.classes])
    # EDF and MFER scale the values to their own steps; the others hold them exactly.
    np.testing.assert_allclose(found, expected, atol=2e-3 if name in ("EDF", "BDF", "MFER") else 1e-5)
    decided = [row[f"decision_{label}"] == "True" for label in model.classes]
    assert decided == (found >= model.thresholds).tolist()
    assert 30 < float(row["heart_rate"]) < 150
    assert row["error"] == ""


def test_every_storage_format_of_wfdb_gives_the_probabilities_of_its_values(
    files: Files, model: Predictor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signal, paths, expected = np.load(io.BytesIO(files["NumPy .npy"]["o.npy"])).T, [], []
    for form in formats.PACKED:
        step = 40.0 if form in ("80", "310", "311") else 5.0  # of few bits
        (tmp_path / form).mkdir()
        paths.append(written(formats.wfdb_stored_as(signal, RATE, form, step), tmp_path / form))
        expected.append(formats.steps(signal, step) * step / 1000)
    for name, parts in (("segments", files["segments"]), ("two", formats.wfdb_stored_as(signal, RATE, "212"))):
        paths.append(tmp_path / f"{name}.zip")
        paths[-1].write_bytes(formats.zipped(parts))
        expected.append(signal)
    assert main(["predict", *map(str, paths), "--format", "csv", "--no-measurements", "--anyway"]) == 0
    rows = rows_of(capsys.readouterr().out)
    found = [[float(row[f"probability_{label}"]) for label in model.classes] for row in rows]
    truth = model.predict_proba(np.stack(expected), sampling_rate=RATE, anyway=True)
    np.testing.assert_allclose(found, truth, atol=1e-5)


def test_all_of_these_formats_are_tried(files: Files) -> None:
    assert set(NAMES) == set(files)
    assert {item.name for item in FORMATS} <= {*NAMES, "HDF5", "Kardia JSON"}


def test_a_record_of_code_gives_the_probabilities_of_the_array(
    signal: np.ndarray, model: Predictor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at_400 = resample(signal, sampling_rate=RATE, target_rate=400)
    (tmp_path / "code.hdf5").write_bytes(formats.hdf5(at_400))
    row = answer_of(tmp_path / "code.hdf5", FLAGS["HDF5"], capsys)
    found = [float(row[f"probability_{label}"]) for label in model.classes]
    np.testing.assert_allclose(found, model.predict_proba(at_400[None], sampling_rate=400)[0], atol=1e-4)


@pytest.mark.parametrize("name", ["Kardia JSON", "Apple"])
def test_a_watch_or_phone_gives_the_probabilities_of_its_leads(
    name: str, signal: np.ndarray, model: Predictor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leads = LEADS[:6] if name == "Kardia JSON" else LEADS[:1]
    apple = ["Nom,A", "Fréquence d\u2019échantillonnage,500 hertz", "Dérivation,Dérivation I", "Unité,µV", ""]
    apple += [f"{value * 1000:.3f}".replace(".", ",") for value in signal[0]]
    data = formats.kardia(signal, RATE) if name == "Kardia JSON" else "\n".join(apple).encode()
    (tmp_path / "ecg").write_bytes(data)
    assert main(["predict", str(tmp_path / "ecg"), "--format", "csv"]) == 2
    assert "V1" in capsys.readouterr().err
    row = answer_of(tmp_path / "ecg", FLAGS[name], capsys)
    some = np.where(np.isin(LEADS, leads)[:, None], signal, np.nan)
    expected = model.predict_proba(some[None], sampling_rate=RATE, allow_missing_leads=True)[0]
    found = [float(row[f"probability_{label}"]) for label in model.classes]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert "validated" in row["findings"] or "AUC" in row["findings"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four ECGs of the demo, a text that is none, and a file that is not looked at."""
    demo = Demo(n_records=20)
    (tmp_path / "ecgs" / "more").mkdir(parents=True)
    for number, name in enumerate(("a.hea", "b.npz", "more/c.csv", "d.edf"), 1):
        save_ecg(demo.read(str(number)), tmp_path / "ecgs" / name)
    (tmp_path / "ecgs" / "broken.xml").write_text("<nothing/>")
    (tmp_path / "ecgs" / "notes.txt").write_text("not an ECG")
    return tmp_path / "ecgs"


def test_files_folders_and_patterns_are_found_once(folder: Path) -> None:
    names = ["a.hea", "b.npz", "broken.xml", "d.edf", "more/c.csv"]
    assert find_ecg_files([folder]) == [folder / name for name in names]
    assert find_ecg_files([folder / "b.npz", folder, folder / "b.npz"])[0] == folder / "b.npz"
    assert find_ecg_files([f"{folder}/**/*.csv"]) == [folder / "more/c.csv"]
    (folder / ".ipynb_checkpoints").mkdir()
    for copy in (".ipynb_checkpoints/c-checkpoint.csv", "more/._c.csv"):
        shutil.copy(folder / "more/c.csv", folder / copy)
    assert find_ecg_files([folder]) == [folder / name for name in names]
    assert find_ecg_files([folder / ".ipynb_checkpoints"]) == [folder / ".ipynb_checkpoints/c-checkpoint.csv"]


def test_a_bad_file_is_a_row_with_its_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(folder), "--format", "json", "--no-measurements"]) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [bool(row["error"]) for row in rows] == [False, False, True, False, False]
    assert {entry["probability"] for entry in rows[2]["classes"]} == {None}
    assert rows[0]["measurements"] == {}
    assert main(["predict", str(folder / "broken.xml")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("style", ["csv", "json"])
def test_a_file_whose_name_is_not_utf_8_does_not_end_the_others(folder: Path, tmp_path: Path, style: str) -> None:
    (folder / "a.hea").unlink()
    (folder / "b.npz").rename(folder / os.fsdecode(b"b\xe9.npz"))
    answers = tmp_path / f"answers.{style}"
    for _ in range(2):  # the second one finds all rows written
        assert main(["predict", str(folder), "--to", str(answers), "--format", style, "--no-measurements"]) == 1
        text = answers.read_text(encoding="utf-8")
        rows = list(csv.DictReader(io.StringIO(text))) if style == "csv" else list(map(json.loads, text.splitlines()))
        names = ["broken.xml", r"b\udce9.npz", "d.edf", "more/c.csv"]
        assert [row["record"] for row in rows] == [f"{folder}/{name}" for name in names]
        assert [bool(row["error"]) for row in rows] == [True, False, False, False]


def test_what_is_missing_is_asked_for_by_its_flag(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ecg = open_ecg(folder / "b.npz")
    np.save(folder / "leads=V1.npy", ecg.signal)
    limbs = np.where(np.arange(12)[:, None] < 6, ecg.signal, np.nan).astype(np.float32)
    save_ecg(replace(ecg, signal=limbs), folder / "limbs.npz")
    asked = {"leads=V1.npy": "--leads", "limbs.npz": "--allow-missing-leads", "loud.npz": "--anyway"}
    save_ecg(replace(ecg, signal=ecg.signal * 1000), folder / "loud.npz")
    for command in (["predict"], ["dashboard", "--to", str(folder / "pages")]):
        for name, flag in asked.items():
            assert main([*command, str(folder / name)]) == 2
            error = capsys.readouterr().err
            assert f" {flag}" in error.replace("(", " ")
            assert not any(keyword in error for keyword in ("give leads=", "=True"))
    assert main(["predict", *(str(folder / name) for name in asked), "--format", "json"]) == 1
    errors = [json.loads(line)["error"] for line in capsys.readouterr().out.splitlines()]
    assert all(flag in error for flag, error in zip(asked.values(), errors, strict=True))
    assert "leads=V1.npy" in errors[0]  # the name of a file is not a keyword


def test_a_record_in_microvolts_does_not_hide_the_others(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ecg = open_ecg(folder / "b.npz")
    np.savez(folder / "b.npz", signal=ecg.signal * 1000, sampling_rate=100.0, leads=np.array(LEADS), unit="mV")
    (folder / "broken.xml").unlink()
    assert main(["predict", str(folder), "--format", "csv"]) == 1
    rows = rows_of(capsys.readouterr().out)
    assert [row["error"] != "" for row in rows] == [False, True, False, False]
    assert "microvolts" in rows[1]["error"]
    assert main(["predict", str(folder), "--format", "csv", "--anyway"]) == 0


def test_answers_in_the_folder_of_the_files_are_no_ecg(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    for _ in range(2):
        assert main(["predict", ".", "--to", "answers.csv", "--no-measurements"]) == 1  # broken.xml, resumed as well
        assert "1 of 5" in capsys.readouterr().err
    assert "answers.csv" not in [row["record"] for row in rows_of(Path("answers.csv").read_text())]


def test_findings_of_the_signal_are_told_and_contradicting_limb_leads_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ecg = open_ecg(folder / "b.npz")
    save_ecg(replace(ecg, signal=-ecg.signal), folder / "a.npz")
    save_ecg(replace(ecg, signal=ecg.signal[[0, 1, 6, 7, 8, 9, 10, 11, 2, 3, 4, 5]]), folder / "c.npz")
    names = [str(folder / name) for name in ("a.npz", "b.npz", "c.npz")]
    for more in ([], ["--anyway"]):
        assert main(["predict", *names, "--format", "json", *more]) == (0 if more else 1)
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        inverted, ordinary, mixed = (" ".join(item["text"] for item in row["findings"]) for row in rows)
        assert "inverted" in inverted
        assert ordinary == ""
        assert "limb leads" in mixed
        assert [row["error"] != "" for row in rows] == [False, False, not more]
    assert main(["dashboard", names[2], "--to", str(folder / "pages")]) == 2
    assert "limb leads" in capsys.readouterr().err


def test_one_bad_ecg_of_many_leaves_the_others_in_few_batches(
    tmp_path: Path, model: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo, files = Demo(n_records=20), []
    for number in range(1, 17):
        ecg = demo.read(str(number))
        factor = 1000 if number == 6 else 1
        files.append(save_ecg(replace(ecg, signal=ecg.signal * factor), tmp_path / f"{number:02d}.npz"))
    sizes, predict_proba = [], model.predict_proba

    def counted(ecgs: list[ECG], **keywords: bool) -> np.ndarray:
        sizes.append(len(ecgs))
        return predict_proba(ecgs, **keywords)

    monkeypatch.setattr(model, "predict_proba", counted)
    rows = [answer.to_row() for answer in answer_ecgs([(file.name, file) for file in files], model, measurements=False)]
    assert [row["record"] for row in rows if row["error"]] == ["06.npz"]
    assert len(sizes) <= 9  # halved four times
    expected = predict_proba([demo.read(row["record"][:2].lstrip("0")) for row in rows if not row["error"]])
    found = [[row[f"probability_{name}"] for name in model.classes] for row in rows if not row["error"]]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("style", ["csv", "json"])
def test_two_processes_write_one_file_once(style: str, signal: np.ndarray, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(3):
        save_ecg(ECG(signal, sampling_rate=RATE), folder / f"{number}.npz")
    files = [str(path) for path in sorted(folder.iterdir())]
    command = [sys.executable, "-m", "ecgkit", "predict", *files, "--format", style, "--no-measurements"]
    to = [tmp_path / "once", tmp_path / "twice"]
    assert [subprocess.run([*command, "--to", str(to[0])], check=False).returncode] == [0]
    both = [subprocess.Popen([*command, "--to", str(to[1])]) for _ in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    assert to[1].read_bytes() == to[0].read_bytes()


@pytest.mark.parametrize("style", ["csv", "json"])
def test_an_interrupted_file_is_completed(folder: Path, tmp_path: Path, style: str) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    main(["predict", str(folder), "--to", str(whole), "--format", style])
    written = whole.read_bytes()
    shutil.copy(f"{whole}.options", f"{cut}.options")
    first_line = written.index(b"\n") + 1
    for length in (0, 3, 10, first_line, first_line + 9, len(written) // 2, len(written) - 1, len(written)):
        cut.write_bytes(written[:length])
        main(["predict", str(folder), "--to", str(cut), "--format", style])
        assert cut.read_bytes() == written


@pytest.mark.parametrize("content", ["one line", "a,b\n1,2\n3,4", '{"a": 1}\n{"a"'])
@pytest.mark.parametrize("style", ["csv", "json"])
def test_a_file_of_others_stays_as_it_is(
    content: str, style: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "mine.txt"
    to.write_text(content)
    assert main(["predict", str(folder / "a.hea"), "--to", str(to), "--format", style]) == 2
    assert str(to) in capsys.readouterr().err
    assert to.read_text() == content


OTHER_OPTIONS = (
    ["--model", "hybrid"],
    ["--no-measurements"],
    ["--format", "json"],
    ["--age", "50"],
    ["--sex", "male"],
    ["--anyway"],
    ["--allow-missing-leads"],
    ["--unit", "uV"],
    ["--start", "1"],
    ["--precision", "auto"],
)


def test_rows_of_other_options_are_not_appended(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "out.csv"
    assert main(["predict", str(folder / "a.hea"), "--to", str(to)]) == 0
    written = to.read_bytes()
    for more in OTHER_OPTIONS:
        capsys.readouterr()
        assert main(["predict", str(folder), "--to", str(to), *more]) == 2
        error = capsys.readouterr().err
        assert more[0] in error
        assert error.count("\n") == 1
        assert to.read_bytes() == written
    assert main(["predict", str(folder / "a.hea"), str(folder / "b.npz"), "--to", str(to)]) == 0
    assert [row["record"][-5:] for row in rows_of(to.read_text())] == ["a.hea", "b.npz"]


@pytest.mark.parametrize("name", ["thresholds.json", "reference.json", "missing_leads.json"])
def test_rows_of_a_changed_model_are_not_appended(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(SHIPPED / "resnet1d", tmp_path / "mine")
    command = ["predict", str(folder / "a.hea"), "--model", str(tmp_path / "mine"), "--to", str(tmp_path / "out.csv")]
    assert main(command) == 0
    changed = tmp_path / "mine" / name
    changed.write_text(changed.read_text() + "\n")
    assert main(command) == 2
    assert "out.csv" in capsys.readouterr().err


def test_the_help_says_what_each_choice_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    text = " ".join(capsys.readouterr().out.partition("options:")[2].split())
    assert "--format {table,json,csv} table, or json" in text
    assert "--backend {auto,torch,onnx} auto is onnx" in text


def test_standard_input_is_a_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = (folder / "d.edf").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert main(["predict", "-", str(folder / "d.edf"), "--format", "json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    named, piped = (row | {"record": ""} for row in rows)
    assert named == piped


def test_processes_write_the_same_rows_and_resume(tmp_path: Path) -> None:
    demo = Demo(n_records=40)
    for record_id in demo.records["record_id"]:
        save_ecg(demo.read(record_id), tmp_path / "ecgs" / f"{record_id}.npz")
    (tmp_path / "ecgs" / "7.npz").write_bytes(b"none")
    written = []
    for name, jobs in (("one.csv", "1"), ("two.csv", "2")):
        command = ["predict", str(tmp_path / "ecgs"), "--to", str(tmp_path / name), "--jobs", jobs]
        assert main([*command, "--no-measurements"]) == 1
        written.append((tmp_path / name).read_bytes())
    one, two = (rows_of(content.decode()) for content in written)
    assert [row["record"] for row in one] == [str(path) for path in find_ecg_files([tmp_path / "ecgs"])]
    for row, other in zip(one, two, strict=True):
        differing = {name for name in row if row[name] != other[name]}
        assert all(abs(float(row[name]) - float(other[name])) < 1e-6 for name in differing)
    kept = b"".join(written[1].splitlines(keepends=True)[:21])  # in the middle of the second unit
    (tmp_path / "two.csv").write_bytes(kept)
    assert main([*command, "--no-measurements"]) == 1
    assert (tmp_path / "two.csv").read_bytes() == written[1]


def test_many_files_are_answered_by_several_processes_unless_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    here, cluster = argparse.Namespace(scheduler=None), argparse.Namespace(scheduler="tcp://host:8786")
    for cores, expected in ((1, [1, 1, 1, 1]), (4, [1, 1, 2, 4]), (64, [1, 1, 2, 20])):
        monkeypatch.setattr(predict, "n_cores", lambda cores=cores: cores)
        assert [default_jobs(here, n_files) for n_files in (1, 999, 1000, 10_000)] == expected
    assert default_jobs(cluster, 10_000) == 1
    monkeypatch.setattr(batches, "default_device", lambda: "cuda")
    assert default_jobs(here, 10_000) == 1


def test_the_table_marks_what_reaches_its_threshold(
    folder: Path, model: Predictor, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(folder / "a.hea")]) == 0
    header, row = capsys.readouterr().out.splitlines()[:2]
    assert header.split()[:6] == ["record", *model.classes]
    decided = model.predict([open_ecg(folder / "a.hea")])[0]
    assert [text.endswith("*") for text in row.split()[1:6]] == decided.tolist()


@pytest.mark.parametrize(
    "command", [["predict"], ["dashboard", "--to", "out"], ["convert", "--to", "o", "--format", "npz"]]
)
def test_what_a_file_does_not_say_is_asked_for_by_its_flag(
    command: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    np.savez("plain.npz", signal=open_ecg("b.npz").signal, sampling_rate=100.0, leads=np.array(LEADS))
    assert main([*command, "plain.npz"]) == 2
    assert "--unit" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nowhere.hea"], "nowhere.hea"),
        ([".", "--model", "vit"], "vit"),
        (["*.nothing"], "*.nothing"),
        (["a.hea", "--jobs", "0"], "--jobs"),
        (["a.hea", "--format", "table", "--to", "x"], "--format"),
        (["a.hea", "--to", "/dev/null"], "/dev/null"),
        (["a.hea", "--to", "more"], "--to is more"),
        (["a.hea", "--age", "200"], "--age"),
        (["a.hea", "--sampling-rate", "-5"], "--sampling-rate"),
        (["a.hea", "--duration", "0"], "--duration"),
        (["a.hea", "--unit", "furlong"], "--unit"),
    ],
)
def test_bad_arguments_are_one_line(
    arguments: list[str],
    named: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    assert main(["predict", *arguments]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", ["predict", "dashboard"])
def test_a_model_in_the_place_of_a_file_is_refused_since_another_model_would_answer(
    command: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    to = ["--to", str(tmp_path / "answers")]
    assert main([command, "hybrid", str(folder / "a.hea"), *to]) == 2
    error = capsys.readouterr().err
    assert "--model hybrid" in error
    assert error.count("\n") == 1
    (tmp_path / "hybrid").write_bytes((folder / "broken.xml").read_bytes())  # a file of this name is a file
    assert main([command, "hybrid", str(folder / "a.hea"), *to]) == 1


def test_the_table_of_many_classes_has_the_most_probable_and_those_that_are_decided(
    capsys: pytest.CaptureFixture[str],
) -> None:
    probabilities = {"C1": 0.2, "C2": 0.9, "C3": 0.4, "C4": 0.3, "C5": 0.01} | dict.fromkeys("DEFGHI", 0.0)
    row: dict[str, object] = {"record": "a.hea", "error": "", "findings": []}
    for name, value in probabilities.items():
        row |= {f"probability_{name}": value, f"decision_{name}": name in ("C2", "C5")}
    predict.table_writer(sys.stdout, 5, {"C3", "C5"})(row)
    header, line = capsys.readouterr().out.splitlines()
    assert line.split() == ["a.hea", "C2", "0.900*", "C3", "0.400", "C4", "0.300", "C5", "0.010?"]
    assert "C1" not in header
