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
from ecgkit.models.names import locate


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
    if not (inspect.isclass(found) and issubclass(found, ECGModel)):
        raise EcgkitError(f"{file} has no class {name} that is a subclass of ecgkit.models.ECGModel: define one")
    problem = ""
    parameters = inspect.signature(found).parameters.values()
    if inspect.isabstract(found):
        problem = "does not define encode(signal), which returns (records, features)"
    elif found.forward is not ECGModel.forward:
        problem = "defines forward, which is ECGModel's: define encode, and classify if the head differs"
    elif not isinstance(getattr(found, "gradcam_layer", None), str):
        problem = "has no gradcam_layer, the name of the layer that Grad-CAM reads"
    elif not any(item.kind == item.VAR_KEYWORD for item in parameters):
        problem = "does not take **shared in __init__, to be passed to super().__init__(**shared)"
    for item in parameters:
        if item.kind != item.VAR_KEYWORD and (item.kind != item.KEYWORD_ONLY or item.default is item.empty):
            problem = problem or f"has the option {item.name!r}, which needs a default and must follow a * in __init__"
    if problem:
        raise EcgkitError(f"{name} of {file} {problem}: see the models in {Path(__file__).parent}")
    return found


def check_model(model: ECGModel) -> None:
    """Check the shapes that a model returns for two records of zeros, without changing the model.

    Raises
    ------
    EcgkitError
        Naming what does not follow `ECGModel`.
    """
    name, was_training = type(model).__name__, model.training
    signal, metadata = torch.zeros(2, model.n_leads, model.n_samples), torch.zeros(2, model.n_metadata)
    maps: list[Tensor] = []
    try:
        layer = model.get_submodule(model.gradcam_layer)
        handle = layer.register_forward_hook(lambda *call: maps.append(call[2]))
        with torch.inference_mode():
            features, logits = model.eval().embed(signal), model(signal, metadata if model.n_metadata else None)
        handle.remove()
        expected = {"embed": (features, (2, model.n_features)), "forward": (logits, (2, model.n_classes))}
    except (AttributeError, RuntimeError) as error:
        raise EcgkitError(f"{name} does not follow ECGModel: {str(error).partition(chr(10))[0]}") from error
    finally:
        model.train(was_training)
    for call, (output, shape) in expected.items():
        if output.shape != shape:
            raise EcgkitError(f"{name}.{call} returns the shape {tuple(output.shape)} for two records, not {shape}")
    if not maps or maps[0].ndim != 3:
        raise EcgkitError(f"{name}: the layer {model.gradcam_layer!r} must return (records, channels, time)")
