"""The HTTP application: the page, and an endpoint that predicts the picture that is sent to it."""

import asyncio
import ctypes
import math
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.resources import files
from threading import BoundedSemaphore
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from lightning_seg.errors import unknown
from lightning_seg.inference.predictor import Predictor
from lightning_seg.serve._answer import PARTS, as_json, mask_png
from lightning_seg.serve._guard import Guard
from lightning_seg.serve._limits import Limits, RequestError
from lightning_seg.serve._openapi import OPTIONS, description
from lightning_seg.serve._request_log import RequestLog
from lightning_seg.serve._upload import receive

A = TypeVar("A")
PAGE = {"/": "page.html", "/page.js": "page.js", "/page.css": "page.css"}
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}


class Queue:
    """One worker, and a few places before it: memory is bounded, and who finds no place is sent
    away at once."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._uploads = limits, BoundedSemaphore(limits.uploads)
        self._turn, self._pool = asyncio.Lock(), ThreadPoolExecutor(1, "predict")
        self.pictures = 0  # that wait, with the one that is predicted

    @contextmanager
    def upload(self) -> Iterator[None]:
        """Hold a place for a file on its way; RequestError where none is free, or the queue is
        full already, so that it need not come."""
        self._require_place()
        if not self._uploads.acquire(blocking=False):
            raise RequestError(
                503, f"{self._limits.uploads} files are on their way already; try again soon.", 5
            )
        try:
            yield
        finally:
            self._uploads.release()

    @contextmanager
    def place(self) -> Iterator[int]:
        """Hold a place for a picture, and say how many are before it; RequestError where none is
        free."""
        self._require_place()
        self.pictures += 1
        try:
            yield self.pictures - 1
        finally:
            self.pictures -= 1

    def _require_place(self) -> None:
        if self.pictures >= self._limits.places:
            raise RequestError(
                503,
                f"{self._limits.places} pictures are being predicted already; try again soon.",
                5,
            )

    async def run(self, request: Request, work: Callable[[], A]) -> A:
        """The result of ``work`` in the worker, one after the other.

        Errors: RequestError where that takes too long, ClientDisconnect where nobody waits.
        """
        try:
            return await self._run(request, work)
        except asyncio.CancelledError:  # by uvicorn, which else prints it as a fault
            raise RequestError(
                503, "the server is ending; send the picture to the next one.", 30
            ) from None

    async def _run(self, request: Request, work: Callable[[], A]) -> A:
        try:
            async with asyncio.timeout(self._limits.wait_seconds):
                await self._turn.acquire()
        except TimeoutError:
            seconds = f"{self._limits.wait_seconds:g} seconds"
            raise RequestError(
                503, f"other pictures took longer than {seconds}; try again later.", 60
            ) from None
        started = None
        try:
            # the page drops a request when it is given another picture
            if await request.is_disconnected():
                raise ClientDisconnect
            started = asyncio.wrap_future(self._pool.submit(work))
        finally:
            if started is None:
                self._turn.release()
        started.add_done_callback(self._next)
        try:
            async with asyncio.timeout(self._limits.predict_seconds):
                return await asyncio.shield(started)
        except TimeoutError:
            seconds = f"{self._limits.predict_seconds:g} seconds"
            raise RequestError(
                503,
                f"the prediction took longer than {seconds}; try a smaller picture, or later.",
                30,
            ) from None

    def _next(self, done: asyncio.Future[Any]) -> None:
        """Let the next picture in; one that nobody waits for any more ends before that too."""
        if not done.cancelled():
            done.exception()
            with suppress(RuntimeError):  # at the end of the server
                self._pool.submit(return_freed_memory)
        self._turn.release()

    def close(self) -> None:
        """End the queue; whoever waits is sent away."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def create_app(
    predictor: Predictor,
    facts: dict[str, Any],
    limits: Limits,
    host: str = "127.0.0.1",
    token: str | None = None,
    log: str | None = None,
) -> ASGIApp:
    """The application for one trained network.

    Args:
        facts: what ``GET /api/model`` answers.
        host: the address that it is served on, which decides by which names it may be asked.
        token: what each request must bring, except for the page itself and its health.
        log: a file for a line a request; ``-`` is the terminal.
    """
    queue = Queue(limits)

    async def predict(request: Request) -> Response:
        _require_known_options(request)
        as_png = re.match(r"\s*image/png\s*([,;]|$)", request.headers.get("accept", "")) is not None
        name = _class(request, predictor.classes) if as_png else _no_class(request)
        parts = _asked_parts(request)
        with queue.upload():
            upload = await receive(request, limits)
        arrived = time.perf_counter()
        with queue.place() as ahead:
            if as_png:
                mask, note = await queue.run(
                    request, lambda: mask_png(predictor, upload, limits, name)
                )
                headers = {"X-Pictures-Ahead": str(ahead)} | ({"X-Note": note} if note else {})
                return Response(mask, 200, headers, "image/png")
            found = await queue.run(request, lambda: as_json(predictor, upload, limits, parts))
        if ahead:  # it stood in a queue, and the answer says so
            waited = time.perf_counter() - arrived - found["seconds"]
            found |= {"ahead": ahead, "waited": round(max(0.0, waited), 4)}
        return JSONResponse(found)

    async def model(request: Request) -> Response:
        return JSONResponse(finite(facts))

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def openapi(request: Request) -> Response:
        return JSONResponse(description(predictor.classes, token is not None))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        queue.close()

    routes = [
        *(Route(path, _static(name)) for path, name in PAGE.items()),
        Route("/api/model", model),
        Route("/api/predict", predict, methods=["POST"]),
        Route("/health", health),
        Route("/openapi.json", openapi),
    ]
    handlers = {
        RequestError: _refused,
        HTTPException: _no_such,
        ClientDisconnect: _gone,
        Exception: _broken,
    }
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)
    # around all of it: Starlette's own middleware does not see the answer of `_broken`
    guarded = Guard(app, host, token)
    return guarded if log is None else RequestLog(guarded, log)


