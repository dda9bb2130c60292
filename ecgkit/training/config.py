"""The configuration of a training: settings of the user, completed by the model's recipe and by defaults."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NotRequired, TypedDict, get_type_hints

from ecgkit import paths
from ecgkit.datasets import default_label_set
from ecgkit.errors import EcgkitError, check_choice, shown
from ecgkit.io import checked, file_sha256, read_toml
from ecgkit.models.names import check_name, is_user_file, locate
from ecgkit.stats.folds import TRAIN_FOLDS
from ecgkit.training.base_config import (
    HARDWARE,
    RANDOM,
    FittingConfig,
    model_options,
    named_manifest,
    resolve_hardware,
    starts_from_weights,
)
from ecgkit.training.targets import QUANTITIES, TARGETS

if TYPE_CHECKING:
    from ecgkit.sessions import Session

# torch, the models and the losses are imported where they are needed: the command line only lists the fields.

RECIPES = Path(__file__).resolve().parent / "recipes"
UNLABELLED = ("drop", "negative")
SHARES_WITH_ONE = ("train_fraction", "distill_weight")
INPUTS = ("dataset_fingerprint", "model_sha256", "init_sha256", "distill_sha256")
"""Keys of ``config.json`` next to the fields: fingerprints of dataset, model file, first weights and soft labels."""
OF_A_RUN = ("seed", "test", "save_every_epoch", "device")
"""Fields in which the runs of one configuration may differ: none of them is a choice about the model."""
OPTION_TABLES = ("model_options", "loss_options", "robustness", "auxiliary")
"""Fields that hold options by name."""
LEARNING_RATE_SHARE = 0.1
"""The learning rate of a whole network that was trained before, as a share of the recipe's."""
WHOLE = {"init": "", "hold_out_folds": [], "train_fraction": 1.0}
"""With other values than these, soft labels of a recipe are left out: they know the labels of all of folds 1-8."""
FOR_QUANTITIES = {"loss": "mse", "mixup": 0.0}
"""Changes of a recipe, which is chosen for labels, if the target is a quantity."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(FittingConfig):
    """Every parameter of a training, as resolved; ``config.json`` holds these fields and those of `FittingConfig`.

    Attributes
    ----------
    model : str
        Name of an architecture, or a class of your own in a file of your own, such as ``my_model.py:MyNet``.
    label_set : str
        Name of a label set of the dataset (PTB-XL: superclass, subclass, diagnostic, form, rhythm, all); by default its
        first.
    auxiliary : dict
        Further label sets that heads of their own learn from the same features, each with the weight of its loss, such
        as ``{"all": 0.5}``; the finished model has the label set alone.
    target : str
        Train for age (years), height (cm), weight (kg) or sex instead of a label set; empty for a label set.
    weight_average : float
        Decay per step of a moving average of the weights, such as 0.999, which is then what fold 9 reads and what is
        kept; 0 for none.
    patience : int
        Epochs without improvement on fold 9 after which training stops.
    min_records : int
        Leave out classes with fewer records than this in folds 1-8.
    unlabelled : str
        Records of folds 1-8 whose labels are all false where that means unlabelled: drop leaves them out of the
        training, negative counts them as negative for each class. Folds 9 and 10 are not affected.
    metadata : bool
        Also give age and sex to the model.
    test : bool
        Evaluate the best epoch on fold 10; otherwise fold 10 is not read.
    save_every_epoch : bool
        Keep the weights of every epoch, not only those of the best.
    loss : str
        Loss function: bce, weighted_bce, focal or asymmetric for labels, mse for age, height and weight.
    loss_options : dict
        Options of the loss, such as ``{"gamma": 2.0}`` for focal; see `ecgkit.training.losses`.
    crop_seconds : float
        Length of the random crops to train on, in seconds, or 0 for whole records; whole records are then read in
        windows of this length.
    crops_per_record : int
        Crops taken of each record per epoch.
    mixup : float
        Parameter of the beta distribution by which pairs of records are mixed, or 0 for no mixing.
    time_shift : float
        Largest circular shift of a record, in seconds; crops are not shifted.
    amplitude : float
        Largest relative change of a record's amplitude.
    lead_dropout : float
        Probability that a lead is set to its mean, from 0 to below 1.
    noise : float
        Standard deviation of added white noise, in standard deviations of the lead.
    baseline : float
        Largest amplitude of an added slow sine wave, in standard deviations of the lead.
    robustness : dict
        Probability with which each fault of a recording is planted in a record, such as ``{"wander": 0.2, "leads":
        0.1}``: offset, wander, hum, lead (one is flat), leads (a group is flat), gap, low_pass (40 Hz).
    init : str
        Start from these weights: a model that ships, a finished training session, a finished pretraining such as
        ``pretraining_sessions/session_1``, or a model folder. Architecture and crops are theirs; a last layer for other
        classes is new, and so is another ``pooling`` of ``model_options``. The learning rate is then a tenth of the
        recipe's, unless it is set, ``freeze`` is, or the weights are of a pretraining. With ``freeze``, ``random`` is
        the control: weights of no training.
    freeze : bool
        Train the last layer only, and a pooling that is new; needs ``init``.
    train_fraction : float
        Share of the patients of folds 1-8 to train on, above 0 and up to 1, for a learning curve.
    hold_out_folds : list of int
        Folds of 1-8 that are not trained on, for the soft labels of others; see `ecgkit.training.distillation`.
    distill : str
        A file of soft labels, which ``ecgkit soft-labels`` makes, to mix with the labels of folds 1-8; empty for none.
    distill_weight : float
        Share of the soft labels in the mixture, from 0 to 1.
    recipe : str
        A recipe file of your own, which sets the parameters that are not set otherwise; empty for the model's recipe.

    Raises
    ------
    EcgkitError
        If a value has the wrong type or is not allowed.
    """

    model: str
    label_set: str = "superclass"
    auxiliary: dict[str, float] = field(default_factory=dict)
    target: str = ""
    weight_average: float = 0.0
    patience: int = 5
    min_records: int = 0
    unlabelled: str = "drop"
    metadata: bool = False
    test: bool = True
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
    robustness: dict[str, float] = field(default_factory=dict)
    init: str = ""
    freeze: bool = False
    train_fraction: float = 1.0
    hold_out_folds: list[int] = field(default_factory=list)
    distill: str = ""
    distill_weight: float = 0.5
    recipe: str = ""
    positive: ClassVar[tuple[str, ...]] = (*FittingConfig.positive, "patience", "crops_per_record", "train_fraction")
    not_negative: ClassVar[tuple[str, ...]] = (
        *FittingConfig.not_negative, "min_records", "crop_seconds", "mixup", "time_shift", "amplitude", "noise",
        "baseline",
    )  # fmt: skip
    shares: ClassVar[tuple[str, ...]] = (*FittingConfig.shares, "lead_dropout", "weight_average")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crops_per_record > 1 and not self.crop_seconds:
            raise EcgkitError(f"crops_per_record is {self.crops_per_record}, but crop_seconds is 0: set crop_seconds")
        self._check_start()
        check_choice("unlabelled", self.unlabelled, UNLABELLED)
        self._check_tables()
        self._check_target()
        from ecgkit import models
        from ecgkit.training.losses import check_loss

        check_loss(self.loss, self.loss_options)
        models.check_name(self.model)

    @property
    def skipped_tags(self) -> tuple[str, ...]:
        """Tags of the cells of ``2_Training.ipynb`` that do not apply: those about classes, for a quantity."""
        return ("classes",) if self.target in QUANTITIES else ()

    @property
    def monitor(self) -> str:
        """The column of ``history.csv`` whose largest value marks the best epoch."""
        return "validation_r2" if self.target in QUANTITIES else "validation_macro_auc"

    @classmethod
    def resolve(cls, root: Path, **settings: Any) -> TrainingConfig:
        """Complete settings: by the model's recipe for the dataset's source, then by defaults.

        Raises
        ------
        EcgkitError
            If dataset or model is missing or unknown, or a value is not allowed.
        """
        is_trained = starts_from_weights(settings.get("init"))
        if settings.get("model"):
            check_name(settings["model"])
        elif not is_trained:
            raise EcgkitError("no model is set: name one")
        manifest = named_manifest(root, settings.get("dataset"))
        if is_trained:
            from ecgkit.training.initial import initial_settings

            settings = initial_settings(settings, manifest, root)
        first = default_label_set(manifest) if manifest["labels"] else ""
        config = configure(source=manifest["source"]["name"], first_label_set=first, **settings)
        if config.label_set:
            check_choice("label set", config.label_set, manifest["labels"])
        for name in config.auxiliary:
            check_choice("auxiliary", name, [one for one in manifest["labels"] if one != config.label_set])
        config.input_samples(manifest["n_samples"], manifest["sampling_rate"])
        return config

    def input_samples(self, n_samples: int, sampling_rate: int) -> int:
        """Return the input length of the model: that of a crop, or of a whole record of ``n_samples``."""
        if not self.crop_seconds:
            return n_samples
        cropped = round(self.crop_seconds * sampling_rate)
        if not 1 <= cropped <= n_samples:
            seconds = n_samples / sampling_rate
            raise EcgkitError(f"crop_seconds is {self.crop_seconds:g}: give up to {seconds:g}, the length of a record")
        return cropped

    def inputs(self, root: Path) -> dict[str, str]:
        """Return the fingerprints of the dataset, first weights, soft labels and a user's own model file."""
        read = super().inputs(root)
        if starts_from_weights(self.init):
            from ecgkit.training.initial import initial_sha256

            read["init_sha256"] = initial_sha256(self.init, root)
        if self.distill:
            read["distill_sha256"] = file_sha256(Path(self.distill))
        return read | ({"model_sha256": file_sha256(locate(self.model)[0])} if is_user_file(self.model) else {})

    def _check_tables(self) -> None:
        """Refuse a weight that is not positive, a fault that is unknown, and what is not a probability."""
        for name, value in self.auxiliary.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise EcgkitError(f"auxiliary of {name} is {value!r}: give a positive weight")
        if not self.robustness:
            return
        from ecgkit.training.faults import FAULTS

        for name, value in self.robustness.items():
            check_choice("robustness", name, FAULTS)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise EcgkitError(f"robustness of {name} is {value!r}: give a probability from 0 to 1")

    def _check_start(self) -> None:
        """Refuse a frozen network of random weights, and more than all training records."""
        if self.freeze and not self.init:
            raise EcgkitError("freeze is set without init, but random weights have to be trained: name init")
        if self.init == RANDOM and not self.freeze:
            raise EcgkitError("init is random, the control of a frozen network: set freeze, or leave out init")
        for name in SHARES_WITH_ONE:
            if not 0 <= getattr(self, name) <= 1:
                raise EcgkitError(f"{name} is {getattr(self, name):g}: give a share up to 1")
        held_out = set(self.hold_out_folds)
        if not held_out < set(TRAIN_FOLDS) or len(held_out) < len(self.hold_out_folds):
            raise EcgkitError(f"hold_out_folds is {self.hold_out_folds}: give some of the folds 1-8, each once")
        if self.distill and self.target in QUANTITIES:
            raise EcgkitError(f"distill is for classes, and {self.target} is a quantity: leave it out")

    def _check_target(self) -> None:
        """Refuse a target that does not go with the label set, the loss or the model's input."""
        if self.target:
            check_choice("target", self.target, TARGETS)
        if bool(self.target) == bool(self.label_set):
            raise EcgkitError(
                f"label_set is {shown(self.label_set)} and target is {shown(self.target)}: give one of the two"
            )
        if (self.loss == "mse") != (self.target in QUANTITIES):
            raise EcgkitError(
                f"loss is {self.loss!r} for {self.target or self.label_set}: mse is for {', '.join(QUANTITIES)}"
            )
        if self.metadata and self.target in ("age", "sex"):
            raise EcgkitError(f"the target {self.target} is part of the metadata: train without metadata")
        if self.target and self.unlabelled != "drop":
            raise EcgkitError(
                f"unlabelled is {self.unlabelled} and the target is {self.target}: records without {self.target} are "
                "always left out; train with unlabelled = drop"
            )


