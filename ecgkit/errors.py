"""Errors on bad input: each message is one line that names the thing, the value and the way out."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
import reprlib
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

PACKAGES = {
    "train": ("lightning", "sklearn"),
    "notebooks": ("ipywidgets", "jupyter_client", "nbclient", "nbformat", "papermill"),
    "explain": ("captum",),
    "features": ("joblib", "threadpoolctl", "umap"),
    "search": ("optuna",),
    "cluster": ("distributed",),
    "formats": ("ecgdatakit", "edfio", "h5py", "pydicom"),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "serve": ("fastapi", "prometheus_client", "pydantic", "python_multipart", "uvicorn", "websockets"),
    "app": ("streamlit",),
}
"""The packages of each extra, which the base installation leaves out, by the names that are imported."""

EXTRAS = {package: extra for extra, packages in PACKAGES.items() for package in packages}
"""The extra that installs each of these packages."""


SEEDS = 2**32
"""The number of seeds."""

INTERRUPTED = 130
"""The exit code after Ctrl-C."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


class EcgkitError(ValueError):
    """Bad input: the command line prints its one-line message and exits with code 2.

    Control characters in the names and values that the message cites are escaped, see `printable`.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class UnreadableRecordError(EcgkitError):
    """A record that cannot be read; preprocessing quarantines and counts it, and continues."""


class UnknownFormatError(UnreadableRecordError):
    """A file of a format that is not read."""


def require(module: str, extra: str) -> types.ModuleType:
    """Import a package that is not in the base installation.

    Parameters
    ----------
    module : str
        The module to import, such as ``"optuna"``.
    extra : str
        The extra of this distribution that installs it, such as ``"search"``.

    Returns
    -------
    module
        The imported module.

    Raises
    ------
    EcgkitError
        If the package is not installed: the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise EcgkitError(not_installed(error, {module.partition(".")[0]: extra})) from error


def not_installed(error: ModuleNotFoundError, extras: Mapping[str, str] = EXTRAS) -> str:
    """Return the message for a package of an extra that is missing; raise the error itself for any other module."""
    package = (error.name or "").partition(".")[0]
    if package not in extras:
        raise error
    return f'{package} is not installed: run pip install "ecgkit-notebooks[{extras[package]}]", then try again'


