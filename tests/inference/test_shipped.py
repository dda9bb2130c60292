"""A copied model predicts elsewhere what its session predicted; the models that ship reproduce their numbers."""

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
from ecg_files import real_file
from make_pretrained_outputs import RATES, STORED, outputs

import ecgkit
from ecgkit import evaluation, paths, sessions, stats
from ecgkit.cli import main
from ecgkit.datasets import Dataset
from ecgkit.errors import EcgkitError
from ecgkit.evaluation.card import describe, model_card
from ecgkit.explain.config import is_model
from ecgkit.inference import export as exporting
from ecgkit.inference import model_folder
from ecgkit.inference.export import export_model
from ecgkit.inference.loading import LARGEST_CHANGE
from ecgkit.inference.model_folder import CARD, SHIPPED, WEIGHTS, find_folder, read_card, shipped
from ecgkit.inference.weights import load_weights
from ecgkit.io import file_sha256
from ecgkit.sessions import Session
from ecgkit.sources.demo import Demo
from ecgkit.sources.ptbxl.source import PtbXl
from ecgkit.training import fit, predict_folds
from ecgkit.training.config import configure

WANTED = {
    "resnet1d",
    "xlstm",
    "hybrid",
    "ensemble",
    "cnn",
    "cnn_bilstm",
    "resnet1d_all",
    "resnet1d_age_sex",
}
FILES = {
    *("weights/best.safetensors", CARD, "thresholds.json", "calibration.json", "reference.json", "config.json"),
    "metrics.json",
}
HEAVY = {"lightning", "matplotlib", "sklearn", "pandas", "umap", "papermill", "wfdb", "jinja2", "xlstm", "numba"}
MOST_BYTES = 20_000_000
SMALL = {"widths": [8, 8, 8, 8], "blocks": 1}
SOURCE = Demo(n_records=300, seed=3)

SECTIONS = (
    "What it is",
    "Data and licence",
    "Protocol",
    "Results",
    "Calibration",
    "Limits",
    "Not for clinical use",
    "Use",
)


