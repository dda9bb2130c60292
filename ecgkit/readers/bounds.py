"""Bounds of what ecgdatakit is given, so that no file takes much more time or memory than its size suggests."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable

import numpy as np

from ecgkit.errors import UnreadableRecordError

MOST_TAGS = 200_000
LARGEST_UNPACKED = 4 * 2**20
MOST_DEFINITIONS = 20_000
MOST_CHANNELS = 256


def check_markup(data: bytes) -> None:
    """Refuse an XML file of more tags or attributes than any ECG has, or with entities."""
    if b"<!ENTITY" in data.replace(b"\0", b""):
        raise UnreadableRecordError("the XML file declares entities: no ECG machine does")
    if max(data.count(b"<"), data.count(b"=")) > MOST_TAGS:
        raise UnreadableRecordError(f"the XML file has more than {MOST_TAGS:,} tags: no ECG has")


def check_sierra(data: bytes) -> None:
    """Refuse a Sierra file whose compressed leads grow far beyond the length of an ECG."""
    check_markup(data)
    text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin-1", "replace")
    if "<![CDATA[" in text:
        raise UnreadableRecordError("the Sierra file has CDATA, which no machine writes")
    for match in re.finditer(r"parsedwaveforms[^<>]*>([^<]*)", text):
        try:
            size = _unpacked_size(base64.b64decode(match[1]))
        except (binascii.Error, ValueError):
            continue  # it is not a packed lead
        if size > LARGEST_UNPACKED:
            raise UnreadableRecordError("the compressed leads of the Sierra file are far longer than any ECG")


def _unpacked_size(packed: bytes) -> int:
    """Return how many bytes the XLI chunks unpack to: LZW with codes of 10 bits, of which all after 766 stand fixed."""
    total, place = 0, 0
    while place + 8 < len(packed):
        size = int.from_bytes(packed[place : place + 4], "little", signed=True)
        if size <= 0:
            break
        bits = np.unpackbits(np.frombuffer(packed[place + 8 : place + 8 + size], np.uint8))
        codes = bits[: len(bits) // 10 * 10].reshape(-1, 10) @ (1 << np.arange(9, -1, -1))
        lengths, following, previous = np.ones(1024, np.int64), 256, 0
        for code in codes[:800].tolist():
            length = int(lengths[code]) if code < following else previous + 1
            if previous and following < 1023:
                lengths[following] = previous + 1
                following += 1
            previous = length
        total += int(lengths[codes].sum())
        place += 8 + size
    return total


def check_mfer(data: bytes) -> None:
    """Refuse an MFER file of very many definitions or channels."""
    place, count = 0, 0
    while place < len(data) and data[place] != 0x80:
        tag, place, count = data[place], place + 1, count + 1
        if count > MOST_DEFINITIONS:
            raise UnreadableRecordError(f"the MFER file has more than {MOST_DEFINITIONS:,} definitions: no ECG has")
        if tag == 0:
            continue
        place += tag == 0x3F  # attributes of a channel, whose number comes first
        length = data[place] if place < len(data) else 0
        place += 1
        if length & 0x80:
            n_bytes = length & 0x7F
            length = int.from_bytes(data[place : place + n_bytes], "big")
            place += n_bytes
        value = data[place : place + min(length, 4)]
        if tag == 0x05 and min(int.from_bytes(value, "big"), int.from_bytes(value, "little")) > MOST_CHANNELS:
            raise UnreadableRecordError(f"the MFER file has more than {MOST_CHANNELS} channels: no ECG has")
        place += 0 if tag in (0x3F, 0x67) else length  # groups of definitions are gone through


def check_dicom(data: bytes) -> None:
    """Refuse a compressed file, which a few bytes can make arbitrarily large."""
    if b"1.2.840.10008.1.2.1.99" in data[:4096]:
        raise UnreadableRecordError("the DICOM file is deflated: write it uncompressed")


def check_kardia(data: bytes) -> None:
    """Refuse JSON of another kind."""
    if b'"recordedAt"' not in data:
        raise UnreadableRecordError("the JSON is not an export of Kardia: write the samples as CSV or NPZ")


CHECKS: dict[str, Callable[[bytes], None]] = {
    "DICOM": check_dicom,
    "HL7 aECG": check_markup,
    "GE MUSE XML": check_markup,
    "Mortara XML": check_markup,
    "Philips Sierra XML": check_sierra,
    "MFER": check_mfer,
    "Kardia JSON": check_kardia,
}
"""The check of each format that needs one."""
