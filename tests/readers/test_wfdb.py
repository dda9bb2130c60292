from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import tracemalloc
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ecg_files import real_file

from ecgkit.errors import UnreadableRecordError
from ecgkit.readers import open_ecg, save_ecg
from ecgkit.readers.wfdb import WfdbFiles, read_record, read_wfdb_signals, samples
from ecgkit.signals.ecg import LEADS
from ecgkit.sources.demo import Demo

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


def write_bytes(folder: Path, *, per_frame: list[int], fmt: str = "16", frames: int = 101) -> Path:
    """Write a record of random bytes, which is every value of a format, after 12 bytes of something else."""
    data = rng.integers(0, 256, 12 + 4 * frames * sum(per_frame), dtype=np.uint8)
    if fmt == "311":
        data[3::4] &= 63  # two bits of four bytes are not used, and wfdb 4.3 reads one of them
    (folder / "bytes.dat").write_bytes(data.tobytes())
    names = [*LEADS, "RESP"]
    signals = zip(per_frame, names, strict=False)
    lines = [f"bytes.dat {fmt}x{n}+12 200({i})/mV 16 0 {i} 0 0 {name}" for i, (n, name) in enumerate(signals)]
    (folder / "bytes.hea").write_text(f"bytes {len(lines)} {RATE} {frames}\n" + "\n".join(lines) + "\n")
    return folder / "bytes"


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


def test_leads_have_the_names_that_other_formats_may_have(tmp_path: Path):
    path = write(tmp_path, names=[f"Lead {name}" for name in LEADS[:6]] + [f"ECG {name.lower()}" for name in LEADS[6:]])
    np.testing.assert_allclose(read_record(path).signal, MILLIVOLTS, atol=1e-6)


@pytest.mark.parametrize("storage", ["16 200/Ohm", "16 0", "16 0/mmHg", "16", "16 100/NU"])
def test_a_further_signal_of_any_unit_is_left_out(tmp_path: Path, storage: str):
    path = write(tmp_path, names=[*LEADS, "RESP"], values=np.vstack([MILLIVOLTS, MILLIVOLTS[:1]]))
    lines = path.with_name("record.hea").read_text().splitlines()
    lines[13] = f"record.dat {storage}" + (" 16 0 0 0 0 RESP" if " " in storage else "")
    path.with_name("record.hea").write_text("\n".join(re.sub(r" -?\d+ -?\d+ 0 (\S+)$", r" 0 0 0 \1", x) for x in lines))
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


def test_two_signal_files_and_two_segments_make_one_ecg(tmp_path: Path):
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
        (spoil_signals, "checksum of signal V3"),
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
        ("/mV", "/mmHg", "not a unit of voltage"),
        ("1000.0(0)", "0(0)", "unit of lead I"),
        ("record 12 100 500", "record 13 100 500", "13 signals"),
        ("record 12 100 500", "record 12", "sampling rate"),
        ("record 12 100 500", "record 12 -5 500", "sampling rate"),
        ("record 12 100 500", "record twelve 100 500", "not a WFDB header"),
        ("record.dat 16 ", "record.dat sixteen ", "not a storage format"),
        ("1000.0(0)/mV", "much/mV", "not a valid gain"),
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
    header.write_text(f"\ufeff# made by hand\n{header.read_text()}# Age: 50\n".replace(" V1\n", " V1 # noisy\n"))
    for name in ("record", "record.hea", "record.dat", "record.mat"):
        ecg = read_record(tmp_path / name)
        np.testing.assert_allclose(ecg.signal, MILLIVOLTS, atol=1e-6)
        assert ecg.record_id == "record"


