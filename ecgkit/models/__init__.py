"""Architectures, one per module, and the registry that tests, notebooks and the command line iterate over."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ecgkit.errors import EcgkitError, check_choice, check_options, one_line
from ecgkit.lazy import lazy_names
from ecgkit.models.names import MODELS, absolute_spec, check_name, is_user_file, locate

if TYPE_CHECKING:
    from ecgkit.models.base import ECGModel

__all__ = [
    "MODELS", "ECGModel", "absolute_spec", "check_name", "create_model", "is_user_file", "load_architecture",
    "locate", "resolve_options",
]  # fmt: skip

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
        As `load_architecture`, and if an option does not exist or has a value of another type.
    """
    architecture = load_architecture(spec, folder=folder, sha256=sha256)
    try:
        parameters = inspect.signature(architecture, eval_str=True).parameters
    except NameError:  # of a type that a file of one's own imports for a type checker only
        parameters = inspect.signature(architecture).parameters
    own = {key: parameter for key, parameter in parameters.items() if parameter.kind != parameter.VAR_KEYWORD}
    check_options(spec, given, own)
    return {key: parameter.default for key, parameter in own.items()} | dict(given)


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
    except (ValueError, RuntimeError) as error:
        if not own or is_user_file(spec):
            raise
        raise EcgkitError(f"{spec} cannot be made with the options {own}: {one_line(error)}") from error
