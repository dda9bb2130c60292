"""The examples hold what they say; what cannot be opened is a row; the notebook answers for files of your own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ecg_formats import files_of_each_format, storable

from ecgkit import load_model, paths
from ecgkit.diagnosis.config import DiagnosisConfig
from ecgkit.diagnosis.files import N_EXAMPLES, class_beats, describe, find_files, typical_answer
from ecgkit.errors import EcgkitError
from ecgkit.inference import DEFAULT_MODEL
from ecgkit.inference.answers import Answer, answer_ecgs
from ecgkit.inference.model_folder import SHIPPED
from ecgkit.readers import save_ecg
from ecgkit.signals.beats import record_beat
from ecgkit.sources.demo import Demo
from ecgkit.workflow import run_step


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return find_files(DiagnosisConfig(), tmp_path_factory.mktemp("examples"))


@pytest.fixture(scope="module")
def answers(examples: list[Path]) -> list[Answer]:
    return list(answer_ecgs([(str(path), path) for path in examples]))


def test_three_of_the_examples_are_refused(examples: list[Path], answers: list[Answer]) -> None:
    refused = {Path(answer.record).stem for answer in answers if answer.refusal}
    assert refused == {"in_microvolts", "limb_leads_only", "letter"}
    assert len(examples) == N_EXAMPLES + 3
    assert all(30 < answer.measurements["heart_rate"] < 200 for answer in answers if answer.prediction)


def test_what_cannot_be_opened_is_a_row_with_its_error(answers: list[Answer]) -> None:
    table = describe(answers)
    assert Path(table.index[table["error"] != ""].item()).stem == "letter"
    limbs = table.loc[[name for name in table.index if "limb" in name]].iloc[0]
    assert limbs["missing_leads"] == "V1, V2, V3, V4, V5, V6"
    assert (table["seconds"].dropna() == 10).all()


def test_mean_beats_are_those_of_the_decided_files(answers: list[Answer]) -> None:
    means = class_beats(answers, answers[0].predictor.classes)
    assert means is not None
    decided = [answer.ecg for answer in answers if answer.ecg and answer.to_row()["decision_NORM"]]
    each = [record_beat(ecg.signal, sampling_rate=ecg.sampling_rate) for ecg in decided]
    expected = np.mean([beat[:, : len(means.times)] for beat in each], axis=0)
    np.testing.assert_allclose(means.mean[means.groups.index("NORM")], expected, atol=1e-5)
    assert class_beats([answer for answer in answers if answer.refusal], answers[0].predictor.classes) is None


@pytest.mark.parametrize("name", ["thresholds.json", "reference.json", "missing_leads.json"])
def test_another_threshold_or_reference_is_another_diagnosis(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(SHIPPED / "resnet1d", folder)
    config = DiagnosisConfig(model=str(folder))
    before = config.inputs(tmp_path)
    (folder / name).write_text((folder / name).read_text() + "\n")
    assert config.inputs(tmp_path) != before
    assert DiagnosisConfig(model="ensemble").inputs(tmp_path)["model_sha256"]


def test_without_any_answer_the_reason_is_named(answers: list[Answer]) -> None:
    with pytest.raises(EcgkitError, match="lacks V1"):
        typical_answer([answer for answer in answers if "limb" in answer.record])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"files": "nowhere/*.xml"}, "nowhere"),
        ({"files": "nowhere.xml"}, "nowhere.xml"),
        ({"model": "vit"}, "vit"),
        ({"unit": 3}, "unit"),
        ({"age": 200}, "age"),
        ({"sex": "m"}, "sex"),
        ({"start": -1}, "start"),
    ],
)
def test_bad_parameters_are_refused_before_anything_is_made(
    settings: dict[str, object], named: str, tmp_path: Path
) -> None:
    with pytest.raises(EcgkitError, match=named):
        run_step("diagnose", tmp_path, **settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_broken_link_in_a_folder_does_not_end_a_diagnosis(tmp_path: Path) -> None:
    for name in ("broken.csv", os.fsdecode(b"caf\xe9.csv")):
        (tmp_path / name).symlink_to(tmp_path / "nothing")
    (tmp_path / os.fsdecode(b"\xe9.npz")).write_bytes(b"x")
    config = DiagnosisConfig.resolve(tmp_path, files=str(tmp_path))
    assert len(find_files(config, tmp_path)) == 3
    assert [name for name, *_ in config.inputs(tmp_path)["read"]] == [rf"{tmp_path}/\udce9.npz"]
    with pytest.raises(EcgkitError, match=r"broken\.csv"):
        DiagnosisConfig.resolve(tmp_path, files=str(tmp_path / "broken.csv"))


def test_the_notebook_answers_for_files_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signal = storable(Demo(n_records=20, sampling_rate=500).read("1").signal)
    for files in files_of_each_format(signal, 500).values():
        for name, data in files.items():
            (tmp_path / "mine").mkdir(exist_ok=True)
            (tmp_path / "mine" / name).write_bytes(data)
    monkeypatch.chdir(tmp_path)
    made = run_step("diagnose", tmp_path, files="mine", quiet=True, verbose=False)
    assert made.path.parent.name == paths.DIAGNOSES
    table = pd.read_parquet(made.path / "answers.parquet")
    expected = load_model(DEFAULT_MODEL).predict_proba(signal[None], sampling_rate=500)
    found = table.filter(like="probability_").to_numpy(dtype=float)
    assert len(found) == len(files_of_each_format(signal, 500))
    np.testing.assert_allclose(found, np.repeat(expected, len(found), axis=0), atol=2e-3)  # EDF and MFER round
    assert {path.name for path in (made.path / "figures").iterdir()} >= {"page.png", "overview.png"}
    assert run_step("diagnose", tmp_path, files="mine", quiet=True).skipped
    save_ecg(Demo(n_records=20).read("3"), tmp_path / "mine" / "l.npz")
    assert not run_step("diagnose", tmp_path, files="mine", quiet=True, verbose=False).skipped
