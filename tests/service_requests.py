"""Requests to the service."""

from __future__ import annotations

from typing import Any

from ecgkit.signals.ecg import ECG


def as_form(files: dict[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    """Return files as httpx sends them."""
    return [("file", (name, data)) for name, data in files.items()]


def as_json(ecg: ECG, **fields: Any) -> dict[str, Any]:
    """Return an ECG as a request."""
    return {"signal": ecg.signal.tolist(), "sampling_rate": ecg.sampling_rate} | fields
