"""Who may ask, and what a browser may do with the answer."""

import ipaddress
import secrets
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lightning_seg.serve._address import is_loopback

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


OPEN = ("/", "/page.js", "/page.css", "/health")  # without a token
NO_TOKEN = (
    "this server asks for its token; send it as the header Authorization: Bearer <token>, or open "
    "the page as /#token=<token>."
)


class Guard:
    """Refuses requests that a foreign web page sends through the user's browser, and sets the
    headers of safety.

    Such a page can point its own name at this machine (DNS rebinding), so the name that is asked
    for must be one of ours: of a loopback server those of loopback, else an address, the machine's
    name, or that of ``--host``. And it can send forms to an address, so the origin of what is sent
    must be the page of this server; programs send no origin.

    With a token, only who brings it gets an answer from the network. An upload that is refused is
    not read to its end: its connection is closed.
    """

    def __init__(self, app: ASGIApp, host: str, token: str | None = None) -> None:
        self._token = None if token is None else f"Bearer {token}".encode()
        self.app, self._names = app, {"localhost", host.lower()}
        self._only_loopback = is_loopback(host)
        if not self._only_loopback:
            self._names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        given = Headers(scope=scope)
        unread = "transfer-encoding" in given or given.get("content-length", "0") != "0"

        async def watched() -> Message:
            nonlocal unread
            message = await receive()
            unread = unread and message.get("more_body", False)
            return message

        async def safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if unread:
                    headers["Connection"] = "close"
            await send(message)

        sentence = self._objection(scope["method"], given)
        answer: ASGIApp = self.app
        if sentence is not None:
            answer = JSONResponse({"error": sentence}, 403)
        elif not self._may_pass(scope["path"], given):
            answer = JSONResponse({"error": NO_TOKEN}, 401, {"WWW-Authenticate": "Bearer"})
        await answer(scope, watched, safe)

    def _may_pass(self, path: str, headers: Headers) -> bool:
        """Tell whether a request needs no token, or brings it."""
        if self._token is None or path in OPEN:
            return True
        given = headers.get("authorization", "").encode("utf-8", "replace")
        return secrets.compare_digest(given, self._token)

    def _objection(self, method: str, headers: Headers) -> str | None:
        place = headers.get("host", "")
        if not self._is_ours(place):
            return f"this server is not known as {place[:100]!r}; open it under the address that it printed."
        origin = headers.get("origin")
        if (
            method not in ("GET", "HEAD")
            and origin is not None
            and origin.partition("://")[2] != place
        ):
            return f"the page {origin[:100]!r} may not send to this server; use the server's own page, or a program."
        return None

    def _is_ours(self, place: str) -> bool:
        try:
            name = urlsplit(f"//{place}").hostname or ""
        except ValueError:
            return False
        return name in self._names or (
            is_loopback(name) if self._only_loopback else _is_address(name)
        )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
