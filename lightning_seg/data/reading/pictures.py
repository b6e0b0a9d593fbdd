"""Picture files: which there are, and how one becomes an array (see ``conversion`` for the
rule)."""

import gzip
import io
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from lightning_seg.data.reading.conversion import QUARTER_TURNS, orientation_of, picture_array
from lightning_seg.errors import InputError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".tif", ".tiff", ".gif"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".webp"}
)
# Pillow knows others that start programs (EPS)
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# what Pillow raises
DAMAGED = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    # what Pillow's readers come to over bytes that make no sense
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_HEAD, _PIXEL_BYTES = 1 << 20, 16  # bytes with which a picture begins, and of a pixel at most
MOST_SIDE = 65536  # pixels of a side to which pictures may be scaled
MAX_PIXELS = 178_956_970  # where Pillow refuses a picture as a decompression bomb
# what stands in a file whose picture is turned: EXIF, or the same in XMP or in texts of a PNG
_EXIF_MARKS = (b"Exif", b"EXIF", b"eXIf", b"Raw profile", b"Orientation", b"XML:com.adobe.xmp")
Result = TypeVar("Result")


def is_picture(name: str) -> bool:
    """Tell whether a file's name ends as that of a picture."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def decoded(
    path: Path,
    convert: Callable[[Image.Image, Path], Result],
    content: bytes | None = None,
) -> Result:
    """The array that ``convert`` makes of the opened picture; InputError for a file that is damaged
    or none.

    ``content``: of the file, where it is in memory and ``path`` is but its name.
    """
    # Pillow refuses a truncated JPEG, of which OpenCV may return a part. Same pixels, 1.2 times the
    # time.
    try:
        if content is None and path.suffix.lower() == ".gz":
            content = _unpacked(path)
        source = path if content is None else io.BytesIO(content)
        with Image.open(source, formats=FORMATS) as picture:
            if picture.format == "PNG":
                check_png(path.read_bytes() if content is None else content)
            return convert(picture, path)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; restore the file.") from None
    except UnidentifiedImageError:
        size = path.stat().st_size if content is None else len(content)
        raise InputError(
            f"{path} ({size} bytes) is no readable image; fetch or copy this file again."
        ) from None
    except DAMAGED as error:
        raise InputError(
            f"{path} cannot be decoded ({error}); fetch or copy this file again."
        ) from error


def check_png(content: bytes) -> None:
    """ValueError for a PNG whose pixels are not as their checksums say, at which Pillow does not
    look; it says itself where a PNG is cut off."""
    place = 8
    while place < len(content):
        end = place + 8 + int.from_bytes(content[place : place + 4], "big")
        part, checksum = memoryview(content)[place + 4 : end], content[end : end + 4]
        whole = part[:4] == b"IDAT" and len(checksum) == 4
        if whole and zlib.crc32(part) != int.from_bytes(checksum, "big"):
            raise ValueError("the checksum of its pixels is wrong")
        place = end + 4


def _unpacked(path: Path) -> bytes:
    """The picture in a .gz file; InputError for one that unfolds into more than its header says."""
    with gzip.open(path) as file:
        head = file.read(_HEAD)
        with Image.open(io.BytesIO(head), formats=FORMATS) as picture:
            most = picture.width * picture.height * _PIXEL_BYTES + _HEAD
        content = head + file.read(most)
        if file.read(1):
            raise InputError(
                f"{path} unfolds into more than the {picture.width} x {picture.height} pixels of its "
                "header; fetch or copy this file again."
            )
    return content


class FileTurn(NamedTuple):
    """How EXIF turns the picture of a file.

    Attributes:
        orientation: 1 to 8; 1: not at all.
        tells_sides: whether height and width change places, and differ.
    """

    orientation: int
    tells_sides: bool = False


def read_turn(path: Path) -> FileTurn:
    """How a viewer turns a picture, from the head of its file; not at all where it has no EXIF."""

    def told(picture: Image.Image, _: Path) -> FileTurn:
        turn = orientation_of(picture)
        return FileTurn(turn, turn in QUARTER_TURNS and picture.width != picture.height)

    suffix = path.suffix.lower()
    if suffix not in (".gz", ".tif", ".tiff") and path.exists():
        content = path.read_bytes()
        # Pillow decodes the whole of a PNG to find that it has none
        if not any(mark in content for mark in _EXIF_MARKS):
            return FileTurn(1)
    return decoded(path, told)


def read_image(path: Path, content: bytes | None = None) -> np.ndarray:
    """The picture as (H, W, 3) RGB uint8; InputError where it is damaged or its look is not
    known."""
    return decoded(path, lambda picture, name: picture_array(picture, 3, str(name)), content)


def read_grey(path: Path, content: bytes | None = None) -> np.ndarray:
    """The picture as (H, W, 1) grey uint8; InputError as `read_image`."""
    return decoded(path, lambda picture, name: picture_array(picture, 1, str(name)), content)


def read_picture(
    path: Path,
    channels: int,
    content: bytes | None = None,
) -> np.ndarray:
    """The picture (H, W, C) as a network of 3 or 1 channels takes it, exactly as training reads
    it."""
    check_channels(channels)
    try:
        return (read_image if channels == 3 else read_grey)(path, content)
    except InputError as error:
        if isinstance(error.__cause__, Image.DecompressionBombError):
            raise InputError(
                f"{path} has more pixels than the {2 * (Image.MAX_IMAGE_PIXELS or 0)} allowed and "
                "may be a decompression bomb; if you trust it, raise --max_pixels."
            ) from error
        raise


def as_picture(picture: Any, channels: int) -> np.ndarray:
    """A path, PIL image, array or tensor as (H, W, C) uint8, by the one rule of ``conversion``."""
    check_channels(channels)
    if isinstance(picture, str | Path):
        return read_picture(Path(picture).expanduser(), channels)
    try:
        return picture_array(picture, channels)
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(f"the picture cannot be decoded ({error}); open it again.") from error


def check_channels(channels: int) -> None:
    """InputError for a network whose input is no picture."""
    if channels not in (1, 3):
        raise InputError(
            f"this network takes {channels} channels, which no picture has (3 are RGB, 1 is grey); "
            "give it volumes."
        )


def allow_pixels(count: int) -> None:
    """Set, for this process, from how many pixels a picture counts as a decompression bomb."""
    if count < 1:
        raise InputError(f"max_pixels is {count}; give a whole number from 1.")
    Image.MAX_IMAGE_PIXELS = (count + 1) // 2  # Pillow warns above it, and refuses above twice that
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
