"""The weights that ship: each a folder of this one, which stands alone and has a card that says what it is good for."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "shipped_models"
"""The folder that holds them."""

DESCRIPTION = "model.json"
"""The file that makes a folder a model: what its input and its output mean, and what it was trained on."""


def shipped() -> tuple[str, ...]:
    """Name the models that ship, in the order of the alphabet."""
    # A hidden folder is an export that is not finished.
    return tuple(sorted(path.parent.name for path in FOLDER.glob(f"[!.]*/{DESCRIPTION}")))
