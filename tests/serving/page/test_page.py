"""The page answers every format as the command does, asks for what a file does not say, and refuses the rest."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import ecg_formats as formats
import numpy as np
import pytest
from page_files import FILES, RATE, bare_table, demo_signal, upload
from streamlit.testing.v1 import AppTest

from ecgkit import cli, load_model
from ecgkit.inference import DEFAULT_MODEL
from ecgkit.inference.answers import answer_ecg
from ecgkit.readers import open_ecg
from ecgkit.serving.page import script, views
from ecgkit.serving.page.chart import NO_VALUE, chart_data
from ecgkit.serving.page.sources import EXAMPLES
from ecgkit.signals.ecg import ECG, LEADS
from ecgkit.sources.demo import make_ecg


def shown_probabilities(page: AppTest) -> list[float]:
    """Read the probabilities off the page."""
    html = next(element.proto.body for element in page.get("html") if "Calibrated probabilities" in element.proto.body)
    return [float(number) for number in re.findall(r"<td>(\d\.\d{3})", html)]


def messages(page: AppTest) -> str:
    return " ".join(element.value for kind in (page.error, page.warning, page.info, page.success) for element in kind)


@pytest.fixture(scope="module")
def long_session() -> AppTest:
    """Return a page that takes one file after the other."""
    return AppTest.from_file(script.__file__, default_timeout=60).run()


@pytest.mark.parametrize("name", FILES)
def test_each_format_gets_the_answer_of_the_array(long_session: AppTest, name: str) -> None:
    page = upload(long_session, FILES[name])
    assert not page.exception
    assert not page.error
    wanted = load_model(DEFAULT_MODEL).predict_proba(demo_signal()[None], sampling_rate=RATE)[0]
    np.testing.assert_allclose(shown_probabilities(page), wanted, atol=0.02 if name.startswith("Philips") else 0.002)


def test_the_downloads_are_those_of_the_command(
    page: AppTest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("HL7 aECG", "WFDB"):
        for file, data in FILES[name].items():
            (tmp_path / file).write_bytes(data)
    assert cli.main(["predict", str(tmp_path), "--format", "csv"]) == 0
    wanted = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    upload(page, FILES["HL7 aECG"] | FILES["WFDB"])
    answers = list(page.session_state["answers"][DEFAULT_MODEL].values())
    found = list(csv.DictReader(io.StringIO(views.csv_table(answers))))
    assert [Path(row.pop("record")).name for row in wanted] == [row.pop("record") for row in found]
    assert found == wanted
    assert [entry["record"] for entry in json.loads(views.json_list(answers))] == ["a.xml", "x.hea"]


def test_no_name_of_a_file_is_a_formula_in_the_table() -> None:
    answer = replace(answer_ecg(ECG(demo_signal(), RATE)), record="=1+2.xml")
    (row,) = csv.DictReader(io.StringIO(views.csv_table([answer])))
    assert row["record"] == "'=1+2.xml"


@pytest.mark.parametrize(("text", "record"), [("7", 7), ("007", "007"), ("p7", "p7"), ("", "")])
def test_a_record_is_a_position_or_an_identifier(monkeypatch: pytest.MonkeyPatch, text: str, record: int | str) -> None:
    monkeypatch.setattr(script.st, "text_input", lambda *_, **__: text)
    assert script.field("record", None, "file") == record


def test_findings_come_before_labels_and_no_label_is_the_winner(page: AppTest) -> None:
    upload(page, FILES["HL7 aECG"])
    order = [element.value for element in page.subheader]
    assert order.index("Findings") < order.index("Labels") < order.index("Measurements")
    assert "Not a medical device" in messages(page)
    values = shown_probabilities(page)
    assert len(values) == 5
    assert abs(sum(values) - 1) > 0.001


def test_of_many_labels_those_that_reach_their_threshold_come_first(page: AppTest) -> None:
    page.radio[0].set_value("Example").run()
    next(box for box in page.selectbox if box.label == "Model").set_value("resnet1d_all").run()
    assert not page.exception
    first, rest = [e.proto.body for e in page.get("html") if "<caption>Calibrated" in e.proto.body]
    assert first.count("ecg-yes") == first.count("<td>") > 0
    assert "ecg-yes" not in rest
    assert first.count("<td>") + rest.count("<td>") == 71
    assert "SR, sinus rhythm" in first
    assert shown_probabilities(page) == sorted(shown_probabilities(page), reverse=True)


def test_a_yes_from_four_positives_is_not_to_be_relied_on() -> None:
    answer = answer_ecg(ECG(demo_signal(), RATE), "resnet1d_all")
    assert answer.prediction is not None
    for decided in (True, False):
        said = replace(answer, prediction=replace(answer.prediction, decisions=np.full(71, decided)))
        assert ("4 positives" in views._verdict(said, "TAB_")) == decided
        assert "unreliable" not in views._verdict(said, "SR")


@pytest.mark.parametrize("data", [b"Dear doctor, this is a letter.", b"", b"\x00" * 5000, b"<xml>no ecg</xml>"])
def test_what_is_no_ecg_is_refused_in_one_line(page: AppTest, data: bytes) -> None:
    upload(page, {"letter.txt": data})
    assert not page.exception
    assert len(page.error) == 1
    assert "letter.txt" in page.error[0].value
    assert not [element for element in page.get("html") if "Calibrated" in element.proto.body]


def press_open(page: AppTest) -> None:
    next(button for button in page.button if "Open" in button.label).click().run()


def test_a_table_without_rate_and_unit_is_asked_for_both_at_once(page: AppTest) -> None:
    upload(page, {"bare.csv": bare_table(demo_signal())})
    assert [box.label.split(" (")[0] for box in page.text_input] == ["Unit"]
    rate = next(box for box in page.number_input if box.label == "Sampling rate in Hz")
    rate.set_value(float(RATE))
    page.text_input[0].set_value("mV")
    press_open(page)
    assert not page.error
    wanted = load_model(DEFAULT_MODEL).predict_proba(demo_signal()[None], sampling_rate=RATE)[0]
    np.testing.assert_allclose(shown_probabilities(page), wanted, atol=0.002)
    assert page.text_input[0].value == "mV"


def test_what_is_said_of_one_file_can_be_said_of_all(page: AppTest) -> None:
    table = bare_table(demo_signal())
    upload(page, {"one.csv": table, "two.csv": table, "three.csv": table})
    next(box for box in page.number_input if "rate" in box.label).set_value(float(RATE))
    page.text_input[0].set_value("mV")
    page.checkbox[0].set_value(True)
    press_open(page)
    assert not page.error
    assert page.dataframe[0].value["probability_MI"].notna().all()


def test_a_file_that_says_everything_is_asked_for_nothing(page: AppTest) -> None:
    upload(page, FILES["EDF"])
    assert [box.label for box in page.number_input] == ["Age in years"]
    assert not page.text_input


def test_a_wrong_value_for_a_field_is_named_and_can_be_changed(page: AppTest) -> None:
    upload(page, {"bare.npy": formats.npy(demo_signal())})
    next(box for box in page.text_input if "leads" in box.label).set_value("I,II")
    press_open(page)
    assert not page.exception
    assert "2 leads" in page.error[0].value
    next(box for box in page.text_input if "leads" in box.label).set_value(",".join(LEADS))
    page.text_input[0].set_value("mV")
    next(box for box in page.number_input if "rate" in box.label).set_value(float(RATE))
    press_open(page)
    assert not page.error


def test_a_flat_ecg_is_answered_only_on_request(page: AppTest) -> None:
    flat = demo_signal()
    flat[8:] = 0.0
    upload(page, {"flat.edf": formats.edf(flat, RATE)})
    assert page.error
    assert not [element for element in page.get("html") if "Calibrated" in element.proto.body]
    page.toggle[0].set_value(True).run()
    wanted = answer_ecg(open_ecg(formats.edf(flat, RATE)), anyway=True).probabilities
    assert shown_probabilities(page) == pytest.approx(list(wanted.values()), abs=0.001)
    page.toggle[0].set_value(False).run()
    assert page.error


def test_several_files_are_listed_and_a_bad_one_does_not_end_the_others(page: AppTest) -> None:
    upload(page, FILES["HL7 aECG"] | {"bad.txt": b"no ecg"} | FILES["WFDB"])
    assert page.header[0].value == "3 ECGs"
    frame = page.dataframe[0].value
    assert frame["record"].tolist() == ["a.xml", "bad.txt", "x.hea"]
    assert frame["probability_MI"].isna().tolist() == [False, True, False]
    next(box for box in page.selectbox if box.label == "Show").set_value(2).run()
    assert page.header[1].value == "x.hea"


def test_two_models_are_compared(page: AppTest) -> None:
    upload(page, FILES["WFDB"])
    next(box for box in page.selectbox if box.label == "Compare with").set_value("xlstm").run()
    wanted = [
        load_model(name).predict_proba(demo_signal()[None], sampling_rate=RATE)[0] for name in (DEFAULT_MODEL, "xlstm")
    ]
    np.testing.assert_allclose(np.reshape(shown_probabilities(page), (5, 2)).T, wanted, atol=0.002)


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_example_has_an_answer(page: AppTest, name: str) -> None:
    page.radio[0].set_value("Example").run()
    page.selectbox[0].set_value(name).run()
    assert not page.exception
    assert len(shown_probabilities(page)) == 5
    assert ("Over time" in [element.value for element in page.subheader]) == ("60 s" in name)


def test_the_demo_makes_what_is_asked_for(page: AppTest) -> None:
    page.radio[0].set_value("Demo generator").run()
    page.multiselect[0].set_value(["MI", "CD"]).run()
    boxes = {box.label.split(" (")[0]: box for box in page.number_input}
    boxes["Heart rate per minute"].set_value(90)
    boxes["Duration in s"].set_value(12)
    boxes["Number of ECGs"].set_value(2)
    boxes["Seed"].set_value(7).run()
    assert page.header[0].value == "2 ECGs"
    wanted = answer_ecg(make_ecg(["MI", "CD"], heart_rate=90, seconds=12, seed=7)).probabilities
    assert shown_probabilities(page) == pytest.approx(list(wanted.values()), abs=0.001)
    page.multiselect[0].set_value(["NORM", "MI"]).run()
    assert "NORM" in page.error[0].value


def test_age_and_sex_may_stay_unknown_or_be_given(page: AppTest) -> None:
    upload(page, FILES["WFDB"])
    assert "age unknown" in " ".join(element.value for element in page.caption)
    page.number_input[0].set_value(61)
    next(box for box in page.selectbox if box.label == "Sex").set_value("female").run()
    shown = " ".join(element.value for element in page.caption)
    assert "61 years" in shown
    assert "female" in shown


def test_nothing_of_files_that_are_no_longer_shown_stays_in_memory(page: AppTest) -> None:
    upload(page, FILES["HL7 aECG"] | FILES["WFDB"])
    upload(page, FILES["EDF"])
    kept = page.session_state["answers"][DEFAULT_MODEL].values()
    assert [answer.record for answer in kept] == ["i.edf"]


def test_the_chart_has_the_voltages_the_peaks_and_the_ends_of_the_waves() -> None:
    ecg = make_ecg(["NORM"], seed=1)
    signal = ecg.signal.copy()
    signal[6, 100:150] = np.nan
    answer = answer_ecg(ECG(signal, ecg.sampling_rate))
    data = chart_data(answer)
    values = np.frombuffer(base64.b64decode(data["signal"]), "<i2").reshape(12, -1)
    level = np.nanmedian(signal[1])
    np.testing.assert_allclose(values[1] / 1000, signal[1] - level, atol=0.001)
    assert (values[6, 100:150] == NO_VALUE).all()
    assert (values[6] == NO_VALUE).sum() == 50
    assert data["peaks"] == pytest.approx((answer.peaks / ecg.sampling_rate).tolist(), abs=1e-3)
    ends = {wave: (first, last) for wave, first, last in data["bounds"]}
    assert ends["P"][0] < ends["P"][1] < ends["QRS"][0] < 0 < ends["QRS"][1] < ends["T"][1]
    assert f"{answer.measurements['heart_rate']:.0f} per minute" in data["description"]


def test_names_of_files_are_shown_as_text(page: AppTest) -> None:
    upload(page, {"<img src=x onerror=alert(1)>.edf": FILES["EDF"]["i.edf"]})
    assert not page.exception
    assert "<img" not in " ".join(element.proto.body for element in page.get("html"))


def test_names_of_files_are_no_markdown(page: AppTest) -> None:
    bad = "![](http:example.org) $x$ `y` *z*\u202e.{}"
    letter = b"Dear doctor"
    upload(page, {bad.format("txt"): letter, bad.format("edf"): FILES["EDF"]["i.edf"]})
    assert not page.exception
    shown = " ".join([messages(page), *(element.value for element in [*page.header, *page.caption])])
    assert "\\$x\\$" in shown
    assert "![" not in shown.replace("\\[", "")  # Markdown would load this picture
    assert "\u202e" not in shown


def test_a_zip_of_several_records_is_several_ecgs(page: AppTest) -> None:
    upload(page, {"all.zip": formats.zipped(FILES["WFDB"] | FILES["EDF"] | FILES["HL7 aECG"])})
    assert page.header[0].value == "3 ECGs"
    assert sorted(page.dataframe[0].value["record"]) == ["a.xml", "i.edf", "x.hea"]


def test_a_damaged_zip_is_one_line(page: AppTest) -> None:
    upload(page, {"all.zip": formats.zipped(FILES["WFDB"] | FILES["EDF"])[:-500]})
    assert not page.exception
    assert "all.zip" in page.error[0].value
