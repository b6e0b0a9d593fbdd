"""Mask files: which pixels belong to a class is told by what the file holds, not by shares of it.

* A lossless mask holds two values, 0 (black) and another, which is the class.
* A lossy mask (JPEG, lossy WebP) is black and white but for the noise of the compression, which
  stands near edges alone.
* With a ``threshold`` the class is what is brighter: for masks with grey outlines.
* Anything else is refused, with the values found and the option that says what they mean.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from lightning_seg.data.reading.conversion import (
    WIDE_MODES,
    check_colours,
    check_opened,
    colour_spread,
    forbid_mapping,
    picture_array,
    upright_image,
)
from lightning_seg.data.reading.pictures import decoded
from lightning_seg.errors import InputError
from lightning_seg.tables import count_text

COLOUR = 1 << 24  # marks a packed colour, 0x1rrggbb, so that black is not the label 0
USUAL_THRESHOLD = 127
_TOLERANCE = 40  # between the channels of a grey picture
_WHITES = (255, 65535, 0xFFFFFF)  # of 8 and 16 bits, and as a packed colour
_BLACK, _WHITE = 50, 205  # compressed black and white, near an edge
_FLAT = 8  # and far from all edges
_EDGE, _FAR = 4, 12  # pixels over which an edge blurs, and to which its noise reaches
_PEAK, _DUST = 180, 6  # a spot that is nowhere so bright is no class, if it has more pixels
_SHOWN = 6  # values that a sentence lists
_CURES = {
    "grey value": (
        "`labels` names those of the class, `classes` and `labels` those of several, "
        "`labels: nonzero` takes all but 0, as of numbered instances, and `mask_threshold: 127` "
        "what is brighter, where outlines are grey"
    ),
    "colour": (
        "`labels: ['#ff0000']` names those of the class, `classes` and `labels` those of several, "
        "and `labels: nonzero` takes all but black"
    ),
}


class MarkedMask(NamedTuple):
    """A mask of one class, and how its file marks the class.

    Attributes:
        mask: (H, W) uint8 in {0, 1}.
        mark: ``white``, or the number or colour of the class; empty where there is none of it, or
            a threshold told it.
    """

    mask: np.ndarray
    mark: str


def read_mask(path: Path, threshold: int | None = None) -> np.ndarray:
    """The mask as (H, W) uint8 in {0, 1}; InputError for a picture that is no mask of one class.

    Args:
        threshold: the class is where the grey value is larger; None: as the file's values say.
    """
    return read_marked_mask(path, threshold).mask


def read_marked_mask(path: Path, threshold: int | None = None) -> MarkedMask:
    """Read as `read_mask` does, with the value that marks the class."""
    if threshold is None:
        return decoded(path, _told_by_values)
    mask = decoded(path, lambda picture, name: _told_by_threshold(picture, name, threshold))
    return MarkedMask(mask, "")


def read_labels(path: Path) -> np.ndarray:
    """The numbers in a label picture, (H, W) int64: values as stored, or indices of a palette."""
    return decoded(path, _label_numbers)


def read_colours(path: Path) -> np.ndarray:
    """The colours of a label picture, (H, W) int64, packed as ``0x1rrggbb``."""
    return decoded(path, _packed_colours)


def read_palette(path: Path) -> dict[int, str]:
    """Number -> colour of a picture with a palette; empty for others."""
    return decoded(path, lambda picture, name: _palette_colours(picture))


def read_nonzero(path: Path) -> np.ndarray:
    """(H, W) uint8: 1 on every instance, whatever its number or colour; 0 where it is 0 or
    black."""
    return decoded(path, _nonzero)


def is_lossy(picture: Image.Image) -> bool:
    """Tell whether compression may have changed the values of an opened picture."""
    if picture.format == "WEBP":
        return not _is_lossless_webp(picture)
    compression = picture.info.get("compression")
    return picture.format in ("JPEG", "MPO") or compression in ("jpeg", "tiff_jpeg", "webp")


def _is_lossless_webp(picture: Image.Image) -> bool:
    file = getattr(picture, "fp", None)
    if file is None:
        return False
    here = file.tell()
    file.seek(12)
    head = file.read(4096)
    file.seek(here)
    return b"VP8L" in head


def check_threshold(mask_threshold: int | None) -> None:
    """InputError unless a pixel of 8 bits can lie on either side of the threshold."""
    if mask_threshold is not None and not 0 <= mask_threshold <= 254:
        raise InputError(f"mask_threshold is {mask_threshold}; give a grey value from 0 to 254.")


def _told_by_values(picture: Image.Image, path: Path) -> MarkedMask:
    if is_lossy(picture):
        bright = _black_and_white(picture, path)
        return MarkedMask(bright, "white" if bright.any() else "")
    values = _stored_values(picture, path)
    found, coloured = distinct_values(values), values.dtype == np.int64
    full = found == [1] or (found[0] in _WHITES and len(found) == 1)
    if not full and (found[0] != 0 or len(found) > 2):
        raise InputError(_strange_values(path, found, coloured))
    mark = _value_name(found[-1], coloured) if found[-1] else ""
    return MarkedMask((values != 0).astype(np.uint8), "white" if found[-1] in _WHITES else mark)


def _value_name(value: float, coloured: bool) -> str:
    return f"#{int(value):06x}" if coloured else f"{value:g}"


def distinct_values(values: np.ndarray) -> Sequence[float]:
    """The different values of an array, sorted."""
    if values.dtype == np.uint8:
        return np.flatnonzero(value_counts(values)).tolist()
    return np.unique(values).tolist()


def value_counts(values: np.ndarray) -> np.ndarray:
    """(256,) int64: the pixels of each value of an array (H, W) of uint8."""
    return np.array(Image.fromarray(values).histogram(), np.int64)


def _strange_values(
    path: Path,
    found: Sequence[float],
    coloured: bool,
) -> str:
    kind = "colour" if coloured else "grey value"
    names = [_value_name(value, coloured) for value in found]
    few = len(names) <= _SHOWN
    listing = ", ".join(names) if few else f"{', '.join(names[:3])}, ... {names[-1]}"
    exchanged = "" if few else "see that the folders of images and masks are not exchanged, or "
    return (
        f"{path} is no mask of one class: it holds {count_text(len(names), kind)} ({listing}) instead of "
        f"0 and one other; {exchanged}say in dataset_options what they mean: {_CURES[kind]}."
    )


def _stored_values(picture: Image.Image, path: Path) -> np.ndarray:
    """(H, W), 0 where the picture is black: numbers of grey pictures, else colours ``0xrrggbb``."""
    check_opened(picture, str(path))
    forbid_mapping(picture)
    if picture.mode in WIDE_MODES:
        values = np.array(upright_image(picture))
        if not _is_finite(values):
            raise InputError(f"{path} holds NaN or infinity; write the mask again.")
        return values
    if picture.mode == "1":
        check_colours(picture, str(path))
        return np.array(upright_image(picture).convert("L"))
    if picture.mode == "P":
        _refuse_hidden_numbers(picture, path)
    rgb = picture_array(picture, 3, str(path))
    if not colour_spread(rgb).any():
        return rgb[..., 0]
    red, green, blue = np.moveaxis(rgb.astype(np.int64), 2, 0)
    packed: np.ndarray = red << 16 | green << 8 | blue
    return packed


def _refuse_hidden_numbers(picture: Image.Image, path: Path) -> None:
    """InputError where a palette shows two numbers in one colour: a class or instance is not
    seen."""
    numbers = np.unique(np.array(picture)).tolist()
    palette = np.array(picture.convert("RGB")).reshape(-1, 3)
    colours = np.unique(palette, axis=0)
    if len(colours) < len(numbers):
        raise InputError(
            f"{path} holds {count_text(len(numbers), 'number')}, which its palette shows in "
            f"{count_text(len(colours), 'colour')}; give `labels` (they read the numbers), or store the mask without a palette."
        )


def _palette_colours(picture: Image.Image) -> dict[int, str]:
    if picture.mode != "P":
        return {}
    parts = picture.getpalette("RGB") or []
    triples = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    return {number: "#{:02x}{:02x}{:02x}".format(*rgb) for number, rgb in enumerate(triples)}


def _black_and_white(picture: Image.Image, path: Path) -> np.ndarray:
    """The mask of a lossy picture; InputError where it has more than the two modes black and
    white."""
    grey = _uncoloured(picture, path)
    bright = grey > USUAL_THRESHOLD
    reason = _third_mode(grey, bright)
    if reason:
        raise InputError(
            f"{path} is no mask: a lossy picture has to be black and white, and {reason}; store "
            "masks without loss (PNG), see that the folders of images and masks are not exchanged, "
            "or give mask_threshold."
        )
    return bright.astype(np.uint8)


def _third_mode(grey: np.ndarray, bright: np.ndarray) -> str:
    """The grey values of a picture besides black, white and the noise near their edges; '' if
    nothing."""
    if not bright.any():
        return "" if grey.max() == 0 else f"this one is nowhere brighter than {grey.max()}"
    place = _where_not_black(grey)
    grey, bright = grey[place], bright[place]
    greys = (grey > _BLACK) & (grey < _WHITE)
    astray = greys & _beyond(grey, bright, _EDGE)
    faint = (grey > _FLAT) & (grey < 255 - _FLAT) & _beyond(grey, bright, _FAR)
    spots = _dim_spots(grey)
    if not (astray.any() or faint.any() or spots.any()):
        return ""
    values = grey[spots if spots.any() else astray if astray.any() else faint]
    return f"this one has areas of grey (about {int(np.median(values))})"


def _where_not_black(grey: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of all that is not black, with as much around as `_third_mode` looks at."""
    seen = (grey > _FLAT).astype(np.uint8)
    left, top, width, height = cv2.boundingRect(seen)
    rows = slice(max(0, top - _FAR), top + height + _FAR)
    return rows, slice(max(0, left - _FAR), left + width + _FAR)