@pytest.mark.parametrize(("old", "new"), [("record 12", "folder/record 12"), ("(0)/mV", "(0.0)/mV")])
def test_what_is_legal_is_read(tmp_path: Path, old: str, new: str):
    path = write(tmp_path)
    edit_header(path, old, new)
    np.testing.assert_allclose(read_record(path).signal, MILLIVOLTS, atol=1e-6)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_microvolts_with_a_greek_letter_are_read(tmp_path: Path, encoding: str):
    path = write(tmp_path)
    header = path.with_name("record.hea")
    header.write_text(header.read_text().replace("1000.0(0)/mV", "1(0)/µV"), encoding=encoding)
    np.testing.assert_allclose(read_record(path).signal, MILLIVOLTS, atol=1e-6)


@pytest.mark.parametrize(
    ("comments", "age", "sex"),
    [
        ("# Age: 50\n# Sex: Male", 50, "male"),
        ("# age: 81\n# sex: female", 81, "female"),
        ("# <age>: 60 <sex>: F", 60, "female"),
        ("#Age: 63 years\n#Gender: M", 63, "male"),
        ("# Age: NaN\n# Sex: Unknown", None, None),
        ("# Age: 300\n# sexton: male", None, None),
        ("# Age: 6 months", None, None),
        ("# Dosage: 30 mg", None, None),
        ("# age: 63 sex: F", 63, "female"),
        ("# Sex: Male Age: 63 years", 63, "male"),
        ("#Age: 85, Sex: Female", 85, "female"),
        ("# <age>: 6 months <sex>: M <diagnoses> none", None, "male"),
        ("# Patient age: 63 | gender: m", 63, "male"),
        ("# Gestational age: 38\n# Sex of the surgeon: M", None, None),
        ("# Mother's age: 31\n# Age: 0", 0, None),
        ("# Age: 0 mother's age: 31", None, None),
        ("# bone age: 12\n# age: 10", 10, None),
        ("# Note: biological age: 70", None, None),
        ("# Age: 63\n# Age: 36", None, None),
    ],
)
def test_age_and_sex_are_read_from_the_comments(tmp_path: Path, comments: str, age: float | None, sex: str | None):
    path = write(tmp_path)
    header = path.with_name("record.hea")
    header.write_text(f"{header.read_text()}{comments}\n")
    ecg = read_record(path)
    assert (ecg.age, ecg.sex) == (age, sex)


def test_a_reader_of_some_files_knows_only_these(tmp_path: Path):
    write(tmp_path)
    files = WfdbFiles(str(tmp_path), {"7": "record", "8": "other"}).subset(["7"])
    assert files.read("7").record_id == "7"
    assert "8" not in files.files


class TestFrames:
    """Several samples per frame, in which fast and slow signals share a file."""

    @pytest.mark.parametrize("fmt", ["8", "16", "24", "32", "61", "80", "160", "212", "310", "311"])
    @pytest.mark.parametrize("per_frame", [[4] * 12, [5, 2, 1], [4] * 12 + [1], [1, 7]])
    def test_each_signal_has_its_own_rate(self, tmp_path: Path, per_frame: list[int], fmt: str):
        path = write_bytes(tmp_path, per_frame=per_frame, fmt=fmt)
        read, expected = read_wfdb_signals(path), wfdb.rdrecord(str(path), smooth_frames=False).e_p_signal
        assert read.sampling_rates == tuple(RATE * n for n in per_frame)
        for row, wanted in zip(read.signals, expected, strict=True):
            np.testing.assert_allclose(row, wanted, rtol=1e-6)

    def test_twelve_leads_have_their_true_rate_next_to_a_slow_signal(self, tmp_path: Path):
        path = write_bytes(tmp_path, per_frame=[4] * 12 + [1])
        ecg = read_record(path)
        assert (ecg.sampling_rate, ecg.n_samples) == (4 * RATE, 404)
        np.testing.assert_allclose(ecg.signal, wfdb.rdrecord(str(path), smooth_frames=False).e_p_signal[:12], rtol=1e-6)

    def test_leads_of_several_rates_are_refused_by_name(self, tmp_path: Path):
        with pytest.raises(UnreadableRecordError, match="II 200 Hz"):
            read_record(write_bytes(tmp_path, per_frame=[4, 2, 4]))

    def test_a_lead_that_is_there_twice_at_two_rates_is_refused(self, tmp_path: Path):
        path = write_bytes(tmp_path, per_frame=[4, 2])
        edit_header(path, " II\n", " I\n")
        with pytest.raises(UnreadableRecordError, match="lead I "):
            read_record(path)

    def test_a_part_is_what_the_whole_has_there(self, tmp_path: Path):
        for fmt in ("16", "212", "310", "311", "8"):
            path = write_bytes(tmp_path, per_frame=[4, 1, 4], fmt=fmt)
            whole, part = read_wfdb_signals(path), read_wfdb_signals(path, start=0.52, duration=0.4)
            for per_frame, own, all_of_it in zip((4, 1, 4), part.signals, whole.signals, strict=True):
                np.testing.assert_array_equal(own, all_of_it[52 * per_frame : 92 * per_frame])
        assert len(read_wfdb_signals(path, duration=1e308).signals[0]) == 4 * 101
        for wrong in ({"start": 2}, {"start": 1e308}, {"start": -1}, {"duration": 0}, {"start": np.nan}):
            with pytest.raises(UnreadableRecordError, match="start"):
                read_wfdb_signals(path, **wrong)


