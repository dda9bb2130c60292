"""The process of the service: its address, its log, its start and its end."""

from __future__ import annotations

import signal
from collections.abc import Callable

import uvicorn

from ecgkit.errors import EcgkitError
from ecgkit.serving.address import listen, url
from ecgkit.serving.service.app import make_app
from ecgkit.serving.service.edge import set_up_log
from ecgkit.serving.service.settings import Settings

BACKLOG = 2048


def serve(settings: Settings, *, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve until the process is told to end (SIGINT or SIGTERM), which lets it finish what it has begun.

    Parameters
    ----------
    settings : Settings
        The models and the limits.
    host : str
        The address to listen on.
    port : int
        The port; 0 for any that is free.
    announce : callable
        Called with the address of the service when its models are loaded.

    Raises
    ------
    EcgkitError
        If the address is taken or not this machine's, or a model cannot be loaded.
    """
    listening = listen(host, port)
    set_up_log()
    failures: list[str] = []

    def loaded(message: str) -> None:
        if message:
            failures.append(message)
            server.should_exit = True
        else:
            announce(url(host, listening.getsockname()[1]))

    config = uvicorn.Config(
        make_app(settings, loaded),
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=settings.timeout,
        ws_max_size=settings.max_bytes,
    )
    server = uvicorn.Server(config)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # uvicorn raises it again at the end, when all is done
    with listening:
        server.run(sockets=[listening])
    if failures:
        raise EcgkitError(failures[0])
