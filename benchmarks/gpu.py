"""Check the recurrent kernels on a GPU, measure rates, train resnet1d, and pretrain with the time that is left.

    python benchmarks/gpu.py ROOT [--dataset ptbxl] [--minutes 12] [--target 0.930] [--to gpu.json]

``ROOT`` holds ``processed_datasets``. In this order, each with its own line in the output and, as soon as it is there,
in the file: (1) outputs and gradients of the mLSTM and sLSTM cells, in float32 on the device, against those of the
`xlstm` package in float64 on the CPU; (2) the time of forward plus backward of these cells, of the package's own and of
torch.nn.LSTM, on the device and on the CPU; (3) records per second of training and inference of whole networks on both;
(4) a training of resnet1d by its recipe, and after how many seconds fold 9 had a macro AUC of ``--target``; (5) with
the rest of the time a pretraining without labels, of as many epochs as fit, each with its checkpoint, and a linear
probe of the encoder next to random weights; the session can be given to ``ecgkit train --init``. Fold 10 stays closed.
Without a GPU everything runs on the CPU, at sizes that --records, --steps and --minutes make small.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from kernels import restore, step_of
from torch import Tensor, nn
from xlstm import mLSTMLayer, mLSTMLayerConfig, sLSTMLayer, sLSTMLayerConfig

from ecgkit import paths, sessions
from ecgkit.errors import EcgkitError
from ecgkit.feature_space import class_probes
from ecgkit.io import json_bytes, write_atomically
from ecgkit.models import create_model
from ecgkit.models.kernels import accelerate, backend
from ecgkit.training.config import TrainingConfig
from ecgkit.training.data import training_data
from ecgkit.training.fitting import fit
from ecgkit.training.pretraining import fitting
from ecgkit.training.pretraining.config import PretrainingConfig

WIDTH, HEADS = 128, 4
TOLERANCE = 1e-3
"""The largest error of an output or gradient, relative to the largest value of the tensor."""
FITTED = 0.85
"""The share of the time that is left for which epochs are planned: the probe of the encoder takes the rest."""
RUNS = 5
MODELS = ("resnet1d", "xlstm", "hybrid")
N_SAMPLES = 250


class OutOfTimeError(Exception):
    """The time for a training is over."""


def layers(steps: int) -> dict[str, nn.Module]:
    """Make one layer of each kind, with the cells of the `xlstm` package."""
    torch.manual_seed(0)
    slstm = sLSTMLayerConfig(embedding_dim=WIDTH, num_heads=HEADS, backend="vanilla", dtype="float32")
    mlstm = mLSTMLayerConfig(embedding_dim=WIDTH, num_heads=HEADS, context_length=steps)
    return {"sLSTM": sLSTMLayer(slstm), "mLSTM": mLSTMLayer(mlstm)}


def results_of(module: nn.Module, inputs: Tensor) -> list[Tensor]:
    """Return outputs and gradients of a layer, in float64 on the CPU."""
    leaf = inputs.detach().requires_grad_()
    outputs = module(leaf)
    outputs.square().mean().backward()
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    return [tensor.detach().double().cpu() for tensor in (outputs, leaf.grad, *gradients)]


def kernel_errors(device: str, *, records: int, steps: int) -> dict[str, float]:
    """Return the largest relative error of each layer with our cells, of outputs and gradients."""
    errors = {}
    for name, layer in layers(steps).items():
        for parameter in layer.parameters():  # some start at zero, by which their gradients would be trivial
            parameter.data += 0.02 * torch.randn_like(parameter)
        inputs = torch.randn(records, steps, WIDTH)
        reference = results_of(copy.deepcopy(layer).double(), inputs.double())
        ours = results_of(accelerate(copy.deepcopy(layer)).to(device), inputs.to(device))
        errors[name] = max(
            float((a - b).abs().max() / b.abs().max().clamp(min=1e-12)) for a, b in zip(ours, reference, strict=True)
        )
    return errors


def seconds(step: Callable[[], object], device: str) -> float:
    """Time a step, the best of several after one to warm up."""
    times = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        step()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def cell_times(device: str, *, records: int, steps: int) -> dict[str, float]:
    """Return the milliseconds of forward plus backward of our layers, of upstream's and of torch.nn.LSTM."""
    inputs = torch.randn(records, steps, WIDTH, device=device)
    modules: dict[str, nn.Module] = {"torch.nn.LSTM": nn.LSTM(WIDTH, WIDTH, batch_first=True)}
    for name, layer in layers(steps).items():
        modules |= {name: accelerate(copy.deepcopy(layer)), f"{name} of xlstm": layer}
    return {
        name: round(1000 * seconds(step_of(module.to(device), inputs), device), 3) for name, module in modules.items()
    }


