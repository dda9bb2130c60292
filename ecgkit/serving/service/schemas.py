"""What goes in and comes out, as the OpenAPI description shows it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ecgkit.serving.service.settings import MOST_ECGS

Number = Annotated[float, Field(strict=True)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=200)]


METHOD = Field("integrated_gradients", description="Such as grad_cam or occlusion_segments.")
EXPLAINED = "By default those that the model predicts."
SHOWN = "The relevance of each sample, or a picture of the first class."


class _Strict(BaseModel):
    """Refuses a field that it does not know, so that a mistyped name is an error."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Choices(_Strict):
    """What may be said of every ECG and its answer."""

    model: Word | None = Field(None, description="One of /v1/models; by default the first.")
    age: float | None = Field(None, description="Years, where the file does not say it.", ge=0, le=130)
    sex: Literal["male", "female"] | None = Field(None, description="Where the file does not say it.")
    measurements: bool = Field(default=False, description="Measure heart rate, intervals and voltages.")
    anyway: bool = Field(default=False, description="Predict an ECG that the checks refuse, too.")
    allow_missing_leads: bool = Field(default=False, description="Predict an ECG that lacks leads, which are zero.")


class Samples(_Strict):
    """A signal."""

    signal: list[list[Number | None]] = Field(
        description="One list of samples per lead, all of one length; null where there is no value.", min_length=1
    )
    sampling_rate: Number = Field(description="In Hz, 50 to 2,000.")
    unit: Word = Field("mV", description="mV, uV or a multiple such as 4.88uV.")
    leads: list[Word] | None = Field(
        None, description="One name per list; by default the twelve leads I, II, III, aVR, aVL, aVF, V1 to V6."
    )


class SignalRequest(Choices, Samples):
    """An ECG as JSON."""


class BatchItem(Samples):
    """An ECG of several."""

    age: float | None = Field(None, ge=0, le=130)
    sex: Literal["male", "female"] | None = None


class BatchRequest(Choices):
    """Several ECGs as JSON."""

    ecgs: list[BatchItem] = Field(min_length=1, max_length=MOST_ECGS)


class PageRequest(SignalRequest):
    """An ECG as JSON, and the form of its page."""

    format: Literal["pdf", "png"] = Field("pdf", description="PDF, or PNG (of a long recording the first page).")


class FileChoices(Choices):
    """The fields of a form next to the files: what may be said, and what the files do not say."""

    sampling_rate: float | None = Field(None, description="In Hz, if the file does not say it.")
    unit: Word | None = Field(None, description="If the file does not say it.")
    leads: Word | None = Field(None, description="Such as I,II,V1: one per signal, if the file does not name them.")
    record: Word | None = Field(
        None, description='Position from 0 or identifier (a number in quotes, "7", is one), in a file of many records.'
    )
    start: float | None = Field(None, description="Seconds from the beginning.")
    duration: float | None = Field(None, description="Seconds to read.")


class PageChoices(FileChoices):
    """The fields of a form next to the files, and the form of the page."""

    format: Literal["pdf", "png"] = Field("pdf", description="PDF, or PNG (of a long recording the first page).")


class ExplainRequest(SignalRequest):
    """An ECG as JSON, and what is explained."""

    method: Word = METHOD
    classes: list[Word] | None = Field(None, description=EXPLAINED, min_length=1)
    format: Literal["json", "png"] = Field("json", description=SHOWN)


class ExplainChoices(FileChoices):
    """The fields of a form next to the files, and what is explained."""

    method: Word = METHOD
    classes: Word | None = Field(None, description=f"Such as MI,CD. {EXPLAINED}")
    format: Literal["json", "png"] = Field("json", description=SHOWN)


class StreamStart(Choices):
    """The first message of a stream."""

    type: Literal["start"]
    sampling_rate: Number
    unit: Word = "mV"
    leads: list[Word] | None = None
    format: Literal["float32", "int16"] = "float32"


class StreamResume(_Strict):
    """The first message of a connection that resumes a stream."""

    type: Literal["resume"]
    session: Word
    answers: int = Field(0, ge=0)


