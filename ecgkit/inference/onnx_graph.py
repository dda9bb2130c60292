"""A model from millivolts to calibrated probabilities as one module, which `write_onnx` exports."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

from ecgkit.errors import EcgkitError, one_line, require
from ecgkit.inference.model_folder import ModelFolder
from ecgkit.inference.reference import Reference
from ecgkit.inference.weights import TrainedModel
from ecgkit.signals.ecg import LEADS, check_rate
from ecgkit.signals.filters import LARGEST_FACTOR, resampling_kernels
from ecgkit.signals.prepare import LARGEST
from ecgkit.stats.calibration import CLIP, STRICTNESS

OPSET = 18
"""The version of ONNX's operators that is written; ONNX Runtime reads it since version 1.14."""


class Resampling(nn.Module):
    """`ecgkit.signals.filters.resample` from one rate to another as a convolution with one kernel per phase.

    Parameters
    ----------
    sampling_rate, target_rate : int
        In Hz.
    """

    def __init__(self, sampling_rate: int, target_rate: int) -> None:
        super().__init__()
        ratio = Fraction(target_rate, sampling_rate)
        self.up, self.down = ratio.numerator, ratio.denominator
        first, kernels = resampling_kernels(sampling_rate, target_rate)
        gain, shift = np.ones(self.up), np.arange(self.up) * self.down / self.up
        if max(self.up, self.down) <= LARGEST_FACTOR:
            # There the filter also reads the line through both ends, on which its kernels have a slight ripple.
            gain, shift = kernels.sum(1), kernels @ np.arange(first, first + kernels.shape[1])
        self.before = -first
        for name, values in (("kernels", kernels[:, None].astype(np.float32)), ("gain", gain), ("shift", shift)):
            self.register_buffer(name, torch.from_numpy(values))

    def forward(self, signal: Tensor) -> Tensor:
        """Map ``(records, leads, samples)`` in float64 to ``(records, leads, fewer or more samples)``."""
        kernels, gain, shift = (self.get_buffer(name) for name in ("kernels", "gain", "shift"))
        n_samples = signal.shape[-1]
        n_target = (n_samples * self.up + self.down - 1) // self.down
        first = signal[..., :1]
        slope = (signal[..., -1:] - first) / (n_samples - 1)
        flat = (signal - first - slope * torch.arange(n_samples)).float()
        # At least so many zeros after the end; what is too much is cut off.
        padded = functional.pad(flat, (self.before, kernels.shape[-1] + self.down)).flatten(0, 1)[:, None]
        phases = functional.conv1d(padded, kernels, stride=self.down).unflatten(0, (-1, signal.shape[1])).double()
        steps = torch.arange(phases.shape[-1])[:, None] * self.down
        line = first[..., None] * gain + slope[..., None] * (steps * gain + shift)
        return (phases.transpose(2, 3) + line).flatten(2)[..., :n_target]


class Preparing(nn.Module):
    """What `ecgkit.signals.prepare.Preparation` does with a signal without gaps and filters."""

    def __init__(self, trained: TrainedModel, sampling_rate: int) -> None:
        super().__init__()
        preparation = trained.preparation
        is_same = sampling_rate == preparation.sampling_rate
        self.resampling = nn.Identity() if is_same else Resampling(sampling_rate, preparation.sampling_rate)
        self.stretch = round(preparation.offset_seconds * preparation.sampling_rate)
        std = torch.from_numpy(preparation.std)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.from_numpy(preparation.mean)[:, None])
        self.register_buffer("std", torch.where(std > 0, std, 1.0)[:, None])

    def forward(self, signal: Tensor) -> Tensor:
        """Map ``(records, 12, samples)`` in mV to the same at the network's rate, standardised."""
        microvolts = torch.round(self.resampling(signal.double()) * 1000)
        if self.stretch:
            microvolts = microvolts - self.offset(microvolts)
        millivolts = microvolts.clamp(-LARGEST, LARGEST).float() * 1e-3
        return (millivolts - self.mean) / self.std

    def offset(self, microvolts: Tensor) -> Tensor:
        """Return the offset at each sample, as `ecgkit.signals.prepare.remove_offset` subtracts it."""
        # Sums of whole numbers are exact in float64, so that a difference of two sums is.
        n_samples = microvolts.shape[-1]
        sums = functional.pad(microvolts.cumsum(-1), (1, 0))
        start = torch.arange(n_samples) - self.stretch // 2
        stop = (start.clamp(min=0) + self.stretch).clamp(max=n_samples)
        first = (stop - self.stretch).clamp(min=0)
        return torch.round((sums[..., stop] - sums[..., first]) / (stop - first))


