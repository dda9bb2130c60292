"""What a search varies: fields of a training's configuration, each with a range or a list of choices."""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ecgkit.errors import EcgkitError
from ecgkit.training.config import TrainingConfig, model_options

DEFAULT = Path(__file__).resolve().parent / "spaces" / "default.toml"
"""The space that ships."""

TABLES = ("model_options", "loss_options")
"""Fields that hold names of their own; a space calls these ``model_options.dropout``."""

NOT_SEARCHED = ("dataset", "model", "label_set", "min_records", "seed", "precision", "save_every_epoch")
"""Fields that trials must share, or their AUCs are of different tasks, different luck or different machines."""

KEYS = ("low", "high", "log", "step")


class Suggests(Protocol):
    """What a space asks for values; an `optuna.Trial` is one."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Suggest a number."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Suggest a whole number."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Suggest one of several values."""


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included.

    Attributes
    ----------
    low, high : float
        The ends.
    log : bool
        Whether ratios count and not differences.
    step : float or None
        The values are ``low``, ``low + step`` and so on.
    whole : bool
        Whether only whole numbers are meant.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False

    @property
    def corners(self) -> list[Any]:
        """The values that are checked before a search begins."""
        return [self.low, self.high]

    def suggest(self, trial: Suggests, name: str) -> float:
        """Ask a trial for a value."""
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def decoded(self, kept: Any) -> Any:
        """Give a value that a trial keeps as the configuration takes it."""
        return kept

    def encoded(self, value: Any) -> Any:
        """Give a value as a trial keeps it; None if it lies outside or between two steps."""
        if not isinstance(value, (int, float)) or not self.low <= value <= self.high:
            return None
        steps = (value - self.low) / self.step if self.step else 0
        return value if math.isclose(steps, round(steps), abs_tol=1e-9) else None


@dataclass(frozen=True)
class Choices:
    """A list of values.

    Attributes
    ----------
    values : tuple
        Of whatever type the field takes.
    """

    values: tuple[Any, ...]

    @property
    def corners(self) -> list[Any]:
        """The values that are checked before a search begins: all."""
        return list(self.values)

    @property
    def texts(self) -> list[Any]:
        """The values as a trial keeps them, which knows no lists: these as JSON."""
        return [value if isinstance(value, (str, int, float)) else json.dumps(value) for value in self.values]

    def suggest(self, trial: Suggests, name: str) -> Any:
        """Ask a trial for a value."""
        return self.decoded(trial.suggest_categorical(name, self.texts))

    def decoded(self, kept: Any) -> Any:
        """Give a value that a trial keeps as the configuration takes it."""
        return self.values[self.texts.index(kept)]

    def encoded(self, value: Any) -> Any:
        """Give a value as a trial keeps it; None if it is no choice."""
        return self.texts[self.values.index(value)] if value in self.values else None


@dataclass(frozen=True)
class Space:
    """The names that a search varies, with their ranges and choices.

    Attributes
    ----------
    dimensions : dict
        Of `Range` or `Choices`; a name is a field of `TrainingConfig`, or such as ``model_options.dropout``.
    """

    dimensions: dict[str, Range | Choices]

    @property
    def recorded(self) -> dict[str, Any]:
        """The space as JSON data."""
        return {name: dataclasses.asdict(dimension) for name, dimension in self.dimensions.items()}

    def suggest(self, trial: Suggests) -> dict[str, Any]:
        """Ask a trial for a value of every name."""
        return {name: dimension.suggest(trial, name) for name, dimension in self.dimensions.items()}

    def decoded(self, kept: dict[str, Any]) -> dict[str, Any]:
        """Give the values that a trial keeps as the configuration takes them."""
        return {name: self.dimensions[name].decoded(value) for name, value in kept.items()}

    def position_of(self, config: TrainingConfig) -> dict[str, Any] | None:
        """Give a configuration as a trial would keep it; None if it lies outside the space."""
        found = {name: dimension.encoded(look_up(config, name)) for name, dimension in self.dimensions.items()}
        return None if None in found.values() else found

    def corners(self, config: TrainingConfig) -> list[TrainingConfig]:
        """Give configurations in which each name in turn has each end of its range, and each of its choices.

        Raises
        ------
        EcgkitError
            If a value is not allowed.
        """
        first = apply(config, {name: dimension.corners[0] for name, dimension in self.dimensions.items()})
        return [
            apply(first, {name: value}) for name, dimension in self.dimensions.items() for value in dimension.corners
        ]


def look_up(config: TrainingConfig, name: str) -> Any:
    """Read the value of a name, or None where there is none."""
    table, _, key = name.rpartition(".")
    return getattr(config, table).get(key) if table else getattr(config, name)


