"""The values that a search or a sweep varies: fields of a training's configuration as Optuna distributions."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecgkit.errors import EcgkitError, shown
from ecgkit.io import read_toml
from ecgkit.training.base_config import model_options
from ecgkit.training.config import OF_A_RUN, OPTION_TABLES, TrainingConfig, flatten_tables

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

DEFAULT = Path(__file__).resolve().parent / "spaces" / "default.toml"
"""The space that ships."""

NOT_VARIED = (*OF_A_RUN, "dataset", "model", "label_set", "target", "min_records", "precision", "recipe")
"""Fields that all trials share: otherwise their AUCs belong to different tasks, seeds or machines."""


def read_space(config: TrainingConfig, file: str | Path | None = None) -> dict[str, BaseDistribution]:
    """Read a space from a TOML file: a name has ``{low, high}``, with ``log`` or ``step``, or a list of choices.

    Parameters
    ----------
    config : TrainingConfig
        The recipe that the space surrounds.
    file : str or Path, optional
        By default the space that ships, without the options that the architecture lacks.

    Returns
    -------
    dict of str to optuna.distributions.BaseDistribution
        Choices that Optuna does not store, such as lists, are JSON texts.

    Raises
    ------
    EcgkitError
        If the file cannot be read, a name is unknown or not varied, or a range or a choice is not allowed.
    """
    entries = {name: entry for name, entry in flatten_tables(read_toml(file or DEFAULT)).items() if entry != {}}
    if file is None:
        known = {f"model_options.{key}" for key in model_options(config.model, {})}
        entries = {name: entry for name, entry in entries.items() if "." not in name or name in known}
    if not entries:
        raise EcgkitError(f"the space {file} varies nothing: name a field, such as learning_rate = [0.001, 0.002]")
    try:
        space = {name: distribution_of(name, entry, type_of(config, name)) for name, entry in entries.items()}
        list(ends(config, space))
    except EcgkitError as error:
        raise EcgkitError(f"the space {file or DEFAULT}: {error}") from error
    return space


def type_of(config: TrainingConfig, name: str) -> type:
    """Return the type of a name's values in the recipe; refuse a name that is unknown or not varied."""
    table, _, key = name.rpartition(".")
    if table == "model_options":
        options = model_options(config.model, {})
        if key not in options:
            raise EcgkitError(f"{config.model} has no option {key!r}: choose from {', '.join(options)}")
        return type(options[key])
    if table in OPTION_TABLES:
        return float
    names = [item.name for item in dataclasses.fields(config) if item.name not in (*NOT_VARIED, *OPTION_TABLES)]
    if name not in names:
        reason = "is the same in all trials" if name in NOT_VARIED else "is unknown"
        raise EcgkitError(f"{name} {reason}: choose from {', '.join([*names, *(f'{t}.NAME' for t in OPTION_TABLES)])}")
    return type(getattr(config, name))


def distribution_of(name: str, entry: Any, kind: type) -> BaseDistribution:
    """Make the distribution of one name."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    try:
        if isinstance(entry, list):
            return CategoricalDistribution(tuple(encode(value) for value in entry))
        if isinstance(entry, dict) and {"low", "high"} <= entry.keys() and kind in (int, float):
            if not all(math.isfinite(entry[end]) for end in ("low", "high")) or not entry["low"] < entry["high"]:
                raise ValueError("low and high are finite numbers, and low is below high")
            whole = kind is int and all(isinstance(value, int) for value in entry.values())
            if kind is int and not whole:
                raise ValueError("its values are whole numbers")
            return IntDistribution(**entry) if whole else FloatDistribution(**entry)
    except (TypeError, ValueError) as error:
        raise EcgkitError(f"{name} is {shown(entry)}: {error}") from error
    raise EcgkitError(
        f"{name} is {shown(entry)}: give a list of choices, or for a number low and high, and log or step"
    )


def encode(value: Any) -> Any:
    """Return a value as Optuna stores it: lists and dictionaries as JSON."""
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def decode(value: Any) -> Any:
    """Return a stored value as the configuration takes it."""
    return json.loads(value) if isinstance(value, str) and value.startswith(("[", "{")) else value


def suggest(trial: optuna.Trial, space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """Ask a trial for a value of every name."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    values: dict[str, Any] = {}
    for name, one in space.items():
        if isinstance(one, CategoricalDistribution):
            values[name] = trial.suggest_categorical(name, one.choices)
        elif isinstance(one, IntDistribution):
            values[name] = trial.suggest_int(name, one.low, one.high, step=one.step, log=one.log)
        elif isinstance(one, FloatDistribution):
            values[name] = trial.suggest_float(name, one.low, one.high, step=one.step, log=one.log)
    return values


def apply(config: TrainingConfig, values: Mapping[str, Any]) -> TrainingConfig:
    """Set the stored values of a trial in a configuration.

    Parameters
    ----------
    config : TrainingConfig
        The values of all other names.
    values : mapping
        By the names of a space.

    Returns
    -------
    TrainingConfig

    Raises
    ------
    EcgkitError
        If a value is not allowed.
    """
    fields: dict[str, Any] = {table: dict(getattr(config, table)) for table in OPTION_TABLES}
    for name, value in values.items():
        table, _, key = name.rpartition(".")
        (fields[table] if table else fields)[key or name] = decode(value)
    if fields.get("crop_seconds") == 0:  # a whole record costs as much as four crops of 2.5 s
        fields["crops_per_record"] = 1
    return dataclasses.replace(config, **fields)


def ends(config: TrainingConfig, space: Mapping[str, BaseDistribution]) -> Iterator[TrainingConfig]:
    """Yield the configuration at each end and with each choice of a space; refuse one that is not allowed."""
    values = {name: getattr(one, "choices", None) or (one.low, one.high) for name, one in space.items()}  # type: ignore[attr-defined]
    first = {name: choices[0] for name, choices in values.items()}
    for name, choices in values.items():
        yield from (apply(config, first | {name: value}) for value in choices)


def position_of(config: TrainingConfig, space: Mapping[str, BaseDistribution]) -> dict[str, Any] | None:
    """Return a configuration as a trial stores it; None if it is outside the space."""
    found: dict[str, Any] = {}
    for name, one in space.items():
        table, _, key = name.rpartition(".")
        absent = 0.0 if table == "robustness" else None
        value = encode(getattr(config, table).get(key, absent) if table else getattr(config, name))
        try:
            if not one._contains(one.to_internal_repr(value)):  # Optuna has no public method for it
                return None
        except (TypeError, ValueError):
            return None
        found[name] = value
    return found
