"""The parameters of a comparison, and the sessions that take part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecgkit import paths, sessions
from ecgkit.errors import EcgkitError, check_choice, check_types
from ecgkit.evaluation.files import read_metrics
from ecgkit.io import file_sha256
from ecgkit.sessions import Session
from ecgkit.stats.ensembles import METHODS
from ecgkit.stats.resampling import RESAMPLES

ENSEMBLE = "ensemble"
"""The model of an ensemble in ``config.json``."""

SAME = ("dataset_fingerprint", "label_set", "min_records")
"""The parameters that compared sessions must have in common."""


@dataclass(frozen=True)
class ComparisonConfig:
    """Every parameter of a comparison.

    Attributes
    ----------
    sessions : str
        Names of training sessions, separated by commas; empty for all finished ones of one dataset and label set.
    dataset : str or None
        Name of the dataset, if all are compared; None means that of the newest session.
    label_set : str or None
        Name of the label set, if all are compared; None means that of the newest session.
    ensembles : str
        Methods, separated by commas; empty for none.
    resamples : int
        Number of bootstrap resamples of patients.

    Raises
    ------
    EcgkitError
        If a value is invalid.
    """

    sessions: str = ""
    dataset: str | None = None
    label_set: str | None = None
    ensembles: str = ",".join(METHODS)
    resamples: int = RESAMPLES

    def __post_init__(self) -> None:
        check_types(self)
        for method in split_names(self.ensembles):
            check_choice("ensemble", method, METHODS)
        if self.resamples < 1:
            raise EcgkitError(f"resamples is {self.resamples}: pass a positive number")

    @classmethod
    def resolve(cls, root: Path, **settings: Any) -> ComparisonConfig:
        """Complete the settings that are not None; the sessions must exist and be finished."""
        config = cls(**{name: value for name, value in settings.items() if value is not None})
        find_members(config, root)
        return config

    def inputs(self, root: Path) -> dict[str, Any]:
        """Return the checksum of each member's predictions."""
        # A name can be used again after a session was deleted, and fold 10 of a session can be opened later.
        members, _ = find_members(self, root)
        return {"members": predictions_sha256(members)}


def is_ensemble(session: Session) -> bool:
    """Return True if a session is an ensemble of others."""
    return sessions.read_config(session).get("model") == ENSEMBLE


def predictions_sha256(members: Sequence[Session]) -> dict[str, str]:
    """Return the SHA-256 of the predictions of each session, by name."""
    return {session.name: file_sha256(session.path / "predictions.parquet") for session in members}


def split_names(text: str) -> list[str]:
    """Split a list of names at its commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def find_members(config: ComparisonConfig, root: Path) -> tuple[list[Session], list[str]]:
    """Find the sessions that take part; if all are compared, also one sentence per session that does not."""
    left_out: list[str] = []
    if names := split_names(config.sessions):
        if given := [key for key in ("dataset", "label_set") if getattr(config, key) is not None]:
            value = getattr(config, given[0])
            raise EcgkitError(f"{given[0]} is {value} and sessions are named: pass one of them")
        members = [sessions.open_finished(name, paths.TRAINING, root) for name in names]
    else:
        members, left_out = _all_alike(config, root)
    if len({session.name for session in members}) < 2:
        raise EcgkitError(f"{members[0].name} alone cannot be compared: train another model or seed, or name two")
    return members, left_out


def _all_alike(config: ComparisonConfig, root: Path) -> tuple[list[Session], list[str]]:
    """Find the finished trainings of one dataset and label set, and the reasons why the others take no part."""
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
    """Return the reason why a session takes no part if all trainings are compared; empty if it does."""
    if not session.is_done:
        return "it is not finished"
    if target := session.config.get("target"):
        return f"it was trained for {target}"
    if is_ensemble(session):
        return "it is an ensemble, and ensembles are made again from the sessions that take part"
    if (session.path / "metrics.json").is_file() and "fold_10" not in read_metrics(session):
        return f'fold 10 has not been evaluated; run "ecgkit evaluate {session.name}"'
    original = sessions.original_of(session)
    return f"it reproduces {original}, and one model counts once" if original else ""
