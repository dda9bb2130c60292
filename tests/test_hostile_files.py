"""Files of others: what holds code is not run, what leads out is not followed, and names are only texts."""

from __future__ import annotations

import csv
import hashlib
import html.parser
import io
import json
import os
import pickle
import re
import shutil
import stat
import subprocess
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import ecg_formats as formats
import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from markupsafe import Markup

from ecgkit import load_model, open_ecg
from ecgkit.cli import main
from ecgkit.cli.predict import csv_writer
from ecgkit.datasets import open_dataset
from ecgkit.errors import EcgkitError, UnreadableRecordError
from ecgkit.explain.attributions import Explanation
from ecgkit.explain.pages import html as explanation_page
from ecgkit.inference.answers import csv_row
from ecgkit.inference.model_folder import SHIPPED
from ecgkit.io import csv_bytes, csv_cell, csv_text, html_environment, script_json
from ecgkit.sources.demo import Demo
from ecgkit.training.fitting import MARK, check_checkpoint

NAMES = [
    "<img src=x onerror=alert(1)>",
    "\x1b[2J\x1b]0;owned\x07",
    "$\\frac{",
    "=cmd|' C calc'!A0",
    "a\u202egnp",
    "x\n=1+1",
    "{{ 7*7 }}",
    "%n%s",
]
"""Names that a browser, a terminal, matplotlib, a spreadsheet, a reader, a table, a template or C would act on."""


@pytest.mark.parametrize("text", ["a\u202egnp", "\x1b[2J", "\x00"])
def test_no_text_of_a_page_controls_a_terminal_or_turns_it_round(text: str) -> None:
    environment = html_environment("ecgkit.evaluation")
    shown = environment.from_string("{{ name }}, {{ [name] | join }}, {{ 1.5 }}, {{ mark }}")
    page = shown.render(name=text, mark=Markup("<b>"))
    assert is_harmless(page)
    assert page.endswith(", 1.5, <b>")


@pytest.mark.parametrize(
    ("text", "shown"), [("</script><b>&", "</script><b>&"), ("a\u202egnp", "a\\u202egnp"), ("\x1b[2J", "\\x1b[2J")]
)
def test_no_text_of_the_data_of_a_page_ends_the_script_or_turns_it_round(text: str, shown: str) -> None:
    written = script_json({"names": [text], "by_name": {"x": (text, 1.5, None)}})
    assert not set("<>&") & set(written)
    assert json.loads(written) == {"names": [shown], "by_name": {"x": [shown, 1.5, None]}}


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.made),)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of one ECG under each of the names."""
    made = tmp_path_factory.mktemp("names")
    data = formats.csv(Demo(n_records=20, sampling_rate=500).read("1").signal, 500)
    for name in NAMES:
        (made / f"{name}.csv").write_bytes(data)
    return made


def is_harmless(text: str) -> bool:
    """Return True if a terminal shows a text as it is."""
    return all(letter.isprintable() or letter == "\n" for letter in text)


class Tags(html.parser.HTMLParser):
    """Collects the sources of images and the attributes that run a script."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [f"{tag} {name}={value}" for name, value in attrs if name.startswith("on") or value == "x"]


def test_names_are_texts_for_terminal_spreadsheet_and_page(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    files = sorted(path.name for path in folder.iterdir())
    options = ["--no-measurements", "--anyway"]
    assert main(["predict", *files, *options]) == 0
    table = capsys.readouterr().out
    assert is_harmless(table)
    rows = [line for line in table.splitlines()[1:] if not line.startswith(" ")]
    assert len(rows) == len(NAMES)  # no name makes a line of its own
    to = tmp_path / "answers.csv"
    command = ["predict", *files, *options, "--format", "csv", "--to", str(to)]
    assert main(command) == 0
    written = to.read_bytes()
    with to.open(newline="") as file:
        cells = [row["record"] for row in csv.DictReader(file)]
    assert [csv_text(cell) for cell in cells] == files
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
    assert main(command) == 0
    assert to.read_bytes() == written  # every name is found again
    assert main(["quality", str(folder), "--to", str(tmp_path / "q.html"), "--jobs", "1"]) == 0
    tags = Tags()
    tags.feed((tmp_path / "q.html").read_text())
    assert tags.found == []


@pytest.mark.parametrize(("style", "names"), [("png", NAMES[1:2]), ("html", NAMES[:1]), ("pdf", NAMES[2:3])])
def test_names_are_texts_in_a_dashboard(folder: Path, style: str, names: list[str], tmp_path: Path) -> None:
    room = tmp_path / "a" / "b"
    files = [str(folder / f"{name}.csv") for name in names]
    assert main(["dashboard", *files, "--to", str(room), "--format", style, "--anyway"]) == 0
    assert {path.parent for path in tmp_path.rglob("*") if path.is_file()} == {room}
    for page in room.glob("*.html"):
        tags = Tags()
        tags.feed(page.read_text())
        assert tags.found == []
        assert "\x1b" not in page.read_text()


CONTENT = "=A()<img/src=x/onerror=alert(1)>$\\frac{../../"
"""What is put in place of a name, a unit or a code inside a file."""


def hostile_dicom(signal: np.ndarray) -> bytes:
    """Return a DICOM file with hostile names, codes and a sex that the standard does not allow."""
    whole = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):
        dicom = pydicom.dcmread(io.BytesIO(formats.dicom(signal, 500)))
        dicom.PatientName = dicom.PatientID = dicom.Manufacturer = CONTENT
        dicom.PatientSex = "<B>="
        lead = dicom.WaveformSequence[0].ChannelDefinitionSequence[11].ChannelSourceSequence[0]
        lead.CodeValue, lead.CodeMeaning = CONTENT[:16], CONTENT
        dicom.save_as(whole, enforce_file_format=True)
    return whole.getvalue()