def flatten_tables(data: Mapping[str, Any]) -> dict[str, Any]:
    """Turn ``[model_options] dropout`` into ``model_options.dropout``; so each of `OPTION_TABLES`, unless empty."""
    entries: dict[str, Any] = {}
    for name, entry in data.items():
        is_table = name in OPTION_TABLES and isinstance(entry, dict) and entry
        entries |= {f"{name}.{key}": value for key, value in entry.items()} if is_table else {name: entry}
    return entries


def read_recipe(
    model: str, *, source: str | None = None, label_set: str = "", recipe: str | Path | None = None
) -> dict[str, Any]:
    """Read a model's recipe.

    Parameters
    ----------
    model : str
        Name of an architecture, or a user's own; the latter has no recipe that ships.
    source : str, optional
        Name of the data's source, such as ``"demo"``; the recipe's table ``[source.NAME]`` then overrides the rest.
    label_set : str, optional
        Of the training; the table ``[source.NAME.label_set.SET]`` then overrides both.
    recipe : str or Path, optional
        Another recipe file than the one that ships.

    Returns
    -------
    dict
        Fields of `TrainingConfig`, ``model_options`` among them.

    Raises
    ------
    EcgkitError
        If the file is missing, is not TOML, or has a key that is not a field.
    """
    path = Path(recipe).expanduser() if recipe else RECIPES / f"{model}.toml"
    if not recipe and not path.is_file():
        return {}
    values: dict[str, Any] = read_toml(path, _Recipe)
    of_source = dict(values.pop("source", {}).get(source or "", {}))
    of_sets = of_source.pop("label_set", {}) if isinstance(of_source.get("label_set"), dict) else {}
    of_set = of_sets.get(label_set, {})
    values |= of_source | checked(
        of_set, dict[str, Any], f"{path}: label_set.{label_set}", way_out="correct the recipe"
    )
    _check_fields(values, f"the recipe {path} has the unknown key")
    hints = get_type_hints(TrainingConfig)
    for name, value in values.items():
        checked(value, hints[name], f"{path}: {name}", way_out="correct the recipe")
    return values


