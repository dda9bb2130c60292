"""A safetensors file with facts and a checksum in its header: equal contents are equal bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ecgkit.errors import EcgkitError

FACTS, CHECKSUM = "__metadata__", "sha256"


def tensor_bytes(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> bytes:
    """Format tensors and facts as a file.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        Contiguous, on the CPU.
    facts : mapping of str to str
        ``"format"``, and further facts as JSON.

    Returns
    -------
    bytes
        safetensors writes its metadata in any order; here the header is sorted.
    """
    header, body = _split(safetensors.torch.save(dict(tensors)))
    text = _header_bytes(header, {**facts, CHECKSUM: _checksum(header, facts, body)})
    return len(text).to_bytes(8, "little") + text + body


def read_tensors(path: Path, wanted: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a file, and check that it is what `tensor_bytes` gave and that every tensor is finite.

    Parameters
    ----------
    path : Path
        The file.
    wanted : str
        The format that it must have.

    Returns
    -------
    facts : dict
        The facts but the format, decoded.
    tensors : dict of str to Tensor

    Raises
    ------
    EcgkitError
        If the file is missing, damaged, of another format, or a tensor is not finite.
    """
    try:
        file = path.read_bytes()
        header, body = _split(file)
        facts = header.pop(FACTS, None) or {}
        checksum, found = facts.pop(CHECKSUM, None), facts.get("format")
        if found == wanted and checksum != _checksum(header, facts, body):
            raise ValueError("its contents do not match its checksum")
        tensors = safetensors.torch.load(file)
        decoded = {name: json.loads(value) for name, value in facts.items() if name != "format" and found == wanted}
    except (OSError, AttributeError, TypeError, ValueError, RecursionError, safetensors.SafetensorError) as error:
        raise EcgkitError(f"cannot read the weights {path}: {error}; copy them again, or train again") from error
    if found != wanted:
        way_out = "train the model again" if str(found).startswith("ecgkit") else "give weights that ecgkit wrote"
        raise EcgkitError(f"the weights {path} have the format {found!r}, not {wanted!r}: {way_out}")
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise EcgkitError(f"the weights {path} are NaN or infinite in {name!r}: train the model again")
    return decoded, tensors


def _split(file: bytes) -> tuple[dict[str, Any], bytes]:
    """Split a file into its header and the tensors."""
    start = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:start]) if 8 < start <= len(file) else None
    if not isinstance(header, dict):
        raise ValueError("it is damaged, or no safetensors file")
    return header, file[start:]


def _checksum(header: dict[str, Any], facts: Mapping[str, str], body: bytes) -> str:
    """Return the SHA-256 of a file without its checksum."""
    return hashlib.sha256(_header_bytes(header, facts) + body).hexdigest()


def _header_bytes(header: dict[str, Any], facts: Mapping[str, str]) -> bytes:
    """Format a header in one order, padded so that the tensors are aligned."""
    text = json.dumps(header | {FACTS: facts}, sort_keys=True).encode()
    return text + b" " * (-len(text) % 8)