def check_choice(name: str, value: str, allowed: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``allowed``.

    Parameters
    ----------
    name : str
        Name of the value for the user, such as ``"model"``.
    value : str
        The value to check.
    allowed : iterable of str
        The values that are allowed, in the order in which a message names them.

    Returns
    -------
    str
        The value itself.

    Raises
    ------
    EcgkitError
        If the value is not allowed.
    """
    allowed = tuple(allowed)
    if value not in allowed:
        raise EcgkitError(f"unknown {name} {shown(value)}: choose one of {', '.join(allowed)}")
    return value


def check_types(config: Any) -> None:
    """Check that every field of a dataclass holds a value of its type; an int serves where a float is meant.

    Raises
    ------
    EcgkitError
        Naming the first field that does not.
    """
    hints = typing.get_type_hints(type(config))
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if not fits(value, hints[item.name]):
            wanted = type_name(hints[item.name])
            raise EcgkitError(
                f"{item.name} is {reprlib.repr(value)}, a {type(value).__name__}: give a value of type {wanted}"
            )


def check_options(owner: str, given: Mapping[str, object], parameters: Mapping[str, inspect.Parameter]) -> None:
    """Check options by their names and types before something is made with them.

    Parameters
    ----------
    owner : str
        What has the options, for the message.
    given : mapping
        Their values.
    parameters : mapping of str to inspect.Parameter
        What it takes; the type of one that is not annotated is that of its default.

    Raises
    ------
    EcgkitError
        Naming the first option that does not exist or has a value of another type.
    """
    for name, value in given.items():
        if name not in parameters:
            raise EcgkitError(f"{owner} has no option {name!r}: choose from {', '.join(parameters) or 'none'}")
        hint, default = parameters[name].annotation, parameters[name].default
        hint = type(default) if hint is inspect.Parameter.empty else hint
        if not (isinstance(hint, str) or fits(value, hint)):  # a text: not resolved
            example = "" if default is None else f", such as {default!r}"
            raise EcgkitError(
                f"option {name} of {owner} is {shown(value)}: give a value of type {type_name(hint)}{example}"
            )


def check_least(config: Any, **least: int) -> None:
    """Check that fields of a dataclass are None or at least so large.

    Raises
    ------
    EcgkitError
        Naming the first field that is not.
    """
    for name, smallest in least.items():
        value = getattr(config, name)
        if value is not None and value < smallest:
            raise EcgkitError(f"{name} is {value}: give {smallest} or more")


def check_seed(seed: int, name: str = "seed") -> None:
    """Check that every generator takes a seed: PyTorch's, NumPy's and scikit-learn's, of which the last has 32 bits.

    Raises
    ------
    EcgkitError
        If it is negative or too large.
    """
    if not 0 <= seed < SEEDS:
        raise EcgkitError(f"{name} is {seed}: give a whole number from 0 to {SEEDS - 1}")


def fits(value: object, hint: Any) -> bool:
    """Return True if a value has an annotated type: a plain type, ``dict[str, float]``, ``list[str]``, ``X | None``."""
    parts = typing.get_args(hint)
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return any(fits(value, part) for part in parts)
    kind = typing.get_origin(hint) or hint
    if kind is Any or kind is object:
        return True
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        return False
    if isinstance(value, str) and kind is not str:  # a text is a sequence, but none that is meant
        return False
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return not parts or all(fits(item, parts[-1]) for item in items)


def shown(value: object) -> str:
    """Return the ``repr`` of a value, shortened to what a one-line message has room for."""
    return _short.repr(value)


def type_name(hint: Any) -> str:
    """Name an annotated type for a message: ``float``, ``list[str]``, ``float | None``."""
    if isinstance(hint, type) and not typing.get_args(hint):
        return hint.__name__
    return str(hint).replace("typing.", "").replace("collections.abc.", "")


def printable(text: str) -> str:
    r"""Escape what a terminal would act on, or show as nothing, in a text that may hold the names of others.

    Parameters
    ----------
    text : str
        A line, or several.

    Returns
    -------
    str
        With line feeds as they are, and escape sequences, other control characters, marks of direction and lone
        surrogates written as ``\x1b`` or ``\u202e``.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter == "\n" else letter.encode("unicode_escape").decode()
        for letter in text
    )


def split_names(text: str) -> list[str]:
    """Split a list of names at its commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def one_line(error: BaseException) -> str:
    """Return an error as one line: the message of bad input, and of any other error its type and message."""
    text = printable(" ".join(str(error).split()))
    return text if isinstance(error, EcgkitError) else f"{type(error).__name__}: {text}".removesuffix(": ")


def lacks_memory(error: BaseException) -> bool:
    """Return True if an error says that there is no memory left, to whatever package it belongs."""
    signs = ("allocate memory", "failed to map segment", "can't start new thread")
    says_so = isinstance(error, OSError | ImportError | RuntimeError) and any(sign in str(error) for sign in signs)
    return says_so or isinstance(error, MemoryError)


def interrupt(_: int, frame: types.FrameType | None) -> None:
    """Handle Ctrl-C: raise `KeyboardInterrupt`, or end the process at once during an import.

    Packages such as torch abort with a message of their own if an exception passes through their import.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            multiprocessing = sys.modules.get("multiprocessing.process")
            if multiprocessing is None or multiprocessing.parent_process() is None:  # a worker leaves it to its parent
                sys.stderr.write("ecgkit: interrupted: run the same command again\n")
                sys.stderr.flush()
            os._exit(INTERRUPTED)
        frame = frame.f_back
    raise KeyboardInterrupt
