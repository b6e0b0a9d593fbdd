"""From the body of a request to a picture, within the limits."""

import asyncio
import io
import logging
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from lightning_seg.data.reading.deep import PictureForm
from lightning_seg.data.reading.pictures import DAMAGED, FORMATS
from lightning_seg.serve._limits import Limits, RequestError

# whoever sends half a form could fill the server's output; the answer says what is wrong with it
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
_AROUND = 65536  # bytes of a form around its file


class Upload(NamedTuple):
    """A file that was sent; ``name`` is what its sender calls it."""

    name: str
    content: bytes


class _InMemory(MultiPartParser):
    """Patients' pictures do not reach the disk."""

    spool_max_size = 1 << 40


async def receive(request: Request, limits: Limits) -> Upload:
    """The file in a request, the body itself or a part of a form; RequestError where it is too
    large, too slow or not there."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limits.bytes + _AROUND:
        raise _too_large(limits)
    try:
        async with asyncio.timeout(limits.upload_seconds):
            upload = await _receive(request, limits)
    except TimeoutError:
        raise RequestError(
            400, f"the file did not arrive within {limits.upload_seconds:g} seconds; send it again."
        ) from None
    if len(upload.content) > limits.bytes:
        raise _too_large(limits)
    if not upload.content:
        raise RequestError(
            400, "no file was sent; send a picture as the body, or as the part `file` of a form."
        )
    return upload


async def _receive(request: Request, limits: Limits) -> Upload:
    stream = _limited(request, limits)
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        content = b"".join([chunk async for chunk in stream])
        return Upload(_printable(request.query_params.get("name", "")), content)
    try:
        form = await _InMemory(request.headers, stream, max_files=1, max_fields=8).parse()
    except MultiPartException as error:
        reason = error.message.rstrip(".")
        raise RequestError(
            400, f"the form cannot be read ({reason}); send one picture as its part `file`."
        ) from error
    picture = next((part for part in form.values() if isinstance(part, UploadFile)), None)
    if picture is None:
        return Upload("", b"")
    for name, part in form.multi_items():
        if part is not picture:
            raise RequestError(
                400,
                f"nothing is done with the form's part {_printable(name)!r}; send the picture alone.",
            )
    return Upload(_printable(picture.filename or ""), await picture.read())


async def _limited(request: Request, limits: Limits) -> AsyncGenerator[bytes, None]:
    count = 0
    async for chunk in request.stream():
        count += len(chunk)
        if count > limits.bytes + _AROUND:
            raise _too_large(limits)
        yield chunk


def _too_large(limits: Limits) -> RequestError:
    return RequestError(
        413,
        f"the file is larger than {limits.bytes / 1e6:g} MB; send a smaller one, or raise "
        "--max_mb.",
    )


def _printable(name: str) -> str:
    return (
        "".join(letter for letter in Path(name).name if letter.isprintable())[-100:]
        or "the picture"
    )


def read_upload(upload: Upload, form: PictureForm, limits: Limits) -> np.ndarray:
    """The picture (H, W, C) uint8, as ``predict`` reads it from a file.

    RequestError or InputError where it is none or has too many pixels, which is known before
    anything is decoded.
    """
    try:
        with Image.open(io.BytesIO(upload.content), formats=FORMATS) as picture:
            width, height = picture.size
    except UnidentifiedImageError:
        raise RequestError(
            415,
            f"{upload.name} is no picture that can be read; send one of the formats "
            f"{', '.join(FORMATS)}.",
        ) from None
    except Image.DecompressionBombError:
        raise RequestError(
            413, f"{upload.name} has too many pixels; send a smaller one, or raise --max_pixels."
        ) from None
    except DAMAGED as error:
        raise RequestError(
            400, f"{upload.name} cannot be decoded ({error}); send it again."
        ) from error
    if width * height > limits.pixels:
        raise RequestError(
            413,
            f"{upload.name} has {width} x {height} pixels, more than the {limits.pixels:,} "
            "allowed; send a smaller one, "
            "or raise --max_pixels.",
        )
    return form.read_checked(Path(upload.name), upload.content)
