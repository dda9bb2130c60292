"""Whether a model was made for the classes and the sampling rate that are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ecgkit.errors import EcgkitError


class MadeFor(Protocol):
    """What is compared before a model is used."""

    @property
    def classes(self) -> tuple[str, ...]:
        """One per output, in order."""

    @property
    def sampling_rate(self) -> float:
        """In Hz."""


def check_made_for(
    what: str, model: MadeFor, *, classes: Sequence[str] | None = None, sampling_rate: float | None = None
) -> None:
    """Raise an `EcgkitError` unless a model was made for these classes and this sampling rate (Hz); None is any."""
    if classes is not None and (difference := _other_classes(tuple(model.classes), tuple(classes))):
        asked, has = ", ".join(classes), ", ".join(model.classes)
        raise EcgkitError(f"{what} has the classes {has}, not {asked} ({difference}): give a model made for these")
    if sampling_rate is not None and model.sampling_rate != sampling_rate:
        raise EcgkitError(
            f"{what} was made for a sampling rate of {model.sampling_rate:g} Hz, not of {sampling_rate:g} Hz: "
            "give a model made for that rate"
        )


def _other_classes(has: tuple[str, ...], wanted: tuple[str, ...]) -> str:
    """Describe how the classes of a model differ from those that are wanted; empty if they do not."""
    lacking = [name for name in wanted if name not in has]
    surplus = [name for name in has if name not in wanted]
    phrases = [f"it lacks {', '.join(lacking)}"] * bool(lacking) + [f"it also has {', '.join(surplus)}"] * bool(surplus)
    return " and ".join(phrases) or ("in another order" if has != wanted else "")
