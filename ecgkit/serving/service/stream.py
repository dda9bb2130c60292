"""ECGs as they are recorded: samples over a WebSocket, every second the answer for the last ten."""

from __future__ import annotations

import asyncio
import json
import math
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from ecgkit.errors import EcgkitError, check_choice
from ecgkit.readers.opening import ecg_from_signal
from ecgkit.serving.service.edge import LOG, Metrics, has_token
from ecgkit.serving.service.pool import Pool
from ecgkit.serving.service.schemas import StreamFrame, StreamResume, StreamStart, explain
from ecgkit.serving.service.settings import Settings
from ecgkit.serving.service.work import Job
from ecgkit.signals.ecg import LEADS

WINDOW = 10
"""Seconds of an answer."""

KEPT_ANSWERS, KEPT_SECONDS = 120, 60.0
"""Answers of a session that can be sent again, and for how long a session waits for its client to come back."""

TYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "int16": np.dtype("<i2")}
POLICY, TOO_LARGE, TRY_LATER = 1008, 1009, 1013
"""Codes with which a WebSocket is closed."""


class StreamError(Exception):
    """What ends a connection: a message and the code of the close."""

    def __init__(self, message: str, code: int = POLICY) -> None:
        super().__init__(message)
        self.code = code


@dataclass(eq=False)
class Session:
    """One recording, which outlives its connections.

    Attributes
    ----------
    start : StreamStart
        What the first message declared.
    leads : tuple of str
        One per row of the samples.
    earliest : int
        The first second with an answer: the length that the model reads at once, rounded up.
    """

    start: StreamStart
    leads: tuple[str, ...]
    earliest: int
    number: str = field(default_factory=lambda: uuid.uuid4().hex)
    next_frame: int = 0
    samples: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    first: int = 0  # the position of the first sample that is kept
    second: int = 0  # the last one that was answered
    n_answers: int = 0
    answers: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=KEPT_ANSWERS))
    connection: int = 0
    left: float = 0.0  # when its client went, 0 while it is there
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.samples = np.zeros((len(self.leads), 0), np.float32)
        self.second = self.earliest - 1

    def add(self, frame: int, samples: np.ndarray) -> None:
        """Add a frame; one that is here already is left out, and one that skips others is an error."""
        if frame < self.next_frame:
            return
        if frame > self.next_frame:
            raise StreamError(f"frame {frame} came and {self.next_frame} is missing: send it, or resume the session")
        if len(samples) != len(self.leads):
            raise StreamError(f"frame {frame} has {len(samples)} leads and not {len(self.leads)}")
        self.samples = np.concatenate((self.samples, samples.astype(np.float32)), axis=1)
        self.next_frame += 1

    def window(self) -> np.ndarray | None:
        """Return the samples of the next answer, None as long as they are not here."""
        rate = self.start.sampling_rate
        stop, begin = round((self.second + 1) * rate), round(max(0, self.second + 1 - WINDOW) * rate)
        if self.first + self.samples.shape[1] < stop:
            return None
        self.samples, self.first = self.samples[:, begin - self.first :], begin
        return self.samples[:, : stop - begin]

    def keep(self, answer: dict[str, Any]) -> None:
        """Keep the answer to the window."""
        self.second += 1
        self.n_answers += 1
        place = {"seconds_since_start": self.second, "next_frame": self.next_frame}
        self.answers.append({"type": "answer", "number": self.n_answers} | place | {"answer": answer})