class _Recipe(TypedDict):
    source: NotRequired[dict[str, dict[str, Any]]]


def _check_fields(values: dict[str, Any], problem: str) -> None:
    """Refuse a name that is not a field of `TrainingConfig`."""
    known = {item.name for item in dataclasses.fields(TrainingConfig)}
    if unknown := sorted(values.keys() - known):
        raise EcgkitError(f"{problem} {shown(unknown[0])}: choose from {', '.join(sorted(known))}")


def configure(
    *,
    dataset: str,
    model: str,
    source: str | None = None,
    first_label_set: str = "superclass",
    recipe: str | Path | None = None,
    **settings: Any,
) -> TrainingConfig:
    """Resolve a configuration: defaults, overridden by the recipe, overridden by the settings that are not None.

    Parameters
    ----------
    dataset, model : str
        As for `TrainingConfig`.
    source : str, optional
        Name of the dataset's source, which may have its own table in the recipe.
    first_label_set : str, default "superclass"
        The label set if neither recipe nor settings name one.
    recipe : str or Path, optional
        Another recipe file than the one that ships.
    **settings
        Fields of `TrainingConfig`; None leaves the recipe's value.

    Returns
    -------
    TrainingConfig
        Without ``"auto"``; with every option of architecture and loss, and the absolute path of a user's own model.

    Raises
    ------
    EcgkitError
        If a name is unknown, a value is not allowed, or there is no GPU and ``device`` is ``"cuda"``.
    """
    from ecgkit import models
    from ecgkit.training.losses import resolve_loss_options

    _check_fields(settings, "unknown parameter")
    chosen = {name: value for name, value in settings.items() if value is not None}
    if models.is_user_file(model):
        model = models.absolute_spec(model)
    values: dict[str, Any] = {"label_set": first_label_set, **HARDWARE}
    label_set = "" if chosen.get("target") else chosen.get("label_set", first_label_set)
    values |= read_recipe(model, source=source, label_set=label_set, recipe=recipe)
    if any(chosen.get(name, default) != default for name, default in WHOLE.items()):
        values.pop("distill", None)
    if target := (values | chosen).get("target"):
        values |= {"label_set": ""} | (FOR_QUANTITIES if target in QUANTITIES else {})
    # A pretrained encoder knows no labels yet: at a tenth of the rate it learns them too slowly (docs/recipes.md).
    has_labels = chosen.get("init") and not paths.is_pretraining(chosen["init"])
    if has_labels and not chosen.get("freeze"):
        values["learning_rate"] = LEARNING_RATE_SHARE * values.get("learning_rate", TrainingConfig.learning_rate)
    values |= chosen
    values |= resolve_hardware(values["device"], values["precision"])
    if values.get("distill"):
        values["distill"] = str(_soft_label_file(values["distill"]))
    values["loss_options"] = resolve_loss_options(values.get("loss", "bce"), values.get("loss_options", {}))
    values["model_options"] = model_options(model, values.get("model_options", {}))
    try:
        return TrainingConfig(**(values | {"dataset": dataset, "model": model, "recipe": ""}))
    except EcgkitError as error:
        if not recipe:
            raise
        raise EcgkitError(f"with the recipe {recipe}: {error}") from error


