"""The parameters of an explanation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecgkit import paths, sessions
from ecgkit.datasets import read_manifest
from ecgkit.errors import EcgkitError, check_choice, check_least, check_seed, check_types, split_names
from ecgkit.feature_space.config import SMALL, check_dataset
from ecgkit.inference.model_folder import WEIGHTS, find_folder, is_session_name, shipped
from ecgkit.io import file_sha256, json_or_none
from ecgkit.sessions import LATEST
from ecgkit.stats.resampling import RESAMPLES

ALL = "all"


@dataclass(frozen=True)
class ExplainabilityConfig:
    """Every parameter of an explanation.

    Attributes
    ----------
    training_session : str
        Name of a finished training session; "latest" is the newest one. Or a model that ships, or a model folder.
    dataset : str
        Processed dataset of a model that is not a training session; by default the one of the name it was trained on.
    classes : str
        The classes to explain, separated by commas, or "all"; empty means all, or the five with the most records if
        there are more than ten.
    seed : int
        Seed of everything random.
    resamples : int or None
        Bootstrap resamples of the intervals; by default 1,000, or 200 with fewer than 5,000 records.

    Raises
    ------
    EcgkitError
        If a value is invalid.
    """

    training_session: str = LATEST
    dataset: str = ""
    classes: str = ""
    seed: int = 0
    resamples: int | None = None

    def __post_init__(self) -> None:
        check_types(self)
        check_least(self, resamples=10)
        check_seed(self.seed)

    @classmethod
    def resolve(cls, root: Path, **settings: Any) -> ExplainabilityConfig:
        """Complete the settings that are not None: session or model, the model's dataset, the number of resamples.

        Raises
        ------
        EcgkitError
            If the session or model cannot be explained, or the dataset is not one for it.
        """
        values = {name: value for name, value in settings.items() if value is not None}
        name, dataset = values.get("training_session", LATEST), values.get("dataset", "")
        if is_model(name, root):
            folder = find_folder(name, root)
            dataset = values["dataset"] = dataset or (json_or_none(folder / "config.json") or {}).get("dataset", "")
            if not dataset:
                raise EcgkitError(f"{name} does not say on which dataset it was trained: name one with --dataset")
            from ecgkit.training import open_model_on  # loads torch

            known = open_model_on(name, dataset, root).trained.classes
            values["training_session"] = name if name in shipped() else str(folder)
        else:
            session = sessions.open_finished(name, paths.TRAINING, root)
            if dataset:
                raise EcgkitError(f"{session.name} is explained on its own dataset: leave out dataset {dataset!r}")
            check_dataset(session, root)
            dataset, values["training_session"] = session.config["dataset"], session.name
            known = tuple(session.read_json("thresholds.json")["thresholds"])
        for chosen in split_classes(values.get("classes", "")):
            check_choice("class", chosen, known)
        few = read_manifest(root / paths.PROCESSED / dataset)["n_records"] < SMALL
        values.setdefault("resamples", 200 if few else RESAMPLES)
        return cls(**values)

    def inputs(self, root: Path) -> dict[str, Any]:
        """Return the checksum of the weights and the dataset's fingerprint."""
        if self.dataset:
            weights = find_folder(self.training_session, root) / WEIGHTS
            fingerprint = read_manifest(root / paths.PROCESSED / self.dataset)["fingerprint"]
        else:
            session = sessions.open_finished(self.training_session, paths.TRAINING, root)
            weights, fingerprint = session.best_weights, session.config["dataset_fingerprint"]
        return {"weights_sha256": file_sha256(weights), "dataset_fingerprint": fingerprint}


def split_classes(classes: str) -> list[str]:
    """Return the names in a list of classes; none of an empty one, or of "all"."""
    return [] if classes == ALL else split_names(classes)


def is_model(name: str, root: Path) -> bool:
    """Return True for a model that ships and for a model folder that is not a training session."""
    folder = Path(name).expanduser().absolute()
    is_session = folder.parent.name == paths.TRAINING or is_session_name(name, root)
    return name in shipped() or (folder.is_dir() and not is_session)