def apply(config: TrainingConfig, values: dict[str, Any]) -> TrainingConfig:
    """Set values of a space in a configuration.

    Parameters
    ----------
    config : TrainingConfig
        What holds for all other names.
    values : dict
        By the names of a `Space`.

    Returns
    -------
    TrainingConfig

    Raises
    ------
    EcgkitError
        If a value is not allowed.
    """
    fields: dict[str, Any] = {table: dict(getattr(config, table)) for table in TABLES}
    for name, value in values.items():
        table, _, key = name.rpartition(".")
        (fields[table] if table else fields)[key] = value
    if fields.get("crop_seconds") == 0:  # a whole record costs as much as four crops of 2.5 s, and comes by once
        fields["crops_per_record"] = 1
    return dataclasses.replace(config, **fields)


def read_space(config: TrainingConfig, file: str | Path | None = None) -> Space:
    """Read a space from a TOML file, in which a name has ``{low, high}``, with ``log`` or ``step``, or a list.

    Parameters
    ----------
    config : TrainingConfig
        The recipe that it is a space around.
    file : str or Path, optional
        By default the space that ships, without the options that the architecture lacks.

    Returns
    -------
    Space

    Raises
    ------
    EcgkitError
        Naming the file and the name, if the file cannot be read, a name is unknown or not to be searched, or a range or
        a choice is not allowed.
    """
    path = Path(file).expanduser() if file else DEFAULT
    try:
        entries = flat(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise EcgkitError(f"cannot read the space {path}: {error}") from error
    if file is None:
        known = {f"model_options.{key}" for key in model_options(config.model, {})}
        entries = {name: entry for name, entry in entries.items() if "." not in name or name in known}
    if not entries:
        raise EcgkitError(f"the space {path} varies nothing: name a field, such as learning_rate = [0.001, 0.002]")
    try:
        space = Space({name: dimension_of(name, entry, kind_of(config, name)) for name, entry in entries.items()})
        space.corners(config)
    except EcgkitError as error:
        raise EcgkitError(f"the space {path}: {error}") from error
    return space


def flat(data: dict[str, Any]) -> dict[str, Any]:
    """Give the names inside ``model_options`` and ``loss_options`` their long form."""
    entries: dict[str, Any] = {}
    for name, entry in data.items():
        inner = entry if name in TABLES and isinstance(entry, dict) else None
        entries |= {name: entry} if inner is None else {f"{name}.{key}": value for key, value in inner.items()}
    return entries


def kind_of(config: TrainingConfig, name: str) -> Any:
    """Say of what type the values of a name are.

    Raises
    ------
    EcgkitError
        If there is no such name, or it is not to be searched.
    """
    hints = typing.get_type_hints(TrainingConfig)
    table, _, key = name.rpartition(".")
    if table == "model_options":
        model_options(config.model, {key: None})  # refuses what the architecture does not have
        return type(model_options(config.model, {})[key])
    if table == "loss_options":
        return float
    if name in NOT_SEARCHED:
        raise EcgkitError(f"{name} is the same for all trials: take it out")
    names = sorted(hints.keys() - {*NOT_SEARCHED, *TABLES})
    if name not in names:
        raise EcgkitError(f"unknown name {name!r}: choose from {', '.join([*names, *(f'{t}.NAME' for t in TABLES)])}")
    return hints[name]


def dimension_of(name: str, entry: Any, kind: Any) -> Range | Choices:
    """Make the range or the choices of a name.

    Raises
    ------
    EcgkitError
        If what the file says is neither.
    """
    if isinstance(entry, list):
        if not entry or any(entry.count(value) > 1 for value in entry):
            raise EcgkitError(f"{name} is {entry!r}: give a list of at least one value, each once")
        return Choices(tuple(entry))
    if not isinstance(entry, dict) or not {"low", "high"} <= entry.keys() <= set(KEYS):
        raise EcgkitError(f"{name} is {entry!r}: give a list of choices, or low and high, and log or step if wanted")
    if kind not in (int, float):
        raise EcgkitError(f"{name} is no number, and has no range: give a list of choices")
    return range_of(name, entry, kind)


def range_of(name: str, entry: dict[str, Any], kind: Any) -> Range:
    """Make a range of numbers.

    Raises
    ------
    EcgkitError
        If it is empty or endless, or its values are not of the name's type.
    """
    allowed: Any = int if kind is int else (int, float)
    low, high, step = entry["low"], entry["high"], entry.get("step")
    for key, value in {"low": low, "high": high, "step": step}.items():
        is_given = key != "step" or value is not None
        if is_given and (not isinstance(value, allowed) or isinstance(value, bool) or not math.isfinite(value)):
            raise EcgkitError(f"{key} of {name} is {value!r}: give a {'whole ' if kind is int else ''}number")
    if not low < high:
        raise EcgkitError(f"low of {name} is {low!r} and high is {high!r}: give a low below high")
    log = entry.get("log", False)
    if not isinstance(log, bool) or (log and (low <= 0 or step is not None)):
        raise EcgkitError(f"log of {name} is {log!r}: it is true or false, and true asks for a low above 0 and no step")
    if step is not None and not 0 < step <= high - low:
        raise EcgkitError(f"step of {name} is {step!r}: give one above 0 and up to high less low")
    return Range(low, high, log=log, step=step, whole=kind is int)
