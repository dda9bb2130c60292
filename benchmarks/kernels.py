"""Measure the recurrent kernels, forward plus backward, against the `xlstm` package's own cells and torch.nn.LSTM.

    python benchmarks/kernels.py [--batch N] [--model-batch N] [--threads N] [--steps N ...]

Width 128 with 4 heads: the cells by themselves, and the layers with their convolutions, projections and norms.
(An mLSTM layer works on twice its width inside, and so does its cell here.) Then a training step of the whole
parallel_xlstm on 1,000 tokens, with our cells and with upstream's in the same model; its batch is smaller, since
upstream keeps hundreds of megabytes per record. Last the attention of `token_encoder` in bfloat16, with our two matrix
products and with PyTorch's own function. Times are the best of a few, or of one where it takes long; on a machine
that does other things, only the ratios mean something.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from xlstm import mLSTMLayer, mLSTMLayerConfig, sLSTMLayer, sLSTMLayerConfig

from ecgkit.models import create_model
from ecgkit.models.kernels import accelerate, backend
from ecgkit.models.token_encoder import attend

WIDTH, HEADS = 128, 4
RATIO_TARGETS = {("sLSTM", 100): 4.0, ("sLSTM", 1000): 10.0, ("mLSTM", 100): 1.0, ("mLSTM", 1000): 10.0}
MODEL_TARGET = 10
LSTM_TARGET = 3
MIN_SECONDS = 1.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32, help="records per batch of a layer (default: 32)")
    parser.add_argument("--model-batch", type=int, default=8, help="records per batch of the model (default: 8)")
    parser.add_argument("--threads", type=int, default=1, help="default: 1")
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 1000], help="default: 100 1000")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{backend('cpu')}; {arguments.threads} threads, torch {torch.__version__}")
    print(f"\n{'forward and backward':<24}{'ecgkit':>9}{'upstream':>9}{'LSTM ms':>9}{'faster':>10}{'of LSTM':>27}")
    for steps in arguments.steps:
        measure_layers(arguments.batch, steps)
    if arguments.model_batch:
        measure_model(arguments.model_batch)
    measure_attention(arguments.batch)


def measure_layers(batch: int, steps: int) -> None:
    """Measure cells and layers at one length and print them next to the targets."""
    torch.manual_seed(0)
    signal = torch.randn(batch, steps, WIDTH, requires_grad=True)
    lstm = seconds(step_of(nn.LSTM(WIDTH, WIDTH, batch_first=True), signal))
    slstm = sLSTMLayer(sLSTMLayerConfig(embedding_dim=WIDTH, num_heads=HEADS, backend="vanilla", dtype="float32"))
    mlstm = mLSTMLayer(mLSTMLayerConfig(embedding_dim=WIDTH, num_heads=HEADS, context_length=steps))
    gates = torch.randn(batch, steps, 4 * WIDTH, requires_grad=True)
    features = torch.randn(3, batch, steps, 2 * WIDTH, requires_grad=True)
    for name, kind, module, inputs in (
        ("sLSTM cell", "sLSTM", slstm.slstm_cell, (gates,)),
        ("sLSTM layer", "sLSTM", slstm, (signal,)),
        ("mLSTM cell", "mLSTM", mlstm.mlstm_cell, features.unbind()),
        ("mLSTM layer", "mLSTM", mlstm, (signal,)),
    ):
        ours = seconds(step_of(accelerate(copy.deepcopy(module)), *inputs))
        theirs = seconds(step_of(module, *inputs))
        target = RATIO_TARGETS.get((kind, steps), 1.0)
        met = ["yes" if is_met else "NO" for is_met in (theirs / ours >= target, ours / lstm <= LSTM_TARGET)]
        times = "".join(f"{1000 * value:>9.0f}" for value in (ours, theirs, lstm))
        ratios = f"{theirs / ours:>9.1f}x (at least {target:>2.0f}: {met[0]})"
        ratios += f"{ours / lstm:>9.1f}x (at most {LSTM_TARGET}: {met[1]})"
        print(f"{f'{name}, {batch} x {steps:,}':<24}{times}{ratios}", flush=True)


def measure_model(batch: int) -> None:
    """Measure a training step of parallel_xlstm and print it next to the target."""
    torch.manual_seed(0)
    model = create_model("parallel_xlstm", n_leads=12, n_classes=5, n_samples=1000, sampling_rate=100)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    signal, labels = torch.randn(batch, 12, 1000), torch.rand(batch, 5).round()

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(model(signal), labels).backward()
        optimizer.step()

    ours = seconds(step)
    restore(model)
    theirs = seconds(step)
    print(
        f"\nparallel_xlstm, a training step of {batch} records: {ours:.2f} s, with upstream's cells {theirs:.1f} s, ",
        end="",
    )
    is_met = theirs / ours >= MODEL_TARGET
    print(f"{theirs / ours:.0f} times as fast (target: {MODEL_TARGET}, met: {'yes' if is_met else 'NO'})")


def measure_attention(batch: int) -> None:
    """Measure attention over the 50 tokens of a record, with 6 heads of 32 channels, and print its gain."""
    inputs = torch.randn(3, batch, 6, 50, 32, dtype=torch.bfloat16).unbind()
    ours, theirs = (
        seconds(step_of(function, *inputs)) for function in (attend, nn.functional.scaled_dot_product_attention)
    )
    print(
        f"\nattention in bfloat16, {batch} x 50: {1000 * ours:.1f} ms, PyTorch's own {1000 * theirs:.1f} ms, "
        f"{theirs / ours:.1f} times as fast"
    )


def restore(model: nn.Module) -> None:
    """Put upstream's cells back where `accelerate` put ours."""
    for module in model.modules():
        if type(module).__module__ == "ecgkit.models.kernels.cells":
            module.__class__ = type(module).__bases__[0]


def step_of(module: Callable[..., Any], *inputs: Tensor) -> Callable[[], None]:
    """Return a function that runs a module, or a function of tensors, forward and backward."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]

    def step() -> None:
        if isinstance(module, nn.Module):
            module.zero_grad()
        outputs = module(*leaves)
        (outputs[0] if isinstance(outputs, tuple) else outputs).sum().backward()

    return step


def seconds(step: Callable[[], None]) -> float:
    """Time a step: the best of several, but of two if they are slow, and of one if it is very slow."""
    times: list[float] = []
    while len(times) < 2 or sum(times) < MIN_SECONDS:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
        if times[-1] > 10 * MIN_SECONDS:
            break
    return min(times)


if __name__ == "__main__":
    main()
