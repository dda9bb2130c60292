"""From the parameters of the preprocessing to a source, filters and the folder of the processed dataset."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecgkit import paths
from ecgkit.cluster import check_places
from ecgkit.datasets.manifest import dataset_name
from ecgkit.errors import EcgkitError, check_least, check_types
from ecgkit.signals.filters import Filters
from ecgkit.sources import SOURCES, check_source, open_source, source_class, source_in
from ecgkit.sources.base import Source
from ecgkit.stats.folds import check_parts


@dataclass(frozen=True)
class PreprocessingConfig:
    """Every parameter of the preprocessing.

    Attributes
    ----------
    source : str
        Name of a source of ECGs, or a folder: of ECG files with a table ``labels.csv``, or of the raw data of a source.
    raw : str or None
        Folder of the raw data; by default ``raw_datasets/SOURCE``. The demo generates its data and has no such folder.
    name : str or None
        Name of the processed dataset; by default the source's, with rate and filters where they are not the default.
    rate : int or None
        Sampling rate in Hz, one of the source's; by default the first of these.
    bandpass : list of float or None
        Lower and upper edge of the band-pass in Hz.
    notch : float or None
        Mains frequency to remove, in Hz.
    labels : list of str or None
        Columns of ``labels.csv`` that are classes; by default those that hold only true and false.
    split : list of float or None
        Shares of training, validation and test, such as 0.7 0.15 0.15: patients are divided anew, stratified by the
        classes, and written as folds 1-8, 9 and 10. None keeps the folds of the source.
    source_options : dict
        Options of the source; the demo has ``n_records`` and ``seed``.
    jobs : int or None
        Number of processes; by default one per core.
    scheduler : str or None
        Address of a Dask scheduler whose workers read the records, such as tcp://host:8786; they need the same folders.
    overwrite : bool
        Whether to replace a dataset of this name that holds other data.
    anyway : bool
        Whether to keep records whose levels are not those of an ECG in mV, instead of quarantining them.

    Raises
    ------
    EcgkitError
        If a value is invalid.
    """

    source: str = "demo"
    raw: str | None = None
    name: str | None = None
    rate: int | None = None
    bandpass: list[float] | None = None
    notch: float | None = None
    labels: list[str] | None = None
    split: list[float] | None = None
    source_options: dict[str, Any] = field(default_factory=dict)
    jobs: int | None = None
    scheduler: str | None = None
    overwrite: bool = False
    anyway: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        if self.labels and "labels" in self.source_options:
            raise EcgkitError(f"labels is {self.labels} and source_options has labels too: give one of them")
        check_source(self.source, sampling_rate=self.rate, options=self._options)
        if self.raw is not None and not source_class(self.source).has_folder:
            raise EcgkitError(f"{self.source} has no raw folder, but raw is {self.raw}: name the source of these data")
        if self.split is not None:
            check_parts(self.split)
        check_least(self, jobs=1)
        check_places(self.jobs, self.scheduler)
        if self.name is not None and not is_plain_name(self.name):
            raise EcgkitError(f"name is {self.name!r}: give a plain folder name, such as 'ptbxl_clean'")
        self.filters.check(self.rate or source_class(self.source).sampling_rates[0])

    @classmethod
    def resolve(cls, root: Path, **settings: Any) -> PreprocessingConfig:
        """Complete the settings that are not None to a configuration; a raw folder becomes an absolute path."""
        del root
        values = {name: value for name, value in settings.items() if value is not None}
        if is_folder(values.get("source")):
            values |= {"source": source_in(Path(values["source"]).expanduser()), "raw": values["source"]}
        if values.get("raw"):
            values["raw"] = str(Path(values["raw"]).expanduser().absolute())
        return cls(**values)

    @property
    def filters(self) -> Filters:
        """The filters to apply."""
        return Filters(bandpass=self.bandpass and tuple(self.bandpass), notch=self.notch)  # type: ignore[arg-type]

    @property
    def _options(self) -> dict[str, Any]:
        """The options of the source."""
        return self.source_options | ({"labels": self.labels} if self.labels else {})

    def open_source(self, root: Path) -> Source:
        """Open the source; ``root`` is the folder that ``raw_datasets`` is in."""
        folder = Path(self.raw).expanduser().resolve() if self.raw else root / paths.RAW / self.source
        source = open_source(self.source, folder, sampling_rate=self.rate, **self._options)
        if self.split:
            source.divide(self.split)
        return source

    def folder(self, root: Path) -> Path:
        """Return the folder of the processed dataset."""
        name = self.name or dataset_name(self.open_source(root), self.filters)
        if name in SOURCES and name != self.source:
            way_out = "preprocess it with another --name"
            raise EcgkitError(f"a dataset of {self.raw} would be called {name!r}, as a source is: {way_out}")
        return root / paths.PROCESSED / name

    def inputs(self, root: Path) -> dict[str, Any]:
        """Return what identifies the source's data."""
        return self.open_source(root).identity()


def is_plain_name(name: str) -> bool:
    """Return True for the name of a folder that is not a path, not hidden, and can be read and typed."""
    return bool(name.strip()) and name.isprintable() and name == Path(name).name and not name.startswith(".")


def is_folder(source: object) -> bool:
    """Return True if a source is the path of a folder instead of a name."""
    if not isinstance(source, str) or source in SOURCES:
        return False
    return "/" in source or "\\" in source or Path(source).is_dir()
