"""What an encoder that was pretrained without labels knows: linear probes next to random weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd

from ecgkit import paths, sessions
from ecgkit.datasets import open_dataset
from ecgkit.errors import EcgkitError
from ecgkit.feature_space.class_probes import METRICS, embed_both, measure_features, probe_table
from ecgkit.feature_space.config import FeatureSpaceConfig
from ecgkit.feature_space.probes import TARGETS, ProbeResult, fit_probes, readable_table, write_probe_session
from ecgkit.feature_space.probes.controls import DEMOGRAPHICS, UNTRAINED, demographics
from ecgkit.feature_space.probes.targets import HEIGHT, WEIGHT
from ecgkit.inference.weights import load_weights
from ecgkit.io import file_sha256, nan_as_none
from ecgkit.plots.style import STYLE
from ecgkit.sessions import Session
from ecgkit.stats.folds import TEST_FOLD, TRAIN_FOLDS
from ecgkit.stats.labels import format_interval
from ecgkit.stats.resampling import RESAMPLES

BODY = (HEIGHT, WEIGHT)
BEYOND = tuple(replace(target, name=f"{target.name}_beyond_age_and_sex") for target in BODY)
"""Targets of a probe of the features together with age and sex, whose control is a probe of age and sex alone."""


@dataclass(frozen=True, eq=False)
class PretrainedProbes:
    """The probes of a pretrained encoder, all scored on fold 10.

    Attributes
    ----------
    targets : dict of str to ProbeResult
        Age, sex, height and weight; then height and weight with the features next to age and sex.
    classes : dict
        As `ecgkit.feature_space.class_probes.measure_features` returns it; empty for a dataset without labels.
    """

    targets: dict[str, ProbeResult]
    classes: dict[str, dict[str, dict[str, Any]]]


def probe_pretrained(
    session: Session,
    root: Path,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    label_set: str = "",
    progress: bool = False,
) -> PretrainedProbes:
    """Fit linear probes of a frozen encoder's features on folds 1-8, and score them on fold 10.

    Parameters
    ----------
    session : Session
        A finished pretraining.
    root : Path
        The folder of data sets and sessions.
    seed : int, default 0
        Of the random weights, the splits and the resamples.
    resamples : int, default 1000
        Bootstrap resamples of the patients.
    label_set : str, default ""
        The label set whose classes are probed; empty: that of the pretraining.
    progress : bool, default False
        Show progress bars on standard error.

    Returns
    -------
    PretrainedProbes

    Raises
    ------
    EcgkitError
        If the dataset is missing, is no longer the one of the pretraining, or lacks the label set.
    """
    config, trained = session.config, load_weights(session.best_weights)
    folder, folds = root / paths.PROCESSED / config["dataset"], (*TRAIN_FOLDS, TEST_FOLD)
    dataset = open_dataset(folder, label_set=None, folds=folds)
    if dataset.fingerprint != config["dataset_fingerprint"]:
        raise EcgkitError(f"{folder} is not the dataset that {session.label} learned from: preprocess it again")
    name = label_set or config["label_set"]
    labelled = open_dataset(folder, label_set=name, folds=folds) if name else None
    features = embed_both(trained, dataset, seed=seed, progress=progress)
    known, fresh = features.values()
    options: dict[str, Any] = {"seed": seed, "resamples": resamples}
    results = fit_probes(known, dataset.records, untrained=[fresh], targets=TARGETS, **options)
    same = {beyond.name: dataset.records[target.name] for target, beyond in zip(BODY, BEYOND, strict=True)}
    records = dataset.records.assign(**same)
    simple = demographics(records, BEYOND[0], dataset.folds(*TRAIN_FOLDS))
    if simple is not None:
        both, control = (np.concatenate([values, simple[0]], axis=1) for values in (known, fresh))
        results |= fit_probes(both, records, untrained=[control], targets=BEYOND, **options)
    if labelled is None:
        return PretrainedProbes(results, {})
    rows = dataset.records["record_id"].isin(labelled.records["record_id"]).to_numpy()
    features = {name: values[rows] for name, values in features.items()}
    return PretrainedProbes(results, measure_features(trained, labelled, fold=TEST_FOLD, features=features, **options))


def make_probe_session(
    session: Session, root: Path, *, force: bool = False, label_set: str = "", **settings: Any
) -> tuple[Session, PretrainedProbes | None]:
    """Probe a pretrained encoder in a probe session, unless there is one of the same weights and settings.

    Parameters
    ----------
    session : Session
        A finished pretraining.
    root : Path
        The folder of data sets and sessions.
    force : bool, default False
        Probe again although nothing changed.
    label_set : str, default ""
        The label set whose classes are probed; empty: that of the pretraining.
    **settings
        ``seed`` and ``resamples``, as for `probe_pretrained`.

    Returns
    -------
    session : Session
        With the files of a probe session, and `METRICS` with the classes.
    probes : PretrainedProbes or None
        None of a session that was there already.

    Raises
    ------
    EcgkitError
        If a setting does not fit, or as `probe_pretrained`.
    """
    options = {"seed": 0, "resamples": RESAMPLES} | settings
    config = {"training_session": session.label, **options}
    FeatureSpaceConfig(**config)  # checks the values
    config |= {
        "label_set": label_set or session.config["label_set"],
        "weights_sha256": file_sha256(session.best_weights),
    }
    if not force and (done := sessions.find_finished(paths.PROBES, root, config)):
        return done, None
    with sessions.claim(paths.PROBES, root, config, resume=False if force else None) as made:
        probes = probe_pretrained(session, root, label_set=label_set, progress=True, **options)
        with mpl.rc_context(STYLE):
            write_probe_session(made, probes.targets, subject=session.label)
        if probes.classes:
            made.write_json(METRICS, probes.classes)
        made.write_json("environment.json", sessions.environment())
        made.close()
    return made, probes


def tables(probes: PretrainedProbes) -> list[pd.DataFrame]:
    """Return one row per target with its main metric, and one row per class, with 95 % intervals as texts."""
    found = [readable_table(probes.targets)]
    differences = {
        name: {f"minus {control}": _difference(result, control) for control in (UNTRAINED, DEMOGRAPHICS)}
        for name, result in probes.targets.items()
        if not result.skipped
    }
    found[0] = found[0].join(pd.DataFrame.from_dict(differences, orient="index"))
    return [*found, probe_table(probes.classes)] if probes.classes else found


def _difference(result: ProbeResult, control: str) -> str:
    """Return probe minus control by the target's main metric, with its interval."""
    metric = result.comparison.differences.get(control, {}).get(result.target.main_metric)
    return "" if metric is None else format_interval(nan_as_none(metric), signed=True)
