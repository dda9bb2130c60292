"""Start the page."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from pathlib import Path

from ecgkit.errors import EcgkitError, require
from ecgkit.inference.loading import load_model
from ecgkit.serving.address import listen, url
from ecgkit.serving.page import settings

LARGEST = 256
"""MB of a file that is uploaded."""


def start_page(*, host: str, port: int, model: str, root: Path) -> None:
    """Serve the page until it is interrupted.

    Parameters
    ----------
    host : str
        The address to listen at; ``"127.0.0.1"`` is this computer only.
    port : int
        The port.
    model : str
        The model that is chosen at first; see `ecgkit.load_model`.
    root : Path
        The folder that contains the folder of training sessions.

    Raises
    ------
    EcgkitError
        If Streamlit is missing, there is no such model, or the address cannot be used.
    """
    streamlit = require("streamlit", "app")
    load_model(model, root=root)
    if not 0 < port < 65536:
        raise EcgkitError(f"port is {port}: give a number from 1 to 65535")
    listen(host, port).close()  # says why the page could not
    os.environ |= {settings.MODEL: model, settings.ROOT: str(root)}
    threading.Thread(target=announce, args=(host, port), daemon=True).start()
    options = {
        "server.address": host,
        "server.port": port,
        "server.headless": True,
        "server.fileWatcherType": "none",
        "server.maxUploadSize": LARGEST,
        "browser.gatherUsageStats": False,
        "client.showErrorDetails": "none",
        "client.toolbarMode": "minimal",
        "logger.hideWelcomeMessage": True,
    }
    with contextlib.suppress(KeyboardInterrupt):  # the way to end it
        streamlit.App(Path(__file__).with_name("script.py")).run(config=options)


def announce(host: str, port: int) -> None:
    """Print the address as soon as something listens there."""
    while True:
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
            break
        time.sleep(0.1)
    print(f"The page is at {url(host, port)} (Ctrl-C ends it)", flush=True)  # noqa: T201 - the command's result
