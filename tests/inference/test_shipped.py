"""A model that stands alone says elsewhere what its session said, and the models that ship give their numbers again."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ecgkit.inference.card import SECTIONS
from ecgkit.inference.folder import CARD, WEIGHTS
from ecgkit.inference.shipped import DESCRIPTION, shipped
from make_pretrained_outputs import RATES, STORED, outputs

import ecgkit
from ecgkit import evaluation, paths, sessions, stats
from ecgkit.cli import main
from ecgkit.datasets.store import Dataset
from ecgkit.errors import EcgkitError
from ecgkit.inference import export as exporting
from ecgkit.inference import shipped as pretrained
from ecgkit.inference.export import COPIED, export_model
from ecgkit.sessions import Session
from ecgkit.sources import Demo, PtbXl
from ecgkit.training import fit, predict_folds
from ecgkit.training.config import configure
from ecgkit.training.model import new_model

WANTED = {"resnet1d", "xlstm", "hybrid"}
MOST_BYTES = 12_000_000
SMALL = {"widths": [8, 8, 8, 8], "blocks": 1}
SOURCE = Demo(n_records=300, seed=3)


@pytest.fixture(scope="module")
def root(demo_root: Path, demo_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a project's folder with a small training of one epoch on the demo, and an untrained one of age and sex."""
    folder = tmp_path_factory.mktemp("pretrained")
    (folder / paths.PROCESSED).mkdir()
    (folder / paths.PROCESSED / "demo").symlink_to(demo_root / paths.PROCESSED / "demo")
    settings = {"dataset": "demo", "model": "resnet1d", "source": "demo", "epochs": 1, "model_options": SMALL}
    for metadata in (False, True):
        config = replace(
            configure(**settings, crop_seconds=0.0, crops_per_record=1), metadata=metadata, precision="float32"
        )
        session = sessions.create(paths.TRAINING, folder)
        session.write_json("config.json", asdict(config) | {"dataset_fingerprint": demo_dataset.fingerprint})
        if metadata:
            trained = new_model(config, demo_dataset)
            trained.save(session.path / "weights" / "best.safetensors")
        else:
            trained = fit(session, config, demo_dataset)
        session.write_json("environment.json", sessions.environment())
        predictions = predict_folds(trained, demo_dataset)
        evaluation.evaluate_session(session, predictions, demo_dataset.classes, data=demo_dataset)
        session.mark_done()
    return folder


@pytest.fixture(scope="module")
def session(root: Path) -> Session:
    return Session(root / paths.TRAINING / "session_1")


