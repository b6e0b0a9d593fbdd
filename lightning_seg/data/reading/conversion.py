"""Pictures to pixels: one rule for a file, a PIL image, an array, a tensor and an upload.

* The EXIF orientation turns the picture as a viewer shows it.
* Pictures of more than 8 bits, of which the black and the white are unknown, are refused.
* An alpha channel that is opaque everywhere is dropped; transparent pixels, whose colour means
  nothing, are refused.
* CMYK, YCbCr and palettes become the colours they show.
* A file of several pages or frames is refused: none of them is known to be the one that is meant.

Exported models carry this file, so it imports nothing that they would lack.
"""

from typing import Any

import numpy as np
from PIL import Image, ImageOps

from lightning_seg.errors import InputError

WHITE_IS_ZERO, _PHOTOMETRIC = 0, 262  # a value of a tag of TIFF, and the tag
WIDE_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")
_CLEAR_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_ORIENTATION = 0x0112  # of EXIF
QUARTER_TURNS = (5, 6, 7, 8)
# what is said of a picture in colour that a network of one channel is given
COLOURS_LOST = "in colour, of which the network sees the grey alone"
NEARLY_BLACK = "black: no value above 1 of 255, as of a picture that was scaled to 1"
# levels by which channels differ in colours, and share of such pixels; JPEG tints grey a little
_COLOURED, _COLOURED_SHARE = 24, 0.02
_SUBFILE_TYPE = 254  # of TIFF: whether a page is a smaller copy (1) or a mask (4) of another


def picture_array(
    picture: Any,
    channels: int = 3,
    name: str = "the picture",
) -> np.ndarray:
    """The pixels (H, W, C) uint8 of a picture in memory, RGB or grey.

    Args:
        picture: a PIL image; an array of uint8, (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA; a
            tensor of uint8, (H, W) or (C, H, W).
        channels: 3 for RGB, 1 for grey.
        name: of the picture in the sentence of an error.
    """
    image = picture if isinstance(picture, Image.Image) else _image_of(picture)
    check_opened(image, name)
    forbid_mapping(image)
    check_colours(image, name)
    image = upright_image(image)
    if channels == 3:
        return np.array(image if image.mode == "RGB" else image.convert("RGB"))
    grey = image if image.mode in ("1", "L") else image.convert("RGB")
    return np.array(grey.convert("L"))[..., None]


def upright_image(image: Image.Image) -> Image.Image:
    """The image as its EXIF orientation says; itself where nothing is to be turned."""
    return ImageOps.exif_transpose(image) if orientation_of(image) != 1 else image


def orientation_of(image: Image.Image) -> int:
    """How the EXIF of an opened picture says that a viewer turns it, 1 to 8; 1: not at all."""
    found = image.getexif().get(_ORIENTATION, 1)
    return found if found in range(1, 9) else 1


def forbid_mapping(image: Any) -> None:
    """Have Pillow decode an opened file, where it would map it with width and height exchanged: an
    uncompressed TIFF that is turned by a quarter."""
    if image.format == "TIFF" and orientation_of(image) in QUARTER_TURNS:
        # only a file whose name Pillow knows is mapped
        image.filename = ""


def check_opened(image: Image.Image, name: str) -> None:
    """InputError for several pages or frames, and for white that is stored as 0 in more than 8
    bits, which Pillow does not turn. Smaller copies of the first page do not count."""
    if image.mode in WIDE_MODES and _photometric(image) == WHITE_IS_ZERO:
        raise InputError(white_is_zero(name))
    count = _page_count(image)
    if count > 1:
        raise InputError(
            f"{name} holds {count} pages or frames, and which of them is meant is not known; "
            "save each as a picture of its own."
        )


def white_is_zero(name: str) -> str:
    """The sentence on a file that stores white as 0."""
    return (
        f"{name} stores white as 0 (a TIFF of PhotometricInterpretation 0), so it would be read "
        "inverted; save it with black as 0."
    )


def _photometric(image: Image.Image) -> int | None:
    tags = getattr(image, "tag_v2", None) or {}
    return tags.get(_PHOTOMETRIC)