def cut_windows(signal: Tensor, length: int) -> Tensor:
    """Cut as `ecgkit.models.base.cut_windows`, with a number of windows that may vary: ``(records, n, 12, length)``."""
    spare = signal.shape[-1] - length
    n_windows = 1 + (2 * spare + length - 1) // length
    steps = torch.arange(n_windows)
    starts = torch.round((steps * spare).double() / (steps[-1].clamp(min=1))).long()
    return signal[..., starts[:, None] + torch.arange(length)].transpose(1, 2)


class Calibrating(nn.Module):
    """The calibration of one class, as `ecgkit.stats.calibration.calibrate` computes it."""

    def __init__(self, fitted: Mapping[str, Any]) -> None:
        super().__init__()
        self.fitted = dict(fitted)
        if fitted["method"] == "isotonic":
            x, y = (torch.tensor(fitted[name], dtype=torch.float64) for name in ("x", "y"))
            self.register_buffer("x", x)
            self.register_buffer("y", y)

    def forward(self, prob: Tensor) -> Tensor:
        """Map float64 ``(records,)`` to the same shape."""
        if self.fitted["method"] == "identity":
            return prob
        if self.fitted["method"] == "isotonic":
            x, y = self.get_buffer("x"), self.get_buffer("y")
            covered = (prob[:, None] - x[:-1]).clamp(min=0).minimum(x.diff()) / x.diff()
            value = y[0] + (covered * y.diff()).sum(1)
            return value + prob * (1 - value).clamp(max=STRICTNESS)
        clipped = prob.clamp(CLIP, 1 - CLIP)
        low, high = torch.log(clipped), -torch.log1p(-clipped)
        if self.fitted["method"] == "beta":
            return torch.sigmoid(self.fitted["a"] * low + self.fitted["b"] * high + self.fitted["c"])
        return torch.sigmoid(self.fitted["slope"] * (low + high) + self.fitted["intercept"])


