"""One line for each request: when, from where, what, and how it was answered. No names of pictures,
no token."""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lightning_seg.errors import InputError


class RequestLog:
    """Writes the lines to a file, or to the terminal where that is ``-``."""

    def __init__(self, app: ASGIApp, place: str) -> None:
        self.app = app
        try:
            # open as long as the server is
            self._file = sys.stderr if place == "-" else Path(place).open("a", 1, "utf-8")  # noqa: SIM115
        except OSError as error:
            raise InputError(
                f"--log {place!r} cannot be written ({error.strerror}); give another file, or - for "
                "the terminal."
            ) from error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        status, count, start = 0, 0, time.perf_counter()

        async def counted(message: Message) -> None:
            nonlocal status, count
            status = message.get("status", status)
            count += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, counted)
        finally:
            milliseconds = 1000 * (time.perf_counter() - start)
            client = (scope.get("client") or ("-",))[0]
            path = scope["path"][:100].encode("unicode_escape").decode()
            what = f'{client} "{scope["method"][:20]} {path}"'
            when = datetime.now(UTC).isoformat(timespec="milliseconds")
            self._file.write(f"{when} {what} {status} {count} bytes {milliseconds:.0f} ms\n")