@pytest.fixture(scope="module")
def exported(session: Session, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_model(session, tmp_path_factory.mktemp("exported") / "mine", root=root)


@pytest.fixture
def model(exported: Path, tmp_path: Path) -> Path:
    """Give a copy of an exported model that a test may spoil."""
    return Path(shutil.copytree(exported, tmp_path / "model"))


def fold_10(session: Session, n_records: int) -> pd.DataFrame:
    table = pd.read_parquet(session.path / "predictions.parquet")
    return table[table["fold"] == 10].head(n_records).reset_index(drop=True)


def read(table: pd.DataFrame, source: Demo | PtbXl = SOURCE) -> np.ndarray:
    return np.stack([source.read(record_id).signal for record_id in table["record_id"]])


def test_an_export_holds_all_that_a_model_needs_and_nothing_of_its_machine(
    exported: Path, session: Session, root: Path, demo_dataset: Dataset
) -> None:
    assert {path.name for path in exported.iterdir()} == {WEIGHTS, CARD, DESCRIPTION, *COPIED}
    for name in COPIED:
        assert json.loads((exported / name).read_text()) == session.read_json(name)
    weights = session.path / "weights" / "best.safetensors"
    assert (exported / WEIGHTS).read_bytes() == weights.read_bytes()
    said = json.loads((exported / DESCRIPTION).read_text())
    assert (said["label_set"], said["classes"]) == ("superclass", list(demo_dataset.classes))
    assert (said["sampling_rate"], said["seconds"], said["metadata"]) == (100, 10.0, [])
    assert said["training"] == {"epochs": 1, "best_epoch": 1}
    fold = said["dataset"]["parts"]["fold 10"]
    assert fold["n_records"] == len(demo_dataset.folds(10))
    assert fold["n_positive"]["MI"] == demo_dataset.labels["MI"].iloc[demo_dataset.folds(10)].sum()
    machine = session.read_json("environment.json")
    assert said["versions"] == {name: machine["packages"][name] for name in ("ecgkit", "torch")}
    text = "".join(path.read_text() for path in exported.iterdir() if path.name != WEIGHTS)
    for private in (str(root), str(exported.parent), str(paths.PACKAGE), machine["platform"], machine["processor"]):
        assert not private or private not in text
    assert re.search(r"(?<![\w.:/])/(home|tmp|work|Users|root|var)/", text) is None


def test_the_card_says_what_the_results_say(exported: Path) -> None:
    card, results = (exported / CARD).read_text(), json.loads((exported / "metrics.json").read_text())
    assert re.findall(r"^## (.*)$", card, re.MULTILINE) == list(SECTIONS)
    assert "synthetic" in card
    assert "not a medical device" in card
    assert "Wagner" not in card
    for name in ("NORM", "HYP", "macro"):
        row = next(line for line in card.splitlines() if line.startswith(f"| {name} |") and line.count("(") == 4)
        for metric in ("auc", "f1", "sensitivity", "specificity"):
            entry = results["fold_10"][name][metric]
            assert f"{entry['value']:.3f} ({entry['low']:.3f} to {entry['high']:.3f})" in row
    thresholds = json.loads((exported / "thresholds.json").read_text())["thresholds"]
    assert all(f"{threshold:.4f}" in card for threshold in thresholds.values())
    assert "by sex" in card
    assert "\n\n\n" not in card
    assert max(map(ord, card)) < 128


def test_a_card_of_ptbxl_names_its_licence_its_authors_and_its_limits(exported: Path) -> None:
    from ecgkit.inference.card import model_card

    said = json.loads((exported / DESCRIPTION).read_text())
    said["dataset"] |= {"source": "ptbxl", "version": "1.0.3"}
    card = model_card(said, {name: json.loads((exported / name).read_text()) for name in COPIED}, name="xlstm")
    for words in ("CC BY 4.0", "10.1038/s41597-020-0495-6", "10.13026/kfzx-aw45", "Germany", "1989", "Schiller"):
        assert words in card
    assert "Subgroups were not looked at" in card
    assert 'ecgkit.load_model("xlstm")' in card


def test_a_fresh_process_elsewhere_says_what_the_session_said(exported: Path, session: Session, tmp_path: Path) -> None:
    table = fold_10(session, 20)
    np.save(tmp_path / "signals.npy", read(table))
    code = (
        "import ecgkit, json, numpy; model = ecgkit.load_model('mine'); signals = numpy.load('signals.npy'); "
        "prob = model.predict_proba(signals, sampling_rate=100); decided = model.predict(signals, sampling_rate=100); "
        "print(json.dumps([model.classes, prob.tolist(), decided.tolist()]))"
    )
    shutil.copytree(exported, tmp_path / "mine")
    command = [sys.executable, "-W", "error::UserWarning", "-c", code]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    classes, prob, decided = json.loads(ran.stdout)
    np.testing.assert_allclose(prob, table[[f"calibrated_{name}" for name in classes]], rtol=0, atol=1e-6)
    limits = session.read_json("thresholds.json")["thresholds"]
    raw = table[[f"prob_{name}" for name in classes]].to_numpy(np.float64)
    np.testing.assert_array_equal(decided, raw >= [limits[name] for name in classes])


def test_a_session_is_loaded_from_its_folder(session: Session, exported: Path) -> None:
    signals = read(fold_10(session, 3))
    one, other = ecgkit.load_model(session.path), ecgkit.load_model(exported)
    np.testing.assert_array_equal(
        one.predict_proba(signals, sampling_rate=100), other.predict_proba(signals, sampling_rate=100)
    )
    assert (one.classes, one.thresholds, one.label_set) == (other.classes, other.thresholds, other.label_set)
    assert (one.card, other.card) == ("", (exported / CARD).read_text())


def test_a_model_with_age_and_sex_takes_them_along(root: Path, tmp_path: Path) -> None:
    session = Session(root / paths.TRAINING / "session_2")
    model = ecgkit.load_model(export_model(session, tmp_path / "model", root=root))
    table = fold_10(session, 8)
    who = SOURCE.records.set_index("record_id").loc[table["record_id"]]
    prob = model.predict_proba(read(table), sampling_rate=100, age=who["age"], sex=who["sex"].tolist())
    np.testing.assert_allclose(prob, table[[f"calibrated_{name}" for name in model.classes]], rtol=0, atol=1e-6)
    assert "with age and sex" in model.card


def test_the_command_makes_the_folder_and_prints_it(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export-model", "1", "--root", str(root)]) == 0
    folder = tmp_path / "resnet1d_session_1"
    assert capsys.readouterr().out.splitlines()[-1] == str(folder)
    assert main(["export-model", "1", "--root", str(root)]) == 2
    assert "holds a model" in capsys.readouterr().err
    (folder / CARD).write_text("changed")
    assert main(["export-model", "1", "--to", str(folder), "--force", "--root", str(root)]) == 0
    assert ecgkit.load_model(folder).card.startswith("# resnet1d")
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_what_is_no_model_is_never_replaced(session: Session, root: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for force in (False, True):
        with pytest.raises(EcgkitError, match="is no exported model"):
            export_model(session, tmp_path, root=root, force=force)
        with pytest.raises(EcgkitError, match="is no exported model"):
            export_model(session, tmp_path / "thesis.tex", root=root, force=force)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_export_that_is_cut_off_leaves_things_as_they_were(
    error: BaseException, session: Session, root: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> str:
        raise error

    before = {path.name: path.read_bytes() for path in model.iterdir()}
    monkeypatch.setattr(exporting, "model_card", fail)
    for folder in (model, model.with_name("new")):
        with pytest.raises((KeyboardInterrupt, EcgkitError)):
            export_model(session, folder, root=root, force=True)
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before
    assert list(model.parent.iterdir()) == [model]


def test_an_export_that_cannot_be_moved_gives_the_old_one_back(
    session: Session, root: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if (path / CARD).is_file() and ".old" not in path.name and target == model:
            raise PermissionError(13, "Permission denied", str(target))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(EcgkitError, match="cannot be written"):
        export_model(session, model, root=root, force=True)
    assert list(model.parent.iterdir()) == [model]
    assert ecgkit.load_model(model).classes


def test_a_session_that_is_not_finished_and_an_ensemble_are_not_exported(root: Path, tmp_path: Path) -> None:
    unfinished = sessions.create(paths.TRAINING, tmp_path)
    with pytest.raises(EcgkitError, match="is not finished"):
        export_model(unfinished, tmp_path / "model", root=root)
    unfinished.write_json("config.json", {"model": "ensemble", "members": ["session_1", "session_2"]})
    unfinished.mark_done()
    with pytest.raises(EcgkitError, match="is an ensemble"):
        export_model(unfinished, tmp_path / "model", root=root)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"classes": ("NORM", "MI")}, "not NORM, MI .it also has STTC, CD, HYP.: give a model"),
        ({"classes": ("NORM", "MI", "STTC", "CD", "AFIB")}, "it lacks AFIB and it also has HYP"),
        ({"classes": ("MI", "NORM", "STTC", "CD", "HYP")}, "in another order"),
        ({"sampling_rate": 500}, "model mine was made for a sampling rate of 100 Hz, not of 500 Hz"),
    ],
)
def test_a_model_of_other_classes_or_another_rate_is_refused(
    asked: dict[str, object], message: str, exported: Path
) -> None:
    with pytest.raises(EcgkitError, match=message):
        ecgkit.load_model(exported, **asked)
    assert ecgkit.load_model(exported, classes=("NORM", "MI", "STTC", "CD", "HYP"), sampling_rate=100.0)


def test_an_export_that_is_not_finished_does_not_ship(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    for name in ("mine", ".yours.123.ecgkit-tmp"):
        shutil.copytree(exported, tmp_path / name)
    assert shipped() == ("mine",)
    assert ecgkit.load_model("mine").name == "mine"


def test_an_unknown_name_is_answered_by_those_that_ship(tmp_path: Path) -> None:
    with pytest.raises(EcgkitError, match=f"no model 'alexnet': give one that ships .{', '.join(shipped()) or 'none'}"):
        ecgkit.load_model("alexnet")
    with pytest.raises(EcgkitError, match="holds no model.json"):
        ecgkit.load_model(tmp_path)


@pytest.mark.parametrize("name", [WEIGHTS, CARD, DESCRIPTION, "thresholds.json", "calibration.json"])
def test_a_missing_file_is_named(name: str, model: Path) -> None:
    (model / name).unlink()
    with pytest.raises(EcgkitError, match=re.escape(name)):
        ecgkit.load_model(model)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (DESCRIPTION, "{", "model.json is no JSON"),
        (DESCRIPTION, "[]", "does not say 'format'"),
        ("thresholds.json", "{}", "thresholds.json does not say 'thresholds'"),
        ("thresholds.json", '{"thresholds": {"NORM": 0.5}}', "no threshold for MI"),
        ("calibration.json", '{"classes": {}}', "no calibration for NORM"),
    ],
)
def test_a_damaged_file_is_named(name: str, text: str, message: str, model: Path) -> None:
    (model / name).write_text(text)
    with pytest.raises(EcgkitError, match=message):
        ecgkit.load_model(model)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", "ecgkit-model-9", "has the format 'ecgkit-model-9'"),
        ("classes", ["NORM", "MI", "STTC", "CD"], "not NORM, MI, STTC, CD .it also has HYP"),
        ("sampling_rate", 500, "of 100 Hz, not of 500 Hz"),
        ("weights_sha256", "0" * 64, "is not the file that model.json describes"),
    ],
)
def test_a_description_of_another_model_is_refused(key: str, value: object, message: str, model: Path) -> None:
    said = json.loads((model / DESCRIPTION).read_text())
    (model / DESCRIPTION).write_text(json.dumps(said | {key: value}))
    with pytest.raises(EcgkitError, match=message):
        ecgkit.load_model(model)


