"""The finished sessions of one dataset in one table, and where they stand among published results.

The order is that of fold 9, and so is the session that the others are compared with: fold 10 only says how good they
are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ecgkit import stats
from ecgkit.errors import EcgkitError, check_choice
from ecgkit.evaluation.comparison import align, class_names, read_predictions
from ecgkit.sessions import Session, session_number
from ecgkit.stats import Floats
from ecgkit.stats.folds import TEST_FOLD
from ecgkit.stats.multiple_testing import holm
from ecgkit.stats.paired_tests import paired_difference
from ecgkit.stats.resampling import RESAMPLES, interval, patient_weights

PUBLISHED = Path(__file__).resolve().parent / "published.csv"
"""Published macro AUCs on fold 10 of PTB-XL."""

ENSEMBLE = "ensemble"
"""What ``config.json`` calls the model of a session that is put together from others."""

SAME = ("dataset_fingerprint", "label_set", "min_records")
"""What the configurations of sessions must have in common."""

NAMED = 3
"""Up to so many published results are named in one part of a sentence."""


@dataclass(frozen=True)
class Leaderboard:
    """Sessions that can be compared, with the best by fold 9 first.

    Attributes
    ----------
    dataset, label_set : str
        What they were trained on.
    classes : tuple of str
        The classes.
    best : str
        The session with the highest macro AUC on fold 9.
    best_configuration : str
        The configuration with the highest macro AUC on fold 9, averaged over its seeds.
    sessions : DataFrame
        One row a session, the index its name: ``model``, ``configuration``, ``seed``, ``parameters``,
        ``training_seconds``, ``fold_9_auc``, ``fold_10_auc`` with ``fold_10_low`` and ``fold_10_high``;
        ``difference`` of the fold 10 macro AUC to that of the best (this less the best) with ``difference_low``,
        ``difference_high``, ``p``, and ``p_holm``, corrected over all comparisons with the best; ``ece``, the expected
        calibration error on fold 10. What is not known, and what compares the best with itself, is NaN.
    configurations : DataFrame
        One row a configuration, the index its description: the same columns as means over its seeds, where they are
        numbers; ``seeds``, how many there are; ``fold_9_sd`` and ``fold_10_sd``, the standard deviations over them
        (NaN for one); ``members``, the sessions. Intervals are of the mean of these very models over patients: what
        another seed would give, the standard deviation says.
    left_out : tuple of str
        A sentence for each session that could not be compared.
    """

    dataset: str
    label_set: str
    classes: tuple[str, ...]
    best: str
    best_configuration: str
    sessions: pd.DataFrame
    configurations: pd.DataFrame
    left_out: tuple[str, ...]

    @property
    def references(self) -> pd.DataFrame:
        """Published results that ours can stand beside, as `published` gives them; empty for other data or classes."""
        known = pd.read_csv(PUBLISHED)
        n_classes = {"superclass": 5, "subclass": 23, "diagnostic": 44, "form": 19, "rhythm": 12, "all": 71}
        is_theirs = re.split(r"\W|_", self.dataset)[0] == "ptbxl" and n_classes.get(self.label_set) == len(self.classes)
        return published(self.label_set) if is_theirs else known.iloc[:0]

    @property
    def standing(self) -> str:
        """Where the best by fold 9 stands among published results; see `standing`."""
        columns = ["fold_10_auc", "fold_10_low", "fold_10_high"]
        value, low, high = (float(number) for number in self.sessions.loc[self.best, columns].to_numpy())
        return standing(value, low, high, self.references)


@dataclass(frozen=True)
class _Entry:
    """What is read of one session."""

    session: Session
    config: dict[str, Any]
    numbers: dict[str, float]
    predictions: pd.DataFrame


def leaderboard(
    sessions: Sequence[Session],
    *,
    dataset: str | None = None,
    label_set: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Leaderboard:
    """Put the finished sessions of one dataset and label set in order, and compare each with the best by fold 9.

    Parameters
    ----------
    sessions : sequence of Session
        Training sessions. The last one that can be read says which contents of the dataset and which label set the
        table is about; what differs is left out with a sentence.
    dataset : str, optional
        Name of a processed dataset, to leave out all others.
    label_set : str, optional
        Name of a label set, to leave out all others.
    resamples : int, default 1000
        Bootstrap resamples of patients; see `bootstrap_p` for how many a correction over many comparisons needs.
    seed : int, default 0
        Of the random numbers.

    Returns
    -------
    Leaderboard

    Raises
    ------
    EcgkitError
        If no session remains, or two have one name.
    """
    names = [session.name for session in sessions]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise EcgkitError(f"two sessions are called {twice[0]}: compare sessions of one folder")
    wanted = {key: value for key, value in (("dataset", dataset), ("label_set", label_set)) if value is not None}
    entries, left_out = _comparable(sessions, wanted)
    classes = class_names(entries[-1].predictions)
    draws = _draws(entries, classes, resamples=resamples, seed=seed)
    table = _session_table(entries)
    of_sessions = _with_differences(table, draws)
    of_configurations = _configuration_table(table, draws)
    return Leaderboard(
        dataset=entries[-1].config["dataset"],
        label_set=entries[-1].config["label_set"],
        classes=classes,
        best=str(of_sessions.index[0]),
        best_configuration=str(of_configurations.index[0]),
        sessions=of_sessions,
        configurations=of_configurations,
        left_out=tuple(left_out),
    )


def _comparable(sessions: Sequence[Session], wanted: Mapping[str, str]) -> tuple[list[_Entry], list[str]]:
    """Read the sessions that can stand in one table, and say of the others why they cannot."""
    entries: list[_Entry] = []
    left_out = []
    for session in reversed(sessions):
        try:
            entry = _read(session)
            _check_wanted(entry, wanted)
            if entries:
                entry = _like(entries[0], entry)
        except EcgkitError as error:
            left_out.append(f"{session.name} is left out: {error}")
            continue
        entries.append(entry)
    if not entries:
        what = " and ".join(f"{key} {value}" for key, value in wanted.items()) or "any dataset"
        raise EcgkitError(
            f"none of {len(sessions)} sessions of {what} can be compared ({'; '.join(left_out) or 'there is none'}): "
            'finish one by "ecgkit train"'
        )
    return entries[::-1], left_out[::-1]


def _read(session: Session) -> _Entry:
    """Read what the table says of a session.

    Raises
    ------
    EcgkitError
        If it is not finished or lacks a file or a number.
    """
    predictions = read_predictions(session)
    config, results = session.config, session.read_json("metrics.json")
    if missing := [key for key in ("model", "dataset", *SAME) if key not in config]:
        raise EcgkitError(f"its config.json has no {missing[0]!r}; train it again")
    try:
        auc = {fold: results[fold]["macro"]["auc"] for fold in ("fold_9", "fold_10")}
        numbers = {
            "fold_9_auc": auc["fold_9"]["value"],
            "fold_10_auc": auc["fold_10"]["value"],
            "fold_10_low": auc["fold_10"]["low"],
            "fold_10_high": auc["fold_10"]["high"],
            "ece": results["fold_10"]["macro"]["ece"]["value"],
        }
    except KeyError as error:
        raise EcgkitError(f"its metrics.json has no {error}; evaluate it again") from error
    if numbers["fold_9_auc"] is None or numbers["fold_10_auc"] is None:
        raise EcgkitError("it has no macro AUC on folds 9 and 10, since no class has both outcomes there")
    return _Entry(session, config, {name: float(value) for name, value in numbers.items()}, predictions)


def _check_wanted(entry: _Entry, wanted: Mapping[str, str]) -> None:
    """Refuse a session of another dataset or label set than was asked for."""
    for key, value in wanted.items():
        if entry.config[key] != value:
            raise EcgkitError(f"its {key} is {entry.config[key]}, not {value}")


def _like(reference: _Entry, entry: _Entry) -> _Entry:
    """Refuse a session of other data than another one, and bring its predictions into the other's order."""
    for key in SAME:
        if entry.config[key] == reference.config[key]:
            continue
        shown = "dataset" if key == "dataset_fingerprint" else key
        own, other = entry.config[shown], reference.config[shown]
        if own == other:
            raise EcgkitError(f"its dataset {own} had other contents than that of {reference.session.name}")
        raise EcgkitError(f"its {shown} is {own}, that of {reference.session.name} is {other}")
    tables = align({reference.session.name: reference.predictions, entry.session.name: entry.predictions})
    return _Entry(entry.session, entry.config, entry.numbers, tables[entry.session.name])


