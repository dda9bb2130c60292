"""A comparison as a session of its own: which sessions take part, their ensembles, and what it leaves behind."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ecgkit import paths, sessions
from ecgkit.errors import EcgkitError, check_choice, check_types
from ecgkit.evaluation.ensembles import METHODS, is_ensemble, predictions_sha256, write_ensemble
from ecgkit.evaluation.leaderboard import SAME, Leaderboard, leaderboard
from ecgkit.sessions import NEW, Session
from ecgkit.stats.resampling import RESAMPLES

NOTEBOOK = "6_Comparison.ipynb"
LEADERBOARD = "leaderboard.json"


@dataclass(frozen=True)
class ComparisonConfig:
    """Every parameter of a comparison.

    Attributes
    ----------
    sessions : str
        Names of training sessions with commas between them; empty for all finished ones of one dataset and label set.
    dataset, label_set : str or None
        Which, if all are compared; None means those of the newest session.
    ensembles : str
        Methods with commas between them, of `METHODS`; empty for none.
    resamples : int
        Bootstrap resamples of patients.

    Raises
    ------
    EcgkitError
        If a value does not fit.
    """

    sessions: str = ""
    dataset: str | None = None
    label_set: str | None = None
    ensembles: str = ",".join(METHODS)
    resamples: int = RESAMPLES

    def __post_init__(self) -> None:
        check_types(self)
        for method in words(self.ensembles):
            check_choice("ensemble", method, METHODS)
        if self.resamples < 1:
            raise EcgkitError(f"resamples is {self.resamples}: give a positive number")


@dataclass(frozen=True)
class ComparisonPlan:
    """What is going to be compared.

    Attributes
    ----------
    config : ComparisonConfig
        The parameters.
    members : tuple of Session
        The sessions that take part, in the order of their numbers.
    left_out : tuple of str
        A sentence for each other session, if all were to be compared.
    """

    config: ComparisonConfig
    members: tuple[Session, ...]
    left_out: tuple[str, ...] = ()

    @property
    def recorded(self) -> dict[str, Any]:
        """What ``config.json`` holds: the parameters, and the sessions that they stand for with their predictions."""
        # A name may be given again after a session was deleted, and a session may be evaluated again.
        return asdict(self.config) | {"members": predictions_sha256(self.members)}


@dataclass(frozen=True)
class ComparisonRun:
    """A comparison that has begun.

    Attributes
    ----------
    session : Session
        Where the results go.
    plan : ComparisonPlan
        What is compared.
    root : Path
        The folder of the sessions.
    """

    session: Session
    plan: ComparisonPlan
    root: Path

    @property
    def config(self) -> ComparisonConfig:
        """The parameters."""
        return self.plan.config

    def leaderboard(self, *more: Session) -> Leaderboard:
        """Put the sessions, and others if given, in order; see `ecgkit.evaluation.leaderboard`."""
        known = {session.name: session for session in (*self.plan.members, *more)}
        board = leaderboard(list(known.values()), resamples=self.config.resamples)
        return replace(board, left_out=(*self.plan.left_out, *board.left_out))

    def ensembles(self) -> list[Session]:
        """Make an ensemble of all trainings by each method, or find it if it was made before."""
        trained = [session for session in self.plan.members if not is_ensemble(session)]
        if len(trained) < 2:
            return []
        return [write_ensemble(self.root, trained, method) for method in words(self.config.ensembles)]

    def first_two(self, board: Leaderboard) -> tuple[Session, Session]:
        """Give the first two sessions of a leaderboard."""
        first, second = (self._open(board, i) for i in (0, 1))
        return first, second

    def _open(self, board: Leaderboard, row: int) -> Session:
        return sessions.open_finished(str(board.sessions.index[row]), paths.TRAINING, self.root)

    def save(self, board: Leaderboard) -> pd.DataFrame:
        """Write a leaderboard as CSV and JSON, and give its sessions."""
        self.session.write_text("leaderboard.csv", board.sessions.to_csv())
        rows = board.sessions.reset_index(names="session").astype(object)
        rows = rows.where(rows.notna(), None)
        self.session.write_json(
            LEADERBOARD,
            {
                "dataset": board.dataset,
                "label_set": board.label_set,
                "best_by_fold_9": board.best,
                "standing": board.standing,
                "left_out": list(board.left_out),
                "sessions": rows.to_dict("records"),
            },
        )
        return board.sessions


def words(text: str) -> list[str]:
    """Take a list apart that has commas between its elements."""
    return [word.strip() for word in text.split(",") if word.strip()]


def plan(*, root: Path, **parameters: Any) -> ComparisonPlan:
    """Resolve which sessions take part, without writing anything.

    Parameters
    ----------
    root : Path
        The folder that holds the sessions.
    **parameters
        Fields of `ComparisonConfig`.

    Returns
    -------
    ComparisonPlan

    Raises
    ------
    EcgkitError
        If a value does not fit, or a session is missing or not finished.
    """
    config = ComparisonConfig(**parameters)
    left_out: list[str] = []
    if names := words(config.sessions):
        if given := [key for key in ("dataset", "label_set") if getattr(config, key) is not None]:
            value = getattr(config, given[0])
            raise EcgkitError(f"{given[0]} is {value} and sessions are named: give the one or the other")
        members = [sessions.open_finished(name, paths.TRAINING, root) for name in names]
    else:
        members, left_out = _all_alike(config, root)
    if len({session.name for session in members}) < 2:
        raise EcgkitError(f"{members[0].name} alone cannot be compared: train another model or seed, or name two")
    return ComparisonPlan(config, tuple(members), tuple(left_out))


def _all_alike(config: ComparisonConfig, root: Path) -> tuple[list[Session], list[str]]:
    """Find the finished trainings of one dataset and label set, and say of the others why they take no part."""
    found = sessions.list_sessions(paths.TRAINING, root)
    reasons = {session.name: _no_part(session) for session in found}
    trained = [session for session in found if not reasons[session.name]]
    wanted = {key: getattr(config, key) for key in ("dataset", "label_set") if getattr(config, key) is not None}
    asked_for = [s for s in trained if all(s.config.get(key) == value for key, value in wanted.items())]
    if not asked_for:
        what = " ".join(wanted.values()) or "any dataset"
        raise EcgkitError(f'no finished training of {what} in {root / paths.TRAINING}: make one by "ecgkit train"')
    newest = asked_for[-1].config
    alike = [s for s in asked_for if all(s.config.get(key) == newest.get(key) for key in ("dataset", *SAME))]
    names = {session.name for session in alike}
    reasons |= {s.name: "it is of another dataset or label set" for s in trained if s.name not in names}
    return alike, [f"{name} takes no part: {reason}" for name, reason in reasons.items() if reason]


def _no_part(session: Session) -> str:
    """Say why a session takes no part where all trainings are compared; nothing if it does."""
    if not session.is_done:
        return "it is not finished"
    if is_ensemble(session):
        return "it is an ensemble, which is made anew of those that take part"
    original = sessions.original_of(session)
    return f"it reproduces {original}, and one model counts once" if original else ""


def begin_comparison(*, root: Path, session: str = NEW, **parameters: Any) -> ComparisonRun:
    """Begin a comparison session, or go on with one that was cut off.

    Parameters
    ----------
    root : Path
        The folder that holds the sessions.
    session : str, default "new"
        ``"new"``, or the name of an unfinished comparison session.
    **parameters
        Fields of `ComparisonConfig`.

    Returns
    -------
    ComparisonRun

    Raises
    ------
    EcgkitError
        As `plan`, or if the session named was begun with another configuration.
    """
    planned = plan(root=root, **parameters)
    begun = sessions.begin(
        paths.COMPARISONS, root, config=planned.recorded, notebook=paths.notebook_path(NOTEBOOK), session=session
    )
    return ComparisonRun(begun, planned, root)
