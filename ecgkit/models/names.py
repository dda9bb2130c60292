"""The names of architectures: the registry, and a user's own file. Nothing here imports torch."""

from __future__ import annotations

from pathlib import Path

from ecgkit.errors import EcgkitError, check_choice

MODELS: dict[str, str] = {
    "resnet1d": "ResNet1d",
    "xlstm": "XLSTM",
    "hybrid": "Hybrid",
    "cnn": "CNN",
    "cross_lead_cnn": "CrossLeadCNN",
    "cnn_bilstm": "CNNBiLSTM",
    "bilstm": "BiLSTMModel",
    "residual_bilstm_attention": "ResidualBiLSTMAttention",
    "parallel_xlstm": "ParallelXLSTM",
    "hierarchical_xlstm": "HierarchicalXLSTM",
    "recurrence_cnn": "RecurrenceCNN",
    "token_encoder": "TokenEncoder",
}
"""Every architecture: its name, which is also the name of its module, and its class. Modules load on first use."""

EXAMPLE = "my_model.py:MyNet"


def is_user_file(spec: str) -> bool:
    """Return True if a model is specified as a Python file and a class, not by a registered name."""
    return ":" in spec or spec.endswith(".py")


def locate(spec: str, folder: Path | None = None) -> tuple[Path, str]:
    """Split ``"path.py:Class"`` into the file, absolute, and the name of the class."""
    path, separator, name = spec.rpartition(":")
    if not separator or not path.endswith(".py") or not name.isidentifier():
        raise EcgkitError(f"model {spec!r} is not a Python file and a class: write it as {EXAMPLE}")
    file = (folder or Path.cwd()) / Path(path).expanduser()
    if not file.is_file():
        raise EcgkitError(f"model {spec!r}: there is no file {file}; check the path")
    return file.resolve(), name


def absolute_spec(spec: str, folder: Path | None = None) -> str:
    """Return ``"path.py:Class"`` with an absolute path."""
    file, name = locate(spec, folder)
    return f"{file}:{name}"


def check_name(spec: str) -> None:
    """Refuse a model that is neither a registered name nor a user's own file, without importing it."""
    if is_user_file(spec):
        locate(spec)
    else:
        check_choice("model", spec, MODELS)
