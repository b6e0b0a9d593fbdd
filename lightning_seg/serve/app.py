"""The HTTP application: the page, and an endpoint that predicts the picture that is sent to it."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
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
from lightning_seg.serve._upload import receive

A = TypeVar("A")
PAGE = {"/": "page.html", "/page.js": "page.js", "/page.css": "page.css"}
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}


class Queue:
    """One worker, and a few places before it: memory is bounded, and who finds no place is sent
    away at once."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._places = limits, BoundedSemaphore(limits.places)
        self._turn, self._pool = asyncio.Lock(), ThreadPoolExecutor(1, "predict")

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place for all of a request that takes memory; RequestError where none is free."""
        if not self._places.acquire(blocking=False):
            raise RequestError(
                503,
                f"{self._limits.places} pictures are being predicted already; try again soon.",
                5,
            )
        try:
            yield
        finally:
            self._places.release()

    async def run(self, request: Request, work: Callable[[], A]) -> A:
        """The result of ``work`` in the worker; RequestError where that takes too long,
        ClientDisconnect where nobody waits."""
        try:
            async with asyncio.timeout(self._limits.predict_seconds), self._turn:
                if (
                    await request.is_disconnected()
                ):  # the page drops a request when it is given another picture
                    raise ClientDisconnect
                return await asyncio.wrap_future(self._pool.submit(work))
        except TimeoutError:
            seconds = f"{self._limits.predict_seconds:g} seconds"
            raise RequestError(
                503,
                f"the prediction took longer than {seconds}; try a smaller picture, or later.",
                30,
            ) from None

    def close(self) -> None:
        """End the queue; whoever waits is sent away."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def create_app(
    predictor: Predictor, facts: dict[str, Any], limits: Limits, host: str = "127.0.0.1"
) -> ASGIApp:
    """The application for one trained network.

    Args:
        facts: what ``GET /api/model`` answers.
        host: the address that it is served on, which decides by which names it may be asked.
    """
    queue = Queue(limits)

    async def predict(request: Request) -> Response:
        as_png = re.match(r"\s*image/png\s*([,;]|$)", request.headers.get("accept", "")) is not None
        name = _class(request, predictor.classes) if as_png else ""
        parts = _asked_parts(request)
        with queue.place():
            upload = await receive(request, limits)
            if as_png:
                return Response(
                    await queue.run(request, lambda: mask_png(predictor, upload, limits, name)),
                    200,
                    None,
                    "image/png",
                )
            return JSONResponse(
                await queue.run(request, lambda: as_json(predictor, upload, limits, parts))
            )

    async def model(request: Request) -> Response:
        return JSONResponse(facts)

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        queue.close()

    routes = [
        *(Route(path, _static(name)) for path, name in PAGE.items()),
        Route("/api/model", model),
        Route("/api/predict", predict, methods=["POST"]),
        Route("/health", health),
    ]
    handlers = {
        RequestError: _refused,
        HTTPException: _no_such,
        ClientDisconnect: _gone,
        Exception: _broken,
    }
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)
    return Guard(
        app, host
    )  # around all of it: Starlette's own middleware does not see the answer of `_broken`


def _static(name: str) -> Callable[[Request], Any]:
    content = files("lightning_seg.serve").joinpath(name).read_bytes()

    async def answer(request: Request) -> Response:
        return Response(content, media_type=_TYPES[f".{name.rpartition('.')[2]}"])

    return answer


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
        f"there is no {here}; there are GET /, GET /api/model, GET /health and POST /api/predict."
    )
    return JSONResponse({"error": sentence}, error.status_code, error.headers)


async def _gone(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "the file did not arrive whole; send it again."}, 400)


async def _broken(request: Request, error: Exception) -> Response:
    """The traceback is in the server's terminal."""
    return JSONResponse(
        {"error": "the picture could not be predicted; the server's terminal says why."}, 500
    )
