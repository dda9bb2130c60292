"""The finished sessions of one dataset in one table, compared with each other and with published results.

The order, and the session with which the others are compared, are chosen on fold 9.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ecgkit import paths, stats
from ecgkit.errors import EcgkitError, check_choice
from ecgkit.evaluation.comparison import ENSEMBLE, align, check_same, class_names, session_predictions
from ecgkit.evaluation.files import SAME, EnsembleCost, all_records, read_history, read_metrics
from ecgkit.io import json_or_none
from ecgkit.sessions import Session, describe_value, session_number
from ecgkit.stats import Floats
from ecgkit.stats.folds import TEST_FOLD
from ecgkit.stats.multiple_testing import holm
from ecgkit.stats.paired_tests import DIFFERENCE, paired_difference
from ecgkit.stats.resampling import RESAMPLES, interval, patient_weights
from ecgkit.training.config import OF_A_RUN, TrainingConfig, flatten_tables

PUBLISHED = Path(__file__).resolve().parent / "published.csv"
"""Published macro AUCs on fold 10 of PTB-XL."""

# Of what a session of an older version did not record.
DEFAULTS = {
    one.name: one.default_factory() if one.default_factory is not MISSING else one.default
    for one in fields(TrainingConfig)
}

NAMED = 3
"""The largest number of published results that a part of a sentence names."""


@dataclass(frozen=True)
class Leaderboard:
    """Comparable sessions, the best by fold 9 first.

    Attributes
    ----------
    dataset, label_set : str
        On which they were trained.
    classes : tuple of str
        The classes.
    sessions : DataFrame
        One row per session, the index its name: ``model``, ``configuration``, ``seed``, ``parameters``,
        ``training_seconds``, ``fold_9_auc``, ``fold_10_auc`` with ``fold_10_low`` and ``fold_10_high`` over
        ``fold_10_records``; ``fold_10_all_auc`` with ``fold_10_all_low`` and ``fold_10_all_high`` over
        ``fold_10_all_records``, which include those without a label as negative for each class; ``difference`` of the
        fold 10 macro AUC to that of the best (this minus the best) with ``difference_low``, ``difference_high``, ``p``,
        and ``p_holm``, adjusted over all comparisons with the best; ``ece``, the expected calibration error on fold 10.
        Unknown values, and the comparison of the best with itself, are NaN.
    configurations : DataFrame
        One row per configuration, the index its description: the numbers as means over its seeds; ``seeds``, their
        number; ``fold_9_sd`` and ``fold_10_sd``, the standard deviations over them (NaN for one); ``members``, the
        sessions. Intervals are of the mean of these models over patients; the variation between seeds is in the
        standard deviations.
    left_out : tuple of str
        One sentence per session that could not be compared.
    is_whole : bool
        False of a part of a data set, or one that was divided anew: its fold 10 is not the published one.
    """

    dataset: str
    label_set: str
    classes: tuple[str, ...]
    sessions: pd.DataFrame
    configurations: pd.DataFrame
    left_out: tuple[str, ...]
    is_whole: bool = True

    @property
    def best(self) -> str:
        """The session with the highest macro AUC on fold 9."""
        return str(self.sessions.index[0])

    @property
    def references(self) -> pd.DataFrame:
        """Published results for the same data and classes, as returned by `published`; empty if there are none."""
        known = pd.read_csv(PUBLISHED)
        n_classes = {"superclass": 5, "subclass": 23, "diagnostic": 44, "form": 19, "rhythm": 12, "all": 71}
        is_theirs = re.split(r"\W|_", self.dataset)[0] == "ptbxl" and n_classes.get(self.label_set) == len(self.classes)
        return published(self.label_set) if is_theirs and self.is_whole else known.iloc[:0]

    @property
    def standing(self) -> str:
        """The best by fold 9 compared with published results; see `standing`."""
        columns = ["fold_10_auc", "fold_10_low", "fold_10_high"]
        value, low, high = (float(number) for number in self.sessions.loc[self.best, columns].to_numpy())
        return standing(value, low, high, self.references)


@dataclass(frozen=True)
class Entry:
    """The contents of one session that the table needs."""

    session: Session
    config: dict[str, Any]
    numbers: dict[str, float]
    predictions: pd.DataFrame


def leaderboard(sessions: Sequence[Session], *, resamples: int = RESAMPLES, seed: int = 0) -> Leaderboard:
    """Rank the finished sessions of one dataset and label set, and compare each with the best by fold 9.

    Parameters
    ----------
    sessions : sequence of Session
        Training sessions. The last readable one determines the contents of the dataset and the label set of the table;
        sessions that differ are left out with a sentence.
    resamples : int, default 1000
        Bootstrap resamples of patients; see `ecgkit.stats.paired_tests.bootstrap_p` for how many are needed.
    seed : int, default 0
        Of the random numbers.

    Returns
    -------
    Leaderboard

    Raises
    ------
    EcgkitError
        If no session remains.
    """
    entries, left_out = comparable(sessions)
    if not entries:
        reasons = "; ".join(left_out) or "there is none"
        raise EcgkitError(f'none of {len(sessions)} sessions can be compared ({reasons}): finish one by "ecgkit train"')
    classes = class_names(entries[-1].predictions)
    draws = _draws(entries, classes, resamples=resamples, seed=seed)
    table = _session_table(entries)
    return Leaderboard(
        dataset=entries[-1].config["dataset"],
        label_set=entries[-1].config["label_set"],
        classes=classes,
        sessions=_with_differences(table, draws),
        configurations=_configuration_table(table, draws),
        left_out=tuple(left_out),
        is_whole=_is_whole(entries[-1]),
    )


def _is_whole(entry: Entry) -> bool:
    """Return False if the dataset is a part of its source or was divided anew, as far as its manifest or name says."""
    folder = entry.session.path.parents[1] / paths.PROCESSED / entry.config["dataset"]
    manifest = json_or_none(folder / "dataset.json") or {"request": {"split": "_split_" in folder.name}}
    return not (manifest["request"].get("split") or manifest["request"].get("source", {}).get("part"))


def comparable(sessions: Sequence[Session]) -> tuple[list[Entry], list[str]]:
    """Read the sessions that can be compared with the last readable one, and say of each other one why it cannot."""
    entries: list[Entry] = []
    left_out = []
    for session in reversed(sessions):
        try:
            entry = _read(session)
            entries.append(_like(entries[0], entry) if entries else entry)
        except EcgkitError as error:
            left_out.append(f"{session.name} is left out: {error}")
    return entries[::-1], left_out[::-1]


def _read(session: Session) -> Entry:
    """Read one session; it must be finished and evaluated on fold 10."""
    predictions = session_predictions(session)
    config, results = session.config, read_metrics(session)
    if missing := [key for key in ("model", "dataset", *SAME) if key not in config]:
        raise EcgkitError(f"its config.json has no {missing[0]!r}; train it again")
    try:
        if "fold_9" in results and "fold_10" not in results:
            raise EcgkitError(f'fold 10 has not been evaluated; run "ecgkit evaluate {session.name}"')
        if "macro" not in results["fold_9"]:
            raise EcgkitError(f"it predicts {next(iter(results['fold_9']))}, which has no AUC")
        validation, test = (results[fold]["macro"]["auc"] for fold in ("fold_9", "fold_10"))
        everything = all_records(results)
        numbers = {
            "fold_9_auc": validation["value"],
            "fold_10_auc": test["value"],
            "fold_10_low": test["low"],
            "fold_10_high": test["high"],
            "fold_10_records": int((predictions["fold"] == TEST_FOLD).sum()),
            **{f"fold_10_all_{name}": everything[name] for name in ("auc", "low", "high", "records")},
            "ece": results["fold_10"]["macro"]["ece"]["value"],
        }
    except KeyError as error:
        raise EcgkitError(f"its metrics.json has no {error}; evaluate it again") from error
    if numbers["fold_9_auc"] is None or numbers["fold_10_auc"] is None:
        raise EcgkitError("it has no macro AUC on folds 9 and 10, since no class has both outcomes there")
    known = {name: float("nan") if value is None else float(value) for name, value in numbers.items()}
    return Entry(session, config, known, predictions)


def _like(reference: Entry, entry: Entry) -> Entry:
    """Refuse a session of other data, and sort its predictions in the order of the reference."""
    check_same(reference.session, entry.session)
    tables = align({reference.session.name: reference.predictions, entry.session.name: entry.predictions})
    return replace(entry, predictions=tables[entry.session.name])


def _draws(entries: Sequence[Entry], classes: Sequence[str], *, resamples: int, seed: int) -> dict[str, Floats]:
    """Compute the macro AUC on fold 10 of each session in the same resamples of patients."""
    first = entries[0].predictions
    weights = patient_weights(first.loc[first["fold"] == TEST_FOLD, "patient_id"], resamples=resamples, seed=seed)
    draws = {}
    for entry in entries:
        scores = stats.fold_scores(entry.predictions, classes, TEST_FOLD)
        draws[entry.session.name] = stats.mean_of_classes(stats.auc(scores.y_true, scores.prob, weights=weights))
    return draws


def _session_table(entries: Sequence[Entry]) -> pd.DataFrame:
    """Tabulate the sessions, the best by fold 9 first."""
    labels = _labels([entry.config for entry in entries])
    rows = {}
    for entry, label in zip(entries, labels, strict=True):
        parameters, seconds = cost(entry.session)
        rows[entry.session.name] = {
            "model": entry.config["model"],
            "configuration": label,
            "seed": entry.config.get("seed", 0),
            "parameters": parameters,
            "training_seconds": seconds,
        } | entry.numbers
    counts = dict.fromkeys(("parameters", "fold_10_records", "fold_10_all_records"), "Int64")
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("session").astype(counts)
    return table.sort_values("fold_9_auc", ascending=False, kind="stable")


def _with_differences(table: pd.DataFrame, draws: Mapping[str, Floats]) -> pd.DataFrame:
    """Compare each row's fold 10 macro AUC with that of the first row, in the same resamples."""
    best, *others = (str(name) for name in table.index)
    value = table["fold_10_auc"]
    found = [paired_difference(value[name], value[best], draws[name], draws[best]) for name in others]
    added = pd.DataFrame(found, index=others, columns=list(DIFFERENCE)).drop(columns="resamples").reindex(table.index)
    added["p_holm"] = holm(added["p"])
    ece = table.columns.get_loc("ece")
    return pd.concat([table.iloc[:, :ece], added, table.iloc[:, ece:]], axis=1)