@pytest.fixture(scope="module")
def trained(demo_root: Path, demo_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a project's folder with a small training of one epoch on the demo."""
    folder = tmp_path_factory.mktemp("shipped")
    (folder / paths.PROCESSED).mkdir()
    (folder / paths.PROCESSED / "demo").symlink_to(demo_root / paths.PROCESSED / "demo")
    settings = {"dataset": "demo", "model": "resnet1d", "source": "demo", "epochs": 1, "model_options": SMALL}
    config = replace(configure(**settings, crop_seconds=0.0, crops_per_record=1), precision="float32")
    session = sessions.create(paths.TRAINING, folder)
    session.write_json("config.json", asdict(config) | {"dataset_fingerprint": demo_dataset.fingerprint})
    session.write_json("environment.json", sessions.environment())
    model = fit(session, config, demo_dataset)
    evaluation.evaluate_session(session, predict_folds(model, demo_dataset), demo_dataset.classes, data=demo_dataset)
    session.mark_done()
    return folder


@pytest.fixture(scope="module")
def session(trained: Path) -> Session:
    return Session(trained / paths.TRAINING / "session_1")


@pytest.fixture(scope="module")
def exported(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_model(session.path, tmp_path_factory.mktemp("exported") / "mine")


@pytest.fixture
def model(exported: Path, tmp_path: Path) -> Path:
    """Give a copy of an exported model that a test may spoil."""
    return Path(shutil.copytree(exported, tmp_path / "model"))


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fold_10(session: Session, n_records: int) -> pd.DataFrame:
    table = pd.read_parquet(session.path / "predictions.parquet")
    return table[table["fold"] == 10].head(n_records).reset_index(drop=True)


def read(table: pd.DataFrame, source: Demo | PtbXl = SOURCE) -> np.ndarray:
    return np.stack([source.read(record_id).signal for record_id in table["record_id"]])


def test_an_export_copies_the_model_and_nothing_of_its_machine(
    exported: Path, session: Session, trained: Path, demo_dataset: Dataset
) -> None:
    copied = files(exported)
    assert set(copied) == FILES
    assert all(copied[name] == (session.path / name).read_bytes() for name in FILES - {CARD})
    weights = load_weights(exported / WEIGHTS)
    assert (weights.label_set, weights.classes) == ("superclass", demo_dataset.classes)
    assert (weights.sampling_rate, weights.preparation.seconds, weights.scaler) == (100, 10.0, None)
    machine = session.read_json("environment.json")
    text = "".join(data.decode() for name, data in copied.items() if name != WEIGHTS.as_posix())
    for private in (str(trained), str(exported.parent), str(paths.PACKAGE), machine["platform"], machine["processor"]):
        assert not private or private not in text
    assert re.search(r"(?<![\w.:/])/(home|tmp|work|Users|root|var)/", text) is None


def test_the_card_agrees_with_the_results(exported: Path, demo_dataset: Dataset) -> None:
    card, results = (exported / CARD).read_text(), json.loads((exported / "metrics.json").read_text())
    assert re.findall(r"^## (.*)$", card, re.MULTILINE) == list(SECTIONS)
    assert "synthetic" in card
    assert "not a medical device" in card
    assert "Wagner" not in card
    for name in ("NORM", "CD", "macro"):
        row = next(line for line in card.splitlines() if line.startswith(f"| {name} |") and line.count("(") == 4)
        for metric in ("auc", "f1", "sensitivity", "specificity"):
            entry = results["fold_10"][name][metric]
            assert f"{entry['value']:.3f} ({entry['low']:.3f} to {entry['high']:.3f})" in row
    thresholds = json.loads((exported / "thresholds.json").read_text())["thresholds"]
    assert all(f"{threshold:.4f}" in card for threshold in thresholds.values())
    assert re.search(rf"^\| records \| .* \| {len(demo_dataset.folds(10))} \|$", card, re.MULTILINE)
    assert "number 1 of 1" in card
    assert "by sex" in card
    assert "\n\n\n" not in card
    assert 'load_model("path/to/mine")' in card
    assert max(map(ord, card)) < 128


def test_a_card_without_fold_10_and_one_of_ptbxl(session: Session, exported: Path, demo_dataset: Dataset) -> None:
    description = describe(session, load_weights(session.best_weights), demo_dataset)
    names = ("config.json", "metrics.json", "thresholds.json", "calibration.json")
    results = {name: json.loads((exported / name).read_text()) for name in names}
    del results["metrics.json"]["fold_10"]
    closed = model_card(description, results, name="session_1")
    assert "Fold 10 was not read" in closed
    assert "on fold 10" not in closed
    description["dataset"] |= {"source": "ptbxl", "version": "1.0.3"}
    card = model_card(description, results, name="xlstm")
    for words in ("CC BY 4.0", "10.1038/s41597-020-0495-6", "10.13026/kfzx-aw45", "Germany", "1989", "Schiller"):
        assert words in card
    assert "Subgroups were not looked at" in card
    assert 'ecgkit.load_model("xlstm")' in card


def test_a_card_names_what_the_first_weights_had_learned_from(
    session: Session, exported: Path, demo_dataset: Dataset, tmp_path: Path
) -> None:
    tuned = Session(shutil.copytree(session.path, tmp_path / "session_1", ignore=shutil.ignore_patterns("figures")))
    results = {name: json.loads((exported / name).read_text()) for name in ("config.json", "metrics.json")}
    starts = {
        "resnet1d": "from the weights of resnet1d, which had learned from folds 1-8 of ptbxl. ",
        "/gone/pretraining_sessions/session_4": "session_4, which had learned from folds 1-8 of data that are no "
        "longer known without labels. ",
    }
    for init, words in starts.items():
        tuned.write_json("config.json", session.config | {"init": init})
        description = describe(tuned, load_weights(session.best_weights), demo_dataset)
        assert words in model_card(description, results, name="session_1")


def test_a_fresh_process_elsewhere_predicts_what_the_session_did(
    exported: Path, session: Session, tmp_path: Path
) -> None:
    table = fold_10(session, 20)
    np.save(tmp_path / "signals.npy", read(table))
    code = (
        "import ecgkit, json, numpy, sys; model = ecgkit.load_model('mine'); signals = numpy.load('signals.npy'); "
        "prob = model.predict_proba(signals, sampling_rate=100); decided = model.predict(signals, sampling_rate=100); "
        f"heavy = sorted({HEAVY} & set(sys.modules)); "
        "print(json.dumps([model.classes, prob.tolist(), decided.tolist(), heavy]))"
    )
    shutil.copytree(exported, tmp_path / "mine")
    command = [sys.executable, "-W", "error::UserWarning", "-c", code]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    classes, prob, decided, heavy = json.loads(ran.stdout)
    assert heavy == []
    calibrated = table[[f"calibrated_{name}" for name in classes]]
    np.testing.assert_allclose(prob, calibrated, rtol=0, atol=1e-6)
    limits = session.read_json("thresholds.json")["thresholds"]
    np.testing.assert_array_equal(decided, calibrated >= [limits[name] for name in classes])


def test_a_session_is_a_model_folder(session: Session, exported: Path) -> None:
    signals = read(fold_10(session, 3))
    one, other = ecgkit.load_model(session.path), ecgkit.load_model(exported)
    np.testing.assert_array_equal(
        one.predict_proba(signals, sampling_rate=100), other.predict_proba(signals, sampling_rate=100)
    )
    np.testing.assert_array_equal(one.thresholds, other.thresholds)
    assert (one.classes, one.label_set) == (other.classes, other.label_set)
    assert one.card.replace("session_1", "path/to/mine") == other.card


def test_a_session_is_found_by_its_name_whatever_the_working_directory_holds(
    session: Session, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / session.name).mkdir()
    monkeypatch.chdir(tmp_path)  # as the kernel of notebook 4 works in explanation_sessions
    assert find_folder(session.name, trained) == session.path
    assert not is_model(session.name, trained)
    assert is_model(str(tmp_path / session.name), trained)


def test_the_command_makes_the_folder_and_prints_it(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export-model", "1", "--root", str(trained)]) == 0
    folder = tmp_path / "resnet1d_session_1"
    assert capsys.readouterr().out.splitlines()[-1] == str(folder)
    assert main(["export-model", "1", "--root", str(trained)]) == 2
    assert "contains a model" in capsys.readouterr().err
    (folder / CARD).write_text("changed")
    assert main(["export-model", "1", "--to", str(folder), "--force", "--root", str(trained)]) == 0
    assert ecgkit.load_model(folder).card.startswith("# resnet1d")
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_what_is_no_exported_model_is_never_replaced(session: Session, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for force in (False, True):
        for place in (tmp_path, tmp_path / "thesis.tex", session.path):
            with pytest.raises(EcgkitError, match="is not an exported model"):
                export_model(session.path, place, force=force)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interrupted_export_leaves_things_as_they_were(
    error: BaseException, session: Session, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> str:
        raise error

    before = files(model)
    monkeypatch.setattr(exporting, "read_model", fail)
    for folder in (model, model.with_name("new")):
        with pytest.raises((KeyboardInterrupt, EcgkitError)):
            export_model(session.path, folder, force=True)
    assert files(model) == before
    assert list(model.parent.iterdir()) == [model]


def test_an_export_that_cannot_be_moved_gives_the_old_one_back(
    session: Session, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if (path / CARD).is_file() and ".old" not in path.name and target == model:
            raise PermissionError(13, "Permission denied", str(target))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(EcgkitError, match="cannot be written"):
        export_model(session.path, model, force=True)
    assert list(model.parent.iterdir()) == [model]
    assert ecgkit.load_model(model).classes


def test_a_session_that_is_not_finished_and_an_ensemble_are_not_exported(root: Path, tmp_path: Path) -> None:
    for number, message in ((5, "is not finished"), (4, "is an ensemble")):
        with pytest.raises(EcgkitError, match=message):
            export_model(root / paths.TRAINING / f"session_{number}", tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"classes": ("NORM", "MI")}, "also has STTC, CD, HYP"),
        ({"classes": ("NORM", "MI", "STTC", "CD", "AFIB")}, "lacks AFIB and it also has HYP"),
        ({"classes": ("MI", "NORM", "STTC", "CD", "HYP")}, "another order"),
        ({"sampling_rate": 500}, "mine .* 100 Hz, not of 500 Hz"),
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
    monkeypatch.setattr(model_folder, "SHIPPED", tmp_path)
    for name in ("mine", ".yours.123.ecgkit-tmp"):
        shutil.copytree(exported, tmp_path / name)
    assert shipped() == ("mine",)
    assert ecgkit.load_model("mine").name == "mine"


def test_a_session_is_taken_into_the_package_by_one_script(
    session: Session, demo_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    import lead_ablation
    import ship_model

    for module in (ship_model, lead_ablation, model_folder):
        monkeypatch.setattr(module, "SHIPPED", tmp_path)
    ship_model.check(session)
    folder = ship_model.ship(session, "mine", demo_dataset, force=False)
    assert shipped() == ("mine",)
    assert set(files(folder)) == FILES
    assert 'ecgkit.load_model("mine")' in (folder / CARD).read_text()
    ship_model.measure_bfloat16(folder, demo_dataset)
    assert ecgkit.load_model("mine").trained.bfloat16_auc_change == pytest.approx(0, abs=0.05)
    assert file_sha256(folder / WEIGHTS) in (folder / CARD).read_text()
    with monkeypatch.context() as patch:
        patch.setattr(lead_ablation, "LEAD_SETS", {"I only": ("I",)})
        sizes = {"n_records": 20, "resamples": 10}
        losses = lead_ablation.measure(["mine"], demo_dataset.path, **sizes, keep=tmp_path / ".kept")
        assert losses == lead_ablation.measure(["mine"], demo_dataset.path, **sizes, keep=tmp_path / ".kept")
    lead_ablation.write_losses(losses)
    assert ecgkit.load_model("mine").lead_losses == losses["mine"]
    read = Session.read_json
    for change, message in (
        ({"metrics.json": {"fold_9": read(session, "metrics.json")["fold_9"]}}, "fold 10"),
        ({"config.json": read(session, "config.json") | {"hold_out_folds": [1]}}, "folds 1-8"),
        ({"config.json": read(session, "config.json") | {"target": "age"}}, "age"),
    ):
        monkeypatch.setattr(Session, "read_json", lambda self, name, c=change: c.get(name) or read(self, name))
        monkeypatch.setattr(Session, "config", property(lambda self: self.read_json("config.json")))
        with pytest.raises(EcgkitError, match=message):
            ship_model.check(session)


@pytest.mark.parametrize("name", [WEIGHTS, "thresholds.json", "calibration.json"])
def test_a_missing_file_is_named(name: str, model: Path) -> None:
    (model / name).unlink()
    with pytest.raises(EcgkitError, match=re.escape(str(name))):
        ecgkit.load_model(model)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("thresholds.json", "{", "thresholds.json"),
        ("thresholds.json", "{}", "thresholds.json.* thresholds "),
        ("thresholds.json", "[" * 100_000, "thresholds.json"),
        ("thresholds.json", '{"of": "calibrated", "thresholds": {"NORM": "high"}}', "NORM"),
        ("calibration.json", '{"classes": {"NORM": {"method": "platt"}}}', "calibration"),
        ("calibration.json", '{"classes": {"NORM": []}}', "NORM"),
        ("thresholds.json", '{"of": "calibrated", "thresholds": {"NORM": 0.5}}', "MI"),
        ("calibration.json", '{"classes": {}}', "NORM"),
    ],
)
def test_a_damaged_file_is_named(name: str, text: str, message: str, model: Path) -> None:
    (model / name).write_text(text)
    with pytest.raises(EcgkitError, match=message):
        ecgkit.load_model(model)


def test_thresholds_of_the_uncalibrated_scale_are_refused(model: Path) -> None:
    said = json.loads((model / "thresholds.json").read_text())
    (model / "thresholds.json").write_text(json.dumps(said | {"of": "prob"}))
    with pytest.raises(EcgkitError, match="older version"):
        ecgkit.load_model(model)


def test_all_ship_and_are_small_together() -> None:
    assert set(shipped()) == WANTED
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*.safetensors")) < MOST_BYTES


@pytest.mark.parametrize("name", shipped())
def test_a_model_that_ships_agrees_with_its_card(name: str) -> None:
    config = json.loads((SHIPPED / name / "config.json").read_text())
    model = ecgkit.load_model(name, sampling_rate=100)
    members = getattr(model, "members", {config["model"]: model})
    assert [member.trained.name for member in members.values()] == config.get("members", [config["model"]])
    assert (model.label_set, model.takes_metadata) == (config["label_set"], config.get("metadata", False))
    assert len(set(model.classes)) == {"superclass": 5, "all": 71}[model.label_set]
    assert set(model.classes) >= {"NORM", "MI", "STTC", "CD", "HYP"} or set(model.classes) >= {"NORM", "AFIB", "CLBBB"}
    assert re.findall(r"^## (.*)$", model.card, re.MULTILINE) == list(SECTIONS)
    assert f'ecgkit.load_model("{name}")' in model.card
    entry = json.loads((SHIPPED / name / "metrics.json").read_text())["fold_10"]["macro"]["auc"]
    assert f"{entry['value']:.4f} ({entry['low']:.4f} to {entry['high']:.4f}) on fold 10" in model.card
    assert all(f"{threshold:.4f}" in model.card for threshold in model.thresholds)
    rare = re.search(r"rather than the decision \((.*)\)\.", model.card)
    assert list(model.unreliable) == (rare[1].split(", ") if rare else [])


@pytest.mark.parametrize("name", ["resnet1d", "xlstm", "hybrid"])
def test_the_change_in_bfloat16_of_a_member_of_the_ensemble_was_measured(name: str) -> None:
    change = ecgkit.load_model(name).trained.bfloat16_auc_change
    assert change is not None
    assert abs(change) < LARGEST_CHANGE


@pytest.mark.parametrize("name", shipped())
def test_a_model_that_ships_reproduces_its_outputs_for_synthetic_ecgs(name: str) -> None:
    stored, found = json.loads(STORED.read_text())[name], outputs(name)
    assert found["weights_sha256"] == stored["weights_sha256"], "new weights: run tests/make_pretrained_outputs.py"
    assert found["classes"] == stored["classes"]
    for rate in RATES:
        np.testing.assert_allclose(found[f"{rate} Hz"], stored[f"{rate} Hz"], rtol=0, atol=5e-5)


@pytest.mark.parametrize("name", sorted(WANTED))
def test_a_model_that_ships_sees_what_the_headers_of_other_data_sets_say(name: str) -> None:
    # right bundle branch block in both records of PhysioNet/CinC, an infarction in that of PTB; none is of PTB-XL
    files = ("cinc/A0001.hea", "cinc/JS00001.hea", "wfdb/s0010_re.hea")
    model = ecgkit.load_model(name)
    found = pd.DataFrame(
        np.vstack([model.predict_proba([ecgkit.open_ecg(real_file(file))]) for file in files]), columns=model.classes
    )
    if name == "resnet1d_all":
        assert found["CRBBB"][:2].min() > 0.5
        assert found["AFIB"][1] > 0.5 > found["AFIB"][0]
        assert found["ILMI"][2] > 0.5
        return
    assert found["CD"][:2].min() > 0.5
    assert found["MI"][2] > 0.5
    assert found["NORM"].max() < 0.2
    assert found["HYP"].max() < 0.5


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", shipped())
def test_a_model_that_ships_reproduces_its_published_numbers(name: str, ptbxl_folder: Path) -> None:
    model = ecgkit.load_model(name)
    source = PtbXl(ptbxl_folder, sampling_rate=model.sampling_rate)
    if source.part or f"PTB-XL {source.version} " not in model.card:
        pytest.skip("not the whole PTB-XL of the version that the model was tested on")
    labels = source.labels[model.label_set][list(model.classes)]
    rows = (source.records["fold"] == 10) & labels.any(axis=1)
    records, truth = source.records[rows].reset_index(drop=True), labels[rows].reset_index(drop=True)
    ecgs = [
        replace(source.read(record_id), age=None if pd.isna(age) else float(age), sex=None if pd.isna(sex) else sex)
        for record_id, age, sex in zip(records["record_id"], records["age"], records["sex"], strict=True)
    ]
    predictions = pd.concat([model(ecgs), truth.add_prefix("true_")], axis=1).assign(fold=10)
    scores = stats.fold_scores(predictions, model.classes, 10)
    thresholds = json.loads((SHIPPED / name / "thresholds.json").read_text())
    found = evaluation.fold_metrics(scores, thresholds)
    published = json.loads((SHIPPED / name / "metrics.json").read_text())["fold_10"]
    assert found.keys() == published.keys()
    for group, entries in published.items():
        for metric, entry in entries.items():
            assert float(found[group][metric]) == pytest.approx(entry["value"], abs=5e-5), f"{metric} of {group}"


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", shipped())
def test_a_record_at_500_hz_gets_nearly_the_probabilities_of_its_twin_at_100_hz(name: str, ptbxl_folder: Path) -> None:
    table = pd.read_csv(ptbxl_folder / "ptbxl_database.csv")
    twins = list(zip(table["filename_hr"], table["filename_lr"], strict=True))
    twins = [(fast, slow) for fast, slow in twins if (ptbxl_folder / f"{fast}.hea").is_file()]
    model = ecgkit.load_model(name)
    fast, slow = (
        model.predict_proba([ecgkit.open_ecg(ptbxl_folder / f) for f in found]) for found in zip(*twins, strict=True)
    )
    apart = np.abs(fast - slow).max(axis=1)
    assert np.median(apart) < 0.02
    # the largest difference of 71 statements is above that of five
    assert np.mean(apart < 0.1) >= (0.98 if len(model.classes) > 10 else 0.99)


def test_a_card_that_an_editor_wrote_in_another_encoding_is_read(tmp_path: Path) -> None:
    (tmp_path / CARD).write_bytes("of a Müller".encode("latin-1"))
    assert read_card(tmp_path).startswith("of a M")
