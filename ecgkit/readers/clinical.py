"""Read the formats of ECG machines with the ecgdatakit package: DICOM, HL7 aECG, MUSE, Sierra, SCP and others."""

from __future__ import annotations

import binascii
import math
import operator
import re
import struct
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import reduce
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np

from ecgkit.errors import EcgkitError, UnreadableRecordError, require
from ecgkit.readers.base import (
    Hints,
    Signals,
    Vector,
    check_size,
    known_age,
    known_sex,
    scaled,
    standard_name,
    years_between,
)
from ecgkit.readers.bounds import CHECKS

LARGEST = 8 * 2**20
LARGEST_BINARY = 96 * 2**20
"""The sizes that are read: text takes some thirty times as much memory, samples of 16 bits four times."""
PARSERS = {
    "DICOM": ("dicom_waveform", "DICOMWaveformParser"),
    "HL7 aECG": ("hl7_aecg", "HL7aECGParser"),
    "GE MUSE XML": ("ge_muse_xml", "GEMuseXMLParser"),
    "Philips Sierra XML": ("sierra_xml", "SierraXMLParser"),
    "Mortara XML": ("mortara_el250", "MortaraEL250Parser"),
    "SCP-ECG": ("scp_ecg", "SCPECGParser"),
    "ISHNE": ("ishne_holter", "ISHNEHolterParser"),
    "MFER": ("mfer", "MFERParser"),
    "Kardia JSON": ("alivecor_kardia", "AliveCorKardiaParser"),
}
"""For each format, the module and the class of ecgdatakit that read it."""

_ISHNE_HEAD = 522  # bytes of the part of an ISHNE header that every file has

EXACT_RATES = {
    "HL7 aECG": ("rhythm_time", "sampling_rate_exact"),
    "Kardia JSON": ("raw", "frequency"),
    "DICOM": ("multiplex_groups", 0, "sampling_frequency"),
    "MFER": ("sampling_rates",),
}
"""Where ecgdatakit keeps the sampling rate of the recording, or those of its leads, which it rounds to whole Hz."""

_REFUSED = re.compile(
    r"truncat|incomplete|shorter than the frame|sequence\(s\) with no waveform data|ISHNE checksum"
    r"|CRC mismatch in:.*Section [23456]|CRC mismatch in: record$"
)
_IGNORED = re.compile(
    r"median|representative|repbeat|TYPICAL_CYCLE|not converted to|is not an integer; rounded|not in a voltage unit"
    r"|additional multiplex|Unrecognised sequences|using the MFER default"
)
_NO_RATE = re.compile(r"using the MFER default of 1000 Hz")


def make_reader(name: str) -> Any:
    """Return the function that reads one format of `PARSERS`."""

    def read(path: Path, hints: Hints) -> Signals:
        is_part = name == "ISHNE" and (hints.start is not None or hints.duration is not None)
        return read_ishne_part(path, hints) if is_part else read_clinical(path, name)

    return read


def read_ishne_part(path: Path, hints: Hints) -> Signals:
    """Read the part of an ISHNE file that is asked for, which may be of any length; the rest is not read.

    References
    ----------
    Badilini F. The ISHNE Holter Standard Output File Format. Ann. Noninvasive Electrocardiol. 1998;3(3):263-266.
    """
    with path.open("rb") as file:
        head = file.read(_ISHNE_HEAD)
        if len(head) < _ISHNE_HEAD:
            raise UnreadableRecordError("the ISHNE file is truncated in its header")
        checksum, (announced, place) = struct.unpack_from("<H", head, 8)[0], struct.unpack_from("<i4xi", head, 14)
        n_leads, rate = struct.unpack_from("<h", head, 156)[0], struct.unpack_from("<h", head, 272)[0]
        held = (path.stat().st_size - place) // (2 * max(n_leads, 1))
        first = min(int((hints.start or 0.0) * rate), held - 1)
        last = held if hints.duration is None else math.ceil(((hints.start or 0.0) + hints.duration) * rate)
        is_cut = held < announced != held * n_leads  # some recorders announce the samples of all leads
        # What is inconsistent is left to the reader of whole files, which says what it is.
        if min(n_leads, rate) <= 0 or not _ISHNE_HEAD <= place <= path.stat().st_size or first < 0 or is_cut:
            return read_clinical(path, "ISHNE")
        last = min(held, max(last, first + 1))
        check_size(2 * n_leads * (last - first), LARGEST_BINARY, path.name)
        file.seek(0)
        whole = file.read(place)
        changed = whole[10:14] + struct.pack("<i", last - first) + whole[18:]
        if checksum and checksum == binascii.crc_hqx(whole[10:], 0xFFFF):
            checksum = binascii.crc_hqx(changed, 0xFFFF)
        file.seek(place + 2 * n_leads * first)
        samples = file.read(2 * n_leads * (last - first))
    with tempfile.TemporaryDirectory(prefix="ecgkit-") as folder:
        part = Path(folder) / path.name
        part.write_bytes(whole[:8] + struct.pack("<H", checksum) + changed + samples)
        return replace(read_clinical(part, "ISHNE"), start=first / rate)


