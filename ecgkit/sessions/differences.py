"""In which values two configurations or environments differ."""

from __future__ import annotations

from typing import Any


def differences(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Compare two configurations or environments.

    Parameters
    ----------
    before, after : dict
        JSON data.

    Returns
    -------
    dict of str to tuple
        Both values of each key that differs, None where there is none. A key inside another is ``outer.inner``.
    """
    old, new = flatten(before), flatten(after)
    keys = sorted(old.keys() | new.keys())
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def flatten(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn dictionaries inside a dictionary into keys of it such as ``model_options.dropout``."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def describe_differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return one text per key that differs, such as ``epochs: 10 -> 12``."""
    found = differences(before, after)
    return [f"{key}: {describe_value(old)} -> {describe_value(new)}" for key, (old, new) in found.items()]


def describe_value(value: Any) -> str:
    """Return a value of a configuration as text, "none" if it is empty."""
    return "none" if value in (None, "", [], {}) else str(value)
