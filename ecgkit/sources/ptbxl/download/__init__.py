"""Getting data sets from where they are published."""

from __future__ import annotations

from ecgkit.sources.ptbxl.download.ptbxl import Downloaded, download_ptbxl
from ecgkit.sources.ptbxl.download.transfer import Patience

__all__ = ["Downloaded", "Patience", "download_ptbxl"]
