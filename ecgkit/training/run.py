"""A training from the parameters of a notebook to a trained model, begun, resumed or opened again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ecgkit import paths, sessions
from ecgkit.datasets.store import Dataset, open_dataset, read_manifest
from ecgkit.errors import EcgkitError
from ecgkit.inference.weights import TrainedModel, load_weights
from ecgkit.models.kernels import backend
from ecgkit.sessions import NEW, Session
from ecgkit.training.config import TrainingConfig, configure
from ecgkit.training.fit import fit
from ecgkit.training.inference import open_trained
from ecgkit.training.model import input_samples

NOTEBOOK = "2_Training.ipynb"


@dataclass(frozen=True)
class TrainingPlan:
    """What is going to be trained on what.

    Attributes
    ----------
    config : TrainingConfig
        Every parameter, as resolved.
    dataset : Dataset
        Opened with the label set of the configuration.
    """

    config: TrainingConfig
    dataset: Dataset

    @property
    def recorded(self) -> dict[str, Any]:
        """What ``config.json`` holds: the parameters and the dataset's fingerprint."""
        return asdict(self.config) | {"dataset_fingerprint": self.dataset.fingerprint}


@dataclass(frozen=True)
class TrainingRun:
    """A plan with the session that it runs in.

    Attributes
    ----------
    session : Session
        The session's folder.
    plan : TrainingPlan
        Configuration and dataset.
    evaluate_only : bool
        Whether the session is finished and only evaluated again.
    """

    session: Session
    plan: TrainingPlan
    evaluate_only: bool

    @property
    def config(self) -> TrainingConfig:
        """Every parameter of the training."""
        return self.plan.config

    @property
    def dataset(self) -> Dataset:
        """The dataset, opened with the label set of the configuration."""
        return self.plan.dataset

    def train(self) -> TrainedModel:
        """Train, or go on; of a finished session only read the best checkpoint."""
        if self.evaluate_only:
            return load_weights(self.session.best_weights)
        return fit(self.session, self.config, self.dataset)


def plan(*, root: Path, dataset: str, model: str, **settings: Any) -> TrainingPlan:
    """Resolve a training's parameters and open its dataset, without writing anything.

    Parameters
    ----------
    root : Path
        The folder that holds the datasets' folder.
    dataset : str
        Name of a processed dataset.
    model : str
        Name of an architecture.
    **settings
        Fields of `TrainingConfig`, or ``recipe``; None leaves the recipe's value.

    Returns
    -------
    TrainingPlan

    Raises
    ------
    EcgkitError
        If a name is unknown, a value does not fit, or the dataset lacks a fold.
    """
    folder = root / paths.PROCESSED / dataset
    # First without labels: which recipe holds depends on the source, and the label set on the recipe.
    source = read_manifest(folder)["source"]["name"]
    config = configure(dataset=dataset, model=model, source=source, **settings)
    opened = open_dataset(folder, label_set=config.label_set, min_records=config.min_records)
    opened.check_splits()
    input_samples(config, opened)
    return TrainingPlan(config, opened)


def begin(*, root: Path, session: str = NEW, evaluate_only: bool = False, **parameters: Any) -> TrainingRun:
    """Begin a training session, go on with an unfinished one, or open a finished one to evaluate it again.

    Parameters
    ----------
    root : Path
        The folder that holds data sets and sessions.
    session : str, default "new"
        ``"new"``, or the name of the session to go on with or to evaluate.
    evaluate_only : bool, default False
        Evaluate a finished session again; its own configuration then holds, whatever the other parameters say.
    **parameters
        As of `plan`.

    Returns
    -------
    TrainingRun

    Raises
    ------
    EcgkitError
        As `plan` does, or if the session does not fit what is asked.
    """
    if evaluate_only:
        if session == NEW:
            raise EcgkitError('evaluate_only needs the name of a finished session: set session, such as "session_1"')
        opened = open_trained(sessions.open_finished(session, paths.TRAINING, root), root)
        sessions.reopen(opened.session)
        return TrainingRun(opened.session, TrainingPlan(opened.config, opened.dataset), evaluate_only=True)
    planned = plan(root=root, **parameters)
    begun = sessions.begin(
        paths.TRAINING,
        root,
        config=planned.recorded,
        notebook=paths.notebook_path(NOTEBOOK),
        session=session,
        kernel_backend=backend(),
    )
    return TrainingRun(begun, planned, evaluate_only=False)
