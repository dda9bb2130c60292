"""From the parameters of a preprocessing to a source, filters and the folder of the processed dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ecgkit import paths
from ecgkit.datasets.manifest import dataset_name
from ecgkit.errors import EcgkitError, check_choice, check_types
from ecgkit.signals.filters import Filters
from ecgkit.sources import SOURCES, check_source, open_source
from ecgkit.sources.base import Source

NOTEBOOK = "1_Preprocessing.ipynb"

__all__ = ["NOTEBOOK", "SOURCES", "PreprocessingConfig"]

DEMO_RECORDS = 1000


@dataclass(frozen=True)
class PreprocessingConfig:
    """Every parameter of a preprocessing.

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
    bandpass_low, bandpass_high : float or None
        Edges of the band-pass in Hz, both or none.
    notch : float or None
        Mains frequency to take out, in Hz.
    n_records : int
        Records of the demo.
    seed : int
        Seed of the demo.

    Raises
    ------
    EcgkitError
        If a value does not fit.
    """

    source: str = "demo"
    raw: str | None = None
    name: str | None = None
    rate: int = 100
    bandpass_low: float | None = None
    bandpass_high: float | None = None
    notch: float | None = None
    n_records: int = DEMO_RECORDS
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        check_choice("source", self.source, SOURCES)
        if self.source == "demo" and self.raw is not None:
            raise EcgkitError(f"the demo makes its records and takes no raw folder ({self.raw}): did you mean ptbxl?")
        if self.source != "demo" and (self.n_records, self.seed) != (DEMO_RECORDS, 0):
            raise EcgkitError(f"n_records and seed are of the demo: leave them out for {self.source}")
        check_source(self.source, sampling_rate=self.rate)
        if (self.bandpass_low is None) != (self.bandpass_high is None):
            raise EcgkitError("a band-pass needs bandpass_low and bandpass_high: give both, in Hz, or none")
        if self.name is not None and (not self.name or self.name != Path(self.name).name or self.name.startswith(".")):
            raise EcgkitError(f"name is {self.name!r}: give a plain folder name, such as 'ptbxl_clean'")
        self.filters.check(self.rate)

    @property
    def filters(self) -> Filters:
        """The filters asked for."""
        low, high = self.bandpass_low, self.bandpass_high
        return Filters(bandpass=None if low is None or high is None else (low, high), notch=self.notch)

    def make_source(self, root: Path) -> Source:
        """Open the source; ``root`` is the folder that ``raw_datasets`` lies in."""
        folder = Path(self.raw).expanduser().resolve() if self.raw else root / paths.RAW / self.source
        options = {"n_records": self.n_records, "seed": self.seed} if self.source == "demo" else {}
        return open_source(self.source, folder, sampling_rate=self.rate, **options)

    def directory(self, root: Path, source: Source) -> Path:
        """Say which folder the processed dataset gets."""
        return root / paths.PROCESSED / (self.name or dataset_name(source, self.filters))
