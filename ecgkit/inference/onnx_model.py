"""A model that was exported as ONNX, opened and run without torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError, one_line, require
from ecgkit.inference.batches import Skip, prepared_batches
from ecgkit.inference.model_folder import ONNX, WAY_OUT, read_card, read_thresholds
from ecgkit.inference.predictor import Outcome, Predictor
from ecgkit.io import file_sha256, json_bytes, read_json, write_atomically
from ecgkit.signals.ecg import ECG, LEADS
from ecgkit.signals.prepare import checked_microvolts

DESCRIPTION = "model.json"
FORMAT = "ecgkit-onnx-2"
DISTANCE = "distance"
"""The output that `ecgkit.inference.reference` describes; a model without a reference has none."""


class Description(TypedDict):
    """The contents of ``model.json``."""

    format: str
    name: str
    classes: list[str]
    label_set: str
    sampling_rate: int
    n_samples: int
    leads: list[str]
    units: str
    sha256: str
    outputs: list[str]


def write_description(folder: Path, **facts: Any) -> None:
    """Write ``model.json`` next to a graph: what `Description` lists, some of which this module knows."""
    known = {"format": FORMAT, "leads": list(LEADS), "units": "mV", "sha256": file_sha256(folder / ONNX)}
    write_atomically(folder / DESCRIPTION, json_bytes(known | facts))


class OnnxPredictor(Predictor):
    """A graph in ONNX Runtime that reads millivolts and gives calibrated probabilities; it has no embedding."""

    backend = "onnx"

    def __init__(self, folder: Path) -> None:
        about: Description = read_json(folder / DESCRIPTION, Description, way_out=WAY_OUT)
        if about["format"] != FORMAT or about["leads"] != list(LEADS) or about["units"] != "mV":
            raise EcgkitError(f"{folder / DESCRIPTION} is of another version: export the model again")
        if file_sha256(folder / ONNX) != about["sha256"]:
            raise EcgkitError(f"{folder / ONNX} is not the file that {DESCRIPTION} describes: {WAY_OUT}")
        # The calibration is part of the graph.
        inside = {"classes": {name: {"method": "identity"} for name in about["classes"]}}
        decisions = (read_thresholds(folder), inside)
        super().__init__(folder.name, about["classes"], about["label_set"], decisions=decisions, card=read_card(folder))
        self._about = about
        self._session = _open(folder / ONNX)
        _check_outputs(folder, about, {output.name: output.shape for output in self._session.get_outputs()})

    @property
    def sampling_rate(self) -> int:
        """The sampling rate in Hz that the graph reads."""
        return self._about["sampling_rate"]

    @property
    def n_samples(self) -> int:
        """The samples per lead that the graph reads at once."""
        return self._about["n_samples"]

    @property
    def takes_metadata(self) -> bool:
        """False: a model that takes age and sex is not exported."""
        return False

    def _run(self, ecgs: Sequence[ECG], **skip: Unpack[Skip]) -> dict[str, NDArray[np.float32]]:
        """Return the outputs of the graph by their names."""
        batches = prepared_batches(ecgs, self._millivolts, None, n_read=self.n_samples, **skip)
        names = self._about["outputs"]
        results = [self._session.run(names, {"signal": signal}) for signal, _ in batches]
        return {name: np.concatenate(each) for name, each in zip(names, zip(*results, strict=True), strict=True)}

    def _probabilities(
        self, ecgs: Sequence[ECG], **skip: Unpack[Skip]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        found = self._run(ecgs, **skip)
        return found["uncalibrated"], found["probability"]

    def outcome(self, ecgs: Sequence[ECG], **skip: Unpack[Skip]) -> Outcome:
        """Return calibrated probabilities, and how unlike the training records each ECG is; see `predict_proba`."""
        found = self._run(ecgs, **skip)
        distance = found.get(DISTANCE, np.full(len(ecgs), np.nan))
        return Outcome(found["probability"], np.asarray(distance, np.float64))

    def _computed(self, ecgs: Sequence[ECG], **skip: Unpack[Skip]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        return self._probabilities(ecgs, **skip)[0], self.outcome(ecgs, **skip).distance

    def _embed(self, ecgs: Sequence[ECG], **skip: Unpack[Skip]) -> NDArray[np.float32]:
        del ecgs, skip
        raise EcgkitError(f"{self.name} is an ONNX graph without an embedding: use the model that was exported")

    def _millivolts(self, ecg: ECG, **skip: Unpack[Skip]) -> NDArray[np.float32]:
        """Return what the graph reads of an ECG, which is checked as for every model."""
        checks = {name: bool(skip.get(name)) for name in ("anyway", "allow_missing_leads")}
        microvolts = checked_microvolts(ecg, sampling_rate=self.sampling_rate, n_samples=self.n_samples, **checks)
        return (microvolts / 1000).astype(np.float32)


def _check_outputs(folder: Path, about: Description, shapes: Mapping[str, Sequence[int | str]]) -> None:
    """Check that ``model.json`` describes the outputs of a graph, whose shapes are given by name."""
    described = (about["outputs"], len(about["classes"]))
    found = (list(shapes), shapes.get("probability", [0])[-1])
    if described != found:
        texts = ["{} of {} classes".format(", ".join(names), number) for names, number in (described, found)]
        raise EcgkitError(f"{folder / DESCRIPTION} describes {texts[0]}, {ONNX} gives {texts[1]}: {WAY_OUT}")


def _open(path: Path) -> Any:
    """Open a graph with as many threads as torch would take."""
    runtime: Any = require("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    try:
        return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a dozen types without a common one
        raise EcgkitError(f"{path} cannot be opened ({one_line(error)}): {WAY_OUT}") from error
