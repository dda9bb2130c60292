"""The routes of the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from ecgkit import __version__
from ecgkit.errors import EcgkitError
from ecgkit.serving.service import schemas
from ecgkit.serving.service.bodies import read_job
from ecgkit.serving.service.edge import LOG, Gate, Metrics, Recorder, response
from ecgkit.serving.service.pool import Pool
from ecgkit.serving.service.settings import Settings
from ecgkit.serving.service.stream import Streams
from ecgkit.serving.service.work import JSON, PAGES, problem

Described = dict[int | str, dict[str, Any]]
"""Answers in the OpenAPI description, by their status."""
TITLE = "ecgkit"
DESCRIPTION = (
    "12-lead ECGs in, calibrated probabilities out, with findings of the signal and measurements. For research and "
    "teaching; not a medical device."
)
PROBLEMS = {
    401: "The token is missing or wrong.",
    408: "The request arrives too slowly.",
    413: "The body, the ECG or the number of ECGs is too large.",
    415: "Neither JSON nor a form, or a file of a format that is not read.",
    422: "The request or the file has no answer: the message says why.",
    429: "Too many requests at once.",
}


def make_app(settings: Settings, loaded: Callable[[str], None] = lambda _: None) -> FastAPI:
    """Make the service.

    Parameters
    ----------
    settings : Settings
        The models and the limits.
    loaded : callable, optional
        Called when the models are loaded: with an empty text, or why one cannot be.

    Returns
    -------
    FastAPI
        An ASGI application. Its workers start and end with it.
    """
    metrics = Metrics()
    pool = Pool(settings, metrics.batches.observe)
    metrics.queued.set_function(lambda: pool.waiting)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        pool.start()
        loading = asyncio.create_task(asyncio.to_thread(_load, pool, loaded))
        yield
        await loading
        await asyncio.to_thread(pool.stop)

    app = FastAPI(
        title=TITLE,
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    _add_answers(app, pool)
    _add_status(app, pool, metrics)
    app.add_api_websocket_route("/v1/stream", Streams(pool, settings, metrics).serve)
    app.add_exception_handler(HTTPException, _explain)
    app.openapi = lambda: describe(app, has_token=bool(settings.token))  # type: ignore[method-assign]
    app.add_middleware(Gate, settings=settings, metrics=metrics)
    if settings.cors:
        headers = ["Authorization", "Content-Type"]
        app.add_middleware(
            CORSMiddleware, allow_origins=settings.cors, allow_methods=["GET", "POST"], allow_headers=headers
        )
    paths = frozenset(getattr(route, "path", "") for route in app.routes)
    app.add_middleware(Recorder, metrics=metrics, routes=paths)
    app.state.pool = pool
    return app


def _load(pool: Pool, loaded: Callable[[str], None]) -> None:
    """Wait until the models are loaded, and say so."""
    message = ""
    try:
        pool.wait()
        LOG.info("", extra={"fields": {"event": "ready", "models": [model["name"] for model in pool.models]}})
    except EcgkitError as error:
        message = str(error)
    loaded(message)


def _add_answers(app: FastAPI, pool: Pool) -> None:
    """Add the routes that take ECGs."""

    async def answer(request: Request, kind: Any) -> Response:
        result = await pool.run(await read_job(request, kind))
        if result.trace:
            LOG.error("", extra={"fields": {"event": "error", "trace": result.trace}})
        return response(result)

    problems = _refusals(*PROBLEMS)
    page: Described = {200: {"description": "The page.", "content": {media: {} for media in PAGES.values()}}}
    picture: Described = {200: {"content": {PAGES["png"]: {}}}}
    several = {"ecgs": [schemas.example(age=60, sex="male"), schemas.example(unit="mV")]}
    to_predict = body(schemas.SignalRequest, schemas.FileChoices, schemas.example(measurements=True))
    to_batch = body(schemas.BatchRequest, schemas.FileChoices, several)
    to_draw = body(schemas.PageRequest, schemas.PageChoices, schemas.example(format="png"))
    to_explain = body(schemas.ExplainRequest, schemas.ExplainChoices, schemas.example(method="grad_cam"))

    @app.post("/v1/predict", response_model=schemas.Answer, responses=problems, openapi_extra=to_predict)
    async def predict(request: Request) -> Response:
        """Predict one ECG: a signal as JSON, or the file, or the files, of one recording."""
        return await answer(request, "predict")

    @app.post("/v1/predict/batch", response_model=schemas.BatchAnswer, responses=problems, openapi_extra=to_batch)
    async def predict_batch(request: Request) -> Response:
        """Predict several ECGs; one that is refused is an answer with its error."""
        return await answer(request, "batch")

    @app.post("/v1/dashboard", response_class=Response, responses=problems | page, openapi_extra=to_draw)
    async def dashboard(request: Request) -> Response:
        """Draw one ECG with its answer on one page."""
        return await answer(request, "dashboard")

    @app.post("/v1/explain", response_model=schemas.Explained, responses=problems | picture, openapi_extra=to_explain)
    async def explain(request: Request) -> Response:
        """Show where the model looked in one ECG; of an ONNX graph it cannot be said."""
        return await answer(request, "explain")


def _refusals(*statuses: int) -> Described:
    """Describe the answers of these statuses."""
    return {status: {"model": schemas.Problem, "description": PROBLEMS[status]} for status in statuses}


def _add_status(app: FastAPI, pool: Pool, metrics: Metrics) -> None:
    """Add the routes that say how the service is."""

    @app.get("/v1/models", response_model=schemas.ModelsAnswer, responses=_refusals(401, 429))
    async def models() -> dict[str, Any]:
        """List the models that a request can choose; the first is the default."""
        return {"models": pool.models}

    @app.get("/health", response_model=schemas.Status)
    async def health() -> dict[str, str]:
        """Say that the process is alive."""
        return {"status": "ok"}

    @app.get("/ready", response_model=schemas.Status, responses={503: {"model": schemas.Status}})
    async def ready(response: Response) -> dict[str, str]:
        """Say whether the models are loaded."""
        response.status_code = 200 if pool.is_ready else 503
        return {"status": "ready" if pool.is_ready else "loading"}

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def show_metrics() -> Response:
        """Show counters for Prometheus."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


async def _explain(_: Request, error: Exception) -> Response:
    """Answer a request that no route takes, or whose body is not a form, as all others are answered: with JSON."""
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for these only
    answer = response(problem(error.status_code, str(error.detail)))
    answer.headers.update(error.headers or {})
    return answer


def body(as_json: type[BaseModel], fields: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    """Describe a body that is JSON, or a form with files."""
    form = fields.model_json_schema()
    form["properties"]["file"] = {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}
    form["required"] = ["file"]
    content = {
        JSON: {"schema": {"$ref": f"#/components/schemas/{as_json.__name__}"}, "example": example},
        "multipart/form-data": {"schema": form},
    }
    return {"requestBody": {"required": True, "content": content}}


def describe(app: FastAPI, *, has_token: bool) -> dict[str, Any]:
    """Return the OpenAPI description."""
    if app.openapi_schema is None:
        described = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        taken = (
            schemas.SignalRequest,
            schemas.BatchRequest,
            schemas.PageRequest,
            schemas.ExplainRequest,
        )
        _, found = models_json_schema(
            [(model, "validation") for model in taken], ref_template="#/components/schemas/{model}"
        )
        described["components"]["schemas"] |= found["$defs"]
        if has_token:
            described["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            described["security"] = [{"token": []}]
        app.openapi_schema = described
    return app.openapi_schema