def hostile_files(signal: np.ndarray) -> dict[str, bytes]:
    """Return files of one ECG in which names of patients and leads, units, codes and comments are hostile."""
    text, escape = CONTENT, CONTENT + "\u202e\x1b[2J"
    xml, kardia = html.escape(text + "\u202e"), json.dumps(escape)
    table, header = formats.csv(signal, 500).decode(), formats.wfdb(signal, 500)["x.hea"].decode()
    aecg, muse, mortara = (make(signal, 500).decode() for make in (formats.aecg, formats.muse, formats.mortara))
    edf = formats.edf(signal, 500)
    patient = b"F =1+1 <img src=x onerror=a>\x1b[2J".ljust(80)
    label, unit = b"<img src=x>\x1b[2J", b"<b>\x1b[2J="
    units = 256 + 13 * (16 + 80)  # after the labels and the transducers of 13 signals
    return {
        "aecg_lead.xml": aecg.replace("MDC_ECG_LEAD_V6", f"MDC_ECG_LEAD_{xml}", 1).encode(),
        "aecg_unit.xml": aecg.replace('unit="uV"', f'unit="{xml}"').encode(),
        "muse_sex.xml": muse.replace("MALE", html.escape(text)).encode("latin1"),
        "muse_unit.xml": muse.replace("MICROVOLTS", html.escape(text)).encode("latin1"),
        "mortara_code.xml": mortara.replace("BASE64", xml).encode(),
        "mortara_device.xml": mortara.replace("Mortara", xml).encode(),
        "kardia.json": formats.kardia(signal, 500).replace(b": 500", f": {kardia}".encode(), 1),
        "table_lead.csv": table.replace("V6 (mV)", text, 1).encode(),
        "table_units.csv": table.replace("(mV)", f"({text}\u202e)").encode(),
        "table_cell.csv": table.replace("\n0.0020,", f"\n0.0020,{text}", 1).encode(),
        "table_extra.csv": table.replace("\n", ",1\n").replace(",1\n", f",{text}\n", 1).encode(),
        "x_unit.hea": header.replace("/mV", f"/{text}").encode(),
        "x_file.hea": header.replace("x.dat", f"{text}/../../etc/passwd").encode(),
        "x_comment.hea": f"{header}#<age>: 50 <sex>: {text}\n# {text}\u202e\n".encode(),
        "x.dat": formats.wfdb(signal, 500)["x.dat"],
        "dicom.dcm": hostile_dicom(signal),
        "patient.edf": edf[:8] + patient + edf[88:],
        "label.edf": edf[: 256 + 16 * 12] + label.ljust(16)[:16] + edf[256 + 16 * 13 :],
        "unit.edf": edf[:units] + unit + edf[units + 8 :],
    }


