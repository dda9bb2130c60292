"""What the page says: its introduction, its limits, and what each class means."""

from __future__ import annotations

import re

INTRODUCTION = "Upload a 12-lead ECG, or make one, and see what a model that was trained on PTB-XL says about it."

DISCLAIMER = (
    "For research and teaching. **Not a medical device**: do not use it to decide about a person. "
    "Nothing that you upload is kept."
)

INSTRUCTIONS = """
1. **Choose an ECG**: upload files, take an example, or make one with the demo. The format of a file is found by its
   content: WFDB (`.hea` and `.dat` together, or a zip), DICOM, HL7 aECG, GE MUSE, Philips, SCP, EDF, CSV and more.
   What a file does not say, such as its sampling rate, is asked for.
2. **Read the findings first.** They say what may be wrong with the recording. An answer for a faulty recording is
   worth little.
3. **Read each label for itself.** Its probability is calibrated: of 100 ECGs with 0.30, about 30 have the label. "yes"
   means that the probability reaches the threshold, which was chosen as the one with the best F1 on validation data.
   "unreliable" follows where these data, called fold 9, have too few ECGs with the label to choose a threshold; such a
   probability is not calibrated either. An ECG can have several labels, or none.
4. **Measure in the ECG** with the calipers, and compare with the measurements.
"""

LIMITS = """
- The models were trained on PTB-XL: resting ECGs of 10 s, from adults in one country, recorded by a few devices. Other
  people, devices, lead positions and lengths may give worse answers; age and sex change how good they are.
- The labels are those of cardiologists who read the ECG, not of a later diagnosis. An infarction can be absent from an
  ECG, and a normal ECG does not exclude a disease.
- A model of the five superclasses says nothing about the rhythm.
- Faults of the recording are looked for before any answer, but not each of them is found.
- A long recording is read in windows of 10 s; the answer for the whole is their mean.
- An ECG that the demo made is not a person's: it shows textbook signs.
"""

HELP = (INSTRUCTIONS, LIMITS)
"""How to use the page, and what it cannot do."""

MEANINGS = {
    "NORM": "no diagnostic finding in the ECG",
    "MI": "signs of dead or dying heart muscle, old or acute, such as Q waves",
    "STTC": "the ST segment or the T wave is changed, for example by too little blood, drugs or salts",
    "CD": "the electrical signal is delayed or blocked, for example a bundle branch block or a long PR interval",
    "HYP": "a chamber of the heart is thickened or enlarged, often from high blood pressure",
}
"""What the five superclasses mean for somebody who is not a cardiologist."""

FIELDS = {
    "sampling_rate": "sampling rate",
    "unit": "unit",
    "leads": "names of the leads",
    "record": "record",
    "start": "start",
    "duration": "duration",
}
"""The fields of the page for the keywords of `ecgkit.open_ecg`."""

_KEYWORD = re.compile(rf"\b({'|'.join(FIELDS)})=(?=[,. ]|$)")
_SKIP = {"anyway": "Answer anyway", "allow_missing_leads": "Answer without these leads"}


def asked_for(message: str) -> tuple[str, ...]:
    """Return the keywords of `ecgkit.open_ecg` that a message asks for."""
    return tuple(dict.fromkeys(_KEYWORD.findall(message)))


def skips(message: str) -> tuple[str, ...]:
    """Return the options of a prediction that a message offers."""
    return tuple(name for name in _SKIP if f"{name}=True" in message)


def skip_label(name: str) -> str:
    """Return the label of the switch for an option."""
    return _SKIP[name]


def with_fields(message: str) -> str:
    """Return a message with the fields of the page in place of keywords."""
    message = _KEYWORD.sub(lambda found: f"the {FIELDS[found[1]]} below", message)
    for name, label in _SKIP.items():
        message = message.replace(f"{name}=True", f'"{label}"')
    return message