def _soft_label_file(name: str) -> Path:
    """Return the absolute path of a file of soft labels: one that ships next to the recipes, or any other."""
    file = RECIPES / name if (RECIPES / name).is_file() else Path(name).expanduser().absolute()
    if not file.is_file():
        raise EcgkitError(f"no file {file}: make soft labels with `ecgkit soft-labels`, or leave out distill")
    return file


class _Recorded(TypedDict):
    """What has to be text in ``config.json`` before the model is looked up."""

    model: str
    dataset: str


def recorded_config(session: Session) -> TrainingConfig:
    """Read the configuration that a training session recorded.

    Parameters
    ----------
    session : Session
        A training session, not an ensemble.

    Returns
    -------
    TrainingConfig
        Its model is the session's own copy where the user's own file was trained.

    Raises
    ------
    EcgkitError
        If it lacks a parameter of this version, or has one that this version does not know.
    """
    from ecgkit import models

    path = session.path / "config.json"
    recorded = {name: value for name, value in session.config.items() if name not in INPUTS}
    try:
        checked(recorded, _Recorded, str(path), way_out="train again")
        if models.is_user_file(recorded["model"]):
            recorded["model"] = models.absolute_spec(Path(recorded["model"]).name, session.path / "weights")
        config = TrainingConfig(**recorded)
        # An option that was added later would take a default that the session was not trained with.
        if lacking := sorted(model_options(config.model, {}).keys() - config.model_options.keys()):
            raise TypeError(f"no {lacking[0]!r} of {config.model}")
    except TypeError as error:
        raise EcgkitError(f"{path} is of another version of ecgkit ({error}): install that, or train again") from error
    return config
