"""Errors on bad input: each message is one line that names the thing, the value and the way out."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable
from typing import Any


class EcgkitError(ValueError):
    """Bad input: the command line prints its one-line message and exits with code 2."""


class UnreadableRecordError(EcgkitError):
    """A record that cannot be read; a store quarantines it, counts it and goes on."""


def check_choice(name: str, value: str, allowed: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``allowed``.

    Parameters
    ----------
    name : str
        What the value is, as the user calls it, such as ``"model"``.
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
        raise EcgkitError(f"unknown {name} {value!r}: choose one of {', '.join(allowed)}")
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
            wanted = getattr(hints[item.name], "__name__", str(hints[item.name]))
            raise EcgkitError(f"{item.name} is {value!r}, a {type(value).__name__}: give a value of type {wanted}")


def fits(value: object, hint: Any) -> bool:
    """Tell whether a value is of a type as annotated: a plain type, ``dict[...]``, ``X | None``."""
    if isinstance(hint, types.UnionType):
        return any(fits(value, part) for part in typing.get_args(hint))
    kind = typing.get_origin(hint) or hint
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))
