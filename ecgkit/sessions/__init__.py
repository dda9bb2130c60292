"""Sessions: numbered output folders, created, found, locked, resumed and closed."""

from __future__ import annotations

from ecgkit.sessions.differences import describe_differences, differences, flatten
from ecgkit.sessions.environment import describe_environment, environment, read_environment, record_environment
from ecgkit.sessions.folder import REPRODUCTION, SESSION_VARIABLE, Session, save_picture
from ecgkit.sessions.lifecycle import (
    LATEST,
    NEW,
    claim,
    create,
    delete,
    find,
    find_finished,
    is_held_here,
    list_sessions,
    matching,
    notes,
    open_finished,
    open_session,
    original_of,
    probes_of,
    read_config,
    reproductions_of,
    session_number,
    start,
)

__all__ = [
    "LATEST", "NEW", "REPRODUCTION", "SESSION_VARIABLE", "Session", "claim", "create",
    "delete", "describe_differences", "describe_environment", "differences", "environment", "find",
    "find_finished", "flatten", "is_held_here", "list_sessions", "matching", "notes", "open_finished",
    "open_session", "original_of", "probes_of", "read_config", "read_environment", "record_environment",
    "reproductions_of", "save_picture", "session_number", "start",
]  # fmt: skip