def test_all_three_ship_and_are_small() -> None:
    assert set(shipped()) == WANTED
    files = [path for name in shipped() for path in (pretrained.FOLDER / name).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES


@pytest.mark.parametrize("name", shipped())
def test_a_model_that_ships_is_what_its_card_says(name: str) -> None:
    model = ecgkit.load_model(name, classes=("NORM", "MI", "STTC", "CD", "HYP"), sampling_rate=100)
    said = json.loads((pretrained.FOLDER / name / DESCRIPTION).read_text())
    assert (said["model"], model.label_set) == (name, "superclass")
    assert (said["dataset"]["source"], said["dataset"]["is_part"]) == ("ptbxl", False)
    assert re.findall(r"^## (.*)$", model.card, re.MULTILINE) == list(SECTIONS)
    assert f'ecgkit.load_model("{name}")' in model.card
    entry = json.loads((pretrained.FOLDER / name / "metrics.json").read_text())["fold_10"]["macro"]["auc"]
    assert f"{entry['value']:.4f} ({entry['low']:.4f} to {entry['high']:.4f}) on fold 10" in model.card


@pytest.mark.parametrize("name", shipped())
def test_a_model_that_ships_says_of_synthetic_ecgs_what_it_said(name: str) -> None:
    stored, found = json.loads(STORED.read_text())[name], outputs(name)
    assert found["weights_sha256"] == stored["weights_sha256"], "new weights: run tests/make_pretrained_outputs.py"
    assert found["classes"] == stored["classes"]
    for rate in RATES:
        np.testing.assert_allclose(found[f"{rate} Hz"], stored[f"{rate} Hz"], rtol=0, atol=5e-5)


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", shipped())
def test_a_model_that_ships_gives_its_published_numbers_again(name: str, ptbxl_folder: Path) -> None:
    model = ecgkit.load_model(name)
    source = PtbXl(ptbxl_folder, sampling_rate=model.sampling_rate)
    said = json.loads((pretrained.FOLDER / name / DESCRIPTION).read_text())
    if source.part or source.version != said["dataset"]["version"]:
        pytest.skip("not the whole PTB-XL of the version that the model was tested on")
    labels = source.labels[model.label_set][list(model.classes)]
    rows = (source.records["fold"] == 10) & labels.any(axis=1)
    records, truth = source.records[rows].reset_index(drop=True), labels[rows].reset_index(drop=True)
    table = model([source.read(record_id) for record_id in records["record_id"]], records)
    predictions = pd.concat([table, truth.add_prefix("true_")], axis=1).assign(fold=10)
    scores = stats.fold_scores(predictions, model.classes, 10)
    thresholds = json.loads((pretrained.FOLDER / name / "thresholds.json").read_text())
    found = evaluation.fold_metrics(scores, thresholds)
    published = json.loads((pretrained.FOLDER / name / "metrics.json").read_text())["fold_10"]
    assert found.keys() == published.keys()
    for group, entries in published.items():
        for metric, entry in entries.items():
            assert float(found[group][metric]) == pytest.approx(entry["value"], abs=5e-5), f"{metric} of {group}"
    some = records.head(50)
    who = {"age": some["age"], "sex": some["sex"].where(some["sex"].notna(), None).tolist()}
    prob = model.predict_proba(
        read(some, source), sampling_rate=model.sampling_rate, **(who if model.takes_metadata else {})
    )
    columns = [f"calibrated_{label}" for label in model.classes]
    np.testing.assert_allclose(prob, table[columns].head(50), rtol=0, atol=1e-5)
