"""The table of formats: how each is recognised by its content, and what reads it."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ecgkit.errors import UnknownFormatError, UnreadableRecordError
from ecgkit.readers.arrays import read_npy, read_npz, read_parquet
from ecgkit.readers.base import Hints, Signals
from ecgkit.readers.clinical import PARSERS, make_reader, parser_accepts
from ecgkit.readers.edf import read_edf
from ecgkit.readers.hdf5 import read_hdf5
from ecgkit.readers.text import decode, is_text, read_text
from ecgkit.readers.wfdb import existing, read_wfdb

HEAD = 4096
"""Bytes at the beginning of a file that tell its format."""

_JSON_LIST = re.compile(rb"\s*\[\s*[\[{]")
_NO_TABLE = re.compile(rb"%PDF|%!PS|" + _JSON_LIST.pattern)


@dataclass(frozen=True)
class Format:
    """A format of files.

    Attributes
    ----------
    name : str
        Its name for the user.
    matches : callable
        Takes the path and the first bytes of a file and returns True if it is of this format.
    read : callable
        Takes the path and the hints of the caller and returns the signals.
    suffixes : tuple of str
        How the names of its files end, as a rule: these are looked for in a folder.
    has_records : bool
        Whether a file can hold many records, of which the caller chooses one.
    """

    name: str
    matches: Callable[[Path, bytes], bool]
    read: Callable[[Path, Hints], Signals]
    suffixes: tuple[str, ...]
    has_records: bool = False


def _starts(*marks: bytes) -> Callable[[Path, bytes], bool]:
    """Recognise a format by its first bytes."""
    return lambda _path, head: head.startswith(marks)


def _root(pattern: str) -> Callable[[Path, bytes], bool]:
    """Recognise an XML format by what stands at its beginning."""
    return lambda _path, head: re.search(pattern, xml_head(head)) is not None


def xml_head(head: bytes) -> str:
    """Return the beginning of an XML file as text, empty for other files."""
    text = head.decode("utf-16", "ignore") if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else (
        head.decode("utf-8-sig", "ignore")
    )  # fmt: skip
    return text if text.lstrip().startswith("<") else ""


def _is_wfdb(path: Path, head: bytes) -> bool:
    """Return True for the header of a WFDB record, and for a signal file whose header lies next to it."""
    if path.suffix.lower() != ".hea" and Path(existing(str(path.with_suffix(".hea")))).is_file():
        return path.suffix.lower() in (".dat", ".mat") or head.startswith(b"MATLAB")
    if not is_text(head):
        return False
    lines = [line for line in decode(head).splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if path.suffix.lower() == ".hea":
        return True
    rate = r"[ \t]+\d+(?:\.\d+)?(?:e[-+]?\d+)?(?:/\S+)?(?:[ \t]+\d+.*)?"
    first = re.fullmatch(rf"[\w-]+(/\d+)?[ \t]+\d+(?:{rate})?", lines[0].strip()) if len(lines) > 1 else None
    if first is None:
        return False
    return re.match(r"\S+[ \t]+\d+$" if first[1] else r"\S+\.(dat|mat)[ \t]+\d+", lines[1]) is not None


def _is_scp(_path: Path, head: bytes) -> bool:
    """Return True if the first section is one of pointers that starts with the pointer to itself."""
    if len(head) < 32 or head[8:10] != b"\0\0":
        return False
    return head[22:24] == b"\0\0" and head[28:32] == b"\7\0\0\0"


FORMATS = (
    Format("NumPy .npy", _starts(b"\x93NUMPY"), read_npy, (".npy",), has_records=True),
    Format("HDF5", _starts(b"\x89HDF\r\n\x1a\n"), read_hdf5, (".h5", ".hdf5"), has_records=True),
    Format("Parquet", _starts(b"PAR1"), read_parquet, (".parquet",)),
    Format(
        "NumPy .npz",
        lambda _path, head: head.startswith(b"PK\3\4") and b".npy" in head[:200],
        read_npz,
        (".npz",),
        has_records=True,
    ),
    Format("EDF", _starts(b"0       ", b"\xffBIOSEMI"), read_edf, (".edf", ".bdf")),
    Format("DICOM", lambda _path, head: head[128:132] == b"DICM", make_reader("DICOM"), (".dcm",)),
    Format("ISHNE", _starts(b"ISHNE1.0"), make_reader("ISHNE"), (".ecg",)),
    Format("SCP-ECG", _is_scp, make_reader("SCP-ECG"), (".scp",)),
    Format("HL7 aECG", _root(r"<(?:[\w.-]+:)?AnnotatedECG\b"), make_reader("HL7 aECG"), (".xml",)),
    Format(
        "Philips Sierra XML", _root(r"(?i)<(?:[\w.-]+:)?restingecgdata\b"), make_reader("Philips Sierra XML"), (".xml",)
    ),
    Format("GE MUSE XML", _root(r"(?i)<RestingECG[\s>]|<MuseInfo"), make_reader("GE MUSE XML"), (".xml",)),
    Format("Mortara XML", _root(r"<ECG[\s>]"), make_reader("Mortara XML"), (".xml",)),
    Format(
        "Kardia JSON",
        lambda _path, head: head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"),
        make_reader("Kardia JSON"),
        (".json",),
    ),
    Format("WFDB", _is_wfdb, read_wfdb, (".hea",)),
    Format(
        "MFER",
        lambda path, head: parser_accepts("MFER", path, head) and not is_text(head),
        make_reader("MFER"),
        (".mwf",),
    ),
    Format(
        "CSV or TSV",
        lambda _path, head: is_text(head) and not xml_head(head) and not _NO_TABLE.match(head),
        read_text,
        (".csv", ".tsv"),
    ),
)
"""All formats, in the order in which they are tried; a zip is unpacked before."""

SUFFIXES = frozenset(suffix for found in FORMATS for suffix in found.suffixes)
"""How the names of files of all formats end."""

REFUSED = (
    (
        rb"%PDF|%!PS|\x89PNG|\xff\xd8\xff|GIF8|II\*\0|MM\0\*|BM",
        "a picture or a printed page: it has no samples, export the ECG as data",
    ),
    (
        rb"\x1f\x8b|7z\xbc\xaf|Rar!|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|.{257}ustar",
        "compressed or an archive: unpack it first",
    ),
    (rb"PK\x03\x04|PK\x05\x06", "a zip in a zip: unpack the outer one"),
    (rb"\xd0\xcf\x11\xe0", "an Office document: save its table as CSV"),
    (rb"ARROW1", "a table of Arrow or Feather: write it as Parquet"),
    (_JSON_LIST.pattern, "a list of JSON: write the samples as CSV or NPZ"),
    (
        rb"MATLAB|.{20}val\0",
        "of MATLAB: give it with its header (.hea) as {name: bytes} or in one zip, or save its arrays as NPZ",
    ),
    (rb"ANN  1\.0", "an ISHNE file of annotations: give the recording that it belongs to"),
    (rb"\x80[\x02-\x05]", "a pickle, which can run any code: save the arrays with numpy.savez"),
)
"""Beginnings of files that hold no ECG that can be read, and what to do."""


def find_format(path: Path) -> Format:
    """Return the format of a file.

    Raises
    ------
    UnknownFormatError
        If it is none that is read: the message says what it seems to be.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head:
        raise UnreadableRecordError("the file is empty")
    for found in FORMATS:
        if found.matches(path, head):
            return found
    for pattern, reason in REFUSED:
        if re.match(pattern, head, re.DOTALL):
            raise UnknownFormatError(f"the file is {reason}")
    if "<HealthData" in xml_head(head):
        raise UnknownFormatError(
            "the export of Apple Health has the ECGs in its folder electrocardiograms: open one of these"
        )
    if path.suffix.lower() in (".dat", ".mat"):
        raise UnreadableRecordError(
            f"{path.name} needs its header {path.stem}.hea in the same folder, or in one zip with it"
        )
    root = re.search(r"<([A-Za-z_][\w.:-]*)", re.sub(r"<[?!][^>]*>", "", xml_head(head)))
    kind = f"XML with the root {root[1]}, which" if root else "of a format that"
    raise UnknownFormatError(f"the file is {kind} is not read; read are {', '.join(item.name for item in FORMATS)}")


assert set(PARSERS) <= {item.name for item in FORMATS}  # noqa: S101 - every parser has its row in the table
