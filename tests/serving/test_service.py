"""The answers of the service are those of the package; what is wrong, too large or too much is said so."""

from __future__ import annotations

import io
import json
import logging
import re
import shlex
import subprocess
import sys
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ecg_formats import mutate
from fastapi.testclient import TestClient
from service_requests import as_form, as_json

import ecgkit
from ecgkit.explain.attributions import explain_ecg
from ecgkit.inference import DEFAULT_MODEL
from ecgkit.inference.answers import answer_ecg
from ecgkit.inference.onnx_model import OnnxPredictor
from ecgkit.readers import save_ecg
from ecgkit.serving.service import schemas
from ecgkit.serving.service.app import make_app
from ecgkit.serving.service.settings import Settings
from ecgkit.serving.service.work import Job, Work, do
from ecgkit.signals.ecg import ECG, LEADS


def probabilities(answer: dict[str, Any]) -> list[float]:
    return [entry["probability"] for entry in answer["classes"]]


def test_a_signal_as_json_gets_the_answer_of_the_package(client: TestClient, ecg: ECG) -> None:
    got = client.post("/v1/predict", json=as_json(ecg, measurements=True))
    wanted = answer_ecg(ecg, DEFAULT_MODEL).to_dict()
    assert got.status_code == 200
    assert schemas.Answer.model_validate(got.json())
    assert {entry["name"] for entry in got.json()["classes"]} == {"NORM", "MI", "STTC", "CD", "HYP"}
    assert probabilities(got.json()) == pytest.approx(probabilities(wanted), abs=1e-5)
    assert got.json()["measurements"] == pytest.approx(wanted["measurements"], rel=1e-4)
    assert [entry["decision"] for entry in got.json()["classes"]] == [entry["decision"] for entry in wanted["classes"]]


def test_the_files_of_a_record_and_a_zip_of_them_get_the_same_answer(
    client: TestClient, wfdb_files: dict[str, bytes]
) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in wfdb_files.items():
            archive.writestr(name, data)
    wanted = probabilities(answer_ecg(wfdb_files, DEFAULT_MODEL).to_dict())
    for files in (wfdb_files, {"heart.zip": packed.getvalue()}):
        got = client.post("/v1/predict", files=as_form(files))
        assert got.status_code == 200
        assert probabilities(got.json()) == pytest.approx(wanted, abs=1e-5)
        assert got.json()["record"] == "heart"


def test_unit_and_leads_are_converted(client: TestClient, ecg: ECG) -> None:
    order = [*range(6, 12), 0, 1]
    leads = [ecgkit.LEADS[row] for row in order]
    fields = as_json(ecg) | {"signal": (1000 * ecg.signal[order]).tolist(), "unit": "uV", "leads": leads}
    got = client.post("/v1/predict", json=fields)
    assert got.status_code == 200
    wanted = probabilities(client.post("/v1/predict", json=as_json(ecg)).json())
    assert probabilities(got.json()) == pytest.approx(wanted, abs=0.02)  # the other limb leads are derived and rounded
    assert any("III" in finding["text"] for finding in got.json()["findings"])


def test_age_and_sex_of_the_request_are_in_the_answer(client: TestClient, ecg: ECG) -> None:
    unknown = replace(ecg, age=None, sex=None)
    got = client.post("/v1/predict", json=as_json(unknown, age=61, sex="female")).json()
    assert (got["age"], got["sex"]) == (61, "female")
    assert got["measurements"] == {}


def test_several_are_answered_and_a_bad_one_does_not_end_the_others(
    client: TestClient, ecg: ECG, wfdb_files: dict[str, bytes]
) -> None:
    single = probabilities(client.post("/v1/predict", files=as_form(wfdb_files)).json())
    got = client.post("/v1/predict/batch", files=as_form(wfdb_files | {"bad.csv": b"1,2\n3,4\n"}))
    assert got.status_code == 200
    good, bad = schemas.BatchAnswer.model_validate(got.json()).answers
    assert (good.record, bad.record) == ("heart.hea", "bad.csv")
    assert [entry.probability for entry in good.classes or []] == pytest.approx(single, abs=1e-5)
    assert not good.error
    assert "leads=" in bad.error
    items = [as_json(ecg), as_json(ecg) | {"leads": ["I"]}, as_json(ecg, age=40)]
    answers = client.post("/v1/predict/batch", json={"ecgs": items, "measurements": True}).json()["answers"]
    assert [bool(answer["error"]) for answer in answers] == [False, True, False]
    assert [answer["age"] for answer in answers] == [None, None, 40]
    assert answers[2]["measurements"]["heart_rate"] > 30


