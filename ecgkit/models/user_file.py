"""A user's own architecture, a subclass of `ECGModel` in a file of the user's: ``my_model.py:MyNet``."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from ecgkit.errors import EcgkitError
from ecgkit.io import file_sha256
from ecgkit.models.base import ECGModel

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


def import_architecture(spec: str, *, folder: Path | None = None, sha256: str | None = None) -> type[ECGModel]:
    """Run the file and return its class; the same contents are run once per process."""
    file, name = locate(spec, folder)
    checksum = file_sha256(file)
    if sha256 and checksum != sha256:
        raise EcgkitError(
            f"{file} has changed since the model was trained (SHA-256 {checksum[:12]}, not {sha256[:12]}): restore it"
        )
    module_name = f"ecgkit_user_model_{checksum}"
    if module_name not in sys.modules:
        module = ModuleType(module_name)
        module.__file__ = str(file)
        sys.modules[module_name] = module  # dataclasses and pickles look their module up there
        try:
            exec(compile(file.read_bytes(), file, "exec"), module.__dict__)  # noqa: S102 - the user named this file
        except Exception as error:
            del sys.modules[module_name]
            raise EcgkitError(f"cannot import {file}: {type(error).__name__}: {error}") from error
    return check_class(getattr(sys.modules[module_name], name, None), file, name)


def check_class(found: object, file: Path, name: str) -> type[ECGModel]:
    """Check that a class follows `ECGModel` as far as its definition shows it."""
    what = f"{name} of {file}"
    if found is None:
        raise EcgkitError(f"{file} has no class {name}: write the model as FILE.py:CLASS, such as {EXAMPLE}")
    if not (inspect.isclass(found) and issubclass(found, ECGModel)):
        raise EcgkitError(f"{what} is not a subclass of ecgkit.models.ECGModel: derive it from that class")
    if inspect.isabstract(found):
        raise EcgkitError(f"{what} does not define encode(signal): return (records, features) from it")
    if not isinstance(getattr(found, "gradcam_layer", None), str):
        raise EcgkitError(f"{what} has no gradcam_layer: set it to the name of the layer that Grad-CAM reads")
    parameters = inspect.signature(found).parameters.values()
    if not any(item.kind == item.VAR_KEYWORD for item in parameters):
        raise EcgkitError(f"{what} does not take **shared: accept it in __init__ and call super().__init__(**shared)")
    for item in parameters:
        if item.kind not in (item.VAR_KEYWORD, item.KEYWORD_ONLY) or (
            item.kind == item.KEYWORD_ONLY and item.default is item.empty
        ):
            raise EcgkitError(f"{what}: the option {item.name!r} needs a default and must follow a * in __init__")
    return found


def check_model(model: ECGModel) -> None:
    """Run two records of zeros through a model and check what comes out, without changing the model.

    Raises
    ------
    EcgkitError
        Naming what does not follow `ECGModel`.
    """
    name, was_training = type(model).__name__, model.training
    if not hasattr(model, "n_features"):
        raise EcgkitError(f"{name} has no head: call self.build_head(n_features, dropout=...) at the end of __init__")
    shapes: dict[str, tuple[int, ...]] = {}
    try:
        layer = model.get_submodule(model.gradcam_layer)
    except AttributeError as error:
        raise EcgkitError(f"{name} has no layer {model.gradcam_layer!r}: correct its gradcam_layer") from error
    handle = layer.register_forward_hook(lambda *call: shapes.update(gradcam=tuple(call[2].shape)))
    signal, metadata = torch.zeros(2, model.n_leads, model.n_samples), torch.zeros(2, model.n_metadata)
    try:
        with torch.inference_mode():
            shapes["embed"] = _shape(model.eval().embed(signal))
            shapes["forward"] = _shape(model(signal, metadata if model.n_metadata else None))
    except RuntimeError as error:
        raise EcgkitError(f"{name} cannot read {tuple(signal.shape)}: {str(error).partition(chr(10))[0]}") from error
    finally:
        handle.remove()
        model.train(was_training)
    for call, expected in (("embed", (2, model.n_features)), ("forward", (2, model.n_classes))):
        if shapes[call] != expected:
            raise EcgkitError(f"{name}.{call} returns the shape {shapes[call]} for two records: return {expected}")
    if len(shapes.get("gradcam", ())) != 3:
        raise EcgkitError(f"the layer {model.gradcam_layer!r} of {name} must return (records, channels, time)")


def _shape(output: Tensor) -> tuple[int, ...]:
    """Return the shape of an output, or an empty one if it is no tensor."""
    return tuple(getattr(output, "shape", ()))
