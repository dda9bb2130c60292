"""ecgkit convert."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ecg_formats import HINTS, MADE, RATE, SIGNAL, wfdb_matlab

from ecgkit.cli import main
from ecgkit.readers import open_ecg


@pytest.mark.parametrize(("name", "suffix"), [("wfdb", ".hea"), ("csv", ".csv"), ("npz", ".npz"), ("edf", ".edf")])
def test_files_of_several_formats_are_converted(tmp_path: Path, capsys, name: str, suffix: str):
    files = []
    for number, kind in enumerate(("HL7 aECG", "DICOM", "SCP-ECG")):
        files.append(tmp_path / f"ecg {number}.bin")
        files[-1].write_bytes(MADE[kind])
    assert main(["convert", *map(str, files), "--format", name, "--to", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out.split("\n")[:-1]
    assert printed == [str(tmp_path / "out" / f"ecg-{number}{suffix}") for number in range(3)]
    for path in printed:
        np.testing.assert_allclose(open_ecg(path).signal, SIGNAL, atol=1e-5)


def test_what_the_files_do_not_say_is_given(tmp_path: Path):
    (tmp_path / "x.npy").write_bytes(MADE["NumPy .npy"])
    hints = HINTS["NumPy .npy"]
    given = ["--sampling-rate", str(hints["sampling_rate"]), "--unit", "mV", "--leads", ",".join(hints["leads"])]
    part = ["--start", "1", "--duration", "2"]
    assert main(["convert", str(tmp_path / "x.npy"), "--format", "npz", "--to", str(tmp_path), *given, *part]) == 0
    np.testing.assert_allclose(open_ecg(tmp_path / "x.npz").signal, SIGNAL[:, 200:600], atol=1e-6)


def test_a_bad_file_does_not_end_the_others(tmp_path: Path, capsys):
    (tmp_path / "bad.xml").write_bytes(b"<html/>")
    (tmp_path / "good.xml").write_bytes(MADE["HL7 aECG"])
    files = [str(tmp_path / name) for name in ("bad.xml", "good.xml")]
    assert main(["convert", *files, "--format", "csv", "--to", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.out.strip() == str(tmp_path / "good.csv")
    assert "bad.xml" in captured.err
    assert main(["convert", files[0], "--format", "csv", "--to", str(tmp_path)]) == 2


def test_a_missing_fact_is_asked_for_by_its_flag(tmp_path: Path, capsys):
    (tmp_path / "x.npy").write_bytes(MADE["NumPy .npy"])
    given = ["--leads", ",".join(HINTS["NumPy .npy"]["leads"]), "--unit", "mV"]
    assert main(["convert", str(tmp_path / "x.npy"), "--format", "csv", "--to", str(tmp_path), *given]) == 2
    assert "--sampling-rate" in capsys.readouterr().err


def test_equal_names_do_not_overwrite_and_the_file_itself_is_kept(tmp_path: Path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.csv").write_bytes(MADE["CSV or TSV"])
    files = [str(tmp_path / folder / "x.csv") for folder in ("a", "b")]
    assert main(["convert", *files, "--format", "npz", "--to", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["x-2.npz", "x.npz"]
    assert main(["convert", files[0], "--format", "csv", "--to", str(tmp_path / "a")]) == 2
    assert (tmp_path / "a" / "x.csv").read_bytes() == MADE["CSV or TSV"]


@pytest.mark.parametrize("name", ["x.hea", "x.mat", "x"])
def test_a_record_of_several_files_is_not_replaced_by_its_conversion(tmp_path: Path, name: str):
    files = wfdb_matlab(SIGNAL, RATE)
    for part, data in files.items():
        (tmp_path / part).write_bytes(data)
    assert main(["convert", str(tmp_path / name), "--format", "wfdb", "--to", str(tmp_path)]) == 2
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_every_name_of_a_file_can_become_a_wfdb_record(tmp_path: Path):
    names = ("Größe = 1.csv", "心電図.csv", "two words.csv")
    for name in names:
        (tmp_path / name).write_bytes(MADE["CSV or TSV"])
    files = [str(tmp_path / name) for name in names]
    assert main(["convert", *files, "--format", "wfdb", "--to", str(tmp_path / "out")]) == 0
    assert len({open_ecg(path).record_id for path in (tmp_path / "out").glob("*.hea")}) == 3
