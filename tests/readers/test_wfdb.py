from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from ecgkit.errors import UnreadableRecordError
from ecgkit.readers.wfdb import WfdbFiles, read_record
from ecgkit.signals.ecg import LEADS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # wfdb 4.3 does what pandas 3.1 has deprecated, on import
    import wfdb

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")
RATE, SAMPLES = 100, 500
rng = np.random.default_rng(5)
MILLIVOLTS = np.round(rng.normal(0, 0.6, (12, SAMPLES)), 3)


def write(
    folder: Path, *, names=LEADS, values=MILLIVOLTS, fmt="16", gain=1000.0, baseline=0, units="mV", name="record"
) -> Path:
    n = len(names)
    wfdb.wrsamp(
        name, fs=RATE, units=[units] * n, sig_name=list(names), p_signal=values.T, fmt=[fmt] * n, adc_gain=[gain] * n,
        baseline=[baseline] * n, write_dir=str(folder),
    )  # fmt: skip
    return folder / name


def edit_header(path: Path, old: str, new: str, count: int = -1) -> None:
    header = path.with_name(f"{path.name}.hea")
    text = header.read_text()
    assert old in text
    header.write_text(text.replace(old, new, count))


@pytest.mark.parametrize("fmt", ["16", "24", "32", "80", "212"])
def test_every_storage_format_gives_what_wfdb_reads(tmp_path: Path, fmt: str):
    gain = {"80": 25.0, "212": 250.0}.get(fmt, 1000.0)
    path = write(tmp_path, fmt=fmt, gain=gain)
    ecg = read_record(path)
    np.testing.assert_allclose(ecg.signal, wfdb.rdsamp(str(path))[0].T, atol=1e-6)
    assert ecg.sampling_rate == RATE
    assert ecg.signal.dtype == np.float32


def test_the_other_byte_order_is_read_straight(tmp_path: Path):
    path = write(tmp_path)
    data = path.with_name("record.dat")
    data.write_bytes(np.frombuffer(data.read_bytes(), "<i2").astype(">i2").tobytes())
    edit_header(path, "record.dat 16 ", "record.dat 61 ")
    np.testing.assert_allclose(read_record(path).signal, wfdb.rdsamp(str(path))[0].T, atol=1e-6)


@pytest.mark.parametrize("spelling", ["1000(0)/mV", "1000/mV", "1(0)/uV", "1e6/V"])
def test_a_gain_is_read_however_it_is_written(tmp_path: Path, spelling: str):
    path = write(tmp_path)
    edit_header(path, "1000.0(0)/mV", spelling)
    np.testing.assert_allclose(read_record(path).signal, MILLIVOLTS, atol=1e-6)


@pytest.mark.parametrize(
    ("gain", "baseline", "units", "scale"),
    [(200.0, 0, "mV", 1), (1000.0, 37, "mV", 1), (5.0, -20, "uV", 1e3), (2e5, 0, "V", 1e-3)],
)
def test_gain_baseline_and_units_are_converted(tmp_path: Path, gain: float, baseline: int, units: str, scale: float):
    path = write(tmp_path, values=MILLIVOLTS * scale, gain=gain, baseline=baseline, units=units)
    step = 1 / gain / scale
    np.testing.assert_allclose(read_record(path).signal, MILLIVOLTS, atol=0.51 * step + 1e-6)


def test_leads_come_in_the_standard_order(tmp_path: Path):
    order = rng.permutation(12)
    path = write(tmp_path, names=[LEADS[i].upper() for i in order], values=MILLIVOLTS[order])
    np.testing.assert_allclose(read_record(path).signal, MILLIVOLTS, atol=1e-6)


def test_leads_beyond_the_twelve_are_left_out(tmp_path: Path):
    path = write(tmp_path, names=[*LEADS, "vx", "vy"], values=np.vstack([MILLIVOLTS, MILLIVOLTS[:2]]))
    np.testing.assert_allclose(read_record(path).signal, MILLIVOLTS, atol=1e-6)


@pytest.mark.parametrize("fmt", ["16", "24"])
def test_an_invalid_sample_is_nan(tmp_path: Path, fmt: str):
    values = MILLIVOLTS.copy()
    values[3, 10:20] = np.nan
    path = write(tmp_path, values=values, fmt=fmt)
    np.testing.assert_array_equal(np.isnan(read_record(path).signal), np.isnan(values))


