"""Sources of ECGs: one data set per module, each with a table of records, tables of labels and ``read(record_id)``.

A source is added with one module and one line in `SOURCES`; see `ecgkit.sources.base.Source`.
"""

from __future__ import annotations

import inspect
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecgkit.errors import EcgkitError, check_choice, check_options
from ecgkit.signals.ecg import check_rate

if TYPE_CHECKING:
    from ecgkit.sources.base import Source

SOURCES = {
    "cinc": "ecgkit.sources.cinc:Cinc",
    "code15": "ecgkit.sources.code15:Code15",
    "demo": "ecgkit.sources.demo:Demo",
    "folder": "ecgkit.sources.folder:Folder",
    "mimic": "ecgkit.sources.mimic:Mimic",
    "ptbxl": "ecgkit.sources.ptbxl.source:PtbXl",
    "sph": "ecgkit.sources.sph:Sph",
}
"""The sources by name, as ``module:class``; a module is imported when its source is first used."""


def source_class(name: str) -> type[Source]:
    """Return the class of a source.

    Raises
    ------
    EcgkitError
        If there is no source of this name.
    """
    check_choice("source", name, SOURCES)
    found: type[Source] = pkgutil.resolve_name(SOURCES[name])
    return found


def source_in(folder: Path) -> str:
    """Return the name of the source whose raw data a folder holds; that of own files if there is no other."""
    names = sorted(SOURCES, key=lambda name: name != "folder")  # a table of one's own comes first
    found = (name for name in names if source_class(name).has_folder and source_class(name).is_in(folder))
    return next(found, "folder")


def source_options(source: type[Source]) -> dict[str, Any]:
    """Return the options of a source with their defaults: the keywords of its constructor but ``sampling_rate``."""
    return {name: parameter.default for name, parameter in _option_parameters(source).items()}


def _option_parameters(source: type[Source]) -> dict[str, inspect.Parameter]:
    """Return the keywords of a source's constructor but ``sampling_rate``."""
    parameters = inspect.signature(source, eval_str=True).parameters.values()
    return {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "sampling_rate"}


def check_source(name: str, *, sampling_rate: int | None = None, options: dict[str, Any] | None = None) -> None:
    """Check the arguments of `open_source` without opening anything; raise an `EcgkitError` if one is wrong."""
    source = source_class(name)
    if sampling_rate is not None and source.any_rate:
        check_rate(sampling_rate, "rate")
    elif sampling_rate is not None and sampling_rate not in source.sampling_rates:
        rates = " and ".join(map(str, source.sampling_rates))
        raise EcgkitError(f"rate is {sampling_rate} Hz and {name} has {rates} Hz: choose one of these")
    check_options(name, options or {}, _option_parameters(source))


def open_source(name: str, folder: Path | None = None, *, sampling_rate: int | None = None, **options: Any) -> Source:
    """Open a source by its name.

    Parameters
    ----------
    name : str
        One of `SOURCES`.
    folder : Path, optional
        The folder of the raw data, for a source that has one.
    sampling_rate : int, optional
        In Hz; by default the first rate of the source.
    **options
        Options of the source, such as ``n_records=300`` of the demo.

    Returns
    -------
    Source

    Raises
    ------
    EcgkitError
        If the name, an option or the rate is unknown, or the source cannot be opened.
    """
    check_source(name, sampling_rate=sampling_rate, options=options)
    source = source_class(name)
    arguments = (folder,) if source.has_folder else ()
    return source(*arguments, sampling_rate=sampling_rate or source.sampling_rates[0], **options)  # type: ignore[call-arg]


__all__ = ["SOURCES", "check_source", "open_source", "source_class", "source_in", "source_options"]