def test_a_page_is_a_pdf_or_a_picture(client: TestClient, ecg: ECG, wfdb_files: dict[str, bytes]) -> None:
    drawn = client.post("/v1/dashboard", files=as_form(wfdb_files))
    assert (drawn.status_code, drawn.headers["content-type"]) == (200, "application/pdf")
    assert drawn.content.startswith(b"%PDF")
    picture = client.post("/v1/dashboard", json=as_json(ecg, format="png"))
    assert picture.headers["content-type"] == "image/png"
    assert picture.content.startswith(b"\x89PNG")
    assert client.post("/v1/dashboard", json=as_json(ecg, format="gif")).status_code == 422


def test_where_the_model_looked_is_the_explanation_of_the_package(
    client: TestClient, ecg: ECG, wfdb_files: dict[str, bytes]
) -> None:
    got = client.post("/v1/explain", json=as_json(ecg, method="grad_cam", classes=["MI", "CD"]))
    assert got.status_code == 200, got.text
    answer = schemas.Explained.model_validate(got.json())
    wanted = explain_ecg(DEFAULT_MODEL, ecg, method="grad_cam", classes=["MI", "CD"])
    assert [entry.name for entry in answer.classes] == ["MI", "CD"]
    for row, entry in enumerate(answer.classes):
        assert np.array(entry.relevance) == pytest.approx(wanted.relevance[row], rel=1e-3, abs=1e-6)
        assert entry.value == pytest.approx(wanted.values[row], abs=1e-4)
        assert entry.change is None
    assert np.array(answer.signal) == pytest.approx(wanted.signal, abs=1e-3)
    assert (answer.sampling_rate, answer.leads, answer.unit) == (100, list(ecgkit.LEADS), "logits")
    form = {"classes": "CD, MI", "method": "occlusion_leads", "format": "png"}
    picture = client.post("/v1/explain", files=as_form(wfdb_files), data=form)
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
    assert picture.content.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"method": "magic"}, "magic"),
        ({"method": "attention"}, "attention"),
        ({"classes": ["MIX"]}, "MIX"),
        ({"classes": []}, "classes"),
        ({"format": "pdf"}, "format"),
    ],
)
def test_what_cannot_be_explained_is_422_and_named(
    client: TestClient, ecg: ECG, fields: dict[str, Any], named: str
) -> None:
    got = client.post("/v1/explain", json=as_json(ecg, **fields))
    assert got.status_code == 422
    assert named in got.json()["error"]


def test_a_graph_is_predicted_and_not_explained(ecg: ECG) -> None:
    class Graph(OnnxPredictor):
        """Without a graph, which takes long to export."""

        def __init__(self) -> None:
            self.name, self.classes = "graph", ("MI",)

    work = Work(Settings())
    work.predictors = {"graph": Graph()}
    (result,) = do(work, [Job("explain", json.dumps(as_json(ecg)).encode())])
    assert result.status == 422
    assert "graph is an ONNX graph" in json.loads(result.body)["error"]


def test_the_models_are_described(client: TestClient) -> None:
    (model,) = schemas.ModelsAnswer.model_validate(client.get("/v1/models").json()).models
    predictor = ecgkit.load_model(DEFAULT_MODEL)
    assert model.classes == list(predictor.classes)
    assert list(model.thresholds.values()) == pytest.approx(predictor.thresholds.tolist())
    assert model.sampling_rate == 100


