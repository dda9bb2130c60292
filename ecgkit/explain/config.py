"""The parameters of an explanation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecgkit import paths, sessions
from ecgkit.errors import check_least, check_types
from ecgkit.feature_space.config import SMALL, check_dataset, n_records
from ecgkit.io import file_sha256
from ecgkit.sessions import LATEST
from ecgkit.stats.resampling import RESAMPLES


@dataclass(frozen=True)
class ExplainabilityConfig:
    """Every parameter of an explanation.

    Attributes
    ----------
    training_session : str
        Name of a finished training session; "latest" is the newest one.
    seed : int
        Seed of everything random.
    resamples : int or None
        Bootstrap resamples of the intervals; None means 1,000, or 200 with fewer than 5,000 records.

    Raises
    ------
    EcgkitError
        If a value is invalid.
    """

    training_session: str = LATEST
    seed: int = 0
    resamples: int | None = None

    def __post_init__(self) -> None:
        check_types(self)
        check_least(self, seed=0, resamples=10)

    @classmethod
    def resolve(cls, root: Path, **settings: Any) -> ExplainabilityConfig:
        """Complete the settings that are not None: the session's name, and the number of resamples."""
        values = {name: value for name, value in settings.items() if value is not None}
        session = sessions.open_finished(values.get("training_session", LATEST), paths.TRAINING, root)
        check_dataset(session, root)
        values.setdefault("resamples", 200 if n_records(session, root) < SMALL else RESAMPLES)
        return cls(**(values | {"training_session": session.name}))

    def inputs(self, root: Path) -> dict[str, Any]:
        """Return the checksum of the weights and the dataset's fingerprint."""
        session = sessions.open_finished(self.training_session, paths.TRAINING, root)
        fingerprint = session.config["dataset_fingerprint"]
        return {"weights_sha256": file_sha256(session.best_weights), "dataset_fingerprint": fingerprint}