class StreamFrame(_Strict):
    """Samples of a stream as JSON."""

    frame: int = Field(ge=0)
    samples: list[list[Number | None]] = Field(min_length=1)


class ClassAnswer(_Strict):
    """One class."""

    name: str
    probability: float | None = Field(description="Calibrated.")
    threshold: float
    decision: bool | None = Field(description="Whether the probability reaches the threshold.")
    lowest: float | None = Field(None, description="Among the members of an ensemble.")
    highest: float | None = Field(None, description="Among the members of an ensemble.")


class Quantity(_Strict):
    """What a model for a quantity, such as age, says."""

    name: str
    value: float | None


class Course(_Strict):
    """Each 10 s of a recording of 20 s or more."""

    starts: list[float] = Field(description="In s.")
    probabilities: list[list[float]] = Field(description="One list per window, in the order of the classes.")


class FindingAnswer(_Strict):
    """What a reader or a check noticed."""

    name: str
    level: Literal["note", "warning", "refused"]
    text: str
    leads: list[str]
    evidence: dict[str, float | None]


class Answer(_Strict):
    """The answer to one ECG. An ECG can have several classes: probabilities do not sum to 1."""

    model: str
    backend: str
    record: str
    sampling_rate: float | None
    seconds: float | None
    age: float | None
    sex: str | None
    missing_leads: list[str]
    classes: list[ClassAnswer] | None = None
    windows: Course | None = None
    quantity: Quantity | None = None
    findings: list[FindingAnswer]
    measurements: dict[str, float | None]
    error: str = Field(description="Empty, or why there is no prediction.")


class BatchAnswer(_Strict):
    """One answer per ECG, in their order; one with an error does not end the others."""

    answers: list[Answer]


class ExplainedClass(_Strict):
    """Where the model looked for one class."""

    name: str
    value: float = Field(description="The calibrated probability; of a model for a quantity, its value.")
    change: float | None = Field(description="The logit minus that of the reference, of methods that have one.")
    relevance: list[list[float]] = Field(description="One list per lead; positive speaks for the class.")


class Explained(_Strict):
    """The relevance of each sample that the network read."""

    model: str
    record: str
    method: str
    unit: str = Field(description="Of the relevance.")
    sampling_rate: float
    leads: list[str]
    signal: list[list[float]] = Field(description="What the network read, in mV: one list per lead.")
    classes: list[ExplainedClass]


class Problem(_Strict):
    """Why there is no answer."""

    error: str
    findings: list[FindingAnswer] = Field(default=[], description="Of an ECG that the checks refuse.")


class ModelAnswer(_Strict):
    """A model that requests can choose."""

    name: str
    backend: str
    classes: list[str]
    thresholds: dict[str, float]
    label_set: str
    sampling_rate: int = Field(description="Hz that the network reads; signals of any rate are resampled to it.")
    shortest_seconds: float
    takes_age_and_sex: bool


class ModelsAnswer(_Strict):
    """The models, the default first."""

    models: list[ModelAnswer]


class Status(_Strict):
    """The state of the service."""

    status: str


def explain(error: ValidationError) -> str:
    """Return the first problem of a request in one line, without its values."""
    first, *others = error.errors(include_url=False, include_input=False, include_context=False)
    where = ".".join(str(part) for part in first["loc"])
    more = f" (and {len(others)} more)" if others else ""
    return f"{where}: {first['msg']}{more}" if where else f"{first['msg']}{more}"


def example(**fields: Any) -> dict[str, Any]:
    """Return a small request that gets an answer: three seconds of a crude ECG at 100 Hz."""
    beat = [0.0, 0.1, 0.2, 0.1, 0.0, 0.0, -0.1, 1.0, -0.3, 0.0, 0.0, 0.0, 0.1, 0.2, 0.3, 0.3, 0.2, 0.1, 0.0, 0.0]
    lead = (beat + [0.0] * 60) * 4
    factors = [0.6, 1.0, 0.4, -0.8, 0.1, 0.7, -0.4, 0.3, 0.8, 1.2, 1.1, 0.8]
    signal = [[round(factor * value, 3) for value in lead] for factor in factors]
    return {"signal": signal, "sampling_rate": 100, "unit": "mV"} | fields