def _draws(entries: Sequence[_Entry], classes: Sequence[str], *, resamples: int, seed: int) -> dict[str, Floats]:
    """Compute the macro AUC on fold 10 of each session in the same resamples of patients."""
    first = entries[0].predictions
    weights = patient_weights(first.loc[first["fold"] == TEST_FOLD, "patient_id"], resamples=resamples, seed=seed)
    draws = {}
    for entry in entries:
        scores = stats.fold_scores(entry.predictions, classes, TEST_FOLD)
        draws[entry.session.name] = stats.mean_of_classes(stats.auc(scores.y_true, scores.prob, weights=weights))
    return draws


def _session_table(entries: Sequence[_Entry]) -> pd.DataFrame:
    """Lay out what was read, one row a session, the best by fold 9 first."""
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
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("session")
    return table.sort_values("fold_9_auc", ascending=False, kind="stable")


def _with_differences(table: pd.DataFrame, draws: Mapping[str, Floats]) -> pd.DataFrame:
    """Compare each row's fold 10 macro AUC with that of the first row, in the same resamples."""
    best, *others = (str(name) for name in table.index)
    value = table["fold_10_auc"]
    found = {name: paired_difference(value[name], value[best], draws[name], draws[best]) for name in others}
    columns = {"difference": "value", "difference_low": "low", "difference_high": "high", "p": "p"}
    added = pd.DataFrame(
        {
            column: pd.Series({name: getattr(one, attribute) for name, one in found.items()}, dtype=float)
            for column, attribute in columns.items()
        }
    ).reindex(table.index)
    added["p_holm"] = holm(added["p"])
    ece = table.columns.get_loc("ece")
    return pd.concat([table.iloc[:, :ece], added, table.iloc[:, ece:]], axis=1)