def read_clinical(path: Path, name: str) -> Signals:
    """Read one file of a known format.

    Parameters
    ----------
    path : Path
        The file.
    name : str
        A key of `PARSERS`.

    Returns
    -------
    Signals
        The recording, without representative beats; without names, identifiers and birth date of the patient.

    Raises
    ------
    UnreadableRecordError
        If the file is damaged or holds no recording.
    """
    check_size(path.stat().st_size, LARGEST_BINARY if name in ("DICOM", "ISHNE") else LARGEST, path.name)
    module, parser = PARSERS[name]
    package = require("ecgdatakit", "formats")
    if name == "DICOM":
        require("pydicom", "formats")
    if name in CHECKS:
        CHECKS[name](path.read_bytes())
    read = getattr(require(f"ecgdatakit.parsing.parsers.{module}", "formats"), parser)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            record = read().parse(path)
            several = any("additional multiplex" in str(item.message) for item in caught)
            left_out = _join_groups(record, path, read, several=several) if name == "DICOM" else []
        except package.ECGDataKitError as error:
            raise UnreadableRecordError(_one_line(error, path)) from error
    messages = [_one_line(item.message, path) for item in caught]
    for message in messages:
        if _REFUSED.search(message):
            raise UnreadableRecordError(f"the {name} file is damaged: {message}")
    if name == "ISHNE":
        _check_ishne(record)
    has_rate = not any(_NO_RATE.search(message) for message in messages)
    leads = _in_time([_lead(lead) for lead in record.leads], [lead.annotations for lead in record.leads])
    rates = [rate if has_rate else None for rate in _rates(record, name)]
    findings = [message for message in dict.fromkeys(messages) if not _IGNORED.search(message)]
    signals, trimmed = trim_calibration([values for values, _ in leads], [unit for _, unit in leads], rates)
    return Signals(
        signals=tuple(signals),
        names=tuple(standard_name(lead.label) for lead in record.leads),
        units=tuple(unit for _, unit in leads),
        sampling_rates=tuple(rates),
        age=_age(record),
        sex=known_sex(record.patient.sex),
        metadata=_metadata(record, name),
        findings=(*trimmed, *left_out, *_shorten(findings)),
    )


def _join_groups(record: Any, path: Path, read: Any, *, several: bool) -> list[str]:
    """Add the leads of the other groups of a DICOM file that were recorded at the same time; of others, a finding.

    Each lead is given its start and the rate of its group, where these differ.
    """
    data, parts = require("pydicom", "formats").dcmread(path), []
    n_rates = len({group["sampling_frequency"] for group in record.raw_metadata["multiplex_groups"]})
    if not several and n_rates == 1 and all(len(set(_starts(group))) < 2 for group in data.WaveformSequence):
        return []
    with tempfile.TemporaryDirectory(prefix="ecgkit-") as folder:
        # What is derived, such as median beats, comes after what was recorded.
        for group in sorted(data.WaveformSequence, key=lambda item: item.get("WaveformOriginality") == "DERIVED"):
            data.WaveformSequence = [group]
            data.save_as(Path(folder) / path.name)
            leads = read().parse(Path(folder) / path.name).leads  # none of a group of median beats
            for lead, start in zip(leads, _starts(group), strict=False):
                lead.annotations |= {"start_sample": str(start), "group_rate": float(group.SamplingFrequency)}
            parts += [(float(group.get("MultiplexGroupTimeOffset") or 0), leads)] if leads else []
    record.leads, n_left_out = [], 0
    for start, leads in parts:
        known = {lead.label for lead in record.leads}
        is_same = start == parts[0][0] and all(
            (lead.sampling_rate, len(lead.samples)) == (parts[0][1][0].sampling_rate, len(parts[0][1][0].samples))
            for lead in leads
        )
        if is_same and known.isdisjoint(lead.label for lead in leads):
            record.leads += leads
        else:
            n_left_out += 1
    return [f"{n_left_out} more recordings in the file left out"] if n_left_out else []


