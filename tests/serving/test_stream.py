"""Samples as they come: one answer per second, and nothing is lost when the connection is."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from service_requests import as_json
from starlette.websockets import WebSocketDisconnect

from ecgkit.serving.service import schemas
from ecgkit.signals.ecg import ECG

START = {"type": "start", "sampling_rate": 500}
FIRST = 3
"""The first second with an answer: the model reads 2.5 s at once."""


def frames(ecg: ECG, length: int = 250) -> list[dict[str, Any]]:
    """Return an ECG as the messages of half a second each."""
    parts = range(0, ecg.n_samples, length)
    return [
        {"frame": number, "samples": ecg.signal[:, first : first + length].tolist()}
        for number, first in enumerate(parts)
    ]


def values(message: dict[str, Any]) -> list[float]:
    return [entry["probability"] for entry in message["answer"]["classes"]]


def test_every_second_is_answered_and_the_tenth_as_the_whole_ecg(client: TestClient, ecg: ECG) -> None:
    with client.websocket_connect("/v1/stream") as socket:
        socket.send_json(START)
        assert socket.receive_json()["next_frame"] == 0
        for frame in frames(ecg):
            socket.send_json(frame)
        got = [socket.receive_json() for _ in range(FIRST, 11)]
    assert [message["seconds_since_start"] for message in got] == list(range(FIRST, 11))
    assert [message["number"] for message in got] == list(range(1, 9))
    assert got[-1]["next_frame"] == 20
    assert schemas.Answer.model_validate(got[-1]["answer"]).seconds == 10
    whole = client.post("/v1/predict", json=as_json(ecg)).json()
    assert values(got[-1]) == pytest.approx([entry["probability"] for entry in whole["classes"]], abs=1e-5)


def test_binary_frames_of_another_unit_and_rate_get_the_same_answer(client: TestClient, ecg: ECG) -> None:
    start = START | {"sampling_rate": 250, "unit": "uV", "format": "int16"}
    thinned = ecg.signal[:, ::2]
    samples = np.round(1000 * thinned).astype("<i2")
    with client.websocket_connect("/v1/stream") as socket:
        socket.send_json(start)
        socket.receive_json()
        for number in range(10):
            part = samples[:, 250 * number : 250 * (number + 1)]
            socket.send_bytes(struct.pack("<I", number) + part.T.tobytes())
        got = [socket.receive_json() for _ in range(FIRST, 11)]
    wanted = client.post("/v1/predict", json={"signal": thinned.tolist(), "sampling_rate": 250}).json()
    assert values(got[-1]) == pytest.approx([entry["probability"] for entry in wanted["classes"]], abs=0.01)


def test_a_connection_that_is_lost_loses_nothing(client: TestClient, ecg: ECG) -> None:
    sent = frames(ecg)
    with client.websocket_connect("/v1/stream") as socket:
        socket.send_json(START)
        session = socket.receive_json()["session"]
        for frame in sent[:11]:
            socket.send_json(frame)
        first = [socket.receive_json() for _ in range(2)]  # of seconds 3 and 4; that of second 5 stays unread
    with client.websocket_connect("/v1/stream") as socket:
        socket.send_json({"type": "resume", "session": session, "answers": len(first)})
        following = socket.receive_json()["next_frame"]
        assert following <= 11
        for frame in sent[max(0, following - 2) :]:  # two of them twice
            socket.send_json(frame)
        rest = [socket.receive_json() for _ in range(5, 11)]
    got = first + rest
    assert [message["number"] for message in got] == list(range(1, 9))
    with client.websocket_connect("/v1/stream") as socket:
        socket.send_json(START)
        socket.receive_json()
        for frame in sent:
            socket.send_json(frame)
        whole = [socket.receive_json() for _ in range(FIRST, 11)]
    assert [values(message) for message in got] == [pytest.approx(values(message), abs=1e-5) for message in whole]


def test_a_bad_stretch_has_findings_and_does_not_end_the_stream(client: TestClient, ecg: ECG) -> None:
    flat = ECG(np.concatenate([np.zeros_like(ecg.signal[:, :2000]) + 0.1, ecg.signal], axis=1), 500)
    with client.websocket_connect("/v1/stream") as socket:
        socket.send_json(START | {"measurements": True})
        socket.receive_json()
        for frame in frames(flat):
            socket.send_json(frame)
        got = [socket.receive_json()["answer"] for _ in range(FIRST, 15)]
    assert got[0]["error"]
    assert any(finding["level"] == "refused" for finding in got[0]["findings"])
    assert got[-1]["error"] == ""
    assert got[-1]["measurements"]["heart_rate"] > 30


BAD = {
    "no JSON": ("hello", None),
    "nested without end": ("[" * 100_000, None),
    "no start": ({"type": "begin"}, None),
    "no rate": ({"type": "start"}, None),
    "a rate of no ECG": ({"type": "start", "sampling_rate": 5}, None),
    "a unit of no voltage": (START | {"unit": "kg"}, None),
    "an unknown model": (START | {"model": "../x"}, None),
    "no lead of the twelve": (START | {"leads": ["x"]}, None),
    "a session of nobody": ({"type": "resume", "session": "1"}, None),
    "a frame too early": (START, {"frame": 3, "samples": [[0.0]] * 12}),
    "too few leads": (START, {"frame": 0, "samples": [[0.0]]}),
    "lists of several lengths": (START, {"frame": 0, "samples": [[0.0]] * 11 + [[]]}),
    "a frame that is none": (START, {"samples": "x"}),
    "half a sample": (START, b"\0\0\0\0\0"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said_before_the_end(client: TestClient, name: str) -> None:
    start, frame = BAD[name]
    with client.websocket_connect("/v1/stream") as socket:
        socket.send_text(start) if isinstance(start, str) else socket.send_json(start)
        if frame is not None:
            assert socket.receive_json()["type"] == "started"
            socket.send_bytes(frame) if isinstance(frame, bytes) else socket.send_json(frame)
        message = socket.receive_json()
        assert message["type"] == "error"
        assert message["error"]
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
        assert closed.value.code == 1008


def test_one_stream_too_many_and_a_page_of_another_origin_are_refused(client: TestClient) -> None:
    sockets = [client.websocket_connect("/v1/stream") for _ in range(3)]
    for socket in sockets:
        socket.__enter__()
        socket.send_json(START)
        assert socket.receive_json()["type"] == "started"
    with client.websocket_connect("/v1/stream") as socket:
        assert socket.receive_json()["type"] == "error"
    for socket in sockets:
        socket.__exit__(None, None, None)
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("/v1/stream", headers={"Origin": "https://evil.example"}),
    ):
        pass