class Streams:
    """All sessions.

    Parameters
    ----------
    pool : Pool
        Answers the windows.
    settings : Settings
        The token and the limits.
    metrics : Metrics
        Counts streams and their answers.
    """

    def __init__(self, pool: Pool, settings: Settings, metrics: Metrics) -> None:
        self.pool, self.settings, self.metrics = pool, settings, metrics
        self.sessions: dict[str, Session] = {}
        self.n_open = 0

    async def serve(self, socket: WebSocket) -> None:
        """Serve one connection."""
        if not has_token(socket.scope, self.settings.token) or not self._is_welcome(socket):
            await socket.close(POLICY)
            return
        await socket.accept()
        if self.n_open >= self.settings.max_streams:
            await _refuse(socket, StreamError(f"{self.n_open} streams are open: try again later", TRY_LATER))
            return
        self.n_open += 1
        self.metrics.streams.inc()
        session = None
        try:
            session, seen = self._session(await self._receive(socket))
            await self._follow(socket, session, seen)
        except StreamError as error:
            await _refuse(socket, error)
        except (WebSocketDisconnect, RuntimeError):  # the client is gone: RuntimeError is Starlette's for a late send
            pass
        finally:
            self.n_open -= 1
            self.metrics.streams.dec()
            if session is not None:
                session.left = time.monotonic()
                LOG.info("", extra={"fields": {"event": "stream", "answers": session.n_answers}})

    async def _follow(self, socket: WebSocket, session: Session, seen: int) -> None:
        """Take frames and send answers until the client goes, or another connection resumes the session."""
        session.connection += 1
        mine = session.connection
        async with session.lock:  # after what an earlier connection has begun
            session.left = 0.0
            await socket.send_json({"type": "started", "session": session.number, "next_frame": session.next_frame})
            for answer in [answer for answer in session.answers if answer["number"] > seen]:
                await socket.send_json(answer)
            await self._answer(socket, session)
        while True:
            message = await self._receive(socket)
            async with session.lock:
                if session.connection != mine:
                    raise StreamError("another connection has resumed this session")
                session.add(*_frame(message, session))
                await self._answer(socket, session)

    async def _answer(self, socket: WebSocket, session: Session) -> None:
        """Answer every second that is complete; meanwhile no more is read, so that nothing piles up."""
        start = session.start
        facts = {"sampling_rate": start.sampling_rate, "unit": start.unit, "leads": session.leads, "windows": False}
        choices = start.model_dump(include={"model", "age", "sex", "measurements", "anyway", "allow_missing_leads"})
        while (window := session.window()) is not None:
            result = await self.pool.run(Job("stream", np.ascontiguousarray(window), choices | facts))
            session.keep(json.loads(result.body))
            self.metrics.stream_answers.inc()
            await socket.send_json(session.answers[-1])

    async def _receive(self, socket: WebSocket) -> str | bytes:
        """Return the next message."""
        try:
            async with asyncio.timeout(KEPT_SECONDS):
                message = await socket.receive()
        except TimeoutError as error:
            raise StreamError(f"nothing came for {KEPT_SECONDS:.0f} s", TRY_LATER) from error
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))
        text = message.get("text")
        content: str | bytes = message["bytes"] if text is None else text
        if len(content) > self.settings.max_bytes:
            raise StreamError(f"a message has over {self.settings.max_megabytes} MiB: send shorter frames", TOO_LARGE)
        return content

    def _session(self, message: str | bytes) -> tuple[Session, int]:
        """Return the session that a first message starts or resumes, and how many answers its client has."""
        self._forget()
        try:
            data = json.loads(message) if isinstance(message, str) else None
            if isinstance(data, dict) and data.get("type") == "resume":
                wanted = StreamResume.model_validate(data)
                if wanted.session not in self.sessions:
                    raise StreamError("the session is unknown or over: start a new one")
                return self.sessions[wanted.session], wanted.answers
            session = self._start(StreamStart.model_validate(data))
        except ValidationError as error:
            raise StreamError(explain(error)) from error
        except (ValueError, RecursionError) as error:
            reason = str(error) if isinstance(error, EcgkitError) else "the first message is not JSON"
            raise StreamError(reason) from error
        self.sessions[session.number] = session
        return session, 0

    def _start(self, start: StreamStart) -> Session:
        """Return a new session whose declaration an ECG can have."""
        leads = LEADS if start.leads is None else tuple(start.leads)
        if len(leads) > self.settings.max_leads:
            raise StreamError(f"the ECG has {len(leads)} leads and at most {self.settings.max_leads} are read")
        models = {model["name"]: model["shortest_seconds"] for model in self.pool.models}
        if not models:
            raise StreamError("the models are not loaded yet: try again in a few seconds", TRY_LATER)
        model = check_choice("model", start.model or next(iter(models)), models)
        blank = np.ones((len(leads), 4096), np.float32)  # at least 2 s at any rate
        ecg_from_signal(blank, sampling_rate=start.sampling_rate, unit=start.unit, leads=leads)
        return Session(start, leads, max(1, math.ceil(models[model])))

    def _forget(self) -> None:
        """Remove sessions whose clients did not come back, and the oldest of too many."""
        gone = sorted((session for session in self.sessions.values() if session.left), key=lambda one: one.left)
        too_many = len(self.sessions) - 2 * self.settings.max_streams
        for place, session in enumerate(gone):
            if place < too_many or time.monotonic() - session.left > KEPT_SECONDS:
                del self.sessions[session.number]

    def _is_welcome(self, socket: WebSocket) -> bool:
        """Return True unless a browser says that the page of another origin calls."""
        origin = socket.headers.get("origin")
        same = origin is not None and urlsplit(origin).netloc == socket.headers.get("host")
        return origin is None or same or origin in self.settings.cors


def _frame(message: str | bytes, session: Session) -> tuple[int, np.ndarray]:
    """Return the number and the samples ``(leads, samples)`` of a frame."""
    if isinstance(message, str):
        try:
            frame = StreamFrame.model_validate_json(message)
            return frame.frame, np.array(frame.samples, np.float64)
        except ValidationError as error:
            raise StreamError(explain(error)) from error
        except ValueError as error:
            raise StreamError("the lists of a frame have several lengths: give one") from error
    kind = TYPES[session.start.format]
    size = kind.itemsize * len(session.leads)
    if len(message) < 4 or (len(message) - 4) % size:
        raise StreamError(f"a binary frame has {len(message)} bytes: 4, and {size} for each sample of all leads")
    samples = np.frombuffer(message, kind, offset=4).reshape(-1, len(session.leads)).T
    return int.from_bytes(message[:4], "little"), samples


async def _refuse(socket: WebSocket, error: StreamError) -> None:
    """Say why a connection ends, and end it."""
    try:
        await socket.send_json({"type": "error", "error": str(error)})
        await socket.close(error.code)
    except (WebSocketDisconnect, RuntimeError):
        return
