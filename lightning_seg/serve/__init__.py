"""``lightning-seg serve``: a local web page and HTTP endpoint on which one drops a picture and
sees its masks."""

import argparse
import os
import re
import secrets
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from lightning_seg.data.reading.pictures import MAX_PIXELS, allow_pixels
from lightning_seg.errors import InputError
from lightning_seg.inference.options import ENGINES, PRECISIONS
from lightning_seg.inference.postprocess import STEPS
from lightning_seg.inference.predictor import Predictor, load
from lightning_seg.inference.tta import PASSES
from lightning_seg.options import THRESHOLD_HELP, OptionParser, add_model_options
from lightning_seg.runs.naming import named_checkpoints, named_cross_validations
from lightning_seg.serve._address import is_loopback
from lightning_seg.serve._limits import Limits

__all__ = ["main"]

TOKEN_VARIABLE = "LIGHTNING_SEG_TOKEN"
_NEEDED = ("starlette", "uvicorn", "python_multipart")


def main(args: Sequence[str]) -> None:
    """``lightning-seg serve``; see ``lightning-seg serve --help``. Ctrl-C ends it."""
    given = _serve_parser().parse_args(args)
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise InputError(
            f"serve needs {', '.join(missing)}; install them: pip install 'lightning_seg[serve]'."
        )
    limits = Limits.of(given.max_mb, given.max_pixels)
    token = chosen_token(given.token, given.host)
    listener = listen(given.host, given.port)
    with listener:
        checkpoints = named_checkpoints(given)
        for validation in named_cross_validations(given):
            print(f"network:  {validation.ensemble_text}; probabilities are averaged", flush=True)
        predictor = load(
            checkpoints,
            device=given.device,
            tta=given.tta,
            threshold=given.threshold,
            postprocess=given.postprocess,
            precision=given.precision,
            trust_code=given.trust_code,
            engine=given.engine,
        )
        predictor.network.trained.check_pictures()
        access = ServerAccess(given.host, token, given.log)
        _serve(listener, access, predictor, checkpoints, limits)


@dataclass(frozen=True)
class ServerAccess:
    """Where a server is reached, by whom, and where that is written down."""

    host: str
    token: str | None
    log: str | None


def chosen_token(given: str | None, host: str) -> str | None:
    """The token of ``--token`` or $LIGHTNING_SEG_TOKEN; ``auto`` makes one and prints it.

    Errors: InputError for one that is easily guessed, and for none where others are let in.
    """
    token = given or os.environ.get(TOKEN_VARIABLE) or None
    if token == "auto":
        token = secrets.token_urlsafe(24)
        print(f"token:  {token}", flush=True)
    if token is None and not is_loopback(host):
        raise InputError(
            f"--host {host[:200]} lets other machines in, so it needs --token (auto makes one; "
            f"${TOKEN_VARIABLE} shows in no list of processes); or leave --host out."
        )
    if token is not None and not re.fullmatch(r"[\w.~-]{16,200}", token, re.ASCII):
        raise InputError(
            "the token is too short or holds other signs; give 16 to 200 letters, digits, - _ . ~, "
            "or auto."
        )
    return token


def _serve(
    listener: socket.socket,
    access: "ServerAccess",
    predictor: Predictor,
    checkpoints: Sequence[Path],
    limits: Limits,
) -> None:
    import uvicorn

    from lightning_seg.serve._facts import facts
    from lightning_seg.serve._protocol import PatientProtocol
    from lightning_seg.serve.app import create_app

    allow_pixels(max(limits.pixels, MAX_PIXELS))
    host, known = access.host, facts(predictor, checkpoints, limits)
    app = create_app(predictor, known, limits, host, access.token, access.log)
    port = listener.getsockname()[1]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    print(
        f"page:  {address}  (Ctrl-C ends it; programs POST pictures to {address}/api/predict)",
        flush=True,
    )
    if access.token is not None:
        print("token:  as given; the page asks for it as /#token=<token>", flush=True)
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=5,
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn has ended in good order, and passes the signal on
        print("ended")


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections; InputError where the address cannot be had. Port 0 is any
    free one."""
    if not 0 <= port < 65536:
        raise InputError(f"--port is {port}; give a number from 1 to 65535, such as 8000.")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise InputError(
            f"cannot listen on {host} port {port} ({reason}); give another --port (or --host), or "
            "end the program "
            "that has it."
        ) from error
    if not is_loopback(host):
        print(
            f"warning: --host {host} lets other machines in, and there is no encryption: who can "
            "listen on the way sees pictures and token; leave --host out to serve this machine "
            "alone, or put a server with TLS before it.",
            file=sys.stderr,
        )
    return listener


def _serve_parser() -> argparse.ArgumentParser:
    parser = OptionParser(
        prog="lightning-seg serve",
        description="A local web page and HTTP endpoint that predict the pictures given to them.",
    )
    add = parser.add_argument
    add_model_options(parser, ensemble=True)
    add(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default 127.0.0.1: this machine alone)",
    )
    add(
        "--token",
        metavar="T",
        help=f"what each request must bring; auto makes one (or ${TOKEN_VARIABLE})",
    )
    add("--log", metavar="FILE", help="a line a request, without names; - is the terminal")
    add("--port", type=int, default=8000, help="default 8000; 0: any free one")
    add("--max_mb", type=float, default=20, help="a larger file is refused (default 20)")
    add(
        "--max_pixels",
        type=int,
        default=50_000_000,
        help="a larger picture is refused (default 50e6)",
    )
    add("--tta", default="none", help=f"test-time augmentation: {', '.join(PASSES)}")
    add("--threshold", default=0.5, help=THRESHOLD_HELP)
    add(
        "--postprocess",
        default="",
        metavar="STEPS",
        help=f"such as fill_holes,min_area=50, of {', '.join(STEPS)}",
    )
    add(
        "--precision",
        default="32",
        help=f"{', '.join(PRECISIONS)}: mixed precision may move single pixels (default 32)",
    )
    engine = f"{', '.join(ENGINES)}: what computes on the CPU (default torch)"
    add("--engine", default="torch", help=engine)
    add("--device", default="auto", help="such as cpu or cuda:0 (default: a GPU, or the CPU)")
    return parser