def _starts(group: Any) -> list[float]:
    """Return which sample of a DICOM group, counted from 1, each channel begins with, in parts of samples as well.

    References
    ----------
    DICOM PS3.3, C.10.9: Channel Sample Skew, in samples, or Channel Time Skew, in seconds, after the group's start.
    """
    try:
        rate, channels = float(group.get("SamplingFrequency") or 0), group.get("ChannelDefinitionSequence") or ()
        starts = [
            1 + (float(channel.get("ChannelSampleSkew") or 0) or rate * float(channel.get("ChannelTimeSkew") or 0))
            for channel in channels
        ]
    except (TypeError, ValueError) as error:
        raise UnreadableRecordError("the DICOM file is damaged: the skew of a channel is not a number") from error
    if not np.isfinite(starts).all():
        raise UnreadableRecordError("the DICOM file is damaged: the skew of a channel is not finite")
    return starts


def trim_calibration(
    signals: list[Vector], units: list[str], rates: list[float | None]
) -> tuple[list[Vector], list[str]]:
    """Leave out a calibration pulse of 1 mV in all leads at the end, and what is not a whole second before it.

    Philips machines store 11 s: about 10.6 s of ECG, whose last part ends at another sample in each lead, then zeros,
    0.2 s of 1 mV and zeros again.

    Returns
    -------
    tuple of list of ndarray and list of str
        The signals, and the finding if something was left out.
    """
    if len(signals) < 2 or len({len(values) for values in signals}) > 1 or set(units) != {"mV"} or None in rates:
        return signals, []
    rate = float(rates[0] or 0)
    tail = np.array([values[-int(1.5 * rate) :] for values in signals])
    if not tail.size:
        return signals, []
    with np.errstate(invalid="ignore"):
        together = np.ptp(tail, axis=0) <= 0.011
    differing = np.flatnonzero(~together)
    same = tail[0, differing[-1] + 1 if len(differing) else 0 :]
    pulse = np.abs(same - 1) < 0.02
    if not (pulse.sum() >= 0.1 * rate and np.abs(same[~pulse]).max(initial=0.0) < 0.02):
        return signals, []
    end = int((len(signals[0]) - len(same)) / rate) * round(rate)
    if end <= 0:
        return signals, []
    seconds = (len(signals[0]) - end) / rate
    return [values[:end] for values in signals], [f"the last {seconds:g} s, a calibration pulse, left out"]


def _check_ishne(record: Any) -> None:
    """Refuse a shorter recording than its header announces, and mark the samples that the recorder could not take.

    The size in the header is that of a lead; some recorders write that of all leads.
    """
    announced, found = record.raw_metadata["ecg_size"], record.raw_metadata["samples_per_lead"]
    if found < announced != found * len(record.leads):
        raise UnreadableRecordError(f"the file is truncated: it has {found:,} of {announced:,} samples per lead")
    for lead in record.leads:
        lead.samples[lead.samples == np.iinfo(np.int16).min] = np.nan


def _lead(lead: Any) -> tuple[Vector, str]:
    """Return the values of a lead in mV, or in the unknown unit of the file."""
    if lead.is_raw:
        if not lead.resolution_unit:  # the file may have the number of its unit all the same
            step = lead.adc_resolution if lead.adc_resolution > 0 else 1.0
            return np.asarray(lead.samples, np.float64) * step + lead.offset, ""
        if lead.resolution == 0 or not np.isfinite(lead.resolution):
            raise UnreadableRecordError(f"lead {lead.label} has a gain of 0: its mV are unknown")
        lead = lead.to_physical()
    return scaled(np.asarray(lead.samples, np.float64), lead.units)


