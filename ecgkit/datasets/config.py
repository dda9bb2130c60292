"""From the parameters of a preprocessing to a source, filters and the folder of the processed dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecgkit import paths
from ecgkit.datasets.store import dataset_name
from ecgkit.errors import EcgkitError, check_choice, check_types
from ecgkit.signals.filters import Filters
from ecgkit.sources import SOURCES, Source, make_source

__all__ = ["SOURCES", "PreprocessingConfig"]

DEMO_RECORDS = 1000


@dataclass(frozen=True)
class PreprocessingConfig:
    """Every parameter of the preprocessing.

    Attributes
    ----------
    source : str
        Name of a source of ECGs.
    raw : str or None
        Folder of the raw data; None means ``raw_datasets/SOURCE``. The demo makes its data and takes none.
    name : str or None
        Name of the processed dataset; None means the source's, with rate and filters where they are not the default.
    rate : int
        Sampling rate in Hz, 100 or 500.
    bandpass : list of float or None
        Lower and upper edge of the band-pass in Hz.
    notch : float or None
        Mains frequency to remove, in Hz.
    n_records : int
        Number of records of the demo.
    seed : int
        Seed of the demo.
    jobs : int or None
        Number of processes; None means one per core.
    overwrite : bool
        Whether to replace a dataset of this name that holds other data.

    Raises
    ------
    EcgkitError
        If a value does not fit.
    """

    source: str = "demo"
    raw: str | None = None
    name: str | None = None
    rate: int = 100
    bandpass: list[float] | None = None
    notch: float | None = None
    n_records: int = DEMO_RECORDS
    seed: int = 0
    jobs: int | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        check_choice("source", self.source, SOURCES)
        if self.source == "demo" and self.raw is not None:
            raise EcgkitError(f"the demo makes its records and takes no raw folder ({self.raw}): did you mean ptbxl?")
        if self.source != "demo" and (self.n_records, self.seed) != (DEMO_RECORDS, 0):
            raise EcgkitError(f"n_records and seed are of the demo: leave them out for {self.source}")
        if self.rate not in (100, 500):
            raise EcgkitError(f"rate is {self.rate} Hz: choose 100 or 500")
        if self.bandpass is not None and len(self.bandpass) != 2:
            raise EcgkitError(f"bandpass is {self.bandpass}: give its lower and its upper edge in Hz")
        if self.jobs is not None and self.jobs < 1:
            raise EcgkitError(f"jobs is {self.jobs}: give a positive number")
        if self.name is not None and (not self.name or self.name != Path(self.name).name or self.name.startswith(".")):
            raise EcgkitError(f"name is {self.name!r}: give a plain folder name, such as 'ptbxl_clean'")
        self.filters.check(self.rate)

    @classmethod
    def resolve(cls, root: Path, **settings: Any) -> PreprocessingConfig:
        """Complete the settings that are not None to a configuration."""
        del root
        return cls(**{name: value for name, value in settings.items() if value is not None})

    @property
    def filters(self) -> Filters:
        """The filters to apply."""
        edges = (float(self.bandpass[0]), float(self.bandpass[1])) if self.bandpass else None
        return Filters(bandpass=edges, notch=self.notch)

    def open_source(self, root: Path) -> Source:
        """Open the source; ``root`` is the folder that ``raw_datasets`` is in."""
        folder = Path(self.raw).expanduser().resolve() if self.raw else root / paths.RAW / self.source
        return make_source(
            self.source, folder=folder, sampling_rate=self.rate, n_records=self.n_records, seed=self.seed
        )

    def folder(self, root: Path) -> Path:
        """Return the folder of the processed dataset."""
        name = self.name or dataset_name(self.open_source(root), self.filters)
        return root / paths.PROCESSED / name

    def inputs(self, root: Path) -> dict[str, Any]:
        """Return what identifies the source's data."""
        return self.open_source(root).identity()
