"""The model card: what a model was trained on and how, how good it is, for whom, and what it must not be used for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecgkit import paths, sessions
from ecgkit.datasets import Dataset
from ecgkit.evaluation.files import read_history
from ecgkit.inference.model_folder import CALIBRATION, CARD, THRESHOLDS
from ecgkit.inference.weights import TrainedModel, load_weights
from ecgkit.io import file_sha256, html_environment
from ecgkit.sessions import Session
from ecgkit.signals.ecg import LEADS
from ecgkit.signals.filters import Filters
from ecgkit.stats.calibration import FEW
from ecgkit.stats.folds import PARTS
from ecgkit.stats.labels import POLICY_DESCRIPTIONS, format_interval, metric_name
from ecgkit.stats.subgroups import describe_gap
from ecgkit.training.base_config import starts_from_weights
from ecgkit.training.config import flatten_tables
from ecgkit.training.lineage import datasets_behind

SHOWN = ("auc", "f1", "sensitivity", "specificity", "r2", "mae")
NO_RECIPE = ("dataset", "dataset_fingerprint", "model", "label_set")
"""Parameters that other sections of the card contain, or that do not change the model."""

FILES = ("init", "distill")
"""Parameters that may be paths."""


def write_model_card(session: Session, dataset: Dataset, metrics: Mapping[str, Any]) -> Path:
    """Write ``model_card.md`` of an evaluated training session.

    Parameters
    ----------
    session : Session
        With weights, ``config.json`` and, of a classifier, ``thresholds.json`` and
        ``calibration.json``. Without ``subgroups.json`` the card says that subgroups were not looked at.
    dataset : Dataset
        What the session was trained on, opened with its label set.
    metrics : mapping
        The contents of ``metrics.json``.

    Returns
    -------
    Path
        The card.
    """
    return session.write_text(CARD, session_card(session, dataset, metrics, name=session.name))


def session_card(session: Session, dataset: Dataset, metrics: Mapping[str, Any], *, name: str) -> str:
    """Return what `write_model_card` writes; ``name`` is the argument of `ecgkit.load_model`."""
    description = describe(session, load_weights(session.best_weights), dataset)
    files = ("config.json", THRESHOLDS, CALIBRATION, "subgroups.json")
    results = {file: session.read_json(file) for file in files if (session.path / file).is_file()}
    return model_card(description, results | {"metrics.json": dict(metrics)}, name=name)


def model_card(description: Mapping[str, Any], results: Mapping[str, Mapping[str, Any]], *, name: str) -> str:
    """Write the card of a model.

    Parameters
    ----------
    description : mapping
        The result of `describe`.
    results : mapping
        The contents of ``config.json``, ``metrics.json`` and, where they exist, ``thresholds.json``,
        ``calibration.json`` and ``subgroups.json``, by file name.
    name : str
        The argument of `ecgkit.load_model`.

    Returns
    -------
    str
        Markdown.

    References
    ----------
    Mitchell et al., "Model cards for model reporting", FAT* 2019, doi:10.1145/3287560.3287596.
    """
    environment = html_environment("ecgkit.evaluation").overlay(autoescape=False, keep_trailing_newline=True)
    environment.filters |= {"entry": format_interval, "number": "{:,}".format}
    metrics = results["metrics.json"]
    fold = "fold_10" if "fold_10" in metrics else "fold_9"
    subgroups, thresholds = results.get("subgroups.json"), results.get(THRESHOLDS, {})
    # Co-morbidity divides by the outcomes themselves, which says nothing about patients known beforehand.
    divisions = [name for name in (subgroups or {"divisions": ()})["divisions"] if name != "comorbidity"]
    positive = description["dataset"]["splits"].get("fold 9", {"n_positive": {}})["n_positive"]
    return environment.get_template("card.md").render(
        **description,
        name=name,
        few=FEW,
        rare=[] if description["unit"] else [label for label, count in positive.items() if count < FEW],
        config=results["config.json"],
        recipe=_recipe(results["config.json"]),
        thresholds=thresholds.get("thresholds", {}),
        policy=POLICY_DESCRIPTIONS[thresholds.get("policy", "best_f1")],
        calibration=results.get(CALIBRATION, {}).get("classes"),
        metrics=metrics,
        fold=fold,
        bootstrap=metrics.get("bootstrap", {}).get(fold, {}),
        shown={metric: metric_name(metric) for metric in SHOWN if metric in metrics[fold][description["classes"][0]]},
        gaps=None if subgroups is None else [describe_gap(subgroups, one) for one in divisions],
        is_synthetic=description["dataset"]["source"] == "demo",
    )


def describe(session: Session, trained: TrainedModel, dataset: Dataset) -> dict[str, Any]:
    """Describe input and output of a model, and what it was trained on, as JSON data without a path."""
    packages = sessions.read_environment(session).get("packages", {})
    return {
        "model": trained.name,
        "n_parameters": trained.n_parameters,
        "label_set": trained.label_set,
        "classes": list(trained.classes),
        "unit": trained.target.unit if trained.target else "",
        "leads": list(LEADS),
        "sampling_rate": trained.sampling_rate,
        "seconds": trained.preparation.seconds,
        "takes_metadata": trained.scaler is not None,
        "filters": describe_filters(trained.preparation.filters),
        "dataset": _describe_dataset(dataset),
        "training": _describe_training(session),
        "started_from": _started_from(session),
        "versions": {name: packages[name] for name in ("ecgkit", "torch") if name in packages},
        "weights_sha256": file_sha256(session.best_weights),
    }


def describe_filters(filters: Filters) -> str:
    """Describe the filters of a signal in words."""
    phrases = []
    if filters.bandpass:
        low, high = filters.bandpass
        phrases.append(f"band-pass {low:g} to {high:g} Hz (Butterworth, order {filters.order}, without phase shift)")
    if filters.notch:
        phrases.append(f"notch at {filters.notch:g} Hz")
    return ", ".join(phrases) or "none"


def _recipe(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters of a training that are not in another section, without nesting."""
    flat = flatten_tables({key: value for key, value in config.items() if key not in NO_RECIPE})
    # A card travels with the weights; the folders of the machine on which they were trained do not.
    flat |= {key: Path(flat[key]).name for key in FILES if flat.get(key)}
    return {key: sessions.describe_value(value) for key, value in flat.items()}


