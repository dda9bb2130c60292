"""The parameters of a diagnosis."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecgkit.errors import EcgkitError, check_choice, check_types
from ecgkit.inference import DEFAULT_MODEL
from ecgkit.inference.batches import BACKENDS
from ecgkit.inference.model_folder import checksums, find_folder
from ecgkit.io import encodable
from ecgkit.readers.base import Hints
from ecgkit.readers.files import find_ecg_files, record_key
from ecgkit.signals.ecg import SEXES, check_age

EXAMPLES = "examples"


@dataclass(frozen=True)
class DiagnosisConfig:
    """Every parameter of a diagnosis.

    Attributes
    ----------
    files : str
        ECG files, folders or patterns such as "study/*.xml", separated by commas; "examples" makes some.
    model : str
        A model that ships, "ensemble" of them, a training session or a model folder.
    sampling_rate : float or None
        In Hz, if the files do not say it.
    unit : str or None
        Such as "mV" or "uV", if the files do not say it.
    leads : str or None
        Such as "I,II,V1", one per signal, if the files do not name them.
    record : str or None
        Position from 0 or identifier, in files of many records.
    start : float or None
        Seconds from the beginning of each file.
    duration : float or None
        Seconds to read, of files of more than an hour.
    age : float or None
        In years, if the files do not say it.
    sex : str or None
        male or female, if the files do not say it.
    anyway : bool
        Whether to predict what the checks refuse.
    allow_missing_leads : bool
        Whether to predict ECGs that lack leads.
    backend : str
        What computes the network: "auto", "torch" or "onnx".

    Raises
    ------
    EcgkitError
        If a value has another type.
    """

    files: str = EXAMPLES
    model: str = DEFAULT_MODEL
    sampling_rate: float | None = None
    unit: str | None = None
    leads: str | None = None
    record: str | None = None
    start: float | None = None
    duration: float | None = None
    age: float | None = None
    sex: str | None = None
    anyway: bool = False
    allow_missing_leads: bool = False
    backend: str = "auto"

    def __post_init__(self) -> None:
        check_types(self)
        check_choice("backend", self.backend, BACKENDS)
        check_age(self.age)
        if self.sex is not None:
            check_choice("sex", self.sex, SEXES)
        Hints(self.sampling_rate, self.unit, self.leads, start=self.start, duration=self.duration)  # type: ignore[arg-type]

    @classmethod
    def resolve(cls, root: Path, **settings: Any) -> DiagnosisConfig:
        """Complete the settings that are not None: absolute paths of the files; check that files and model exist."""
        config = cls(**{name: value for name, value in settings.items() if value is not None})
        find_folder(config.model, root)
        if config.files == EXAMPLES:
            return config
        names = [str(Path(name.strip()).expanduser().absolute()) for name in config.files.split(",")]
        for path in find_ecg_files(names):
            if str(path) in names and not path.exists():
                raise EcgkitError(f"no file {path}: check the path; files are separated by commas")
        return cls(**(vars(config) | {"files": ",".join(names)}))

    @property
    def said(self) -> dict[str, Any]:
        """What is said of the ECGs, as keywords of `ecgkit.inference.answers.answer_ecgs`."""
        others = ("files", "model", "backend", "record")
        return {key: value for key, value in vars(self).items() if key not in others} | {
            "record": record_key(self.record)
        }

    def inputs(self, root: Path) -> dict[str, Any]:
        """Return the checksums of the model's files, and name, size and time stamp of each ECG file."""
        found = [] if self.files == EXAMPLES else find_ecg_files(self.files.split(","))
        states = [(encodable(path), path.stat()) for path in found if path.exists()]
        return {
            "model_sha256": checksums(find_folder(self.model, root)),
            "read": [[name, state.st_size, state.st_mtime_ns] for name, state in states],
        }
