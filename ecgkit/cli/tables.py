"""The table of trainings: fold 9 and fold 10 with their intervals, and the files to open first."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from ecgkit.cli.common import echo, echo_columns
from ecgkit.errors import EcgkitError
from ecgkit.evaluation.files import COMPARABLE, main_metric, read_history
from ecgkit.io import checked
from ecgkit.sessions import Session, read_config
from ecgkit.stats.labels import MEANS, format_interval

if TYPE_CHECKING:
    from ecgkit.workflow.chain import Chain


SHORT = {"dataset_fingerprint": 12}
"""How many characters a table shows of what is long."""

MANY, FEW = 25, 10
"""From how many classes on a table shows only a few, and how many these are."""

HEADING = "macro AUC, or R² of a quantity (95 % confidence interval), * best on fold 9 of those that can be compared"


class Recorded(TypedDict):
    """What a list shows of ``config.json``."""

    model: NotRequired[str]
    dataset: NotRequired[str | None]
    dataset_fingerprint: NotRequired[str | None]
    label_set: NotRequired[str | None]
    min_records: NotRequired[int | None]
    target: NotRequired[str | None]
    seed: NotRequired[int | None]
    training_session: NotRequired[str]


def damage(session: Session) -> str:
    """Return what is wrong with the files of a session that a list reads; empty if they can be read."""
    try:
        if session.is_done:
            session.check_finished()
        checked(session.config, Recorded, str(session.path / "config.json"))
        for fold in ("fold_9", "fold_10"):
            main_metric(session, fold)
    except EcgkitError as error:
        return str(error)
    return ""


def with_interval(session: Session, fold: str) -> str:
    """Write the metric of a training with its 95 % confidence interval."""
    name, entry = main_metric(session, fold)
    return ("R² " if name == "r2" else "") + format_interval(entry, digits=4)


def minutes(session: Session) -> str:
    """Return how long the epochs of a training took; a dash where that is not known."""
    try:
        seconds = float(read_history(session)["seconds"].sum(min_count=1))
    except EcgkitError:
        return "-"
    return "-" if math.isnan(seconds) else f"{seconds / 60:.1f}"


def best_of(sound: Sequence[Session]) -> list[Session]:
    """Return the sessions with the highest value on fold 9 of all that can be compared with them, of two or more."""
    values: dict[tuple[Any, ...], dict[Session, float]] = defaultdict(dict)
    for session in sound:
        value = main_metric(session, "fold_9")[1]["value"] if session.is_done else None
        if value is not None:
            config = read_config(session)
            values[tuple(config.get(key) or None for key in COMPARABLE)][session] = value
    return [max(known, key=known.__getitem__) for known in values.values() if len(known) > 1]


def told_apart_by(sound: Sequence[Session]) -> list[str]:
    """Return the names of what is not the same for all sessions: a dataset, a label set, a quantity."""
    configs = [read_config(session) for session in sound]
    values = {key: {config.get(key) or None for config in configs} for key in ("dataset", *COMPARABLE)}
    if len(values["dataset_fingerprint"]) <= len(values["dataset"]):  # the names suffice
        del values["dataset_fingerprint"]
    return [key for key, found in values.items() if len(found) > 1]


def training_rows(found: Sequence[Session]) -> list[dict[str, str]]:
    """Return one row per training, those that are best on fold 9 marked; of a damaged one, what is wrong with it."""
    problems = {session: damage(session) for session in found}
    sound = [session for session in found if not problems[session]]
    best, columns, rows = best_of(sound), told_apart_by(sound), []
    for session in found:
        if problems[session]:
            unknown = dict.fromkeys(("seed", *columns, "fold 9", "fold 10", "minutes", "date"), "-")
            rows.append({"session": session.name, "model": "damaged", **unknown, "report": problems[session]})
            continue
        config, report = read_config(session), session.path / "report.html"
        modified = datetime.fromtimestamp(session.path.stat().st_mtime).astimezone()
        rows.append(
            {
                "session": session.name,
                "model": str(config.get("model", "-")),
                "seed": "-" if config.get("seed") is None else str(config["seed"]),
                **{key: str(config.get(key) or "-")[: SHORT.get(key)] for key in columns},
                "fold 9": with_interval(session, "fold_9") + (" *" if session in best else ""),
                "fold 10": with_interval(session, "fold_10"),
                "minutes": minutes(session),
                "date": f"{modified:%Y-%m-%d %H:%M}",
                "report": str(report) if report.is_file() else "-",
            }
        )
    return rows


def echo_table(rows: Sequence[dict[str, str]], names: Sequence[str] = ()) -> None:
    """Print rows of texts under their names, by default all of them."""
    shown = list(names or rows[0])
    echo_columns([shown, *([row[name] for name in shown] for row in rows)])


def shown_classes(metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the rows of a table of metrics: all, or of many classes those with the lowest AUC, and the means."""
    means = [name for name in metrics if name in MEANS]
    known = {name: row["auc"]["value"] for name, row in metrics.items() if "auc" in row and name not in means}
    if len(known) <= MANY:
        return list(metrics)
    values = {name: value for name, value in known.items() if value is not None}
    # A class with too few records for an interval is often the lowest, by chance: it comes last.
    return sorted(values, key=lambda name: (metrics[name]["auc"].get("low") is None, values[name]))[:FEW] + means


def echo_chain(made: Chain) -> None:
    """Print a table of the trainings of a chain, and the files to open first."""
    trained, probed = ([Session(path) for path in paths] for paths in (made.training, made.probes))
    echo(HEADING)
    echo_table(training_rows(trained), ("model", "fold 9", "fold 10", "minutes"))
    best = (best_of([session for session in trained if not damage(session)]) or trained)[0]
    of_best = [session.path for session in probed if read_config(session).get("training_session") == best.name]
    first = {
        "the best model's report": best.path / "report.html",
        "all models compared": made.comparison and made.comparison / "figures" / "leaderboard.png",
        "what it has learned": of_best and of_best[0] / "overview.html",
        "an interactive map": of_best and of_best[0] / "map.html",
    }
    echo("open first")
    echo_columns([[f"{text}:", str(path)] for text, path in first.items() if path and path.is_file()], indent="  ")