def model_rates(name: str, device: str, *, records: int) -> dict[str, float]:
    """Return the records per second of a network in training and inference, and in training with upstream's cells."""
    torch.manual_seed(0)
    model = create_model(name, n_leads=12, n_classes=5, n_samples=N_SAMPLES, sampling_rate=100).to(device)
    optimizer = torch.optim.AdamW(model.parameters())
    inputs, labels = torch.randn(records, 12, N_SAMPLES, device=device), torch.rand(records, 5, device=device).round()

    def train() -> None:
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(model(inputs), labels).backward()
        optimizer.step()

    def infer() -> None:
        with torch.inference_mode():
            model(inputs)

    rates = {"training": records / seconds(train, device)}
    model.eval()
    rates["inference"] = records / seconds(infer, device)
    if name != "resnet1d":
        restore(model.train())
        rates["training with the cells of xlstm"] = records / seconds(train, device)
    return {key: round(value, 1) for key, value in rates.items()}


def train_resnet1d(root: Path, dataset: str, *, target: float, until: float) -> dict[str, Any]:
    """Train resnet1d by its recipe, and return when fold 9 reached the target and where it ended."""
    config = TrainingConfig.resolve(root, dataset=dataset, model="resnet1d", test=False)
    session = sessions.create(paths.TRAINING, root)
    session.write_json("config.json", asdict(config) | config.inputs(root))
    started = time.monotonic()
    scores: list[float] = []
    reached: list[float] = []

    def on_epoch(_: int, score: float) -> None:
        scores.append(round(score, 4))
        if score >= target and not reached:
            reached.append(round(time.monotonic() - started, 1))
        if time.monotonic() > until:
            raise OutOfTimeError

    with contextlib.suppress(OutOfTimeError):
        fit(session, config, training_data(config, root), on_epoch=on_epoch)
    return {
        "session": session.name,
        "macro_auc_fold_9": scores,
        "seconds": round(time.monotonic() - started, 1),
        "target": target,
        "seconds_to_target": reached[0] if reached else None,
    }


def pretrain(root: Path, dataset: str, *, until: float, **options: Any) -> dict[str, Any]:
    """Pretrain for as many epochs as the time that is left allows, and probe the encoder next to random weights."""
    settings = {"dataset": dataset, "device": "auto", **options}
    config = PretrainingConfig.resolve(root, epochs=2, **settings)
    data = fitting.pretraining_data(config, root)
    with tempfile.TemporaryDirectory() as temporary:
        tried = sessions.create(paths.PRETRAINING, Path(temporary))
        fitting.pretrain(tried, config, data)
        of_epoch = float(fitting.read_history(tried)["seconds"].iloc[-1])  # the first one also warms up
    started = time.monotonic()
    epochs = int(FITTED * (until - started) / of_epoch)
    if epochs < 1:
        return {"seconds_per_epoch": of_epoch, "epochs": 0}
    config = PretrainingConfig.resolve(root, epochs=epochs, **settings)
    session = sessions.create(paths.PRETRAINING, root)
    session.write_json("config.json", asdict(config) | config.inputs(root))
    session.write_json("environment.json", sessions.environment())
    trained = fitting.pretrain(session, config, data)
    seconds_taken = round(time.monotonic() - started, 1)
    results = class_probes.measure_features(trained, fitting.pretraining_data(config, root, labels=True))
    session.write_json(class_probes.METRICS, results)
    session.mark_done()
    return {
        "session": session.label,
        "seconds_per_epoch": of_epoch,
        "epochs": epochs,
        "seconds": seconds_taken,
        "feature_rank": round(float(fitting.read_history(session)["feature_rank"].iloc[-1]), 1),
        "macro_auc_fold_9": {name: round(results["macro"][name]["value"], 4) for name in ("pretrained", "random")},
    }


def main() -> None:
    """Run all parts, and write what there is after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, nargs="?", default=Path())
    parser.add_argument("--dataset", default="ptbxl")
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--target", type=float, default=0.930)
    parser.add_argument("--records", type=int, default=128, help="records per step of the measurements (default: 128)")
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 1000], help="default: 100 1000")
    parser.add_argument("--to", type=Path, default=Path("gpu.json"))
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    device, found = "cuda" if torch.cuda.is_available() else "cpu", {}

    def keep(name: str, value: Any) -> None:
        found[name] = value
        print(name, json.dumps(value), flush=True)
        write_atomically(arguments.to, json_bytes(found))

    name = torch.cuda.get_device_name() if device == "cuda" else "no GPU"
    keep("device", {"name": name, "torch": torch.__version__, "kernels": backend(device)})
    errors = kernel_errors(device, records=2, steps=min(arguments.steps))
    keep("kernel errors", {"largest relative": errors, "passed": max(errors.values()) < TOLERANCE})
    for place in dict.fromkeys((device, "cpu")):
        records = arguments.records if place == device else max(2, arguments.records // 8)
        for steps in arguments.steps:
            if place == device or steps == min(arguments.steps):
                keep(f"ms on {place}, {records} x {steps}", cell_times(place, records=records, steps=steps))
        for model in MODELS:
            keep(f"records/s of {model} on {place}", model_rates(model, place, records=records))
    keep("resnet1d", train_resnet1d(arguments.root, arguments.dataset, target=arguments.target, until=end))
    if time.monotonic() < end:
        keep("pretrain", pretrain(arguments.root, arguments.dataset, until=end))
    if not found["kernel errors"]["passed"]:
        raise EcgkitError(f"the kernels differ from the reference by more than {TOLERANCE}: {errors}")


if __name__ == "__main__":
    main()
