"""A real server under what strangers do to it: half requests, refused uploads, tokens, a log, its own description."""

import contextlib
import io
import json
import socket
import threading
import time

import pytest
import torch
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

import lightning_seg as ls
from lightning_seg.serve import _protocol, chosen_token
from lightning_seg.serve._facts import facts
from lightning_seg.serve._limits import Limits
from lightning_seg.serve._protocol import PatientProtocol
from lightning_seg.serve.app import create_app
from tests.inference.conftest import write_checkpoint

LIMITS = Limits(bytes=200_000, pixels=10_000)
TOKEN = "0123456789abcdef"
PATIENCE = 1.0


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("serve") / "polyp.ckpt")


@pytest.fixture(scope="module")
def predictor(checkpoint):
    return ls.load(checkpoint)


def app_of(predictor, checkpoint, **more):
    return create_app(predictor, facts(predictor, [checkpoint], LIMITS), LIMITS, **more)


@pytest.fixture(scope="module")
def port(predictor, checkpoint):
    """A server of its own thread, which waits a second for the rest of a request."""
    patch = pytest.MonkeyPatch()
    patch.setattr(_protocol, "HEADER_SECONDS", PATIENCE)
    listener = socket.create_server(("127.0.0.1", 0))
    app = app_of(predictor, checkpoint)
    config = uvicorn.Config(app, http=PatientProtocol, ws="none", log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(60)
    listener.close()
    patch.undo()


def picture():
    file = io.BytesIO()
    Image.new("RGB", (90, 80), (120, 60, 30)).save(file, "png")
    return file.getvalue()


def connected(port):
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def asked(port, request):
    """The whole answer to a request, until the server closes."""
    with connected(port) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def get(path, *headers):
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def post(length, *headers):
    lines = ["POST /api/predict HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {length}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode()


@pytest.mark.parametrize("start", [b"", b"GET /hea", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "])
def test_half_a_request_is_ended(port, start):
    with connected(port) as connection:
        connection.sendall(start)
        assert connection.recv(100) == b""


def test_half_open_connections_shut_nobody_out(port):
    waiting = [connected(port) for _ in range(100)]
    try:
        for connection in waiting:
            connection.sendall(b"POST /api/predict HTTP/1.1\r\nHost: ")
        assert b'{"status":"ok"}' in asked(port, get("/health"))
        content = picture()
        answer = asked(port, post(len(content), "Connection: close") + content)
        assert answer.startswith(b"HTTP/1.1 200")
    finally:
        for connection in waiting:
            connection.close()


def test_more_connections_than_there_are_places_push_out_idle_ones(port, monkeypatch):
    monkeypatch.setattr(_protocol, "MOST_CONNECTIONS", 10)
    waiting = [connected(port) for _ in range(30)]
    try:
        for _ in range(20):
            assert b"200 OK" in asked(port, get("/health"))
    finally:
        for connection in waiting:
            connection.close()


def _sent(connection, chunk, times):
    """How many bytes of so many chunks the other side took, until it closed."""
    sent = 0
    with contextlib.suppress(OSError):
        for _ in range(times):
            sent += connection.send(chunk)
    return sent


def test_a_refused_upload_is_answered_and_not_read_to_its_end(port):
    with connected(port) as connection:
        connection.sendall(post(10**12))
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"connection: close" in answer.lower()
        assert _sent(connection, bytes(1 << 20), 1000) < 10**9
    with connected(port) as connection:  # it says nothing of its length
        connection.sendall(post(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
        assert _sent(connection, b"10000\r\n" + bytes(65536) + b"\r\n", 1000) < 65_000_000
    assert b"200 OK" in asked(port, get("/health"))


def test_a_taken_upload_keeps_its_connection(port):
    content = picture()
    with connected(port) as connection:
        for _ in range(2):
            connection.sendall(post(len(content)) + content)
            answer = b""
            while not answer.endswith(b"}"):
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200")


def test_nonsense_is_refused(port):
    for request in (b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"A" * 100_000):
        assert asked(port, request)[:12] in (b"HTTP/1.1 400", b"")
    upgrade = get("/health", "Upgrade: websocket").replace(
        b"Connection: close", b"Connection: Upgrade"
    )
    with connected(port) as connection:
        connection.sendall(upgrade)
        assert connection.recv(100).startswith(b"HTTP/1.1 200")


@pytest.fixture
def guarded(predictor, checkpoint, tmp_path):
    app = app_of(predictor, checkpoint, token=TOKEN, log=str(tmp_path / "requests.log"))
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        yield client


def test_with_a_token_only_who_brings_it_is_answered(guarded):
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    for path in ("/", "/page.js", "/health"):
        assert guarded.get(path).status_code == 200
    for path in ("/api/model", "/openapi.json", "/api/nothing"):
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
            answer = guarded.get(path, headers=headers)
            assert answer.status_code == 401
            assert "asks for its token" in answer.json()["error"]
            assert answer.headers["www-authenticate"] == "Bearer"
        assert guarded.get(path, headers=bearer).status_code in (200, 404)
    assert guarded.post("/api/predict", content=picture()).status_code == 401
    assert guarded.post("/api/predict", content=picture(), headers=bearer).status_code == 200


def test_the_log_holds_a_line_a_request_and_no_names(guarded, tmp_path):
    guarded.post("/api/predict?name=patient.png", content=picture())
    guarded.get("/a%0Ab")
    guarded.get("/api/model", headers={"Authorization": f"Bearer {TOKEN}"})
    text = (tmp_path / "requests.log").read_text(encoding="utf-8")
    first, second, third = text.splitlines()
    assert '"POST /api/predict" 401' in first
    assert " 401 " in second
    assert '"GET /api/model" 200' in third
    assert "patient" not in text
    assert TOKEN not in text


def test_a_token_comes_from_the_option_or_the_environment(monkeypatch, capsys):
    monkeypatch.delenv("LIGHTNING_SEG_TOKEN", raising=False)
    assert chosen_token(None, "127.0.0.1") is None
    made = chosen_token("auto", "0.0.0.0")
    assert made in capsys.readouterr().out
    assert made != chosen_token("auto", "0.0.0.0")
    monkeypatch.setenv("LIGHTNING_SEG_TOKEN", TOKEN)
    assert chosen_token(None, "0.0.0.0") == TOKEN


def test_pictures_queue_and_the_answer_says_so(predictor, checkpoint):
    going = threading.Event()

    class Slow:
        network, rule, classes = predictor.network, predictor.rule, predictor.classes

        def predict_read(self, pictures):
            going.wait(60)
            return predictor.predict_read(pictures)

    answers = []
    with TestClient(app_of(Slow(), checkpoint), base_url="http://127.0.0.1:8000") as client:

        def send():
            answers.append(client.post("/api/predict", content=picture()))

        threads = [threading.Thread(target=send) for _ in range(LIMITS.places + 1)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 60
        while not answers and time.monotonic() < end:
            time.sleep(0.01)
        going.set()
        for thread in threads:
            thread.join()
    assert answers[0].status_code == 503
    found = [answer.json() for answer in answers[1:]]
    assert sorted(each.get("ahead", 0) for each in found) == [0, 1, 2, 3, 4]
    assert all(each["waited"] > 0 for each in found if "ahead" in each)


def test_facts_hold_no_number_that_json_lacks(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    predictor = ls.load(checkpoint)
    known = facts(predictor, [checkpoint], LIMITS) | {"options": {"a": float("nan"), "b": [1e999]}}
    with TestClient(create_app(predictor, known, LIMITS), base_url="http://127.0.0.1") as client:
        assert client.get("/api/model").json()["options"] == {"a": None, "b": [None]}
    assert content


@pytest.mark.slow
def test_the_description_holds_for_whatever_is_sent(port):
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, given, settings
    from schemathesis import checks
    from schemathesis.specs.openapi import checks as openapi

    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
    seen = set()
    for operation in schema.get_all_operations():
        case_of = operation.ok().as_strategy()

        @given(case=case_of)
        @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
        def holds(case):
            answer = case.call()
            case.validate_response(
                answer,
                checks=[
                    checks.not_a_server_error,
                    openapi.status_code_conformance,
                    openapi.content_type_conformance,
                    openapi.response_schema_conformance,
                ],
            )
            seen.add((case.path, answer.status_code))

        holds()
    assert {path for path, _ in seen} == {"/health", "/api/model", "/api/predict"}


def test_the_description_is_that_of_the_answers(predictor, checkpoint):
    with TestClient(app_of(predictor, checkpoint), base_url="http://127.0.0.1") as client:
        described = client.get("/openapi.json").json()
        found = client.post("/api/predict", content=picture()).json()
        model = client.get("/api/model").json()
    answers = described["paths"]["/api/predict"]["post"]["responses"]["200"]["content"]
    needed = answers["application/json"]["schema"]["required"]
    assert set(needed) == set(found)
    needed = described["paths"]["/api/model"]["get"]["responses"]["200"]["content"]
    assert set(needed["application/json"]["schema"]["required"]) <= set(model)
    json.dumps(described)