def _configuration_table(table: pd.DataFrame, draws: Mapping[str, Floats]) -> pd.DataFrame:
    """Average over the seeds of each configuration, with the last run of each seed."""
    by_number = table.assign(number=[session_number(str(name)) for name in table.index]).sort_values("number")
    runs = by_number.drop_duplicates(["configuration", "seed"], keep="last")
    grouped = runs.rename_axis("session").reset_index().groupby("configuration", sort=False)
    table = grouped.agg(
        model=("model", "first"),
        seeds=("seed", "size"),
        members=("session", ", ".join),
        parameters=("parameters", "first"),
        training_seconds=("training_seconds", "mean"),
        fold_9_auc=("fold_9_auc", "mean"),
        fold_9_sd=("fold_9_auc", "std"),
        fold_10_auc=("fold_10_auc", "mean"),
        fold_10_sd=("fold_10_auc", "std"),
    )
    mean_draws = {str(name): np.mean([draws[one] for one in part["session"]], axis=0) for name, part in grouped}
    table[["fold_10_low", "fold_10_high"]] = [interval(mean_draws[str(name)]) for name in table.index]
    table["ece"] = grouped["ece"].mean()
    return _with_differences(table.sort_values("fold_9_auc", ascending=False, kind="stable"), mean_draws)


