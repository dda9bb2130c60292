"""Writers of ECG formats, after their specifications: what the tests of the readers read."""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np
from scipy.io import savemat

from ecgkit.signals.ecg import LEADS

MEASURED = ("I", "II", *LEADS[6:])
"""The eight leads that a machine measures."""

LEAD_CODES = dict(zip(("I", "II", *LEADS[6:], *LEADS[2:6]), (*range(1, 9), *range(61, 65)), strict=True))
"""The numbers of the leads in SCP-ECG and MFER."""


def made_ecg(n_samples: int = 1200, seed: int = 0) -> np.ndarray:
    """Return 12 leads in whole steps of 5 uV that follow Einthoven's law, in mV, shape (12, samples)."""
    rng = np.random.default_rng(seed)
    time = np.arange(n_samples) / 200
    waves = 200 * np.sin(2 * np.pi * 1.3 * time + rng.uniform(0, 6, (8, 1))) + rng.normal(0, 30, (8, n_samples))
    one, two, *chest = (np.rint(waves) // 2 * 2).astype(int)
    rows = [one, two, two - one, -(one + two) // 2, one - two // 2, two - one // 2, *chest]
    return np.array(rows) * 0.005


def storable(signal: np.ndarray) -> np.ndarray:
    """Return a signal in mV in whole steps of 10 uV, whose limb leads follow Einthoven's law in steps of 5 uV."""
    values = np.round(signal.astype(float) / 0.01) * 0.01
    one, two = values[0], values[1]
    values[2:6] = two - one, -(one + two) / 2, one - two / 2, two - one / 2
    return values


def steps(signal: np.ndarray, step: float = 5.0) -> np.ndarray:
    """Return mV as 16-bit steps of some uV."""
    return np.rint(signal * 1000 / step).astype("<i2")


def rows(names: Sequence[str], signal: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Pair the names of leads with their rows of a 12-lead signal."""
    return [(name, signal[LEADS.index(name)]) for name in names]


def aecg(signal: np.ndarray, rate: float) -> bytes:
    """HL7 aECG (ANSI/HL7 V3 ECG, R1-2004), with a representative beat that is not the ECG."""

    def sequences(part: np.ndarray) -> str:
        leads = "".join(
            f'<component><sequence><code code="MDC_ECG_LEAD_{name.upper()}"/><value xsi:type="SLIST_PQ">'
            '<origin value="0" unit="uV"/><scale value="5" unit="uV"/>'
            f"<digits>{' '.join(map(str, steps(row)))}</digits></value></sequence></component>"
            for name, row in rows(LEADS, part)
        )
        time = (
            '<component><sequence><code code="TIME_RELATIVE"/><value xsi:type="GLIST_PQ"><head value="0" unit="s"/>'
            f'<increment value="{1 / rate!r}" unit="s"/></value></sequence></component>'
        )
        return f"<component><sequenceSet>{time}{leads}</sequenceSet></component>"

    beat = f'<derivedSeries><code code="REPRESENTATIVE_BEAT"/>{sequences(signal[:, :100])}</derivedSeries>'
    subject = (
        "<componentOf><timepointEvent><componentOf><subjectAssignment><subject><trialSubject><subjectDemographicPerson>"
        '<administrativeGenderCode code="F"/><birthTime value="19600115"/></subjectDemographicPerson></trialSubject>'
        "</subject></subjectAssignment></componentOf></timepointEvent></componentOf>"
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><AnnotatedECG xmlns="urn:hl7-org:v3" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><effectiveTime><low value="20200115100000"/>'
        f'</effectiveTime>{subject}<component><series><code code="RHYTHM"/>{sequences(signal)}<derivation>{beat}'
        "</derivation></series></component></AnnotatedECG>"
    ).encode()


def muse(signal: np.ndarray, rate: float, *, spoil_checksum: bool = False) -> bytes:
    """GE MUSE XML, with the eight leads that it stores and a median beat."""

    def lead(name: str, row: np.ndarray) -> str:
        data = steps(row).tobytes()
        checksum = zlib.crc32(data) ^ spoil_checksum
        return (
            f"<LeadData><LeadByteCountTotal>{len(data)}</LeadByteCountTotal><LeadAmplitudeUnitsPerBit>5"
            "</LeadAmplitudeUnitsPerBit><LeadAmplitudeUnits>MICROVOLTS</LeadAmplitudeUnits>"
            f"<LeadID>{name}</LeadID><LeadSampleSize>2</LeadSampleSize><LeadDataCRC32>{checksum}</LeadDataCRC32>"
            f"<WaveFormData>{base64.b64encode(data).decode()}</WaveFormData></LeadData>"
        )

    def waveform(kind: str, part: np.ndarray) -> str:
        leads = "".join(lead(name, row) for name, row in rows(MEASURED, part))
        return (
            f"<Waveform><WaveformType>{kind}</WaveformType><SampleBase>{rate:g}</SampleBase><SampleExponent>0"
            f"</SampleExponent>{leads}</Waveform>"
        )

    return (
        '<?xml version="1.0" encoding="ISO-8859-1"?><RestingECG><MuseInfo><MuseVersion>9</MuseVersion></MuseInfo>'
        "<PatientDemographics><PatientAge>18</PatientAge><AgeUnits>MONTHS</AgeUnits><Gender>MALE</Gender>"
        f"</PatientDemographics>{waveform('Median', signal[:, :100])}{waveform('Rhythm', signal)}</RestingECG>"
    ).encode()


def sierra(signal: np.ndarray, rate: float) -> bytes:
    """Philips Sierra XML 1.03 without compression, padded as the machines do to a pulse of 1 mV and zeros."""
    n = int(rate)
    tail = np.zeros((12, n))
    tail[:, int(0.7 * n) : int(0.9 * n)] = 1.0
    tail[:6, : n // 4] = signal[:6, : n // 4]  # the leads end at different samples
    whole = np.hstack([signal, tail])
    data = base64.b64encode(steps(whole).tobytes()).decode()
    return (
        '<?xml version="1.0" encoding="UTF-16"?><restingecgdata xmlns="http://www3.medical.philips.com"><documentinfo>'
        "<documenttype>SierraECG</documenttype><documentversion>1.03</documentversion></documentinfo><patient>"
        "<generalpatientdata><age><years>61</years></age><sex>Female</sex></generalpatientdata></patient>"
        f"<waveforms><parsedwaveforms dataencoding='Base64' durationperchannel='{1000 * whole.shape[1] / rate:g}' "
        f"samplespersecond='{rate:g}' resolution='5' numberofleads='12' leadlabels='{' '.join(LEADS)}'>{data}"
        "</parsedwaveforms></waveforms><dataacquisition><signalcharacteristics><samplingrate>"
        f"{rate:g}</samplingrate><resolution>5</resolution><signalsigned>True</signalsigned></signalcharacteristics>"
        "</dataacquisition></restingecgdata>"
    ).encode("utf-16")


def mortara(signal: np.ndarray, rate: float) -> bytes:
    """Mortara ELI XML."""
    channels = "".join(
        f'<CHANNEL NAME="{name}" OFFSET="0" BITS="16" FORMAT="SIGNED" UNITS_PER_MV="200" DURATION="{len(row)}" '
        f'SAMPLE_FREQ="{rate:g}" ENCODING="BASE64" DATA="{base64.b64encode(steps(row).tobytes()).decode()}"/>'
        for name, row in rows(LEADS, signal)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ECG ACQUISITION_TIME="20200101100000"><SUBJECT AGE="70" GENDER="Male"/>'
        f'<SOURCE TYPE="ELI250" MANUFACTURER="Mortara"/>{channels}</ECG>'
    ).encode()


def kardia(signal: np.ndarray, rate: float) -> bytes:
    """AliveCor Kardia JSON of six leads."""
    names = dict(zip(("leadI", "leadII", "leadIII", "AVR", "AVL", "AVF"), LEADS[:6], strict=True))
    samples = {key: steps(signal[LEADS.index(name)]).tolist() for key, name in names.items()}
    block = {"frequency": rate, "mainsFrequency": 50, "amplitudeResolution": 5000, "numLeads": 6, "samples": samples}
    return json.dumps(
        {"id": "x", "recordedAt": "2020-01-01T10:00:00Z", "duration": 6000, "heartRate": 70, "data": {"raw": block}}
    ).encode()


def scp(signal: np.ndarray, rate: float, *, late: int = 0) -> bytes:
    """SCP-ECG (EN 1064) without Huffman coding: sections 0, 1, 3 and 6; V1 to V6 begin some samples late."""

    def section(number: int, body: bytes) -> bytes:
        body += b"\0" * (len(body) % 2)
        head = struct.pack("<HIBB6x", number, 16 + len(body), 20, 20)
        return struct.pack("<H", binascii.crc_hqx(head + body, 0xFFFF)) + head + body

    n = signal.shape[1]
    tags = b"".join(
        struct.pack("<BH", tag, len(value)) + value
        for tag, value in (
            (2, b"x\0"),
            (4, struct.pack("<HB", 44, 1)),
            (8, b"\2"),
            (25, struct.pack("<HBB", 2020, 1, 1)),
        )
    )
    first = section(1, tags + b"\xff\0\0")
    third = section(
        3,
        bytes([12, 4 | 12 << 3 & 0xF8])
        + b"".join(struct.pack("<IIB", 1 + late * (row >= 6), n, LEAD_CODES[name]) for row, name in enumerate(LEADS)),
    )
    parts = [row[late * (number >= 6) :].tobytes() for number, row in enumerate(steps(signal))]
    head = struct.pack("<HHBB", 5000, round(1e6 / rate), 0, 0) + struct.pack("<12H", *map(len, parts))
    sixth = section(6, head + b"".join(parts))
    sizes = {0: 16 + 120, 1: len(first), 3: len(third), 6: len(sixth)}
    pointers, position = b"", 7
    for number in range(12):
        size = sizes.get(number, 0)
        pointers += struct.pack("<HII", number, size, position if size else 0)
        position += size
    zeroth = struct.pack("<HIBB", 0, 136, 20, 20) + b"SCPECG" + pointers
    zeroth = struct.pack("<H", binascii.crc_hqx(zeroth, 0xFFFF)) + zeroth
    whole = struct.pack("<I", 6 + sum(sizes.values())) + zeroth + first + third + sixth
    return struct.pack("<H", binascii.crc_hqx(whole, 0xFFFF)) + whole


def ishne(signal: np.ndarray, rate: float) -> bytes:
    """ISHNE 1.0 (Badilini 1998), with its checksum."""
    head = bytearray(512)
    struct.pack_into("<iiiih", head, 0, 0, 12 * signal.shape[1], 522, 522, 1)
    struct.pack_into("<hh", head, 118, 2, 0)  # female
    struct.pack_into("<hhh", head, 122, 15, 1, 1960)
    struct.pack_into("<hhh", head, 128, 15, 1, 2020)
    struct.pack_into("<hhh", head, 140, 10, 0, 0)
    codes = {"I": 5, "II": 6, "III": 7, "aVR": 8, "aVL": 9, "aVF": 10} | {f"V{i}": 10 + i for i in range(1, 7)}
    struct.pack_into("<h12h12h12h", head, 146, 12, *[codes[name] for name in LEADS], *[0] * 12, *[5000] * 12)
    struct.pack_into("<h", head, 262, int(rate))
    return (
        b"ISHNE1.0" + struct.pack("<H", binascii.crc_hqx(bytes(head), 0xFFFF)) + bytes(head) + steps(signal).T.tobytes()
    )


def mfer(signal: np.ndarray, rate: float, *, with_rate: bool = True) -> bytes:
    """MFER (ISO 22077-1), little endian."""

    def tag(number: int, value: bytes) -> bytes:
        length = bytes([len(value)]) if len(value) < 128 else b"\x84" + struct.pack(">I", len(value))
        return bytes([number]) + length + value

    n = signal.shape[1]
    lines = [
        tag(0x40, b"MFR " + b" " * 28),
        tag(0x01, b"\1"),
        tag(0x08, struct.pack("<H", 1)),
        tag(0x84, b"\1"),
        tag(0x0B, struct.pack("<BbH", 0, 0, int(rate))) if with_rate else b"",
        tag(0x0C, struct.pack("<BbH", 0, -6, 5)),
        tag(0x0A, b"\0"),
        tag(0x04, struct.pack("<I", n)),
        tag(0x05, struct.pack("<I", 12)),
        tag(0x06, struct.pack("<I", 1)),
        *(
            b"\x3f" + bytes([number]) + b"\4" + tag(0x09, struct.pack("<H", LEAD_CODES[name]))
            for number, name in enumerate(LEADS)
        ),
        tag(0x1E, steps(signal).tobytes()),
        b"\x80\0",
    ]
    return b"".join(lines)


def dicom(signal: np.ndarray, rate: float, *, syntax: str = "1.2.840.10008.1.2.1") -> bytes:
    """DICOM 12-lead waveform (PS3.3 A.34.3), with a second group of a median beat."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import generate_uid

    def code(value: str, scheme: str, meaning: str) -> Dataset:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
        return item

    def group(part: np.ndarray, label: str) -> Dataset:
        item = Dataset()
        item.MultiplexGroupLabel, item.SamplingFrequency = label, rate
        item.WaveformOriginality, item.NumberOfWaveformChannels = "ORIGINAL", 12
        item.NumberOfWaveformSamples, item.WaveformBitsAllocated = part.shape[1], 16
        item.WaveformSampleInterpretation, item.WaveformData = "SS", steps(part).T.tobytes()
        item.ChannelDefinitionSequence = []
        for name in LEADS:
            channel = Dataset()
            channel.ChannelSourceSequence = [code(f"MDC_ECG_LEAD_{name}", "MDC", f"Lead {name}")]
            channel.ChannelSensitivity, channel.ChannelSensitivityCorrectionFactor = "5", "1"
            channel.ChannelBaseline, channel.WaveformBitsStored = "0", 16
            channel.ChannelSensitivityUnitsSequence = [code("uV", "UCUM", "microvolt")]
            item.ChannelDefinitionSequence.append(channel)
        return item

    data, meta = Dataset(), FileMetaDataset()
    meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.9.1.1"
    meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax
    data.Modality, data.PatientAge, data.PatientSex = "ECG", "018M", "M"
    data.WaveformSequence = [group(signal, "RHYTHM"), group(signal[:, :100], "MEDIAN BEAT")]
    data.file_meta = meta
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def edf(signal: np.ndarray, rate: float, *, kind: str = "EDF") -> bytes:
    """EDF or BDF in microvolts, with a signal of another rate that is not an ECG."""
    import edfio

    make = {"EDF": edfio.EdfSignal, "BDF": edfio.BdfSignal}[kind]
    limits = {"EDF": (-32768, 32767), "BDF": (-8388608, 8388607)}[kind]
    span = {"physical_range": limits, "digital_range": limits}
    signals = [
        make(row * 1000.0, rate, label=f"ECG {name}", physical_dimension="uV", **span)
        for name, row in rows(LEADS, signal)
    ]
    seconds = signal.shape[1] // int(rate)
    signals.append(make(np.zeros(10 * seconds), 10, label="Resp", physical_dimension="mL", **span))
    patient = edfio.Patient(sex="F")
    return {"EDF": edfio.Edf, "BDF": edfio.Bdf}[kind](signals, patient=patient).to_bytes()


def hdf5(signal: np.ndarray, n_records: int = 3) -> bytes:
    """HDF5 in the layout of CODE: record 1 is the signal, padded with zeros; units of 0.1 mV."""
    import h5py

    tracings, n_samples = np.zeros((n_records, 4096, 12), np.float32), signal.shape[1]
    first = (4096 - n_samples) // 2
    tracings[min(1, n_records - 1), first : first + n_samples] = signal.T * 10
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["tracings"], file["exam_id"] = tracings, np.arange(n_records) + 1000
    return buffer.getvalue()


def parquet(signal: np.ndarray, rate: float) -> bytes:
    """Parquet with a column of times and one per lead in mV."""
    import pyarrow as pa
    from pyarrow import parquet as pq

    columns = {"time (s)": np.arange(signal.shape[1]) / rate} | {
        f"{name} (mV)": row for name, row in rows(LEADS, signal)
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def npy(signal: np.ndarray) -> bytes:
    """One array of NumPy, samples first."""
    buffer = io.BytesIO()
    np.save(buffer, signal.T)
    return buffer.getvalue()


def npz(signal: np.ndarray, rate: float) -> bytes:
    """An archive of NumPy as other programs write it."""
    buffer = io.BytesIO()
    np.savez(
        buffer, p_signal=signal.T * 1000, fs=rate, sig_name=np.array(LEADS), units=np.array(["uV"] * 12), sex="female"
    )
    return buffer.getvalue()


def wfdb(signal: np.ndarray, rate: float) -> dict[str, bytes]:
    """A WFDB record of format 16."""
    stored = steps(signal)
    sums = stored.astype(np.int64).sum(axis=1) % 65536
    lines = [f"x {len(LEADS)} {rate:g} {signal.shape[1]}"]
    lines += [
        f"x.dat 16 200(0)/mV 16 0 {row[0]} {total} 0 {name}"
        for name, row, total in zip(LEADS, stored, sums, strict=True)
    ]
    return {"x.hea": ("\n".join(lines) + "\n").encode(), "x.dat": stored.T.tobytes()}


def wfdb_matlab(signal: np.ndarray, rate: float) -> dict[str, bytes]:
    """A WFDB record with its samples in MATLAB's format of version 4, as those of the PhysioNet challenges."""
    files, buffer = wfdb(signal, rate), io.BytesIO()
    savemat(buffer, {"val": steps(signal)}, format="4")
    return {"x.hea": files["x.hea"].replace(b"x.dat 16 ", b"x.mat 16+24 "), "x.mat": buffer.getvalue()}


def wfdb_segments(signal: np.ndarray, rate: float) -> dict[str, bytes]:
    """A WFDB record of two segments."""
    half = signal.shape[1] // 2
    found = {"x.hea": f"x/2 {len(LEADS)} {rate:g} {signal.shape[1]}\na {half}\nb {signal.shape[1] - half}\n".encode()}
    for name, part in (("a", signal[:, :half]), ("b", signal[:, half:])):
        files = wfdb(part, rate)
        header = re.sub(rb"(?m)^x(?=[. ])", name.encode(), files["x.hea"])
        found |= {f"{name}.hea": header, f"{name}.dat": files["x.dat"]}
    return found


PACKED = {
    "8": lambda v: np.diff(v, axis=0, prepend=v[:1]).astype("i1").tobytes(),
    "16": lambda v: v.astype("<i2").tobytes(),
    "24": lambda v: v.astype("<i4").ravel().view("u1").reshape(-1, 4)[:, :3].tobytes(),
    "32": lambda v: v.astype("<i4").tobytes(),
    "61": lambda v: v.astype(">i2").tobytes(),
    "80": lambda v: (v + 128).astype("u1").tobytes(),
    "160": lambda v: (v + 32768).astype("<u2").tobytes(),
    "212": lambda v: _pack_212(v.reshape(-1, 2) % 4096),
    "310": lambda v: _pack_310(v.reshape(-1, 3) % 1024),
    "311": lambda v: (v.reshape(-1, 3) % 1024 @ [1, 1024, 1024**2]).astype("<u4").tobytes(),
}
"""How each storage format of WFDB packs samples of shape (samples, leads), after its specification (signal(5))."""


def _pack_212(values: np.ndarray) -> bytes:
    """Three bytes: the low bits of a sample, the high bits of both, the low bits of the other."""
    first, second = values.T
    return np.stack([first % 256, first // 256 + second // 256 * 16, second % 256], 1).astype("u1").tobytes()


def _pack_310(values: np.ndarray) -> bytes:
    """Two words of 16 bits: a sample each in bits 1 to 10, and half of the third in bits 11 to 15."""
    first, second, third = values.T
    return np.stack([first * 2 + third % 32 * 2048, second * 2 + third // 32 * 2048], 1).astype("<u2").tobytes()


def wfdb_stored_as(signal: np.ndarray, rate: float, form: str, step: float = 5.0) -> dict[str, bytes]:
    """A WFDB record of another storage format, in two signal files, in steps of some uV."""
    values, lines, files = steps(signal, step).T.astype(np.int64), [f"x {len(LEADS)} {rate:g} {signal.shape[1]}"], {}
    for number, leads in enumerate((LEADS[:6], LEADS[6:])):
        part = values[:, 6 * number : 6 * number + 6]
        files[f"x{number}.dat"] = PACKED[form](part)
        lines += [
            f"x{number}.dat {form} {1000 / step:g}(0)/mV 16 0 {column[0]} {column.sum() % 65536} 0 {name}"
            for name, column in zip(leads, part.T, strict=True)
        ]
    return {"x.hea": ("\n".join(lines) + "\n").encode(), **files}


def zipped(files: dict[str, bytes], folder: str = "") -> bytes:
    """Zip files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(folder + name, data)
    return buffer.getvalue()


def csv(signal: np.ndarray, rate: float) -> bytes:
    """A table with a column of times."""
    times = np.arange(signal.shape[1]) / rate
    lines = [",".join(["time (s)", *(f"{name} (mV)" for name in LEADS)])]
    lines += [",".join(map("{:.4f}".format, [time, *row])) for time, row in zip(times, signal.T, strict=True)]
    return ("\n".join(lines) + "\n").encode()


def files_of_each_format(signal: np.ndarray, rate: float) -> dict[str, dict[str, bytes]]:
    """Return the files of one recording in each format that says all about it."""
    return {
        "HL7 aECG": {"a.xml": aecg(signal, rate)},
        "GE MUSE XML": {"b.xml": muse(signal, rate)},
        "Philips Sierra XML": {"c.xml": sierra(signal, rate)},
        "Mortara XML": {"d.xml": mortara(signal, rate)},
        "SCP-ECG": {"e.scp": scp(signal, rate)},
        "ISHNE": {"f.ecg": ishne(signal, rate)},
        "MFER": {"g.mwf": mfer(signal, rate)},
        "DICOM": {"h.dcm": dicom(signal, rate)},
        "EDF": {"i.edf": edf(signal, rate)},
        "BDF": {"j.bdf": edf(signal, rate, kind="BDF")},
        "Parquet": {"k.parquet": parquet(signal, rate)},
        "NumPy .npz": {"l.npz": npz(signal, rate)},
        "CSV or TSV": {"m.csv": csv(signal, rate)},
        "WFDB": wfdb(signal, rate),
        "zip": {"n.zip": zipped(wfdb(signal, rate))},
    }


RATE = 200
SIGNAL = made_ecg()
MADE = {
    "HL7 aECG": aecg(SIGNAL, RATE),
    "GE MUSE XML": muse(SIGNAL, RATE),
    "Philips Sierra XML": sierra(SIGNAL, RATE),
    "Mortara XML": mortara(SIGNAL, RATE),
    "Kardia JSON": kardia(SIGNAL, RATE),
    "SCP-ECG": scp(SIGNAL, RATE),
    "ISHNE": ishne(SIGNAL, RATE),
    "MFER": mfer(SIGNAL, RATE),
    "DICOM": dicom(SIGNAL, RATE),
    "EDF": edf(SIGNAL, RATE),
    "BDF": edf(SIGNAL, RATE, kind="BDF"),
    "Parquet": parquet(SIGNAL, RATE),
    "NumPy .npz": npz(SIGNAL, RATE),
    "NumPy .npy": npy(SIGNAL),
    "HDF5": hdf5(SIGNAL),
    "CSV or TSV": csv(SIGNAL, RATE),
    "zip": zipped(wfdb(SIGNAL, RATE)),
}
"""One file per format, of the same signal, by the name of the format."""

HINTS: dict[str, dict[str, object]] = {
    "NumPy .npy": {"sampling_rate": RATE, "unit": "mV", "leads": LEADS},
    "HDF5": {"unit": "1e-4V", "record": 1, "sampling_rate": 400},
}
"""What has to be said for the formats that do not say it."""


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage a file in one of the ways in which files are damaged, or forged."""
    size = max(1, len(data))
    first, last = sorted(int(place) for place in rng.integers(0, size, 2))
    if rng.random() < 0.5:
        last = min(size, first + int(rng.integers(1, 64)))  # in the header as often as in the samples
    if rng.random() < 0.3:
        first, last = first % 600, first % 600 + int(rng.integers(1, 16))
    before, block, after = data[:first], data[first:last], data[last:]
    width, value = (
        int(rng.choice([1, 2, 4])),
        int(rng.choice([0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF])),
    )
    ways = (
        lambda: before,
        lambda: _other_bytes(data, rng),
        lambda: before + after,
        lambda: before + block + block + after,
        lambda: before + bytes(len(block)) + after,
        lambda: before + b"\xff" * len(block) + after,
        lambda: before + rng.bytes(len(block)) + after,
        lambda: before + bytes(rng.permutation(np.array(list(block), np.uint8))) + after,
        lambda: before + re.sub(rb"[0-9]", rng.choice([b"9", b"0", b"-", b"e", b"."]), block) + after,
        lambda: data.decode("latin-1").encode(str(rng.choice(["utf-16", "utf-32", "utf-7", "cp037"])), "replace"),
        lambda: before + (value & (256**width - 1)).to_bytes(width, "little") + data[first + width :],
    )
    return ways[rng.integers(len(ways))]()


def _other_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Change some bytes, in the first 800 or anywhere."""
    changed = bytearray(data)
    for place in rng.integers(0, max(1, len(data)), int(rng.integers(1, 30))):
        changed[place % (len(data) if rng.random() < 0.5 else min(len(data), 800))] = int(rng.integers(256))
    return bytes(changed)