def _beyond(
    grey: np.ndarray,
    bright: np.ndarray,
    reach: int,
) -> np.ndarray:
    """Pixels that lie further than ``reach`` from the other side, bright from dark."""
    square = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    near_bright = cv2.dilate(bright.astype(np.uint8), square) > 0
    near_dark = cv2.dilate((~bright).astype(np.uint8), square) > 0
    return ~(near_bright & near_dark)


def _dim_spots(grey: np.ndarray) -> np.ndarray:
    """Connected pixels brighter than black that are nowhere white."""
    _, spots, facts, _ = cv2.connectedComponentsWithStats((grey > _BLACK).astype(np.uint8))
    bright = np.bincount(spots[grey >= _PEAK], minlength=len(facts)) > 0
    dim = ~bright & (facts[:, cv2.CC_STAT_AREA] > _DUST)
    dim[0] = False  # the background
    return dim[spots]


def _uncoloured(picture: Image.Image, path: Path) -> np.ndarray:
    rgb = picture_array(picture, 3, str(path))
    coloured = colour_spread(rgb) > _TOLERANCE
    if coloured.any():
        share = coloured.mean()
        raise InputError(
            f"{path} is no mask: {share:.2%} of its pixels are coloured; give black-and-white "
            "masks, and see that the folders of images and masks are not exchanged (masks of "
            "coloured classes: `labels` of the data set `folder`, of PNG files)."
        )
    return picture_array(picture, 1, str(path))[..., 0]


