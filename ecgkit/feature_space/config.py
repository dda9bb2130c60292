"""The parameters of an analysis of a feature space."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecgkit import paths, sessions
from ecgkit.datasets import check_contents, open_dataset, read_manifest
from ecgkit.errors import EcgkitError, check_least, check_seed, check_types
from ecgkit.feature_space.target_sessions import prediction_files, read_target_sessions
from ecgkit.io import file_sha256
from ecgkit.sessions import LATEST, Session
from ecgkit.stats.labels import MEANS
from ecgkit.stats.resampling import RESAMPLES

MAX_CLUSTERS = 12
"""The largest number of clusters that is chosen from the number of classes."""

SMALL = 5000
"""With fewer records, such as those of the demo, fewer layers and resamples are enough."""

ALL_LAYERS = 1000
"""More layers than any network has."""


@dataclass(frozen=True)
class FeatureSpaceConfig:
    """Every parameter of an analysis of a feature space.

    Attributes
    ----------
    training_session : str
        Name of a finished training session; "latest" is the newest one.
    clusters : int or None
        Number of clusters; by default the number of classes, but at most 12.
    neighbours : int
        Number of neighbours that UMAP keeps a record close to.
    seed : int
        Seed of clusters, maps, splits of the probes, and the first untrained encoder.
    vectors : str
        A .npy file of another program's embeddings, which are analysed instead of the session's own; a table of
        record_id is next to it, as .parquet or .csv.
    target_sessions : str
        Training sessions of "train --target", separated by commas, that are compared with the probes.
    resamples : int or None
        Bootstrap resamples of the probes; by default 1,000, or 200 with fewer than 5,000 records.
    layers : int or None
        Number of layers before the embedding that are probed; by default all, or 2 with fewer than 5,000 records.
    repeats : int or None
        Bootstraps of the stability of clusters; by default 8, or 3 with fewer than 5,000 records.

    Raises
    ------
    EcgkitError
        If a value does not fit.
    """

    training_session: str = LATEST
    clusters: int | None = None
    neighbours: int = 15
    seed: int = 0
    vectors: str = ""
    target_sessions: str = ""
    resamples: int | None = None
    layers: int | None = None
    repeats: int | None = None

    def __post_init__(self) -> None:
        check_types(self)
        check_least(self, clusters=2, neighbours=2, resamples=10, layers=0, repeats=2)
        check_seed(self.seed)

    @classmethod
    def resolve(cls, root: Path, **settings: Any) -> FeatureSpaceConfig:
        """Complete the settings that are not None: the session's name, the number of clusters, an absolute path.

        Raises
        ------
        EcgkitError
            If a session is not finished or not of the needed kind, its dataset has changed, or a value does not fit.
        """
        values = {name: value for name, value in settings.items() if value is not None}
        session = sessions.open_finished(values.get("training_session", LATEST), paths.TRAINING, root)
        check_dataset(session, root)
        values["training_session"] = session.name
        values.setdefault("clusters", min(max(2, n_classes(session)), MAX_CLUSTERS))
        is_small = n_records(session, root) < SMALL
        values.setdefault("resamples", 200 if is_small else RESAMPLES)
        values.setdefault("layers", 2 if is_small else ALL_LAYERS)
        values.setdefault("repeats", 3 if is_small else 8)
        if path := values.get("vectors"):
            values["vectors"] = str(Path(path).expanduser().absolute())
            _check_vectors(values["vectors"], session, root)
        read_target_sessions(values.get("target_sessions", ""), root)
        return cls(**values)

    def inputs(self, root: Path) -> dict[str, Any]:
        """Return the checksums of all files that are read, the dataset's fingerprint, and results of other commands."""
        from ecgkit.feature_space.vectors import table_of

        session = sessions.open_finished(self.training_session, paths.TRAINING, root)
        found: dict[str, Any] = {"weights_sha256": file_sha256(session.best_weights)}
        found["dataset_fingerprint"] = session.config["dataset_fingerprint"]
        if self.vectors:
            found["vectors_sha256"] = file_sha256(Path(self.vectors))
            found["vectors_table_sha256"] = file_sha256(table_of(Path(self.vectors)))
        if self.target_sessions:
            found["targets_sha256"] = [file_sha256(path) for path in prediction_files(self.target_sessions, root)]
        return found | {"read": other_results(session, self.seed)}


def _check_vectors(path: str, session: Session, root: Path) -> None:
    """Refuse vectors that cannot be analysed, before anything is computed."""
    from ecgkit.feature_space.vectors import read_vectors  # scikit-learn takes a second to import

    folder = root / paths.PROCESSED / session.config["dataset"]
    read_vectors(path, open_dataset(folder, label_set=session.config["label_set"] or None).records)


def check_dataset(session: Session, root: Path) -> None:
    """Refuse an ensemble, a training without classes or fold 10, and one whose dataset has changed since."""
    config = session.config
    if target := config.get("target"):
        raise EcgkitError(f"{session.name} was trained for {target} and has no classes: choose one with a label set")
    if config.get("model") == "ensemble":
        members = ", ".join(config.get("members", ()))
        raise EcgkitError(f"{session.name} is an ensemble and has no network: choose a member ({members})")
    if "fold_10" not in session.read_json("metrics.json"):
        raise EcgkitError(
            f"{session.name} was trained with --no-test, and this notebook reads fold 10: open it once with "
            f'"ecgkit evaluate {session.name}", or choose another session'
        )
    folder = root / paths.PROCESSED / config["dataset"]
    if check_contents(folder)["fingerprint"] != config.get("dataset_fingerprint"):
        raise EcgkitError(f"{folder} is not the dataset that {session.name} was trained on: make it again, or retrain")


def n_classes(session: Session) -> int:
    """Return the number of classes of a finished training."""
    return len(session.read_json("metrics.json")["fold_9"].keys() - set(MEANS))


def n_records(session: Session, root: Path) -> int:
    """Return the number of records of a training's dataset."""
    return int(read_manifest(root / paths.PROCESSED / session.config["dataset"])["n_records"])


def other_results(session: Session, seed: int) -> list[str]:
    """Return the untrained encoders that were embedded, so that a run after another embedding is another run."""
    found = {path.parent.name for path in session.path.glob("cache/embeddings/untrained_*/embedding.json")}
    return sorted(found - {f"untrained_{seed}"})  # the notebook itself computes this one