class Distance(nn.Module):
    """`ecgkit.inference.reference.Reference.distance`."""

    def __init__(self, reference: Reference) -> None:
        super().__init__()
        self.rest, self.limit = reference.rest, reference.limit
        for name in ("mean", "components", "deviations"):
            self.register_buffer(name, torch.from_numpy(getattr(reference, name)))

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(records, features)`` to ``(records,)``."""
        mean, components, deviations = (self.get_buffer(name) for name in ("mean", "components", "deviations"))
        features = features.double()
        length = features.square().sum(1, keepdim=True).sqrt()
        centred = features / torch.where(length > 0, length, 1.0) - mean
        along = centred @ components.T
        outside = ((centred**2).sum(1) - (along**2).sum(1)).clamp(min=0)
        return (((along / deviations) ** 2).sum(1) + outside / self.rest**2).sqrt().float() / self.limit


class WholeModel(nn.Module):
    """Millivolts in, calibrated probabilities out, and the distance from the training records where it is known.

    Parameters
    ----------
    folder : ModelFolder
        A model for classes that takes no age and sex and was trained without filters.
    sampling_rate : int
        The rate in Hz of the signals.
    """

    def __init__(self, folder: ModelFolder, sampling_rate: int) -> None:
        super().__init__()
        trained = folder.trained
        self.preparing = Preparing(trained, sampling_rate)
        self.network = trained.model
        self.calibrating = nn.ModuleList(Calibrating(folder.calibration["classes"][name]) for name in trained.classes)
        self.distance = Distance(folder.reference) if folder.reference else None

    def forward(self, signal: Tensor) -> tuple[Tensor, ...]:
        """Map ``(records, 12, samples)`` in mV to the outputs of `output_names`."""
        network = self.network
        windows = cut_windows(self.preparing(signal), network.n_samples)
        features = network.encode(windows.flatten(0, 1)).unflatten(0, windows.shape[:2]).mean(dim=1)
        prob = network.head(network.hidden(features)).sigmoid().double()
        columns = [calibrate(column) for calibrate, column in zip(self.calibrating, prob.unbind(1), strict=True)]
        probabilities = torch.stack(columns, dim=1).float(), prob.float()
        return (*probabilities, self.distance(features)) if self.distance else probabilities


def write_onnx(folder: ModelFolder, path: Path, *, sampling_rate: int | None = None) -> Path:
    """Write a model as an ONNX graph that takes millivolts and gives calibrated probabilities.

    The input ``signal`` is float32 of shape ``(records, 12, samples)``, finite, with leads in the order of
    `ecgkit.LEADS`; the outputs ``probability`` (calibrated) and ``uncalibrated`` are float32 of shape
    ``(records, classes)``, and ``distance``, of a model with a reference, is float32 of shape ``(records,)``, above 1
    for an ECG that is unlike those of the training. The numbers of records and of samples vary. Offset removal,
    rounding, standardisation, windows and calibration are nodes of the graph.

    Parameters
    ----------
    folder : ModelFolder
        The model.
    path : Path
        The file to write.
    sampling_rate : int, optional
        The rate of the signals in Hz, from which the graph resamples; by default the network's.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    EcgkitError
        If the packages of the extra ``onnx`` are missing, or the model takes age and sex, predicts a quantity, was
        trained on filtered signals, or has a layer that ONNX lacks.
    """
    for module in ("onnx", "onnxscript"):
        require(module, "onnx")
    from ecgkit.models.kernels.onnx_cells import translations

    trained = folder.trained
    _check(trained)
    rate = trained.sampling_rate if sampling_rate is None else int(check_rate(sampling_rate))
    model = WholeModel(folder, rate).eval()
    least = shortest(trained, rate)
    example = torch.zeros(2, len(LEADS), 3 * least + 7)
    sizes = {0: Dim("records", min=1), 2: Dim("samples", min=least)}
    try:
        with _quiet():
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                dynamic_shapes=(sizes,),
                input_names=["signal"],
                output_names=output_names(folder),
                opset_version=OPSET,
                custom_translation_table=translations(),
                verbose=False,
            )
            assert program is not None  # noqa: S101 - for the type checker: the TorchScript exporter returns None
            program.save(path)
    except OSError:
        raise
    except Exception as error:  # the exporter raises whatever a layer of a user's makes it raise
        reason = one_line(error.__cause__ or error)
        raise EcgkitError(f"{trained.name} cannot be written as ONNX ({reason}): use --format folder") from error
    return path


def output_names(folder: ModelFolder) -> list[str]:
    """Return the names of the outputs of a model's graph."""
    return ["probability", "uncalibrated", *(["distance"] if folder.reference else [])]


def shortest(trained: TrainedModel, sampling_rate: int) -> int:
    """Return the samples at a rate in Hz that a network needs at least."""
    return -(-trained.n_samples * sampling_rate // trained.sampling_rate)


def _check(trained: TrainedModel) -> None:
    """Refuse what the graph has no place for."""
    problem = ""
    if trained.target:
        problem = f"predicts {trained.classes[0]}, and only models for classes"
    elif trained.scaler:
        problem = "takes age and sex, and only models of the signal alone"
    elif trained.preparation.filters:
        problem = "was trained on filtered signals, and only models of unfiltered ones"
    if problem:
        raise EcgkitError(f"{trained.name} {problem} can be written as ONNX: use --format folder")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter, which reports its own internals."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