@pytest.mark.parametrize("fmt", ["8", "16", "24", "32", "61", "80", "160", "212", "310", "311"])
@pytest.mark.parametrize("n_signals", [1, 3, 4])
def test_every_byte_is_decoded_as_wfdb_does(tmp_path: Path, fmt: str, n_signals: int):
    """Also where the values fill no whole group of bytes, and with a skew."""
    path = write_bytes(tmp_path, per_frame=[1] * n_signals, fmt=fmt)
    if n_signals > 1 and fmt != "8":
        edit_header(path, f"{fmt}x1+12 200(1)", f"{fmt}x1:7+12 200(1)")
    expected = wfdb.rdrecord(str(path)).p_signal.T
    np.testing.assert_allclose(read_wfdb_signals(path).signals, expected, rtol=1e-6)


@pytest.mark.parametrize("fmt", ["508", "516", "524"])
def test_flac_is_decoded_as_wfdb_does(tmp_path: Path, fmt: str):
    path = write(tmp_path, fmt=fmt, names=LEADS[:8], values=MILLIVOLTS[:8], gain=30.0)
    np.testing.assert_allclose(read_wfdb_signals(path).signals, wfdb.rdrecord(str(path)).p_signal.T, atol=1e-6)
    path.with_name("record.dat").write_bytes(path.with_name("record.dat").read_bytes()[:300])
    with pytest.raises(UnreadableRecordError):
        read_record(path)


def test_long_records_are_read_in_blocks_without_a_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(samples, "BLOCK_VALUES", 60)
    for fmt in ("16", "212", "310", "8"):
        path = write_bytes(tmp_path, per_frame=[1] * 5, fmt=fmt)
        np.testing.assert_allclose(read_wfdb_signals(path).signals, wfdb.rdrecord(str(path)).p_signal.T, rtol=1e-6)
    path = write(tmp_path, names=LEADS[:5], values=MILLIVOLTS[:5], fmt="516")
    np.testing.assert_allclose(read_wfdb_signals(path).signals, wfdb.rdrecord(str(path)).p_signal.T, atol=1e-6)