def _configuration_table(table: pd.DataFrame, draws: Mapping[str, Floats]) -> pd.DataFrame:
    """Average over the seeds of each configuration; of a seed that was run twice, the later run counts."""
    by_number = table.assign(number=[session_number(str(name)) for name in table.index]).sort_values("number")
    runs = by_number.drop_duplicates(["configuration", "seed"], keep="last")
    rows, mean_draws = {}, {}
    for label, part in runs.groupby("configuration", sort=False):
        mean_draws[str(label)] = np.mean([draws[str(name)] for name in part.index], axis=0)
        low, high = interval(mean_draws[str(label)])
        rows[str(label)] = {
            "model": part["model"].iloc[0],
            "seeds": len(part),
            "members": ", ".join(str(name) for name in part.index),
            "parameters": part["parameters"].mean(),
            "training_seconds": part["training_seconds"].mean(),
            "fold_9_auc": part["fold_9_auc"].mean(),
            "fold_9_sd": part["fold_9_auc"].std(ddof=1),
            "fold_10_auc": part["fold_10_auc"].mean(),
            "fold_10_sd": part["fold_10_auc"].std(ddof=1),
            "fold_10_low": low,
            "fold_10_high": high,
            "ece": part["ece"].mean(),
        }
    ordered = pd.DataFrame.from_dict(rows, orient="index").rename_axis("configuration")
    return _with_differences(ordered.sort_values("fold_9_auc", ascending=False, kind="stable"), mean_draws)


