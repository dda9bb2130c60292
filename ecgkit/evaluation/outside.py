"""A model on all records of a data set that it was not trained on: what it loses, how calibrated it is, the repair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit import paths, sessions, stats
from ecgkit.datasets import Dataset, open_dataset, read_manifest
from ecgkit.errors import EcgkitError, check_choice
from ecgkit.evaluation.fold import fold_report
from ecgkit.evaluation.page import cell, embedded, html_environment
from ecgkit.inference.loading import load_model
from ecgkit.inference.model_folder import checksums, find_folder
from ecgkit.io import file_sha256, json_or_none, read_table
from ecgkit.progress import progress_bar
from ecgkit.sessions import Session
from ecgkit.signals.ecg import ECG
from ecgkit.stats import FoldScores
from ecgkit.stats.calibration import calibrate, clipped_logit
from ecgkit.stats.calibration_fit import fit_temperature
from ecgkit.stats.folds import TEST_FOLD, VALIDATION_FOLD
from ecgkit.stats.identifiers import patient_codes
from ecgkit.stats.labels import format_interval
from ecgkit.stats.prior_shift import add_offset, difference_interval, fit_offset, prior_by_em
from ecgkit.stats.resampling import RESAMPLES
from ecgkit.training.lineage import PTBXL, datasets_behind, kind_of, origins, read_records

if TYPE_CHECKING:
    from ecgkit.inference.predictor import Predictor

RESULTS = "outside.json"
OWN = ("predictions.parquet", "metrics.json")
"""The files that tell how a model did on its own fold 10."""
AT_ONCE = 256
SHARE, LEAST, MOST = 0.1, 200, 1000
"""The repair is fitted on this share of the records, on at least (of four times as many) and at most so many."""
FEWEST = 5
"""A class needs so many records with and without it."""
REPAIRS = {
    "none": "calibrated as the model ships",
    "temperature": "one slope per class, fitted on the labelled sample",
    "offset, no labels": "one offset per class, from the share of the class that expectation maximisation finds",
    "offset, labels": "one offset per class, fitted on the labelled sample",
}
SHOWN = ("auc", "average_precision", "brier", "ece")


@dataclass(frozen=True)
class Subject:
    """The model that is evaluated.

    Attributes
    ----------
    predictor : Predictor
        The model.
    folder : Path
        Its model folder or session.
    config : dict
        What it was trained with; empty of a folder without ``config.json``.
    """

    predictor: Predictor
    folder: Path
    config: dict[str, Any]


def evaluate_outside(
    model: str,
    dataset: str,
    root: Path,
    *,
    label_set: str | None = None,
    resamples: int = RESAMPLES,
    force: bool = False,
) -> Session:
    """Evaluate a model on all records of a data set, over the classes that both have.

    Parameters
    ----------
    model : str
        A training session, a model that ships, or a model folder.
    dataset : str
        Name of a processed dataset, unfiltered and of any rate.
    root : Path
        The folder of data sets and sessions.
    label_set : str, optional
        That of the dataset; by default the model's, or else the first one that shares a class with the model.
    resamples : int, default 1000
        Bootstrap resamples of patients.
    force : bool, default False
        Evaluate again although nothing changed.

    Returns
    -------
    Session
        In ``comparison_sessions``: ``outside.json``, ``predictions.parquet``, ``report.html`` and figures.

    Raises
    ------
    EcgkitError
        If model or dataset cannot be opened, no class is in both, the dataset is filtered, or all of its records are
        among those that the model was trained on.
    """
    folder = find_folder(model, root)
    predictor = load_model(model, root=root)
    subject = Subject(predictor, folder, json_or_none(folder / "config.json") or {})
    data = _open(predictor, root / paths.PROCESSED / dataset, label_set)
    kept, overlap = without_training_records(subject, data, root)
    config = {
        "outside": model,
        "dataset": dataset,
        "label_set": data.label_set,
        "resamples": resamples,
        "dataset_fingerprint": data.fingerprint,
        "model_sha256": checksums(folder),
        # What it is compared with, and the training records that are known, may be there later only.
        "own_sha256": {name: file_sha256(folder / name) for name in OWN if (folder / name).is_file()},
        **overlap,
    }
    found = None if force else sessions.find_finished(paths.COMPARISONS, root, config)
    if found is not None:
        return found
    with sessions.claim(paths.COMPARISONS, root, config) as session:
        sessions.record_environment(session, None)
        table = predict_outside(predictor, data, kept)
        results = outside_report(table, subject, resamples=resamples) | overlap
        results |= {"model": model, "dataset": dataset, "label_set": data.label_set}
        session.write_table("predictions.parquet", table)
        write_outside_page(session, results, table)
        session.write_json(RESULTS, results)
        session.mark_done()
    return session


def _open(predictor: Predictor, folder: Path, label_set: str | None) -> Dataset:
    """Open the dataset with a label set that shares a class with the model."""
    manifest = read_manifest(folder)
    sets = manifest["labels"]
    if label_set is not None:
        check_choice(f"label set of dataset {folder.name}", label_set, sets)
    names = [label_set] if label_set else sorted(sets, key=lambda name: name != predictor.label_set)
    shared = [name for name in names if set(predictor.classes) & set(sets[name]["classes"])]
    if not shared:
        raise EcgkitError(
            f"no class of {predictor.name} ({', '.join(predictor.classes)[:200]}) is in "
            f"{label_set or 'a label set'} of {folder.name}: choose a model and a dataset that share one"
        )
    if open_dataset(folder, label_set=None).preparation().filters:
        raise EcgkitError(
            f"the signals of {folder.name} are filtered: give a dataset without filters, the model has its own"
        )
    return open_dataset(folder, label_set=shared[0])


def without_training_records(subject: Subject, data: Dataset, root: Path) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Return the positions of the records that the model was not trained on, and how many were left out."""
    behind = datasets_behind(subject.config, subject.folder)
    if subject.config.get("dataset_fingerprint") == data.fingerprint:
        raise EcgkitError(
            f"{subject.predictor.name} was trained on {data.name}: `ecgkit evaluate SESSION` evaluates its fold 10"
        )
    known: set[str] = set()
    checked = all(behind)
    for name in filter(None, behind):
        folder = root / paths.PROCESSED / name
        if is_there := (folder / "dataset.json").is_file():
            manifest, records = read_records(name, root)
            known |= set(origins(records, kind_of(manifest)))
        known |= {PTBXL} if name.startswith(PTBXL) else set()
        checked &= is_there or name.startswith(PTBXL)
    trained_on = ", ".join(filter(None, behind))
    is_known = np.isin(origins(data.records, kind_of(data.manifest)), sorted(known))
    if is_known.all():
        raise EcgkitError(
            f"all records of {data.name} are among those of {trained_on}, which {subject.predictor.name} was trained "
            "on: choose another dataset"
        )
    patients = patient_codes(data.records["patient_id"])
    is_known |= np.isin(patients, patients[is_known])
    return np.flatnonzero(~is_known), {
        "trained_on": trained_on,
        "left_out": int(is_known.sum()),
        "overlap_checked": checked,
    }