def _in_time(leads: list[tuple[Vector, str]], notes: list[Mapping[str, str]]) -> list[tuple[Vector, str]]:
    """Put leads that begin later than others where they belong, NaN before and after; refuse times of unknown unit."""
    if len({note.get("LeadTimeOffset") for note in notes}) > 1:
        raise UnreadableRecordError("the leads begin at different times (LeadTimeOffset), which is not read")
    exact = [float(note.get("start_sample", 1)) for note in notes]  # of SCP-ECG and DICOM
    if len(set(exact)) <= 1:
        return leads
    # Relative to a middle one: leads that a converter samples in turn, within one sample, all stay where they are.
    middle = median_low(exact)
    starts = [round(start - middle) for start in exact]
    if len(set(starts)) <= 1:
        return leads
    before = [start - min(starts) for start in starts]
    length = max(n + len(values) for n, (values, _) in zip(before, leads, strict=True))
    check_size(8 * length * len(leads), LARGEST_BINARY, "the recording")
    return [
        (np.pad(values, (n, length - n - len(values)), constant_values=np.nan), unit)
        for n, (values, unit) in zip(before, leads, strict=True)
    ]


def _rates(record: Any, name: str) -> list[float]:
    """Return the sampling rate of each lead in Hz, exactly; see `EXACT_RATES`."""
    exact: Any = None
    with suppress(KeyError, IndexError, TypeError):
        exact = reduce(operator.getitem, EXACT_RATES[name], record.raw_metadata)
    of_leads = exact if isinstance(exact, list) else [exact] * len(record.leads)
    found = [lead.annotations.get("group_rate", rate) for lead, rate in zip(record.leads, of_leads, strict=True)]
    return [
        float(rate)
        if isinstance(rate, (int, float)) and round(rate) == lead.sampling_rate
        else float(lead.sampling_rate)
        for lead, rate in zip(record.leads, found, strict=True)
    ]


def _age(record: Any) -> float | None:
    """Return the age in years at the recording."""
    age, born, recorded = record.patient.age, record.patient.birth_date, record.recording.date
    if age is None and born is not None and recorded is not None:
        age = years_between(born, recorded)
    return known_age(age)


def _metadata(record: Any, name: str) -> dict[str, Any]:
    """Return what is worth knowing of a recording and does not say whose it is."""
    device, statements = record.recording.device, record.interpretation.statements
    facts = {
        "format": name,
        "recorded": record.recording.date.isoformat() if record.recording.date else None,
        "device": " ".join(filter(None, (device.manufacturer, device.model))) or None,
        "statements": [" ".join(filter(None, map(str, item))) for item in statements] or None,
    }
    return {key: value for key, value in facts.items() if value is not None}


def _one_line(message: object, path: Path) -> str:
    """Return a message in one short line; how the file is called is no part of what it says."""
    names = f"(?:{re.escape(str(path))}|{re.escape(path.name)})"
    text = re.sub(rf" (?:in|of) {names}(?=$|:)", "", str(message)).replace(str(path), path.name)
    text = " ".join(text.split())
    return re.sub(r"\s*\(see raw_metadata[^)]*\)|; see raw_metadata\S+", "", text)[:200]


def _shorten(findings: list[str]) -> list[str]:
    """Return at most a few findings: a damaged checksum is the same news for each lead."""
    checksums = [text for text in findings if "CRC32 mismatch" in text]
    others = [text for text in findings if text not in checksums][:8]
    return ([f"the checksums of {len(checksums)} leads do not match"] if checksums else []) + others


def parser_accepts(name: str, path: Path, head: bytes) -> bool:
    """Return True if the parser of a format takes a file for its own; False too if ecgdatakit is not installed."""
    module, parser = PARSERS[name]
    try:
        read = getattr(require(f"ecgdatakit.parsing.parsers.{module}", "formats"), parser)
    except EcgkitError:
        return False
    return bool(read.can_parse(path, head))