def finite(value: Any) -> Any:
    """A value of JSON without NaN and infinity, which JSON does not know."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def return_freed_memory() -> None:
    """Give the pages of the last picture back to the system, as glibc does not by itself."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _static(name: str) -> Callable[[Request], Any]:
    content = files("lightning_seg.serve").joinpath(name).read_bytes()

    async def answer(request: Request) -> Response:
        return Response(content, media_type=_TYPES[f".{name.rpartition('.')[2]}"])

    return answer


def _require_known_options(request: Request) -> None:
    """RequestError for an option that is none, such as ``?threshold=.9``: a mask in PNG would not
    show that it was left aside."""
    for option in request.query_params:
        if option not in OPTIONS:
            raise RequestError(400, str(unknown("option of a request", option[:100], OPTIONS)))


def _class(request: Request, classes: tuple[str, ...]) -> str:
    """The class whose mask is asked for."""
    name = request.query_params.get("class", classes[0] if len(classes) == 1 else "")
    if not name:
        raise RequestError(
            400,
            f"one PNG holds one mask; name its class, such as ?class={classes[0]} of "
            f"{', '.join(classes)}.",
        )
    if name not in classes:
        raise RequestError(400, str(unknown("class", name[:100], classes)))
    return name


def _no_class(request: Request) -> str:
    """Nothing; RequestError where a class is named for JSON, which would be left aside."""
    if "class" in request.query_params:
        raise RequestError(
            400,
            "class chooses the mask of a PNG, and JSON holds those of all classes; leave it out, "
            "or ask for a PNG by the header Accept: image/png.",
        )
    return ""


def _asked_parts(request: Request) -> set[str]:
    """The parts that are asked for besides masks, such as ``?include=probability,overlay``."""
    parts = {part for part in request.query_params.get("include", "").split(",") if part}
    for part in sorted(parts - set(PARTS)):
        raise RequestError(400, str(unknown("part of an answer", part[:100], PARTS)))
    return parts


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return JSONResponse({"error": error.sentence}, error.status, error.headers)


async def _no_such(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    here = f"{request.method} {request.url.path[:100]}"
    sentence = (
        f"there is no {here}; there are GET /, GET /api/model, GET /health, GET /openapi.json and "
        "POST /api/predict."
    )
    return JSONResponse({"error": sentence}, error.status_code, error.headers)


async def _gone(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "the file did not arrive whole; send it again."}, 400)


async def _broken(request: Request, error: Exception) -> Response:
    """The traceback is in the server's terminal."""
    return JSONResponse(
        {"error": "the picture could not be predicted; the server's terminal says why."}, 500
    )
