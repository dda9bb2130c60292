"""The command ``ecgkit``."""

from __future__ import annotations

from ecgkit.cli.command import main, make_parser

__all__ = ["main", "make_parser"]
