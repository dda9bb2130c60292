"""What a worker does: from the body of a request to the body of its answer. It knows nothing of HTTP but the status."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from ecgkit.errors import EcgkitError, UnknownFormatError, check_choice, printable
from ecgkit.inference.answers import Answer, answer_ecgs
from ecgkit.inference.batches import Skip
from ecgkit.inference.loading import load_model
from ecgkit.inference.predictor import Predictor
from ecgkit.readers import open_ecg
from ecgkit.readers.archives import group_files
from ecgkit.readers.files import record_key
from ecgkit.readers.opening import ecg_from_signal
from ecgkit.serving.service.schemas import BatchRequest, ExplainRequest, PageRequest, SignalRequest, explain
from ecgkit.serving.service.settings import MOST_ECGS, Settings
from ecgkit.signals.ecg import ECG, LEADS

JSON = "application/json"
PAGES = {"pdf": "application/pdf", "png": "image/png"}
REQUESTS: dict[str, type[SignalRequest | BatchRequest]] = {
    "predict": SignalRequest,
    "batch": BatchRequest,
    "dashboard": PageRequest,
    "explain": ExplainRequest,
}
HINTS = ("sampling_rate", "unit", "leads", "record", "start", "duration")


@dataclass(frozen=True, eq=False)
class Job:
    """What a worker is asked.

    Attributes
    ----------
    kind : {"predict", "batch", "dashboard", "explain", "stream"}
        What to do.
    content : bytes, dict or ndarray
        The body of a JSON request; the contents of files by their names; or, of a stream, samples ``(leads, samples)``.
    choices : mapping
        The fields next to files or samples, see `ecgkit.serving.service.schemas.FileChoices`; a JSON body has its own.
    """

    kind: Literal["predict", "batch", "dashboard", "explain", "stream"]
    content: bytes | dict[str, bytes] | np.ndarray
    choices: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """The answer to a job: the status of HTTP, the body and its type, and what is logged of an internal error."""

    status: int
    body: bytes
    media: str = JSON
    trace: str = ""


class RefusedError(Exception):
    """A request without an answer, and its status."""

    def __init__(self, status: int, message: str, findings: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.status, self.findings = status, findings


@dataclass(eq=False)
class Item:
    """One ECG of a job; ``answer`` comes last."""

    name: str
    ecg: ECG | None
    problem: RefusedError | None
    asked: tuple[str, bool, bool, bool, bool]
    choices: Mapping[str, Any] = field(default_factory=dict)
    answer: Answer | None = None


class Work:
    """The models, and what is done with them.

    Parameters
    ----------
    settings : Settings
        The models are loaded at once.

    Raises
    ------
    EcgkitError
        If a model cannot be loaded.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        loaded = [load_model(name, root=settings.root, backend=settings.backend) for name in settings.models]
        self.predictors: dict[str, Predictor] = {predictor.name: predictor for predictor in loaded}

    def models(self) -> list[dict[str, Any]]:
        """Describe the models as `ecgkit.serving.service.schemas.ModelAnswer` says."""
        return [
            {
                "name": name,
                "backend": model.backend,
                "classes": list(model.classes),
                "thresholds": {
                    label: float(str(value)) for label, value in zip(model.classes, model.thresholds, strict=True)
                },
                "label_set": model.label_set,
                "sampling_rate": model.sampling_rate,
                "shortest_seconds": model.n_samples / model.sampling_rate,
                "takes_age_and_sex": model.takes_metadata,
            }
            for name, model in self.predictors.items()
        ]

    def run(self, jobs: Sequence[Job]) -> list[Result]:
        """Do several jobs, their ECGs together in one batch; an error in one of them does not end the others."""
        opened: list[list[Item] | RefusedError] = [self._opened(job) for job in jobs]
        items = [item for some in opened if isinstance(some, list) for item in some]
        self._answer([item for item in items if item.problem is None])
        return [self._result(job, some) for job, some in zip(jobs, opened, strict=True)]

    def _opened(self, job: Job) -> list[Item] | RefusedError:
        """Open the ECGs of a job, or say why it has none."""
        try:
            return self._open_json(job, job.content) if isinstance(job.content, bytes) else self._open_parts(job)
        except RefusedError as error:
            return error
        except ValidationError as error:
            return RefusedError(422, explain(error))
        except EcgkitError as error:
            return RefusedError(_status(error), str(error))

    def _open_json(self, job: Job, body: bytes) -> list[Item]:
        """Open what a JSON body holds."""
        request = REQUESTS[job.kind].model_validate_json(body)
        choices = request.model_dump(exclude={"signal", "ecgs"})
        ecgs = request.ecgs if isinstance(request, BatchRequest) else [request]
        items = []
        for number, one in enumerate(ecgs):
            own = choices | {key: getattr(one, key) for key in ("age", "sex") if getattr(one, key) is not None}
            leads = LEADS if one.leads is None else tuple(one.leads)
            facts = {"sampling_rate": one.sampling_rate, "unit": one.unit, "leads": leads}
            items.append(self._item(str(number) if len(ecgs) > 1 else "", own, one.signal, facts))
        return items

    def _open_parts(self, job: Job) -> list[Item]:
        """Open files, or the samples of a stream."""
        hints = {key: job.choices[key] for key in HINTS if job.choices.get(key) is not None}
        if isinstance(job.content, np.ndarray):
            return [self._item("", job.choices, job.content, hints)]
        assert isinstance(job.content, dict)  # noqa: S101 - bytes are JSON
        if "record" in hints:
            hints["record"] = record_key(hints["record"])
        records = group_files(job.content) if job.kind == "batch" else {"": job.content}
        if len(records) > MOST_ECGS:
            raise RefusedError(413, f"the request has {len(records)} ECGs and at most {MOST_ECGS} are read: send fewer")
        return [self._item(name, job.choices, files, hints) for name, files in records.items()]

    def _item(self, name: str, choices: Mapping[str, Any], content: Any, facts: Mapping[str, Any]) -> Item:
        """Open one ECG; what prevents that is kept for the answer."""
        model = choices.get("model") or next(iter(self.predictors))
        check_choice("model", model, self.predictors)
        if method := choices.get("method"):
            from ecgkit.explain.attributions import check_explainable

            check_explainable(self.predictors[model], method=method, classes=_classes(choices))
        flags = ("anyway", "allow_missing_leads", "measurements", "windows")
        wanted = {"windows": True} | dict(choices)
        asked = (model, *(bool(wanted.get(flag)) for flag in flags))
        ecg, problem = None, None
        try:
            ecg = self._ecg(content, facts)
            missing = {key: choices.get(key) for key in ("age", "sex") if getattr(ecg, key) is None}
            ecg = replace(ecg, **missing)  # type: ignore[arg-type]
        except RefusedError as error:
            problem = error
        except EcgkitError as error:
            problem = RefusedError(_status(error), str(error))
        return Item(name or (ecg.record_id if ecg else ""), ecg, problem, asked, choices)  # type: ignore[arg-type]

    def _ecg(self, content: Any, facts: Mapping[str, Any]) -> ECG:
        """Open one ECG that is not too long."""
        longest = self.settings.max_seconds
        if isinstance(content, dict):
            ecg = open_ecg(content, **facts)
        else:
            if len(content) > self.settings.max_leads:
                raise RefusedError(
                    413, f"the ECG has {len(content)} leads and at most {self.settings.max_leads} are read"
                )
            ecg = ecg_from_signal(_rows(content) if isinstance(content, list) else content, **facts)
        if ecg.duration > longest:
            raise RefusedError(413, f"the ECG has {ecg.duration:g} s and at most {longest} are read: send a part")
        return ecg

    def _answer(self, items: Iterable[Item]) -> None:
        """Answer ECGs, those of which the same is asked together."""
        groups: dict[tuple[str, bool, bool, bool, bool], list[Item]] = {}
        for item in items:
            groups.setdefault(item.asked, []).append(item)
        for (model, anyway, allow_missing_leads, measurements, windows), some in groups.items():
            options: dict[str, bool] = {
                "anyway": anyway,
                "allow_missing_leads": allow_missing_leads,
                "measurements": measurements,
                "windows": windows,
            }
            sources = [(item.name, item.ecg) for item in some]
            answers = answer_ecgs(sources, self.predictors[model], **options)  # type: ignore[arg-type]
            for item, answer in zip(some, answers, strict=True):
                item.answer = answer

    def _result(self, job: Job, items: list[Item] | RefusedError) -> Result:
        """Return what is sent back."""
        try:
            if isinstance(items, RefusedError):
                raise items
            if job.kind == "batch":
                return _json(200, {"answers": [self._row(item) for item in items]})
            (item,) = items
            if job.kind == "stream":  # of which a bad second is not the end
                return _json(200, self._row(item))
            answer = _answered(item)
            if job.kind in DRAWN:
                return DRAWN[job.kind](answer, item.choices)
            return _json(200, answer.to_dict())
        except RefusedError as error:
            return problem(error.status, str(error), error.findings)
        except EcgkitError as error:
            return problem(422, str(error))

    def _row(self, item: Item) -> dict[str, Any]:
        """Return the answer to one ECG of a batch, or what is known of one that could not be opened."""
        if item.answer is not None:
            return item.answer.to_dict()
        model = self.predictors[item.asked[0]]
        nobody = Answer(item.name, model, None, np.zeros(0, np.int64), (), {}, str(item.problem), None)
        return nobody.to_dict()


