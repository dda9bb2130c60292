"""What lies beside the records: the list of checksums, and the manifest that says how many records are there."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecgkit.errors import EcgkitError
from ecgkit.io import json_bytes, write_atomically
from ecgkit.sources.ptbxl.download.transfer import SUMS
from ecgkit.sources.ptbxl.source import MANIFEST, PUBLISHED_ROWS, read_manifest


@dataclass(frozen=True)
class Sums:
    """What ``SHA256SUMS.txt`` says.

    Attributes
    ----------
    text : bytes
        As it is published.
    files : mapping of str to bytes
        For each file its SHA-256.
    """

    text: bytes
    files: Mapping[str, bytes]


def parse_sums(text: bytes) -> Sums:
    """Read lines as ``sha256sum`` writes them; others are passed over."""
    found = re.finditer(rb"^([0-9a-fA-F]{64})[ \t]+\*?(?:\./)?(.+?)\r?$", text, re.MULTILINE)
    return Sums(text, {line[2].decode("utf-8", "replace"): bytes.fromhex(line[1].decode()) for line in found})


class Manifest:
    """The file beside the tables that `ecgkit.sources.PtbXl` reads; see there.

    Parameters
    ----------
    folder : Path
        Of the data set.
    urls : list of str
        The addresses that it is read from.

    Attributes
    ----------
    data : dict
        What the file says.

    Raises
    ------
    EcgkitError
        If the folder says of itself that it is a part: it was made by hand, and is not ours to change.
    """

    def __init__(self, folder: Path, urls: list[str]) -> None:
        self.folder, self.urls = folder, urls
        try:
            self.data: dict[str, Any] = read_manifest(folder) or {}
        except EcgkitError:
            self.data = {}
        if self.data.get("part"):
            raise EcgkitError(
                f"{folder} says in its {MANIFEST} that it is a part made by hand: "
                "move it away, or choose another --root"
            )

    @property
    def n_table(self) -> int:
        """Records in the table."""
        return int(self.data["n_table"])

    def known_sums(self) -> Sums | None:
        """Give the list of checksums that an earlier call read from the same web addresses, if it is there whole."""
        path = self.folder / SUMS
        if self.data.get("from") != self.urls or not self.urls[0].startswith("http") or not path.is_file():
            return None
        text = path.read_bytes()
        return parse_sums(text) if hashlib.sha256(text).hexdigest() == self.data.get("sums_sha256") else None

    def begin(self, sums: Sums, names: Mapping[int, Sequence[str]]) -> None:
        """Write down the list of checksums and what is there before anything else comes.

        Parameters
        ----------
        sums : Sums
            The list.
        names : mapping of int to sequence of str
            For each sampling rate in Hz the records of the table.
        """
        write_atomically(self.folder / SUMS, sums.text)
        n_table = len(names[100])
        # What an earlier call brought counts as far as it is still there; a folder laid down by hand may be whole.
        known = self.data.get("first", {})
        counts = {str(rate): self._n_there(records, known.get(str(rate), 0)) for rate, records in names.items()}
        self._write(
            dataset="PTB-XL",
            version=PUBLISHED_ROWS.get(n_table),
            sums_sha256=hashlib.sha256(sums.text).hexdigest(),
            n_table=n_table,
            first={rate: count for rate, count in counts.items() if count},
            **{"from": self.urls},
        )

    def finish(self, rate: int, limit: int | None) -> int:
        """Write down that the records asked for are there.

        Parameters
        ----------
        rate : int
            Sampling rate in Hz.
        limit : int or None
            Records asked for, from the first of the table on; None for all.

        Returns
        -------
        int
            How many records are there at this rate, from the first on: no fewer than before.
        """
        asked = min(limit or self.n_table, self.n_table)
        first = {**self.data["first"]}
        first[str(rate)] = max(asked, first.get(str(rate), 0))
        self._write(**self.data | {"first": first})
        return int(first[str(rate)])

    def _write(self, **data: Any) -> None:
        self.data = data
        write_atomically(self.folder / MANIFEST, json_bytes(data))

    def _n_there(self, records: Sequence[str], known: int) -> int:
        """Count the records that are there from the first on: all, or else as many as were known to be, or none."""
        for count in (len(records), min(known, len(records))):
            files = (self.folder / f"{record}{suffix}" for record in records[:count] for suffix in (".hea", ".dat"))
            if all(file.is_file() for file in files):
                return count
        return 0