def _page_count(image: Image.Image) -> int:
    count: int = getattr(image, "n_frames", 1)
    # cameras store previews of a photograph behind it
    if count == 1 or image.format == "MPO":
        return 1
    if image.format != "TIFF":
        return count
    here = image.tell()
    try:
        full = [page for page in range(count) if _is_full_page(image, page)]
        # the first page is the one that is read
        return len(full) if full[:1] == [0] else count
    finally:
        image.seek(here)


def _is_full_page(image: Any, page: int) -> bool:
    image.seek(page)
    return not int(image.tag_v2.get(_SUBFILE_TYPE, 0)) & 5


def check_colours(image: Image.Image, name: str) -> None:
    """InputError where the look of a picture is not known: more than 8 bits, transparent pixels."""
    if is_wide(image):
        raise InputError(
            f"{name} has values of more than 8 bits, of unknown black and white; "
            "scale it to 8 bits."
        )
    if image.mode not in _CLEAR_MODES:
        raise InputError(
            f"{name} has the mode {image.mode}, whose colours are not clear; convert it to RGB or L."
        )
    check_transparency(image, name)


def check_transparency(image: Image.Image, name: str) -> None:
    """InputError for transparent pixels."""
    transparent = "A" in image.getbands() or "transparency" in image.info
    if transparent and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
        raise InputError(
            f"{name} has transparent pixels, whose colour means nothing; "
            "flatten it onto a background."
        )


def is_wide(image: Image.Image) -> bool:
    """Tell whether a picture holds more than 8 bits a channel, also where Pillow would cut them
    off."""
    return image.mode in WIDE_MODES or any(_is_wide_tile(tile) for tile in _tiles(image))


def _tiles(image: Any) -> list[Any]:
    """The bytes that are still to be decoded; nothing of a picture that was made or loaded
    before."""
    return list(getattr(image, "tile", []))


def _is_wide_tile(tile: Any) -> bool:
    codec, arguments = tile[0], tile[3]
    parts = arguments if isinstance(arguments, tuple) else (arguments,)
    if codec in ("ppm", "ppm_plain"):
        return any(isinstance(part, int) and part > 255 for part in parts)
    # "BGR;16" has 16 bits a pixel, 5 or 6 a channel
    mode = str(parts[0])
    return ";16" in mode and not mode.startswith("BGR")


def colour_spread(pixels: np.ndarray) -> np.ndarray:
    """(H, W): how far the channels of each pixel (H, W, C) are apart.

    Channel by channel, for a reduction over so short an axis takes numpy twenty times as long.
    """
    high, low = pixels[..., 0].copy(), pixels[..., 0].copy()
    for channel in range(1, pixels.shape[2]):
        np.maximum(high, pixels[..., channel], out=high)
        np.minimum(low, pixels[..., channel], out=low)
    return high - low


def is_coloured(pixels: np.ndarray) -> bool:
    """Tell whether a picture (H, W, 3) uint8 is in colour, and not grey under another name."""
    return bool((colour_spread(pixels) > _COLOURED).mean() > _COLOURED_SHARE)


def check_unmasked(picture: Any) -> None:
    """InputError for an array some of whose values are masked."""
    if np.ma.is_masked(picture):
        raise InputError("the picture is an array with masked values; fill them (array.filled).")


def _image_of(picture: Any) -> Image.Image:
    if hasattr(picture, "detach"):
        array = picture.detach().cpu().numpy()
        array = np.moveaxis(array, 0, 2) if array.ndim == 3 else array
    elif isinstance(picture, np.ndarray):
        check_unmasked(picture)
        array = picture
    else:
        raise InputError(
            f"{type(picture).__name__} is no picture; give a path, a PIL image, an array or a tensor."
        )
    grey = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    coloured = array.ndim == 3 and array.shape[2] in (3, 4)
    if array.dtype != np.uint8 or not (grey or coloured) or 0 in array.shape:
        raise InputError(
            f"an array of shape {picture.shape} and type {picture.dtype} is no picture; give "
            "(H, W) grey values or (H, W, 3) RGB as uint8, or a tensor (3, H, W)."
        )
    return Image.fromarray(np.ascontiguousarray(array.reshape(array.shape[:2]) if grey else array))