def _told_by_threshold(
    picture: Image.Image,
    path: Path,
    threshold: int,
) -> np.ndarray:
    """The mask ``grey > threshold``; the values of 16 bits are brought to the scale that ends at
    255."""
    lossy, wide = is_lossy(picture), picture.mode in WIDE_MODES
    grey = _scaled_to_8_bits(picture, path) if wide else _uncoloured(picture, path)
    low, high = int(grey.min()), int(np.ceil(grey.max()))
    middle = float(((grey > _BLACK) & (grey < _WHITE)).mean())
    if middle > 0.1:
        raise InputError(
            f"{path} is no mask: {middle:.0%} of its pixels are grey (values {low} to {high}); "
            "give black-and-white masks, and see that the folders of images and masks are not "
            "exchanged."
        )
    # noise of a lossy empty mask: up to 50, as above
    if high <= threshold and (high == 1 or (not lossy and 0 < high <= _BLACK)):
        values = "the values 0 and 1" if high == 1 else f"values up to {high}"
        raise InputError(
            f"{path} holds {values}, none above the threshold {threshold}; set it to 0."
        )
    return (grey > threshold).astype(np.uint8)


def _scaled_to_8_bits(picture: Image.Image, path: Path) -> np.ndarray:
    values = _stored_values(picture, path)
    if 255 < values.max() < _WHITE * 257 or values.min() < 0:
        raise InputError(
            f"{path} is no mask: its 16-bit values end at {values.max():g}; "
            "give black-and-white masks."
        )
    return values // 257 if values.max() > 255 else values


def _label_numbers(picture: Image.Image, path: Path) -> np.ndarray:
    _refuse_lossy(picture, path)
    check_opened(picture, str(path))
    forbid_mapping(picture)
    if picture.mode == "RGB" and not colour_spread(np.array(picture)).any():
        picture = picture.getchannel(0)  # numbers that were stored three times
    if picture.mode not in ("1", "L", "P", *WIDE_MODES):
        raise InputError(
            f"{path} is a picture of colours ({picture.mode}), not of label numbers; "
            "name labels by colour."
        )
    values = np.array(upright_image(picture))
    whole = values.astype(np.int64) if _is_finite(values) else None
    if whole is None or (whole != values).any():
        raise InputError(
            f"{path} holds fractions, NaN or infinity ({values.min():g} to {values.max():g}), which "
            "are no label numbers; store whole numbers."
        )
    return whole


def _is_finite(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).all())


def _nonzero(picture: Image.Image, path: Path) -> np.ndarray:
    _refuse_lossy(picture, path)
    zero = _palette_colours(picture).get(0, "#000000")
    if zero != "#000000" and not np.array(picture).all():
        raise InputError(
            f"{path} has a palette that shows the number 0 as {zero}, so whether 0 or black is the "
            "background is not known; name the colours of the class in labels, or store the mask "
            "without a palette."
        )
    return (_stored_values(picture, path) != 0).astype(np.uint8)


def _packed_colours(picture: Image.Image, path: Path) -> np.ndarray:
    _refuse_lossy(picture, path)
    red, green, blue = np.moveaxis(picture_array(picture, 3, str(path)).astype(np.int64), 2, 0)
    packed: np.ndarray = COLOUR | red << 16 | green << 8 | blue
    return packed


def _refuse_lossy(picture: Image.Image, path: Path) -> None:
    if is_lossy(picture):
        raise InputError(
            f"{path} holds labels, which lossy compression ({picture.format}) changes; "
            "store masks without loss (PNG)."
        )
