"""The parameters of a comparison, and the sessions that take part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecgkit import paths, sessions
from ecgkit.errors import EcgkitError, check_choice, check_least, check_types, split_names
from ecgkit.evaluation.comparison import is_ensemble
from ecgkit.io import file_sha256
from ecgkit.sessions import Session
from ecgkit.stats.ensembles import METHODS
from ecgkit.stats.resampling import RESAMPLES


@dataclass(frozen=True)
class ComparisonConfig:
    """Every parameter of a comparison.

    Attributes
    ----------
    sessions : str
        Names of training sessions, separated by commas; empty for all finished ones of one dataset and label set.
    dataset : str or None
        Name of the dataset, if all are compared; by default that of the newest session.
    label_set : str or None
        Name of the label set, if all are compared; by default that of the newest session.
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
        check_least(self, resamples=40)  # the 2.5 percentile of fewer lies beyond all of them

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


def predictions_sha256(members: Sequence[Session]) -> dict[str, str]:
    """Return the SHA-256 of the predictions of each session, by name."""
    return {session.name: file_sha256(session.path / "predictions.parquet") for session in members}


def find_members(config: ComparisonConfig, root: Path) -> tuple[list[Session], list[str]]:
    """Find the sessions that take part; if all are compared, also one sentence per session that does not."""
    from ecgkit.evaluation.leaderboard import comparable

    wanted = {key: getattr(config, key) for key in ("dataset", "label_set") if getattr(config, key) is not None}
    if (names := split_names(config.sessions)) and wanted:
        key, value = next(iter(wanted.items()))
        raise EcgkitError(f"{key} is {value} and sessions are named: pass one of them")
    named = [sessions.open_finished(name, paths.TRAINING, root) for name in names]
    chosen, left_out = (named, []) if names else _all_alike(wanted, root)
    entries, others = comparable(chosen)
    if names and others:
        raise EcgkitError(f"{', '.join(names)} cannot all be compared: {others[0]}")
    if not entries:
        what = " ".join(wanted.values()) or "any dataset"
        raise EcgkitError(f'no finished training of {what} in {root / paths.TRAINING}: make one by "ecgkit train"')
    members = [entry.session for entry in entries]
    if len({session.name for session in members}) < 2:
        raise EcgkitError(f"{members[0].name} alone cannot be compared: train another model or seed, or name two")
    return members, [*left_out, *others]


def _all_alike(wanted: Mapping[str, str], root: Path) -> tuple[list[Session], list[str]]:
    """Find the trainings of one dataset and label set, and the reasons why the others take no part."""
    chosen, left_out = [], []
    for session in sessions.list_sessions(paths.TRAINING, root):
        if reason := _no_part(session, wanted):
            left_out.append(f"{session.name} is left out: {reason}")
        else:
            chosen.append(session)
    return chosen, left_out


def _no_part(session: Session, wanted: Mapping[str, str]) -> str:
    """Return the reason why a session takes no part although it could be compared; empty if it does."""
    config = sessions.read_config(session)
    for key, value in wanted.items():
        if config.get(key) != value:
            return f"its {key} is {config.get(key)}, not {value}"
    if is_ensemble(session):
        return "it is an ensemble, and ensembles are made again from the sessions that take part"
    original = sessions.original_of(session)
    return f"it reproduces {original}, and one model counts once" if original else ""
