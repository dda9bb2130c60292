"""The service: serve."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ecgkit.cli.common import AddCommand, echo
from ecgkit.errors import EcgkitError, require, split_names
from ecgkit.inference import DEFAULT_MODEL

TOKEN = "ECGKIT_TOKEN"  # noqa: S105 - the name of the variable that has it
LIMITS = {
    "max-megabytes": "the largest request, in MiB",
    "max-seconds": "the longest ECG, in s",
    "max-leads": "the most leads of a signal",
    "max-requests": "the most requests at once; one more gets the status 429",
    "max-streams": "the most WebSockets at once",
    "timeout": "seconds after which a request is given up",
    "workers": "processes that hold the models (default: one per core)",
}


def add_commands(command: AddCommand) -> None:
    """Add the commands of this module."""
    added = command("serve", serve, "Answer ECGs over HTTP and WebSocket until Ctrl-C.")
    added.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1)")
    added.add_argument("--port", type=int, default=8000, help="0 is any that is free (default: 8000)")
    text = f"models that ship, training sessions or model folders; the first is the default (default: {DEFAULT_MODEL})"
    added.add_argument("--model", nargs="+", default=[DEFAULT_MODEL], metavar="NAME", help=text)
    text = "auto is onnx for a folder of export-model --format onnx, else torch (default: auto)"
    added.add_argument("--backend", choices=("auto", "torch", "onnx"), default="auto", help=text)
    text = f"a file with the token that requests need; without it, the variable {TOKEN}, or no token"
    added.add_argument("--token-file", metavar="FILE", help=text)
    added.add_argument("--cors", metavar="ORIGINS", default="", help="web pages that may call it: https://a.org,...")
    for name, text in LIMITS.items():
        added.add_argument(f"--{name}", type=int, metavar="N", help=text)


def serve(arguments: argparse.Namespace, root: Path) -> None:
    """Print the address when the models are loaded, and serve."""
    for module in ("fastapi", "prometheus_client", "python_multipart", "uvicorn", "websockets"):
        require(module, "serve")
    from ecgkit.serving.service.server import serve as run
    from ecgkit.serving.service.settings import Settings

    limits = {name.replace("-", "_"): getattr(arguments, name.replace("-", "_")) for name in LIMITS}
    settings = Settings(
        models=tuple(arguments.model),
        backend=arguments.backend,
        root=root,
        token=read_token(arguments.token_file),
        cors=tuple(split_names(arguments.cors)),
        **{name: value for name, value in limits.items() if value is not None},
    )
    run(settings, host=arguments.host, port=arguments.port, announce=echo)


def read_token(file: str | None) -> str:
    """Return the token of a file, or of the environment; empty without one."""
    if file is None:
        return os.environ.get(TOKEN, "")
    try:
        token = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise EcgkitError(f"--token-file {file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not token:
        raise EcgkitError(f"--token-file {file} is empty: write a token into it")
    return token