def test_what_files_say_inside_is_a_text_wherever_it_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    room = tmp_path / "files"
    room.mkdir()
    for name, data in hostile_files(Demo(n_records=20, sampling_rate=500).read("1").signal).items():
        (room / name).write_bytes(data)
    asked = ["predict", str(room), "--no-measurements", "--anyway"]
    main(asked)
    table = capsys.readouterr()
    assert is_harmless(table.out)
    assert is_harmless(table.err)
    main([*asked, "--format", "json"])
    answers = {Path(one["record"]).name: one for one in map(json.loads, capsys.readouterr().out.splitlines())}
    assert len(answers) == len(list(room.iterdir())) - 1  # x.dat belongs to the headers
    refused = {name for name, one in answers.items() if one["error"]}
    assert refused >= {"unit.edf", "x_file.hea", "x_unit.hea", "table_cell.csv", "aecg_unit.xml", "kardia.json"}
    assert refused.isdisjoint({"patient.edf", "label.edf", "table_extra.csv", "x_comment.hea", "mortara_device.xml"})
    assert all(is_harmless(one["error"]) and "\n" not in one["error"] for one in answers.values())
    assert all(one["sex"] in (None, "male", "female") for one in answers.values())
    to = tmp_path / "answers.csv"
    main([*asked, "--format", "csv", "--to", str(to)])
    with to.open(newline="") as file:
        assert not any(cell.startswith(("=", "@", "\t", "\r")) for row in csv.reader(file) for cell in row)
    main(["quality", str(room), "--to", str(tmp_path / "pages" / "quality.html"), "--jobs", "1"])
    shown = [str(room / name) for name in ("unit.edf", "x_comment.hea")]
    main(["dashboard", *shown, "--to", str(tmp_path / "pages"), "--format", "html", "--anyway"])
    pages = list((tmp_path / "pages").glob("*.html"))
    assert len(pages) >= 3
    for page in pages:
        tags = Tags()
        tags.feed(page.read_text())
        assert tags.found == []
        assert is_harmless(page.read_text().replace("\t", ""))


RUNS = "<img src=x onerror=document.body.dataset.ran=1>"
"""Marks the page of a browser that takes it for more than a text."""


def opened(path: Path) -> str:
    """Return a page as chromium has it once its scripts have run."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom"]
    command = ["chromium", *options, f"--user-data-dir={path.parent / 'profile'}", path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def has_run(page: str) -> bool:
    """Return True if the mark is on the page."""
    body = re.search("<body[^>]*>", page)
    return body is None or "data-ran" in body[0]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs a browser to open the pages in")
def test_names_run_in_no_page_and_can_be_read(tmp_path: Path) -> None:
    signal = Demo(n_records=20, sampling_rate=500).read("1").signal
    files, pages = tmp_path / "files", tmp_path / "pages"
    files.mkdir()
    for name in (f'"{RUNS}{{{{ 7*7 }}}}', f"'{RUNS}$\\frac{{\u202e"):
        (files / f"{name}.csv").write_bytes(formats.csv(signal, 500))
    (files / f"broken {RUNS}.csv").write_text("1,2\n3,4\n")
    main(["quality", str(files), "--to", str(pages / "quality.html")])
    main(["dashboard", str(files), "--to", str(pages), "--format", "html", "--model", "cnn", "--anyway"])
    classes, short = (RUNS, f"</script>{RUNS}", "a\u202egnp"), signal[:, :1000]
    relevance = np.ones((3, *short.shape), np.float32)
    explained = Explanation("1", RUNS, "saliency", RUNS, classes, relevance, short, 500.0, np.ones(3), np.ones(3))
    (pages / "explained.html").write_text(explanation_page(explained, RUNS))
    written = sorted(pages.glob("*.html"))
    assert len(written) == 5  # quality, two ECGs with their overview, an explanation
    (pages / "control.html").write_text(f"<body>{RUNS}")
    assert has_run(opened(pages / "control.html"))
    for page in written:
        shown = opened(page)
        assert not has_run(shown)
        assert RUNS in html.unescape(shown)
        assert "\u202e" not in shown
        tags = Tags()
        tags.feed(shown)
        assert tags.found == []


class Terminal(io.StringIO):
    """What standard output is when somebody looks at it."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("file", "expected"), [(Terminal(), "\\x1b[2J"), (io.StringIO(), "\x1b[2J")])
def test_a_terminal_is_not_told_what_to_do_by_a_name(file: io.StringIO, expected: str) -> None:
    csv_writer(file, 0, ())({"record": "\x1b[2J", "findings": [], "error": ""})
    assert file.getvalue().splitlines()[1] == f"{expected},,"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("=1+1", "'=1+1"), ("@SUM(A1)", "'@SUM(A1)"), ("+cmd", "'+cmd"), ("-cmd", "'-cmd"), ("\t=1", "'\t=1"),
        ("'=1", "''=1"), ("-1.5", "-1.5"), ("+1e-3", "+1e-3"), ("", ""), ("a=1", "a=1"), ("'quoted'", "'quoted'"),
    ],
)  # fmt: skip
def test_a_formula_is_written_as_a_text_and_read_back(text: str, written: str) -> None:
    assert csv_cell(text) == written
    assert csv_text(str(csv_cell(text))) == text


