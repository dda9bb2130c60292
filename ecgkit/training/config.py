"""What a training is: a frozen dataclass, filled from a model's recipe and from what the user sets."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ecgkit import paths
from ecgkit.datasets import read_manifest
from ecgkit.errors import EcgkitError, check_choice, check_types
from ecgkit.inference.batches import has_bfloat16
from ecgkit.models import MODELS, resolve_options
from ecgkit.sessions import Session
from ecgkit.training.losses import make_loss, resolve_loss_options

RECIPES = Path(__file__).resolve().parent / "recipes"
AUTO = "auto"
PRECISIONS = ("float32", "bfloat16")
SCHEDULES = ("one_cycle", "cosine", "constant")
NOT_NEGATIVE = (
    "weight_decay",
    "seed",
    "min_records",
    "crop_seconds",
    "mixup",
    "time_shift",
    "amplitude",
    "noise",
    "baseline",
)


@dataclass(frozen=True)
class TrainingConfig:
    """Every parameter of a training, as resolved; ``config.json`` holds exactly this.

    Attributes
    ----------
    dataset : str
        Name of a processed dataset.
    model : str
        Name of an architecture.
    label_set : str
        Name of a label set of the dataset.
    epochs : int
        Passes over folds 1-8.
    batch_size : int
        Records a step (on several GPUs: on each).
    learning_rate : float
        Peak of the schedule.
    weight_decay : float
        AdamW's, on weights; biases and normalisation are left alone.
    schedule : str
        ``"one_cycle"``, ``"cosine"`` or ``"constant"``, each after the warm-up.
    warm_up : float
        Share of the steps in which the learning rate rises.
    gradient_clip : float
        Largest norm of the gradient.
    patience : int
        Epochs without a better macro AUC on fold 9 after which training stops.
    seed : int
        What everything random follows from.
    min_records : int
        Classes with fewer records in folds 1-8 are left out.
    metadata : bool
        Whether the model also sees age and sex.
    precision : str
        ``"bfloat16"`` (autocast) or ``"float32"``; `configure` resolves ``"auto"`` to what the machine has.
    save_every_epoch : bool
        Whether the weights of each epoch are kept, besides the best.
    loss : str
        ``"bce"``, ``"weighted_bce"``, ``"focal"`` or ``"asymmetric"``.
    loss_options : dict
        The loss's own numbers, see `ecgkit.training.losses`.
    crop_seconds : float
        Length of the random crops that the model is trained on; it then reads a whole record in windows of this length.
        0 for training on whole records.
    crops_per_record : int
        Crops of each record in an epoch.
    mixup : float
        Parameter of the beta distribution that pairs of records are mixed by; 0 for no mixing.
    time_shift : float
        Largest circular shift, in seconds; crops, which fall anywhere, are not shifted as well.
    amplitude : float
        Largest relative change of the amplitude.
    lead_dropout : float
        Probability that a lead is silenced.
    noise : float
        Standard deviation of added white noise, in standard deviations of the lead.
    baseline : float
        Amplitude of an added slow sine wave, in standard deviations of the lead.
    model_options : dict
        The architecture's own keywords.
    test : bool
        Whether fold 10 is evaluated; without it, `ecgkit evaluate SESSION` can do so later, once.
    recipe : str
        Another recipe file than the model's own; `resolve` fills the other fields from it and leaves this one empty.

    Raises
    ------
    EcgkitError
        If a value has the wrong type or lies outside what is allowed.
    """

    dataset: str
    model: str
    epochs: int
    batch_size: int
    learning_rate: float
    label_set: str = "superclass"
    weight_decay: float = 0.01
    schedule: str = "one_cycle"
    warm_up: float = 0.25
    gradient_clip: float = 1.0
    patience: int = 5
    seed: int = 0
    min_records: int = 0
    metadata: bool = False
    precision: str = "float32"
    save_every_epoch: bool = False
    loss: str = "bce"
    loss_options: dict[str, Any] = field(default_factory=dict)
    crop_seconds: float = 0.0
    crops_per_record: int = 1
    mixup: float = 0.0
    time_shift: float = 10.0
    amplitude: float = 0.1
    lead_dropout: float = 0.0
    noise: float = 0.0
    baseline: float = 0.0
    model_options: dict[str, Any] = field(default_factory=dict)
    test: bool = True
    recipe: str = ""

    def __post_init__(self) -> None:
        check_types(self)
        check_choice("model", self.model, MODELS)
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("schedule", self.schedule, SCHEDULES)
        make_loss(self.loss, self.loss_options, positive_share=torch.ones(1))
        for item in dataclasses.fields(self):
            if isinstance(value := getattr(self, item.name), float) and not math.isfinite(value):
                raise EcgkitError(f"{item.name} is {value}: give a finite number")
        for name in ("epochs", "batch_size", "learning_rate", "patience", "gradient_clip", "crops_per_record"):
            if not getattr(self, name) > 0:
                raise EcgkitError(f"{name} is {getattr(self, name)}: give a positive number")
        for name in NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise EcgkitError(f"{name} is {getattr(self, name)}: give zero or a positive number")
        for name in ("warm_up", "lead_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise EcgkitError(f"{name} is {getattr(self, name)}: give a share from 0 to below 1")
        if self.crops_per_record > 1 and not self.crop_seconds:
            raise EcgkitError(f"crops_per_record is {self.crops_per_record} and there are no crops: set crop_seconds")

    @classmethod
    def resolve(cls, root: Path, **settings: Any) -> TrainingConfig:
        """Complete the settings that are not None: by the model's recipe for the dataset's source, then by defaults.

        Raises
        ------
        EcgkitError
            If dataset or model is missing or unknown, or a value does not fit.
        """
        for name in ("dataset", "model"):
            if not settings.get(name):
                raise EcgkitError(f"no {name} is set: name one")
        check_choice("model", settings["model"], MODELS)
        manifest = read_manifest(root / paths.PROCESSED / settings["dataset"])
        config = configure(source=manifest["source"]["name"], **settings)
        check_choice("label set", config.label_set, manifest["labels"])
        if config.crop_seconds > (seconds := manifest["n_samples"] / manifest["sampling_rate"]):
            raise EcgkitError(
                f"crop_seconds is {config.crop_seconds:g}: give up to {seconds:g}, the length of a record"
            )
        return config

    def inputs(self, root: Path) -> dict[str, Any]:
        """Return the fingerprint of the dataset."""
        return {"dataset_fingerprint": read_manifest(root / paths.PROCESSED / self.dataset)["fingerprint"]}


def read_recipe(model: str, *, source: str | None = None, recipe: str | Path | None = None) -> dict[str, Any]:
    """Read a model's recipe.

    Parameters
    ----------
    model : str
        Name of an architecture.
    source : str, optional
        Name of the data's source, such as ``"demo"``; what the recipe says under ``[source.NAME]`` then comes on top.
    recipe : str or Path, optional
        Another recipe file than the one that ships.

    Returns
    -------
    dict
        Fields of `TrainingConfig`, ``model_options`` among them.

    Raises
    ------
    EcgkitError
        If the model is unknown, or the file is missing, is no TOML, or has a key that is no field.
    """
    check_choice("model", model, MODELS)
    path = Path(recipe).expanduser() if recipe else RECIPES / f"{model}.toml"
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EcgkitError(f"cannot read the recipe {path}: {error}") from error
    of_sources = _table(path, "source", values.pop("source", {}))
    values |= _table(path, f"source.{source}", of_sources.get(source or "", {}))
    for name in ("model_options", "loss_options"):
        _table(path, name, values.get(name, {}))
    known = {item.name for item in dataclasses.fields(TrainingConfig)}
    if unknown := sorted(values.keys() - known):
        raise EcgkitError(
            f"the recipe {path} has the unknown key {unknown[0]!r}: choose from {', '.join(sorted(known))}"
        )
    return values


def _table(path: Path, name: str, value: object) -> dict[str, Any]:
    """Check that something in a recipe is a table."""
    if not isinstance(value, dict):
        raise EcgkitError(f"the recipe {path} has {name} = {value!r}: write a table, [{name}]")
    return value


def configure(
    *, dataset: str, model: str, source: str | None = None, recipe: str | Path | None = None, **settings: Any
) -> TrainingConfig:
    """Fill a configuration: defaults, then the recipe, then what is set (None sets nothing).

    Parameters
    ----------
    dataset, model : str
        As of `TrainingConfig`.
    source : str, optional
        Name of the dataset's source, which may have its own part of the recipe.
    recipe : str or Path, optional
        Another recipe file than the one that ships.
    **settings
        Fields of `TrainingConfig`; None leaves the recipe's value.

    Returns
    -------
    TrainingConfig

    Raises
    ------
    EcgkitError
        If a name is unknown or a value does not fit.
    """
    known = {item.name for item in dataclasses.fields(TrainingConfig)}
    if unknown := sorted(settings.keys() - known):
        raise EcgkitError(f"unknown parameter {unknown[0]!r}: choose from {', '.join(sorted(known))}")
    given = {name: value for name, value in settings.items() if value is not None}
    values = {"precision": AUTO} | read_recipe(model, source=source, recipe=recipe) | given
    if values["precision"] == AUTO:
        values["precision"] = "bfloat16" if has_bfloat16() else "float32"
    values["loss_options"] = resolve_loss_options(values.get("loss", "bce"), values.get("loss_options", {}))
    values["model_options"] = model_options(model, values.get("model_options", {}))
    return TrainingConfig(**(values | {"dataset": dataset, "model": model, "recipe": ""}))


def recorded_config(session: Session) -> TrainingConfig:
    """Read the configuration that a training session recorded.

    Parameters
    ----------
    session : Session
        A training session, not an ensemble.

    Returns
    -------
    TrainingConfig

    Raises
    ------
    EcgkitError
        If it lacks a parameter of this version, or has one that this version does not know.
    """
    recorded = {name: value for name, value in session.config.items() if name != "dataset_fingerprint"}
    try:
        config = TrainingConfig(**recorded)
        # An option that came later would take a default that the session was not trained with.
        if lacking := sorted(model_options(config.model, {}).keys() - config.model_options.keys()):
            raise TypeError(f"it does not say {lacking[0]!r} of {config.model}")
    except TypeError as error:
        raise EcgkitError(
            f"{session.path / 'config.json'} is of another version of ecgkit ({error}): install that, or train again"
        ) from error
    return config


def model_options(model: str, given: dict[str, Any]) -> dict[str, Any]:
    """Resolve an architecture's own keywords: its defaults, then what is given; sequences as JSON has them.

    Raises
    ------
    EcgkitError
        If the architecture has no keyword of this name.
    """
    options = resolve_options(model, given)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
