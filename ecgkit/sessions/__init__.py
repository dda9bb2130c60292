"""Sessions: numbered output folders, created, found, locked, resumed and closed."""

# ruff: noqa: F401 # a name is public by its import here
from ecgkit.sessions.differences import describe_differences, describe_value, differences, flatten
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
