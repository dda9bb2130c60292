"""Architectures, one per module, and the registry that tests, notebooks and the command line iterate over."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ecgkit.errors import EcgkitError, check_choice, check_options, one_line, shown
from ecgkit.lazy import lazy_names
from ecgkit.models.names import MODELS, absolute_spec, check_name, is_user_file, locate

if TYPE_CHECKING:
    from ecgkit.models.base import ECGModel

__all__ = [
    "MODELS", "ECGModel", "absolute_spec", "check_name", "create_model", "is_user_file", "load_architecture",
    "locate", "resolve_options",
]  # fmt: skip

SHARES = ("dropout", "spatial_dropout", "stochastic_depth")
"""Options that are probabilities."""

__getattr__, __dir__ = lazy_names(__name__)  # `ECGModel` needs torch


@cache
def shared_keywords() -> frozenset[str]:
    """Return the keywords that every model takes; the others are an architecture's own options."""
    from ecgkit.models.base import ECGModel

    return frozenset(inspect.signature(ECGModel).parameters)


def load_architecture(spec: str, *, folder: Path | None = None, sha256: str | None = None) -> type[ECGModel]:
    """Find an architecture by name, or import it from a user's own file, whose code is run.

    Parameters
    ----------
    spec : str
        A name of `MODELS`, or ``"path.py:Class"``, such as ``"my_model.py:MyNet"``.
    folder : Path, optional
        Folder that a relative path starts from; by default the current one.
    sha256 : str, optional
        Checksum that the user's file must have.

    Returns
    -------
    type
        A subclass of `ECGModel`.

    Raises
    ------
    EcgkitError
        If there is no model of this name, or the file is missing, has another checksum, cannot be imported, or its
        class does not follow `ECGModel`.
    """
    if is_user_file(spec):
        from ecgkit.models.user_file import import_architecture

        return import_architecture(spec, folder=folder, sha256=sha256)
    check_choice("model", spec, MODELS)
    return getattr(importlib.import_module(f"ecgkit.models.{spec}"), MODELS[spec])


def resolve_options(
    spec: str, given: Mapping[str, object], *, folder: Path | None = None, sha256: str | None = None
) -> dict[str, object]:
    """Resolve an architecture's own options: its defaults, overridden by the given values.

    Parameters
    ----------
    spec, folder, sha256
        As for `load_architecture`.
    given : mapping
        Options of the architecture, without the keywords that every model takes.

    Returns
    -------
    dict
        Every option, in the architecture's order.

    Raises
    ------
    EcgkitError
        As `load_architecture`, and if an option does not exist, or has a value of another type or outside its range.
    """
    architecture = load_architecture(spec, folder=folder, sha256=sha256)
    try:
        parameters = inspect.signature(architecture, eval_str=True).parameters
    except NameError:  # of a type that a file of one's own imports for a type checker only
        parameters = inspect.signature(architecture).parameters
    own = {key: parameter for key, parameter in parameters.items() if parameter.kind != parameter.VAR_KEYWORD}
    check_options(spec, given, own)
    if not is_user_file(spec):
        _check_numbers(spec, given)
    return {key: parameter.default for key, parameter in own.items()} | dict(given)


def _check_numbers(spec: str, given: Mapping[str, object]) -> None:
    """Refuse a number that is out of the range of an option; the options here are sizes, counts, or the `SHARES`."""
    for name, value in given.items():
        for number in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                continue
            if not (0 <= number < 1 if name in SHARES else 0 < number < math.inf):
                needed = "a number from 0 to below 1" if name in SHARES else "a positive number"
                raise EcgkitError(f"option {name} of {spec} is {shown(value)}: give {needed}")


def create_model(spec: str, *, folder: Path | None = None, sha256: str | None = None, **keywords: object) -> ECGModel:
    """Create a model with fresh weights.

    Parameters
    ----------
    spec, folder, sha256
        As for `load_architecture`.
    **keywords
        ``n_leads, n_classes, n_samples, sampling_rate, n_metadata`` and the architecture's own options.

    Returns
    -------
    ECGModel

    Raises
    ------
    EcgkitError
        As `load_architecture`, and if an option does not exist or has a value that the architecture does not take.
    """
    architecture = load_architecture(spec, folder=folder, sha256=sha256)
    shared = {key: value for key, value in keywords.items() if key in shared_keywords()}
    own = {key: value for key, value in keywords.items() if key not in shared_keywords()}
    options = resolve_options(spec, own, folder=folder, sha256=sha256)
    try:
        return architecture(**shared, **options)  # type: ignore[arg-type]
    except EcgkitError:
        raise
    except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if not own or is_user_file(spec):
            raise
        raise refused(spec, own, keywords["n_samples"], error) from error


def refused(spec: str, options: Mapping[str, object], n_samples: object, error: BaseException) -> EcgkitError:
    """Return the error of an architecture that cannot be made with some options, or cannot read a record then."""
    changed = [
        f"{name} {shown(options[name])} (default: {default!r})"
        for name, default in resolve_options(spec, {}).items()
        if name in options and options[name] not in (default, list(default) if isinstance(default, tuple) else default)
    ]
    with_options = f" with {', '.join(changed)}" if changed else ""
    return EcgkitError(f"{spec}{with_options} cannot read {n_samples} samples: {one_line(error)}")