def test_two_signal_files_and_two_segments_go_through_wfdb(tmp_path: Path):
    path = write(tmp_path, fmt="16")
    edit = path.with_name("record.hea")
    write(tmp_path, names=LEADS[6:], values=MILLIVOLTS[6:], name="second")
    write(tmp_path, names=LEADS[:6], values=MILLIVOLTS[:6], name="first")
    lines = [line for name in ("first", "second") for line in (tmp_path / f"{name}.hea").read_text().splitlines()[1:]]
    edit.write_text(f"record 12 {RATE} {SAMPLES}\n" + "\n".join(lines) + "\n")
    np.testing.assert_allclose(read_record(path).signal, MILLIVOLTS, atol=1e-6)
    for name, part in (("s1", MILLIVOLTS[:, :200]), ("s2", MILLIVOLTS[:, 200:])):
        write(tmp_path, values=part, name=name)
    (tmp_path / "multi.hea").write_text(f"multi/2 12 {RATE} {SAMPLES}\ns1 200\ns2 300\n")
    np.testing.assert_allclose(read_record(tmp_path / "multi").signal, MILLIVOLTS, atol=1e-6)


def cut_signals(path: Path) -> None:
    data = path.with_name("record.dat")
    data.write_bytes(data.read_bytes()[:-100])


def spoil_signals(path: Path) -> None:
    data = bytearray(path.with_name("record.dat").read_bytes())
    data[40] ^= 1
    path.with_name("record.dat").write_bytes(bytes(data))


def drop_header(path: Path) -> None:
    path.with_name("record.hea").unlink()


def drop_signals(path: Path) -> None:
    path.with_name("record.dat").unlink()


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (cut_signals, "truncated"),
        (spoil_signals, "checksum of signal 9"),
        (drop_header, "No such file"),
        (drop_signals, "No such file"),
    ],
)
def test_a_damaged_record_is_unreadable(tmp_path: Path, spoil, named: str):
    path = write(tmp_path)
    spoil(path)
    with pytest.raises(UnreadableRecordError, match=named) as caught:
        read_record(path)
    assert "\n" not in str(caught.value)


def test_a_wrong_checksum_shows_in_other_formats_too(tmp_path: Path):
    path = write(tmp_path, fmt="32")
    spoil_signals(path)
    with pytest.raises(UnreadableRecordError, match="checksum"):
        read_record(path)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (" V6", " V5", "lead V5 occurs twice"),
        ("/mV", "/mmHg", "no unit of voltage"),
        ("1000.0(0)", "0(0)", "no gain"),
        ("record 12 100 500", "record 13 100 500", "13 signals"),
        ("record 12 100 500", "record 12", "sampling rate"),
        ("record 12 100 500", "record 12 -5 500", "sampling rate"),
        ("record 12 100 500", "record twelve 100 500", "no WFDB header"),
        ("record.dat 16 ", "record.dat sixteen ", "no storage format"),
        ("1000.0(0)/mV", "much/mV", "no gain"),
    ],
)
def test_a_header_that_cannot_be_trusted_is_unreadable(tmp_path: Path, old: str, new: str, named: str):
    path = write(tmp_path)
    edit_header(path, old, new)
    with pytest.raises(UnreadableRecordError, match=named) as caught:
        read_record(path)
    assert "\n" not in str(caught.value)


def test_an_absent_lead_is_nan(tmp_path: Path):
    path = write(tmp_path)
    edit_header(path, " V6", " V7")
    assert read_record(path).missing_leads == ("V6",)


def test_an_empty_or_binary_header_is_unreadable(tmp_path: Path):
    path = write(tmp_path)
    for content in (b"", b"\xff\x00\x80" * 50, b"\n\n"):
        path.with_name("record.hea").write_bytes(content)
        with pytest.raises(UnreadableRecordError):
            read_record(path)


def test_comments_and_a_suffix_do_no_harm(tmp_path: Path):
    path = write(tmp_path)
    header = path.with_name("record.hea")
    header.write_text(f"# made by hand\n{header.read_text()}# Age: 50\n")
    for name in ("record", "record.hea", "record.dat"):
        np.testing.assert_allclose(read_record(tmp_path / name).signal, MILLIVOLTS, atol=1e-6)


def test_a_reader_of_some_files_knows_only_these(tmp_path: Path):
    write(tmp_path)
    files = WfdbFiles(str(tmp_path), {"7": "record", "8": "other"}).subset(["7"])
    assert files.read("7").record_id == "7"
    assert "8" not in files.files


def test_reading_plain_records_imports_neither_wfdb_nor_pandas():
    heavy = {"wfdb", "pandas", "torch", "scipy"}
    code = f"import sys, ecgkit.readers.wfdb, ecgkit.datasets.chunks; print({heavy} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