def test_numbers_of_a_table_stay_numbers() -> None:
    table = pd.DataFrame({"name": ["=1+1", "a"], "value": [-1.5, np.nan]})
    assert csv_bytes(table).decode() == "name,value\n'=1+1,-1.5\na,\n"
    assert csv_row({"findings": ["=a", "b"], "qrs_axis": -30.0}) == {"findings": "'=a; b", "qrs_axis": -30.0}


def zip_of(entries: dict[str, bytes], *, links: tuple[str, ...] = ()) -> bytes:
    """Return a zip with names as they are, some of which are symbolic links."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in entries.items():
            item = zipfile.ZipInfo(name)
            item.external_attr = (stat.S_IFLNK | 0o777 if name in links else stat.S_IFREG | 0o644) << 16
            archive.writestr(item, data)
    return made.getvalue()


@pytest.mark.parametrize("prefix", ["/", "/etc/", "..\\..\\", "C:\\", "a/../../"])
def test_a_zip_with_names_that_lead_out_is_read_inside(
    prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = tmp_path / "a" / "b"
    room.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(room))
    signal = Demo(n_records=20).read("1").signal
    record = {f"{prefix}{name}": data for name, data in formats.wfdb(signal, 100).items()}
    np.testing.assert_allclose(open_ecg(zip_of(record)).signal, signal, atol=0.003)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_link_in_a_zip_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.dat"
    secret.write_bytes(formats.wfdb(Demo(n_records=20).read("1").signal, 100)["x.dat"])
    record = formats.wfdb(Demo(n_records=20).read("1").signal, 100) | {"x.dat": str(secret).encode()}
    with pytest.raises(UnreadableRecordError):
        open_ecg(zip_of(record, links=("x.dat",)))


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))


@pytest.mark.parametrize("entities", [f'<!ENTITY l0 "lol">{LAUGHS}', '<!ENTITY l11 SYSTEM "file:///etc/hostname">'])
@pytest.mark.parametrize("make", [formats.aecg, formats.muse, formats.sierra, formats.mortara])
def test_entities_of_xml_are_refused_at_once(make: Any, entities: str) -> None:
    data = make(Demo(n_records=20, sampling_rate=500).read("1").signal, 500)
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    text = data.decode(encoding)
    start, end = (text.index("?>") + 2 if text.startswith("<?xml") else 0), text.rindex("</")
    declared = f"{text[:start]}<!DOCTYPE a [{entities}]>{text[start:end]}&l11;{text[end:]}".encode(encoding)
    begun = time.monotonic()
    with pytest.raises(UnreadableRecordError):
        open_ecg(declared)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_checkpoint_with_code_in_it_is_refused(is_zip: bool, tmp_path: Path) -> None:
    made = tmp_path / "made"
    data = io.BytesIO()
    torch.save({"state_dict": {"w": Evil(made)}}, data, _use_new_zipfile_serialization=is_zip)
    checkpoint = tmp_path / "last.ckpt"
    checkpoint.write_bytes(data.getvalue() + MARK + hashlib.sha256(data.getvalue()).digest())
    with pytest.raises(EcgkitError, match=r"last\.ckpt"):
        check_checkpoint(checkpoint)
    assert not made.exists()


@pytest.mark.parametrize("state", [[1, 2], {"state_dict": [1]}, {"other": 1}, 3])
def test_a_checkpoint_of_something_else_is_refused(state: Any, tmp_path: Path) -> None:
    data = io.BytesIO()
    torch.save(state, data)
    (tmp_path / "last.ckpt").write_bytes(data.getvalue() + MARK + hashlib.sha256(data.getvalue()).digest())
    with pytest.raises(EcgkitError, match=r"last\.ckpt"):
        check_checkpoint(tmp_path / "last.ckpt")


def test_weights_that_are_a_pickle_are_refused(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED / "resnet1d", tmp_path / "model")
    (tmp_path / "model" / "weights" / "best.safetensors").write_bytes(pickle.dumps(Evil(tmp_path / "made")))
    with pytest.raises(EcgkitError, match=r"best\.safetensors"):
        load_model(tmp_path / "model")
    assert not (tmp_path / "made").exists()


def test_a_dataset_of_objects_is_refused(demo_root: Path, tmp_path: Path) -> None:
    dataset = shutil.copytree(demo_root / "processed_datasets" / "demo", tmp_path / "demo")
    np.save(dataset / "signals.npy", np.array([Evil(tmp_path / "made")], dtype=object))
    with pytest.raises(EcgkitError, match=r"signals\.npy"):
        open_dataset(dataset)
    assert not (tmp_path / "made").exists()
