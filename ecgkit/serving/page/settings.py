"""What is configured outside of the page, by environment variables or by Streamlit's secrets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecgkit import paths
from ecgkit.inference import DEFAULT_MODEL

MODEL, ROOT = "ECGKIT_APP_MODEL", "ECGKIT_APP_ROOT"
ENDPOINT, KEY, NAME = "ECGKIT_LANGUAGE_MODEL_ENDPOINT", "ECGKIT_LANGUAGE_MODEL_KEY", "ECGKIT_LANGUAGE_MODEL"


def model() -> str:
    """Return the model that is chosen at first."""
    return os.environ.get(MODEL, DEFAULT_MODEL)


def root() -> Path:
    """Return the folder of training sessions."""
    return paths.resolve_root(os.environ.get(ROOT) or None)


def secret(name: str, secrets: Mapping[str, Any]) -> str:
    """Return a setting of the environment, else of the secrets, else an empty text."""
    try:
        return os.environ.get(name) or str(secrets.get(name, ""))
    except FileNotFoundError:  # Streamlit's way to say that there are no secrets
        return ""
