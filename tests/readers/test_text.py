"""Tables of text: all that spreadsheets, programs and watches write."""

from __future__ import annotations

import re

import numpy as np
import pytest

from ecgkit.errors import EcgkitError, UnreadableRecordError
from ecgkit.readers import open_ecg, read_signals
from ecgkit.readers.opening import missing_arguments
from ecgkit.signals.ecg import LEADS

RATE = 250
rng = np.random.default_rng(7)
MILLIVOLTS = rng.normal(0, 0.5, (12, 600)).round(3)
TIMES = np.arange(600) / RATE
MILLISECONDS = [f"{1000 * time:g}" for time in TIMES]
MICRO = [f"{name}_uV" for name in LEADS]
KNOWN = {"sampling_rate": RATE, "unit": "mV"}


def table(
    *,
    names=LEADS,
    values=MILLIVOLTS,
    first=None,
    first_name="time (s)",
    separator=",",
    decimal=".",
    head=True,
    end="\n",
    form="{:.3f}",
) -> str:
    """Write a table with one column per lead."""
    rows = [[form.format(value) for value in column] for column in values.T]
    if first is not None:
        rows = [[f"{value:g}", *row] for value, row in zip(first, rows, strict=True)]
    lines = [separator.join(field.replace(".", decimal) for field in row) for row in rows]
    header = [separator.join([*([first_name] if first is not None else []), *names])] if head else []
    return end.join([*header, *lines]) + end


def rows_of(separator: str = ",", decimal: str = ".", *, named: bool = True) -> str:
    """Write a table with one row per lead."""
    lines = [separator.join(f"{value:.3f}".replace(".", decimal) for value in row) for row in MILLIVOLTS]
    return "\n".join(f"{name}{separator}{line}" if named else line for name, line in zip(LEADS, lines, strict=True))