def _labels(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Describe each configuration but for its seed: the model, and what tells it from others of the same model."""
    flat = [_flat(config) for config in configs]
    labels = []
    for own in flat:
        like = [other for other in flat if other["model"] == own["model"]]
        keys = sorted(set().union(*like))
        telling = [key for key in keys if len({json.dumps(other.get(key)) for other in like}) > 1]
        labels.append(", ".join([own["model"], *(f"{key} {own[key]}" for key in telling if key in own)]))
    return labels


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Lay nested options out beside the others, without the seed."""
    flat = {key: value for key, value in config.items() if key not in ("seed", "model_options")}
    if flat["model"] == ENSEMBLE:
        flat["model"] = f"{ENSEMBLE} ({flat.pop('method', 'unknown')})"
    return flat | config.get("model_options", {})


def cost(session: Session) -> tuple[float, float]:
    """Tell what a model cost: how many parameters it has and how many seconds it was trained.

    Parameters
    ----------
    session : Session
        A training session, or an ensemble, which costs what its members cost.

    Returns
    -------
    parameters, seconds : float
        From ``training_log.txt`` and ``history.csv``; NaN where they do not say.
    """
    if (session.path / "ensemble.json").is_file():
        found = session.read_json("ensemble.json")
        known = [float("nan") if found.get(key) is None else float(found[key]) for key in ("parameters", "seconds")]
        return known[0], known[1]
    log, history = session.path / "training_log.txt", session.path / "history.csv"
    said = re.search(r"([\d,]+) parameters", log.read_text()) if log.is_file() else None
    parameters = float(said[1].replace(",", "")) if said else float("nan")
    return parameters, float(pd.read_csv(history)["seconds"].sum()) if history.is_file() else float("nan")


def published(label_set: str) -> pd.DataFrame:
    """Give published macro AUCs on fold 10 of PTB-XL.

    Parameters
    ----------
    label_set : str
        ``superclass``, ``subclass``, ``diagnostic``, ``form``, ``rhythm`` or ``all``.

    Returns
    -------
    DataFrame
        The best first: ``model``, ``regime`` (``from scratch``; ``pretrained, fine-tuned``; ``pretrained, linear
        probe``), ``year`` of the source, ``label_set``, ``macro_auc``, ``low`` and ``high`` (NaN where none was
        published), ``interval`` (how it was made: not as ours are), ``source`` and ``note``.

    Raises
    ------
    EcgkitError
        If the label set is none of PTB-XL's.
    """
    table = pd.read_csv(PUBLISHED).fillna({"interval": "", "note": ""})
    check_choice("label set", label_set, table["label_set"].unique())
    rows = table[table["label_set"] == label_set]
    return rows.sort_values("macro_auc", ascending=False, kind="stable").reset_index(drop=True)


def standing(value: float, low: float, high: float, references: pd.DataFrame) -> str:
    """Say which published results an interval lies below, includes, and lies above.

    That an interval includes a published number is no test of equality: the number has an uncertainty of its own, and
    nothing is known of it record by record.

    Parameters
    ----------
    value, low, high : float
        Our macro AUC on fold 10 with its interval.
    references : DataFrame
        What `published` gave, or some of its rows.

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
    said = [f"{verb} the published {_name_results(references[chosen])}" for verb, chosen in parts if chosen.any()]
    return f"{own} {'; '.join(said)}"


def _name_results(rows: pd.DataFrame) -> str:
    """Name the best few published results, and count the others."""
    named = [
        f"{row.macro_auc:.3f} of {row.model}" + ("" if row.regime == "from scratch" else f" ({row.regime})")
        for row in rows.sort_values("macro_auc", ascending=False, kind="stable").head(NAMED).itertuples()
    ]
    more = len(rows) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")
