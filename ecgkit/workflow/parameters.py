"""The parameters of a step: the fields of its configuration, with their types and documentation."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ecgkit.errors import EcgkitError, fits, shown


@dataclass(frozen=True)
class Parameter:
    """A field of a configuration.

    Attributes
    ----------
    name : str
        The field's name.
    hint : type
        Its type as annotated.
    default : object
        What is used where it is not set: the class's ``unset``, or else the field's default; None where it has none.
    text : str
        Its description in the ``Attributes`` section of the class's docstring.
    """

    name: str
    hint: Any
    default: object
    text: str

    @property
    def kind(self) -> type:
        """The plain type: ``float`` of ``float | None``, ``list`` of ``list[float]``."""
        options = typing.get_args(self.hint) if isinstance(self.hint, types.UnionType) else (self.hint,)
        first = next(option for option in options if option is not type(None))
        return typing.get_origin(first) or first

    @property
    def item_kind(self) -> type:
        """The type of the items of a list; `str` if it is not annotated."""
        options = typing.get_args(self.hint) if isinstance(self.hint, types.UnionType) else (self.hint,)
        items = next((typing.get_args(option) for option in options if typing.get_args(option)), (str,))
        return items[0]


def parameters_of(config: type) -> dict[str, Parameter]:
    """Read the fields of a configuration class.

    Parameters
    ----------
    config : type
        A dataclass whose docstring, or that of its base, documents each field under ``Attributes``.

    Returns
    -------
    dict of str to Parameter
        In the order of the fields.
    """
    hints, texts, unset = typing.get_type_hints(config), attribute_texts(config), getattr(config, "unset", {})
    return {
        name: Parameter(name, hints[name], unset.get(name, default_of(item)), texts.get(name, ""))
        for item in dataclasses.fields(config)
        if item.init and (name := item.name)
    }


def default_of(item: dataclasses.Field[Any]) -> object:
    """Return a field's default; None where it has none."""
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return None if item.default is dataclasses.MISSING else item.default


def attribute_texts(config: type) -> dict[str, str]:
    """Read the ``Attributes`` sections of the numpydoc docstrings of a class and its bases, one text per name."""
    texts: dict[str, str] = attribute_texts(config.__base__) if config.__base__ else {}
    section = inspect.cleandoc(config.__doc__ or "")
    section = section.partition("Attributes\n----------\n")[2]
    section = re.split(r"\n\n[A-Z][A-Za-z ]+\n-{3,}\n", section)[0]
    names: list[str] = []
    for line in section.splitlines():
        if line and not line.startswith(" "):
            names = [name.strip() for name in line.partition(" : ")[0].split(",")]
        else:
            texts |= {name: f"{texts.get(name, '')} {line.strip()}".strip() for name in names}
    return texts


def check_settings(config: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Check settings against the fields of a configuration, and leave out those that are None.

    Parameters
    ----------
    config : type
        The configuration class.
    settings : mapping
        Values by the names of fields.

    Returns
    -------
    dict
        The values, with numbers of the fields' types: ``"3e-4"``, as YAML reads it, becomes a float.

    Raises
    ------
    EcgkitError
        If there is no such field, or a value is not of its type.
    """
    known = parameters_of(config)
    if unknown := sorted(settings.keys() - known.keys()):
        raise EcgkitError(f"unknown parameter {unknown[0]!r}: choose from {', '.join(known)}")
    return {name: convert(known[name], value) for name, value in settings.items() if value is not None}


def convert(parameter: Parameter, value: Any) -> Any:
    """Convert a value to the type of its field, or refuse it."""
    if parameter.kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass  # refused below
    elif fits(value, parameter.hint):
        return value
    kind, wanted = type(value).__name__, parameter.kind.__name__
    raise EcgkitError(f"{parameter.name} is {shown(value)}, a {kind}: give a value of type {wanted}")