order = rng.permutation(12)
VARIANTS = {
    "header": (table(), KNOWN),
    "no header": (table(head=False), KNOWN | {"leads": LEADS}),
    "numbered header": (table(names=[str(number) for number in range(12)]), KNOWN | {"leads": LEADS}),
    "seconds": (table(first=TIMES), {"unit": "mV"}),
    "seconds without header": (table(first=TIMES, head=False), {"unit": "mV", "leads": LEADS}),
    "milliseconds": (table(first=TIMES * 1000, first_name="t_ms"), {"unit": "mV"}),
    "nanoseconds": (table(first=1e9 * np.arange(600) / RATE, first_name="time_ns", form="{:.3f}"), {"unit": "mV"}),
    "milliseconds without unit": (table(first=TIMES * 1000, first_name="Time"), {"unit": "mV"}),
    "index of pandas": (table(first=np.arange(600), first_name=""), KNOWN),
    "sample numbers": (table(first=np.arange(600), first_name="sample"), KNOWN),
    "semicolons and decimal commas": (table(first=TIMES, separator=";", decimal=","), {"unit": "mV"}),
    "tabs and decimal commas": (table(first=TIMES, separator="\t", decimal=","), {"unit": "mV"}),
    "spaces": (table(separator="   "), KNOWN),
    "spaces and decimal commas": (table(separator=" ", decimal=","), KNOWN),
    "Windows line ends": (table(end="\r\n"), KNOWN),
    "microvolts in names": (table(names=MICRO, values=MILLIVOLTS * 1e3), {"sampling_rate": RATE}),
    "whole microvolts": (table(values=MILLIVOLTS * 1e3, form="{:.0f}"), {"sampling_rate": RATE, "unit": "uV"}),
    "steps of 5 microvolts": (table(values=MILLIVOLTS * 200, form="{:.1f}"), {"sampling_rate": RATE, "unit": "5uV"}),
    "another order, capitals": (table(names=[LEADS[i].upper() for i in order], values=MILLIVOLTS[order]), KNOWN),
    "rows": (rows_of(), KNOWN),
    "rows with semicolons": (rows_of(";", ","), KNOWN),
    "rows without names": (rows_of(named=False), KNOWN | {"leads": LEADS}),
    "rows with a header": ("lead," + ",".join(map(str, range(600))) + "\n" + rows_of(), KNOWN),
    "rows with times": (",".join(["time (ms)", *MILLISECONDS]) + "\n" + rows_of(), {"unit": "mV"}),
    "comments": ("# sampling_rate: 250 Hz\n# unit: mV\n# sex: female\n" + table(), {}),
    "row of units": (table(names=LEADS).replace("\n", "\n" + ",".join(["mV"] * 12) + "\n", 1), {"sampling_rate": RATE}),
    "rows with units": (
        "lead,unit," + ",".join(map(str, range(600))) + "\n" + re.sub(r"(?m)^(\w+),", r"\1,mV,", rows_of()),
        {"sampling_rate": RATE},
    ),
    "rows with units and times": (
        ",".join(["time", "ms", *MILLISECONDS]) + "\n" + re.sub(r"(?m)^(\w+),", r"\1,mV,", rows_of()), {}
    ),
    "names in Italian": (table(names=[f"Derivazione {name} (mV)" for name in LEADS]), {"sampling_rate": RATE}),
    "names in German": (
        table(names=[f"Ableitung {name} [mV]" for name in LEADS], separator=";", decimal=","), {"sampling_rate": RATE}
    ),
    "names in Japanese": (table(names=[f"{name}誘導" for name in LEADS]), KNOWN),
    "names as in aECG": (table(names=[f"MDC_ECG_LEAD_{name.upper()}" for name in LEADS]), KNOWN),
    "names in one word": (table(names=[f"Lead{name}" for name in LEADS]), KNOWN),
    "names with a point": (table(names=[f"ecg.{name.lower()}" for name in LEADS]), KNOWN),
    "units after a slash": (table(names=[f"Lead {name} / mV" for name in LEADS]), {"sampling_rate": RATE}),
    "units after in": (
        table(names=[f"{name} in mV" for name in LEADS], first=TIMES * 1000, first_name="t in ms"), {}
    ),
    "sample numbers and times": (
        table(names=["time (s)", *LEADS], values=np.vstack([TIMES, MILLIVOLTS]), first=np.arange(600),
              first_name="sample"), {"unit": "mV"}
    ),
    "other names for some of the leads": (
        table(names=[name.replace("V", "C") for name in LEADS]), KNOWN | {"leads": LEADS}
    ),
    "separators at the end of the lines of numbers": (table().replace("\n", ",\n").replace(",\n", "\n", 1), KNOWN),
    "times and tabs at the end of the lines of numbers": (
        table(first=TIMES, separator="\t").replace("\n", "\t\n").replace("\t\n", "\n", 1), {"unit": "mV"}
    ),
    "numbered rows without a name in the header": (table(first=range(1, 601)).replace("time (s),", "", 1), KNOWN),
    "names of several words": (
        "  Elapsed time     " + "    ".join(LEADS) + "\n  (seconds)    " + "   ".join(["(mV)"] * 12) + "\n"
        + table(first=TIMES, head=False, separator="   "), {}
    ),
    "milliseconds cut to whole ones": (
        table(first=np.floor(TIMES * 1000 + 0.3 * np.sin(np.arange(600))), first_name="time_ms"), {"unit": "mV"}
    ),
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_gives_the_same_signal(variant: str):
    text, hints = VARIANTS[variant]
    ecg = open_ecg(text.encode(), **hints)
    assert ecg.sampling_rate == RATE
    np.testing.assert_allclose(ecg.signal, MILLIVOLTS, atol=1e-6)
    assert ecg.findings == ()


def test_other_names_are_asked_about_and_replaced():
    text = table(names=[f"channel {number}" for number in range(12)])
    with pytest.raises(EcgkitError, match="leads="):
        open_ecg(text.encode(), **KNOWN)
    np.testing.assert_allclose(open_ecg(text.encode(), **KNOWN, leads=LEADS).signal, MILLIVOLTS, atol=1e-6)


def test_some_of_the_leads_of_a_file_are_chosen():
    assert open_ecg(table().encode(), **KNOWN, leads="V1,II").missing_leads == tuple(
        name for name in LEADS if name not in ("II", "V1")
    )


def test_a_column_of_text_a_footer_and_comments_are_left_out_and_reported():
    lines = table(names=[*LEADS, "note"], values=np.vstack([MILLIVOLTS, np.zeros(600)])).splitlines()
    noted = [line.removesuffix("0.000") + ("beat" if number % 200 == 1 else "") for number, line in enumerate(lines)]
    text = "\n".join([lines[0], *noted[1:300], "# the second part", *noted[300:], "# end", "-- of the file --"])
    ecg = open_ecg(text.encode(), **KNOWN)
    np.testing.assert_allclose(ecg.signal, MILLIVOLTS, atol=1e-6)
    assert [finding for finding in ecg.findings if "note" in finding]
    assert [finding for finding in ecg.findings if finding.startswith("3 lines")]


def test_text_in_a_lead_is_an_error_that_names_lead_and_text():
    text = table().replace("\n", "\nbroken,", 1).replace(",", "", 0)
    spoiled = text.replace("broken," + text.split("broken,")[1].split(",")[0], "broken", 1)
    with pytest.raises(UnreadableRecordError, match=r"column I .*'broken'"):
        open_ecg(spoiled.encode(), **KNOWN)
    without = table(head=False).splitlines()
    without[3] = "0.1,x," + without[3].split(",", 2)[2]
    with pytest.raises(UnreadableRecordError, match=r"column 2 .*'x'"):
        open_ecg("\n".join(without).encode(), **KNOWN, leads=LEADS)


@pytest.mark.parametrize("word", ["N/A", "#N/A", "--", "NaN"])
def test_words_for_a_missing_value_are_gaps(word: str):
    lines = table().splitlines()
    lines[5] = ",".join([word] * 12)
    assert np.isnan(open_ecg("\n".join(lines).encode(), **KNOWN).signal[:, 4]).all()


def test_a_missing_row_is_a_gap_and_a_rate_of_rounded_times_is_none():
    times = np.round(np.arange(600) / 450, 3)  # steps of 2 and 3 ms
    assert open_ecg(table(first=times * 1000, first_name="t_ms").encode(), unit="mV").sampling_rate == pytest.approx(
        450, abs=0.5
    )
    without = [line for number, line in enumerate(table(first=TIMES).splitlines()) if number != 100]
    ecg = open_ecg("\n".join(without).encode(), unit="mV")
    assert (ecg.sampling_rate, np.isnan(ecg.signal[:, 99]).all()) == (RATE, True)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_every_encoding_gives_the_same_signal(encoding: str):
    text = table(names=[f"{name} [µV]" for name in LEADS], values=MILLIVOLTS * 1000)
    ecg = open_ecg(text.encode(encoding), sampling_rate=RATE)
    np.testing.assert_allclose(ecg.signal, MILLIVOLTS, atol=1e-6)


def test_date_and_time_in_two_columns_give_the_rate_across_midnight() -> None:
    clocks = np.datetime64("2020-01-31T23:59:59") + (1000 * TIMES).astype("timedelta64[ms]")
    values = [";".join(f"{value:.3f}".replace(".", ",") for value in row) for row in MILLIVOLTS.T]
    for first in ("31.01.2020;", "2020-01-31;", ""):
        days = [first.replace("31", str(clock)[8:10]) for clock in clocks]
        days = [day.replace(".01.", ".02.").replace("-01-", "-02-") if "01" in str(clock)[8:10] else day
                for day, clock in zip(days, clocks, strict=True)]  # fmt: skip
        lines = [f"{day}{str(clock)[11:].replace('.', ',')};{row}"
                 for day, clock, row in zip(days, clocks, values, strict=True)]  # fmt: skip
        header = ";".join([*(["Datum"] if first else []), "Uhrzeit", *(f"{name} [mV]" for name in LEADS)])
        ecg = open_ecg("\n".join([header, *lines]).encode())
        assert ecg.sampling_rate == RATE
        np.testing.assert_allclose(ecg.signal, MILLIVOLTS, atol=1e-6)


@pytest.mark.parametrize("form", ["{}", "p{}"])
@pytest.mark.parametrize(
    "name",
    [
        *("record_id", "Patient ID", "subject", "pid", "case_id", "recording_number", "record_no", "hadm_id", "mrn"),
        *("segment", "visit", "session", "ID_patient", "anything"),
    ],
)
def test_several_recordings_in_one_table_are_refused(name: str, form: str) -> None:
    lines = table().splitlines()
    many = [f"{name},{lines[0]}", *(f"{form.format(row // 300)},{line}" for row, line in enumerate(lines[1:]))]
    with pytest.raises(UnreadableRecordError, match="one recording"):
        open_ecg("\n".join(many).encode(), **KNOWN)
    with pytest.raises(UnreadableRecordError, match="one recording"):
        open_ecg("\n".join([*lines[:300], "", *lines[300:]]).encode(), **KNOWN)
    with pytest.raises(UnreadableRecordError):
        open_ecg((table() + table()).encode(), **KNOWN)


@pytest.mark.parametrize("first_name", ["sample", "", "counter", "Unnamed: 0"])
def test_numbers_of_rows_show_a_restart_and_missing_rows(first_name: str) -> None:
    restart = table(first=np.arange(600) % 300, first_name=first_name)
    with pytest.raises(UnreadableRecordError, match="one recording"):
        open_ecg(restart.encode(), **KNOWN)
    kept = np.delete(np.arange(600), [*range(200, 300), *range(7, 600, 9)])
    ecg = open_ecg(table(first=kept, values=MILLIVOLTS[:, kept], first_name=first_name).encode(), **KNOWN)
    np.testing.assert_allclose(ecg.signal[:, kept], MILLIVOLTS[:, kept], atol=1e-6)
    assert ecg.n_samples == 600
    assert np.isnan(ecg.signal).sum() == 12 * (600 - len(kept))
    assert "gaps" in ecg.findings[0]


def test_numbers_of_one_byte_count_on_after_255() -> None:
    for times in ([], [TIMES]):
        names = ["Sample Index", *["time (s)" for _ in times], *LEADS]
        text = table(names=names, values=np.vstack([np.arange(600) % 256, *times, MILLIVOLTS]))
        hints = KNOWN if not times else {"unit": "mV"}
        np.testing.assert_allclose(open_ecg(text.encode(), **hints).signal, MILLIVOLTS, atol=1e-6)


BEATS = np.arange(600) % 200 == 50
BLOCKS = np.arange(600) // 100


@pytest.mark.parametrize(
    ("name", "values"),
    [
        *(
            ("rpeak", BEATS),
            ("beat", np.cumsum(BEATS)),
            ("marker", 3 * BEATS),
            ("lead_off", BLOCKS > 2),
            ("flag", BEATS),
        ),
        *(
            ("quality", BLOCKS),
            ("stage", BLOCKS % 2),
            ("HR (1/min)", 70 + BLOCKS),
            ("battery", 98 - BLOCKS),
            ("VX", 0.3),
        ),
        *(("patient_id", 7), ("visit", 1), ("RESP", MILLIVOLTS[0])),
    ],
)
def test_a_column_of_events_or_of_other_quantities_is_left_out_and_reported(name: str, values: np.ndarray) -> None:
    column = np.broadcast_to(values, 600).astype(float)
    ecg = open_ecg(table(names=[*LEADS, name], values=np.vstack([MILLIVOLTS, column])).encode(), **KNOWN)
    np.testing.assert_allclose(ecg.signal, MILLIVOLTS, atol=1e-6)
    assert [finding for finding in ecg.findings if name[:2] in finding]


def test_texts_of_events_do_not_tell_recordings_apart() -> None:
    lines = table().splitlines()
    texts = ["annotation", *np.where(BEATS, "N", "")], ["phase", *np.where(BLOCKS % 2, "a", "b")]
    for column in texts:
        text = "\n".join(f"{line},{value}" for line, value in zip(lines, column, strict=True))
        assert [finding for finding in open_ecg(text.encode(), **KNOWN).findings if column[0] in finding]


def test_a_blank_lead_at_the_end_keeps_its_name() -> None:
    values = np.where(np.arange(12)[:, None] == 11, np.nan, MILLIVOLTS)
    ecg = open_ecg(table(values=values).replace("nan", "").encode(), **KNOWN)
    assert ecg.missing_leads == ("V6",)
    np.testing.assert_allclose(ecg.signal[0], MILLIVOLTS[0], atol=1e-6)


@pytest.mark.parametrize("head", ["lead;{};" + ";".join(map(str, range(600))), "lead;{};samples"])
def test_a_number_before_the_samples_of_a_row_is_no_sample(head: str) -> None:
    rows = re.sub(r"(?m)^(\w+);", r"\1;200;", rows_of(";"))
    for name in ("age", "gain"):
        ecg = open_ecg((head.format(name) + "\n" + rows).encode(), **KNOWN)
        np.testing.assert_allclose(ecg.signal, MILLIVOLTS, atol=1e-6)
        assert name in ecg.findings[0]
    steps = [
        f"{lead};200;" + ";".join(f"{200 * value:.0f}" for value in row)
        for lead, row in zip(LEADS, MILLIVOLTS, strict=True)
    ]
    with pytest.raises(EcgkitError, match="gain"):
        open_ecg("\n".join([head.format("gain"), *steps]).encode(), **KNOWN)


@pytest.mark.parametrize(("separator", "sign"), [(";", "."), (";", ","), ("\t", "."), (" ", ".")])
def test_signs_after_thousands_are_no_decimal_signs(separator: str, sign: str) -> None:
    whole = [[f"{value:,.0f}".replace(",", sign) for value in row] for row in 3000 * MILLIVOLTS.T]
    text = "\n".join(separator.join(row) for row in [[f"{name}_uV" for name in LEADS], *whole])
    with pytest.raises(UnreadableRecordError, match="thousands"):
        open_ecg(text.encode(), sampling_rate=RATE)


@pytest.mark.parametrize(
    "form",
    [
        "0:{:02.0f}.{:03.0f}",
        "2020-01-01T10:00:{:02.0f}.{:03.0f}",
        "2020-01-01 10:00:{:02.0f}.{:03.0f}",
        "2020-01-01T10:00:{:02.0f}.{:03.0f}+01:00",
        "01/02/2020 10:00:{:02.0f}.{:03.0f}",
        "2020-01-01 10:00:{:02.0f}.{:03.0f} +0100",
    ],
)
def test_times_of_day_give_the_rate(form: str):
    stamps = [form.format(*divmod(round(1000 * time), 1000)) for time in TIMES]
    lines = [
        f"'{stamp}',{','.join(f'{value:.3f}' for value in row)}"
        for stamp, row in zip(stamps, MILLIVOLTS.T, strict=True)
    ]
    header = "'Elapsed time'," + ",".join(f"'{name}'" for name in LEADS) + "\n'hh:mm:ss.mmm'," + ",".join(["'mV'"] * 12)
    ecg = open_ecg("\n".join([header, *lines]).encode())
    assert ecg.sampling_rate == RATE
    np.testing.assert_allclose(ecg.signal, MILLIVOLTS, atol=1e-6)


def test_missing_rows_are_gaps_and_missing_values_are_nan():
    left_out = [200, 201, 450]
    kept = np.delete(np.arange(600), left_out)
    values = MILLIVOLTS[:, kept].copy()
    values[4, 10] = np.nan
    text = table(first=TIMES[kept], values=values).replace("nan", "")
    ecg = open_ecg(text.encode(), unit="mV")
    expected = MILLIVOLTS.copy()
    expected[:, left_out] = np.nan
    expected[4, 10] = np.nan
    np.testing.assert_allclose(ecg.signal, expected, atol=1e-6)
    assert "aVL 4" in ecg.findings[0]


def test_rounded_times_give_the_rate_that_they_stand_for():
    times = np.round(np.arange(600) / 512, 3)
    assert open_ecg(table(first=times).encode(), unit="mV").sampling_rate == pytest.approx(512, rel=1e-3)


@pytest.mark.parametrize(
    ("text", "hints", "named"),
    [
        (table(), {"unit": "mV"}, "sampling_rate="),
        (table(first=np.arange(600), first_name="time"), {"unit": "mV"}, "sampling_rate="),
        (table(), {"sampling_rate": RATE}, "unit="),
        (table(head=False), KNOWN, "leads="),
        (table(head=False), KNOWN | {"leads": LEADS[:8]}, "8 names"),
    ],
)
def test_what_the_file_does_not_say_is_asked_for_by_name(text: str, hints: dict, named: str):
    with pytest.raises(EcgkitError, match=named):
        open_ecg(text.encode(), **hints)


@pytest.mark.parametrize(
    ("hints", "named"),
    [
        ({"sampling_rate": 500, "unit": "mV"}, "250 Hz"),
        ({"unit": "mV", "leads": LEADS[6:] + LEADS[:5] + ("V9",)}, "V9"),
        ({"unit": "furlong"}, "furlong"),
        ({"unit": ["mV"]}, "unit"),
        ({"unit": "mV", "leads": [1, 2]}, "leads"),
        ({"unit": "mV", "duration": "long"}, "duration"),
        ({"unit": "mV", "sampling_rate": 5}, "5"),
        ({"unit": "mV", "start": -1}, "start"),
        ({"unit": "mV", "start": 1, "duration": 9}, "2.4 s"),
        ({"unit": "mV", "duration": 0.5}, "at least 1 s"),
        ({"unit": "mV", "record": 3}, "record"),
    ],
)
def test_an_argument_that_contradicts_the_file_or_reason_is_refused(hints: dict, named: str):
    with pytest.raises(EcgkitError, match=named):
        open_ecg(table(first=TIMES).encode(), **hints)


# As the watch exports them, with the time and the name left out.
WATCH = {
    "en": 'Software Version,1.90\nDevice,"Watch4,2"\nSample Rate,512.844 hertz\n\n\nLead,Lead I\nUnit,µV\n\n',
    "de": 'Gerät,"Watch4,2"\nMessrate,512,844 Hertz\n\n\nAbleitung,Ableitung I\nEinheit,µV\n\n',
    "ja": 'デバイス,"Watch4,2"\nサンプルレート,512.844ヘルツ\n\n\n誘導,I誘導\n単位,µV\n\n',
    "zh": '设备,"Watch4,2"\n采样率,512.844赫兹\n\n\n导联,导联 I\n单位,µV\n\n',
    "ko": '기기,"Watch4,2"\n샘플률,512.844헤르츠\n\n\n유도,유도 I\n단위,µV\n\n',
}


@pytest.mark.parametrize("language", WATCH)
def test_an_ecg_of_a_watch_is_lead_one_in_any_language(language: str):
    values = "\n".join(f"{1000 * value:.3f}" for value in MILLIVOLTS[0])
    text = WATCH[language] + (values.replace(".", ",") if language == "de" else values) + "\n"
    ecg = open_ecg(text.encode())
    assert ecg.sampling_rate == 512.844
    np.testing.assert_allclose(ecg.signal[0], MILLIVOLTS[0], atol=1e-6)
    assert ecg.missing_leads == LEADS[1:]


@pytest.mark.parametrize(
    "line",
    [
        *("Notch filter: 50 Hz", "Bandwidth: 150 Hz", "Frequency range: 150 Hz", "Mains frequency: 60 Hz"),
        *("Ventricular rate: 72 bpm", "Respiratory rate: 100", "Height: 172 cm", "Paper speed: 50 mm/s"),
        *("Samples: 600", "Sample count: 500", "Sampling interval: 80 ms", "Weight, 80 kg"),
        *("Samples per lead: 600", "Nombre d'échantillons: 600", "Numero di campioni: 600", "Abtastwerte;600"),
        *("采样点数: 600", "Samples generated: 600", "Rate,80", "Frequency: 80", "Frequency: 50 Hz", "Freq,60 Hz"),
        *("Original sampling rate: 500 Hz", "Sampling rate before resampling: 500 Hz", "Recorder sampling rate: 500"),
        *(
            "Previous sampling rate: 500",
            "Resampled from: 500 Hz",
            "Max sampling rate: 500",
            "SpO2 sampling rate: 75 Hz",
        ),
    ],
)
def test_other_numbers_are_no_sampling_rate(line: str):
    with pytest.raises(EcgkitError, match="sampling_rate="):
        open_ecg(f"{line}\n{table()}".encode(), unit="mV")


@pytest.mark.parametrize("line", ["Calibration: 1 mV", "Pacing threshold: 2 mV", "Resolution: 5 uV", "Gain: 200 / mV"])
def test_other_voltages_are_no_unit(line: str):
    with pytest.raises(EcgkitError, match="unit="):
        open_ecg(f"{line}\n{table()}".encode(), sampling_rate=RATE)


@pytest.mark.parametrize(
    "line",
    [
        *(
            "fs = 250",
            "Sampling frequency (Hz): 250",
            "Sample rate,250 Hz",
            "frequency;250 Hz",
            "samples per second: 250",
        ),
        *("Abtastrate;250 Hz", "Fréquence d'échantillonnage;250 Hz", "Frecuencia de muestreo: 250 Hz"),
        *("サンプリング周波数,250 Hz", "采样率,250赫兹", "Hz: 250", "Частота дискретизации: 250 герц"),
    ],
)
def test_the_sampling_rate_is_read_in_many_languages(line: str):
    assert open_ecg(f"{line}\n{table()}".encode(), unit="mV").sampling_rate == RATE


@pytest.mark.parametrize("line", ["Sampling rate: 500 Hz", "Rate: 80 Hz", "fs,300"])
def test_a_rate_that_contradicts_the_times_is_asked_about(line: str) -> None:
    row_times = ",".join(["time (ms)", *MILLISECONDS]) + "\n" + rows_of()
    for text in (table(first=TIMES), row_times):
        data = f"{line}\n{text}".encode()
        with pytest.raises(EcgkitError, match=r"250 Hz.*sampling_rate="):
            open_ecg(data, unit="mV")
        assert open_ecg(data, unit="mV", sampling_rate=RATE).sampling_rate == RATE
        with pytest.raises(EcgkitError, match="1000 Hz"):
            open_ecg(data, unit="mV", sampling_rate=1000)
    close = f"Sampling rate: 251 Hz\n{table(first=TIMES)}"
    assert open_ecg(close.encode(), unit="mV").sampling_rate == 251


def test_a_rate_that_contradicts_the_steps_of_the_sample_numbers_is_asked_about() -> None:
    text = "Sampling rate: 1250 Hz\n" + table(first=5 * np.arange(600), first_name="sample")
    with pytest.raises(EcgkitError, match=r"250 Hz.*sampling_rate="):
        open_ecg(text.encode(), unit="mV")
    assert open_ecg(text.encode(), **KNOWN).sampling_rate == RATE


def test_a_table_of_samsung_health_says_where_the_trace_is():
    with pytest.raises(UnreadableRecordError, match=r"jsons/com\.samsung\.health\.ecg"):
        open_ecg(b"com.samsung.health.ecg,6313012,4\nstart_time,data\n2023-01-01,x.json\n")


@pytest.mark.parametrize(
    "text", ["", "  \n ", "no numbers here\n", "I,II\n1,2\n1,x\n3,4\n", "time,I\n0,1\n0.5,1\n0.1,1\n"]
)
def test_a_text_that_is_no_table_of_an_ecg_is_unreadable(text: str):
    with pytest.raises(EcgkitError):
        open_ecg(text.encode(), sampling_rate=RATE, unit="mV")


@pytest.mark.parametrize(
    "line",
    [
        *("Gain: 200", "ADC gain (adu/mV),200", "Resolution: 5 uV/LSB", "gain = 1000 1/mV", "adc_gain: 200"),
        *("Resolution (uV/LSB): 4.88", "Resolution [uV]: 4.88", "LSB: 4.88", "Amplitude resolution;4.88;µV"),
        *("Counts per mV: 205", "ADU/mV: 205", "Auflösung: 4,88 µV", "Scale: 4.88", "Scale factor: 0.00488"),
        *("nV/LSB: 4880", "Resolution: 4.88e-3 mV", "Resolution 4.88 uV/LSB", "Sensitivity: 4.88 µV/Bit", "Gain 200"),
        *("Resolution: 16 bit, 4.88 uV", "Calibration: 205 counts/mV", "Verstärkung: 200"),
    ],
)
def test_whole_numbers_below_a_gain_are_not_taken_for_the_unit(line: str) -> None:
    head = f"Sampling rate: {RATE} Hz\nUnit: uV\n{line}\n"
    steps = table(values=np.rint(MILLIVOLTS * 200), form="{:.0f}")
    with pytest.raises(EcgkitError, match="next to whole numbers"):
        open_ecg((head + steps).encode())
    resp = table(names=[*LEADS, "resp"], values=np.vstack([np.rint(MILLIVOLTS * 200), np.full(600, 0.5)]), form="{:g}")
    with pytest.raises(EcgkitError, match="next to whole numbers"):
        open_ecg((head + resp).encode())
    converted = open_ecg((head.replace("Unit: uV", "Unit: mV") + table()).encode())
    np.testing.assert_allclose(converted.signal, MILLIVOLTS, atol=1e-6)


@pytest.mark.parametrize(
    "line",
    [
        *("Gain: 10 mm/mV", "Gain: 10", "Resolution: 16 bit", "Resolution: 1 uV", "Gain: x10", "Scale: 10 mm/mV"),
        *("Resolution (bits): 11", "Resolution: 16", "Time resolution: 2", "Sensitivity: 10 mm/mV", "Gain 10 mm/mV"),
    ],
)
def test_other_numbers_are_not_a_gain(line: str) -> None:
    head = f"Sampling rate: {RATE} Hz\nUnit: uV\n{line}\n"
    ecg = open_ecg((head + table(values=MILLIVOLTS * 1e3, form="{:.0f}")).encode())
    np.testing.assert_allclose(ecg.signal, MILLIVOLTS, atol=1e-6)


@pytest.mark.parametrize("line", ["Lead: V5", "Channel 1: Lead V5", "Ableitung;V5", "ECG lead name = v5"])
def test_the_header_names_the_lead_of_one_signal(line: str) -> None:
    text = f"Sampling rate: {RATE} Hz\nunit: mV\n{line}\n" + "\n".join(f"{value:.3f}" for value in MILLIVOLTS[0])
    np.testing.assert_allclose(open_ecg(text.encode()).signal[LEADS.index("V5")], MILLIVOLTS[0], atol=1e-6)


def test_a_single_column_next_to_the_times_keeps_its_unit() -> None:
    text = table(names=["ecg (mV)"], values=MILLIVOLTS[:1], first=TIMES)
    ecg = open_ecg(f"Lead: V5\n{text}".encode())
    np.testing.assert_allclose(ecg.signal[LEADS.index("V5")], MILLIVOLTS[0], atol=1e-6)


@pytest.mark.parametrize(
    "line",
    [
        "Leads off: V1",
        "Missing leads: V1",
        "Leads: I, II, V1",
        "Lead system: I",
        "Lead: V5 bipolar",
        "Derived leads: III",
    ],
)
def test_other_words_on_leads_do_not_name_one(line: str) -> None:
    text = f"Sampling rate: {RATE} Hz\nunit: mV\n{line}\n" + "\n".join(f"{value:.3f}" for value in MILLIVOLTS[0])
    with pytest.raises(EcgkitError, match="leads="):
        open_ecg(text.encode())


@pytest.mark.parametrize(
    "lines", ["Rate: 72\nPR: 160", "fs: 500\nleads: 12", "Samples 5000\nRate 500", "Age: 63\nBed 12"]
)
def test_lines_before_a_table_are_no_header_of_wfdb(lines: str) -> None:
    ecg = open_ecg(f"{lines}\n{table(first=TIMES)}".replace("fs: 500", "fs: 250").encode(), unit="mV")
    np.testing.assert_allclose(ecg.signal, MILLIVOLTS, atol=1e-6)


def test_all_columns_are_signals_one_level_below():
    text = table(names=(*LEADS[:2], "resp"), values=MILLIVOLTS[:3], first=TIMES)
    found = read_signals(text.encode())
    assert found.names == ("I", "II", "resp")
    assert found.units == ("", "", "")
    assert found.sampling_rates == (RATE,) * 3
    np.testing.assert_allclose(found.signals[2], MILLIVOLTS[2], atol=1e-9)


@pytest.mark.parametrize("form", ["{}", '"{}"'])
def test_commas_that_separate_and_are_decimal_signs_are_named(form: str) -> None:
    rows = [",".join(form.format(f"{value:.3f}".replace(".", ",")) for value in row) for row in MILLIVOLTS.T]
    with pytest.raises(EcgkitError, match="decimal signs as well"):
        open_ecg("\n".join([",".join(LEADS), *rows]).encode(), **KNOWN)


def test_what_a_file_does_not_say_can_be_asked() -> None:
    bare = b"I,II,V1\n" + b"0.1,0.2,0.3\n" * 500
    assert missing_arguments(bare) == ("unit", "sampling_rate")
    assert missing_arguments(b"1,2\n" * 500) == ("leads", "unit", "sampling_rate")
    assert missing_arguments(b"time (s),I (mV)\n" + b"".join(b"%.3f,0.1\n" % (i / 100) for i in range(500))) == ()
    assert missing_arguments(b"Dear doctor") == ()
