"""What a trained model says of a dataset's records: probabilities and embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from ecgkit import paths
from ecgkit.datasets import Dataset, open_dataset
from ecgkit.errors import EcgkitError
from ecgkit.inference.batches import BATCH, Arrays, records_at_once, run_batches
from ecgkit.inference.matching import check_made_for
from ecgkit.inference.model_folder import ENSEMBLE, WAY_OUT, Ensemble, find_folder
from ecgkit.inference.reference import N_FITTED, Reference, fit_reference
from ecgkit.inference.weights import TrainedModel, load_weights
from ecgkit.io import read_json
from ecgkit.sessions import Session
from ecgkit.stats.folds import TEST_FOLD, TRAIN_FOLDS, VALIDATION_FOLD
from ecgkit.training.config import TrainingConfig, recorded_config
from ecgkit.training.data import dataset_metadata, training_data
from ecgkit.training.lineage import check_unseen


def run_over_dataset(
    trained: TrainedModel,
    dataset: Dataset,
    positions: NDArray[np.int64],
    call: Callable[[Tensor, Tensor | None], Tensor],
    *,
    windows: int = BATCH,
    precision: str = "float32",
    progress: bool = False,
) -> NDArray[np.float32]:
    """Call a function of (signal, metadata) on batches of a dataset's records and stack the results.

    Parameters
    ----------
    trained : TrainedModel
        The model.
    dataset : Dataset
        The records.
    positions : ndarray of int64
        Which of them.
    call : callable
        As for `ecgkit.inference.batches.run_batches`.
    windows : int, default 256
        Windows per batch, of the length that the model reads at once; a batch has at least one record.
    precision : {"float32", "bfloat16"}, default "float32"
        Of the network, as for `ecgkit.inference.batches.run_batches`.
    progress : bool, default False
        Show a progress bar on standard error.

    Returns
    -------
    ndarray of float32, shape (records, ...)
    """
    size = records_at_once(trained.n_samples, dataset.n_samples, windows=windows)
    metadata = dataset_metadata(dataset, trained.scaler)

    def batches() -> Iterator[Arrays]:
        for start in range(0, len(positions), size):
            some = positions[start : start + size]
            signal = trained.preparation.network_input(dataset.signals[dataset.rows[some]])
            yield signal, None if metadata is None else metadata[some]

    return run_batches(trained.model, batches(), call, n_records=len(positions), precision=precision, progress=progress)


def check_match(trained: TrainedModel, dataset: Dataset) -> None:
    """Check that model and dataset agree: sampling rate, classes, filters, and records that are long enough.

    Raises
    ------
    EcgkitError
        Naming what differs.
    """
    what = f"the model that is to read {dataset.path}"
    check_made_for(what, trained, classes=dataset.classes or None, sampling_rate=dataset.sampling_rate)
    if (filters := dataset.preparation().filters) != trained.preparation.filters:
        raise EcgkitError(
            f"the model was trained on signals filtered by {trained.preparation.filters}, and those of {dataset.path} "
            f"were filtered by {filters}: give a dataset with the same filters"
        )
    if dataset.n_samples < trained.n_samples:
        raise EcgkitError(
            f"the model reads {trained.n_samples} samples, the records of {dataset.path} have "
            f"{dataset.n_samples}: give its own dataset"
        )


def predict(trained: TrainedModel, dataset: Dataset, positions: NDArray[np.int64]) -> NDArray[np.float32]:
    """Predict the probability of each class, or the value of a quantity in its unit.

    Parameters
    ----------
    trained : TrainedModel
        The model.
    dataset : Dataset
        Opened with the model's label set.
    positions : ndarray of int64
        Which records, as ``dataset.folds`` gives them.

    Returns
    -------
    ndarray of float32, shape (records, classes)
        Uncalibrated.

    Raises
    ------
    EcgkitError
        If model and dataset do not match.
    """
    check_match(trained, dataset)
    if not len(positions):
        return np.empty((0, len(trained.classes)), np.float32)
    return run_over_dataset(trained, dataset, positions, trained.predict)


def predict_folds(
    trained: TrainedModel, dataset: Dataset, *, folds: Sequence[int] = (VALIDATION_FOLD, TEST_FOLD)
) -> pd.DataFrame:
    """Predict fold 9, and fold 10 if the dataset was opened with it.

    Parameters
    ----------
    trained : TrainedModel
        The model.
    dataset : Dataset
        Opened with the model's label set.
    folds : sequence of int, default (9, 10)
        The folds to predict.

    Returns
    -------
    DataFrame
        ``record_id``, ``patient_id``, ``fold``, and for each class ``true_CLASS`` and ``prob_CLASS``; of a quantity,
        such as age, ``true_age`` and ``predicted_age``.
    """
    positions = dataset.folds(*folds)
    probabilities = predict(trained, dataset, positions)
    table = dataset.records.loc[positions, ["record_id", "patient_id", "fold"]].reset_index(drop=True)
    truth = dataset.labels.iloc[positions].reset_index(drop=True).add_prefix("true_")
    columns = [f"{'predicted' if trained.target else 'prob'}_{name}" for name in dataset.classes]
    return pd.concat([table, truth, pd.DataFrame(probabilities, columns=columns)], axis=1)


def predict_unlabelled(trained: TrainedModel, dataset: Dataset, *, folds: Sequence[int]) -> pd.DataFrame:
    """Predict the records of some folds that were left out since none of their labels is true.

    Parameters
    ----------
    trained : TrainedModel
        The model.
    dataset : Dataset
        Opened with the model's label set.
    folds : sequence of int
        The folds to predict.

    Returns
    -------
    DataFrame
        As `predict_folds` returns it, with every label false; without a row if there is no such record.
    """
    left_out = dataset.subset([]) if dataset.unlabelled is None else dataset.unlabelled
    return predict_folds(trained, left_out, folds=folds)


def embed(trained: TrainedModel, dataset: Dataset, positions: NDArray[np.int64]) -> NDArray[np.float32]:
    """Give the features before the head, before age and sex come in.

    Parameters
    ----------
    trained : TrainedModel
        The model.
    dataset : Dataset
        Opened with any label set; of the model's sampling rate and statistics.
    positions : ndarray of int64
        Which records.

    Returns
    -------
    ndarray of float32, shape (records, features)

    Raises
    ------
    EcgkitError
        If model and dataset do not match.
    """
    check_match(trained, dataset)
    return run_over_dataset(trained, dataset, positions, lambda signal, _: trained.model.embed(signal))


def embedding_reference(trained: TrainedModel, dataset: Dataset) -> Reference:
    """Fit what `ecgkit.inference.reference` measures unusual input against; fold 10 is not read.

    Parameters
    ----------
    trained : TrainedModel
        The model.
    dataset : Dataset
        What it was trained on.

    Returns
    -------
    Reference
        Of up to 2,000 records of folds 1-8, drawn at random, with the limit of all of fold 9.
    """
    positions = dataset.folds(*TRAIN_FOLDS)
    drawn = np.sort(np.random.default_rng(0).permutation(positions)[:N_FITTED])
    validation = dataset.folds(VALIDATION_FOLD)
    text = f"{len(drawn)} records of folds 1-8 of {dataset.name}; limit of {len(validation)} records of fold 9"
    return fit_reference(embed(trained, dataset, drawn), embed(trained, dataset, validation), text)


@dataclass(frozen=True)
class TrainedSession:
    """A finished training or a model folder, opened: its folder, its model, and a dataset."""

    session: Session
    trained: TrainedModel
    dataset: Dataset

    @property
    def config(self) -> TrainingConfig:
        """The configuration of the training."""
        return recorded_config(self.session)

    @property
    def cache(self) -> Path:
        """The folder of what is kept for later: in a session, and for a model folder with the dataset."""
        if self.session.path.parent.name == paths.TRAINING:
            return self.session.path / "cache"
        return self.dataset.path / "cache" / self.session.name


def open_trained(session: Session, root: Path, *, test: bool | None = None) -> TrainedSession:
    """Open the best checkpoint of a training session together with the dataset that it was trained on.

    Parameters
    ----------
    session : Session
        With ``config.json`` and ``weights/best.safetensors``.
    root : Path
        The folder that holds the datasets' folder.
    test : bool, optional
        Whether fold 10 of the dataset is opened; by default as the session was trained.

    Returns
    -------
    TrainedSession

    Raises
    ------
    EcgkitError
        If weights or dataset are missing, or the dataset is no longer the one that the session was trained on.
    """
    recorded = session.config
    if recorded.get("model") == "ensemble":
        raise no_network(session.name, recorded.get("members", ()))
    config = recorded_config(session)
    dataset = training_data(config, root, test=test)
    if dataset.fingerprint != recorded.get("dataset_fingerprint"):
        raise EcgkitError(f"{dataset.path} is not the dataset that {session.name} was trained on: preprocess it again")
    return TrainedSession(session, load_weights(session.best_weights), dataset)


def no_network(name: str, members: Iterable[str]) -> EcgkitError:
    """Return the error about an ensemble, of which only the members can be opened."""
    listed = ", ".join(members)
    return EcgkitError(f"{name} is an ensemble and has no network of its own: give a member ({listed})")


def open_model_on(model: str | Path, dataset: str, root: Path) -> TrainedSession:
    """Open a model that ships, or a model folder, together with a dataset that it can read.

    Parameters
    ----------
    model : str or Path
        As of `ecgkit.load_model`.
    dataset : str
        Name of a processed dataset with the model's label set, sampling rate and filters.
    root : Path
        The folder that holds the datasets' folder.

    Returns
    -------
    TrainedSession

    Raises
    ------
    EcgkitError
        If the model has no network or no classes, model and dataset do not match, a split is empty, the model has
        learned from patients in fold 9 or 10, or was trained on this dataset and fold 10 has not been opened.
    """
    folder = Session(find_folder(model, root))
    if (folder.path / ENSEMBLE).is_file():
        raise no_network(folder.name, read_json(folder.path / ENSEMBLE, Ensemble, way_out=WAY_OUT)["members"])
    if not folder.best_weights.is_file():
        raise EcgkitError(f"{folder.name} is an ONNX graph: give the model that was exported")
    trained = load_weights(folder.best_weights)
    if trained.target:
        raise EcgkitError(f"{folder.name} was trained for {trained.target.name} and has no classes: choose another")
    has_metrics = (folder.path / "metrics.json").is_file()
    if has_metrics and folder.config.get("dataset") == dataset and "fold_10" not in folder.read_json("metrics.json"):
        raise EcgkitError(
            f"{folder.name} was trained on {dataset} with --no-test, and fold 10 is still closed: open it once with "
            '"ecgkit evaluate SESSION", and export the session again'
        )
    opened = open_dataset(root / paths.PROCESSED / dataset, label_set=trained.label_set)
    check_match(trained, opened)
    opened.check_splits()
    check_unseen(folder.name, folder.path, dataset, root)
    return TrainedSession(folder, trained, opened)