def do(work: Work, jobs: Sequence[Job]) -> list[Result]:
    """Do jobs; what nobody expected is an answer with the status 500 and without the values that led to it."""
    try:
        return work.run(jobs)
    except Exception as error:  # the next request must find a worker
        if len(jobs) > 1:
            return [do(work, [job])[0] for job in jobs]
        return [replace(problem(500, "an internal error"), trace=frames(error))]


def frames(error: BaseException) -> str:
    """Return the type of an exception and where it was raised."""
    places = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-8:]]
    return f"{type(error).__name__} {' '.join(places)}"


def problem(status: int, message: str, findings: Sequence[Mapping[str, Any]] = ()) -> Result:
    """Return the answer to a request that has none."""
    return _json(status, {"error": printable(" ".join(message.split())), "findings": list(findings)})


def _answered(item: Item) -> Answer:
    """Return an answer with a prediction."""
    if item.problem is not None:
        raise item.problem
    answer = item.answer
    assert answer is not None  # noqa: S101 - every ECG without a problem has one
    if answer.refusal:
        raise RefusedError(422, answer.refusal, answer.to_dict()["findings"])
    return answer


def _page(answer: Answer, choices: Mapping[str, Any]) -> Result:
    """Draw an answer; matplotlib is imported by the first page."""
    from ecgkit.diagnosis.pages import draw_answer, pdf, picture

    style, figures = choices["format"], draw_answer(answer)
    return Result(200, pdf(figures) if style == "pdf" else picture(figures[0]), PAGES[style])