class TestSegments:
    """Records of several segments, each with its own header."""

    def segments(self, folder: Path, *lines: str, n: int = SAMPLES) -> Path:
        (folder / "multi.hea").write_text(f"multi/{len(lines)} 12 {RATE} {n}\n" + "\n".join(lines) + "\n")
        return folder / "multi"

    def test_each_has_its_own_unit_gain_and_order(self, tmp_path: Path):
        order = rng.permutation(12)
        write(tmp_path, values=MILLIVOLTS[:, :200], name="s1")
        names = [LEADS[i].lower() for i in order]
        write(tmp_path, names=names, values=1e3 * MILLIVOLTS[order, 200:], name="s2", gain=2.0, units="uV", baseline=7)
        ecg = read_record(self.segments(tmp_path, "s1 200", "s2 300"))
        np.testing.assert_allclose(ecg.signal, MILLIVOLTS, atol=1e-6)

    def test_a_gap_and_a_lead_that_a_segment_lacks_are_nan(self, tmp_path: Path):
        write(tmp_path, values=MILLIVOLTS[:, :200], name="s1")
        write(tmp_path, names=LEADS[:6], values=MILLIVOLTS[:6, 200:], name="s2")
        signal = read_record(self.segments(tmp_path, "s1 200", "~ 50", "s2 300", n=550)).signal
        np.testing.assert_allclose(signal[:, :200], MILLIVOLTS[:, :200], atol=1e-6)
        np.testing.assert_allclose(signal[:6, 250:], MILLIVOLTS[:6, 200:], atol=1e-6)
        assert np.isnan(signal[:, 200:250]).all()
        assert np.isnan(signal[6:, 250:]).all()

    def test_a_layout_gives_names_and_order_and_segments_the_rest(self, tmp_path: Path):
        lines = [f"~ 0 1/uV 16 0 0 0 0 {name}" for name in ("V1", "II", "ABP")]
        (tmp_path / "layout.hea").write_text(f"layout 3 {RATE} 0\n" + "\n".join(lines) + "\n")
        write(tmp_path, names=["II", "V1"], values=MILLIVOLTS[:2, :200], name="s1")
        path = self.segments(tmp_path, "layout 0", "s1 200", "~ 30", n=230)
        read = read_wfdb_signals(path)
        assert read.names == ("V1", "II", "ABP")
        assert read.units[:2] == ("mV", "mV")
        np.testing.assert_allclose(np.stack(read.signals)[:2, :200], MILLIVOLTS[[1, 0], :200], atol=1e-6)
        assert np.isnan(read.signals[2]).all()
        np.testing.assert_allclose(
            read_wfdb_signals(path, start=1.5, duration=0.6).signals[0][:50], MILLIVOLTS[1, 150:200], atol=1e-6
        )

    @pytest.mark.parametrize(
        ("lines", "n", "named"),
        [
            (["s1 200", "s1 200"], 500, "400"),
            (["multi 500"], 500, "multi"),
            (["s1 250"], 250, "s1"),
            (["s1 200", "../s1 200"], 400, "../s1"),
            (["s1 200", "gone 200"], 400, "gone"),
            (["s1"], 200, "s1"),
            (["~ 200"], 200, "no segment"),
            (["~ 9000000000000000", "s1 200"], 9000000000000200, "values"),
        ],
    )
    def test_what_does_not_fit_is_refused_by_name(self, tmp_path: Path, lines: list[str], n: int, named: str):
        write(tmp_path, values=MILLIVOLTS[:, :200], name="s1")
        with pytest.raises(UnreadableRecordError, match=re.escape(named)):
            read_record(self.segments(tmp_path, *lines, n=n))

    def test_the_checksum_of_every_segment_is_checked(self, tmp_path: Path):
        for name, part in (("s1", MILLIVOLTS[:, :200]), ("s2", MILLIVOLTS[:, 200:])):
            write(tmp_path, values=part, name=name)
        data = bytearray((tmp_path / "s2.dat").read_bytes())
        data[99] ^= 4
        (tmp_path / "s2.dat").write_bytes(bytes(data))
        with pytest.raises(UnreadableRecordError, match="checksum"):
            read_record(self.segments(tmp_path, "s1 200", "s2 300"))


