"""The table of trainings: fold 9 and fold 10 with their intervals, and the files to open first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from ecgkit import paths
from ecgkit.cli.common import echo, echo_columns
from ecgkit.errors import EcgkitError
from ecgkit.evaluation.files import read_history, read_metrics
from ecgkit.io import checked
from ecgkit.sessions import Session, read_config

if TYPE_CHECKING:
    from ecgkit.workflow.chain import Chain


class Recorded(TypedDict):
    """What a list shows of ``config.json``."""

    model: NotRequired[str]
    dataset: NotRequired[str | None]
    label_set: NotRequired[str | None]
    seed: NotRequired[int | None]
    training_session: NotRequired[str]


UNKNOWN: dict[str, Any] = {"value": None, "low": None, "high": None}
METRICS = ("auc", "r2")
"""The metric of a training for labels, and of one for a quantity."""


def macro_metric(session: Session, fold: str) -> dict[str, Any]:
    """Read the macro AUC of a training, or the R2 of its quantity, with its interval; None where there is none."""
    if session.kind != paths.TRAINING or not (session.path / "metrics.json").is_file():
        return UNKNOWN
    of_fold = read_metrics(session).get(fold, {})
    metrics: dict[str, Any] = of_fold.get("macro") or next(iter(of_fold.values()), {})
    return next((metrics[name] for name in METRICS if name in metrics), UNKNOWN)


def damage(session: Session) -> str:
    """Return what is wrong with the files of a session that a list reads; empty if they can be read."""
    try:
        if session.is_done:
            session.check_finished()
        checked(session.config, Recorded, str(session.path / "config.json"))
        for fold in ("fold_9", "fold_10"):
            macro_metric(session, fold)
    except EcgkitError as error:
        return str(error)
    return ""


def with_interval(metric: dict[str, Any]) -> str:
    """Write a value with its 95 % confidence interval; a dash where there is none."""
    if metric["value"] is None:
        return "-"
    has_interval = metric["low"] is not None and metric["high"] is not None
    return f"{metric['value']:.4f}" + (f" ({metric['low']:.3f} to {metric['high']:.3f})" if has_interval else "")


def minutes(session: Session) -> str:
    """Return how long the epochs of a training took; a dash where that is not known."""
    try:
        seconds = float(read_history(session)["seconds"].sum(min_count=1))
    except EcgkitError:
        return "-"
    return "-" if math.isnan(seconds) else f"{seconds / 60:.1f}"


def best_of(found: Sequence[Session]) -> Session | None:
    """Return the session with the highest value on fold 9; None if fewer than two have one."""
    finished = [session for session in found if session.is_done and not damage(session)]
    values = {session: macro_metric(session, "fold_9")["value"] for session in finished}
    known = {session: value for session, value in values.items() if value is not None}
    return max(known, key=lambda session: known[session]) if len(known) > 1 else None


def training_row(session: Session, best: Session | None) -> list[str]:
    """Return the row of one training; of a damaged one, what is wrong with it."""
    if problem := damage(session):
        return [session.name, "damaged", *["-"] * (len(HEADER) - 3), problem]
    config = read_config(session)
    modified = datetime.fromtimestamp(session.path.stat().st_mtime).astimezone()
    report = session.path / "report.html"
    return [
        session.name,
        str(config.get("model", "-")),
        "-" if config.get("seed") is None else str(config["seed"]),
        with_interval(macro_metric(session, "fold_9")) + (" *" if session == best else ""),
        with_interval(macro_metric(session, "fold_10")),
        minutes(session),
        f"{modified:%Y-%m-%d %H:%M}",
        str(report) if report.is_file() else "-",
    ]


HEADER = ["session", "model", "seed", "fold 9", "fold 10", "minutes", "date", "report"]


def echo_trainings(folders: Sequence[Path]) -> None:
    """Print a table of finished trainings: model, fold 9, fold 10 with interval, minutes."""
    found = [Session(path) for path in folders]
    best = best_of(found)
    rows = [[row[i] for i in (1, 3, 4, 5)] for row in (training_row(session, best) for session in found)]
    echo("macro AUC (95 % confidence interval), * best on fold 9")
    echo_columns([[HEADER[i] for i in (1, 3, 4, 5)], *rows])


def echo_files(made: Chain) -> None:
    """Print the files to open first."""
    trained = [Session(path) for path in made.training]
    best = best_of(trained) or trained[0]
    probed = [Session(path) for path in made.probes]
    of_best = [session.path for session in probed if read_config(session).get("training_session") == best.name]
    first = {
        "the best model's report": best.path / "report.html",
        "all models compared": made.comparison and made.comparison / "figures" / "leaderboard.png",
        "what it has learned": of_best and of_best[0] / "overview.html",
        "an interactive map": of_best and of_best[0] / "map.html",
    }
    rows = [[f"{text}:", str(path)] for text, path in first.items() if path and path.is_file()]
    echo("open first")
    echo_columns(rows, indent="  ")


def table_of(found: Sequence[Session]) -> list[list[str]]:
    """Return the rows of all trainings, with a header."""
    best = best_of(found)
    return [HEADER, *(training_row(session, best) for session in found)]
