"""What every request passes first: its id, the log, the metrics, the token, and the limits."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import sys
import time
import uuid
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ecgkit.serving.service.settings import Settings
from ecgkit.serving.service.work import Result, frames, problem

LOG = logging.getLogger("ecgkit.service")
GUARDED = "/v1/"
"""The beginning of the paths that need the token and have limits."""

HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


class Metrics:
    """What ``/metrics`` shows; nothing in it is of an ECG."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        add: dict[str, Any] = {"namespace": "ecgkit", "registry": self.registry}
        self.requests = Counter("requests", "Answered requests", ["route", "status"], **add)
        seconds = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
        self.seconds = Histogram(
            "request_seconds", "From the first byte to the answer", ["route"], buckets=seconds, **add
        )
        self.active = Gauge("active_requests", "Requests that are answered or wait", **add)
        self.queued = Gauge("queued_jobs", "Jobs that no worker has taken", **add)
        self.batches = Histogram("batch_jobs", "Jobs that a worker took at once", buckets=(1, 2, 4, 8), **add)
        self.streams = Gauge("streams", "Open WebSockets", **add)
        self.stream_answers = Counter("stream_answers", "Answers to streams", **add)


class JsonFormatter(logging.Formatter):
    """One JSON object per line; of an exception its type and where it was raised, not its message."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        fields = getattr(record, "fields", None) or {"message": record.getMessage()}
        line = {"time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"), "level": record.levelname.lower(), **fields}
        if record.exc_info and record.exc_info[1]:
            line["trace"] = frames(record.exc_info[1])
        return json.dumps(line)


def set_up_log() -> None:
    """Write the log of the service and of its server to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name, level in (("ecgkit.service", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)


def response(result: Result) -> Response:
    """Return a result as a response."""
    return Response(result.body, result.status, media_type=result.media)


class Recorder:
    """Gives each request an id, counts and logs it, and answers what nobody expected with the status 500.

    Parameters
    ----------
    app : callable
        What answers.
    metrics : Metrics
        Where it is counted.
    routes : set of str
        The paths that are counted and logged by their names; a client may write anything into another one.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: frozenset[str]) -> None:
        self.app, self.metrics, self.routes = app, metrics, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        number, start, status = uuid.uuid4().hex, time.perf_counter(), 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(HEADERS | {"X-Request-ID": number})
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except Exception as error:  # it must not end the connection without an answer
            LOG.error("", extra={"fields": {"event": "error", "id": number, "trace": frames(error)}})
            if not status:
                await response(problem(500, "an internal error"))(scope, receive, send_with_headers)
        seconds = time.perf_counter() - start
        route = scope["path"] if scope["path"] in self.routes else "other"
        self.metrics.requests.labels(route, status).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        fields = {"event": "request", "id": number, "route": route, "status": status, "ms": round(1000 * seconds, 1)}
        LOG.info("", extra={"fields": fields})


class Gate:
    """Lets a request pass that has the token, is not one too many, and is neither too large nor too slow.

    Parameters
    ----------
    app : callable
        What answers.
    settings : Settings
        The token and the limits.
    metrics : Metrics
        Where the requests that have passed are counted.
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics
        self.n_active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or say why not."""
        if scope["type"] != "http" or not scope["path"].startswith(GUARDED):
            await self.app(scope, receive, send)
        elif not has_token(scope, self.settings.token):
            refused = response(problem(401, "the token is missing or wrong: send Authorization: Bearer TOKEN"))
            refused.headers["WWW-Authenticate"] = "Bearer"
            await self._refuse(refused, scope, receive, send)
        elif self._length(scope) > self.settings.max_bytes:
            await response(self._too_large())(scope, receive, send)
        elif self.n_active >= self.settings.max_requests:
            refused = response(problem(429, f"{self.n_active} requests are being answered: try again in a second"))
            refused.headers["Retry-After"] = "1"
            await self._refuse(refused, scope, receive, send)
        else:
            self.n_active += 1
            self.metrics.active.inc()
            try:
                await self._pass(scope, receive, send)
            finally:
                self.n_active -= 1
                self.metrics.active.dec()

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request within the limits of size and time."""
        received, is_whole, has_begun = 0, False, False

        async def receive_limited() -> Message:
            nonlocal received, is_whole
            message = await receive()
            received += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if received > self.settings.max_bytes:
                raise HTTPException(413, json.loads(self._too_large().body)["error"])
            return message

        async def send_noted(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        seconds = self.settings.timeout
        try:
            async with asyncio.timeout(seconds):
                await self.app(scope, receive_limited, send_noted)
        except TimeoutError:
            if not has_begun:
                late = problem(504, f"the answer takes more than {seconds} s: send a shorter ECG, or try again later")
                slow = problem(408, f"the request has not arrived within {seconds} s: send it again")
                await response(late if is_whole else slow)(scope, receive, send)

    async def _refuse(self, refused: Response, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request after reading its body for up to 1 s: many clients read no answer before it is sent."""
        size, more = 0, True
        try:
            async with asyncio.timeout(1):
                while more and size <= self.settings.max_bytes:
                    message = await receive()
                    size, more = size + len(message.get("body", b"")), message.get("more_body", False)
        except TimeoutError:
            pass
        await refused(scope, receive, send)

    def _too_large(self) -> Result:
        return problem(
            413, f"the request has more than {self.settings.max_megabytes} MiB: send a part of the recording"
        )

    @staticmethod
    def _length(scope: Scope) -> int:
        text = Headers(scope=scope).get("content-length", "0")
        return int(text) if text.isdecimal() else 0


def has_token(scope: Scope, token: str) -> bool:
    """Return True if no token is asked for, or the request has it; how long this takes says nothing about the token."""
    if not token:
        return True
    kind, _, value = Headers(scope=scope).get("authorization", "").partition(" ")
    return kind.lower() == "bearer" and hmac.compare_digest(value.strip().encode(), token.encode())
