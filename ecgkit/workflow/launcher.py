"""Training by several processes that torchrun starts: the first one runs the notebook, the others only train."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from ecgkit.errors import EcgkitError
from ecgkit.sessions import Session

PATIENCE = timedelta(days=7)
"""How long the others wait for the first process, which torchrun ends if that one fails."""


def rank() -> int:
    """Return the number of this process among those of torchrun; 0 without it."""
    return int(os.environ.get("RANK", "0")) if is_launched() else 0


def is_launched() -> bool:
    """Return True if torchrun started this process together with others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def check_command(command: str) -> None:
    """Refuse a command that several processes would each run by themselves."""
    if is_launched() and command != "train":
        raise EcgkitError(f"torchrun starts several processes, and {command} needs one: run it without torchrun")


def announce(session: Path | None) -> None:
    """Tell the other processes which session is trained; None if there is nothing to train."""
    if is_launched():
        _store().set(_key(), str(session or ""))


def follow(config: Any, root: Path) -> None:
    """Train with the first process, in the session that it announces."""
    from ecgkit.training import data, fitting

    if session := _store().get(_key()).decode():
        fitting.follow(Session(Path(session)), config, data.training_data(config, root))


def _store() -> Any:
    """Connect to the store that torchrun keeps for its processes."""
    from torch.distributed import TCPStore

    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(host, port, is_master=False, timeout=PATIENCE)


def _key() -> str:
    """Return the name of the announcement; torchrun may start its processes again."""
    return f"ecgkit session {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
