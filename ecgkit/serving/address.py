"""The address at which the page or the service listens."""

from __future__ import annotations

import socket
from contextlib import ExitStack

from ecgkit.errors import EcgkitError


def listen(host: str, port: int) -> socket.socket:
    """Return a socket at an address.

    Raises
    ------
    EcgkitError
        If the host has no such address, or the port is in use or not for this user.
    """
    if not 0 <= port <= 65535:
        raise EcgkitError(f"port is {port}: give 0 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with ExitStack() as stack:  # closes the socket where it cannot be bound
            listening = stack.enter_context(socket.socket(family, kind, protocol))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            stack.pop_all()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EcgkitError(f"{host} port {port}: {reason}; choose another --port or --host") from error
    return listening


def url(host: str, port: int) -> str:
    """Return an address as a browser takes it."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