def test_health_readiness_and_counters(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json() == {"status": "ready"}
    lines = client.get("/metrics").text.splitlines()
    assert 'ecgkit_requests_total{route="/health",status="200"}' in {line.rpartition(" ")[0] for line in lines}


BAD_JSON = {
    "no json": (b"{", "JSON"),
    "nested without end": (b"[" * 100_000, "recursion"),
    "a list": (b"[]", "object"),
    "no signal": (b'{"sampling_rate": 500}', "signal"),
    "a text as rate": (b'{"signal": [[0]], "sampling_rate": "500"}', "sampling_rate"),
    "a mistyped name": (b'{"signal": [[0]], "sampling_rate": 500, "ages": 3}', "ages"),
    "an age that nobody has": (b'{"signal": [[0]], "sampling_rate": 500, "age": 300}', "age"),
    "an unknown sex": (b'{"signal": [[0]], "sampling_rate": 500, "sex": "x"}', "sex"),
    "no samples": (b'{"signal": [[]], "sampling_rate": 500, "leads": ["I"]}', "shape"),
    "lists of two lengths": (b'{"signal": [[0, 1], [0]], "sampling_rate": 500}', "1 to 2"),
    "a huge number": (b'{"signal": [[' + b"9" * 5000 + b']], "sampling_rate": 500}', "number"),
    "numbers beyond float32": (b'{"signal": [[1e300, 1e300]], "sampling_rate": 1e300}', "1e\\+300"),
    "too short": (b'{"signal": [[0, 1]], "sampling_rate": 500, "leads": ["I"]}', "0.004 s"),
    "an unknown unit": (b'{"signal": [[0, 1]], "sampling_rate": 500, "leads": ["I"], "unit": "mmHg"}', "mmHg"),
    "an unknown lead": (b'{"signal": [[0, 1]], "sampling_rate": 500, "leads": ["X9"]}', "X9"),
    "a model that is none": (b'{"signal": [[0, 1]], "sampling_rate": 500, "model": "/etc/passwd"}', DEFAULT_MODEL),
    "bytes that are not text": (b"\xff\xfe\x00", "JSON"),
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_bad_json_is_422_and_named(client: TestClient, name: str) -> None:
    body, named = BAD_JSON[name]
    got = client.post("/v1/predict", content=body, headers={"Content-Type": "application/json"})
    assert got.status_code == 422, got.text
    assert len(got.json()["error"].splitlines()) == 1
    assert re.search(named, got.json()["error"]), got.text


def test_an_ecg_that_the_checks_refuse_is_422_with_findings_and_predicted_if_that_is_asked_for(
    client: TestClient, ecg: ECG
) -> None:
    flat = ecg.signal.copy()
    flat[6:] = 0.0
    fields = as_json(ecg) | {"signal": flat.tolist()}
    got = client.post("/v1/predict", json=fields)
    assert got.status_code == 422
    assert "flat" in got.json()["error"]
    assert any(finding["level"] == "refused" for finding in got.json()["findings"])
    assert client.post("/v1/predict", json=fields | {"anyway": True}).status_code == 200


def array_of_objects() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], object), allow_pickle=True)
    return buffer.getvalue()