def predict_outside(predictor: Predictor, data: Dataset, positions: NDArray[np.int64]) -> pd.DataFrame:
    """Predict records of a dataset by the path of every prediction.

    Returns
    -------
    DataFrame
        ``record_id``, ``patient_id``, ``fold`` (10 for all, since none was seen), and of each class that model and
        dataset have ``true_CLASS``, ``prob_CLASS`` and ``calibrated_CLASS``.
    """
    classes = [name for name in predictor.classes if name in data.classes]
    records = data.records.iloc[positions]
    ages, sexes = (records[name].astype(object).where(records[name].notna(), None) for name in ("age", "sex"))
    found = []
    with progress_bar(total=len(positions), description=f"predicting {data.name}", unit="records") as bar:
        for first in range(0, len(positions), AT_ONCE):
            rows = range(first, min(first + AT_ONCE, len(positions)))
            ecgs = [
                ECG(
                    data.signal(positions[i]),
                    data.sampling_rate,
                    records["record_id"].iloc[i],
                    ages.iloc[i],
                    sexes.iloc[i],
                )
                for i in rows
            ]
            found.append(predictor(ecgs, anyway=True))
            bar.update(len(ecgs))
    predicted = pd.concat(found, ignore_index=True)
    table = records[["record_id", "patient_id"]].reset_index(drop=True).assign(fold=TEST_FOLD)
    labels = data.labels.iloc[positions].reset_index(drop=True)
    for name in classes:
        table[f"true_{name}"] = labels[name]
        table[f"prob_{name}"], table[f"calibrated_{name}"] = predicted[f"prob_{name}"], predicted[f"calibrated_{name}"]
    return table


