"""Where an ECG comes from: files that are uploaded, examples, or the generator of the demo."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import streamlit as st

from ecgkit.errors import EcgkitError
from ecgkit.readers.archives import group_files, read_zip
from ecgkit.readers.opening import File
from ecgkit.serving.page.markup import markdown
from ecgkit.signals.ecg import ECG, SEXES
from ecgkit.sources.demo import make_ecg
from ecgkit.stats.labels import SUPERCLASSES, spelled_out

EXAMPLES: dict[str, dict[str, Any]] = {
    "Normal ECG": {"classes": ["NORM"], "heart_rate": 68, "seed": 1},
    "Myocardial infarction": {"classes": ["MI"], "heart_rate": 76, "seed": 2},
    "ST/T change": {"classes": ["STTC"], "heart_rate": 82, "seed": 6},
    "Conduction disturbance": {"classes": ["CD"], "heart_rate": 64, "seed": 3},
    "Hypertrophy": {"classes": ["HYP"], "heart_rate": 70, "seed": 3},
    "Infarction and conduction disturbance": {"classes": ["MI", "CD"], "heart_rate": 88, "seed": 5},
    "A recording with strong noise": {"classes": ["NORM"], "heart_rate": 72, "noise": 8, "seed": 4},
    "A recording of 60 s": {"classes": ["STTC"], "heart_rate": 58, "seconds": 60, "seed": 6},
}
"""Examples by name: arguments of `ecgkit.sources.demo.make_ecg`, so that no recording of a person ships."""

NOISE = {"none": 0.0, "little": 0.5, "usual": 1.0, "much": 4.0, "very much": 8.0}


@dataclass(frozen=True, eq=False)
class Item:
    """One ECG to answer; ``key`` is of this content and no other."""

    key: str
    name: str
    source: File | ECG


def choose() -> list[Item]:
    """Let the user choose where the ECG comes from, and return what was chosen."""
    ways: dict[str, Callable[[], list[Item]]] = {"Upload": upload, "Example": example, "Demo generator": generate}
    way = st.radio("Where the ECG comes from", list(ways), horizontal=True)
    return ways[way]()


def upload() -> list[Item]:
    """Take files; those of one WFDB record become one item."""
    files = st.file_uploader(
        "ECG files",
        accept_multiple_files=True,
        help="Of any format, several at once. WFDB: the .hea and .dat files together, or a zip.",
    )
    identity = {file.name: file.file_id for file in files}
    items = []
    for name, parts in group_files({file.name: file.getvalue() for file in files}).items():
        key = " ".join(identity[part] for part in parts)
        inside = records_inside(name, parts[name])
        items += [Item(f"{key} {each}", each, files) for each, files in inside.items()] or [Item(key, name, parts)]
    return items


def records_inside(name: str, data: bytes) -> dict[str, dict[str, bytes]]:
    """Return the records of a zip of several; nothing for other files, and for a zip that `open_ecg` has to explain."""
    if not name.lower().endswith(".zip"):
        return {}
    try:
        records = group_files(read_zip(io.BytesIO(data), len(data)))
    except EcgkitError:
        return {}
    return records if len(records) > 1 else {}


def example() -> list[Item]:
    """Take one of the examples."""
    name = st.selectbox("Example (made by the demo, of no person)", list(EXAMPLES))
    return [Item(f"example {name}", name, _made(EXAMPLES[name]))]


def generate() -> list[Item]:
    """Let the user describe ECGs, and make them."""
    with st.container(border=True):
        classes = st.multiselect(
            "Classes",
            list(SUPERCLASSES),
            default=["NORM"],
            format_func=lambda name: spelled_out(name, "superclass"),
            help="Several diseases at once are possible.",
        )
        left, middle, right = st.columns(3)
        arguments: dict[str, Any] = {
            "heart_rate": left.number_input("Heart rate per minute", 30, 200, 70),
            "seconds": middle.number_input("Duration in s", 5, 60, 10),
            "noise": NOISE[right.selectbox("Noise", list(NOISE), index=2)],
            "age": left.number_input("Age in years (drawn if empty)", 18, 97, None, placeholder="drawn"),
            "sex": {name: name for name in SEXES}.get(middle.selectbox("Sex", ["drawn", *SEXES])),
        }
        seed = right.number_input("Seed", 0, 10**6, 0, help="The same seed makes the same ECG.")
        number = left.number_input("Number of ECGs", 1, 20, 1, help="With this seed and the following ones.")
    try:
        wanted = [arguments | {"classes": classes, "seed": seed + i} for i in range(number)]
        ecgs = [_made(one) for one in wanted]
    except EcgkitError as error:
        st.error(markdown(str(error)))
        return []
    return [Item(f"made {one}", ecg.record_id, ecg) for one, ecg in zip(wanted, ecgs, strict=True)]


@st.cache_data(max_entries=50, show_spinner=False)
def _made(arguments: dict[str, Any]) -> ECG:
    """Make an ECG, once for all sessions: nobody's data is in it."""
    return make_ecg(**arguments)
