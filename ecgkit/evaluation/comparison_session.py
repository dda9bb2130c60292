"""A comparison as a session: the sessions that take part, their ensembles, and the files that it writes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from ecgkit import paths, sessions
from ecgkit.errors import split_names
from ecgkit.evaluation.comparison import is_ensemble
from ecgkit.evaluation.config import ComparisonConfig, find_members
from ecgkit.evaluation.ensembles import write_ensemble
from ecgkit.evaluation.leaderboard import Leaderboard, leaderboard
from ecgkit.io import csv_bytes
from ecgkit.sessions import Session

LEADERBOARD = "leaderboard.json"


@dataclass(frozen=True)
class ComparisonRun:
    """A comparison that has been started.

    Attributes
    ----------
    session : Session
        Where the results go.
    config : ComparisonConfig
        The parameters.
    root : Path
        The folder of data sets and sessions.
    members : tuple of Session
        The sessions that take part.
    left_out : tuple of str
        One sentence for each session that does not, if all were to be compared.
    """

    session: Session
    config: ComparisonConfig
    root: Path
    members: tuple[Session, ...]
    left_out: tuple[str, ...] = ()

    def leaderboard(self, *more: Session) -> Leaderboard:
        """Rank the sessions and others; see `ecgkit.evaluation.leaderboard.leaderboard`."""
        known = {session.name: session for session in (*self.members, *more)}
        board = leaderboard(list(known.values()), resamples=self.config.resamples)
        # an ensemble of an earlier comparison is left out at first, and takes part once it has been found again
        reasons = [reason for reason in (*self.left_out, *board.left_out) if reason.partition(" ")[0] not in known]
        return replace(board, left_out=tuple(reasons))

    def ensembles(self) -> list[Session]:
        """Make the ensemble of all trainings by each method, or find it if it was made before."""
        trained = [session for session in self.members if not is_ensemble(session)]
        if len(trained) < 2:
            return []
        return [write_ensemble(self.root, trained, method) for method in split_names(self.config.ensembles)]

    def first_two(self, board: Leaderboard) -> tuple[Session, Session]:
        """Open the first two sessions of a leaderboard."""
        names = [str(name) for name in board.sessions.index[:2]]
        first, second = (sessions.open_finished(name, paths.TRAINING, self.root) for name in names)
        return first, second

    def save(self, board: Leaderboard) -> pd.DataFrame:
        """Write a leaderboard as CSV and JSON, and return its sessions."""
        rows = board.sessions.reset_index(names="session").astype(object)
        self.session.write_text("leaderboard.csv", csv_bytes(rows).decode())
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


def open_comparison(session: Session, config: ComparisonConfig, root: Path) -> ComparisonRun:
    """Find the trainings that take part in a comparison.

    Parameters
    ----------
    session : Session
        The comparison session.
    config : ComparisonConfig
        Its configuration.
    root : Path
        The folder of data sets and sessions.

    Returns
    -------
    ComparisonRun

    Raises
    ------
    EcgkitError
        If a session is missing or not finished, or there are fewer than two.
    """
    members, left_out = find_members(config, root)
    return ComparisonRun(session, config, root, tuple(members), tuple(left_out))