BAD_FILES = {
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), 415, "picture"),
    "a program": (b"\x7fELF" + bytes(range(256)) * 20, 415, "format"),
    "a pickle": (b"\x80\x04\x95" + bytes(100), 415, "pickle"),
    "an array of objects": (array_of_objects(), 422, "object|pickle"),
    "entities": (
        b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><AnnotatedECG>&x;</AnnotatedECG>',
        422,
        "entit",
    ),
    "a table without a unit": (b"I,II\n" + b"0.1,0.2\n" * 1000, 422, "unit="),
    "nothing": (b"", 422, "empty"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_have_the_message_of_the_reader(client: TestClient, name: str) -> None:
    data, status, named = BAD_FILES[name]
    got = client.post("/v1/predict", files={"file": ("ecg.bin", data)})
    assert got.status_code == status, got.text
    assert re.search(named, got.json()["error"]), got.text


def test_a_zip_that_grows_is_refused(client: TestClient) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ecg.csv", bytes(50 * 2**20))
    got = client.post("/v1/predict", files={"file": ("ecg.zip", packed.getvalue())})
    assert got.status_code == 422
    assert "times as large" in got.json()["error"]


@pytest.mark.parametrize("name", ["../../evil.csv", "/etc/passwd", "..", "C:\\x\\ecg.csv", "a\x00b.csv"])
def test_no_name_of_a_file_leads_anywhere(client: TestClient, ecg: ECG, name: str) -> None:
    rows = "\n".join(",".join(f"{value:.3f}" for value in row) for row in ecg.signal.T[:1500])
    table = f"{','.join(ecgkit.LEADS)}\n{rows}\n".encode()
    got = client.post("/v1/predict", files={"file": (name, table)}, data={"unit": "mV", "sampling_rate": "500"})
    assert got.status_code == 200, got.text
    assert "/" not in got.json()["record"]


FORMS = {
    "no file": ({"data": {"unit": "mV"}}, 415),
    "a text as file": ({"data": {"file": "ecg.xml"}, "files": {"x": ("a", b"1")}}, 422),
    "a field that is none": ({"data": {"units": "mV"}, "files": {"file": ("a.csv", b"1")}}, 422),
    "no number": ({"data": {"sampling_rate": "many"}, "files": {"file": ("a.csv", b"1")}}, 422),
    "two of one name": ({"files": [("file", ("a.csv", b"1")), ("file", ("a.csv", b"2"))]}, 422),
    "no boundary": ({"content": b"--x\r\n", "headers": {"Content-Type": "multipart/form-data"}}, 422),
    "an end too early": (
        {"content": b"--x\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        422,
    ),
    "text": ({"content": b"hello", "headers": {"Content-Type": "text/plain"}}, 415),
}


@pytest.mark.parametrize("name", FORMS)
def test_bad_forms(client: TestClient, name: str) -> None:
    keywords, status = FORMS[name]
    got = client.post("/v1/predict", **keywords)
    assert got.status_code == status, got.text
    assert set(got.json()) == {"error", "findings"}


def test_limits_of_size_length_and_leads(client: TestClient) -> None:
    large = client.post("/v1/predict", content=b" " * (4 * 2**20 + 1), headers={"Content-Type": "application/json"})
    assert large.status_code == 413
    chunks = (b" " * 2**20 for _ in range(6))  # without a Content-Length
    large = client.post("/v1/predict", content=chunks, headers={"Content-Type": "application/json"})
    assert large.status_code == 413
    long = {"signal": [[0.0] * 50 * 61] * 2, "sampling_rate": 50, "leads": ["I", "II"]}
    assert client.post("/v1/predict", json=long).status_code == 413
    wide = {"signal": [[0.0] * 100] * 21, "sampling_rate": 100, "leads": [f"x{i}" for i in range(21)]}
    assert client.post("/v1/predict", json=wide).status_code == 413


def test_paths_and_methods_that_are_none_are_answered_in_json(client: TestClient) -> None:
    assert (client.get("/nope").status_code, client.get("/v1/predict").status_code) == (404, 405)
    assert client.get("/v1/predict").headers["allow"] == "POST"
    assert client.get("/nope").json()["error"]
    assert client.post("/v1/predict/").status_code == 404


def test_answers_have_an_id_and_are_not_kept(client: TestClient) -> None:
    first, second = (client.get("/health").headers for _ in range(2))
    assert len(first["x-request-id"]) == 32
    assert first["x-request-id"] != second["x-request-id"]
    assert (first["cache-control"], first["x-content-type-options"]) == ("no-store", "nosniff")


def test_the_log_has_nothing_of_the_patient(
    client: TestClient, wfdb_files: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    files = {
        name.replace("heart", "muster"): data.replace(b"heart", b"muster") if name.endswith(".hea") else data
        for name, data in wfdb_files.items()
    }
    for path in ("/v1/predict", "/v1/muster", "/v1/predict?muster=1"):
        client.post(path, files=as_form(files), data={"sex": "male"})
    lines = [record.fields for record in caplog.records if record.name == "ecgkit.service"]
    assert [(line["route"], line["status"]) for line in lines] == [
        ("/v1/predict", 200),
        ("other", 404),
        ("/v1/predict", 200),
    ]
    assert not re.search("muster|male", json.dumps(lines))


ODD = (None, True, -1, 0, 1e308, 10**30, "", "NaN", "\x00\u202e", [], {}, [[]], "I" * 5000, "1e5", float("inf"))
"""What nobody sends on purpose."""


def spoil(value: Any, rng: np.random.Generator) -> Any:
    """Replace something at a random depth of a request, or leave it out."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.8:
        key = list(value)[rng.integers(len(value))] if isinstance(value, dict) else int(rng.integers(len(value)))
        changed = value.copy()
        changed[key] = spoil(value[key], rng)
        if rng.random() < 0.1:
            del changed[key]
        return changed
    return ODD[rng.integers(len(ODD))]


@pytest.mark.slow
def test_made_up_requests_get_an_answer_that_the_description_has(
    client: TestClient, ecg: ECG, wfdb_files: dict[str, bytes]
) -> None:
    """A sample of what `make soak` does for ten minutes."""
    rng = np.random.default_rng(1)
    paths = client.get("/openapi.json").json()["paths"]
    part = replace(ecg, signal=ecg.signal[:, :1500])
    one = as_json(part, unit="mV", leads=list(LEADS), age=60, sex="male", model=DEFAULT_MODEL, measurements=True)
    whole = dict.fromkeys(("/v1/predict", "/v1/dashboard", "/v1/explain"), one) | {"/v1/predict/batch": {"ecgs": [one]}}
    statuses: Counter[int] = Counter()
    for number in range(160):
        path = list(whole)[number % len(whole)]
        if number % 3:
            body = json.dumps(spoil(whole[path], rng))
            got = client.post(path, content=body, headers={"Content-Type": "application/json"})
        else:
            files = {name: mutate(data, rng) for name, data in wfdb_files.items()}
            got = client.post(path, files=as_form(files), data={"age": str(ODD[rng.integers(len(ODD))])})
        statuses[got.status_code] += 1
        assert str(got.status_code) in paths[path]["post"]["responses"], (number, got.text[:200])
        assert got.status_code < 500
    assert min(statuses[200], statuses[422]) > 5, statuses


def test_the_description_has_examples_that_run(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    tried = 0
    for path, methods in paths.items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            got = client.request(method, path, json=content.get("example"))
            assert got.status_code == 200, (path, got.text[:300])
            tried += "example" in content
    assert tried == 4


def test_a_token_is_asked_for_where_one_is_set() -> None:
    app = make_app(Settings(workers=1, token="secret-1", cors=("https://a.example",)))  # noqa: S106 - of this test
    client = TestClient(app)  # without its lifespan nothing is loaded: only what passes the gate is looked at
    assert client.get("/v1/models").status_code == 401
    assert client.get("/v1/models").headers["www-authenticate"] == "Bearer"
    for wrong in ("Bearer secret-2", "Basic secret-1", "Bearer", "secret-1", "Bearer sécret"):
        assert client.get("/v1/models", headers={"Authorization": wrong.encode()}).status_code == 401
    origin = {"Origin": "https://a.example"}
    got = client.get("/v1/models", headers={"Authorization": "Bearer secret-1"} | origin)
    assert got.status_code == 200
    assert got.headers["access-control-allow-origin"] == "https://a.example"
    assert "access-control-allow-origin" not in client.get("/health", headers={"Origin": "https://b.example"}).headers
    assert client.get("/health").status_code == 200
    assert "token" in client.get("/openapi.json").json()["components"]["securitySchemes"]


LIGHT = """
import json, sys
from ecgkit.serving.service.app import make_app
from ecgkit.serving.service.schemas import example
from ecgkit.serving.service.settings import Settings
from ecgkit.serving.service.work import Job, Work, do
settings = Settings(models=(sys.argv[1],), backend="onnx", workers=1)
make_app(settings).openapi()
work = Work(settings)
body = json.dumps(example(measurements=True)).encode()
(result,) = do(work, [Job("predict", body)])
heavy = {"torch", "lightning", "matplotlib", "umap", "sklearn", "IPython", "numba", "streamlit"}
print(result.status, sorted(heavy & set(sys.modules)))
(page,) = do(work, [Job("dashboard", body)])
print(page.status, page.media, "matplotlib" in sys.modules, "torch" in sys.modules)
(none,) = do(work, [Job("explain", body)])
print(none.status, "ONNX" in none.body.decode(), "torch" in sys.modules)
"""


@pytest.mark.slow
def test_with_an_onnx_graph_nothing_heavy_is_imported_and_matplotlib_by_the_first_page(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    from ecgkit.inference.export import export_model
    from ecgkit.inference.model_folder import SHIPPED

    folder = export_model(SHIPPED / "resnet1d", tmp_path_factory.mktemp("onnx") / "graph", format="onnx")
    code = [sys.executable, "-c", LIGHT, str(folder)]
    result = subprocess.run(code, capture_output=True, text=True, check=False)
    assert result.stdout.splitlines() == ["200 []", "200 application/pdf True False", "422 True False"], result.stderr


ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("page", ["README.md", "docs/service.md"])
def test_the_lines_of_curl_in_the_documentation_get_an_answer(
    page: str, client: TestClient, ecg: ECG, wfdb_files: dict[str, bytes], tmp_path: Path
) -> None:
    save_ecg(ecg, tmp_path / "b.edf")
    files = {"a.hea": wfdb_files["heart.hea"].replace(b"heart", b"a"), "a.dat": wfdb_files["heart.dat"]}
    files |= {"b.edf": (tmp_path / "b.edf").read_bytes(), "ecg.xml": (tmp_path / "b.edf").read_bytes()}
    lines = [shlex.split(line) for line in (ROOT / page).read_text().splitlines() if line.startswith("curl ")]
    assert len(lines) == (1 if page == "README.md" else 4)
    for line in lines:
        fields = [line[i + 1].split("=") for i, word in enumerate(line) if word == "--form"]
        named = {value[1:]: files[value[1:]] for _, value in fields if value.startswith("@")}
        data = {key: value for key, value in fields if not value.startswith("@")}
        got = client.post(line[1].removeprefix("http://127.0.0.1:8000"), files=as_form(named), data=data)
        assert got.status_code == 200, got.text
        if "batch" in line[1]:
            assert [answer["error"] for answer in got.json()["answers"]] == ["", ""]