def outside_report(table: pd.DataFrame, subject: Subject, *, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Compare the records of `predict_outside` with the model's own fold 10, and repair their calibration.

    Returns
    -------
    dict
        ``outside`` and ``own``: ``{CLASS | "macro": {metric: {"value", "low", "high"}}}``; ``drop`` of the AUC;
        ``repair``: by name of `REPAIRS` the metrics ``ece`` and ``brier`` on the records that no repair was fitted on,
        and ``shift``, the numbers per class; ``left_out_classes`` with the reason.
    """
    classes, left_out = _usable(table)
    scores = stats.fold_scores(table, classes, TEST_FOLD)
    outside, bootstrap = fold_report(scores, None, table["patient_id"], resamples=resamples)
    own = own_results(subject, classes, resamples)
    drops = {}
    for name in (*classes, "macro"):
        pair = [own.get(name, {}).get("auc"), outside[name]["auc"]]
        if all(entry is not None and None not in entry.values() for entry in pair):
            value, low, high = difference_interval(*(_triple(entry) for entry in pair))
            drops[name] = {"value": value, "low": low, "high": high}
    groups = [*classes, "macro"]
    return {
        "version": 1,
        "classes": classes,
        "n_records": len(table),
        "n_patients": int(table["patient_id"].nunique()),
        "positives": {name: int((table[f"true_{name}"] == True).sum()) for name in classes},  # noqa: E712
        "left_out_classes": left_out,
        "outside": {name: {metric: outside[name][metric] for metric in SHOWN} for name in groups},
        "own": {name: {metric: own[name][metric] for metric in SHOWN} for name in groups if name in own},
        "drop": drops,
        "repair": repair_report(table, scores, own_shares(subject, classes), resamples=resamples),
        "bootstrap": bootstrap,
    }


def _triple(entry: Mapping[str, float | None]) -> tuple[float, float, float]:
    """Return the value of a metric with its limits."""
    return tuple(float(entry[key]) for key in ("value", "low", "high"))  # type: ignore[arg-type,return-value]


def _usable(table: pd.DataFrame) -> tuple[list[str], dict[str, str]]:
    """Return the classes with enough records of both outcomes, and for the others why they are left out."""
    names = [name.removeprefix("true_") for name in map(str, table) if name.startswith("true_")]
    counts = {name: table[f"true_{name}"].astype("boolean").value_counts() for name in names}
    left_out = {
        name: f"{int(count.get(True, 0)):,} records with it and {int(count.get(False, 0)):,} without"
        for name, count in counts.items()
        if min(count.get(True, 0), count.get(False, 0)) < FEWEST
    }
    classes = [name for name in names if name not in left_out]
    if not classes:
        text = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise EcgkitError(f"no class has {FEWEST} records with and without it ({text}): give a larger dataset")
    return classes, left_out


def own_results(subject: Subject, classes: Sequence[str], resamples: int) -> dict[str, Any]:
    """Return the metrics on the model's own fold 10 over some of its classes; empty where it was not evaluated."""
    predictions = subject.folder / "predictions.parquet"
    if predictions.is_file():
        table = read_table(predictions)
        if not (table["fold"] == TEST_FOLD).any():
            return {}
        scores = stats.fold_scores(table, classes, TEST_FOLD)
        rows = table.loc[table["fold"] == TEST_FOLD, "patient_id"]
        return fold_report(scores, None, rows, resamples=resamples)[0]
    results = (json_or_none(subject.folder / "metrics.json") or {}).get(f"fold_{TEST_FOLD}", {})
    is_whole = list(classes) == list(subject.predictor.classes)
    return {name: results[name] for name in (*classes, *["macro"] * is_whole) if name in results}


def own_shares(subject: Subject, classes: Sequence[str]) -> dict[str, float]:
    """Return the share of each class in fold 9, on which the model was calibrated; NaN where nothing tells it."""
    predictions = subject.folder / "predictions.parquet"
    if predictions.is_file():
        table = read_table(predictions)
        rows = table[table["fold"] == VALIDATION_FOLD]
        return {name: float(rows[f"true_{name}"].astype("Float64").mean()) for name in classes}
    results = (json_or_none(subject.folder / "metrics.json") or {}).get(f"fold_{VALIDATION_FOLD}", {})
    return {name: _share(results.get(name, {})) for name in classes}


def _share(metrics: Mapping[str, Mapping[str, float | None]]) -> float:
    """Return the share of a class that follows from sensitivity, specificity and precision."""
    values = [metrics.get(name, {}).get("value") for name in ("sensitivity", "specificity", "precision")]
    if None in values:
        return np.nan
    sensitivity, specificity, precision = (float(value) for value in values)  # type: ignore[arg-type]
    false_alarms = precision * (1 - specificity)
    total = sensitivity * (1 - precision) + false_alarms
    return false_alarms / total if total else np.nan


def repair_report(
    table: pd.DataFrame, scores: FoldScores, shares: Mapping[str, float], *, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """Fit each repair on a sample of patients, and evaluate it on all others; see `outside_report`."""
    sample = drawn_sample(table["patient_id"])
    fitted, rest = scores.take(sample), scores.take(~sample)
    shifts: dict[str, dict[str, float]] = {}
    repaired = {name: rest.require_calibrated().copy() for name in REPAIRS}
    for i, name in enumerate(scores.classes):
        truth, prob = fitted.y_true[:, i], fitted.require_calibrated()[:, i]
        known = fitted.known[:, i]
        if len(np.unique(truth[known])) < 2:
            continue
        before = rest.require_calibrated()[:, i]
        slope, by_labels = fit_temperature(truth, prob), fit_offset(truth, prob)
        repaired["temperature"][:, i] = calibrate({"method": "temperature", "slope": slope, "intercept": 0.0}, before)
        repaired["offset, labels"][:, i] = add_offset(before, by_labels)
        shifts[name] = {"temperature": 1 / slope, "offset, labels": by_labels}
        if 0 < shares[name] < 1:
            share = prior_by_em(prob, shares[name])
            offset = float(clipped_logit(np.array(share)) - clipped_logit(np.array(shares[name])))
            repaired["offset, no labels"][:, i] = add_offset(before, offset)
            shifts[name] |= {"offset, no labels": offset, "share in training": shares[name], "share by EM": share}
        shifts[name]["share in the sample"] = float(truth[known].mean())
    patients = table.loc[~sample, "patient_id"]
    results: dict[str, Any] = {}
    for name, calibrated in repaired.items():
        one = FoldScores(rest.fold, rest.classes, rest.y_true, rest.prob, calibrated)
        metrics, _ = fold_report(one, None, patients, resamples=resamples)
        results[name] = {
            group: {metric: metrics[group][metric] for metric in ("ece", "brier")}
            for group in (*scores.classes, "macro")
        }
    return {"n_fitted": int(sample.sum()), "n_evaluated": int((~sample).sum()), "shift": shifts, "results": results}


def drawn_sample(patient_ids: pd.Series[str]) -> NDArray[np.bool_]:
    """Draw the patients whose records a repair is fitted on; no patient is in both parts."""
    patients = pd.Series(patient_ids.unique())
    order = np.random.default_rng(0).permutation(len(patients))
    sizes = patient_ids.value_counts().reindex(patients).to_numpy()[order]
    n_records = len(patient_ids)
    n_wanted = min(MOST, max(SHARE * n_records, min(LEAST, n_records / 4)))
    n_patients = max(1, int(np.searchsorted(np.cumsum(sizes), n_wanted, side="right")))
    chosen = patients.iloc[order[:n_patients]]
    return patient_ids.isin(chosen).to_numpy()


def repaired_scores(table: pd.DataFrame, results: Mapping[str, Any], repair: str = "offset, labels") -> FoldScores:
    """Return the records that no repair was fitted on: ``prob`` as the model ships, ``calibrated`` repaired."""
    rest = stats.fold_scores(table, results["classes"], TEST_FOLD).take(~drawn_sample(table["patient_id"]))
    before = rest.require_calibrated()
    shifts = results["repair"]["shift"]
    after = [add_offset(before[:, i], shifts.get(name, {}).get(repair, 0.0)) for i, name in enumerate(rest.classes)]
    return FoldScores(rest.fold, rest.classes, rest.y_true, before, np.stack(after, axis=1))


def write_outside_page(session: Session, results: Mapping[str, Any], table: pd.DataFrame) -> None:
    """Write ``report.html`` and its figures."""
    import matplotlib as mpl

    from ecgkit.plots.style import STYLE

    with mpl.rc_context(STYLE):
        pictures = _draw_outside(session, results, table)
    environment = html_environment("ecgkit.evaluation")
    environment.filters |= {"cell": cell, "entry": format_interval}
    page = environment.get_template("outside.html").render(
        results=results, session=session.name, repairs=REPAIRS, columns=SHOWN, figures=pictures
    )
    session.write_text("report.html", page)


def _draw_outside(session: Session, results: Mapping[str, Any], table: pd.DataFrame) -> list[dict[str, str]]:
    """Save the figures of the page and return what its template needs of each."""
    from ecgkit.plots.evaluation import metric_by_class, reliability

    names = ("as it ships", "with an offset from the labelled sample")
    folds = {"fold_10": results["own"]} if len(results["own"]) == len(results["outside"]) else {}
    pictures = {
        "auc_by_class": (
            metric_by_class(folds | {"outside": results["outside"]}),
            f"AUC on all records of {results['dataset']}, compared with the model's own fold 10.",
        ),
        "reliability": (
            reliability(repaired_scores(table, results), names=names, title=results["dataset"]),
            "Observed frequency over predicted probability, on the records that no repair was fitted on.",
        ),
    }
    for name, (figure, _) in pictures.items():
        session.save_figure(figure, name)
    return [embedded(session, name, caption) for name, (_, caption) in pictures.items()]
