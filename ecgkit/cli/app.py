"""The page in the browser: app."""

from __future__ import annotations

import argparse
from pathlib import Path

from ecgkit.cli.common import AddCommand
from ecgkit.inference import DEFAULT_MODEL


def add_commands(command: AddCommand) -> None:
    """Add the commands of this module."""
    added = command("app", app, "Open a page in the browser: upload an ECG and understand the answer.")
    added.add_argument("--host", default="127.0.0.1", help="the address to listen at (default: 127.0.0.1)")
    added.add_argument("--port", type=int, default=8501, metavar="N", help="the port (default: 8501)")
    text = f"the model that is chosen at first (default: {DEFAULT_MODEL})"
    added.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME", help=text)


def app(arguments: argparse.Namespace, root: Path) -> None:
    """Serve the page until it is interrupted."""
    from ecgkit.serving.page.start import start_page

    start_page(host=arguments.host, port=arguments.port, model=arguments.model, root=root)
