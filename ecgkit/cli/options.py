"""The flags of a command, generated from the fields of a step's configuration."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from ecgkit.errors import EcgkitError, shown
from ecgkit.io import parsed_json
from ecgkit.workflow.parameters import Parameter, parameters_of
from ecgkit.workflow.steps import Step

OF_RECIPE = "default: the recipe's, else {}"
"""How the default of a training's parameter is written."""

METAVARS = {int: "N", float: "X", str: "TEXT", list: "X", dict: "KEY=VALUE"}


def add_fields(
    parser: argparse.ArgumentParser, step: Step, *, without: Sequence[str] = (), default: str = "default: {}"
) -> None:
    """Add a flag for each field of a step's configuration; a flag that is not given leaves its field unset."""
    group = parser.add_argument_group(f"parameters of {step.notebook}")
    for parameter in parameters_of(step.config_class).values():
        if parameter.name not in without:
            add_field(group, parameter, default)


def add_cell_timeout(parser: argparse.ArgumentParser) -> None:
    """Add ``--cell-timeout``, of the commands that run notebooks."""
    text = "stop a notebook whose cell takes longer; the same command resumes (default: never)"
    parser.add_argument("--cell-timeout", type=int, metavar="SECONDS", help=text)


def add_field(group: argparse._ArgumentGroup, parameter: Parameter, default: str) -> None:
    """Add the flag of one field."""
    keywords: dict[str, Any] = {"default": argparse.SUPPRESS, "help": help_text(parameter, default)}
    if parameter.kind is bool:
        keywords["action"] = argparse.BooleanOptionalAction
    else:
        keywords |= {"metavar": METAVARS[parameter.kind], "type": parameter.kind}
    if parameter.kind is list:
        keywords |= {"nargs": "+", "type": parameter.item_kind}
    elif parameter.kind is dict:
        keywords |= {"nargs": "+", "type": parse_pairs, "action": MergePairs}
    group.add_argument(f"--{parameter.name.replace('_', '-')}", **keywords)


def help_text(parameter: Parameter, default: str) -> str:
    """Return a field's documentation with its default; ``%`` is special to argparse."""
    has_default = parameter.default not in (None, "", [], {})
    ending = f" ({default.format(parameter.default)})" if has_default else ""
    return f"{parameter.text.rstrip('.').replace('``', '')}{ending}".replace("%", "%%")


def parse_pairs(text: str) -> dict[str, Any]:
    """Parse ``KEY=VALUE``, with the value as JSON where it is JSON, or a whole JSON object."""
    if text.startswith("{"):
        try:
            whole: dict[str, Any] = parsed_json(text, "the JSON", way_out="write {...} or KEY=VALUE")
        except EcgkitError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        return whole
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{shown(text)} is not KEY=VALUE")
    try:
        return {key: parsed_json(value, key, Any)}
    except EcgkitError:
        return {key: value}


class MergePairs(argparse.Action):
    """Merge the pairs of one or several uses of a flag into one dictionary."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:  # noqa: ARG002
        """Add the pairs to those of an earlier use."""
        merged = dict(getattr(namespace, self.dest, {}))
        for pairs in values:
            merged |= pairs
        setattr(namespace, self.dest, merged)


def settings_of(arguments: argparse.Namespace, step: Step) -> dict[str, Any]:
    """Return the fields of a step's configuration that were given on the command line."""
    known, given = parameters_of(step.config_class), vars(arguments)
    return {name: given[name] for name in known if name in given}