def _describe_dataset(dataset: Dataset) -> dict[str, Any]:
    """Describe the records and their patients."""
    source = dataset.manifest["source"]
    positions = {split: dataset.folds(*folds) for split, folds in PARTS.items()}
    known = dataset.records["age"].dropna().astype(float)
    return {
        "name": dataset.name,
        "source": source["name"],
        "version": source["version"],
        "is_part": bool(source.get("identity", {}).get("part")),
        "fingerprint": dataset.fingerprint,
        "seconds": dataset.n_samples / dataset.sampling_rate,
        "n_records": dataset.manifest["n_records"],
        "n_unlabelled": dataset.n_unlabelled,
        "n_unknown": {str(name): int(count) for name, count in dataset.labels.isna().sum().items() if count},
        "splits": {
            split: {
                "n_records": len(rows),
                "n_patients": int(dataset.records["patient_id"].iloc[rows].nunique()),
                "n_positive": {str(name): int(count) for name, count in dataset.labels.iloc[rows].sum().items()},
            }
            for split, rows in positions.items()
            if len(rows)
        },
        "age_quartiles": known.quantile([0.25, 0.5, 0.75]).tolist() if len(known) else None,
        "n_under_18": int((known < 18).sum()),
        "sex": {name: int((dataset.records["sex"] == name).sum()) for name in ("female", "male")},
    }


def _describe_training(session: Session) -> dict[str, int | None]:
    """Return the number of epochs that were run and the best one, as far as the history says."""
    history, monitor = read_history(session), "validation_macro_auc"
    if monitor not in history:
        return {"epochs": None, "best_epoch": None}
    return {"epochs": len(history), "best_epoch": int(history["epoch"].iloc[int(history[monitor].to_numpy().argmax())])}


def _started_from(session: Session) -> dict[str, Any] | None:
    """Return the weights that a training started from, whether these know labels, and their data sets; None if none."""
    init = str(session.config.get("init") or "")
    if not starts_from_weights(init):
        return None
    names = [name for name in datasets_behind({"init": init}, session.path) if name]
    return {"name": Path(init).name, "knows_labels": not paths.is_pretraining(init), "datasets": names}