class TestHostileHeaders:
    """Names that leave the folder, what is not a regular file, and absurd numbers."""

    @pytest.mark.parametrize(
        "name", ["../{}/record.dat", "{}/record.dat", "/dev/zero", "pipe", "a\\b", "folder", "x\x00y", "C:x"]
    )
    def test_only_regular_files_of_the_folder_are_read(self, tmp_path: Path, name: str):
        path = write(tmp_path)
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "folder").mkdir()
        edit_header(path, "record.dat", name.format(tmp_path if name[0] == "{" else tmp_path.name))
        with pytest.raises(UnreadableRecordError) as caught:
            read_record(path)
        assert str(caught.value).isprintable()

    def test_a_header_that_is_a_pipe_is_refused(self, tmp_path: Path):
        os.mkfifo(tmp_path / "pipe.hea")
        with pytest.raises(UnreadableRecordError, match="regular file"):
            read_record(tmp_path / "pipe")

    def test_symbolic_links_are_followed(self, tmp_path: Path):
        path = write(tmp_path)
        (tmp_path / "store").mkdir()
        path.with_name("record.dat").rename(tmp_path / "store" / "content")
        path.with_name("record.dat").symlink_to(tmp_path / "store" / "content")
        np.testing.assert_allclose(read_record(path).signal, MILLIVOLTS, atol=1e-6)

    @pytest.mark.parametrize("fmt", ["8", "16", "24", "32", "61", "80", "160", "212", "310", "311", "508", "516", "7"])
    @pytest.mark.parametrize("length", ["999999999999", "9007199254740991", "9" * 30, "9" * 5000])
    def test_an_absurd_length_allocates_nothing(self, tmp_path: Path, fmt: str, length: str):
        path = write(tmp_path)
        edit_header(path, "record 12 100 500", f"record 12 100 {length}")
        edit_header(path, "record.dat 16 ", f"record.dat {fmt} ")
        tracemalloc.start()
        with pytest.raises(UnreadableRecordError):
            read_record(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
        tracemalloc.stop()

    @pytest.mark.parametrize(
        ("old", "new", "named"),
        [
            ("record.dat 16 ", "record.dat 16x0 ", "16x0"),
            ("record.dat 16 ", "record.dat 16x99999999999 ", "frames"),
            ("record.dat 16 ", "record.dat 16x9999 ", "truncated"),
            ("record.dat 16 ", "record.dat 16+99999999999 ", "truncated"),
            ("record.dat 16 ", "record.dat 99 ", "99"),
            ("1000.0(0)", "nan(0)", "gain"),
            ("1000.0(0)", "1000(inf)", "baseline"),
            ("record 12 100 500", "record 12 nan 500", "sampling rate"),
            ("record 12 100 500", "record 12 1e400 500", "sampling rate"),
            ("record 12 100 500", "record 12 3 500", "3"),
            ("record 12 100 500", "record 0 100 500", "0 signals"),
            ("record 12 100 500", "record 99999999 100 500", "99,999,999 signals"),
            ("record 12 100 500", "record/0 12 100 500", "0 segments"),
        ],
    )
    def test_an_absurd_number_is_named(self, tmp_path: Path, old: str, new: str, named: str):
        path = write(tmp_path)
        edit_header(path, old, new)
        with pytest.raises(UnreadableRecordError, match=named):
            read_record(path)

    def test_the_leads_of_two_files_in_turn_are_refused(self, tmp_path: Path):
        path = write(tmp_path)
        (tmp_path / "other.dat").write_bytes(path.with_name("record.dat").read_bytes())
        edit_header(path, "record.dat", "other.dat", 1)
        header = path.with_name("record.hea")
        lines = header.read_text().splitlines()
        header.write_text("\n".join([lines[0], lines[2], lines[1], *lines[3:]]))
        with pytest.raises(UnreadableRecordError, match="belong together"):
            read_record(path)

    def test_a_huge_or_binary_header_is_refused_at_once(self, tmp_path: Path):
        path = write(tmp_path)
        header = path.with_name("record.hea")
        start = time.perf_counter()
        for content in (
            header.read_bytes() + b"# x" * 10**7,
            header.read_bytes() + b"x" * 10**6,
            bytes(10**6),
            b"a 4096 100 1\n" + b"~ 16\n" * 200_000,
        ):
            header.write_bytes(content)
            with pytest.raises(UnreadableRecordError):
                read_record(path)
        assert time.perf_counter() - start < 5

    def test_mutations_end_in_a_record_or_in_one_line(self, tmp_path: Path):
        write(tmp_path, values=MILLIVOLTS[:, :200], name="s1")
        write(tmp_path, values=MILLIVOLTS[:, 200:], name="s2", fmt="212", gain=250.0)
        (tmp_path / "multi.hea").write_text(f"multi/3 12 {RATE} 550\ns1 200\n~ 50\ns2 300\n")
        random = np.random.default_rng(11)
        tokens = [
            b"~",
            b"-1",
            b"1e400",
            b"nan",
            b"../x",
            b"x5",
            b"212",
            b"8",
            b"516",
            b"9" * 400,
            b"\x00",
            b"\x1b[2J",
            b"\n",
            b":9",
            b"+7",
        ]
        outcomes = Counter()
        for _ in range(400):
            file = tmp_path / str(random.choice(["s1.hea", "s2.hea", "multi.hea", "s2.dat"]))
            kept = file.read_bytes()
            data = bytearray(kept)
            for _ in range(random.integers(1, 4)):
                at = int(random.integers(0, len(data) + 1))
                data[at : at + int(random.integers(0, 6))] = tokens[random.integers(len(tokens))]
            file.write_bytes(data if random.random() < 0.9 else data[: random.integers(len(data))])
            start = time.perf_counter()
            try:
                read_record(tmp_path / "multi")
                outcomes["read"] += 1
            except UnreadableRecordError as error:
                outcomes["refused" if str(error).isprintable() else "not one line"] += 1
            assert time.perf_counter() - start < 5
            file.write_bytes(kept)
        assert set(outcomes) == {"read", "refused"}
        assert outcomes["refused"] > 200
        assert outcomes["read"] > 5


NAMES = ("a103l", "041s", "100_3chan", "310derive_2", "mixedsignals", "flac_3_constant")


@pytest.mark.parametrize("name", [*(f"wfdb/{name}" for name in NAMES), "cinc/A0001"])
def test_a_real_record_has_the_values_that_wfdb_reads(name: str):
    path = real_file(f"{name}.hea")
    read, expected = read_wfdb_signals(path), wfdb.rdrecord(str(path.with_suffix("")), smooth_frames=False)
    signals = expected.p_signal.T if expected.e_p_signal is None else expected.e_p_signal
    assert len(read.signals) == len(signals)
    for row, rate, wanted in zip(read.signals, read.sampling_rates, signals, strict=True):
        assert rate == pytest.approx(expected.fs * len(wanted) / expected.sig_len)
        np.testing.assert_allclose(row, wanted, rtol=1e-6, atol=1e-6)


def test_a_real_record_with_small_letters_and_an_absent_file_of_other_leads():
    path = real_file("wfdb/s0010_re.hea")
    ecg = read_record(path)
    expected = wfdb.rdrecord(str(path.with_suffix("")), channels=list(range(12))).p_signal.T
    np.testing.assert_allclose(ecg.signal, expected, atol=1e-6)
    assert (ecg.sampling_rate, ecg.age, ecg.sex) == (1000, 81, "female")


def test_reading_plain_records_imports_neither_wfdb_nor_pandas():
    heavy = {"wfdb", "pandas", "torch", "scipy"}
    code = f"import sys, ecgkit.readers.wfdb, ecgkit.datasets.chunks; print({heavy} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_a_file_that_is_there_is_opened_without_a_list_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_ecg(Demo(n_records=20).read("1"), tmp_path / "ecg.hea")

    def listed(*_: object) -> list[str]:
        raise AssertionError("the time to open one of many files grows with the folder")

    monkeypatch.setattr("os.listdir", listed)
    assert open_ecg(path).n_samples == 1000