def _labels(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Describe each configuration without its seed: the model, and what differs from others of the same model."""
    flat = [_flat(config) for config in configs]
    labels = []
    for own in flat:
        like = [other for other in flat if other["model"] == own["model"]]
        keys = sorted(set().union(*like))
        differing = [key for key in keys if len({json.dumps(other.get(key)) for other in like}) > 1]
        values = {key: describe_value(own[key]) for key in differing if key in own}
        short = {key: text[:8] if key.endswith("_sha256") else text for key, text in values.items()}
        named = [f"{key.removeprefix('model_options.')} {text}" for key, text in short.items()]
        labels.append(", ".join([own["model"], *named]))
    return labels


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten nested options, without what changes no model; what a session did not record is at its default."""
    is_ensemble = config["model"] == ENSEMBLE
    known = config if is_ensemble else {**DEFAULTS, **config}
    flat = flatten_tables({key: value for key, value in known.items() if key not in OF_A_RUN})
    if is_ensemble:
        flat["model"] = f"{ENSEMBLE} ({flat.pop('method', 'unknown')})"
    return flat


def cost(session: Session) -> tuple[float, float]:
    """Return the number of parameters of a model and the seconds of its training.

    Parameters
    ----------
    session : Session
        A training session, or an ensemble, which has the sum of its members.

    Returns
    -------
    parameters, seconds : float
        From ``training_log.txt`` and ``history.csv``; NaN where unknown.
    """
    if (session.path / "ensemble.json").is_file():
        stored = session.read_json("ensemble.json", EnsembleCost)
        known = [float("nan") if stored.get(key) is None else float(stored[key]) for key in ("parameters", "seconds")]
        return known[0], known[1]
    log = session.path / "training_log.txt"
    found = re.search(r"(\d[\d,]*) parameters", log.read_text(errors="replace")) if log.is_file() else None
    parameters = float(found[1].replace(",", "")) if found else float("nan")
    return parameters, float(read_history(session)["seconds"].sum(min_count=1))


def format_table(table: pd.DataFrame, columns: Sequence[str] | None = None, *, digits: int = 4) -> pd.DataFrame:
    """Format a table of a comparison for a reader.

    Parameters
    ----------
    table : DataFrame
        Such as ``board.sessions``.
    columns : sequence of str, optional
        The columns to show; by default all.
    digits : int, default 4
        Digits after the decimal point.

    Returns
    -------
    DataFrame of str
        Without columns that have no value, with ``-`` where a value is missing.
    """
    shown = table[list(columns) if columns is not None else list(table)].dropna(axis="columns", how="all")

    def text(value: Any) -> str:
        if pd.isna(value):
            return "-"
        return f"{value:.{digits}f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value

    return pd.DataFrame({name: [text(value) for value in shown[name].tolist()] for name in shown}, index=shown.index)


def published(label_set: str) -> pd.DataFrame:
    """Return published macro AUCs on fold 10 of PTB-XL.

    Parameters
    ----------
    label_set : str
        ``superclass``, ``subclass``, ``diagnostic``, ``form``, ``rhythm`` or ``all``.

    Returns
    -------
    DataFrame
        The best first: ``model``, ``regime`` (``from scratch``; ``pretrained, fine-tuned``; ``pretrained, linear
        probe``), ``year`` of the source, ``label_set``, ``macro_auc``, ``low`` and ``high`` (NaN where none was
        published), ``interval`` (how it was computed), ``source`` and ``note``.

    Raises
    ------
    EcgkitError
        If the label set is not one of PTB-XL's.
    """
    table = pd.read_csv(PUBLISHED).fillna({"interval": "", "note": ""})
    check_choice("label set", label_set, table["label_set"].unique())
    rows = table[table["label_set"] == label_set]
    return rows.sort_values("macro_auc", ascending=False, kind="stable").reset_index(drop=True)


def standing(value: float, low: float, high: float, references: pd.DataFrame) -> str:
    """Describe which published results are above, inside and below an interval.

    An interval that includes a published number is not a test of equality: the number is uncertain, too.

    Parameters
    ----------
    value, low, high : float
        Our macro AUC on fold 10 with its interval.
    references : DataFrame
        Rows of `published`.

    Returns
    -------
    str
        Such as ``0.927 (0.919 to 0.934) includes the published 0.930 of resnet1d_wang``.
    """
    own = f"{value:.3f} ({low:.3f} to {high:.3f})"
    if references.empty:
        return f"{own}; no published result is for these data and classes"
    auc = references["macro_auc"]
    parts = [("lies below", auc > high), ("includes", (auc >= low) & (auc <= high)), ("lies above", auc < low)]
    sentences = [f"{verb} the published {_name_results(references[chosen])}" for verb, chosen in parts if chosen.any()]
    return f"{own} {'; '.join(sentences)}"


def _name_results(rows: pd.DataFrame) -> str:
    """Name the best few published results, and count the others."""
    named = [
        f"{row.macro_auc:.3f} of {row.model}" + ("" if row.regime == "from scratch" else f" ({row.regime})")
        for row in rows.sort_values("macro_auc", ascending=False, kind="stable").head(NAMED).itertuples()
    ]
    more = len(rows) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")