def _explained(answer: Answer, choices: Mapping[str, Any]) -> Result:
    """Explain an answer; captum is imported by the first."""
    from ecgkit.explain import pages
    from ecgkit.explain.attributions import explain_ecg, predicted_classes

    assert answer.ecg is not None  # noqa: S101 - it was answered
    skip = Skip(anyway=bool(choices["anyway"]), allow_missing_leads=bool(choices["allow_missing_leads"]))
    names = _classes(choices) or predicted_classes(answer.predictor, answer.ecg, **skip)
    found = explain_ecg(answer.predictor, answer.ecg, method=choices["method"], classes=names, **skip)
    if choices["format"] == "json":
        return _json(200, pages.to_dict(found) | {"record": answer.record})
    from ecgkit.diagnosis.pages import picture

    return Result(200, picture(pages.draw_class(found, names[0], answer.record)), PAGES["png"])


DRAWN: dict[str, Callable[[Answer, Mapping[str, Any]], Result]] = {"dashboard": _page, "explain": _explained}
"""What is done with an answer, for the kinds of jobs whose result is not the answer itself."""


def _classes(choices: Mapping[str, Any]) -> list[str]:
    """Return the classes to explain, which a form has as one text."""
    names = choices.get("classes") or []
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)


def _rows(signal: Sequence[Sequence[float | None]]) -> np.ndarray:
    """Return a signal as an array, NaN where a sample is None."""
    lengths = {len(row) for row in signal}
    if len(lengths) > 1:
        raise EcgkitError(f"the lists of signal have {min(lengths)} to {max(lengths)} samples: give one length")
    return np.array(signal, np.float64)


def _status(error: EcgkitError) -> int:
    return 415 if isinstance(error, UnknownFormatError) else 422


def _json(status: int, data: Mapping[str, Any]) -> Result:
    return Result(status, json.dumps(data, allow_nan=False).encode())
